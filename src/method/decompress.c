/* Back to dense values. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "format/format.h"
#include "method/report.h"

/* What was read for one weight, so that weights that share a palette share the dense values too. */
typedef struct decoded {
    palette palette; /* a copy, to compare with; what it owned is gone */
    void *dense;
} decoded;

typedef struct decompression {
    pal_model *model;
    pal_report *report;
    replacement *list;
    decoded *decoded; /* one for each in list */
    size_t count;
} decompression;

/* Whether two palettes are the same in every field, and all their data lie in the file. */
static bool same_palette(const palette *a, const palette *b)
{
    for (size_t i = 0; i < sizeof a->owned / sizeof *a->owned; i++)
        if (a->owned[i] || b->owned[i])
            return false;
    return memcmp(a, b, sizeof *a) == 0;
}

static pal_status decode(decompression *d, size_t i, const palette *palette)
{
    decoded *mine = &d->decoded[d->count];
    memcpy(&mine->palette, palette, sizeof *palette); /* with its padding */
    mine->dense = NULL;
    for (size_t j = 0; j < d->count && !mine->dense; j++)
        if (same_palette(&d->decoded[j].palette, palette))
            mine->dense = d->decoded[j].dense;
    pal_status status = PAL_OK;
    if (!mine->dense) {
        const pal_weight *info = &d->model->weights[i].info;
        mine->dense = scratch_zeroed(info->elements, pal_dtype_bits(info->dtype) / 8);
        status = mine->dense ? palette_decode(palette, mine->dense) : fail_memory("decompressing");
        scratch_release(mine->dense);
        d->model->format->release(d->model, i);
    }
    d->list[d->count++] = (replacement){i, NULL, mine->dense};
    return status;
}

static pal_status decompress_weight(decompression *d, size_t i)
{
    const pal_storage storage = d->model->weights[i].info.storage;
    if (storage != PAL_STORAGE_PALETTIZED && storage != PAL_STORAGE_PALETTIZED_SPARSE)
        return report_set_reason(d->report, i, "it is not palettized");
    palette *palette = NULL;
    pal_status status = d->model->format->read_palette(d->model, i, &palette);
    if (status == PAL_ERROR_UNSUPPORTED)
        return report_set_reason(d->report, i, pal_error_message());
    if (status)
        return status;
    status = decode(d, i, palette);
    palette_free(palette);
    d->report->entries[i].status = PAL_WEIGHT_DECOMPRESSED;
    return status;
}

static void free_decoded(decompression *d)
{
    for (size_t i = 0; i < d->count; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = d->decoded[j].dense == d->decoded[i].dense;
        if (!seen)
            scratch_free(d->decoded[i].dense);
    }
}

pal_status pal_decompress(pal_model *model, pal_progress progress, void *user, pal_report **out)
{
    if (!model)
        return fail(PAL_ERROR_ARGUMENT, "pal_decompress: no model");
    decompression d = {.model = model};
    uint64_t total = 0, done = 0;
    pal_status status = report_new(model, &d.report);
    if (status)
        return status;
    d.list = mem_zeroed(model->weight_count, sizeof *d.list);
    d.decoded = mem_zeroed(model->weight_count, sizeof *d.decoded);
    if (!d.list || !d.decoded)
        status = fail_memory("decompressing");
    for (size_t i = 0; i < model->weight_count; i++)
        total += model->weights[i].info.elements;
    for (size_t i = 0; !status && i < model->weight_count; i++) {
        const pal_weight *info = &model->weights[i].info;
        status = decompress_weight(&d, i);
        done += info->elements;
        if (!status && progress && !progress(user, done, total, info->name))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    }
    if (!status)
        status = model->format->replace(model, d.list, d.count);
    if (status)
        free_decoded(&d);
    else
        report_update(d.report, model);
    free(d.list);
    free(d.decoded);
    if (status || !out)
        pal_report_free(d.report);
    else
        *out = d.report;
    return status;
}
