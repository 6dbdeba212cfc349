/* Parts of a tensor, and a tensor as part of a larger one: slice, expand, tile, pad. Each is a walk
 * (walk.h) over the result, or over the source, with strides that skip, stand still or go back. */
#include <stdlib.h>
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "engine/ops/walk.h"
#include "graph/infer.h"

typedef struct region {
    walk walk;
    size_t element;
    layout *layout; /* of the result, if it is not row-major */
    uint64_t fill;  /* what is around what is put, in the element's type */
} region;

static void free_region(void *state)
{
    layout_free(((region *)state)->layout);
}

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

static pal_status slice_part(plan *plan, const graph_node *node, slice_geometry *out)
{
    const graph_value *inputs[5];
    for (size_t i = 0; i < 5; i++)
        inputs[i] = plan_input(plan, node, i);
    return resolve_slice(node, inputs, out);
}

static pal_status slice_walk(plan *plan, const graph_node *node, walk *out)
{
    const graph_value *x = plan_input(plan, node, 0);
    slice_geometry geometry;
    int64_t strides[PAL_MAX_RANK], start = 0;
    pal_status status = slice_part(plan, node, &geometry);
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

/* Where a part lies in a tensor: along each axis it begins at `start`, takes every `step`-th index
 * and has `count`. */
typedef slice_geometry part;

/* The walk through `whole`, a blocked layout of a tensor of this shape, that gives the part in
 * `of_part`, its own layout of the same kind. False where the part does not consist of whole
 * blocks. */
static bool blocked_walk(const layout *whole, size_t rank, const int64_t *shape, const part *part,
                         const layout *of_part, walk *out)
{
    layout_physical w, p;
    int64_t strides[LAYOUT_MAX_PHYSICAL], start = 0, block[PAL_MAX_RANK];
    if (!layout_describe(whole, rank, shape, &w) ||
        !layout_describe(of_part, rank, part->count, &p) || w.rank != p.rank ||
        w.rank > PAL_MAX_RANK || memcmp(w.of, p.of, w.rank * sizeof *w.of) != 0)
        return false;
    row_major_strides(w.rank, w.extent, strides);
    for (size_t d = 0; d < rank; d++)
        block[d] = 1;
    for (size_t i = w.rank; i-- > 0;) {
        const size_t d = w.of[i];
        bool outermost = true;
        for (size_t k = 0; k < i; k++)
            outermost = outermost && w.of[k] != d;
        /* All of an axis, with the padding that its last block may have. */
        const bool untouched = part->count[d] == shape[d] && (part->step[d] == 1 || shape[d] == 1);
        if (!outermost || untouched) {
            if (w.extent[i] != p.extent[i])
                return false;
        } else if ((block[d] > 1 && part->step[d] != 1) || part->start[d] % block[d] ||
                   part->count[d] != p.extent[i] * block[d]) {
            return false;
        } else {
            start += part->start[d] / block[d] * strides[i];
            strides[i] *= part->step[d];
        }
        block[d] *= w.extent[i];
    }
    *out = walk_new(w.rank, p.extent, strides, start);
    return true;
}

/* The part of a tensor in a blocked layout. *done: there is a step. */
static pal_status slice_blocked(plan *plan, const graph_node *node, const part *part, bool *done)
{
    const graph_value *y = plan_output(plan, node, 0);
    buffer *from, *to;
    region *it = plan_alloc(plan, sizeof *it);
    *done = false;
    pal_status status = it ? plan_buffer(plan, node->inputs[0], &from) : PAL_ERROR_MEMORY;
    if (status || !from->layout || !graph_elements(y))
        return status;
    status = layout_like(from->layout, y->rank, y->shape, &it->layout);
    if (status || !it->layout)
        return status;
    if (!blocked_walk(from->layout, y->rank, from->shape, part, it->layout, &it->walk)) {
        free_region(it);
        return PAL_OK;
    }
    it->element = sizeof(float);
    status = plan_new_buffer(plan, node->outputs[0], it->layout, &to);
    if (status) {
        free_region(it);
        return status;
    }
    step *step = plan_add_step(plan, node, "slice", run_copy, it, free_region);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->writes[0] = to;
    *done = true;
    return PAL_OK;
}

static pal_status slice(plan *plan, const graph_node *node)
{
    slice_geometry geometry;
    walk walk;
    bool done;
    pal_status status = slice_part(plan, node, &geometry);
    if (!status)
        status = slice_blocked(plan, node, &geometry, &done);
    if (status || done)
        return status;
    status = slice_walk(plan, node, &walk);
    return status ? status : add_copy(plan, node, "slice", &walk);
}

static void fill_with(void *to, size_t bytes, size_t element, uint64_t fill)
{
    if (fill == 0) {
        memset(to, 0, bytes);
        return;
    }
    for (size_t i = 0; i < bytes / element; i++)
        memcpy((unsigned char *)to + i * element, &fill, element);
}

static pal_status run_put(const step *step)
{
    const region *it = step->state;
    fill_with(step->writes[0]->data, step->writes[0]->bytes, it->element, it->fill);
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
    *it = (region){.walk = *walk, .element = sizeof(float)};
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

/* Where the source stands in the result, if constants are put around it, that is known, and nothing
 * is cut off. */
static bool source_in_result(plan *plan, const graph_node *node, part *out, uint64_t *fill)
{
    const graph_value *x = plan_input(plan, node, 0), *constant = plan_input(plan, node, 2);
    const graph_value *inputs[4];
    int64_t end[PAL_MAX_RANK];
    for (size_t i = 0; i < 4; i++)
        inputs[i] = plan_input(plan, node, i);
    *fill = 0;
    if (node->attributes.pad.mode != PAD_CONSTANT || x->rank == 0 ||
        (constant && (!constant->constant || constant->constant->elements != 1)) ||
        resolve_pads(node, inputs, out->start, end))
        return false;
    for (size_t d = 0; d < x->rank; d++) {
        if (out->start[d] < 0 || end[d] < 0)
            return false;
        out->step[d] = 1;
        out->count[d] = x->shape[d];
    }
    if (constant)
        memcpy(fill, constant->constant->data, graph_type_size(x->type));
    return true;
}

/* Sets the walk that puts the source, in its blocked layout if the result can have such a one and
 * zeros are put around it, which is what the padding of blocks has to hold. */
static pal_status pad_layout(plan *plan, const graph_node *node, const part *part, region *it,
                             buffer **from)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    int64_t strides[PAL_MAX_RANK], start = 0;
    pal_status status = plan_buffer(plan, node->inputs[0], from);
    if (!status && (*from)->layout && it->fill == 0)
        status = layout_like((*from)->layout, y->rank, y->shape, &it->layout);
    if (status || (it->layout &&
                   blocked_walk(it->layout, y->rank, y->shape, part, (*from)->layout, &it->walk)))
        return status;
    layout_free(it->layout);
    it->layout = NULL;
    row_major_strides(y->rank, y->shape, strides);
    for (size_t d = 0; d < y->rank; d++)
        start += part->start[d] * strides[d];
    it->walk = walk_new(x->rank, x->shape, strides, start);
    return plan_buffer_in(plan, node->inputs[0], NULL, from);
}

/* Constants around a tensor: all of the result is filled, then the source is put where it belongs.
 */
static pal_status pad_with_constant(plan *plan, const graph_node *node, const part *part,
                                    uint64_t fill)
{
    buffer *from, *to;
    region *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    *it = (region){.element = graph_type_size(plan_input(plan, node, 0)->type), .fill = fill};
    pal_status status = pad_layout(plan, node, part, it, &from);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], it->layout, &to);
    if (status) {
        free_region(it);
        return status;
    }
    step *step = plan_add_step(plan, node, "pad", run_put, it, free_region);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->writes[0] = to;
    return PAL_OK;
}

static pal_status pad(plan *plan, const graph_node *node)
{
    buffer *from, *fill = NULL, *to;
    padding *it;
    part part;
    uint64_t constant;
    if (source_in_result(plan, node, &part, &constant))
        return pad_with_constant(plan, node, &part, constant);
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
