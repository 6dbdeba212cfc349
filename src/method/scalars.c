#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/integers.h"
#include "method/compression.h"
#include "palette/pack.h"

enum { PIECE = 4096 };

/* ---------------------------------------------------------------- tables */

static pal_status choose_lut(const target *t, scalar_workspace *clustering, scalar_lut *lut)
{
    const unsigned size = 1u << t->nbits;
    const grid entries = target_lut_grid(t);
    pal_status status;
    switch (t->settings.mode) {
    case MODE_UNIFORM: status = scalar_lut_uniform(clustering, size, lut); break;
    case MODE_UNIQUE: status = scalar_lut_unique(clustering, size, lut); break;
    case MODE_CUSTOM:
        status = scalar_lut_given(clustering, size, t->settings.table->values, lut);
        break;
    default: status = scalar_lut_kmeans(clustering, size, lut); break;
    }
    if (!status && entries != t->grid)
        status = scalar_lut_integers(clustering, entries, t->settings.mode != MODE_KMEANS, lut);
    return status;
}

static void store_lut(const target *t, uint64_t group, const scalar_lut *lut)
{
    const palette *p = t->palette;
    const uint64_t first = group << t->nbits;
    const grid entries = target_lut_grid(t);
    for (unsigned i = 0; i < lut->size; i++)
        grid_put(entries, (void *)p->lut, first + lut->place[i],
                 entries == t->grid ? lut->centroid[i] : lut->entry[i]);
    if (p->lut_scale)
        grid_put(t->grid, (void *)p->lut_scale, group, lut->scale);
    if (p->lut_offset)
        grid_put(entries, (void *)p->lut_offset, group, lut->offset);
}

/* A table for a group of which nothing is stored: zeros. */
static void store_empty(const target *t, uint64_t group)
{
    scalar_lut lut = {.size = 1u << t->nbits, .scale = 1};
    store_lut(t, group, &lut);
}

/* ---------------------------------------------------------------- values as they are */

static size_t stored_in_group(const target *t, uint64_t group)
{
    size_t count = 0;
    for (size_t o = 0; o < t->outer; o++)
        count += run_length(t, group, o);
    return count;
}

/* The values of a group in one piece: in place, or gathered. NULL when out of memory. */
static const void *group_values(const target *t, uint64_t group, size_t count, thread_state *thread)
{
    const unsigned char *values = t->values;
    const size_t size = grid_size(t->grid);
    if (t->outer == 1)
        return values + run_begin(t, group, 0) * size;
    if (!buffer_reserve((void **)&thread->values, &thread->values_size, count * size))
        return NULL;
    unsigned char *to = thread->values;
    for (size_t o = 0; o < t->outer; o++) {
        const size_t bytes = run_length(t, group, o) * size;
        memcpy(to, values + run_begin(t, group, o) * size, bytes);
        to += bytes;
    }
    return thread->values;
}

/* Packs the indices of a whole tensor piece by piece, without ever holding them unpacked. */
static void pack_tensor(const target *t, const scalar_workspace *clustering, const void *values,
                        size_t count)
{
    uint8_t indices[PIECE];
    for (size_t done = 0; done < count; done += PIECE) {
        size_t n = count - done < PIECE ? count - done : PIECE;
        scalar_indices(clustering, (const unsigned char *)values + done * grid_size(t->grid), n,
                       indices);
        pack_indices(indices, n, t->nbits, (uint8_t *)t->palette->indices + done / 8 * t->nbits);
    }
}

/* What the values of a group count, in the same order; NULL where all count the same. */
static pal_status group_importance(const target *t, uint64_t group, size_t count,
                                   thread_state *thread, const float **out)
{
    *out = t->importance;
    if (!t->importance || t->outer == 1) {
        *out = t->importance ? t->importance + run_begin(t, group, 0) : NULL;
        return PAL_OK;
    }
    if (!buffer_reserve((void **)&thread->importance, &thread->importance_size,
                        count * sizeof(float)))
        return fail_memory("gathering a group");
    float *to = thread->importance;
    for (size_t o = 0; o < t->outer; o++) {
        const size_t length = run_length(t, group, o);
        memcpy(to, t->importance + run_begin(t, group, o), length * sizeof *to);
        to += length;
    }
    *out = thread->importance;
    return PAL_OK;
}

static pal_status cluster_plain(compression *c, const unit *unit, uint64_t group,
                                thread_state *thread)
{
    target *t = &c->targets[unit->weight];
    const size_t count = stored_in_group(t, group);
    if (count == 0) {
        if (!c->counting)
            store_empty(t, group);
        return PAL_OK;
    }
    const void *values = group_values(t, group, count, thread);
    if (!values)
        return fail_memory("gathering a group");
    scalar_workspace *clustering = &thread->clustering;
    const float *importance;
    pal_status status = group_importance(t, group, count, thread, &importance);
    if (!status)
        status = scalar_bins(clustering, t->grid, values, importance, count);
    if (status)
        return status;
    if (c->counting) {
        size_t distinct = clustering->bins.count;
        t->group_distinct[group] = distinct < UINT32_MAX ? (unsigned)distinct : UINT32_MAX;
        return PAL_OK;
    }
    scalar_lut lut;
    status = choose_lut(t, clustering, &lut);
    if (status)
        return status;
    store_lut(t, group, &lut);
    t->group_error[group] = lut.squared_error;
    t->group_peak[group] = scalar_peak(clustering);
    if (t->plan.groups == 1)
        pack_tensor(t, clustering, values, count);
    else
        scalar_indices(clustering, values, count, group_place(t, unit, group, thread));
    return PAL_OK;
}

/* ---------------------------------------------------------------- values divided by scales */

/* How much an error in the divided value counts. */
static float importance_of(const target *t, float scale)
{
    double share = (double)scale / t->scale_peak;
    return (float)(share * share);
}

/* Bins of the divided values. Those of a 16-bit type are rounded to float16 (coremltools rounds
 * them to the weight's type), so that a histogram will do and nothing has to be gathered. */
static pal_status scaled_bins16(const target *t, uint64_t group, scalar_workspace *clustering)
{
    float values[PIECE], scales[PIECE], importance[PIECE];
    uint16_t patterns[PIECE];
    pal_status status = bins_begin(&clustering->bins);
    if (status)
        return status;
    scaled_walk walk = scaled_walk_begin(t, group);
    for (size_t n; !status && (n = scaled_walk_next(&walk, PIECE, values, scales, importance));) {
        for (size_t i = 0; i < n; i++) {
            patterns[i] = f16_from_double((double)(values[i] / scales[i]));
            values[i] = importance[i] * importance_of(t, scales[i]);
            if (!isfinite(values[i])) /* an infinite scale; the pattern tells of it */
                values[i] = 0;
        }
        status = bins_add(&clustering->bins, patterns, values, n);
    }
    if (status)
        return status;
    clustering->values = GRID_FLOAT16;
    clustering->grid = t->grid;
    return bins_end(&clustering->bins, GRID_FLOAT16);
}

static pal_status scaled_bins32(const target *t, uint64_t group, thread_state *thread)
{
    const size_t count = t->group_elements;
    float values[PIECE], scales[PIECE], counts[PIECE];
    uint64_t bytes;
    if (!mem_multiply(count, 2 * sizeof(float), &bytes) ||
        !buffer_reserve((void **)&thread->values, &thread->values_size, bytes))
        return fail_memory("gathering a group");
    float *divided = (float *)(void *)thread->values, *importance = divided + count;
    scaled_walk walk = scaled_walk_begin(t, group);
    for (size_t n, at = 0; (n = scaled_walk_next(&walk, PIECE, values, scales, counts)); at += n) {
        for (size_t i = 0; i < n; i++) {
            divided[at + i] = values[i] / scales[i];
            importance[at + i] = counts[i] * importance_of(t, scales[i]);
            if (!isfinite(importance[at + i]))
                importance[at + i] = 0;
        }
    }
    return scalar_bins(&thread->clustering, GRID_FLOAT32, divided, importance, count);
}

/* The centroid whose product with the scale comes nearest to the value: the one nearest to the
 * quotient or, because of rounding, one beside it. */
static unsigned nearest_product(const scalar_workspace *clustering, const scalar_lut *lut,
                                float value, float scale, float *error)
{
    const unsigned middle = scalar_nearest(clustering, value / scale);
    unsigned best = middle;
    *error = INFINITY;
    for (unsigned i = middle ? middle - 1 : 0; i <= middle + 1 && i < lut->size; i++) {
        float product = scaled_value(clustering->grid, (float)lut->centroid[i], scale);
        float distance = fabsf(value - product);
        if (distance < *error) {
            *error = distance;
            best = i;
        }
    }
    return lut->place[best];
}

/* The indices of a group, its error and peak. */
static void assign_scaled(target *t, const unit *unit, uint64_t group, thread_state *thread,
                          const scalar_lut *lut)
{
    float values[PIECE], scales[PIECE];
    uint8_t indices[PIECE];
    scaled_walk walk = scaled_walk_begin(t, group);
    double error = 0, peak = 0;
    for (size_t n, at = 0; (n = scaled_walk_next(&walk, PIECE, values, scales, NULL)); at += n) {
        uint8_t *to = t->plan.groups > 1 ? group_place(t, unit, group, thread) + at : indices;
        for (size_t i = 0; i < n; i++) {
            float distance;
            to[i] =
                (uint8_t)nearest_product(&thread->clustering, lut, values[i], scales[i], &distance);
            error += (double)distance * (double)distance;
            peak = fmax(peak, fabs((double)values[i]));
        }
        if (t->plan.groups == 1)
            pack_indices(indices, n, t->nbits, (uint8_t *)t->palette->indices + at / 8 * t->nbits);
    }
    t->group_error[group] = error;
    t->group_peak[group] = peak;
}

static pal_status cluster_scaled(compression *c, const unit *unit, uint64_t group,
                                 thread_state *thread)
{
    target *t = &c->targets[unit->weight];
    scalar_workspace *clustering = &thread->clustering;
    pal_status status = t->grid == GRID_FLOAT32 ? scaled_bins32(t, group, thread)
                                                : scaled_bins16(t, group, clustering);
    if (status)
        return status;
    if (c->counting) {
        size_t distinct = clustering->bins.count;
        t->group_distinct[group] = distinct < UINT32_MAX ? (unsigned)distinct : UINT32_MAX;
        return PAL_OK;
    }
    scalar_lut lut;
    status = choose_lut(t, clustering, &lut);
    if (status)
        return status;
    store_lut(t, group, &lut);
    assign_scaled(t, unit, group, thread, &lut);
    return PAL_OK;
}

pal_status scalars_cluster(compression *c, const unit *unit, uint64_t group, thread_state *thread)
{
    target *t = &c->targets[unit->weight];
    pal_status status = t->settings.per_channel_scale ? cluster_scaled(c, unit, group, thread)
                                                      : cluster_plain(c, unit, group, thread);
    if (status != PAL_ERROR_VALUE)
        return status;
    t->group_error[group] = NAN; /* the weight will be skipped */
    return PAL_OK;
}
