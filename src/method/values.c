/* What the values of a weight and the entries of its tables look like, for pictures. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cluster/grid.h"
#include "format/format.h"

enum {
    RUN = 256,   /* values that are looked at together: they share a page */
    RUNS = 1024, /* at most */
};

/* ---------------------------------------------------------------- histograms */

typedef struct stored {
    grid grid;
    const void *values;
    uint64_t count;
} stored;

typedef void (*value_visit)(void *user, double value);

/* Visits the finite ones: all, or evenly spread runs of them. */
static void walk(const stored *s, value_visit visit, void *user)
{
    const uint64_t runs = s->count / RUN + 1;
    const uint64_t taken = runs < RUNS ? runs : RUNS;
    for (uint64_t r = 0; r < taken; r++) {
        const uint64_t first = runs * r / taken * RUN;
        for (uint64_t e = first; e < first + RUN && e < s->count; e++) {
            const double value = (double)grid_get(s->grid, s->values, e);
            if (isfinite(value))
                visit(user, value);
        }
    }
}

typedef struct spread {
    double count, sum, squares; /* of differences from the first value */
    double first, least, greatest;
} spread;

static void add_to_spread(void *user, double value)
{
    spread *s = user;
    if (s->count == 0)
        s->first = s->least = s->greatest = value;
    s->count++;
    s->sum += value - s->first;
    s->squares += (value - s->first) * (value - s->first);
    s->least = fmin(s->least, value);
    s->greatest = fmax(s->greatest, value);
}

static void add_to_histogram(void *user, double value)
{
    pal_histogram *h = user;
    const double place = (value - h->low) / (h->high - h->low) * PAL_HISTOGRAM_BINS;
    if (value < h->low)
        h->below++;
    else if (value > h->high)
        h->above++;
    else /* not a number where there is one value alone */
        h->counts[place < PAL_HISTOGRAM_BINS ? (size_t)place : PAL_HISTOGRAM_BINS - 1]++;
}

pal_status pal_model_histogram(const pal_model *model, size_t i, pal_histogram *out)
{
    if (!model || i >= model->weight_count)
        return fail(PAL_ERROR_ARGUMENT, "pal_model_histogram: no such weight");
    const model_weight *weight = &model->weights[i];
    const bool pruned = weight->pruned.mask != NULL;
    stored s = {.values = pruned ? weight->pruned.values : weight->dense,
                .count = pruned ? weight->pruned.count : weight->info.elements};
    if (!s.values || !grid_of_weights(weight->info.dtype, &s.grid))
        return fail(PAL_ERROR_UNSUPPORTED, "%s: %s: its values are not stored as floats",
                    model->path, weight->info.name);
    spread spread = {0};
    walk(&s, add_to_spread, &spread);
    if (spread.count == 0)
        return fail(PAL_ERROR_VALUE, "%s: %s: no value is finite", model->path, weight->info.name);
    const double mean = spread.sum / spread.count;
    const double deviation = sqrt(fmax(0, spread.squares / spread.count - mean * mean));
    *out = (pal_histogram){.low = fmax(spread.least, spread.first + mean - 5 * deviation),
                           .high = fmin(spread.greatest, spread.first + mean + 5 * deviation)};
    walk(&s, add_to_histogram, out);
    model->format->release(model, i);
    return PAL_OK;
}

/* ---------------------------------------------------------------- tables */

static pal_status table_values(const palette *p, float **values, size_t *count)
{
    grid grid;
    const uint64_t entries = palette_lut_elements(p);
    if (!grid_of_weights(p->dtype, &grid))
        return fail(PAL_ERROR_UNSUPPORTED, "look-up tables of %s", pal_dtype_name(p->dtype));
    void *stored = mem_array(entries, grid_size(grid));
    float *list = mem_array(entries, sizeof *list);
    pal_status status =
        stored && list ? palette_lut_values(p, stored) : fail_memory("reading look-up tables");
    for (uint64_t e = 0; !status && e < entries; e++)
        list[e] = grid_get(grid, stored, e);
    free(stored);
    if (status) {
        free(list);
        return status;
    }
    *values = list;
    *count = entries;
    return PAL_OK;
}

pal_status pal_model_luts(const pal_model *model, size_t i, float **values, size_t *count,
                          bool *scaled)
{
    if (!model || i >= model->weight_count)
        return fail(PAL_ERROR_ARGUMENT, "pal_model_luts: no such weight");
    const pal_weight *info = &model->weights[i].info;
    palette *palette = NULL;
    if (info->storage != PAL_STORAGE_PALETTIZED && info->storage != PAL_STORAGE_PALETTIZED_SPARSE)
        return fail(PAL_ERROR_UNSUPPORTED, "%s: %s: it is not palettized", model->path, info->name);
    pal_status status = model->format->read_palette(model, i, &palette);
    if (!status)
        status = table_values(palette, values, count);
    if (!status)
        *scaled = palette->scale != NULL;
    palette_free(palette);
    return status ? fail_context(status, "%s: %s", model->path, info->name) : PAL_OK;
}
