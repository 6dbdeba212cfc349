/* Palettizing by any method: which of them does the work. */
#include <stdlib.h>
#include <string.h>

#include "method/feed.h"
#include "method/layerwise/method.h"
#include "method/method_options.h"
#include "method/options.h"

pal_status pal_method_data_open(const char *path, const pal_data_options *data_options,
                                const pal_method_options *method, pal_data **out)
{
    const method_settings *settings = &method->settings;
    const bool holds_back = settings->samples && settings->method != METHOD_SENSITIVE;
    return data_open_sampled(path, data_options,
                             settings->samples + (holds_back ? settings->held_back : 0),
                             settings->seed, out);
}

/* Whether statistics follow what samples show. */
static bool corrects(const method_settings *method, const pal_data *data)
{
    return method->correct == CORRECT_AUTO ? data != NULL : method->correct != CORRECT_OFF;
}

static pal_status compress_sensitive(pal_model *model, const pal_options *options,
                                     const method_settings *method, const pal_data *data,
                                     pal_progress progress, void *user, pal_report **report)
{
    pal_sensitivity *sensitivity = NULL;
    const pal_sensitivity_options settings = {.batch = (size_t)method->batch,
                                              .threads = options_threads(options),
                                              .seed = method->seed,
                                              .output = *method->output ? method->output : NULL};
    const bool loads = *method->load_sensitivity != 0;
    if (!data && !loads)
        return fail(PAL_ERROR_ARGUMENT, "method sensitive needs data or load_sensitivity");
    if (data && loads)
        return fail(PAL_ERROR_ARGUMENT, "sensitivities are either measured or loaded");
    pal_status status = loads ? pal_sensitivity_load(method->load_sensitivity, model, &sensitivity)
                              : pal_sensitivity_measure(model, data, options, &settings, progress,
                                                        user, &sensitivity);
    if (!status && *method->save_sensitivity)
        status = pal_sensitivity_save(sensitivity, method->save_sensitivity);
    if (!status && corrects(method, data))
        status =
            layerwise_compress(model, options, method, sensitivity, data, progress, user, report);
    else if (!status)
        status = pal_compress_sensitive(model, options, sensitivity, progress, user, report);
    pal_sensitivity_free(sensitivity);
    return status;
}

pal_status pal_compress_method(pal_model *model, const pal_options *options,
                               const pal_method_options *method, const pal_data *data,
                               pal_progress progress, void *user, pal_report **report)
{
    pal_status status = pal_options_check(options);
    if (status)
        return status;
    if (!method)
        return pal_compress(model, options, progress, user, report);
    const method_settings *settings = &method->settings;
    if (!data && (settings->method == METHOD_LAYERWISE || corrects(settings, data)))
        return fail(PAL_ERROR_ARGUMENT, "%s needs data",
                    settings->method == METHOD_LAYERWISE ? "method layerwise" : "correct");
    switch (settings->method) {
    case METHOD_KMEANS:
        if (!corrects(settings, data))
            break;
        return layerwise_compress(model, options, settings, NULL, data, progress, user, report);
    case METHOD_SENSITIVE:
        return compress_sensitive(model, options, settings, data, progress, user, report);
    case METHOD_LAYERWISE:
        return layerwise_compress(model, options, settings, NULL, data, progress, user, report);
    }
    return pal_compress(model, options, progress, user, report);
}
