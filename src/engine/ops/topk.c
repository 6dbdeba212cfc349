/* The k largest or smallest along an axis, in order; of equal ones the first comes first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

typedef struct topk {
    int64_t outer, extent, inner, k;
    bool smallest;
} topk;

typedef struct candidate {
    double value; /* floats exactly; integers to 2^53, beyond which `integer` decides */
    int64_t integer, index;
} candidate;

/* NaN counts as the largest, as NumPy and PyTorch have it. */
static int order(const candidate *a, const candidate *b, bool smallest)
{
    const bool nan_a = isnan(a->value), nan_b = isnan(b->value);
    int by_value = nan_a || nan_b ? nan_a - nan_b : (a->value > b->value) - (a->value < b->value);
    if (!by_value)
        by_value = (a->integer > b->integer) - (a->integer < b->integer);
    if (by_value)
        return smallest ? by_value : -by_value;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int larger_first(const void *a, const void *b)
{
    return order(a, b, false);
}

static int smaller_first(const void *a, const void *b)
{
    return order(a, b, true);
}

/* Keeps the best k in a heap whose root is the worst of them. */
static void sift(candidate *heap, int64_t count, int64_t at, bool smallest)
{
    for (;;) {
        int64_t worst = at;
        for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
            if (order(&heap[child], &heap[worst], smallest) > 0)
                worst = child;
        if (worst == at)
            return;
        candidate moved = heap[at];
        heap[at] = heap[worst];
        heap[worst] = moved;
        at = worst;
    }
}

static candidate element(const buffer *x, int64_t at, int64_t index)
{
    switch (x->type) {
    case GRAPH_FLOAT: return (candidate){((const float *)x->data)[at], 0, index};
    case GRAPH_INT: {
        const int64_t value = ((const int64_t *)x->data)[at];
        return (candidate){(double)value, value, index};
    }
    default: return (candidate){((const uint8_t *)x->data)[at], 0, index};
    }
}

static void select_best(const topk *it, const buffer *x, int64_t start, candidate *heap)
{
    int64_t count = 0;
    for (int64_t e = 0; e < it->extent; e++) {
        const candidate next = element(x, start + e * it->inner, e);
        if (count < it->k) {
            heap[count++] = next;
            if (count == it->k)
                for (int64_t i = count / 2; i-- > 0;)
                    sift(heap, count, i, it->smallest);
        } else if (it->k && order(&next, &heap[0], it->smallest) < 0) {
            heap[0] = next;
            sift(heap, count, 0, it->smallest);
        }
    }
    qsort(heap, (size_t)count, sizeof *heap, it->smallest ? smaller_first : larger_first);
}

static pal_status run(const step *step)
{
    const topk *it = step->state;
    const buffer *x = step->reads[0];
    candidate *heap = mem_array((size_t)it->k, sizeof *heap);
    if (!heap)
        return fail_memory("the largest values");
    const size_t size = graph_type_size(x->type);
    for (int64_t o = 0; o < it->outer; o++)
        for (int64_t i = 0; i < it->inner; i++) {
            const int64_t start = o * it->extent * it->inner + i;
            select_best(it, x, start, heap);
            for (int64_t e = 0; e < it->k; e++) {
                const size_t to = (size_t)((o * it->k + e) * it->inner + i);
                const size_t from = (size_t)(start + heap[e].index * it->inner);
                if (step->writes[0])
                    memcpy((unsigned char *)step->writes[0]->data + to * size,
                           (const unsigned char *)x->data + from * size, size);
                if (step->writes[1])
                    ((int64_t *)step->writes[1]->data)[to] = heap[e].index;
            }
        }
    free(heap);
    return PAL_OK;
}

/* The gradients of the chosen values go to where they came from: they are chosen anew. */
static pal_status run_back(const step *step)
{
    const topk *it = step->state;
    const buffer *x = step->reads[1];
    const float *dy = step->reads[0]->data;
    float *dx = step->writes[0]->data;
    candidate *heap = mem_array((size_t)it->k, sizeof *heap);
    if (!heap)
        return fail_memory("the largest values");
    memset(dx, 0, step->writes[0]->bytes);
    for (int64_t o = 0; o < it->outer; o++)
        for (int64_t i = 0; i < it->inner; i++) {
            const int64_t start = o * it->extent * it->inner + i;
            select_best(it, x, start, heap);
            for (int64_t e = 0; e < it->k; e++)
                dx[start + heap[e].index * it->inner] = dy[(o * it->k + e) * it->inner + i];
        }
    free(heap);
    return PAL_OK;
}

static pal_status topk_new(plan *plan, const graph_node *node, topk **out)
{
    const graph_value *x = plan_input(plan, node, 0);
    const graph_value *y =
        plan_output(plan, node, 0) ? plan_output(plan, node, 0) : plan_output(plan, node, 1);
    size_t axis;
    topk *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.topk.axis, x->rank, &axis);
    if (status)
        return status;
    *it = (topk){1, x->shape[axis], 1, y->shape[axis], node->attributes.topk.smallest};
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
    topk *it;
    pal_status status = topk_new(plan, node, &it);
    return status ? status : plan_simple(plan, node, "top k", run, it, NULL);
}

static pal_status backward(plan *plan, const graph_node *node)
{
    topk *it;
    pal_status status = topk_new(plan, node, &it);
    return status ? status
                  : back_source(plan, node, "top k's source", run_back, it, &node->inputs[0], 1);
}

const op_kernel kernel_topk = {forward, backward};
