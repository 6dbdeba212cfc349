/* Element by element: the shapes of the inputs, broadcast. */
#include "graph/inference.h"

#include <string.h>

pal_status infer_elementwise(const graph_node *node, const graph_value *const *inputs,
                             graph_value *outputs)
{
    graph_value result = *inputs[0];
    pal_status status = PAL_OK;
    for (size_t i = 1; !status && i < node->input_count; i++)
        status = resolve_broadcast(node, &result, inputs[i], &result.rank, result.shape);
    for (size_t i = 0; !status && i < node->output_count; i++)
        status = infer_set(node, &outputs[i], result.rank, result.shape);
    return status;
}

pal_status infer_clip(const graph_node *node, const graph_value *const *inputs,
                      graph_value *outputs)
{
    for (size_t i = 1; i < node->input_count; i++)
        if (inputs[i] && graph_elements(inputs[i]) != 1)
            return infer_fail(node, "its bound is no single number");
    return infer_same(node, &outputs[0], inputs[0]);
}

pal_status infer_prelu(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    if (!infer_fits(inputs[1], inputs[0]->rank, inputs[0]->shape))
        return infer_fail(node, "its slope does not broadcast to its input");
    return infer_same(node, &outputs[0], inputs[0]);
}
