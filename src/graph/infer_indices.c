/* Gathering and scattering. */
#include <string.h>

#include "graph/inference.h"

pal_status infer_gather(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    const graph_value *x = inputs[0], *indices = inputs[1];
    int64_t shape[2 * PAL_MAX_RANK];
    size_t axis, rank = 0;
    pal_status status = resolve_axis(node, node->attributes.gather.axis, x->rank, &axis);
    if (status)
        return status;
    for (size_t d = 0; d < axis; d++)
        shape[rank++] = x->shape[d];
    for (size_t d = 0; d < indices->rank; d++)
        shape[rank++] = indices->shape[d];
    for (size_t d = axis + 1; d < x->rank; d++)
        shape[rank++] = x->shape[d];
    return infer_set(node, &outputs[0], rank, shape);
}

/* Indices of the rank of x, and along all but the axis not longer. */
static pal_status check_elements(const graph_node *node, const graph_value *x,
                                 const graph_value *indices, int64_t named)
{
    size_t axis = 0;
    pal_status status = resolve_axis(node, named, x->rank, &axis);
    if (status)
        return status;
    if (indices->rank != x->rank)
        return infer_fail(node, "its indices have %zu dimensions, its input %zu", indices->rank,
                          x->rank);
    for (size_t d = 0; d < x->rank; d++)
        if (d != axis && indices->shape[d] > x->shape[d])
            return infer_fail(node, "its indices have extent %lld in dimension %zu of %lld",
                              (long long)indices->shape[d], d, (long long)x->shape[d]);
    return PAL_OK;
}

pal_status infer_gather_elements(const graph_node *node, const graph_value *const *inputs,
                                 graph_value *outputs)
{
    pal_status status = check_elements(node, inputs[0], inputs[1], node->attributes.gather.axis);
    return status ? status : infer_same(node, &outputs[0], inputs[1]);
}

pal_status infer_scatter_elements(const graph_node *node, const graph_value *const *inputs,
                                  graph_value *outputs)
{
    pal_status status = check_elements(node, inputs[0], inputs[1], node->attributes.scatter.axis);
    if (!status)
        status =
            infer_expect(node, "tensor of updates", inputs[2], inputs[1]->rank, inputs[1]->shape);
    return status ? status : infer_same(node, &outputs[0], inputs[0]);
}

/* The shape that tuples of indices name: theirs without the last dimension, then what is left of x
 * behind `batch` and the tuple's length. */
static pal_status named_shape(const graph_node *node, const graph_value *x,
                              const graph_value *indices, size_t batch, size_t *rank,
                              int64_t shape[2 * PAL_MAX_RANK])
{
    if (!x->rank || !indices->rank)
        return infer_fail(node, "its input or its indices are a single number");
    const int64_t length = indices->shape[indices->rank - 1];
    if (batch >= indices->rank || length < 0 || (uint64_t)length > x->rank ||
        batch + (size_t)length > x->rank)
        return infer_fail(node, "tuples of %lld indices into %zu dimensions", (long long)length,
                          x->rank);
    for (size_t d = 0; d < batch; d++)
        if (indices->shape[d] != x->shape[d])
            return infer_fail(node, "batch dimension %zu of its indices is %lld, of its input %lld",
                              d, (long long)indices->shape[d], (long long)x->shape[d]);
    *rank = 0;
    for (size_t d = 0; d + 1 < indices->rank; d++)
        shape[(*rank)++] = indices->shape[d];
    for (size_t d = batch + (size_t)length; d < x->rank; d++)
        shape[(*rank)++] = x->shape[d];
    return PAL_OK;
}

pal_status infer_gather_nd(const graph_node *node, const graph_value *const *inputs,
                           graph_value *outputs)
{
    int64_t shape[2 * PAL_MAX_RANK];
    const int64_t batch = node->attributes.gather.batch_dims;
    size_t rank = 0;
    if (batch < 0 || batch >= PAL_MAX_RANK)
        return infer_fail(node, "%lld batch dimensions", (long long)batch);
    pal_status status = named_shape(node, inputs[0], inputs[1], (size_t)batch, &rank, shape);
    return status ? status : infer_set(node, &outputs[0], rank, shape);
}

pal_status infer_scatter_nd(const graph_node *node, const graph_value *const *inputs,
                            graph_value *outputs)
{
    int64_t shape[2 * PAL_MAX_RANK];
    size_t rank = 0;
    pal_status status = named_shape(node, inputs[0], inputs[1], 0, &rank, shape);
    if (!status)
        status = infer_expect(node, "tensor of updates", inputs[2], rank, shape);
    return status ? status : infer_same(node, &outputs[0], inputs[0]);
}
