/* Values that are kept exactly, the sparse part of SqueezeLLM's dense-and-sparse form: those whose
 * errors cost most, by sensitivity times squared error in a first clustering. A value that is
 * sensitive but lies at a centroid anyway would be a waste. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "method/compression.h"

static uint32_t bits_of(float cost)
{
    uint32_t bits;
    memcpy(&bits, &cost, sizeof bits);
    return bits;
}

/* The n-th largest of costs that are 0 or more, and how many of those equal to it are among the n
 * largest. Such floats are in the order of their bits, so two histograms of 16 bits do. */
static pal_status find_threshold(const float *costs, uint64_t count, uint64_t n,
                                 uint32_t *threshold, uint64_t *equal)
{
    uint64_t *histogram = mem_array(65536, sizeof *histogram);
    uint32_t above = 0;
    if (!histogram)
        return fail_memory("choosing outliers");
    for (int half = 0; half < 2; half++) {
        uint32_t digit = 65536;
        memset(histogram, 0, 65536 * sizeof *histogram);
        for (uint64_t e = 0; e < count; e++) {
            const uint32_t bits = bits_of(costs[e]);
            if (half == 0)
                histogram[bits >> 16]++;
            else if (bits >> 16 == above)
                histogram[bits & 65535]++;
        }
        while (histogram[--digit] < n)
            n -= histogram[digit];
        if (half == 0)
            above = digit;
        else
            *threshold = above << 16 | digit;
    }
    free(histogram);
    *equal = n;
    return PAL_OK;
}

/* What the error of each value costs with the palette at hand. */
static pal_status find_costs(const target *t, float *costs)
{
    void *dense = scratch_zeroed(t->stored, grid_size(t->grid));
    pal_status status =
        dense ? palette_decode(t->palette, dense) : fail_memory("choosing outliers");
    for (uint64_t e = 0; !status && e < t->stored; e++) {
        const double error =
            (double)grid_get(t->grid, t->values, e) - (double)grid_get(t->grid, dense, e);
        const double cost = error * error * (t->importance ? (double)t->importance[e] : 1);
        costs[e] = cost < 3e38 ? (float)cost : 3e38F;
    }
    scratch_free(dense);
    return status;
}

static pal_status take(target *t, const float *costs, uint64_t n)
{
    uint32_t threshold = 0;
    uint64_t equal = 0;
    pal_status status = find_threshold(costs, t->stored, n, &threshold, &equal);
    t->outlier_places = status ? NULL : mem_array(n, sizeof *t->outlier_places);
    if (status || !t->outlier_places)
        return status ? status : fail_memory("choosing outliers");
    for (uint64_t e = 0; e < t->stored; e++) {
        const uint32_t bits = bits_of(costs[e]);
        if (bits > threshold || (bits == threshold && equal > 0)) {
            equal -= bits == threshold;
            t->outlier_places[t->outliers++] = (uint32_t)e;
        }
    }
    return PAL_OK;
}

pal_status outliers_choose(compression *c, size_t i)
{
    target *t = &c->targets[i];
    const uint64_t n = (uint64_t)(c->outliers * (double)t->stored);
    if (t->run_first || t->stored > PALETTE_MAX_PLACE) {
        snprintf(t->remark, sizeof t->remark,
                 t->run_first ? "no outliers of pruned weights" : "too large for outliers");
        return PAL_OK;
    }
    if (t->settings.mode != MODE_KMEANS)
        snprintf(t->remark, sizeof t->remark, "outliers are for mode kmeans");
    if (!n || t->settings.mode != MODE_KMEANS)
        return PAL_OK;
    float *costs = scratch_zeroed(t->stored, sizeof *costs);
    if (!costs)
        return fail_memory("choosing outliers");
    pal_status status = find_costs(t, costs);
    if (!status)
        status = take(t, costs, n);
    if (!status) { /* what they count is taken away; the memory of costs will do for the others' */
        for (uint64_t e = 0; e < t->stored; e++)
            costs[e] = t->importance ? t->importance[e] : 1;
        for (uint64_t k = 0; k < t->outliers; k++)
            costs[t->outlier_places[k]] = 0;
        scratch_free(t->own_importance);
        t->importance = t->own_importance = costs;
        return PAL_OK;
    }
    scratch_free(costs);
    return status;
}
