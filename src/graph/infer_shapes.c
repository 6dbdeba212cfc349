/* Operators that give elements another shape, another order, or come from a shape alone. */
#include <math.h>
#include <string.h>

#include "graph/inference.h"

pal_status infer_reshape(const graph_node *node, const graph_value *const *inputs,
                         graph_value *outputs)
{
    const graph_value *x = inputs[0];
    int64_t shape[PAL_MAX_RANK];
    size_t rank, open = SIZE_MAX;
    uint64_t known = 1, elements = graph_elements(x);
    pal_status status = infer_ints(node, "shape", inputs[1], shape, PAL_MAX_RANK, &rank);
    if (status)
        return status;
    for (size_t d = 0; d < rank; d++) {
        if (shape[d] == 0 && !node->attributes.reshape.allow_zero) {
            if (d >= x->rank)
                return infer_fail(node, "its shape copies dimension %zu of %zu", d, x->rank);
            shape[d] = x->shape[d];
        }
        if (shape[d] == -1) {
            if (open != SIZE_MAX)
                return infer_fail(node, "its shape leaves two dimensions open");
            open = d;
        } else if (shape[d] < 0 || shape[d] > INFER_MAX_EXTENT) {
            return infer_fail(node, "its shape has extent %lld", (long long)shape[d]);
        } else if (shape[d] && known > INFER_MAX_ELEMENTS / (uint64_t)shape[d]) {
            return infer_fail(node, "its result is too large");
        } else {
            known *= (uint64_t)shape[d];
        }
    }
    if (open != SIZE_MAX) {
        if (!known || elements % known)
            return infer_fail(node, "%llu elements do not fit its shape",
                              (unsigned long long)elements);
        shape[open] = (int64_t)(elements / known);
    } else if (known != elements) {
        return infer_fail(node, "%llu elements in a shape for %llu", (unsigned long long)elements,
                          (unsigned long long)known);
    }
    return infer_set(node, &outputs[0], rank, shape);
}

pal_status infer_squeeze(const graph_node *node, const graph_value *const *inputs,
                         graph_value *outputs)
{
    const graph_value *x = inputs[0], *axes = infer_input(node, inputs, 1);
    bool flags[PAL_MAX_RANK];
    int64_t shape[PAL_MAX_RANK];
    size_t rank = 0;
    pal_status status = resolve_axes(node, axes, x->rank, flags);
    if (status)
        return status;
    for (size_t d = 0; d < x->rank; d++) {
        if (flags[d] && x->shape[d] != 1)
            return infer_fail(node, "dimension %zu has extent %lld and cannot go", d,
                              (long long)x->shape[d]);
        if (axes ? !flags[d] : x->shape[d] != 1)
            shape[rank++] = x->shape[d];
    }
    return infer_set(node, &outputs[0], rank, shape);
}

pal_status infer_unsqueeze(const graph_node *node, const graph_value *const *inputs,
                           graph_value *outputs)
{
    const graph_value *x = inputs[0];
    int64_t axes[PAL_MAX_RANK], shape[PAL_MAX_RANK];
    bool flags[PAL_MAX_RANK] = {0};
    size_t count, axis;
    pal_status status = infer_ints(node, "list of axes", inputs[1], axes, PAL_MAX_RANK, &count);
    if (status)
        return status;
    if (x->rank + count > PAL_MAX_RANK)
        return infer_fail(node, "its result has too many dimensions");
    for (size_t i = 0; i < count; i++) {
        status = resolve_axis(node, axes[i], x->rank + count, &axis);
        if (status)
            return status;
        if (flags[axis])
            return infer_fail(node, "axis %zu twice", axis);
        flags[axis] = true;
    }
    for (size_t d = 0, from = 0; d < x->rank + count; d++)
        shape[d] = flags[d] ? 1 : x->shape[from++];
    return infer_set(node, &outputs[0], x->rank + count, shape);
}

pal_status infer_flatten(const graph_node *node, const graph_value *const *inputs,
                         graph_value *outputs)
{
    const graph_value *x = inputs[0];
    const int64_t rank = (int64_t)x->rank;
    int64_t axis = node->attributes.flatten.axis, shape[2] = {1, 1};
    if (axis < -rank || axis > rank)
        return infer_fail(node, "axis %lld of a value of %zu dimensions", (long long)axis, x->rank);
    axis = axis < 0 ? axis + rank : axis;
    for (int64_t d = 0; d < rank; d++)
        shape[d >= axis] *= x->shape[d];
    return infer_set(node, &outputs[0], 2, shape);
}

pal_status infer_transpose(const graph_node *node, const graph_value *const *inputs,
                           graph_value *outputs)
{
    const graph_value *x = inputs[0];
    const size_t count = node->attributes.transpose.count;
    bool seen[PAL_MAX_RANK] = {0};
    int64_t shape[PAL_MAX_RANK];
    if (count && count != x->rank)
        return infer_fail(node, "it orders %zu dimensions of %zu", count, x->rank);
    for (size_t d = 0; d < x->rank; d++) {
        const int64_t given = count ? node->attributes.transpose.perm[d] : 0;
        if (given < 0 || given >= (int64_t)x->rank)
            return infer_fail(node, "axis %lld of a value of %zu dimensions", (long long)given,
                              x->rank);
        const size_t from = count ? (size_t)given : x->rank - 1 - d;
        if (seen[from])
            return infer_fail(node, "axis %zu twice", from);
        seen[from] = true;
        shape[d] = x->shape[from];
    }
    return infer_set(node, &outputs[0], x->rank, shape);
}

pal_status infer_expand(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    int64_t wanted[PAL_MAX_RANK], shape[PAL_MAX_RANK];
    size_t count, rank;
    pal_status status = infer_ints(node, "shape", inputs[1], wanted, PAL_MAX_RANK, &count);
    if (status)
        return status;
    for (size_t d = 0; d < count; d++)
        if (wanted[d] < 0)
            return infer_fail(node, "its shape has extent %lld", (long long)wanted[d]);
    if (!infer_broadcast(inputs[0]->rank, inputs[0]->shape, count, wanted, &rank, shape))
        return infer_fail(node, "its input does not broadcast to its shape");
    return infer_set(node, &outputs[0], rank, shape);
}

pal_status infer_tile(const graph_node *node, const graph_value *const *inputs,
                      graph_value *outputs)
{
    const graph_value *x = inputs[0];
    int64_t repeats[PAL_MAX_RANK], shape[PAL_MAX_RANK];
    size_t count;
    pal_status status =
        infer_ints(node, "list of repeats", inputs[1], repeats, PAL_MAX_RANK, &count);
    if (status)
        return status;
    if (count != x->rank)
        return infer_fail(node, "%zu repeats for %zu dimensions", count, x->rank);
    for (size_t d = 0; d < count; d++)
        if (repeats[d] < 0 || __builtin_mul_overflow(x->shape[d], repeats[d], &shape[d]))
            return infer_fail(node, "%lld repeats", (long long)repeats[d]);
    return infer_set(node, &outputs[0], count, shape);
}

/* ---------------------------------------------------------------- blocks of pixels */

pal_status infer_depth_to_space(const graph_node *node, const graph_value *const *inputs,
                                graph_value *outputs)
{
    const graph_value *x = inputs[0];
    const int64_t size = node->attributes.blocks.size;
    if (x->rank != 4 || size < 1 || size > INFER_MAX_EXTENT / 1024 || size > 1024 ||
        x->shape[1] % (size * size))
        return infer_fail(node, "blocks of %lld in this shape", (long long)size);
    const int64_t shape[4] = {x->shape[0], x->shape[1] / (size * size), x->shape[2] * size,
                              x->shape[3] * size};
    return infer_set(node, &outputs[0], 4, shape);
}

pal_status infer_space_to_depth(const graph_node *node, const graph_value *const *inputs,
                                graph_value *outputs)
{
    const graph_value *x = inputs[0];
    const int64_t size = node->attributes.blocks.size;
    if (x->rank != 4 || size < 1 || size > 1024 || x->shape[2] % size || x->shape[3] % size)
        return infer_fail(node, "blocks of %lld in this shape", (long long)size);
    const int64_t shape[4] = {x->shape[0], x->shape[1] * size * size, x->shape[2] / size,
                              x->shape[3] / size};
    return infer_set(node, &outputs[0], 4, shape);
}

/* ---------------------------------------------------------------- shapes as values */

pal_status infer_shape(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    const int64_t rank = (int64_t)inputs[0]->rank;
    int64_t start = node->attributes.shape.start, end = node->attributes.shape.end;
    start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
    end = end < -rank ? 0 : end < 0 ? end + rank : end > rank ? rank : end;
    const int64_t extent = end > start ? end - start : 0;
    return infer_set(node, &outputs[0], 1, &extent);
}

pal_status infer_size(const graph_node *node, const graph_value *const *inputs,
                      graph_value *outputs)
{
    (void)inputs;
    return infer_set(node, &outputs[0], 0, NULL);
}

pal_status infer_constant_of_shape(const graph_node *node, const graph_value *const *inputs,
                                   graph_value *outputs)
{
    int64_t shape[PAL_MAX_RANK];
    size_t rank;
    pal_status status = infer_ints(node, "shape", inputs[0], shape, PAL_MAX_RANK, &rank);
    if (!status && graph_elements(inputs[1]) != 1)
        status = infer_fail(node, "its value is no single number");
    return status ? status : infer_set(node, &outputs[0], rank, shape);
}

/* The number of steps from start to below (or above) limit. */
static double steps_of(double start, double limit, double delta)
{
    const double steps = ceil((limit - start) / delta);
    return steps > 0 ? steps : 0;
}

pal_status infer_range(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    double numbers[3];
    for (size_t i = 0; i < 3; i++) {
        float real;
        int64_t whole;
        size_t count;
        pal_status status = inputs[i]->type == GRAPH_FLOAT
                                ? infer_floats(node, "bound", inputs[i], &real, 1, &count)
                                : infer_ints(node, "bound", inputs[i], &whole, 1, &count);
        if (status)
            return status;
        if (count != 1)
            return infer_fail(node, "a bound of it is no single number");
        numbers[i] = inputs[i]->type == GRAPH_FLOAT ? (double)real : (double)whole;
    }
    const double steps = steps_of(numbers[0], numbers[1], numbers[2]);
    if (!(numbers[2] != 0) || !(steps <= (double)INFER_MAX_EXTENT))
        return infer_fail(node, "it has no end");
    const int64_t extent = (int64_t)steps;
    return infer_set(node, &outputs[0], 1, &extent);
}
