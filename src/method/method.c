/* Palettizing by any method: which of them does the work. */
#include <stdlib.h>
#include <string.h>

#include "method/feed.h"
#include "method/layerwise/method.h"
#include "method/method_options.h"
#include "method/options.h"
#include "method/sensitive.h"
#include "method/train/trainer.h"

pal_status pal_method_data_open(const char *path, const pal_data_options *data_options,
                                const pal_method_options *method, pal_data **out)
{
    const method_settings *settings = &method->settings;
    uint64_t samples = settings->samples;
    if (settings->method == METHOD_DKM && !pal_method_options_given(method, "samples"))
        samples = 0;
    else if (samples && pal_method_options_uses(method, "held_back"))
        samples += settings->held_back;
    return data_open_sampled(path, data_options, samples, settings->seed, out);
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
    if (!data && (settings->method == METHOD_LAYERWISE || method_corrects(settings, data)))
        return fail(PAL_ERROR_ARGUMENT, "%s needs data",
                    settings->method == METHOD_LAYERWISE ? "method layerwise" : "correct");
    switch (settings->method) {
    case METHOD_KMEANS:
        if (!method_corrects(settings, data))
            break;
        return layerwise_compress(model, options, settings, data, progress, user, report);
    case METHOD_SENSITIVE:
        return compress_sensitive(model, options, method, data, progress, user, report);
    case METHOD_LAYERWISE:
        return layerwise_compress(model, options, settings, data, progress, user, report);
    case METHOD_DKM: return train(model, options, method, data, progress, user, report);
    }
    return pal_compress(model, options, progress, user, report);
}
