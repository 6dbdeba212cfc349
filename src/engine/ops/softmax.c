/* Softmax along an axis, or its logarithm. */
#include "engine/ops/compute.h"
#include "graph/infer.h"

static pal_status forward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    buffer *from, *to;
    size_t axis;
    pal_status status = resolve_axis(node, node->attributes.softmax.axis, x->rank, &axis);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], NULL, &to);
    if (status || from->elements == 0)
        return status;
    /* As what is before the axis, the axis, and what is after it. */
    onednn_tensor tensor = {.rank = 3, .shape = {1, x->shape[axis], 1}, .form = ONEDNN_PLAIN};
    for (size_t i = 0; i < x->rank; i++)
        if (i != axis)
            tensor.shape[i < axis ? 0 : 2] *= x->shape[i];
    if (tensor.shape[2] == 1)
        tensor.rank = 2;
    onednn_primitive *primitive;
    step *step;
    status = onednn_softmax_new(&tensor, 1, node->attributes.softmax.logarithm, &primitive);
    if (status)
        return status;
    buffer *roles[ONEDNN_ROLE_COUNT] = {[ONEDNN_SRC] = from, [ONEDNN_DST] = to};
    status = onednn_add_step(plan, node, "softmax", primitive, roles, &step);
    if (!status)
        step->in_place = true;
    return status;
}

const op_kernel kernel_softmax = {.forward = forward};
