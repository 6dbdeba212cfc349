/* Joining and cutting: concat, split, slice, pad. */
#include <string.h>

#include "graph/inference.h"

pal_status infer_concat(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    graph_value result = *inputs[0];
    size_t axis = 0;
    pal_status status = resolve_axis(node, node->attributes.concat.axis, result.rank, &axis);
    for (size_t i = 1; !status && i < node->input_count; i++) {
        if (inputs[i]->rank != result.rank)
            return infer_fail(node, "input %zu has %zu dimensions, another %zu", i, inputs[i]->rank,
                              result.rank);
        for (size_t d = 0; d < result.rank; d++)
            if (d != axis && inputs[i]->shape[d] != result.shape[d])
                return infer_fail(node, "input %zu has extent %lld in dimension %zu, another %lld",
                                  i, (long long)inputs[i]->shape[d], d, (long long)result.shape[d]);
        if (__builtin_add_overflow(result.shape[axis], inputs[i]->shape[axis], &result.shape[axis]))
            return infer_fail(node, "its result is too large");
    }
    return status ? status : infer_set(node, &outputs[0], result.rank, result.shape);
}

pal_status resolve_split(const graph_node *node, const graph_value *const *inputs, int64_t *sizes)
{
    const graph_value *x = inputs[0], *given = infer_input(node, inputs, 1);
    const int64_t count = (int64_t)node->output_count;
    size_t axis, found;
    pal_status status = resolve_axis(node, node->attributes.split.axis, x->rank, &axis);
    if (status)
        return status;
    const int64_t extent = x->shape[axis];
    int64_t left = extent;
    if (given) {
        status = infer_ints(node, "list of sizes", given, sizes, node->output_count, &found);
        if (!status && found != node->output_count)
            status = infer_fail(node, "%zu sizes for %zu parts", found, node->output_count);
    }
    const int64_t each = (extent + count - 1) / count;
    for (int64_t i = 0; !status && i < count; i++) {
        if (!given)
            sizes[i] = each < left ? each : left;
        if (sizes[i] < 0 || sizes[i] > left)
            return infer_fail(node, "its parts are more than the %lld there are",
                              (long long)extent);
        left -= sizes[i];
    }
    if (!status && left)
        status =
            infer_fail(node, "its parts leave %lld of %lld", (long long)left, (long long)extent);
    return status;
}

pal_status infer_split(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    int64_t sizes[GRAPH_MAX_OUTPUTS];
    graph_value part = *inputs[0];
    size_t axis = 0;
    if (node->output_count > GRAPH_MAX_OUTPUTS)
        return infer_fail(node, "%zu parts", node->output_count);
    pal_status status = resolve_split(node, inputs, sizes);
    if (!status)
        status = resolve_axis(node, node->attributes.split.axis, part.rank, &axis);
    for (size_t i = 0; !status && i < node->output_count; i++) {
        part.shape[axis] = sizes[i];
        status = infer_set(node, &outputs[i], part.rank, part.shape);
    }
    return status;
}

/* ---------------------------------------------------------------- slice */

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* Where a slice of an axis begins, and how many it takes. */
static void cut(int64_t extent, int64_t start, int64_t end, int64_t step, int64_t *from,
                int64_t *count)
{
    start = start < 0 ? start + extent : start; /* cannot overflow: one is negative */
    end = end < 0 ? end + extent : end;
    *count = *from = 0;
    if (extent == 0)
        return;
    if (step > 0) {
        start = clamp(start, 0, extent);
        end = clamp(end, 0, extent);
        if (end > start)
            *count = (end - start - 1) / step + 1;
    } else {
        start = clamp(start, 0, extent - 1);
        end = clamp(end, -1, extent - 1);
        if (start > end)
            *count = (start - end - 1) / (step == INT64_MIN ? INT64_MAX : -step) + 1;
    }
    *from = *count ? start : 0;
}

pal_status resolve_slice(const graph_node *node, const graph_value *const *inputs,
                         slice_geometry *out)
{
    const graph_value *x = inputs[0], *named = infer_input(node, inputs, 3);
    const graph_value *stepped = infer_input(node, inputs, 4);
    int64_t starts[PAL_MAX_RANK], ends[PAL_MAX_RANK], axes[PAL_MAX_RANK], steps[PAL_MAX_RANK];
    bool seen[PAL_MAX_RANK] = {0};
    size_t count, others[3];
    pal_status status = infer_ints(node, "list of starts", inputs[1], starts, PAL_MAX_RANK, &count);
    if (!status)
        status = infer_ints(node, "list of ends", inputs[2], ends, PAL_MAX_RANK, &others[0]);
    if (!status)
        status = infer_ints(node, "list of axes", named, axes, PAL_MAX_RANK, &others[1]);
    if (!status)
        status = infer_ints(node, "list of steps", stepped, steps, PAL_MAX_RANK, &others[2]);
    if (status)
        return status;
    if (others[0] != count || (named && others[1] != count) || (stepped && others[2] != count) ||
        count > x->rank)
        return infer_fail(node, "its starts, ends, axes and steps are not equally many");
    for (size_t d = 0; d < x->rank; d++) {
        out->start[d] = 0;
        out->step[d] = 1;
        out->count[d] = x->shape[d];
    }
    for (size_t i = 0; i < count; i++) {
        size_t axis = i;
        if (named)
            status = resolve_axis(node, axes[i], x->rank, &axis);
        if (status)
            return status;
        if (seen[axis])
            return infer_fail(node, "axis %zu twice", axis);
        seen[axis] = true;
        const int64_t step = stepped ? steps[i] : 1;
        if (step == 0)
            return infer_fail(node, "a step of 0");
        cut(x->shape[axis], starts[i], ends[i], step, &out->start[axis], &out->count[axis]);
        /* One element needs no step: then strides cannot overflow either. */
        out->step[axis] = out->count[axis] > 1 ? step : 1;
    }
    return PAL_OK;
}

pal_status infer_slice(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    slice_geometry geometry;
    pal_status status = resolve_slice(node, inputs, &geometry);
    return status ? status : infer_set(node, &outputs[0], inputs[0]->rank, geometry.count);
}

/* ---------------------------------------------------------------- pad */

pal_status resolve_pads(const graph_node *node, const graph_value *const *inputs,
                        int64_t begin[PAL_MAX_RANK], int64_t end[PAL_MAX_RANK])
{
    const graph_value *x = inputs[0], *named = infer_input(node, inputs, 3);
    int64_t pads[2 * PAL_MAX_RANK], axes[PAL_MAX_RANK];
    size_t count, axis_count;
    pal_status status = infer_ints(node, "list of pads", inputs[1], pads, 2 * PAL_MAX_RANK, &count);
    if (!status)
        status = infer_ints(node, "list of axes", named, axes, PAL_MAX_RANK, &axis_count);
    if (status)
        return status;
    if (count != 2 * (named ? axis_count : x->rank))
        return infer_fail(node, "%zu pads for %zu dimensions", count, named ? axis_count : x->rank);
    for (size_t d = 0; d < x->rank; d++)
        begin[d] = end[d] = 0;
    for (size_t i = 0; i < count / 2; i++) {
        size_t axis = i;
        if (named)
            status = resolve_axis(node, axes[i], x->rank, &axis);
        if (status)
            return status;
        begin[axis] = pads[i];
        end[axis] = pads[count / 2 + i];
        if (begin[axis] < -INFER_MAX_EXTENT || begin[axis] > INFER_MAX_EXTENT ||
            end[axis] < -INFER_MAX_EXTENT || end[axis] > INFER_MAX_EXTENT)
            return infer_fail(node, "its pads are too large");
    }
    return PAL_OK;
}

pal_status infer_pad(const graph_node *node, const graph_value *const *inputs, graph_value *outputs)
{
    const graph_value *x = inputs[0], *fill = infer_input(node, inputs, 2);
    int64_t begin[PAL_MAX_RANK], end[PAL_MAX_RANK], shape[PAL_MAX_RANK];
    pal_status status = resolve_pads(node, inputs, begin, end);
    if (status)
        return status;
    if (fill && graph_elements(fill) != 1)
        return infer_fail(node, "its value is no single number");
    for (size_t d = 0; d < x->rank; d++) {
        shape[d] = x->shape[d] + begin[d] + end[d];
        if (shape[d] < 0)
            return infer_fail(node, "its pads cut away more than there is");
        if (shape[d] > 0 && x->shape[d] == 0 && node->attributes.pad.mode != PAD_CONSTANT)
            return infer_fail(node, "nothing can be repeated to fill dimension %zu", d);
    }
    return infer_set(node, &outputs[0], x->rank, shape);
}
