/* Operators that give the same elements another shape: no step at all, either way. */
#include "engine/ops/ops.h"

static pal_status forward(plan *plan, const graph_node *node)
{
    buffer *x;
    pal_status status = plan_buffer_in(plan, node->inputs[0], NULL, &x);
    return status ? status : plan_new_view(plan, node->outputs[0], x);
}

static pal_status backward(plan *plan, const graph_node *node)
{
    buffer *gradient;
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    return status ? status : plan_add_gradient_view(plan, node->inputs[0], gradient);
}

const op_kernel kernel_view = {forward, backward};
