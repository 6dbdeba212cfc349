/* Scattering: updates put, or added and so on, at places of a copy of x. Updates are taken in their
 * order, so that of several for one place the last counts. */
#include <math.h>
#include <string.h>

#include "engine/ops/ops.h"
#include "engine/ops/walk.h"
#include "graph/infer.h"

typedef struct scattering {
    int reduction;
    graph_type type;
    size_t rank, axis;
    int64_t shape[PAL_MAX_RANK]; /* elements: of the indices */
    int64_t extent[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    size_t count, length, inner; /* nd: tuples, indices in each, elements of a slice */
} scattering;

static pal_status bad_index(int64_t index, int64_t extent)
{
    return fail(PAL_ERROR_VALUE, "index %lld lies outside an axis of extent %lld", (long long)index,
                (long long)extent);
}

#define COMBINE(type, smaller, larger)                                                             \
    {                                                                                              \
        type *to = (type *)data + at;                                                              \
        const type *from = (const type *)updates + source;                                         \
        for (size_t i = 0; i < count; i++)                                                         \
            switch (reduction) {                                                                   \
            case SCATTER_ADD: to[i] = (type)(to[i] + from[i]); break;                              \
            case SCATTER_MUL: to[i] = (type)(to[i] * from[i]); break;                              \
            case SCATTER_MIN: to[i] = smaller(to[i], from[i]); break;                              \
            case SCATTER_MAX: to[i] = larger(to[i], from[i]); break;                               \
            default: to[i] = from[i];                                                              \
            }                                                                                      \
        break;                                                                                     \
    }

static int64_t smaller_int(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger_int(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static uint8_t both(uint8_t a, uint8_t b)
{
    return a & b;
}

static uint8_t either(uint8_t a, uint8_t b)
{
    return a | b;
}

static void combine(graph_type type, int reduction, void *data, size_t at, const void *updates,
                    size_t source, size_t count)
{
    switch (type) {
    case GRAPH_FLOAT: COMBINE(float, fminf, fmaxf)
    case GRAPH_INT: COMBINE(int64_t, smaller_int, larger_int)
    case GRAPH_BOOL: COMBINE(uint8_t, both, either)
    }
}

static void copy_input(const step *step)
{
    const buffer *x = step->reads[0];
    if (x->elements && x->data != step->writes[0]->data)
        memcpy(step->writes[0]->data, x->data, x->elements * graph_type_size(x->type));
}

static pal_status run_elements(const step *step)
{
    const scattering *it = step->state;
    const buffer *indices = step->reads[1];
    const int64_t *list = indices->data, extent = it->extent[it->axis];
    copy_input(step);
    for (uint64_t i = 0; i < indices->elements; i++) {
        uint64_t rest = i;
        int64_t at = 0;
        if (list[i] < -extent || list[i] >= extent)
            return bad_index(list[i], extent);
        for (size_t d = it->rank; d-- > 0;) {
            const int64_t own = (int64_t)(rest % (uint64_t)it->shape[d]);
            rest /= (uint64_t)it->shape[d];
            at += it->strides[d] * (d != it->axis ? own : list[i] < 0 ? list[i] + extent : list[i]);
        }
        combine(it->type, it->reduction, step->writes[0]->data, (size_t)at, step->reads[2]->data,
                (size_t)i, 1);
    }
    return PAL_OK;
}

static scattering *scattering_new(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    scattering *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return NULL;
    it->reduction = node->attributes.scatter.reduction;
    it->type = x->type;
    it->rank = x->rank;
    memcpy(it->extent, x->shape, sizeof it->extent);
    row_major_strides(x->rank, x->shape, it->strides);
    return it;
}

static pal_status scatter_elements(plan *plan, const graph_node *node)
{
    const graph_value *indices = plan_input(plan, node, 1);
    scattering *it = scattering_new(plan, node);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.scatter.axis, it->rank, &it->axis);
    if (status)
        return status;
    memcpy(it->shape, indices->shape, sizeof it->shape);
    return plan_simple(plan, node, "scatter elements", run_elements, it, NULL);
}

const op_kernel kernel_scatter_elements = {scatter_elements, NULL};

static pal_status run_nd(const step *step)
{
    const scattering *it = step->state;
    const int64_t *list = step->reads[1]->data;
    copy_input(step);
    for (size_t t = 0; t < it->count; t++, list += it->length) {
        int64_t at = 0;
        for (size_t d = 0; d < it->length; d++) {
            if (list[d] < -it->extent[d] || list[d] >= it->extent[d])
                return bad_index(list[d], it->extent[d]);
            at += (list[d] < 0 ? list[d] + it->extent[d] : list[d]) * it->strides[d];
        }
        combine(it->type, it->reduction, step->writes[0]->data, (size_t)at, step->reads[2]->data,
                t * it->inner, it->inner);
    }
    return PAL_OK;
}

static pal_status scatter_nd(plan *plan, const graph_node *node)
{
    const graph_value *indices = plan_input(plan, node, 1);
    scattering *it = scattering_new(plan, node);
    if (!it)
        return PAL_ERROR_MEMORY;
    it->count = it->inner = 1;
    it->length = (size_t)indices->shape[indices->rank - 1];
    for (size_t d = 0; d + 1 < indices->rank; d++)
        it->count *= (size_t)indices->shape[d];
    for (size_t d = it->length; d < it->rank; d++)
        it->inner *= (size_t)it->extent[d];
    return plan_simple(plan, node, "scatter nd", run_nd, it, NULL);
}

const op_kernel kernel_scatter_nd = {scatter_nd, NULL};
