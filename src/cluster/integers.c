#include "cluster/integers.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* ---------------------------------------------------------------- single entries */

double integer_value(grid grid, integer_scale scale, int entry)
{
    float product = (float)(entry - scale.offset) * (float)scale.scale;
    return (double)grid_stored(grid, (double)product);
}

int integer_entry(grid integers, grid grid, integer_scale scale, double value)
{
    int entry = (int)grid_round(integers, value / scale.scale + scale.offset);
    while (!isfinite(integer_value(grid, scale, entry)))
        entry += entry > scale.offset ? -1 : 1;
    return entry;
}

void integer_scales(grid integers, grid grid, double low, double high,
                    integer_scale scales[INTEGER_SCALES])
{
    enum { WIDER = 2 }; /* steps above the covering scale */
    const double peak = fmax(fabs(low), fabs(high));
    const double symmetric = peak / 127;
    /* uint8 need not be symmetric, but has 0 among its values. */
    const double least = fmin(low, 0), greatest = fmax(high, 0);
    const double covering =
        integers == GRID_UINT8 ? (greatest - least) / 255 : fmax(-low / 128, high / 127);
    const double smallest = grid == GRID_FLOAT16 ? 0x1p-24 : 0x1p-126;
    for (int i = 0; i < INTEGER_SCALES; i++) {
        double scale = i == 0 ? symmetric : covering * (1 + 0.01 * WIDER - 0.0078 * (i - 1));
        scale = (double)grid_stored(grid, scale);
        if (!(scale >= smallest))
            scale = peak > 0 ? smallest : 1;
        int offset = 0;
        if (integers == GRID_UINT8)
            offset =
                i == 0 ? 127 : (int)grid_round(GRID_UINT8, 127.5 - (least + greatest) / 2 / scale);
        scales[i] = (integer_scale){scale, offset};
    }
}

/* ---------------------------------------------------------------- whole tables */

static void put_entry(const scalar_workspace *w, integer_scale scale, unsigned i, int entry,
                      scalar_lut *lut)
{
    lut->entry[i] = entry;
    lut->centroid[i] = integer_value(w->grid, scale, entry);
}

/* A copy of `from` with its centroids at multiples of the scale. */
static void round_table(const scalar_workspace *w, grid integers, integer_scale scale,
                        const scalar_lut *from, scalar_lut *to)
{
    *to = *from;
    to->scale = scale.scale;
    to->offset = scale.offset;
    for (unsigned i = 0; i < from->size; i++)
        put_entry(w, scale, i, integer_entry(integers, w->grid, scale, from->centroid[i]), to);
}

/* Whether rounding has moved an entry by more than rounding does: the scale is too small for it. */
static bool clips(const scalar_lut *rounded, const scalar_lut *from)
{
    for (unsigned i = 0; i < from->size; i++)
        if (!integer_is_near(rounded->centroid[i], from->centroid[i], rounded->scale))
            return true;
    return false;
}

/* Bins for choosing among whole numbers: neighbours are joined where there are many more than those
 * could tell apart. The error is summed over the true ones afterwards. */
typedef struct coarse_bins {
    bins bins;
    double *units; /* room for its values in units of a scale */
} coarse_bins;

static pal_status coarsen(scalar_workspace *w, coarse_bins *out)
{
    enum { ENOUGH = 32768 };
    const bins *all = &w->bins;
    const size_t each = (all->count + ENOUGH - 1) / ENOUGH;
    const size_t count = (all->count + each - 1) / each;
    if (!mem_grow((void **)&w->coarse, &w->coarse_capacity, 3 * count, sizeof *w->coarse))
        return fail_memory("clustering weights");
    *out = (coarse_bins){.bins = *all, .units = w->coarse + 2 * count};
    if (each == 1)
        return PAL_OK;
    out->bins.count = count;
    out->bins.value = w->coarse;
    out->bins.mass = w->coarse + count;
    for (size_t i = 0; i < count; i++) {
        double mass = 0, sum = 0;
        for (size_t j = i * each; j < all->count && j < (i + 1) * each; j++) {
            mass += all->mass[j];
            sum += all->mass[j] * all->value[j];
        }
        out->bins.mass[i] = mass;
        out->bins.value[i] = sum / mass;
    }
    return PAL_OK;
}

/* The best table with this scale. */
static pal_status cluster_table(scalar_workspace *w, const coarse_bins *coarse, grid integers,
                                integer_scale scale, scalar_lut *to)
{
    bins units = coarse->bins;
    double entries[SCALAR_MAX_LUT];
    for (size_t i = 0; i < units.count; i++)
        coarse->units[i] = units.value[i] / scale.scale + scale.offset;
    units.value = coarse->units;
    pal_status status = kmeans1d(&units, to->size, integers, &w->kmeans, entries);
    to->scale = scale.scale;
    to->offset = scale.offset;
    for (unsigned i = 0; !status && i < to->size; i++) {
        int entry = (int)entries[i];
        if (!isfinite(integer_value(w->grid, scale, entry)))
            entry = integer_entry(integers, w->grid, scale,
                                  w->bins.value[entry > scale.offset ? w->bins.count - 1 : 0]);
        put_entry(w, scale, i, entry, to);
    }
    return status ? status : scalar_assign(w, to);
}

typedef struct ranked_scale {
    double gain;
    integer_scale scale;
} ranked_scale;

/* Keeps the best of a few by gain, best first. */
static void rank(ranked_scale *best, int count, double gain, integer_scale scale)
{
    int at = count;
    while (at > 0 && gain > best[at - 1].gain)
        at--;
    if (at == count)
        return;
    memmove(best + at + 1, best + at, (size_t)(count - at - 1) * sizeof *best);
    best[at] = (ranked_scale){gain, scale};
}

pal_status scalar_lut_integers(scalar_workspace *w, grid integers, bool fixed, scalar_lut *lut)
{
    enum { BEST = 3 };
    integer_scale scales[INTEGER_SCALES];
    ranked_scale best[BEST];
    scalar_lut trial, found;
    for (int i = 0; i < BEST; i++)
        best[i] = (ranked_scale){.gain = -INFINITY};
    integer_scales(integers, w->grid, lut->centroid[0], lut->centroid[lut->size - 1], scales);
    coarse_bins coarse;
    pal_status status = coarsen(w, &coarse);
    if (!status)
        status = kmeans1d_sums(&coarse.bins, w->grid, &w->kmeans);
    if (status)
        return status;
    for (int i = 0; i < INTEGER_SCALES; i++) {
        round_table(w, integers, scales[i], lut, &trial);
        if (fixed && i && clips(&trial, lut))
            continue;
        rank(best, BEST, kmeans1d_gain(&coarse.bins, &w->kmeans, trial.size, trial.centroid),
             scales[i]);
    }
    round_table(w, integers, best[0].scale, lut, &found);
    status = scalar_assign(w, &found);
    for (int i = 0; !status && !fixed && i <= BEST; i++) {
        trial = *lut;
        status = cluster_table(w, &coarse, integers, i < BEST ? best[i].scale : scales[0], &trial);
        if (!status && trial.weighted_error < found.weighted_error)
            found = trial;
    }
    if (status)
        return status;
    *lut = found;
    return scalar_assign(w, lut);
}
