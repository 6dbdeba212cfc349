/* Pools: maxima, averages and norms under a window. oneDNN where it can; loops of our own for
 * indices, norms, and windows that reach past the padding. */
#include <math.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/compute.h"
#include "graph/infer.h"

/* ---------------------------------------------------------------- oneDNN */

/* The padding at the end that makes the last window fit; less than the node's if that is not
 * reached. */
static int64_t reached_end(const window_geometry *g, size_t i)
{
    return (g->output[i] - 1) * g->stride[i] + (g->kernel[i] - 1) * g->dilation[i] + 1 -
           g->input[i] - g->pad_begin[i];
}

static bool suits_onednn(const graph_node *node, const window_geometry *g)
{
    if (node->attributes.pool.kind == POOL_LP || node->output_count > 1)
        return false;
    for (size_t i = 0; i < g->spatial; i++) {
        const int64_t reach = (g->kernel[i] - 1) * g->dilation[i] + 1;
        /* A window within the padding has no maximum and no average. */
        if (g->pad_begin[i] >= reach || g->pad_end[i] >= reach || g->output[i] < 1)
            return false;
        /* Rounded up, a window may reach past the padding, which then does not count. */
        if (node->attributes.pool.kind == POOL_AVERAGE && node->attributes.pool.include_pads &&
            reached_end(g, i) > g->pad_end[i])
            return false;
    }
    return true;
}

static pal_status forward_onednn(plan *plan, const graph_node *node, const window_geometry *g,
                                 bool *done)
{
    buffer *x, *y;
    pal_status status = plan_buffer(plan, node->inputs[0], &x);
    if (status)
        return status;
    const graph_value *result = plan_output(plan, node, 0);
    onednn_tensor src = {.rank = x->rank, .form = ONEDNN_LAYOUT, .layout = x->layout};
    onednn_tensor dst = {.rank = x->rank, .form = ONEDNN_ANY};
    memcpy(src.shape, x->shape, x->rank * sizeof *x->shape);
    memcpy(dst.shape, result->shape, result->rank * sizeof *result->shape);
    onednn_pool pool = {.src = &src,
                        .dst = &dst,
                        .kind = node->attributes.pool.kind == POOL_MAX ? ONEDNN_MAX
                                : node->attributes.pool.include_pads   ? ONEDNN_AVERAGE_WITH_PADS
                                                                       : ONEDNN_AVERAGE,
                        .spatial = g->spatial};
    for (size_t i = 0; i < g->spatial; i++) {
        pool.kernel[i] = g->kernel[i];
        pool.stride[i] = g->stride[i];
        pool.dilation[i] = g->dilation[i];
        pool.pad_begin[i] = g->pad_begin[i];
        pool.pad_end[i] = reached_end(g, i) > 0 ? reached_end(g, i) : 0;
    }
    onednn_primitive *primitive;
    if (onednn_pool_new(&pool, &primitive))
        return PAL_OK;
    *done = true;
    buffer *roles[ONEDNN_ROLE_COUNT] = {[ONEDNN_SRC] = x};
    status = plan_new_buffer(plan, node->outputs[0], onednn_layout(primitive, ONEDNN_DST), &y);
    if (status) {
        onednn_primitive_free(primitive);
        return status;
    }
    roles[ONEDNN_DST] = y;
    return onednn_add_step(plan, node, "pool", primitive, roles, NULL);
}

/* ---------------------------------------------------------------- our own */

/* Where a window meets the input along one dimension: from, to (exclusive) by dilation. */
typedef struct span {
    int64_t from, to;
    int64_t counted; /* positions of the kernel within the input and its padding */
} span;

static span span_at(const window_geometry *g, size_t i, int64_t at)
{
    const int64_t start = at * g->stride[i] - g->pad_begin[i];
    span s = {.from = start, .to = start, .counted = 0};
    bool any = false;
    for (int64_t k = 0; k < g->kernel[i]; k++) {
        const int64_t p = start + k * g->dilation[i];
        s.counted += p < g->input[i] + g->pad_end[i];
        if (p < 0 || p >= g->input[i])
            continue;
        s.from = any ? s.from : p;
        s.to = p + 1;
        any = true;
    }
    return s;
}

typedef struct pool_state {
    window_geometry g;             /* of three dimensions: those that lack are of extent 1 */
    int64_t planes, plane, result; /* how many, and elements of each in the input and the output */
    bool maximum, average, include_pads, column_major;
    double p;
} pool_state;

/* Row-major numbers count the spatial dimensions from the last, column-major ones from the first;
 * planes count first either way. */
static int64_t index_of(const pool_state *s, int64_t plane, const int64_t at[3])
{
    const int64_t *n = s->g.input;
    return plane * s->plane + (s->column_major ? at[0] + n[0] * (at[1] + n[1] * at[2])
                                               : (at[0] * n[1] + at[1]) * n[2] + at[2]);
}

static float pool_window(const pool_state *s, const float *x, const span *w, int64_t best[3])
{
    double sum = 0;
    float largest = -INFINITY;
    bool found = false;
    int64_t count = 0, at[3];
    for (at[0] = w[0].from; at[0] < w[0].to; at[0] += s->g.dilation[0])
        for (at[1] = w[1].from; at[1] < w[1].to; at[1] += s->g.dilation[1])
            for (at[2] = w[2].from; at[2] < w[2].to; at[2] += s->g.dilation[2]) {
                const float v = x[(at[0] * s->g.input[1] + at[1]) * s->g.input[2] + at[2]];
                count++;
                if (!s->maximum) {
                    sum += s->average ? v : pow(fabs((double)v), s->p);
                } else if (!found || v > largest || v != v) {
                    largest = v;
                    found = true;
                    memcpy(best, at, sizeof at);
                }
            }
    if (s->maximum)
        return largest;
    if (!s->average)
        return (float)pow(sum, 1 / s->p);
    const int64_t divisor = s->include_pads ? w[0].counted * w[1].counted * w[2].counted : count;
    return divisor ? (float)(sum / (double)divisor) : 0;
}

static void pool_plane(const pool_state *s, int64_t plane, const float *x, float *y,
                       int64_t *indices)
{
    const int64_t *n = s->g.output;
    int64_t number = 0;
    span w[3];
    for (int64_t i = 0; i < n[0]; i++) {
        w[0] = span_at(&s->g, 0, i);
        for (int64_t j = 0; j < n[1]; j++) {
            w[1] = span_at(&s->g, 1, j);
            for (int64_t k = 0; k < n[2]; k++, number++) {
                int64_t best[3] = {0};
                w[2] = span_at(&s->g, 2, k);
                y[number] = pool_window(s, x, w, best);
                if (indices)
                    indices[number] = index_of(s, plane, best);
            }
        }
    }
}

static pal_status run_own(const step *step)
{
    const pool_state *s = step->state;
    const float *x = step->reads[0]->data;
    float *y = step->writes[0]->data;
    int64_t *indices = step->writes[1] ? step->writes[1]->data : NULL;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s->planes; i++)
        pool_plane(s, i, x + i * s->plane, y + i * s->result,
                   indices ? indices + i * s->result : NULL);
    return PAL_OK;
}

/* The node's windows in three dimensions; NULL when out of memory. */
static pool_state *describe_own(plan *plan, const graph_node *node, const window_geometry *g)
{
    const graph_value *x = plan_input(plan, node, 0);
    pool_state *s = plan_alloc(plan, sizeof *s);
    if (!s)
        return NULL;
    *s = (pool_state){.planes = x->shape[0] * x->shape[1],
                      .plane = 1,
                      .result = 1,
                      .maximum = node->attributes.pool.kind == POOL_MAX,
                      .average = node->attributes.pool.kind == POOL_AVERAGE,
                      .include_pads = node->attributes.pool.include_pads,
                      .column_major = node->attributes.pool.column_major,
                      .p = (double)node->attributes.pool.p};
    const size_t lacking = GRAPH_MAX_SPATIAL - g->spatial;
    for (size_t i = 0; i < GRAPH_MAX_SPATIAL; i++) {
        const bool real = i >= lacking;
        const size_t from = i - lacking;
        s->g.kernel[i] = real ? g->kernel[from] : 1;
        s->g.stride[i] = real ? g->stride[from] : 1;
        s->g.dilation[i] = real ? g->dilation[from] : 1;
        s->g.pad_begin[i] = real ? g->pad_begin[from] : 0;
        s->g.pad_end[i] = real ? g->pad_end[from] : 0;
        s->g.input[i] = real ? g->input[from] : 1;
        s->g.output[i] = real ? g->output[from] : 1;
        s->plane *= s->g.input[i];
        s->result *= s->g.output[i];
    }
    return s;
}

static pal_status forward_own(plan *plan, const graph_node *node, const window_geometry *g)
{
    pool_state *s = describe_own(plan, node, g);
    return s ? plan_simple(plan, node, "pool", run_own, s, NULL) : PAL_ERROR_MEMORY;
}

/* ---------------------------------------------------------------- the way back */

/* Hands the gradient of one result to its window: to the largest, or to all in their share. */
static void window_back(const pool_state *s, const float *x, float y, float dy, const span *w,
                        const int64_t best[3], float *dx)
{
    const int64_t *n = s->g.input;
    int64_t count = 0, at[3];
    if (s->maximum) {
        dx[(best[0] * n[1] + best[1]) * n[2] + best[2]] += dy;
        return;
    }
    for (int i = 0; i < 3; i++) {
        const int64_t own =
            w[i].to > w[i].from ? (w[i].to - w[i].from - 1) / s->g.dilation[i] + 1 : 0;
        count = i ? count * own : own;
    }
    const int64_t divisor = s->include_pads ? w[0].counted * w[1].counted * w[2].counted : count;
    for (at[0] = w[0].from; at[0] < w[0].to; at[0] += s->g.dilation[0])
        for (at[1] = w[1].from; at[1] < w[1].to; at[1] += s->g.dilation[1])
            for (at[2] = w[2].from; at[2] < w[2].to; at[2] += s->g.dilation[2]) {
                const int64_t i = (at[0] * n[1] + at[1]) * n[2] + at[2];
                if (s->average)
                    dx[i] += dy / (float)divisor;
                else if (y > 0)
                    dx[i] += dy * copysignf(powf(fabsf(x[i]) / y, (float)s->p - 1), x[i]);
            }
}

static pal_status run_back(const step *step)
{
    const pool_state *s = step->state;
    const int64_t *n = s->g.output;
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
#pragma omp parallel for schedule(static)
    for (int64_t plane = 0; plane < s->planes; plane++) {
        const float *x = (const float *)step->reads[0]->data + plane * s->plane;
        const float *dy = (const float *)step->reads[1]->data + plane * s->result;
        float *dx = (float *)step->writes[0]->data + plane * s->plane;
        span w[3];
        for (int64_t i = 0; i < s->result; i++) {
            int64_t best[3] = {0};
            w[0] = span_at(&s->g, 0, i / (n[1] * n[2]));
            w[1] = span_at(&s->g, 1, i / n[2] % n[1]);
            w[2] = span_at(&s->g, 2, i % n[2]);
            const float y = s->average ? 0 : pool_window(s, x, w, best);
            window_back(s, x, y, dy[i], w, best, dx);
        }
    }
    return PAL_OK;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    window_geometry g;
    buffer *reads[2], *share;
    pal_status status = resolve_window(node, plan_input(plan, node, 0), NULL, &g);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &reads[0]);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[1]);
    if (status)
        return status;
    pool_state *s = describe_own(plan, node, &g);
    if (!s)
        return PAL_ERROR_MEMORY;
    status = back_step(plan, node, "pool's source", run_back, s, NULL, plan_input(plan, node, 0),
                       reads, 2, &share);
    return status ? status : plan_add_gradient(plan, node->inputs[0], share);
}

static pal_status forward(plan *plan, const graph_node *node)
{
    window_geometry g;
    bool done = false;
    buffer *empty;
    pal_status status = resolve_window(node, plan_input(plan, node, 0), NULL, &g);
    if (!status && graph_elements(plan_output(plan, node, 0)) == 0) {
        for (size_t i = 0; !status && i < node->output_count; i++)
            if (node->outputs[i] != GRAPH_NONE)
                status = plan_new_buffer(plan, node->outputs[i], NULL, &empty);
        return status;
    }
    if (!status && suits_onednn(node, &g))
        status = forward_onednn(plan, node, &g, &done);
    return status || done ? status : forward_own(plan, node, &g);
}

const op_kernel kernel_pool = {forward, backward};
