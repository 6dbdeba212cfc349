/* Resizing by interpolation, along one axis after the other: all of ONNX's interpolations are
 * separable. For each place of the result along an axis a short list of taps (source index and
 * weight) is made once; a pass over the axis then adds weighted rows. The taps follow the
 * definition of ONNX's Resize (https://onnx.ai/onnx/operators/onnx__Resize.html) and its reference.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

#define PARALLEL_ELEMENTS 16384

/* One axis that is resized. */
typedef struct axis_taps {
    size_t axis;
    int64_t from, to; /* extents */
    int64_t count;    /* taps for each place */
    int64_t *index;   /* [to][count] */
    float *weight;    /* [to][count] */
    bool *outside;    /* [to]: the extrapolation value stands there; NULL: nowhere */
} axis_taps;

typedef struct resize {
    size_t pass_count;
    axis_taps passes[PAL_MAX_RANK];
    size_t rank;
    int64_t shape[PAL_MAX_RANK]; /* of the input */
    float extrapolation;
    size_t half; /* elements of each of the scratch buffer's halves, used in turns */
} resize;

/* ---------------------------------------------------------------- where places come from */

/* The place of the source, in its own coordinates, for place `at` of the result. */
static double source_place(const graph_node *node, int64_t at, int64_t from, int64_t to,
                           double scale, double roi_begin, double roi_end)
{
    const double x = (double)at, in = (double)from, out = (double)to;
    /* Where the file gives scales, their product with the extent need not be whole: corners are
     * aligned with that. */
    const double last = scale * in - 1;
    switch (node->attributes.resize.coordinates) {
    case COORDINATE_HALF_PIXEL_SYMMETRIC: {
        const double adjustment = out / (scale * in);
        return in / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5;
    }
    case COORDINATE_PYTORCH_HALF_PIXEL: return to > 1 ? (x + 0.5) / scale - 0.5 : 0;
    case COORDINATE_ALIGN_CORNERS: return to > 1 ? x * (in - 1) / last : 0;
    case COORDINATE_ASYMMETRIC: return x / scale;
    case COORDINATE_TF_HALF_PIXEL_FOR_NN: return (x + 0.5) / scale;
    case COORDINATE_TF_CROP_AND_RESIZE:
        return to > 1 ? roi_begin * (in - 1) + x * (roi_end - roi_begin) * (in - 1) / (out - 1)
                      : 0.5 * (roi_begin + roi_end) * (in - 1);
    default: return (x + 0.5) / scale - 0.5;
    }
}

static double nearest_place(const graph_node *node, double place, double scale)
{
    switch (node->attributes.resize.nearest) {
    case NEAREST_ROUND_PREFER_CEIL: return floor(place + 0.5);
    case NEAREST_FLOOR: return floor(place);
    case NEAREST_CEIL: return ceil(place);
    case NEAREST_BY_SCALE: return scale < 1 ? ceil(place) : floor(place);
    default: return ceil(place - 0.5);
    }
}

static double cubic(double x, double a)
{
    x = fabs(x);
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* The weight of a tap at this distance; downscaling with antialiasing stretches the kernel. */
static double kernel_weight(const graph_node *node, double distance, double stretch)
{
    if (node->attributes.resize.mode == RESIZE_CUBIC)
        return cubic(distance * stretch, node->attributes.resize.cubic_a);
    const double weight = 1 - fabs(distance * stretch);
    return weight > 0 ? weight : 0;
}

static int64_t clamped(double place, int64_t extent)
{
    return place <= 0 ? 0 : place >= (double)(extent - 1) ? extent - 1 : (int64_t)place;
}

static pal_status make_taps(plan *plan, const graph_node *node, const resize_geometry *geometry,
                            int64_t from, axis_taps *taps)
{
    const size_t axis = taps->axis;
    const int64_t to = geometry->extent[axis];
    /* The exact quotient where the scale is that of the extents. */
    double scale = geometry->scale[axis];
    if ((float)((double)to / (double)from) == geometry->scale[axis])
        scale = (double)to / (double)from;
    const bool nearest = node->attributes.resize.mode == RESIZE_NEAREST;
    const double reach = node->attributes.resize.mode == RESIZE_CUBIC ? 2 : 1;
    const double stretch = node->attributes.resize.antialias && scale < 1 ? scale : 1;
    const double first_tap = nearest ? 0 : floor(-reach / stretch) + 1;
    if (!(first_tap > -1e6))
        return fail(PAL_ERROR_UNSUPPORTED, "it shrinks by more than a million");
    taps->from = from;
    taps->to = to;
    taps->count = nearest ? 1 : 2 - 2 * (int64_t)first_tap;
    uint64_t entries;
    if (!mem_multiply((uint64_t)to, (uint64_t)taps->count * 16, &entries) || entries > SIZE_MAX / 4)
        return fail_memory("a resize");
    taps->index = plan_alloc(plan, (size_t)(to * taps->count) * sizeof *taps->index);
    taps->weight = plan_alloc(plan, (size_t)(to * taps->count) * sizeof *taps->weight);
    const bool crop = node->attributes.resize.coordinates == COORDINATE_TF_CROP_AND_RESIZE;
    taps->outside = crop ? plan_alloc(plan, (size_t)to) : NULL;
    if (!taps->index || !taps->weight || (crop && !taps->outside))
        return PAL_ERROR_MEMORY;
    for (int64_t i = 0; i < to; i++) {
        int64_t *index = taps->index + i * taps->count;
        float *weight = taps->weight + i * taps->count;
        const double place = source_place(node, i, from, to, scale, geometry->roi_begin[axis],
                                          geometry->roi_end[axis]);
        if (crop)
            taps->outside[i] = place < 0 || place > (double)(from - 1);
        if (nearest) {
            index[0] = clamped(nearest_place(node, place, scale), from);
            weight[0] = 1;
            continue;
        }
        const double base = ceil(place) - 1;
        double sum = 0;
        for (int64_t t = 0; t < taps->count; t++) {
            const double at = base + first_tap + (double)t;
            double w = kernel_weight(node, at - place, stretch);
            if (node->attributes.resize.exclude_outside && (at < 0 || at >= (double)from))
                w = 0;
            index[t] = clamped(at, from);
            weight[t] = (float)w;
            sum += w;
        }
        if (node->attributes.resize.exclude_outside || stretch != 1)
            for (int64_t t = 0; t < taps->count && sum != 0; t++)
                weight[t] = (float)(weight[t] / sum);
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- passes */

static void pass_row(const axis_taps *taps, float extrapolation, const float *from, float *to,
                     int64_t inner, int64_t place)
{
    const int64_t *index = taps->index + place * taps->count;
    const float *weight = taps->weight + place * taps->count;
    if (taps->outside && taps->outside[place]) {
        for (int64_t i = 0; i < inner; i++)
            to[i] = extrapolation;
        return;
    }
    const float *row = from + index[0] * inner;
    if (taps->count == 1) {
        memcpy(to, row, (size_t)inner * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < inner; i++)
        to[i] = weight[0] * row[i];
    for (int64_t t = 1; t < taps->count; t++) {
        const float w = weight[t], *next = from + index[t] * inner;
        for (int64_t i = 0; i < inner; i++)
            to[i] += w * next[i];
    }
}

/* The innermost axis: rows are single elements. */
static void pass_innermost(const axis_taps *taps, float extrapolation, const float *from, float *to)
{
    for (int64_t place = 0; place < taps->to; place++) {
        const int64_t *index = taps->index + place * taps->count;
        const float *weight = taps->weight + place * taps->count;
        float sum = 0;
        for (int64_t t = 0; t < taps->count; t++)
            sum += weight[t] * from[index[t]];
        to[place] = taps->outside && taps->outside[place] ? extrapolation : sum;
    }
}

static void run_pass(const axis_taps *taps, float extrapolation, const float *from, float *to,
                     int64_t outer, int64_t inner)
{
    const int64_t jobs = inner == 1 ? outer : outer * taps->to;
#pragma omp parallel for schedule(static) if (outer * taps->to * inner > PARALLEL_ELEMENTS)
    for (int64_t job = 0; job < jobs; job++) {
        if (inner == 1) {
            pass_innermost(taps, extrapolation, from + job * taps->from, to + job * taps->to);
        } else {
            const int64_t o = job / taps->to, place = job % taps->to;
            pass_row(taps, extrapolation, from + o * taps->from * inner, to + job * inner, inner,
                     place);
        }
    }
}

static pal_status run(const step *step)
{
    const resize *it = step->state;
    const float *from = step->reads[0]->data;
    int64_t shape[PAL_MAX_RANK];
    memcpy(shape, it->shape, sizeof shape);
    if (!step->writes[0]->elements)
        return PAL_OK;
    for (size_t p = 0; p < it->pass_count; p++) {
        const axis_taps *taps = &it->passes[p];
        int64_t outer = 1, inner = 1;
        float *to = p + 1 == it->pass_count ? step->writes[0]->data
                                            : (float *)step->scratch->data + (p % 2) * it->half;
        for (size_t d = 0; d < it->rank; d++) {
            if (d < taps->axis)
                outer *= shape[d];
            else if (d > taps->axis)
                inner *= shape[d];
        }
        run_pass(taps, it->extrapolation, from, to, outer, inner);
        shape[taps->axis] = taps->to;
        from = to;
    }
    return PAL_OK;
}

/* Whether a pass along the axis would change nothing. */
static bool is_idle(const graph_node *node, const resize_geometry *geometry, size_t axis,
                    int64_t extent)
{
    return geometry->extent[axis] == extent && geometry->scale[axis] == 1 &&
           (node->attributes.resize.coordinates != COORDINATE_TF_CROP_AND_RESIZE ||
            (geometry->roi_begin[axis] == 0 && geometry->roi_end[axis] == 1));
}

/* The passes of a node; *most: elements of the largest result of one. */
static pal_status describe(plan *plan, const graph_node *node, resize **out, uint64_t *most)
{
    const graph_value *x = plan_input(plan, node, 0), *inputs[4];
    resize_geometry geometry;
    resize *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    for (size_t i = 0; i < 4; i++)
        inputs[i] = plan_input(plan, node, i);
    pal_status status = resolve_resize(node, inputs, &geometry);
    it->rank = x->rank;
    it->extrapolation = node->attributes.resize.extrapolation;
    memcpy(it->shape, x->shape, sizeof it->shape);
    uint64_t elements = graph_elements(x);
    *most = 0;
    for (size_t d = 0; !status && d < x->rank && elements; d++) {
        if (is_idle(node, &geometry, d, x->shape[d]))
            continue;
        axis_taps *taps = &it->passes[it->pass_count++];
        taps->axis = d;
        status = make_taps(plan, node, &geometry, x->shape[d], taps);
        elements = elements / (uint64_t)x->shape[d] * (uint64_t)taps->to;
        *most = elements > *most ? elements : *most;
    }
    return status;
}

static pal_status add_scratch(plan *plan, resize *it, uint64_t most, buffer **scratch)
{
    const int64_t shape = (int64_t)(2 * most);
    *scratch = NULL;
    it->half = (size_t)most;
    return it->pass_count > 1 ? plan_new_temporary(plan, GRAPH_FLOAT, 1, &shape, NULL, 0, scratch)
                              : PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    buffer *from, *to, *scratch;
    resize *it;
    uint64_t most;
    pal_status status = describe(plan, node, &it, &most);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
    if (status)
        return status;
    if (!it->pass_count && from->elements)
        return plan_new_view(plan, node->outputs[0], from);
    status = add_scratch(plan, it, most, &scratch);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], NULL, &to);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "resize", run, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->writes[0] = to;
    step->scratch = scratch;
    return PAL_OK;
}

/* ---------------------------------------------------------------- the way back */

/* Each place hands its gradient to what it was made from, by the same weights. */
static void back_pass(const axis_taps *taps, const float *from, float *to, int64_t outer,
                      int64_t inner)
{
    memset(to, 0, (size_t)(outer * taps->from * inner) * sizeof *to);
#pragma omp parallel for schedule(static) if (outer * taps->to * inner > PARALLEL_ELEMENTS)
    for (int64_t o = 0; o < outer; o++)
        for (int64_t place = 0; place < taps->to; place++) {
            const float *g = from + (o * taps->to + place) * inner;
            if (taps->outside && taps->outside[place])
                continue;
            for (int64_t t = place * taps->count; t < (place + 1) * taps->count; t++) {
                float *row = to + (o * taps->from + taps->index[t]) * inner;
                for (int64_t i = 0; i < inner; i++)
                    row[i] += taps->weight[t] * g[i];
            }
        }
}

/* The passes in the opposite order. */
static pal_status run_back(const step *step)
{
    const resize *it = step->state;
    const float *from = step->reads[0]->data;
    int64_t shape[PAL_MAX_RANK];
    memcpy(shape, it->shape, sizeof shape);
    for (size_t p = 0; p < it->pass_count; p++)
        shape[it->passes[p].axis] = it->passes[p].to;
    if (!step->reads[0]->elements)
        memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    for (size_t p = it->pass_count; step->reads[0]->elements && p-- > 0;) {
        const axis_taps *taps = &it->passes[p];
        int64_t outer = 1, inner = 1;
        float *to = p ? (float *)step->scratch->data + (p % 2) * it->half : step->writes[0]->data;
        for (size_t d = 0; d < it->rank; d++) {
            if (d < taps->axis)
                outer *= shape[d];
            else if (d > taps->axis)
                inner *= shape[d];
        }
        back_pass(taps, from, to, outer, inner);
        shape[taps->axis] = taps->from;
        from = to;
    }
    return PAL_OK;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    buffer *gradient, *share, *scratch;
    resize *it;
    uint64_t most;
    pal_status status = describe(plan, node, &it, &most);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    if (status)
        return status;
    if (!it->pass_count)
        return plan_add_gradient_view(plan, node->inputs[0], gradient);
    status = add_scratch(plan, it, most, &scratch);
    if (!status)
        status = back_step(plan, node, "resize's source", run_back, it, NULL,
                           plan_input(plan, node, 0), &gradient, 1, &share);
    if (status)
        return status;
    plan_last_step(plan)->scratch = scratch;
    return plan_add_gradient(plan, node->inputs[0], share);
}

const op_kernel kernel_resize = {forward, backward};
