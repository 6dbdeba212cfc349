/* Normalisation: the shape stays; scales and shifts must fit it. */
#include <string.h>

#include "graph/inference.h"

pal_status infer_channel_norm(const graph_node *node, const graph_value *const *inputs,
                              graph_value *outputs)
{
    const graph_value *x = inputs[0];
    const int64_t groups = node->attributes.norm.groups;
    pal_status status = PAL_OK;
    if (x->rank < 2)
        return infer_fail(node, "a value of %zu dimensions has no channels", x->rank);
    if (node->op == OP_GROUP_NORM && (groups < 1 || x->shape[1] % groups))
        return infer_fail(node, "%lld channels in %lld groups", (long long)x->shape[1],
                          (long long)groups);
    for (size_t i = 1; !status && i < node->input_count; i++)
        status = infer_expect_vector(node, "scale or shift", inputs[i], x->shape[1]);
    return status ? status : infer_same(node, &outputs[0], x);
}

pal_status infer_axes_norm(const graph_node *node, const graph_value *const *inputs,
                           graph_value *outputs)
{
    const graph_value *x = inputs[0];
    const int64_t p = node->attributes.norm.p;
    int64_t kept[PAL_MAX_RANK];
    bool flags[PAL_MAX_RANK];
    pal_status status = resolve_norm_axes(node, x->rank, flags);
    if (status)
        return status;
    if (node->op == OP_LP_NORM && p != 1 && p != 2)
        return infer_fail(node, "norm %lld", (long long)p);
    for (size_t i = 1; i < node->input_count; i++)
        if (inputs[i] && !infer_fits(inputs[i], x->rank, x->shape))
            return infer_fail(node, "its scale or shift does not broadcast to its input");
    for (size_t d = 0; d < x->rank; d++)
        kept[d] = flags[d] ? 1 : x->shape[d];
    status = infer_same(node, &outputs[0], x);
    for (size_t i = 1; !status && i < node->output_count; i++)
        status = infer_set(node, &outputs[i], x->rank, kept);
    return status;
}

pal_status infer_lrn(const graph_node *node, const graph_value *const *inputs, graph_value *outputs)
{
    if (inputs[0]->rank < 2)
        return infer_fail(node, "a value of %zu dimensions has no channels", inputs[0]->rank);
    if (node->attributes.lrn.size < 1)
        return infer_fail(node, "size %lld", (long long)node->attributes.lrn.size);
    return infer_same(node, &outputs[0], inputs[0]);
}
