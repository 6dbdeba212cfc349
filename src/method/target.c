#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "method/compression.h"
#include "palette/pack.h"

/* ---------------------------------------------------------------- planning */

static palette_form form_of(const compression *c, const target *t, unsigned nbits)
{
    return (palette_form){
        .nbits = nbits,
        .grouped = t->settings.granularity == GRANULARITY_PER_GROUPED_CHANNEL,
        .vectors = t->settings.cluster_dim > 1,
        .integers = t->settings.lut_dtype != PAL_DTYPE_OTHER,
        .scaled = t->settings.per_channel_scale || t->channel_scale,
        .outliers = c->outliers > 0,
    };
}

/* Whether two weights with the same values and groups would get the same palette. */
static bool same_method(const settings *a, const settings *b)
{
    return a->nbits == b->nbits && a->mode == b->mode && a->cluster_dim == b->cluster_dim &&
           a->lut_dtype == b->lut_dtype && a->per_channel_scale == b->per_channel_scale &&
           (a->mode != MODE_CUSTOM || user_table_equal(a->table, b->table));
}

grid target_lut_grid(const target *t)
{
    switch (t->settings.lut_dtype) {
    case PAL_INT8: return GRID_INT8;
    case PAL_UINT8: return GRID_UINT8;
    default: return t->grid;
    }
}

/* Cuts the tensor: outer, channels, inner and what follows from them. */
static void cut(target *t, const pal_weight *info)
{
    t->outer = t->inner = 1;
    t->channels = info->shape[t->plan.axis];
    for (size_t d = 0; d < info->rank; d++) {
        if (d < t->plan.axis)
            t->outer *= info->shape[d];
        else if (d > t->plan.axis)
            t->inner *= info->shape[d];
    }
    if (t->plan.groups == 1 && t->settings.cluster_dim == 1 && !t->settings.per_channel_scale) {
        t->inner = info->elements; /* the tensor in one piece */
        t->outer = t->channels = 1;
    }
    t->group_elements = info->elements / t->plan.groups;
    t->group_indices = t->group_elements / t->settings.cluster_dim;
}

/* Finds the runs of a pruned weight, which its mask tells. */
static pal_status find_runs(const compression *c, size_t i, target *t)
{
    const pruned_values *pruned = &c->model->weights[i].pruned;
    const size_t runs = t->outer * t->plan.groups, length = t->group_elements / t->outer;
    t->run_first = mem_array(runs + 1, sizeof *t->run_first);
    if (!t->run_first)
        return fail_memory("planning");
    t->run_first[0] = 0;
    for (size_t r = 0; r < runs; r++)
        t->run_first[r + 1] =
            t->run_first[r] + pack_count_bits(pruned->mask, (uint64_t)r * length, length);
    if (t->run_first[runs] != pruned->count)
        return fail(PAL_ERROR_FORMAT, "%s: %s: its mask has %llu elements, its values are %llu",
                    c->model->path, c->model->weights[i].info.name,
                    (unsigned long long)t->run_first[runs], (unsigned long long)pruned->count);
    return PAL_OK;
}

void target_remark_unknown(target *t)
{
    snprintf(t->remark, sizeof t->remark, "no sensitivity is known: all values count the same");
}

/* What each stored value counts, where that was measured. */
static pal_status find_importance(const compression *c, size_t i, target *t)
{
    const model_weight *weight = &c->model->weights[i];
    const float *measured = sensitivity_of(c->sensitivity, &weight->info);
    if (!c->sensitivity || t->settings.mode != MODE_KMEANS)
        return PAL_OK;
    if (!measured) {
        target_remark_unknown(t);
        return PAL_OK;
    }
    t->importance = measured;
    t->weighted = true;
    if (!weight->pruned.mask)
        return PAL_OK;
    t->own_importance = scratch_zeroed(t->stored, sizeof *t->own_importance);
    if (!t->own_importance)
        return fail_memory("planning");
    for (uint64_t e = 0, n = 0; e < weight->info.elements; e++)
        if (pack_count_bits(weight->pruned.mask, e, 1))
            t->own_importance[n++] = measured[e];
    t->importance = t->own_importance;
    return PAL_OK;
}

/* Whether weight i gets the palette of one before it with the same values. */
static bool shares(compression *c, size_t i, size_t *eligible_of)
{
    target *t = &c->targets[i];
    const size_t same = c->model->weights[i].same_as, first = eligible_of[same];
    if (first == SIZE_MAX) {
        eligible_of[same] = i;
        return false;
    }
    const target *other = &c->targets[first];
    if (other->plan.axis != t->plan.axis || other->plan.groups != t->plan.groups ||
        !same_method(&other->settings, &t->settings))
        return false;
    t->source = first;
    return true;
}

pal_status target_init(compression *c, size_t i, size_t *eligible_of)
{
    target *t = &c->targets[i];
    const model_weight *weight = &c->model->weights[i];
    char refusal[160];
    options_for(c->options, weight, &t->settings, refusal);
    plan_weight(c->model, i, &t->settings, refusal, &t->plan);
    t->wanted = !*t->plan.reason;
    t->source = i;
    if (!t->wanted)
        return PAL_OK;
    t->nbits = t->settings.nbits;
    palette_form form = form_of(c, t, t->nbits);
    pal_status status = c->model->format->can_express(c->model, i, &form);
    if (status || shares(c, i, eligible_of))
        return status;
    if (!grid_of_weights(weight->info.dtype, &t->grid))
        return fail(PAL_ERROR_UNSUPPORTED, "%s: weights of such a type", weight->info.name);
    t->values = weight->pruned.mask ? weight->pruned.values : weight->dense;
    t->stored = weight->pruned.mask ? weight->pruned.count : weight->info.elements;
    cut(t, &weight->info);
    t->group_error = mem_zeroed(t->plan.groups, sizeof *t->group_error);
    t->group_peak = mem_zeroed(t->plan.groups, sizeof *t->group_peak);
    t->group_distinct = mem_zeroed(t->plan.groups, sizeof *t->group_distinct);
    if (!t->group_error || !t->group_peak || !t->group_distinct)
        return fail_memory("planning");
    status = weight->pruned.mask ? find_runs(c, i, t) : PAL_OK;
    return status ? status : find_importance(c, i, t);
}

pal_status target_can_scale_channels(const compression *c, size_t i)
{
    const target *t = &c->targets[i];
    if (t->settings.per_channel_scale || c->model->weights[i].pruned.mask)
        return fail(PAL_ERROR_UNSUPPORTED, "it has scales of another kind, or none");
    palette_form form = form_of(c, t, t->nbits);
    form.scaled = true;
    return c->model->format->can_express(c->model, i, &form);
}

pal_status target_scale_channels(compression *c, size_t i)
{
    target *t = &c->targets[i];
    pal_status status = target_can_scale_channels(c, i);
    palette *old = t->palette;
    t->channel_scale = true;
    t->palette = NULL;
    if (!status)
        status = target_allocate(c, i);
    if (status) {
        palette_free(t->palette);
        t->palette = old;
        t->channel_scale = false;
        return status;
    }
    palette *p = t->palette;
    memcpy((void *)p->lut, old->lut,
           (size_t)palette_lut_elements(p) * pal_dtype_bits(p->lut_dtype) / 8);
    memcpy((void *)p->indices, old->indices, (size_t)palette_index_bytes(p));
    if (p->lut_scale)
        memcpy((void *)p->lut_scale, old->lut_scale,
               (size_t)palette_num_luts(p) * pal_dtype_bits(p->dtype) / 8);
    if (p->lut_offset)
        memcpy((void *)p->lut_offset, old->lut_offset, (size_t)palette_num_luts(p));
    for (uint64_t s = 0; s < palette_scale_elements(p); s++)
        grid_put(t->grid, (void *)p->scale, s, 1);
    palette_free(old);
    return PAL_OK;
}

pal_status target_allocate(compression *c, size_t i)
{
    target *t = &c->targets[i];
    const model_weight *weight = &c->model->weights[i];
    if (!t->wanted || t->source != i)
        return PAL_OK;
    palette_free(t->palette); /* those of counting */
    free(t->indices);
    t->palette = NULL;
    t->indices = NULL;
    const palette_spec spec = {
        .nbits = t->nbits,
        .dtype = weight->info.dtype,
        .lut_dtype = t->settings.lut_dtype ? t->settings.lut_dtype : weight->info.dtype,
        .rank = weight->info.rank,
        .shape = weight->info.shape,
        .axis = t->plan.axis,
        .groups = t->plan.groups,
        .vector_size = t->settings.cluster_dim,
        .scaled = t->settings.per_channel_scale,
        .channel_scaled = t->channel_scale,
        .mask = weight->pruned.mask,
        .stored = weight->pruned.count,
        .outliers = t->outliers,
    };
    pal_status status = palette_new(&spec, &t->palette);
    for (uint64_t i = 0; !status && i < t->outliers; i++) {
        const size_t width = grid_size(t->grid);
        ((uint32_t *)t->palette->outlier_places)[i] = t->outlier_places[i];
        memcpy((char *)t->palette->outlier_values + i * width,
               (const char *)t->values + t->outlier_places[i] * width, width);
    }
    if (!status && t->plan.groups > 1 && (t->outer > 1 || t->run_first) &&
        !(t->indices = mem_array(palette_index_count(t->palette), 1)))
        status = fail_memory("planning");
    return status;
}

void target_free(target *t)
{
    palette_free(t->palette);
    free(t->indices);
    free(t->run_first);
    scratch_free(t->own_importance);
    free(t->outlier_places);
    free(t->group_error);
    free(t->group_peak);
    free(t->group_distinct);
}

/* ---------------------------------------------------------------- after a look at the values */

static void skip(target *t, const char *reason)
{
    t->wanted = false;
    snprintf(t->plan.reason, sizeof t->plan.reason, "%s", reason);
}

/* Why a weight whose values cannot be clustered is skipped. */
static void skip_not_finite(target *t)
{
    char reason[sizeof t->plan.reason] = "it has a value that is not finite";
    for (uint64_t e = 0; e < t->stored; e++) {
        double value = (double)grid_get(t->grid, t->values, e);
        if (!isfinite(value)) {
            snprintf(reason, sizeof reason, "%s %llu is %s", t->run_first ? "value" : "element",
                     (unsigned long long)e,
                     isnan(value) ? "NaN"
                     : value > 0  ? "infinite"
                                  : "minus infinity");
            break;
        }
    }
    skip(t, reason);
}

void target_choose_bits(compression *c, size_t i)
{
    static const unsigned widths[] = {1, 2, 3, 4, 6, 8};
    target *t = &c->targets[i];
    unsigned distinct = 0;
    for (uint64_t g = 0; g < t->plan.groups; g++) {
        if (isnan(t->group_error[g])) {
            skip_not_finite(t);
            return;
        }
        if (t->group_distinct[g] > distinct)
            distinct = t->group_distinct[g];
    }
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        palette_form form = form_of(c, t, widths[w]);
        if (distinct <= 1u << widths[w] && !c->model->format->can_express(c->model, i, &form)) {
            t->nbits = widths[w];
            return;
        }
    }
    char reason[64];
    if (t->settings.cluster_dim > 1)
        snprintf(reason, sizeof reason, "more than 256 distinct vectors");
    else
        snprintf(reason, sizeof reason, "%u distinct values, more than 256", distinct);
    skip(t, reason);
}

void target_finish(compression *c, size_t i)
{
    target *t = &c->targets[i];
    t->error = t->peak = 0;
    for (uint64_t g = 0; g < t->plan.groups; g++) {
        t->error += t->group_error[g];
        t->peak = fmax(t->peak, t->group_peak[g]);
    }
    if (isnan(t->error))
        skip_not_finite(t);
}
