/* Scattering: updates put, or added and so on, at places of a copy of x. Updates are taken in their
 * order, so that of several for one place the last counts. */
#include <math.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

typedef struct scattering {
    int reduction;
    graph_type type;
    size_t rank, axis;
    int64_t shape[PAL_MAX_RANK]; /* elements: of the indices */
    int64_t extent[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    size_t count, length, inner; /* nd: tuples, indices in each, elements of a slice */
} scattering;

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

static pal_status describe_elements(plan *plan, const graph_node *node, scattering **out)
{
    const graph_value *indices = plan_input(plan, node, 1);
    scattering *it = *out = scattering_new(plan, node);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.scatter.axis, it->rank, &it->axis);
    if (status)
        return status;
    memcpy(it->shape, indices->shape, sizeof it->shape);
    return PAL_OK;
}

static pal_status scatter_elements(plan *plan, const graph_node *node)
{
    scattering *it;
    pal_status status = describe_elements(plan, node, &it);
    return status ? status : plan_simple(plan, node, "scatter elements", run_elements, it, NULL);
}

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

static pal_status describe_nd(plan *plan, const graph_node *node, scattering **out)
{
    const graph_value *indices = plan_input(plan, node, 1);
    scattering *it = *out = scattering_new(plan, node);
    if (!it)
        return PAL_ERROR_MEMORY;
    it->count = it->inner = 1;
    it->length = (size_t)indices->shape[indices->rank - 1];
    for (size_t d = 0; d + 1 < indices->rank; d++)
        it->count *= (size_t)indices->shape[d];
    for (size_t d = it->length; d < it->rank; d++)
        it->inner *= (size_t)it->extent[d];
    return PAL_OK;
}

static pal_status scatter_nd(plan *plan, const graph_node *node)
{
    scattering *it;
    pal_status status = describe_nd(plan, node, &it);
    return status ? status : plan_simple(plan, node, "scatter nd", run_nd, it, NULL);
}

/* ---------------------------------------------------------------- the way back */

/* Where element i of the updates goes. The forward run has checked the indices. */
static size_t place_of(const scattering *it, const int64_t *list, uint64_t i)
{
    int64_t at = 0;
    if (it->inner) {
        const int64_t *tuple = list + i / it->inner * it->length;
        for (size_t d = 0; d < it->length; d++)
            at += (tuple[d] < 0 ? tuple[d] + it->extent[d] : tuple[d]) * it->strides[d];
        return (size_t)at + (size_t)(i % it->inner);
    }
    uint64_t rest = i;
    for (size_t d = it->rank; d-- > 0;) {
        const int64_t own = (int64_t)(rest % (uint64_t)it->shape[d]);
        rest /= (uint64_t)it->shape[d];
        const int64_t index = list[i] < 0 ? list[i] + it->extent[d] : list[i];
        at += it->strides[d] * (d == it->axis ? index : own);
    }
    return (size_t)at;
}

enum { READ_G, READ_INDICES, READ_X, READ_UPDATES, READ_Y };

/* What a run of the way back looks at. */
typedef struct scatter_back {
    const scattering *it;
    const float *g, *x, *updates, *y;
    const int64_t *list;
    float *dx, *dupdates, *aside;
    uint64_t elements, count; /* of x, of the updates */
} scatter_back;

/* The last update of a place took it: it alone has the gradient. */
static void back_of_put(const scatter_back *b)
{
    memcpy(b->dx, b->g, b->elements * sizeof *b->dx);
    for (uint64_t i = b->count; i-- > 0;) {
        const size_t at = place_of(b->it, b->list, i);
        b->dupdates[i] = b->dx[at];
        b->dx[at] = 0;
    }
}

static void back_of_add(const scatter_back *b)
{
    memcpy(b->dx, b->g, b->elements * sizeof *b->dx);
    for (uint64_t i = 0; i < b->count; i++)
        b->dupdates[i] = b->g[place_of(b->it, b->list, i)];
}

/* By a factor: the product of the others, which is looked for where division does not give it. */
static void back_of_product(const scatter_back *b)
{
    for (uint64_t e = 0; e < b->elements; e++)
        b->aside[e] = 1;
    for (uint64_t i = 0; i < b->count; i++)
        b->aside[place_of(b->it, b->list, i)] *= b->updates[i];
    for (uint64_t e = 0; e < b->elements; e++)
        b->dx[e] = b->g[e] * b->aside[e];
    for (uint64_t i = 0; i < b->count; i++) {
        const size_t at = place_of(b->it, b->list, i);
        float others = b->updates[i] != 0 ? b->aside[at] / b->updates[i] : 1;
        for (uint64_t k = 0; b->updates[i] == 0 && k < b->count; k++)
            if (k != i && place_of(b->it, b->list, k) == at)
                others *= b->updates[k];
        b->dupdates[i] = b->g[at] * b->x[at] * others;
    }
}

/* Those that are the extreme share its gradient. */
static void back_of_extreme(const scatter_back *b)
{
    for (uint64_t e = 0; e < b->elements; e++)
        b->aside[e] = b->x[e] == b->y[e];
    for (uint64_t i = 0; i < b->count; i++) {
        const size_t at = place_of(b->it, b->list, i);
        b->aside[at] += b->updates[i] == b->y[at];
    }
    for (uint64_t e = 0; e < b->elements; e++)
        b->dx[e] = b->x[e] == b->y[e] ? b->g[e] / b->aside[e] : 0;
    for (uint64_t i = 0; i < b->count; i++) {
        const size_t at = place_of(b->it, b->list, i);
        b->dupdates[i] = b->updates[i] == b->y[at] ? b->g[at] / b->aside[at] : 0;
    }
}

static pal_status run_back(const step *step)
{
    const scatter_back b = {.it = step->state,
                            .g = step->reads[READ_G]->data,
                            .x = step->reads[READ_X]->data,
                            .updates = step->reads[READ_UPDATES]->data,
                            .y = step->reads[READ_Y]->data,
                            .list = step->reads[READ_INDICES]->data,
                            .dx = step->writes[0]->data,
                            .dupdates = step->writes[1]->data,
                            .aside = step->scratch->data,
                            .elements = step->reads[READ_G]->elements,
                            .count = step->reads[READ_UPDATES]->elements};
    if (!b.elements)
        return PAL_OK;
    switch (b.it->reduction) {
    case SCATTER_ADD: back_of_add(&b); break;
    case SCATTER_MUL: back_of_product(&b); break;
    case SCATTER_MIN:
    case SCATTER_MAX: back_of_extreme(&b); break;
    default: back_of_put(&b);
    }
    return PAL_OK;
}

static pal_status add_back(plan *plan, const graph_node *node, scattering *it)
{
    const graph_value *x = plan_input(plan, node, 0), *updates = plan_input(plan, node, 2);
    const size_t values[] = {node->inputs[1], node->inputs[0], node->inputs[2], node->outputs[0]};
    buffer *reads[5], *shares[2], *scratch;
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[READ_G]);
    for (size_t i = 0; !status && i < 4; i++)
        status = plan_buffer_in(plan, values[i], NULL, &reads[1 + i]);
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, updates->rank, updates->shape, NULL, 0,
                                    &shares[1]);
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, x->rank, x->shape, NULL, 0, &scratch);
    if (!status)
        status =
            back_step(plan, node, "scatter's sources", run_back, it, NULL, x, reads, 5, &shares[0]);
    if (status)
        return status;
    plan_last_step(plan)->writes[1] = shares[1];
    plan_last_step(plan)->scratch = scratch;
    for (size_t i = 0; !status && i < 2; i++)
        if (plan_wants_gradient(plan, node->inputs[2 * i]))
            status = plan_add_gradient(plan, node->inputs[2 * i], shares[i]);
    return status;
}

static pal_status scatter_elements_back(plan *plan, const graph_node *node)
{
    scattering *it;
    pal_status status = describe_elements(plan, node, &it);
    return status ? status : add_back(plan, node, it);
}

static pal_status scatter_nd_back(plan *plan, const graph_node *node)
{
    scattering *it;
    pal_status status = describe_nd(plan, node, &it);
    return status ? status : add_back(plan, node, it);
}

const op_kernel kernel_scatter_elements = {scatter_elements, scatter_elements_back};
const op_kernel kernel_scatter_nd = {scatter_nd, scatter_nd_back};
