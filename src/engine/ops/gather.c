/* Gathering: rows of an axis (embedding tables among them), single elements, and whole slices named
 * by tuples of indices. Indices count from the end where negative; any outside the axis is an
 * error. */
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

#define PARALLEL_BYTES ((size_t)1 << 16)

typedef struct gathering {
    size_t outer, inner; /* inner: bytes */
    int64_t extent;      /* of the axis */
    size_t of_sample;    /* backward: indices of a sample */
} gathering;

/* Checks before anything is read. */
static pal_status check_indices(const buffer *indices, int64_t extent)
{
    const int64_t *list = indices->data;
    for (uint64_t i = 0; i < indices->elements; i++)
        if (list[i] < -extent || list[i] >= extent)
            return bad_index(list[i], extent);
    return PAL_OK;
}

static pal_status run_gather(const step *step)
{
    const gathering *it = step->state;
    const buffer *indices = step->reads[1];
    const int64_t *list = indices->data;
    const size_t count = (size_t)indices->elements;
    const unsigned char *from = step->reads[0]->data;
    unsigned char *to = step->writes[0]->data;
    pal_status status = check_indices(indices, it->extent);
    if (status || !it->inner)
        return status;
    const size_t rows = it->outer * count;
#pragma omp parallel for schedule(static) if (rows * it->inner > PARALLEL_BYTES)
    for (size_t row = 0; row < rows; row++) {
        const int64_t index = list[row % count];
        const size_t at = (size_t)(index < 0 ? index + it->extent : index);
        memcpy(to + row * it->inner, from + (row / count * (size_t)it->extent + at) * it->inner,
               it->inner);
    }
    return PAL_OK;
}

static pal_status gathering_new(plan *plan, const graph_node *node, gathering **out)
{
    const graph_value *x = plan_input(plan, node, 0);
    size_t axis;
    gathering *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.gather.axis, x->rank, &axis);
    if (status)
        return status;
    *it = (gathering){1, graph_type_size(x->type), x->shape[axis], 0};
    for (size_t d = 0; d < x->rank; d++) {
        if (d < axis)
            it->outer *= (size_t)x->shape[d];
        else if (d > axis)
            it->inner *= (size_t)x->shape[d];
    }
    return PAL_OK;
}

static pal_status gather(plan *plan, const graph_node *node)
{
    gathering *it;
    pal_status status = gathering_new(plan, node, &it);
    return status ? status : plan_simple(plan, node, "gather", run_gather, it, NULL);
}

/* Adds the rows of the gradient to where they came from, the indices from `first` on. The forward
 * run has checked them. */
static void add_rows(const gathering *it, const float *dy, const int64_t *list, size_t total,
                     size_t first, size_t count, float *dx)
{
    const size_t inner = it->inner / sizeof(float);
#pragma omp parallel for schedule(static) if (it->outer > 1 && it->outer * count * inner > 16384)
    for (size_t o = 0; o < it->outer; o++)
        for (size_t i = first; i < first + count; i++) {
            const int64_t index = list[i] < 0 ? list[i] + it->extent : list[i];
            const float *from = dy + (o * total + i) * inner;
            float *to = dx + (o * (size_t)it->extent + (size_t)index) * inner;
            for (size_t e = 0; e < inner; e++)
                to[e] += from[e];
        }
}

static pal_status run_gather_pass(const step *step, size_t sample)
{
    const gathering *it = step->state;
    const size_t total = (size_t)step->reads[1]->elements;
    const bool all = sample == PLAN_ALL;
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    add_rows(it, step->reads[0]->data, step->reads[1]->data, total,
             all ? 0 : sample * it->of_sample, all ? total : it->of_sample, step->writes[0]->data);
    return PAL_OK;
}

/* A table whose rows are named by a batch of indices keeps its samples apart. */
static pal_status gather_back(plan *plan, const graph_node *node)
{
    const size_t samples = plan_get_options(plan)->samples;
    gathering *it;
    buffer *gradient, *list;
    pal_status status = gathering_new(plan, node, &it);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[1], NULL, &list);
    if (status)
        return status;
    it->of_sample = samples ? (size_t)list->elements / samples : 0;
    const bool apart = it->outer == 1 && plan_samples_along(plan, node->inputs[1], 0);
    return plan_add_weight_pass(plan, node, node->inputs[0],
                                &(weight_share){.what = "gather's source",
                                                .pass = run_gather_pass,
                                                .apart = apart,
                                                .state = it,
                                                .reads = {gradient, list}});
}

const op_kernel kernel_gather = {gather, gather_back};

/* ---------------------------------------------------------------- single elements */

typedef struct picking {
    size_t rank, axis, element;
    int64_t shape[PAL_MAX_RANK]; /* of the indices */
    int64_t strides[PAL_MAX_RANK], extent;
} picking;

/* Where element i of the result comes from. */
static size_t picked(const picking *it, const int64_t *list, uint64_t i)
{
    uint64_t rest = i;
    int64_t at = 0;
    for (size_t d = it->rank; d-- > 0;) {
        const int64_t own = (int64_t)(rest % (uint64_t)it->shape[d]);
        rest /= (uint64_t)it->shape[d];
        const int64_t index = list[i];
        at += it->strides[d] * (d != it->axis ? own : index < 0 ? index + it->extent : index);
    }
    return (size_t)at;
}

static pal_status run_elements(const step *step)
{
    const picking *it = step->state;
    const buffer *indices = step->reads[1];
    const int64_t *list = indices->data;
    const unsigned char *from = step->reads[0]->data;
    unsigned char *to = step->writes[0]->data;
    pal_status status = check_indices(indices, it->extent);
    if (status)
        return status;
#pragma omp parallel for schedule(static) if (indices->elements > 16384)
    for (uint64_t i = 0; i < indices->elements; i++)
        memcpy(to + i * it->element, from + picked(it, list, i) * it->element, it->element);
    return PAL_OK;
}

static pal_status run_elements_back(const step *step)
{
    const picking *it = step->state;
    const float *dy = step->reads[0]->data;
    const int64_t *list = step->reads[1]->data;
    float *dx = step->writes[0]->data;
    memset(dx, 0, step->writes[0]->bytes);
    for (uint64_t i = 0; i < step->reads[1]->elements; i++)
        dx[picked(it, list, i)] += dy[i];
    return PAL_OK;
}

static pal_status picking_new(plan *plan, const graph_node *node, picking **out)
{
    const graph_value *x = plan_input(plan, node, 0), *indices = plan_input(plan, node, 1);
    picking *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.gather.axis, x->rank, &it->axis);
    if (status)
        return status;
    it->rank = x->rank;
    it->element = graph_type_size(x->type);
    it->extent = x->shape[it->axis];
    memcpy(it->shape, indices->shape, sizeof it->shape);
    row_major_strides(x->rank, x->shape, it->strides);
    return PAL_OK;
}

static pal_status gather_elements(plan *plan, const graph_node *node)
{
    picking *it;
    pal_status status = picking_new(plan, node, &it);
    return status ? status : plan_simple(plan, node, "gather elements", run_elements, it, NULL);
}

static pal_status gather_elements_back(plan *plan, const graph_node *node)
{
    picking *it;
    pal_status status = picking_new(plan, node, &it);
    return status ? status
                  : back_source(plan, node, "gather's source", run_elements_back, it,
                                &node->inputs[1], 1);
}

const op_kernel kernel_gather_elements = {gather_elements, gather_elements_back};

/* ---------------------------------------------------------------- slices named by tuples */

typedef struct tuples {
    size_t batches, count, length; /* tuples in each batch, indices in a tuple */
    size_t batch_bytes, bytes;     /* of x's part of a batch, of a slice */
    int64_t extent[PAL_MAX_RANK];
    int64_t strides[PAL_MAX_RANK]; /* in bytes */
} tuples;

static pal_status run_nd(const step *step)
{
    const tuples *it = step->state;
    const int64_t *list = step->reads[1]->data;
    const unsigned char *from = step->reads[0]->data;
    unsigned char *to = step->writes[0]->data;
    for (size_t b = 0; b < it->batches; b++)
        for (size_t t = 0; t < it->count; t++, list += it->length, to += it->bytes) {
            size_t at = b * it->batch_bytes;
            for (size_t d = 0; d < it->length; d++) {
                if (list[d] < -it->extent[d] || list[d] >= it->extent[d])
                    return bad_index(list[d], it->extent[d]);
                at += (size_t)((list[d] < 0 ? list[d] + it->extent[d] : list[d]) * it->strides[d]);
            }
            if (it->bytes)
                memcpy(to, from + at, it->bytes);
        }
    return PAL_OK;
}

static pal_status run_nd_back(const step *step)
{
    const tuples *it = step->state;
    const int64_t *list = step->reads[1]->data;
    const float *dy = step->reads[0]->data;
    const size_t count = it->bytes / sizeof *dy;
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    for (size_t b = 0; b < it->batches; b++)
        for (size_t t = 0; t < it->count; t++, list += it->length, dy += count) {
            size_t at = b * it->batch_bytes;
            for (size_t d = 0; d < it->length; d++)
                at += (size_t)((list[d] < 0 ? list[d] + it->extent[d] : list[d]) * it->strides[d]);
            float *dx = (float *)step->writes[0]->data + at / sizeof *dy;
            for (size_t i = 0; i < count; i++)
                dx[i] += dy[i];
        }
    return PAL_OK;
}

static pal_status tuples_new(plan *plan, const graph_node *node, tuples **out)
{
    const graph_value *x = plan_input(plan, node, 0), *indices = plan_input(plan, node, 1);
    const size_t batch = (size_t)node->attributes.gather.batch_dims;
    tuples *it = *out = plan_alloc(plan, sizeof *it);
    int64_t strides[PAL_MAX_RANK];
    if (!it)
        return PAL_ERROR_MEMORY;
    *it = (tuples){.batches = 1, .count = 1, .batch_bytes = graph_type_size(x->type)};
    it->length = (size_t)indices->shape[indices->rank - 1];
    it->bytes = it->batch_bytes;
    row_major_strides(x->rank, x->shape, strides);
    for (size_t d = 0; d + 1 < indices->rank; d++)
        *(d < batch ? &it->batches : &it->count) *= (size_t)indices->shape[d];
    for (size_t d = 0; d < x->rank; d++) {
        if (d >= batch)
            it->batch_bytes *= (size_t)x->shape[d];
        if (d >= batch + it->length)
            it->bytes *= (size_t)x->shape[d];
    }
    for (size_t d = 0; d < it->length; d++) {
        it->extent[d] = x->shape[batch + d];
        it->strides[d] = strides[batch + d] * (int64_t)graph_type_size(x->type);
    }
    return PAL_OK;
}

static pal_status gather_nd(plan *plan, const graph_node *node)
{
    tuples *it;
    pal_status status = tuples_new(plan, node, &it);
    return status ? status : plan_simple(plan, node, "gather nd", run_nd, it, NULL);
}

static pal_status gather_nd_back(plan *plan, const graph_node *node)
{
    tuples *it;
    pal_status status = tuples_new(plan, node, &it);
    return status
               ? status
               : back_source(plan, node, "gather's source", run_nd_back, it, &node->inputs[1], 1);
}

const op_kernel kernel_gather_nd = {gather_nd, gather_nd_back};
