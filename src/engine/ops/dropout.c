/* Dropout: the identity while nothing is trained. */
#include <string.h>

#include "engine/ops/compute.h"

static pal_status run_mask(const step *step)
{
    memset(step->writes[0]->data, 1, step->writes[0]->bytes);
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    buffer *x, *mask;
    if (plan_get_options(plan)->training)
        return fail(PAL_ERROR_UNSUPPORTED, "dropout that drops");
    pal_status status = plan_buffer_in(plan, node->inputs[0], NULL, &x);
    if (!status)
        status = plan_new_view(plan, node->outputs[0], x);
    if (status || !plan_output(plan, node, 1))
        return status;
    status = plan_new_buffer(plan, node->outputs[1], NULL, &mask);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "mask", run_mask, NULL, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->writes[0] = mask;
    return PAL_OK;
}

const op_kernel kernel_dropout = {.forward = forward};
