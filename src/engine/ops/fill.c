/* Tensors that come from little: constants of a shape, ranges, one-hot vectors, places of
 * non-zeros. */
#include <math.h>
#include <string.h>

#include "engine/ops/ops.h"
#include "graph/infer.h"

/* ---------------------------------------------------------------- one value everywhere */

static pal_status run_fill(const step *step)
{
    const buffer *to = step->writes[0];
    const size_t element = graph_type_size(to->type);
    unsigned char value[8] = {0};
    if (step->reads[1])
        memcpy(value, step->reads[1]->data, element);
    for (uint64_t i = 0; i < to->elements; i++)
        memcpy((unsigned char *)to->data + i * element, value, element);
    return PAL_OK;
}

static pal_status fill(plan *plan, const graph_node *node)
{
    return plan_simple(plan, node, "fill", run_fill, NULL, NULL);
}

const op_kernel kernel_constant_of_shape = {fill, NULL};

/* ---------------------------------------------------------------- ranges */

static pal_status run_range(const step *step)
{
    const buffer *to = step->writes[0];
    if (to->type == GRAPH_INT) {
        const int64_t start = *(const int64_t *)step->reads[0]->data;
        const int64_t delta = *(const int64_t *)step->reads[2]->data;
        for (uint64_t i = 0; i < to->elements; i++)
            ((int64_t *)to->data)[i] =
                (int64_t)((uint64_t)start + i * (uint64_t)delta); /* wraps rather than overflow */
    } else {
        const float start = *(const float *)step->reads[0]->data;
        const float delta = *(const float *)step->reads[2]->data;
        for (uint64_t i = 0; i < to->elements; i++)
            ((float *)to->data)[i] = start + (float)i * delta;
    }
    return PAL_OK;
}

static pal_status range(plan *plan, const graph_node *node)
{
    return plan_simple(plan, node, "range", run_range, NULL, NULL);
}

const op_kernel kernel_range = {range, NULL};

/* ---------------------------------------------------------------- one-hot */

typedef struct one_hot {
    size_t inner; /* elements behind the axis */
    int64_t depth;
    size_t element;
    bool by_float; /* indices are floats */
} one_hot;

static pal_status run_one_hot(const step *step)
{
    const one_hot *it = step->state;
    const buffer *indices = step->reads[0], *to = step->writes[0];
    const unsigned char *off = step->reads[2]->data, *on = off + it->element;
    for (uint64_t i = 0; i < to->elements; i++)
        memcpy((unsigned char *)to->data + i * it->element, off, it->element);
    for (uint64_t i = 0; i < indices->elements; i++) {
        int64_t index;
        if (it->by_float) {
            const float given = ((const float *)indices->data)[i];
            if (!(fabsf(given) <= 0x1p31F))
                continue;
            index = (int64_t)given;
        } else {
            index = ((const int64_t *)indices->data)[i];
        }
        if (index < -it->depth || index >= it->depth) /* such a place is off everywhere */
            continue;
        index = index < 0 ? index + it->depth : index;
        const uint64_t at =
            (i / it->inner * (uint64_t)it->depth + (uint64_t)index) * it->inner + i % it->inner;
        memcpy((unsigned char *)to->data + at * it->element, on, it->element);
    }
    return PAL_OK;
}

static pal_status one_hot_forward(plan *plan, const graph_node *node)
{
    const graph_value *y = plan_output(plan, node, 0), *x = plan_input(plan, node, 0);
    size_t axis;
    one_hot *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.one_hot.axis, y->rank, &axis);
    if (status)
        return status;
    *it = (one_hot){1, y->shape[axis], graph_type_size(y->type), x->type == GRAPH_FLOAT};
    for (size_t d = axis + 1; d < y->rank; d++)
        it->inner *= (size_t)y->shape[d];
    return plan_simple(plan, node, "one-hot", run_one_hot, it, NULL);
}

const op_kernel kernel_one_hot = {one_hot_forward, NULL};

/* ---------------------------------------------------------------- places of what is not zero */

static bool is_zero(const buffer *x, uint64_t i)
{
    switch (x->type) {
    case GRAPH_FLOAT: return ((const float *)x->data)[i] == 0;
    case GRAPH_INT: return ((const int64_t *)x->data)[i] == 0;
    default: return ((const uint8_t *)x->data)[i] == 0;
    }
}

static pal_status run_non_zero(const step *step)
{
    const buffer *x = step->reads[0], *to = step->writes[0];
    int64_t *places = to->data;
    const int64_t found = to->shape[1];
    int64_t n = 0;
    for (uint64_t i = 0; i < x->elements && n < found; i++) {
        if (is_zero(x, i))
            continue;
        uint64_t rest = i;
        for (size_t d = x->rank; d-- > 0;) {
            places[(int64_t)d * found + n] = (int64_t)(rest % (uint64_t)x->shape[d]);
            rest /= (uint64_t)x->shape[d];
        }
        n++;
    }
    return PAL_OK;
}

/* Only constants: elsewhere the result's shape is not known before it is computed, and inference
 * has refused it. */
static pal_status non_zero(plan *plan, const graph_node *node)
{
    return plan_simple(plan, node, "non-zero", run_non_zero, NULL, NULL);
}

const op_kernel kernel_non_zero = {non_zero, NULL};
