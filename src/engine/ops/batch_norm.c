/* Batch normalisation in training, and its way back, in any layout.
 *
 * y = (x - mean) rstd scale + shift, where mean and variance are those of the channel's m elements
 * in this batch, or given. With g the gradient of y, and sums over the channel's elements:
 *
 *   dshift = sum g,  dscale = rstd sum g (x - mean),
 *   dx = rstd scale (g - dshift / m - (x - mean) rstd dscale / m)
 *
 * of which, with given statistics, only the first term is left. What may be fused behind it is a
 * sum with another value and then bounds, as relu has them: where the result shows that a bound was
 * reached, g is zero.
 *
 * Sums are taken over parts (channels.h) in single precision and over the parts in double, always in
 * the same order: the same bits at any number of threads. */
#include "engine/ops/batch_norm.h"

#include <math.h>
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/channels.h"
#include "engine/ops/wide.h"

/* Columns that are looked at together. A part's rows that are narrower are several to a row of so
 * many; wider ones are cut. */
enum { LANES = 16 };

#define INLINE static inline __attribute__((always_inline))

/* Bounds that a result was kept within. */
typedef struct bounds {
    bool any;
    float low, high;
} bounds;

typedef struct batch_norm {
    channel_view view;
    channel_parts parts;
    float epsilon;
    bool of_batch; /* statistics are the batch's own */
    bounds bounds;
    /* Backward: what is wanted. */
    bool sums, source, added;
} batch_norm;

/* Where a part's elements are, and what else goes with them; NULL where there is no such thing. */
typedef struct part_data {
    const float *x, *g, *y, *added;
    float *to;
    bounds bounds;
} part_data;

static part_data advanced(part_data d, int64_t by)
{
    d.x = d.x ? d.x + by : NULL;
    d.g = d.g ? d.g + by : NULL;
    d.y = d.y ? d.y + by : NULL;
    d.added = d.added ? d.added + by : NULL;
    d.to = d.to ? d.to + by : NULL;
    return d;
}

/* ---------------------------------------------------------------- sums of a part */

typedef enum sum_kind {
    SUM_X,         /* first: x */
    SUM_SQUARES,   /* first: (x - centre)^2 */
    SUM_G,         /* first: g, second: g (x - centre) */
    SUM_BOUNDED_G, /* the same where no bound was reached */
    SUM_KEPT_G     /* the same, and g with zeros elsewhere goes to `to` */
} sum_kind;

INLINE float unbounded(const part_data *d, int64_t i)
{
    return d->y[i] > d->bounds.low && d->y[i] < d->bounds.high ? d->g[i] : 0;
}

INLINE void sum_rows(sum_kind kind, int64_t rows, int64_t stride, int64_t n, part_data d,
                     const float *centre, float *first, float *second)
{
    float a[LANES] = {0}, b[LANES] = {0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++) {
            const int64_t i = r * stride + c;
            if (kind == SUM_X) {
                a[c] += d.x[i];
            } else if (kind == SUM_SQUARES) {
                a[c] += (d.x[i] - centre[c]) * (d.x[i] - centre[c]);
            } else {
                const float g = kind == SUM_G ? d.g[i] : unbounded(&d, i);
                if (kind == SUM_KEPT_G)
                    d.to[i] = g;
                a[c] += g;
                b[c] += g * (d.x[i] - centre[c]);
            }
        }
    for (int64_t c = 0; c < n; c++) {
        first[c] = a[c];
        if (kind >= SUM_G)
            second[c] = b[c];
    }
}

/* The sums of a part, for each of its columns. `second` is not touched where there is but one. */
INLINE void sum_part(sum_kind kind, int64_t rows, int64_t width, part_data d, const float *centre,
                     float *first, float *second)
{
    if (width >= LANES || LANES % width) {
        int64_t c = 0;
        for (; c + LANES <= width; c += LANES)
            sum_rows(kind, rows, width, LANES, advanced(d, c), centre + c, first + c, second + c);
        if (c < width)
            sum_rows(kind, rows, width, width - c, advanced(d, c), centre + c, first + c,
                     second + c);
        return;
    }
    const int64_t folds = LANES / width, whole = rows / folds;
    float centres[LANES], a[LANES], b[LANES];
    for (int64_t l = 0; l < LANES; l++)
        centres[l] = centre[l % width];
    sum_rows(kind, whole, LANES, LANES, d, centres, a, b);
    sum_rows(kind, rows - whole * folds, width, width, advanced(d, whole * LANES), centre, first,
             second);
    for (int64_t l = 0; l < LANES; l++) {
        first[l % width] += a[l];
        if (kind >= SUM_G)
            second[l % width] += b[l];
    }
}

#define SUM_FUNCTION(name, kind)                                                                   \
    WIDE static void name(int64_t rows, int64_t width, part_data d, const float *centre,           \
                          float *first, float *second)                                             \
    {                                                                                              \
        sum_part(kind, rows, width, d, centre, first, second);                                     \
    }
SUM_FUNCTION(sum_x, SUM_X)
SUM_FUNCTION(sum_squares, SUM_SQUARES)
SUM_FUNCTION(sum_g, SUM_G)
SUM_FUNCTION(sum_bounded_g, SUM_BOUNDED_G)
SUM_FUNCTION(sum_kept_g, SUM_KEPT_G)

/* ---------------------------------------------------------------- results of a part */

/* Numbers of a channel, for each column of a part. Forward: y = (x - centre) factor + shift;
 * backward: dx = (g - shift - (x - centre) slope) factor. */
typedef struct coefficients {
    float *centre, *factor, *shift, *slope;
} coefficients;

typedef enum result_kind {
    RESULT_PLAIN,
    RESULT_ADDED, /* to another value */
    BACK_PLAIN,
    BACK_BOUNDED,
    BACK_FIXED /* of given statistics: g factor, bounded or not */
} result_kind;

INLINE void apply_rows(result_kind kind, int64_t rows, int64_t stride, int64_t n, part_data d,
                       coefficients k)
{
    const bounds limits = d.bounds;
    for (int64_t r = 0; r < rows; r++)
        INDEPENDENT for (int64_t c = 0; c < n; c++)
        {
            const int64_t i = r * stride + c;
            if (kind == RESULT_PLAIN || kind == RESULT_ADDED) {
                float v = (d.x[i] - k.centre[c]) * k.factor[c] + k.shift[c];
                v = kind == RESULT_ADDED ? v + d.added[i] : v;
                v = v < limits.low ? limits.low : v;
                d.to[i] = v > limits.high ? limits.high : v;
            } else if (kind == BACK_FIXED) {
                d.to[i] = (limits.any ? unbounded(&d, i) : d.g[i]) * k.factor[c];
            } else {
                const float g = kind == BACK_BOUNDED ? unbounded(&d, i) : d.g[i];
                d.to[i] = (g - k.shift[c] - (d.x[i] - k.centre[c]) * k.slope[c]) * k.factor[c];
            }
        }
}

INLINE coefficients columns_from(coefficients k, int64_t c)
{
    return (coefficients){k.centre + c, k.factor + c, k.shift + c, k.slope + c};
}

INLINE void apply_part(result_kind kind, int64_t rows, int64_t width, part_data d, coefficients k)
{
    if (width >= LANES || LANES % width) {
        int64_t c = 0;
        for (; c + LANES <= width; c += LANES)
            apply_rows(kind, rows, width, LANES, advanced(d, c), columns_from(k, c));
        if (c < width)
            apply_rows(kind, rows, width, width - c, advanced(d, c), columns_from(k, c));
        return;
    }
    const int64_t whole = rows / (LANES / width);
    float lanes[4][LANES];
    for (int64_t l = 0; l < LANES; l++) {
        lanes[0][l] = k.centre[l % width];
        lanes[1][l] = k.factor[l % width];
        lanes[2][l] = k.shift[l % width];
        lanes[3][l] = k.slope[l % width];
    }
    apply_rows(kind, whole, LANES, LANES, d,
               (coefficients){lanes[0], lanes[1], lanes[2], lanes[3]});
    apply_rows(kind, rows - whole * (LANES / width), width, width, advanced(d, whole * LANES), k);
}

#define RESULT_FUNCTION(name, kind)                                                                \
    WIDE static void name(int64_t rows, int64_t width, part_data d, coefficients k)                \
    {                                                                                              \
        apply_part(kind, rows, width, d, k);                                                       \
    }
RESULT_FUNCTION(result_plain, RESULT_PLAIN)
RESULT_FUNCTION(result_added, RESULT_ADDED)
RESULT_FUNCTION(back_plain, BACK_PLAIN)
RESULT_FUNCTION(back_bounded, BACK_BOUNDED)
RESULT_FUNCTION(back_fixed, BACK_FIXED)

/* ---------------------------------------------------------------- all parts */

typedef void (*sum_function)(int64_t, int64_t, part_data, const float *, float *, float *);
typedef void (*result_function)(int64_t, int64_t, part_data, coefficients);

/* A step's scratch: two sums of each part, then the channels' coefficients. */
typedef struct working {
    float *sums;
    coefficients by_channel; /* padding included, where they are zero */
} working;

static size_t working_floats(const channel_view *view, const channel_parts *parts)
{
    return (size_t)(2 * parts->count * view->width + 4 * view->blocks * view->width);
}

static working working_of(const batch_norm *it, const step *step)
{
    working w = {.sums = step->scratch->data};
    const int64_t channels = it->view.blocks * it->view.width;
    float *rest = w.sums + 2 * it->parts.count * it->view.width;
    memset(rest, 0, (size_t)(4 * channels) * sizeof *rest);
    w.by_channel =
        (coefficients){rest, rest + channels, rest + 2 * channels, rest + 3 * channels};
    return w;
}

static void sum_parts(const batch_norm *it, const working *w, sum_function sum, part_data all)
{
    const int64_t width = it->view.width;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < it->parts.count; i++) {
        const channel_part part = channel_part_at(&it->view, &it->parts, i);
        float *own = w->sums + 2 * i * width;
        sum(part.rows, width, advanced(all, part.offset),
            w->by_channel.centre + part.block * width, own, own + width);
    }
}

static void apply_parts(const batch_norm *it, const working *w, result_function apply,
                        part_data all)
{
    const int64_t width = it->view.width;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < it->parts.count; i++) {
        const channel_part part = channel_part_at(&it->view, &it->parts, i);
        apply(part.rows, width, advanced(all, part.offset),
              columns_from(w->by_channel, part.block * width));
    }
}

/* Mean and sum of squares around it of each part. */
static void part_moments(const batch_norm *it, const working *w, part_data all)
{
    const int64_t width = it->view.width;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < it->parts.count; i++) {
        const channel_part part = channel_part_at(&it->view, &it->parts, i);
        const part_data own = advanced(all, part.offset);
        float *mean = w->sums + 2 * i * width, *squares = mean + width;
        sum_x(part.rows, width, own, w->by_channel.centre, mean, mean);
        for (int64_t c = 0; c < width; c++)
            mean[c] /= (float)part.rows;
        sum_squares(part.rows, width, own, mean, squares, squares);
    }
}

/* Visits the parts of a channel in their order: the first is that of its block. */
#define FOR_PARTS_OF(block, i)                                                                     \
    for (int64_t n_ = 0; n_ < it->view.batch; n_++)                                                \
        for (int64_t i = (n_ * it->view.blocks + (block)) * it->parts.per_plane,                   \
                     end_ = i + it->parts.per_plane;                                               \
             i < end_; i++)

static int64_t elements_of_channel(const batch_norm *it)
{
    return it->view.batch * it->view.spatial;
}

/* The channels' means and variances from those of the parts. */
static void combine_moments(const batch_norm *it, const working *w, float *means, float *variances)
{
    const int64_t width = it->view.width;
    const double count = (double)elements_of_channel(it);
#pragma omp parallel for schedule(static)
    for (int64_t channel = 0; channel < it->view.channels; channel++) {
        const int64_t block = channel / width, c = channel % width;
        double mean = 0, squares = 0;
        FOR_PARTS_OF(block, i)
            mean += (double)channel_part_at(&it->view, &it->parts, i).rows *
                    (double)w->sums[2 * i * width + c];
        mean /= count;
        FOR_PARTS_OF(block, i) {
            const double off = (double)w->sums[2 * i * width + c] - mean;
            squares += (double)w->sums[(2 * i + 1) * width + c] +
                       off * off * (double)channel_part_at(&it->view, &it->parts, i).rows;
        }
        means[channel] = (float)mean;
        variances[channel] = (float)(squares / count);
    }
}

static pal_status add_scratch(plan *plan, const batch_norm *it, step *step)
{
    const int64_t floats = (int64_t)working_floats(&it->view, &it->parts);
    return plan_new_temporary(plan, GRAPH_FLOAT, 1, &floats, NULL, 0, &step->scratch);
}

/* ---------------------------------------------------------------- forward */

enum { READ_X, READ_SCALE, READ_SHIFT, READ_ADDED, READ_MEAN, READ_VARIANCE }; /* forward */
enum { WRITE_Y, WRITE_MEAN, WRITE_VARIANCE };

static const float *data_of(const buffer *buffer)
{
    return buffer ? buffer->data : NULL;
}

static void scale_channels(const batch_norm *it, const working *w, const float *mean,
                           const float *variance, const float *scale, const float *shift)
{
    for (int64_t c = 0; c < it->view.channels; c++) {
        w->by_channel.centre[c] = mean[c];
        w->by_channel.factor[c] = scale[c] / sqrtf(variance[c] + it->epsilon);
        if (shift)
            w->by_channel.shift[c] = shift[c];
    }
}

static pal_status run_forward(const step *step)
{
    const batch_norm *it = step->state;
    const working w = working_of(it, step);
    const buffer *y = step->writes[WRITE_Y];
    const part_data all = {.x = step->reads[READ_X]->data,
                           .added = data_of(step->reads[READ_ADDED]),
                           .to = y->data,
                           .bounds = it->bounds};
    const float *mean = data_of(it->of_batch ? step->writes[WRITE_MEAN] : step->reads[READ_MEAN]);
    const float *variance =
        data_of(it->of_batch ? step->writes[WRITE_VARIANCE] : step->reads[READ_VARIANCE]);
    if (it->of_batch) {
        part_moments(it, &w, all);
        combine_moments(it, &w, step->writes[WRITE_MEAN]->data, step->writes[WRITE_VARIANCE]->data);
    }
    scale_channels(it, &w, mean, variance, step->reads[READ_SCALE]->data,
                   step->reads[READ_SHIFT]->data);
    apply_parts(it, &w, all.added ? result_added : result_plain, all);
    if (y->layout && y->bytes != y->elements * sizeof(float))
        layout_clear_padding(y->layout, y->data);
    return PAL_OK;
}

/* What both ways have in common: x as it is looked at, and what is fused. *added: the value that is
 * added to the result, or GRAPH_NONE. */
static pal_status describe(plan *plan, const graph_node *node, buffer **x, batch_norm **out,
                           size_t *added)
{
    batch_norm *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    *it = (batch_norm){.epsilon = node->attributes.norm.epsilon,
                       .of_batch = plan_get_options(plan)->training &&
                                   !plan_get_options(plan)->fixed_statistics,
                       .bounds = {false, -INFINITY, INFINITY}};
    pal_status status = channel_buffer(plan, node->inputs[0], x, &it->view);
    it->parts = channel_parts_of(&it->view);
    *added = GRAPH_NONE;
    for (size_t i = 0; i < node->post_count; i++) {
        const graph_post *post = &node->posts[i];
        if (post->kind == POST_ADD && !i)
            *added = post->value;
        else if (post->kind == POST_UNARY && post->unary == UNARY_RELU)
            it->bounds = (bounds){true, 0, INFINITY};
        else if (post->kind == POST_UNARY && post->unary == UNARY_CLIP)
            it->bounds = (bounds){true, post->alpha, post->beta};
        else
            return fail(PAL_ERROR_UNSUPPORTED, "what is fused to it has no gradient");
    }
    return status;
}

/* Mean and variance: as given, or in buffers of their own that stay until the next run. */
static pal_status add_statistics(plan *plan, const graph_node *node, const batch_norm *it,
                                 buffer *statistics[2])
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < 2; i++)
        status = it->of_batch ? plan_new_temporary(plan, GRAPH_FLOAT, 1, &it->view.channels, NULL,
                                                   0, &statistics[i])
                              : plan_buffer_in(plan, node->inputs[3 + i], NULL, &statistics[i]);
    return status || !it->of_batch
               ? status
               : plan_keep_statistics(plan, node, statistics[0], statistics[1],
                                      (uint64_t)elements_of_channel(it));
}

pal_status batch_norm_training(plan *plan, const graph_node *node)
{
    buffer *x, *y, *scale, *shift, *statistics[2], *other = NULL;
    batch_norm *it;
    size_t added;
    pal_status status = describe(plan, node, &x, &it, &added);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[1], NULL, &scale);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[2], NULL, &shift);
    if (!status && added != GRAPH_NONE)
        status = plan_buffer_in(plan, added, x->layout, &other);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], x->layout, &y);
    if (status || x->elements == 0)
        return status;
    status = add_statistics(plan, node, it, statistics);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "batch norm", run_forward, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[READ_X] = x;
    step->reads[READ_SCALE] = scale;
    step->reads[READ_SHIFT] = shift;
    step->reads[READ_ADDED] = other;
    step->writes[WRITE_Y] = y;
    for (size_t i = 0; i < 2; i++)
        *(it->of_batch ? &step->writes[WRITE_MEAN + i] : &step->reads[READ_MEAN + i]) =
            statistics[i];
    return add_scratch(plan, it, step);
}

/* ---------------------------------------------------------------- backward */

enum { BACK_READ_G, BACK_READ_X, BACK_READ_Y, BACK_READ_SCALE, BACK_READ_MEAN, BACK_READ_VARIANCE };
enum { BACK_WRITE_X, BACK_WRITE_SCALE, BACK_WRITE_SHIFT, BACK_WRITE_ADDED };

/* Sums over channels; coefficients for the way back to the source follow from them. */
static void combine_sums(const batch_norm *it, const working *w, const float *variance,
                         float *dscale, float *dshift)
{
    const int64_t width = it->view.width;
    const double count = (double)elements_of_channel(it);
#pragma omp parallel for schedule(static)
    for (int64_t channel = 0; channel < it->view.channels; channel++) {
        double sum = 0, products = 0;
        FOR_PARTS_OF(channel / width, i) {
            sum += (double)w->sums[2 * i * width + channel % width];
            products += (double)w->sums[(2 * i + 1) * width + channel % width];
        }
        const double rstd = 1 / sqrt((double)variance[channel] + (double)it->epsilon);
        if (dscale)
            dscale[channel] = (float)(products * rstd);
        if (dshift)
            dshift[channel] = (float)sum;
        if (it->of_batch) {
            w->by_channel.shift[channel] = (float)(sum / count);
            w->by_channel.slope[channel] = (float)(products * rstd * rstd / count);
        }
    }
}

static pal_status run_backward(const step *step)
{
    const batch_norm *it = step->state;
    const working w = working_of(it, step);
    float *const dadded = step->writes[BACK_WRITE_ADDED] ? step->writes[BACK_WRITE_ADDED]->data
                                                         : NULL;
    const float *variance = step->reads[BACK_READ_VARIANCE]->data;
    part_data all = {.g = step->reads[BACK_READ_G]->data,
                     .x = data_of(step->reads[BACK_READ_X]),
                     .y = data_of(step->reads[BACK_READ_Y]),
                     .to = dadded,
                     .bounds = it->bounds};
    scale_channels(it, &w, step->reads[BACK_READ_MEAN]->data, variance,
                   step->reads[BACK_READ_SCALE]->data, NULL);
    if (it->sums) {
        sum_parts(it, &w, dadded ? sum_kept_g : it->bounds.any ? sum_bounded_g : sum_g, all);
        combine_sums(
            it, &w, variance,
            step->writes[BACK_WRITE_SCALE] ? step->writes[BACK_WRITE_SCALE]->data : NULL,
            step->writes[BACK_WRITE_SHIFT] ? step->writes[BACK_WRITE_SHIFT]->data : NULL);
    }
    if (dadded) { /* now g with its zeros */
        all.g = dadded;
        all.bounds.any = false;
    }
    if (it->source) {
        all.to = step->writes[BACK_WRITE_X]->data;
        apply_parts(it, &w,
                    !it->of_batch        ? back_fixed
                    : !all.bounds.any    ? back_plain
                                         : back_bounded,
                    all);
    }
    return PAL_OK;
}

static pal_status temporary_like(plan *plan, const buffer *like, buffer **out)
{
    return plan_new_temporary(plan, GRAPH_FLOAT, like->rank, like->shape, like->layout, 0, out);
}

/* The gradient of what is added: that of the result, with zeros where a bound was reached. */
static pal_status add_added(plan *plan, const batch_norm *it, size_t added, const buffer *x,
                            buffer *g, buffer **masked)
{
    pal_status status = PAL_OK;
    *masked = NULL;
    if (added == GRAPH_NONE || !plan_wants_gradient(plan, added))
        return PAL_OK;
    if (it->bounds.any)
        status = temporary_like(plan, x, masked);
    return status ? status : plan_add_gradient(plan, added, *masked ? *masked : g);
}

pal_status batch_norm_back(plan *plan, const graph_node *node)
{
    buffer *x, *y, *g, *scale, *statistics[2] = {NULL}, *writes[4] = {NULL};
    batch_norm *it;
    size_t added;
    pal_status status = describe(plan, node, &x, &it, &added);
    if (status || x->elements == 0)
        return status;
    status = plan_buffer(plan, node->outputs[0], &y);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], x->layout, &g);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[1], NULL, &scale);
    if (it->of_batch)
        plan_kept_statistics(plan, node, statistics);
    for (size_t i = 0; !status && !it->of_batch && i < 2; i++)
        status = plan_buffer_in(plan, node->inputs[3 + i], NULL, &statistics[i]);
    it->source = plan_wants_gradient(plan, node->inputs[0]);
    if (!status && it->source)
        status = temporary_like(plan, x, &writes[BACK_WRITE_X]);
    for (size_t i = 0; !status && i < 2; i++)
        if (plan_wants_gradient(plan, node->inputs[1 + i]))
            status = temporary_like(plan, scale, &writes[BACK_WRITE_SCALE + i]);
    if (!status)
        status = add_added(plan, it, added, x, g, &writes[BACK_WRITE_ADDED]);
    if (status)
        return status;
    it->sums = it->of_batch || writes[BACK_WRITE_SCALE] || writes[BACK_WRITE_SHIFT] ||
               writes[BACK_WRITE_ADDED];
    step *step = plan_add_step(plan, node, "batch norm's gradients", run_backward, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[BACK_READ_G] = g;
    step->reads[BACK_READ_X] = it->sums ? x : NULL;
    step->reads[BACK_READ_Y] = it->bounds.any ? y : NULL;
    step->reads[BACK_READ_SCALE] = scale;
    step->reads[BACK_READ_MEAN] = statistics[0];
    step->reads[BACK_READ_VARIANCE] = statistics[1];
    memcpy(step->writes, writes, sizeof writes);
    step->in_place = it->source;
    status = add_scratch(plan, it, step);
    for (size_t i = 0; !status && i < 3; i++)
        if (writes[i])
            status = plan_add_gradient(plan, node->inputs[i], writes[i]);
    return status;
}
