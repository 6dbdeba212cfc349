#include "engine/ops/back.h"

#include <string.h>

pal_status back_step(plan *plan, const graph_node *node, const char *what,
                     pal_status (*run)(const step *), void *state, void (*release)(void *),
                     const graph_value *shape, buffer *const *reads, size_t count, buffer **out)
{
    pal_status status =
        plan_new_temporary(plan, shape->type, shape->rank, shape->shape, NULL, 0, out);
    if (status) {
        if (release)
            release(state);
        return status;
    }
    step *step = plan_add_step(plan, node, what, run, state, release);
    if (!step)
        return PAL_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++)
        step->reads[i] = reads[i];
    step->writes[0] = *out;
    return PAL_OK;
}

/* ---------------------------------------------------------------- sums over what was broadcast */

pal_status back_source(plan *plan, const graph_node *node, const char *what,
                       pal_status (*run)(const step *), void *state, const size_t *values,
                       size_t count)
{
    buffer *reads[STEP_MAX_BUFFERS], *share;
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[0]);
    for (size_t i = 0; !status && i < count; i++) {
        reads[1 + i] = NULL;
        if (values[i] != GRAPH_NONE)
            status = plan_buffer_in(plan, values[i], NULL, &reads[1 + i]);
    }
    if (!status)
        status = back_step(plan, node, what, run, state, NULL, plan_input(plan, node, 0), reads,
                           1 + count, &share);
    return status ? status : plan_add_gradient(plan, node->inputs[0], share);
}

typedef struct reduction {
    walk walk; /* over what is read; it moves through the sums */
} reduction;

static pal_status run_reduce(const step *step)
{
    const reduction *it = step->state;
    const walk *walk = &it->walk;
    const float *from = step->reads[0]->data;
    float *to = step->writes[0]->data;
    const size_t last = walk->rank - 1;
    const int64_t length = walk->extent[last], stride = walk->stride[last];
    int64_t rows = 1;
    memset(to, 0, step->writes[0]->bytes);
    if (!step->reads[0]->elements)
        return PAL_OK;
    for (size_t d = 0; d < last; d++)
        rows *= walk->extent[d];
    for (int64_t r = 0; r < rows; r++, from += length) {
        int64_t at = walk->start, rest = r;
        for (size_t d = last; d-- > 0;) {
            at += rest % walk->extent[d] * walk->stride[d];
            rest /= walk->extent[d];
        }
        if (stride == 0) {
            double sum = 0;
            for (int64_t i = 0; i < length; i++)
                sum += from[i];
            to[at] += (float)sum;
        } else {
            for (int64_t i = 0; i < length; i++)
                to[at + i * stride] += from[i];
        }
    }
    return PAL_OK;
}

pal_status back_sums(plan *plan, const graph_node *node, size_t value, const walk *walk,
                     buffer *from)
{
    buffer *sums;
    reduction *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    it->walk = *walk;
    pal_status status = back_step(plan, node, "sum of broadcast", run_reduce, it, NULL,
                                  &plan_graph(plan)->values[value], &from, 1, &sums);
    return status ? status : plan_add_gradient(plan, value, sums);
}

pal_status back_reduced(plan *plan, const graph_node *node, size_t value, size_t behind,
                        buffer *from)
{
    const graph_value *of = &plan_graph(plan)->values[value];
    int64_t own[PAL_MAX_RANK], strides[PAL_MAX_RANK] = {0};
    uint64_t elements = 1;
    for (size_t d = 0; d < of->rank; d++)
        elements *= (uint64_t)of->shape[d];
    if (elements == from->elements) /* nothing was broadcast */
        return plan_add_gradient_view(plan, value, from);
    row_major_strides(of->rank, of->shape, own);
    for (size_t d = 0; d < of->rank; d++) {
        const size_t at = from->rank - behind - of->rank + d;
        strides[at] = of->shape[d] == 1 ? 0 : own[d];
    }
    const walk walk = walk_new(from->rank, from->shape, strides, 0);
    return back_sums(plan, node, value, &walk, from);
}
