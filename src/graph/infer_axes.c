/* Operators along axes: reductions, searches, running sums. */
#include <math.h>
#include <string.h>

#include "graph/inference.h"

pal_status infer_softmax(const graph_node *node, const graph_value *const *inputs,
                         graph_value *outputs)
{
    size_t axis = 0;
    pal_status status = resolve_axis(node, node->attributes.softmax.axis, inputs[0]->rank, &axis);
    return status ? status : infer_same(node, &outputs[0], inputs[0]);
}

/* The shape without the axes, or with 1 in their place. */
static pal_status without(const graph_node *node, const graph_value *x, const bool *flags,
                          bool keep, graph_value *out)
{
    int64_t shape[PAL_MAX_RANK];
    size_t rank = 0;
    for (size_t d = 0; d < x->rank; d++)
        if (!flags[d] || keep)
            shape[rank++] = flags[d] ? 1 : x->shape[d];
    return infer_set(node, out, rank, shape);
}

pal_status infer_reduce(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    const graph_value *x = inputs[0];
    bool flags[PAL_MAX_RANK], any = false;
    pal_status status = resolve_axes(node, infer_input(node, inputs, 1), x->rank, flags);
    if (status)
        return status;
    for (size_t d = 0; d < x->rank; d++)
        any = any || flags[d];
    for (size_t d = 0; d < x->rank && !any; d++)
        flags[d] = !node->attributes.reduce.empty_is_none;
    return without(node, x, flags, node->attributes.reduce.keep_dims, &outputs[0]);
}

pal_status infer_argmax(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    const graph_value *x = inputs[0];
    bool flags[PAL_MAX_RANK] = {0};
    size_t axis = 0;
    pal_status status = resolve_axis(node, node->attributes.argmax.axis, x->rank, &axis);
    if (status)
        return status;
    if (x->shape[axis] == 0)
        return infer_fail(node, "nothing is largest along an axis of extent 0");
    flags[axis] = true;
    return without(node, x, flags, node->attributes.argmax.keep_dims, &outputs[0]);
}

/* A single number that is constant. */
static pal_status one_int(const graph_node *node, const char *what, const graph_value *value,
                          int64_t *number)
{
    size_t count;
    pal_status status = infer_ints(node, what, value, number, 1, &count);
    if (!status && count != 1)
        status = infer_fail(node, "its %s is no single number", what);
    return status;
}

pal_status infer_cumsum(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    int64_t number;
    size_t axis = 0;
    pal_status status = one_int(node, "axis", inputs[1], &number);
    if (!status)
        status = resolve_axis(node, number, inputs[0]->rank, &axis);
    return status ? status : infer_same(node, &outputs[0], inputs[0]);
}

pal_status infer_topk(const graph_node *node, const graph_value *const *inputs,
                      graph_value *outputs)
{
    graph_value result = *inputs[0];
    int64_t k;
    size_t axis = 0;
    pal_status status = one_int(node, "k", inputs[1], &k);
    if (!status)
        status = resolve_axis(node, node->attributes.topk.axis, result.rank, &axis);
    if (status)
        return status;
    if (k < 0 || k > result.shape[axis])
        return infer_fail(node, "the best %lld of %lld", (long long)k,
                          (long long)result.shape[axis]);
    result.shape[axis] = k;
    for (size_t i = 0; !status && i < node->output_count; i++)
        status = infer_set(node, &outputs[i], result.rank, result.shape);
    return status;
}

pal_status infer_one_hot(const graph_node *node, const graph_value *const *inputs,
                         graph_value *outputs)
{
    const graph_value *indices = inputs[0], *depth = inputs[1];
    int64_t shape[PAL_MAX_RANK + 1], number;
    size_t axis, count;
    float real;
    pal_status status = PAL_OK;
    if (depth->type == GRAPH_FLOAT) {
        status = infer_floats(node, "depth", depth, &real, 1, &count);
        if (!status && (count != 1 || !(real >= 0 && real < 0x1p40F)))
            status = infer_fail(node, "its depth is no extent");
        number = status ? 0 : (int64_t)real;
    } else {
        status = one_int(node, "depth", depth, &number);
    }
    if (!status)
        status = resolve_axis(node, node->attributes.one_hot.axis, indices->rank + 1, &axis);
    if (!status)
        status = infer_expect_vector(node, "pair of values", inputs[2], 2);
    if (status)
        return status;
    for (size_t d = 0, from = 0; d < indices->rank + 1; d++)
        shape[d] = d == axis ? number : indices->shape[from++];
    return infer_set(node, &outputs[0], indices->rank + 1, shape);
}

pal_status infer_non_zero(const graph_node *node, const graph_value *const *inputs,
                          graph_value *outputs)
{
    const graph_value *x = inputs[0];
    int64_t shape[2] = {(int64_t)x->rank, 0};
    if (!x->constant)
        return graph_node_failed(node, fail(PAL_ERROR_UNSUPPORTED,
                                            "how much it finds depends on the model's input, so "
                                            "shapes cannot be known before it runs"));
    for (uint64_t i = 0; i < x->constant->elements; i++)
        switch (x->type) {
        case GRAPH_FLOAT: shape[1] += ((const float *)x->constant->data)[i] != 0; break;
        case GRAPH_INT: shape[1] += ((const int64_t *)x->constant->data)[i] != 0; break;
        case GRAPH_BOOL: shape[1] += ((const uint8_t *)x->constant->data)[i] != 0; break;
        }
    return infer_set(node, &outputs[0], 2, shape);
}

pal_status infer_trilu(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    const graph_value *k = infer_input(node, inputs, 1);
    if (inputs[0]->rank < 2)
        return infer_fail(node, "a triangle of a value of %zu dimensions", inputs[0]->rank);
    if (k && graph_elements(k) != 1)
        return infer_fail(node, "its diagonal is no single number");
    return infer_same(node, &outputs[0], inputs[0]);
}

pal_status infer_reverse(const graph_node *node, const graph_value *const *inputs,
                         graph_value *outputs)
{
    const int64_t batch = node->attributes.sequence.batch_axis;
    const int64_t time = node->attributes.sequence.time_axis;
    if (inputs[0]->rank < 2 || batch < 0 || batch > 1 || time != 1 - batch)
        return infer_fail(node, "batch and time are its first two axes");
    pal_status status =
        infer_expect_vector(node, "list of lengths", inputs[1], inputs[0]->shape[batch]);
    return status ? status : infer_same(node, &outputs[0], inputs[0]);
}
