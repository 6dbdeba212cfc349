/* dW[c,u,v] = sum over n, y, x of  g[n,c,y,x] in[n,c, y s + u d - p, x s + v d - p]
 *
 * for several channels at once, which lie next to each other. Sums are over a plane first and then
 * over the samples in their order: the same bits at any number of threads. */
#include "engine/ops/depthwise.h"

#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/channels.h"
#include "engine/ops/wide.h"

/* Channels that are looked at together, and products whose sums are kept apart. */
enum { LANES = 8, SUMS = 4 };

typedef struct axis {
    int64_t in, out, kernel, stride, dilation, pad;
} axis;

typedef struct depthwise {
    axis rows, columns;
    channel_view in, gradient;
    layout *like;              /* of the gradient; NULL: row-major */
    int64_t channels, samples; /* that the pass tells apart, if it does */
} depthwise;

/* Where the outputs begin and end whose input, at this place of the kernel, is no padding. */
static void range_of(const axis *a, int64_t at, int64_t *begin, int64_t *end)
{
    const int64_t shift = at * a->dilation - a->pad, last = a->in - 1 - shift;
    *begin = shift < 0 ? (-shift + a->stride - 1) / a->stride : 0;
    *end = last < 0 ? 0 : last / a->stride + 1;
    if (*end > a->out)
        *end = a->out;
}

/* Adds the sum of `count` products, each of LANES channels. */
static inline __attribute__((always_inline)) void
add_products(int64_t count, const float *in, int64_t in_step, const float *gradient,
             int64_t gradient_step, float sums[SUMS][LANES])
{
    int64_t i = 0;
    for (; i + SUMS <= count; i += SUMS)
        for (int s = 0; s < SUMS; s++)
            for (int l = 0; l < LANES; l++)
                sums[s][l] += in[(i + s) * in_step + l] * gradient[(i + s) * gradient_step + l];
    for (; i < count; i++)
        for (int l = 0; l < LANES; l++)
            sums[0][l] += in[i * in_step + l] * gradient[i * gradient_step + l];
}

/* Adds what a plane gives: [kernel rows, kernel columns, LANES]. */
WIDE static void add_plane(const depthwise *it, const float *in, const float *gradient, float *to)
{
    const axis *rows = &it->rows, *columns = &it->columns;
    const int64_t in_step = it->in.width, gradient_step = it->gradient.width;
    for (int64_t u = 0; u < rows->kernel; u++)
        for (int64_t v = 0; v < columns->kernel; v++, to += LANES) {
            float sums[SUMS][LANES] = {{0}};
            int64_t top, bottom, left, right;
            range_of(rows, u, &top, &bottom);
            range_of(columns, v, &left, &right);
            for (int64_t y = top; y < bottom; y++) {
                const int64_t row = y * rows->stride + u * rows->dilation - rows->pad;
                const int64_t column =
                    left * columns->stride + v * columns->dilation - columns->pad;
                add_products(right - left, in + (row * columns->in + column) * in_step,
                             columns->stride * in_step,
                             gradient + (y * columns->out + left) * gradient_step, gradient_step,
                             sums);
            }
            for (int l = 0; l < LANES; l++)
                to[l] += (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]);
        }
}

/* The first of LANES channels of a sample. */
static const float *plane_at(const channel_view *view, const buffer *buffer, int64_t sample,
                             int64_t channel)
{
    const int64_t block = channel / view->width;
    return (const float *)buffer->data +
           (sample * view->blocks + block) * view->spatial * view->width + channel % view->width;
}

static pal_status run(const step *step, size_t sample)
{
    const depthwise *it = step->state;
    const int64_t window = it->rows.kernel * it->columns.kernel;
    const int64_t count = sample == PLAN_ALL ? it->in.batch : it->in.batch / it->samples;
    const int64_t first = sample == PLAN_ALL ? 0 : (int64_t)sample * count;
    float *to = step->writes[0]->data;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < it->channels; c += LANES) {
        float *sums = (float *)step->scratch->data + c * window;
        const int64_t lanes = it->channels - c < LANES ? it->channels - c : LANES;
        memset(sums, 0, (size_t)(window * LANES) * sizeof *sums);
        for (int64_t n = first; n < first + count; n++)
            add_plane(it, plane_at(&it->in, step->reads[0], n, c),
                      plane_at(&it->gradient, step->reads[1], n, c), sums);
        for (int64_t l = 0; l < lanes; l++)
            for (int64_t w = 0; w < window; w++)
                to[(c + l) * window + w] = sums[w * LANES + l];
    }
    return PAL_OK;
}

static void release(void *state)
{
    depthwise *it = state;
    layout_free(it->like);
}

static axis axis_of(const window_geometry *g, size_t i)
{
    return (axis){g->input[i],  g->output[i],   g->kernel[i],
                  g->stride[i], g->dilation[i], g->pad_begin[i]};
}

/* The activations as they are, and the gradient in their layout. */
static pal_status find_operands(plan *plan, const graph_node *node, depthwise *it, buffer **source,
                                buffer **gradient, bool *fits)
{
    const graph_value *y = plan_output(plan, node, 0);
    pal_status status = plan_buffer(plan, node->inputs[0], source);
    *fits = !status && channel_view_of(*source, &it->in) && it->in.width % LANES == 0;
    if (status || !*fits)
        return status;
    if ((*source)->layout)
        status = layout_like((*source)->layout, y->rank, y->shape, &it->like);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], it->like, gradient);
    *fits = !status && channel_view_of(*gradient, &it->gradient) &&
            it->gradient.width % LANES == 0 && it->gradient.batch == it->in.batch;
    return status;
}

pal_status depthwise_back_to_weights(plan *plan, const graph_node *node, const window_geometry *g,
                                     bool apart, bool *done)
{
    const int64_t channels = plan_input(plan, node, 0)->shape[1];
    const int64_t room =
        (channels + LANES - 1) / LANES * LANES * g->kernel[0] * (g->spatial > 1 ? g->kernel[1] : 1);
    buffer *source, *gradient, *scratch = NULL;
    *done = false;
    if (g->spatial > 2)
        return PAL_OK;
    depthwise *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    *it = (depthwise){.rows = {1, 1, 1, 1, 1, 0},
                      .columns = axis_of(g, g->spatial - 1),
                      .channels = channels,
                      .samples = (int64_t)plan_get_options(plan)->samples};
    if (g->spatial > 1)
        it->rows = axis_of(g, 0);
    pal_status status = find_operands(plan, node, it, &source, &gradient, done);
    if (!status && *done)
        status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    if (status || !*done) {
        release(it);
        return status;
    }
    return plan_add_weight_pass(plan, node, node->inputs[1],
                                &(weight_share){.what = "depthwise convolution's weights",
                                                .pass = run,
                                                .apart = apart,
                                                .state = it,
                                                .release = release,
                                                .reads = {source, gradient},
                                                .scratch = scratch});
}
