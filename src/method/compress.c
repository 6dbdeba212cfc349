/* Palettizing a model from its weights alone. compression.h tells how the work is cut. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/scratch.h"
#include "method/compression.h"
#include "method/unused.h"

/* ---------------------------------------------------------------- before */

static pal_status find_scales(void *user, int thread, size_t i)
{
    const compression *c = user;
    target *t = &c->targets[i];
    (void)thread;
    if (t->palette && t->palette->scale) {
        scales_find(t);
        c->model->format->release(c->model, i);
    }
    return PAL_OK;
}

/* Palettes with their scales. To count distinct values only scales are needed, for it is the
 * divided values that count. */
static pal_status allocate(compression *c)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < c->model->weight_count; i++) {
        const settings *settings = &c->targets[i].settings;
        if (!c->counting || (settings->mode == MODE_UNIQUE && settings->per_channel_scale))
            status = target_allocate(c, i);
    }
    parallel_job job = {.user = c, .item = find_scales};
    return status ? status : parallel_run(&job, c->model->weight_count, c->thread_count);
}

/* Mode unique: finds the bits of every weight by counting its values. */
static pal_status count_distinct(compression *c)
{
    const size_t count = c->model->weight_count;
    bool unique = false;
    for (size_t i = 0; i < count; i++)
        unique = unique || (c->targets[i].wanted && c->targets[i].settings.mode == MODE_UNIQUE);
    if (!unique)
        return PAL_OK;
    c->counting = true;
    pal_status status = units_make(c);
    if (!status)
        status = allocate(c);
    if (!status)
        status = units_run(c);
    c->counting = false;
    for (size_t i = 0; !status && i < count; i++)
        if (c->targets[i].wanted && c->targets[i].source == i &&
            c->targets[i].settings.mode == MODE_UNIQUE)
            target_choose_bits(c, i);
    return status;
}

static pal_status prepare(compression *c)
{
    const size_t count = c->model->weight_count;
    const int wanted = options_threads(c->options);
    size_t *eligible_of = mem_array(count, sizeof *eligible_of);
    if (!eligible_of)
        return fail_memory("planning");
    c->thread_count = wanted ? wanted : parallel_processors();
    pal_status status = PAL_OK;
    for (size_t i = 0; i < count; i++)
        eligible_of[i] = SIZE_MAX;
    for (size_t i = 0; !status && i < count; i++)
        status = target_init(c, i, eligible_of);
    free(eligible_of);
    if (!status)
        status = count_distinct(c);
    return status ? status : allocate(c);
}

/* ---------------------------------------------------------------- after */

/* The plan's remark is of the weight, the method's of its palette. */
static pal_status set_remarks(pal_report *report, size_t i, const char *plan, const char *method)
{
    char both[sizeof((target *)NULL)->plan.remark + sizeof((target *)NULL)->remark + 2];
    if (!*plan && !*method)
        return PAL_OK;
    snprintf(both, sizeof both, "%s%s%s", plan, *plan && *method ? "; " : "", method);
    return report_set_reason(report, i, both);
}

static pal_status fill_report(const compression *c, pal_report *report)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < report->count; i++) {
        const target *t = &c->targets[i], *source = &c->targets[t->source];
        pal_report_entry *entry = &report->entries[i];
        if (!source->wanted || !t->wanted) {
            status = report_set_reason(report, i, t->wanted ? source->plan.reason : t->plan.reason);
            if (!status && t->dense) {
                entry->status = PAL_WEIGHT_ADJUSTED;
                status = report_set_reason(report, i, t->remark);
            }
            continue;
        }
        entry->status = PAL_WEIGHT_COMPRESSED;
        entry->group_size = t->plan.group_size;
        entry->mse = source->error / (double)entry->weight.elements;
        entry->psnr =
            entry->mse > 0 ? 10 * log10(source->peak * source->peak / entry->mse) : INFINITY;
        status = set_remarks(report, i, t->plan.remark, source->remark);
    }
    return status;
}

/* Hands the palettes over to the model. */
static pal_status apply(compression *c)
{
    const size_t count = c->model->weight_count;
    replacement *list = mem_zeroed(count, sizeof *list);
    size_t n = 0;
    if (!list)
        return fail_memory("replacing weights");
    for (size_t i = 0; i < count; i++)
        if (c->targets[i].wanted && c->targets[c->targets[i].source].wanted)
            list[n++] = (replacement){i, c->targets[c->targets[i].source].palette, NULL};
        else if (c->targets[i].dense)
            list[n++] = (replacement){i, NULL, c->targets[i].dense};
    pal_status status = c->model->format->replace(c->model, list, n);
    for (size_t i = 0; !status && i < count; i++) {
        if (c->targets[i].wanted)
            c->targets[i].palette = NULL;
        else
            c->targets[i].dense = NULL;
    }
    free(list);
    return status;
}

static void compression_free(compression *c)
{
    for (size_t i = 0; c->targets && i < c->model->weight_count; i++) {
        target_free(&c->targets[i]);
        scratch_free(c->targets[i].dense);
    }
    free(c->targets);
    free(c->units);
}

pal_status compression_begin(compression *c)
{
    pal_status status = pal_options_check(c->options);
    if (status)
        return status;
    c->targets = mem_zeroed(c->model->weight_count, sizeof *c->targets);
    status = c->targets ? prepare(c) : fail_memory("planning");
    if (status)
        compression_free(c);
    return status;
}

static void finish_targets(compression *c)
{
    for (size_t i = 0; i < c->model->weight_count; i++)
        if (c->targets[i].wanted && c->targets[i].source == i)
            target_finish(c, i);
}

static pal_status cluster(compression *c)
{
    pal_status status = units_make(c);
    if (!status)
        status = units_run(c);
    for (size_t i = 0; !status && i < c->model->weight_count; i++)
        if (c->targets[i].wanted && c->targets[i].source == i && c->targets[i].outliers)
            status = target_measure(c, i);
    if (!status)
        finish_targets(c);
    return status;
}

/* Outliers are known once there are palettes, and other palettes are best without them. */
static pal_status cluster_without_outliers(compression *c)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < c->model->weight_count; i++) {
        target *t = &c->targets[i];
        if (t->wanted && t->source == i && !t->solved)
            status = outliers_choose(c, i);
    }
    if (!status)
        status = allocate(c);
    return status ? status : cluster(c);
}

pal_status compression_cluster(compression *c)
{
    pal_status status = cluster(c);
    if (!status && c->outliers > 0)
        status = cluster_without_outliers(c);
    for (size_t i = 0; i < c->model->weight_count; i++) {
        scratch_free(c->targets[i].own_importance);
        c->targets[i].own_importance = NULL;
        c->targets[i].importance = NULL;
    }
    c->clustered = !status;
    return status;
}

pal_status compression_end(compression *c, pal_report **out)
{
    pal_report *report = NULL;
    pal_status status = c->clustered ? PAL_OK : compression_cluster(c);
    if (!status)
        finish_targets(c); /* again: palettes may have been replaced */
    if (!status)
        status = report_new(c->model, &report);
    if (!status)
        status = fill_report(c, report);
    if (!status)
        status = unused_note(c->options, c->model, report);
    if (!status && c->note)
        status = c->note(c->note_of, report);
    if (!status)
        status = apply(c);
    if (!status)
        report_update(report, c->model);
    compression_free(c);
    if (status || !out)
        pal_report_free(report);
    else
        *out = report;
    return status;
}

void compression_abandon(compression *c)
{
    compression_free(c);
}

pal_status pal_compress(pal_model *model, const pal_options *options, pal_progress progress,
                        void *user, pal_report **out)
{
    return pal_compress_sensitive(model, options, NULL, progress, user, out);
}

pal_status pal_compress_sensitive(pal_model *model, const pal_options *options,
                                  const pal_sensitivity *sensitivity, pal_progress progress,
                                  void *user, pal_report **out)
{
    if (!model)
        return fail(PAL_ERROR_ARGUMENT, "pal_compress: no model");
    compression c = {.model = model,
                     .options = options,
                     .sensitivity = sensitivity,
                     .progress = progress,
                     .user = user};
    pal_status status = compression_begin(&c);
    return status ? status : compression_end(&c, out);
}
