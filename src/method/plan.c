#include "method/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest divisor of n that is at most `most`. */
static uint64_t divisor_below(uint64_t n, uint64_t most)
{
    if (most >= n)
        return n;
    uint64_t best = 1;
    for (uint64_t d = 1; d * d <= n; d++) {
        if (n % d)
            continue;
        if (d <= most && d > best)
            best = d;
        if (n / d <= most && n / d > best)
            best = n / d;
    }
    return best;
}

static void plan_groups(const pal_weight *weight, const settings *settings, plan *out)
{
    int rank = (int)weight->rank;
    int axis = settings->has_channel_axis ? settings->channel_axis : weight->channel_axis;
    if (settings->has_channel_axis && axis < 0)
        axis += rank;
    if (axis < 0 && !settings->has_channel_axis) {
        snprintf(out->reason, sizeof out->reason,
                 "its operators have their output channels on different axes; give channel_axis");
        return;
    }
    if (axis < 0 || axis >= rank) {
        snprintf(out->reason, sizeof out->reason, "it has no axis %d", settings->channel_axis);
        return;
    }
    uint64_t channels = weight->shape[axis];
    out->axis = (size_t)axis;
    out->group_size = divisor_below(channels, settings->group_size);
    out->groups = channels / out->group_size;
    if (out->group_size != settings->group_size)
        snprintf(out->remark, sizeof out->remark,
                 "groups of %llu: %llu channels are not a multiple of %llu",
                 (unsigned long long)out->group_size, (unsigned long long)channels,
                 (unsigned long long)settings->group_size);
}

void plan_weight(const pal_model *model, size_t i, const settings *settings, plan *out)
{
    const model_weight *weight = &model->weights[i];
    const pal_weight *info = &weight->info;
    *out = (plan){.groups = 1};
    if (info->storage != PAL_STORAGE_DENSE)
        snprintf(out->reason, sizeof out->reason, "it is already %s",
                 pal_storage_name(info->storage));
    else if (weight->locked)
        snprintf(out->reason, sizeof out->reason, "%s", weight->locked);
    else if (!model->format->lut_dtype_ok(info->dtype) || !weight->dense)
        snprintf(out->reason, sizeof out->reason, "a look-up table cannot hold %s here",
                 pal_dtype_name(info->dtype));
    else if (info->rank < 2)
        snprintf(out->reason, sizeof out->reason, "it is a vector, not a matrix");
    else if (info->elements <= settings->weight_threshold || info->elements == 0)
        snprintf(
            out->reason, sizeof out->reason, "%llu elements, not more than weight_threshold %llu",
            (unsigned long long)info->elements, (unsigned long long)settings->weight_threshold);
    else if (settings->granularity == GRANULARITY_PER_GROUPED_CHANNEL)
        plan_groups(info, settings, out);
}

const char *pal_model_skip_reason(pal_model *model, size_t i, const pal_options *options)
{
    settings settings;
    plan plan;
    if (!model || i >= model->weight_count)
        return "there is no such weight";
    options_read(options, &settings);
    plan_weight(model, i, &settings, &plan);
    snprintf(model->text, sizeof model->text, "%s", plan.reason);
    return *model->text ? model->text : NULL;
}
