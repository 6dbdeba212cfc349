#include "method/sensitive.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "method/choose.h"
#include "method/feed.h"
#include "method/layerwise/method.h"
#include "method/options.h"

/* How far sensitivities are drawn towards their mean, for candidates to be chosen among: from
 * k-means (1) to what was measured (0). */
static const double shrinkages[] = {1, 0.9, 0.7, 0.3, 0};
enum { CANDIDATES = sizeof shrinkages / sizeof *shrinkages };

typedef struct work {
    pal_model *model;
    const pal_options *options;
    const pal_method_options *method;
    const pal_data *data;
    pal_progress progress;
    void *user;
    pal_sensitivity *sensitivity;
} work;

/* What the file cannot express, and a file that cannot be written, is refused before anything is
 * measured. */
static pal_status check(const work *w)
{
    const method_settings *settings = &w->method->settings;
    compression c = {.model = w->model, .options = w->options, .outliers = settings->outliers};
    pal_status status = compression_begin(&c);
    if (status)
        return status;
    if (w->data && method_corrects(settings, w->data))
        status = layerwise_check(&c, settings);
    compression_abandon(&c);
    return status || !*settings->save_sensitivity ? status
                                                  : stage_check_file(settings->save_sensitivity);
}

static pal_status find_sensitivity(work *w)
{
    const method_settings *method = &w->method->settings;
    const bool loads = *method->load_sensitivity != 0;
    const pal_sensitivity_options settings = {.batch = (size_t)method->batch,
                                              .threads = options_threads(w->options),
                                              .seed = method->seed,
                                              .output = *method->output ? method->output : NULL};
    if (!w->data && !loads)
        return fail(PAL_ERROR_ARGUMENT, "method sensitive needs data or load_sensitivity");
    pal_status status =
        loads ? pal_sensitivity_load(method->load_sensitivity, w->model, &w->sensitivity)
              : pal_sensitivity_measure(w->model, w->data, w->options, &settings, w->progress,
                                        w->user, &w->sensitivity);
    if (!status && *method->save_sensitivity)
        status = pal_sensitivity_save(w->sensitivity, method->save_sensitivity);
    return status;
}

/* Where they are drawn all the way, clusters are those of all values counting the same: which
 * sensitivities are not known is still worth telling. */
static void remark_unknown(const work *w, compression *c)
{
    for (size_t i = 0; i < w->model->weight_count; i++) {
        target *t = &c->targets[i];
        if (t->wanted && t->source == i && t->settings.mode == MODE_KMEANS && !*t->remark &&
            !sensitivity_of(w->sensitivity, &w->model->weights[i].info))
            target_remark_unknown(t);
    }
}

/* Palettes by sensitivities that are drawn towards their mean. */
static pal_status cluster(const work *w, double shrinkage, compression *c)
{
    pal_sensitivity *shrunk = NULL;
    pal_status status =
        shrinkage < 1 ? sensitivity_shrink(w->sensitivity, shrinkage, &shrunk) : PAL_OK;
    *c = (compression){.model = w->model,
                       .options = w->options,
                       .sensitivity = shrunk,
                       .outliers = w->method->settings.outliers,
                       .progress = w->progress,
                       .user = w->user};
    if (!status)
        status = compression_begin(c);
    if (!status) {
        status = compression_cluster(c);
        if (!status)
            remark_unknown(w, c);
        else
            compression_abandon(c);
    }
    pal_sensitivity_free(shrunk);
    c->sensitivity = NULL;
    return status;
}

/* Statistics follow, where they are to, and the result goes to the model. Frees c. */
static pal_status finish(const work *w, compression *c, pal_report **report)
{
    const method_settings *settings = &w->method->settings;
    if (w->data && method_corrects(settings, w->data))
        return layerwise_finish(c, settings, w->data, report);
    return compression_end(c, report);
}

static pal_status cluster_all(const work *w, compression *candidates, pal_report **report)
{
    const method_settings *method = &w->method->settings;
    const choose_options options = {.data = w->data,
                                    .output = *method->output ? method->output : NULL,
                                    .batch = (size_t)method->batch,
                                    .threads = options_threads(w->options),
                                    .sweeps = method->sweeps,
                                    .statistics = method_corrects(method, w->data) &&
                                                  !pal_method_options_given(w->method, "sweeps"),
                                    .enough = method->enough,
                                    .progress = w->progress,
                                    .user = w->user};
    size_t made = 0;
    pal_status status = PAL_OK;
    while (!status && made < CANDIDATES) {
        status = cluster(w, shrinkages[made], &candidates[made]);
        made += !status;
    }
    if (!status)
        status = choose_palettes(candidates, made, &options);
    if (!status) {
        status = finish(w, &candidates[0], report);
        candidates[0] = candidates[--made];
    }
    while (made)
        compression_abandon(&candidates[--made]);
    return status;
}

static pal_status cluster_once(const work *w, double shrinkage, pal_report **report)
{
    compression c;
    pal_status status = cluster(w, shrinkage, &c);
    return status ? status : finish(w, &c, report);
}

pal_status compress_sensitive(pal_model *model, const pal_options *options,
                              const pal_method_options *method, const pal_data *data,
                              pal_progress progress, void *user, pal_report **report)
{
    compression candidates[CANDIDATES];
    work w = {.model = model,
              .options = options,
              .method = method,
              .data = data,
              .progress = progress,
              .user = user};
    const bool given = pal_method_options_given(method, "shrinkage");
    pal_status status = check(&w);
    if (!status)
        status = find_sensitivity(&w);
    if (!status)
        status =
            data && !given
                ? cluster_all(&w, candidates, report)
                : cluster_once(&w, given ? method->settings.shrinkage : DEFAULT_SHRINKAGE, report);
    pal_sensitivity_free(w.sensitivity);
    return status;
}
