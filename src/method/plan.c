#include "method/plan.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest divisor of n that is at most `most` and a multiple of `step`, which divides n; 0 if
 * there is none. */
static uint64_t divisor_below(uint64_t n, uint64_t most, uint64_t step)
{
    uint64_t best = 0;
    for (uint64_t d = 1; d * d <= n; d++) {
        if (n % d)
            continue;
        const uint64_t pair[] = {d, n / d};
        for (int i = 0; i < 2; i++)
            if (pair[i] <= most && pair[i] % step == 0 && pair[i] > best)
                best = pair[i];
    }
    return best;
}

/* The axis that holds the channels; false, with the reason, if there is none. */
static bool plan_axis(const pal_weight *weight, const settings *settings, plan *out)
{
    int rank = (int)weight->rank;
    int axis = settings->has_channel_axis ? settings->channel_axis : weight->channel_axis;
    if (settings->has_channel_axis && axis < 0)
        axis += rank;
    if (axis < 0 && !settings->has_channel_axis) {
        snprintf(out->reason, sizeof out->reason,
                 "its operators have their output channels on different axes; give channel_axis");
        return false;
    }
    if (axis < 0 || axis >= rank) {
        snprintf(out->reason, sizeof out->reason, "it has no axis %d", settings->channel_axis);
        return false;
    }
    out->axis = (size_t)axis;
    return true;
}

/* Whether vectors of cluster_dim fit the channels: also within each group of a grouped convolution,
 * whose channels are separate. A file may claim groups that do not divide them. */
static bool plan_vectors(const model_weight *weight, const settings *settings, plan *out)
{
    uint64_t channels = weight->info.shape[out->axis];
    if (out->axis == 0 && weight->op_groups > 1 && channels % weight->op_groups == 0)
        channels /= weight->op_groups;
    if (channels % settings->cluster_dim == 0)
        return true;
    snprintf(out->reason, sizeof out->reason, "cluster_dim %zu does not divide its %llu channels",
             settings->cluster_dim, (unsigned long long)channels);
    return false;
}

static void plan_groups(const pal_weight *weight, const settings *settings, plan *out)
{
    uint64_t channels = weight->shape[out->axis];
    out->group_size = divisor_below(channels, settings->group_size, settings->cluster_dim);
    if (!out->group_size) {
        snprintf(out->reason, sizeof out->reason,
                 "no multiple of cluster_dim up to group_size divides its %llu channels",
                 (unsigned long long)channels);
        return;
    }
    out->groups = channels / out->group_size;
    if (out->group_size != settings->group_size)
        snprintf(out->remark, sizeof out->remark,
                 "groups of %llu: %llu channels are not a multiple of %llu",
                 (unsigned long long)out->group_size, (unsigned long long)channels,
                 (unsigned long long)settings->group_size);
}

/* What a pruned weight cannot be, as in coremltools. */
static const char *pruned_refusal(const settings *settings)
{
    if (settings->cluster_dim > 1)
        return "it is pruned, which vectors cannot express";
    return settings->per_channel_scale ? "it is pruned, which per-channel scales cannot express"
                                       : "";
}

/* An entry of a user's table that the weight's type cannot hold, or NULL. */
static const double *too_large(const settings *settings, pal_dtype dtype)
{
    const double most = dtype == PAL_FLOAT16 ? 65504 : (double)FLT_MAX;
    for (size_t i = 0; settings->mode == MODE_CUSTOM && i < settings->table->count; i++)
        if (fabs(settings->table->values[i]) > most)
            return &settings->table->values[i];
    return NULL;
}

static void plan_values(const pal_model *model, const model_weight *weight,
                        const settings *settings, const char *refusal, plan *out)
{
    const pal_weight *info = &weight->info;
    const double *entry = too_large(settings, info->dtype);
    const bool pruned = weight->pruned.mask != NULL;
    if (info->storage != PAL_STORAGE_DENSE && !pruned)
        snprintf(out->reason, sizeof out->reason, "it is already %s",
                 pal_storage_name(info->storage));
    else if (weight->locked)
        snprintf(out->reason, sizeof out->reason, "%s", weight->locked);
    else if (!model->format->lut_dtype_ok(info->dtype) || !(weight->dense || pruned))
        snprintf(out->reason, sizeof out->reason, "a look-up table cannot hold %s here",
                 pal_dtype_name(info->dtype));
    else if (info->rank < 2)
        snprintf(out->reason, sizeof out->reason, "it is a vector, not a matrix");
    else if (info->elements <= settings->weight_threshold || info->elements == 0)
        snprintf(
            out->reason, sizeof out->reason, "%llu elements, not more than weight_threshold %llu",
            (unsigned long long)info->elements, (unsigned long long)settings->weight_threshold);
    else if (*refusal)
        snprintf(out->reason, sizeof out->reason, "%s", refusal);
    else if (weight->embedding && !settings->palettize_embeddings)
        snprintf(out->reason, sizeof out->reason,
                 "it is an embedding; the option embeddings can include it");
    else if (entry)
        snprintf(out->reason, sizeof out->reason, "%s cannot hold the entry %g of its lut",
                 pal_dtype_name(info->dtype), *entry);
    else if (pruned)
        snprintf(out->reason, sizeof out->reason, "%s", pruned_refusal(settings));
}

void plan_weight(const pal_model *model, size_t i, const settings *settings, const char *refusal,
                 plan *out)
{
    const model_weight *weight = &model->weights[i];
    *out = (plan){.groups = 1};
    plan_values(model, weight, settings, refusal, out);
    bool grouped = settings->granularity == GRANULARITY_PER_GROUPED_CHANNEL;
    if (*out->reason || (!grouped && settings->cluster_dim == 1 && !settings->per_channel_scale))
        return;
    if (plan_axis(&weight->info, settings, out) && plan_vectors(weight, settings, out) && grouped)
        plan_groups(&weight->info, settings, out);
}

const char *pal_model_skip_reason(pal_model *model, size_t i, const pal_options *options)
{
    settings settings;
    plan plan;
    if (!model || i >= model->weight_count)
        return "there is no such weight";
    char refusal[160];
    options_for(options, &model->weights[i], &settings, refusal);
    plan_weight(model, i, &settings, refusal, &plan);
    snprintf(model->text, sizeof model->text, "%s", plan.reason);
    return *model->text ? model->text : NULL;
}
