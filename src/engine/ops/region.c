/* Parts of a tensor, and a tensor as part of a larger one: slice, expand, tile, pad. Each is a walk
 * (walk.h) over the result, or over the source, with strides that skip, stand still or go back. */
#include <stdlib.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "engine/ops/walk.h"
#include "graph/infer.h"

typedef struct region {
    walk walk;
    size_t element;
} region;

static pal_status run_copy(const step *step)
{
    const region *it = step->state;
    if (step->writes[0]->elements)
        walk_copy(&it->walk, it->element, step->reads[0]->data, step->writes[0]->data);
    return PAL_OK;
}

/* A step that has the result as a walk through the source; only the first input is read. */
static pal_status add_copy(plan *plan, const graph_node *node, const char *what, const walk *walk)
{
    region *it = plan_alloc(plan, sizeof *it);
    buffer *from, *to;
    if (!it)
        return PAL_ERROR_MEMORY;
    it->walk = *walk;
    pal_status status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
    if (status)
        return status;
    it->element = graph_type_size(from->type);
    if (walk->rank == 1 && walk->stride[0] == 1 && walk->start == 0 &&
        walk->extent[0] == (int64_t)from->elements) /* all of it, in its order */
        return plan_new_view(plan, node->outputs[0], from);
    status = plan_new_buffer(plan, node->outputs[0], NULL, &to);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, what, run_copy, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->writes[0] = to;
    return PAL_OK;
}

/* ---------------------------------------------------------------- slice */

static pal_status slice_walk(plan *plan, const graph_node *node, walk *out)
{
    const graph_value *x = plan_input(plan, node, 0), *inputs[5];
    slice_geometry geometry;
    int64_t strides[PAL_MAX_RANK], start = 0;
    for (size_t i = 0; i < 5; i++)
        inputs[i] = plan_input(plan, node, i);
    pal_status status = resolve_slice(node, inputs, &geometry);
    if (status)
        return status;
    row_major_strides(x->rank, x->shape, strides);
    for (size_t d = 0; d < x->rank; d++) {
        start += geometry.start[d] * strides[d];
        strides[d] *= geometry.step[d];
    }
    *out = walk_new(x->rank, geometry.count, strides, start);
    return PAL_OK;
}

static pal_status slice(plan *plan, const graph_node *node)
{
    walk walk;
    pal_status status = slice_walk(plan, node, &walk);
    return status ? status : add_copy(plan, node, "slice", &walk);
}

static pal_status run_put(const step *step)
{
    const region *it = step->state;
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    if (step->reads[0]->elements)
        walk_put(&it->walk, it->element, step->reads[0]->data, step->writes[0]->data);
    return PAL_OK;
}

/* What the walk of a result reads from gets the result's gradient, the rest nothing. */
static pal_status back_put(plan *plan, const graph_node *node, const walk *walk)
{
    buffer *gradient, *share;
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    region *it = plan_alloc(plan, sizeof *it);
    if (status || !it)
        return status ? status : PAL_ERROR_MEMORY;
    *it = (region){*walk, sizeof(float)};
    status = back_step(plan, node, "gradient of a part", run_put, it, NULL,
                       plan_input(plan, node, 0), &gradient, 1, &share);
    return status ? status : plan_add_gradient(plan, node->inputs[0], share);
}

static pal_status slice_back(plan *plan, const graph_node *node)
{
    walk walk;
    pal_status status = slice_walk(plan, node, &walk);
    return status ? status : back_put(plan, node, &walk);
}

const op_kernel kernel_slice = {slice, slice_back};

/* ---------------------------------------------------------------- expand */

static pal_status expand(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    int64_t own[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    const size_t more = y->rank - x->rank;
    row_major_strides(x->rank, x->shape, own);
    for (size_t d = 0; d < y->rank; d++)
        strides[d] = d < more || x->shape[d - more] == 1 ? 0 : own[d - more];
    walk walk = walk_new(y->rank, y->shape, strides, 0);
    return add_copy(plan, node, "expand", &walk);
}

static pal_status expand_back(plan *plan, const graph_node *node)
{
    buffer *gradient;
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    return status ? status : back_reduced(plan, node, node->inputs[0], 0, gradient);
}

const op_kernel kernel_expand = {expand, expand_back};

/* ---------------------------------------------------------------- tile */

/* Each axis becomes two, repeats and extent, of which the repeats do not move the source. */
static pal_status tile_walk(plan *plan, const graph_node *node, walk *out)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    int64_t own[PAL_MAX_RANK], shape[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    size_t rank = 0;
    row_major_strides(x->rank, x->shape, own);
    for (size_t d = 0; d < x->rank; d++) {
        const int64_t repeats = x->shape[d] ? y->shape[d] / x->shape[d] : 0;
        const size_t needed = (repeats != 1) + (x->shape[d] != 1);
        if (rank + needed > PAL_MAX_RANK)
            return fail(PAL_ERROR_UNSUPPORTED, "it repeats along too many axes");
        if (repeats != 1) {
            shape[rank] = repeats;
            strides[rank++] = 0;
        }
        if (x->shape[d] != 1) {
            shape[rank] = x->shape[d];
            strides[rank++] = own[d];
        }
    }
    *out = walk_new(rank, shape, strides, 0);
    return PAL_OK;
}

static pal_status tile(plan *plan, const graph_node *node)
{
    walk walk;
    pal_status status = tile_walk(plan, node, &walk);
    return status ? status : add_copy(plan, node, "tile", &walk);
}

static pal_status tile_back(plan *plan, const graph_node *node)
{
    walk walk;
    buffer *gradient;
    pal_status status = tile_walk(plan, node, &walk);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    return status ? status : back_sums(plan, node, node->inputs[0], &walk, gradient);
}

const op_kernel kernel_tile = {tile, tile_back};

/* ---------------------------------------------------------------- pad */

typedef struct padding {
    int mode;
    size_t rank, element;
    int64_t
        *from[PAL_MAX_RANK]; /* for each axis, the source's index at each place of the result; */
    int64_t extent[PAL_MAX_RANK]; /* -1: the constant */
    int64_t stride[PAL_MAX_RANK];
} padding;

/* The index of the source that stands at place i, which may lie outside [0, n). */
static int64_t source_index(int mode, int64_t i, int64_t n)
{
    if (i >= 0 && i < n)
        return i;
    if (mode == PAD_CONSTANT || n == 0)
        return -1;
    if (mode == PAD_EDGE || n == 1)
        return i < 0 ? 0 : n - 1;
    if (mode == PAD_WRAP)
        return (i % n + n) % n;
    const int64_t period = 2 * (n - 1);
    const int64_t at = (i % period + period) % period;
    return at < n ? at : period - at;
}

static pal_status run_pad(const step *step)
{
    const padding *it = step->state;
    const unsigned char *from = step->reads[0]->data;
    unsigned char *to = step->writes[0]->data;
    uint64_t fill = 0;
    if (step->reads[1])
        memcpy(&fill, step->reads[1]->data, it->element);
    const size_t inner = it->rank - 1, element = it->element;
    int64_t rows = 1;
    for (size_t d = 0; d < inner; d++)
        rows *= it->extent[d];
#pragma omp parallel for schedule(static) if (rows > 64)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = 0, rest = row;
        for (size_t d = inner; d-- > 0 && at >= 0;) {
            const int64_t i = it->from[d][rest % it->extent[d]];
            rest /= it->extent[d];
            at = i < 0 ? -1 : at + i * it->stride[d];
        }
        unsigned char *out = to + (size_t)(row * it->extent[inner]) * element;
        const int64_t *index = it->from[inner];
        for (int64_t i = 0; i < it->extent[inner];) {
            if (at < 0 || index[i] < 0) {
                memcpy(out + (size_t)i * element, &fill, element);
                i++;
                continue;
            }
            int64_t run = 1; /* a run of neighbours is one copy */
            while (i + run < it->extent[inner] && index[i + run] == index[i] + run)
                run++;
            memcpy(out + (size_t)i * element, from + (size_t)(at + index[i]) * element,
                   (size_t)run * element);
            i += run;
        }
    }
    return PAL_OK;
}

/* Where every place of the result takes its element. */
static pal_status describe_pad(plan *plan, const graph_node *node, padding **out)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0), *inputs[4];
    int64_t begin[PAL_MAX_RANK], end[PAL_MAX_RANK], strides[PAL_MAX_RANK];
    padding *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    for (size_t i = 0; i < 4; i++)
        inputs[i] = plan_input(plan, node, i);
    pal_status status = resolve_pads(node, inputs, begin, end);
    if (status)
        return status;
    row_major_strides(x->rank, x->shape, strides);
    *it = (padding){.mode = node->attributes.pad.mode,
                    .rank = x->rank ? x->rank : 1,
                    .element = graph_type_size(x->type),
                    .extent = {1},
                    .stride = {1}};
    for (size_t d = 0; d < it->rank; d++) {
        const int64_t extent = x->rank ? y->shape[d] : 1, own = x->rank ? x->shape[d] : 1;
        it->extent[d] = extent;
        it->stride[d] = x->rank ? strides[d] : 1;
        it->from[d] = plan_alloc(plan, (size_t)extent * sizeof *it->from[d]);
        if (!it->from[d])
            return PAL_ERROR_MEMORY;
        for (int64_t i = 0; i < extent; i++)
            it->from[d][i] = source_index(it->mode, i - (x->rank ? begin[d] : 0), own);
    }
    *out = it;
    return PAL_OK;
}

static pal_status pad(plan *plan, const graph_node *node)
{
    buffer *from, *fill = NULL, *to;
    padding *it;
    pal_status status = describe_pad(plan, node, &it);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
    if (!status && plan_input(plan, node, 2))
        status = plan_buffer_in(plan, node->inputs[2], NULL, &fill);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], NULL, &to);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "pad", run_pad, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->reads[1] = fill;
    step->writes[0] = to;
    return PAL_OK;
}

/* Each place of the result hands its gradient to where its element came from. */
static pal_status run_pad_back(const step *step)
{
    const padding *it = step->state;
    const float *from = step->reads[0]->data;
    float *to = step->writes[0]->data;
    const size_t inner = it->rank - 1;
    int64_t rows = 1;
    memset(to, 0, step->writes[0]->bytes);
    for (size_t d = 0; d < inner; d++)
        rows *= it->extent[d];
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = 0, rest = row;
        for (size_t d = inner; d-- > 0 && at >= 0;) {
            const int64_t i = it->from[d][rest % it->extent[d]];
            rest /= it->extent[d];
            at = i < 0 ? -1 : at + i * it->stride[d];
        }
        for (int64_t i = 0; at >= 0 && i < it->extent[inner]; i++)
            if (it->from[inner][i] >= 0)
                to[at + it->from[inner][i]] += from[row * it->extent[inner] + i];
    }
    return PAL_OK;
}

static pal_status pad_back(plan *plan, const graph_node *node)
{
    buffer *gradient, *share;
    padding *it;
    pal_status status = describe_pad(plan, node, &it);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    if (!status)
        status = back_step(plan, node, "gradient of a part", run_pad_back, it, NULL,
                           plan_input(plan, node, 0), &gradient, 1, &share);
    return status ? status : plan_add_gradient(plan, node->inputs[0], share);
}

const op_kernel kernel_pad = {pad, pad_back};
