/* Transposition: axes in another order.
 *
 * A walk over the result (walk.h) jumps through the source with every element where the innermost
 * axis changes. Then squares of elements are moved at a time, so that both sides of a square are
 * read and written by whole cache lines. */
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "engine/ops/walk.h"

#define TILE              16
#define PARALLEL_ELEMENTS 16384

typedef struct transposition {
    walk walk;
    /* Where the source's contiguous axis is not the result's innermost: its place in the walk, or
     * SIZE_MAX where rows are contiguous anyway. */
    size_t contiguous;
    size_t element;
} transposition;

#define TILE_LOOPS(type)                                                                           \
    static void tile_##type(const type *from, int64_t from_stride, type *to, int64_t to_stride,    \
                            int64_t rows, int64_t columns)                                         \
    {                                                                                              \
        for (int64_t r = 0; r < rows; r++)                                                         \
            for (int64_t c = 0; c < columns; c++)                                                  \
                to[r * to_stride + c] = from[c * from_stride + r];                                 \
    }

TILE_LOOPS(uint8_t)
TILE_LOOPS(uint32_t)
TILE_LOOPS(uint64_t)

/* One plane: rows along the source's contiguous axis, columns along the result's. */
static void move_tile(size_t element, const void *from, int64_t from_at, int64_t from_stride,
                      void *to, int64_t to_at, int64_t to_stride, int64_t rows, int64_t columns)
{
    switch (element) {
    case 1:
        tile_uint8_t((const uint8_t *)from + from_at, from_stride, (uint8_t *)to + to_at, to_stride,
                     rows, columns);
        break;
    case 4:
        tile_uint32_t((const uint32_t *)from + from_at, from_stride, (uint32_t *)to + to_at,
                      to_stride, rows, columns);
        break;
    default:
        tile_uint64_t((const uint64_t *)from + from_at, from_stride, (uint64_t *)to + to_at,
                      to_stride, rows, columns);
    }
}

static void transpose_planes(const transposition *it, const void *from, void *to)
{
    const walk *walk = &it->walk;
    const size_t inner = walk->rank - 1, along = it->contiguous;
    int64_t to_stride[PAL_MAX_RANK], planes = 1;
    row_major_strides(walk->rank, walk->extent, to_stride);
    for (size_t d = 0; d < inner; d++)
        planes *= d == along ? 1 : walk->extent[d];
    const int64_t rows = walk->extent[along], columns = walk->extent[inner];
    const int64_t bands = (rows + TILE - 1) / TILE;
    const int64_t jobs = planes * bands;
#pragma omp parallel for schedule(static) if (planes * rows * columns > PARALLEL_ELEMENTS)
    for (int64_t job = 0; job < jobs; job++) {
        int64_t plane = job / bands, from_at = walk->start, to_at = 0;
        const int64_t r = job % bands * TILE, height = rows - r < TILE ? rows - r : TILE;
        for (size_t d = inner; d-- > 0;)
            if (d != along) {
                const int64_t i = plane % walk->extent[d];
                plane /= walk->extent[d];
                from_at += i * walk->stride[d];
                to_at += i * to_stride[d];
            }
        for (int64_t c = 0; c < columns; c += TILE) {
            const int64_t width = columns - c < TILE ? columns - c : TILE;
            move_tile(it->element, from, from_at + r + c * walk->stride[inner], walk->stride[inner],
                      to, to_at + r * to_stride[along] + c, to_stride[along], height, width);
        }
    }
}

static pal_status run(const step *step)
{
    const transposition *it = step->state;
    if (!step->writes[0]->elements)
        return PAL_OK;
    if (it->contiguous == SIZE_MAX)
        walk_copy(&it->walk, it->element, step->reads[0]->data, step->writes[0]->data);
    else
        transpose_planes(it, step->reads[0]->data, step->writes[0]->data);
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    const size_t given = node->attributes.transpose.count;
    int64_t own[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    transposition *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    row_major_strides(x->rank, x->shape, own);
    for (size_t d = 0; d < x->rank; d++) {
        const int64_t axis =
            given ? node->attributes.transpose.perm[d] : (int64_t)(x->rank - 1 - d);
        strides[d] = own[axis < 0 ? axis + (int64_t)x->rank : axis];
    }
    it->walk = walk_new(y->rank, y->shape, strides, 0);
    it->element = graph_type_size(x->type);
    it->contiguous = SIZE_MAX;
    if (it->walk.rank == 1 && it->walk.stride[0] == 1) { /* nothing moves */
        buffer *from;
        pal_status status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
        return status ? status : plan_new_view(plan, node->outputs[0], from);
    }
    if (it->walk.stride[it->walk.rank - 1] != 1)
        for (size_t d = 0; d + 1 < it->walk.rank; d++)
            if (it->walk.stride[d] == 1)
                it->contiguous = d;
    return plan_simple(plan, node, "transpose", run, it, NULL);
}

/* The inverse transposition of the gradient. */
static pal_status backward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    const size_t given = node->attributes.transpose.count;
    int64_t own[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    buffer *gradient, *share;
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    transposition *it = plan_alloc(plan, sizeof *it);
    if (status || !it)
        return status ? status : PAL_ERROR_MEMORY;
    row_major_strides(y->rank, y->shape, own);
    for (size_t d = 0; d < x->rank; d++) {
        const int64_t axis =
            given ? node->attributes.transpose.perm[d] : (int64_t)(x->rank - 1 - d);
        strides[axis < 0 ? axis + (int64_t)x->rank : axis] = own[d];
    }
    it->walk = walk_new(x->rank, x->shape, strides, 0);
    it->element = sizeof(float);
    it->contiguous = SIZE_MAX;
    if (it->walk.stride[it->walk.rank - 1] != 1)
        for (size_t d = 0; d + 1 < it->walk.rank; d++)
            if (it->walk.stride[d] == 1)
                it->contiguous = d;
    status = back_step(plan, node, "transpose", run, it, NULL, x, &gradient, 1, &share);
    return status ? status : plan_add_gradient(plan, node->inputs[0], share);
}

const op_kernel kernel_transpose = {forward, backward};
