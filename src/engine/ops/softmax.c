/* Softmax along an axis, or its logarithm. */
#include <math.h>

#include "engine/ops/back.h"
#include "engine/ops/compute.h"
#include "graph/infer.h"

/* What is before the axis, the axis, and what is after it. */
typedef struct slab {
    int64_t outer, extent, inner;
    bool logarithm;
} slab;

/* dx = y (dy - sum y dy), and of the logarithm dx = dy - e^y sum dy. */
static pal_status run_back(const step *step)
{
    const slab *it = step->state;
    const bool logarithm = it->logarithm;
    const int64_t n = it->extent, stride = it->inner;
#pragma omp parallel for schedule(static) if (it->outer * n * stride > 4096)
    for (int64_t row = 0; row < it->outer * it->inner; row++) {
        const int64_t start = row / stride * n * stride + row % stride;
        const float *dy = (const float *)step->reads[0]->data + start;
        const float *y = (const float *)step->reads[1]->data + start;
        float *dx = (float *)step->writes[0]->data + start;
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += logarithm ? (double)dy[i * stride] : (double)dy[i * stride] * y[i * stride];
        const float mean = (float)sum;
        for (int64_t i = 0; i < n; i++)
            dx[i * stride] = logarithm ? dy[i * stride] - expf(y[i * stride]) * mean
                                       : y[i * stride] * (dy[i * stride] - mean);
    }
    return PAL_OK;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    size_t axis;
    slab *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.softmax.axis, x->rank, &axis);
    if (status)
        return status;
    *it = (slab){1, x->shape[axis], 1, node->attributes.softmax.logarithm};
    for (size_t i = 0; i < x->rank; i++)
        if (i != axis)
            *(i < axis ? &it->outer : &it->inner) *= x->shape[i];
    return back_source(plan, node, "softmax's source", run_back, it, &node->outputs[0], 1);
}

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

const op_kernel kernel_softmax = {forward, backward};
