/* Running sums along an axis. */
#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

typedef struct scan {
    int64_t outer, extent, inner;
    bool exclusive, reverse;
} scan;

#define SCAN(type, total_type)                                                                     \
    {                                                                                              \
        const type *from = (const type *)step->reads[0]->data + start;                             \
        type *to = (type *)step->writes[0]->data + start;                                          \
        total_type total = 0;                                                                      \
        for (int64_t e = 0; e < it->extent; e++) {                                                 \
            const int64_t at = (it->reverse ? it->extent - 1 - e : e) * it->inner;                 \
            const total_type value = (total_type)from[at];                                         \
            if (it->exclusive)                                                                     \
                to[at] = (type)total;                                                              \
            total += value;                                                                        \
            if (!it->exclusive)                                                                    \
                to[at] = (type)total;                                                              \
        }                                                                                          \
        break;                                                                                     \
    }

static pal_status run(const step *step)
{
    const scan *it = step->state;
    for (int64_t o = 0; o < it->outer; o++)
        for (int64_t i = 0; i < it->inner; i++) {
            const int64_t start = o * it->extent * it->inner + i;
            switch (step->reads[0]->type) {
            case GRAPH_FLOAT: SCAN(float, double)
            case GRAPH_INT: SCAN(int64_t, uint64_t)
            case GRAPH_BOOL: return fail(PAL_ERROR_UNSUPPORTED, "running sums of booleans");
            }
        }
    return PAL_OK;
}

static pal_status scan_new(plan *plan, const graph_node *node, scan **out)
{
    const graph_value *x = plan_input(plan, node, 0), *axis_value = plan_input(plan, node, 1);
    size_t axis;
    scan *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    if (!axis_value || !axis_value->constant || axis_value->type != GRAPH_INT ||
        axis_value->constant->elements != 1)
        return fail(PAL_ERROR_UNSUPPORTED, "its axis is not constant");
    pal_status status =
        resolve_axis(node, *(const int64_t *)axis_value->constant->data, x->rank, &axis);
    if (status)
        return status;
    *it = (scan){1, x->shape[axis], 1, node->attributes.cumsum.exclusive,
                 node->attributes.cumsum.reverse};
    for (size_t d = 0; d < x->rank; d++) {
        if (d < axis)
            it->outer *= x->shape[d];
        else if (d > axis)
            it->inner *= x->shape[d];
    }
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    scan *it;
    pal_status status = scan_new(plan, node, &it);
    return status ? status : plan_simple(plan, node, "running sum", run, it, NULL);
}

/* An element is part of the sums from it on: the running sum from the other end. */
static pal_status backward(plan *plan, const graph_node *node)
{
    scan *it;
    pal_status status = scan_new(plan, node, &it);
    if (status)
        return status;
    it->reverse = !it->reverse;
    return back_source(plan, node, "running sum", run, it, NULL, 0);
}

const op_kernel kernel_cumsum = {forward, backward};
