/* Gathering: rows of an axis (embedding tables among them), single elements, and whole slices named
 * by tuples of indices. Indices count from the end where negative; any outside the axis is an
 * error. */
#include <string.h>

#include "engine/ops/ops.h"
#include "engine/ops/walk.h"
#include "graph/infer.h"

#define PARALLEL_BYTES ((size_t)1 << 16)

typedef struct gathering {
    size_t outer, inner; /* inner: bytes */
    int64_t extent;      /* of the axis */
} gathering;

static pal_status bad_index(int64_t index, int64_t extent)
{
    return fail(PAL_ERROR_VALUE, "index %lld lies outside an axis of extent %lld", (long long)index,
                (long long)extent);
}

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

static pal_status gather(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    size_t axis;
    gathering *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.gather.axis, x->rank, &axis);
    if (status)
        return status;
    *it = (gathering){1, graph_type_size(x->type), x->shape[axis]};
    for (size_t d = 0; d < x->rank; d++) {
        if (d < axis)
            it->outer *= (size_t)x->shape[d];
        else if (d > axis)
            it->inner *= (size_t)x->shape[d];
    }
    return plan_simple(plan, node, "gather", run_gather, it, NULL);
}

const op_kernel kernel_gather = {gather, NULL};

/* ---------------------------------------------------------------- single elements */

typedef struct picking {
    size_t rank, axis, element;
    int64_t shape[PAL_MAX_RANK]; /* of the indices */
    int64_t strides[PAL_MAX_RANK], extent;
} picking;

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
    for (uint64_t i = 0; i < indices->elements; i++) {
        uint64_t rest = i;
        int64_t at = 0;
        for (size_t d = it->rank; d-- > 0;) {
            const int64_t own = (int64_t)(rest % (uint64_t)it->shape[d]);
            rest /= (uint64_t)it->shape[d];
            const int64_t index = list[i];
            at += it->strides[d] * (d != it->axis ? own : index < 0 ? index + it->extent : index);
        }
        memcpy(to + i * it->element, from + (size_t)at * it->element, it->element);
    }
    return PAL_OK;
}

static pal_status gather_elements(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *indices = plan_input(plan, node, 1);
    picking *it = plan_alloc(plan, sizeof *it);
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
    return plan_simple(plan, node, "gather elements", run_elements, it, NULL);
}

const op_kernel kernel_gather_elements = {gather_elements, NULL};

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

static pal_status gather_nd(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *indices = plan_input(plan, node, 1);
    const size_t batch = (size_t)node->attributes.gather.batch_dims;
    tuples *it = plan_alloc(plan, sizeof *it);
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
    return plan_simple(plan, node, "gather nd", run_nd, it, NULL);
}

const op_kernel kernel_gather_nd = {gather_nd, NULL};
