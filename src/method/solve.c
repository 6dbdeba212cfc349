/* Palettes that were found by other means than clustering each weight on its own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "method/compression.h"
#include "palette/pack.h"

void target_values(const target *t, float *values)
{
    for (uint64_t e = 0; e < t->stored; e++)
        values[e] = grid_get(t->grid, t->values, e);
}

/* Integer entries: from minus the largest magnitude to it, or from the least to the greatest. */
static void store_integers(const target *t, uint64_t group, const float *lut, size_t count)
{
    const palette *p = t->palette;
    const grid entries = target_lut_grid(t);
    double low = 0, high = 0, offset = 0;
    for (size_t i = 0; i < count; i++) {
        low = fmin(low, (double)lut[i]);
        high = fmax(high, (double)lut[i]);
    }
    double scale = entries == GRID_INT8 ? fmax(-low, high) / 127 : (high - low) / 255;
    grid_put(t->grid, (void *)p->lut_scale, group, scale > 0 ? scale : 1);
    scale = (double)grid_get(t->grid, p->lut_scale, group);
    if (scale == 0) { /* so small that its type cannot hold it */
        grid_put(t->grid, (void *)p->lut_scale, group, 1);
        scale = 1;
    }
    if (p->lut_offset) {
        offset = grid_round(entries, -low / scale);
        grid_put(entries, (void *)p->lut_offset, group, offset);
    }
    for (size_t i = 0; i < count; i++)
        grid_put(entries, (void *)p->lut, group * count + i,
                 grid_round(entries, (double)lut[i] / scale + offset));
}

static void store_lut(const target *t, const float *lut)
{
    const palette *p = t->palette;
    const size_t count = ((size_t)1 << t->nbits) * t->settings.cluster_dim;
    for (uint64_t g = 0; g < t->plan.groups; g++) {
        if (p->lut_scale) {
            store_integers(t, g, lut + g * count, count);
            continue;
        }
        for (size_t i = 0; i < count; i++)
            grid_put(t->grid, (void *)p->lut, g * count + i, (double)lut[g * count + i]);
    }
}

/* The error of what a reader will see, in all groups together. */
pal_status target_measure(const compression *c, size_t i)
{
    target *t = &c->targets[i];
    const pal_weight *info = &c->model->weights[i].info;
    const uint8_t *mask = c->model->weights[i].pruned.mask;
    void *dense = scratch_zeroed(info->elements, grid_size(t->grid));
    double error = 0, peak = 0;
    pal_status status = dense ? palette_decode(t->palette, dense) : fail_memory("palettizing");
    for (uint64_t e = 0, n = 0; !status && e < info->elements; e++) {
        if (mask && !pack_count_bits(mask, e, 1))
            continue;
        const double value = (double)grid_get(t->grid, t->values, n++);
        const double difference = value - (double)grid_get(t->grid, dense, e);
        error += difference * difference;
        peak = fmax(peak, fabs(value));
    }
    scratch_free(dense);
    for (uint64_t g = 0; g < t->plan.groups; g++)
        t->group_error[g] = t->group_peak[g] = 0;
    t->group_error[0] = error;
    t->group_peak[0] = peak;
    return status;
}

pal_status compression_solve(compression *c, size_t i, const float *lut, const float *scale,
                             const uint8_t *indices)
{
    target *t = &c->targets[i];
    palette *p = t->palette;
    store_lut(t, lut);
    for (uint64_t s = 0; scale && s < palette_scale_elements(p); s++)
        grid_put(t->grid, (void *)p->scale, s, (double)scale[s]);
    pack_indices(indices, palette_index_count(p), t->nbits, (uint8_t *)p->indices);
    pal_status status = target_measure(c, i);
    palette_release(p);
    t->solved = !status;
    return status;
}

pal_status compression_rescale(compression *c, size_t i, const float *scale)
{
    target *t = &c->targets[i];
    for (uint64_t s = 0; s < palette_scale_elements(t->palette); s++)
        grid_put(t->grid, (void *)t->palette->scale, s, (double)scale[s]);
    return target_measure(c, i);
}

pal_status compression_adjust(compression *c, size_t i, const float *values, const char *why)
{
    target *t = &c->targets[i];
    const model_weight *weight = &c->model->weights[i];
    const pal_dtype dtype = weight->info.dtype;
    grid grid;
    if (weight->locked || !weight->dense || !grid_of_weights(dtype, &grid))
        return fail(PAL_ERROR_UNSUPPORTED, "%s: %s: its values cannot be replaced%s%s",
                    c->model->path, weight->info.name, weight->locked ? ": " : "",
                    weight->locked ? weight->locked : "");
    if (!t->dense)
        t->dense = scratch_zeroed(weight->info.elements, pal_dtype_bits(dtype) / 8);
    if (!t->dense)
        return fail_memory("palettizing");
    for (uint64_t e = 0; e < weight->info.elements; e++)
        grid_put(grid, t->dense, e, (double)values[e]);
    snprintf(t->remark, sizeof t->remark, "%s", why);
    return PAL_OK;
}

bool compression_adjusted(const compression *c, size_t i, float *values)
{
    const target *t = &c->targets[i];
    const pal_weight *info = &c->model->weights[i].info;
    grid grid;
    if (!t->dense || !grid_of_weights(info->dtype, &grid))
        return false;
    for (uint64_t e = 0; e < info->elements; e++)
        values[e] = grid_get(grid, t->dense, e);
    return true;
}
