/* Batch normalisation in training, and its way back, in any layout.
 *
 * y = (x - mean) rstd scale + shift, where mean and variance are those of the channel's m elements
 * in this batch, or given. With g the gradient of y, and sums over the channel's elements:
 *
 *   dshift = sum g,  dscale = rstd sum g (x - mean),
 *   dx = rstd scale (g - dshift / m - (x - mean) rstd dscale / m)
 *
 * of which, with given statistics, only the first term is left. What may be fused behind it is a
 * sum with another value and then bounds, as relu has them: where a bound was reached, g is zero.
 *
 * Sums are taken over parts (channels.h) in single precision and over the parts in double, always
 * in the same order: the same bits at any number of threads. */
#include "engine/ops/batch_norm.h"

#include <math.h>
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/batch_norm_loops.h"
#include "engine/ops/channels.h"

typedef struct batch_norm {
    channel_view view;
    channel_parts parts;
    float epsilon;
    int threads;
    bool of_batch; /* statistics are the batch's own */
    bounds bounds;
} batch_norm;

/* ---------------------------------------------------------------- passes over all parts */

/* A run of a step. Each pass over the parts is for the channels between two other things. */
typedef struct job {
    const batch_norm *it;
    part_data first, last;   /* of the first pass and of the last */
    float *sums;             /* two of each part */
    coefficients by_channel; /* padding included, where they are zero */
    sum_function *sum;       /* backward: of the first pass */
    result_function *apply;  /* of the last; NULL: there is none */
    const float *scale, *shift;
    float *mean, *variance; /* by channel: computed, or given */
    float *dscale, *dshift; /* or NULL */
} job;

static size_t job_floats(const batch_norm *it)
{
    return (size_t)(2 * it->parts.count + 5 * it->view.blocks) * (size_t)it->view.width;
}

/* Divides a step's scratch. */
static job job_of(const step *step)
{
    const batch_norm *it = step->state;
    job j = {.it = it,
             .sums = step->scratch->data,
             .first.bounds = it->bounds,
             .last.bounds = it->bounds};
    const int64_t n = it->view.blocks * it->view.width;
    float *rest = j.sums + 2 * it->parts.count * it->view.width;
    memset(rest, 0, (size_t)(5 * n) * sizeof *rest);
    j.by_channel = (coefficients){rest, rest + n, rest + 2 * n, rest + 3 * n, rest + 4 * n};
    return j;
}

typedef void part_visit(const job *j, int64_t i);
typedef void channel_visit(const job *j, int64_t channel);

/* The parts of a block of channels, in their order. */
#define FOR_PARTS_OF(it, block, i)                                                                 \
    for (int64_t n_ = 0; n_ < (it)->view.batch; n_++)                                              \
        for (int64_t i = (n_ * (it)->view.blocks + (block)) * (it)->parts.per_plane,               \
                     end_ = i + (it)->parts.per_plane;                                             \
             i < end_; i++)

static void visit_block(const job *j, int64_t block, part_visit *visit)
{
    if (visit)
        FOR_PARTS_OF(j->it, block, i)
    visit(j, i);
}

static void visit_all(const job *j, part_visit *visit)
{
    if (!visit)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < j->it->parts.count; i++)
        visit(j, i);
}

/* A thread takes a block of channels through all that is to be done, so that the last pass finds in
 * the cache what the first read; with fewer blocks than threads, they share each pass. */
static void run_passes(const job *j, part_visit *first, channel_visit *between, part_visit *last)
{
    const channel_view *view = &j->it->view;
    const int64_t channels = view->channels, width = view->width;
    if (view->blocks >= j->it->threads) {
#pragma omp parallel for schedule(dynamic)
        for (int64_t block = 0; block < view->blocks; block++) {
            visit_block(j, block, first);
            for (int64_t c = block * width; between && c < (block + 1) * width && c < channels; c++)
                between(j, c);
            visit_block(j, block, last);
        }
        return;
    }
    visit_all(j, first);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < (between ? channels : 0); c++)
        between(j, c);
    visit_all(j, last);
}

static void apply_to_part(const job *j, int64_t i)
{
    const channel_part part = channel_part_at(&j->it->view, &j->it->parts, i);
    const int64_t width = j->it->view.width;
    j->apply(part.rows, width, part_from(j->last, part.offset),
             columns_from(j->by_channel, part.block * width));
}

static int64_t elements_of_channel(const batch_norm *it)
{
    return it->view.batch * it->view.spatial;
}

/* What the sums of part i have for a channel. */
static double first_sum(const job *j, int64_t i, int64_t channel)
{
    return (double)j->sums[2 * i * j->it->view.width + channel % j->it->view.width];
}

static double second_sum(const job *j, int64_t i, int64_t channel)
{
    return (double)j->sums[(2 * i + 1) * j->it->view.width + channel % j->it->view.width];
}

static pal_status add_scratch(plan *plan, const batch_norm *it, step *step)
{
    const int64_t floats = (int64_t)job_floats(it);
    return plan_new_temporary(plan, GRAPH_FLOAT, 1, &floats, NULL, 0, &step->scratch);
}

/* ---------------------------------------------------------------- forward */

enum { READ_X, READ_SCALE, READ_SHIFT, READ_ADDED, READ_MEAN, READ_VARIANCE }; /* forward */
enum { WRITE_Y, WRITE_MEAN, WRITE_VARIANCE };

static float *data_of(const buffer *buffer)
{
    return buffer ? buffer->data : NULL;
}

/* Mean of the part, and sum of squares around it. */
static void moments_of_part(const job *j, int64_t i)
{
    const channel_part part = channel_part_at(&j->it->view, &j->it->parts, i);
    const int64_t width = j->it->view.width;
    const part_data own = part_from(j->first, part.offset);
    float *mean = j->sums + 2 * i * width, *squares = mean + width;
    coefficients around = columns_from(j->by_channel, part.block * width);
    sum_x(part.rows, width, own, around, mean, mean);
    for (int64_t c = 0; c < width; c++)
        mean[c] /= (float)part.rows;
    around.centre = mean;
    sum_squares(part.rows, width, own, around, squares, squares);
}

static void combine_moments(const job *j, int64_t channel)
{
    const batch_norm *it = j->it;
    const double count = (double)elements_of_channel(it);
    double mean = 0, squares = 0;
    FOR_PARTS_OF(it, channel / it->view.width, i)
    mean += (double)channel_part_at(&it->view, &it->parts, i).rows * first_sum(j, i, channel);
    mean /= count;
    FOR_PARTS_OF(it, channel / it->view.width, i)
    {
        const double off = first_sum(j, i, channel) - mean;
        squares += second_sum(j, i, channel) +
                   off * off * (double)channel_part_at(&it->view, &it->parts, i).rows;
    }
    j->mean[channel] = (float)mean;
    j->variance[channel] = (float)(squares / count);
}

static void scale_channel(const job *j, int64_t channel)
{
    j->by_channel.centre[channel] = j->mean[channel];
    j->by_channel.factor[channel] =
        j->scale[channel] / sqrtf(j->variance[channel] + j->it->epsilon);
    j->by_channel.shift[channel] = j->shift[channel];
}

static void combine_and_scale(const job *j, int64_t channel)
{
    combine_moments(j, channel);
    scale_channel(j, channel);
}

/* `measures`: mean and variance are to be found, and are not there. */
static pal_status normalise(const step *step, bool measures)
{
    job j = job_of(step);
    const bool of_batch = j.it->of_batch;
    const buffer *y = step->writes[WRITE_Y];
    j.first.x = j.last.x = step->reads[READ_X]->data;
    j.last.added = data_of(step->reads[READ_ADDED]);
    j.last.to = y->data;
    j.apply = j.last.added ? result_added : result_plain;
    j.scale = data_of(step->reads[READ_SCALE]);
    j.shift = data_of(step->reads[READ_SHIFT]);
    j.mean = data_of(of_batch ? step->writes[WRITE_MEAN] : step->reads[READ_MEAN]);
    j.variance = data_of(of_batch ? step->writes[WRITE_VARIANCE] : step->reads[READ_VARIANCE]);
    run_passes(&j, measures ? moments_of_part : NULL, measures ? combine_and_scale : scale_channel,
               apply_to_part);
    if (y->layout && y->bytes != y->elements * sizeof(float))
        layout_clear_padding(y->layout, y->data);
    return PAL_OK;
}

static pal_status run_forward(const step *step)
{
    const batch_norm *it = step->state;
    return normalise(step, it->of_batch);
}

/* The statistics that the batch was found to have are pinned. */
static pal_status repeat_forward(const step *step)
{
    return normalise(step, false);
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
                       .threads = plan_get_options(plan)->threads,
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
    return status || !it->of_batch ? status
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
    step->repeat = repeat_forward;
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

enum {
    BACK_READ_G,
    BACK_READ_X,
    BACK_READ_Y,
    BACK_READ_SCALE,
    BACK_READ_SHIFT,
    BACK_READ_MEAN,
    BACK_READ_VARIANCE
};
/* The last is g with its zeros, the gradient of what was added. */
enum { BACK_WRITE_X, BACK_WRITE_SCALE, BACK_WRITE_SHIFT, BACK_WRITE_KEPT };

static void sums_of_part(const job *j, int64_t i)
{
    const channel_part part = channel_part_at(&j->it->view, &j->it->parts, i);
    const int64_t width = j->it->view.width;
    float *own = j->sums + 2 * i * width;
    j->sum(part.rows, width, part_from(j->first, part.offset),
           columns_from(j->by_channel, part.block * width), own, own + width);
}

static void combine_sums(const job *j, int64_t channel)
{
    const batch_norm *it = j->it;
    const double count = (double)elements_of_channel(it);
    double sum = 0, products = 0;
    FOR_PARTS_OF(it, channel / it->view.width, i)
    {
        sum += first_sum(j, i, channel);
        products += second_sum(j, i, channel);
    }
    const double rstd = 1 / sqrt((double)j->variance[channel] + (double)it->epsilon);
    if (j->dscale)
        j->dscale[channel] = (float)(products * rstd);
    if (j->dshift)
        j->dshift[channel] = (float)sum;
    j->by_channel.mean_g[channel] = (float)(sum / count);
    j->by_channel.slope[channel] = (float)(products * rstd * rstd / count);
}

static pal_status run_backward(const step *step)
{
    job j = job_of(step);
    const bool of_batch = j.it->of_batch, bounded = j.it->bounds.any;
    float *const kept = data_of(step->writes[BACK_WRITE_KEPT]);
    const bool sums =
        of_batch || step->writes[BACK_WRITE_SCALE] || step->writes[BACK_WRITE_SHIFT] || kept;
    j.scale = data_of(step->reads[BACK_READ_SCALE]);
    j.shift = data_of(step->reads[BACK_READ_SHIFT]);
    j.mean = data_of(step->reads[BACK_READ_MEAN]);
    j.variance = data_of(step->reads[BACK_READ_VARIANCE]);
    j.dscale = data_of(step->writes[BACK_WRITE_SCALE]);
    j.dshift = data_of(step->writes[BACK_WRITE_SHIFT]);
    j.first.g = j.last.g = data_of(step->reads[BACK_READ_G]);
    j.first.x = j.last.x = data_of(step->reads[BACK_READ_X]);
    j.first.y = data_of(step->reads[BACK_READ_Y]);
    j.sum = kept ? sum_kept_g : bounded ? sum_bounded_g : sum_g;
    if (kept)
        j.first.to = kept, j.last.g = kept;
    j.last.to = data_of(step->writes[BACK_WRITE_X]);
    if (bounded && !kept)
        j.apply = of_batch ? result_back_bounded : result_fixed_bounded;
    else
        j.apply = of_batch ? result_back : result_fixed;
    for (int64_t c = 0; c < j.it->view.channels; c++)
        scale_channel(&j, c);
    run_passes(&j, sums ? sums_of_part : NULL, sums ? combine_sums : NULL,
               j.last.to ? apply_to_part : NULL);
    return PAL_OK;
}

static pal_status temporary_like(plan *plan, const buffer *like, buffer **out)
{
    return plan_new_temporary(plan, GRAPH_FLOAT, like->rank, like->shape, like->layout, 0, out);
}

pal_status batch_norm_back(plan *plan, const graph_node *node)
{
    buffer *x, *y, *g, *scale, *shift, *statistics[2] = {NULL}, *writes[4] = {NULL};
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
    if (!status)
        status = plan_buffer_in(plan, node->inputs[2], NULL, &shift);
    if (it->of_batch)
        plan_kept_statistics(plan, node, statistics);
    for (size_t i = 0; !status && !it->of_batch && i < 2; i++)
        status = plan_buffer_in(plan, node->inputs[3 + i], NULL, &statistics[i]);
    if (!status && plan_wants_gradient(plan, node->inputs[0]))
        status = temporary_like(plan, x, &writes[BACK_WRITE_X]);
    for (size_t i = 0; !status && i < 2; i++)
        if (plan_wants_gradient(plan, node->inputs[1 + i]))
            status = temporary_like(plan, scale, &writes[BACK_WRITE_SCALE + i]);
    if (!status && added != GRAPH_NONE && it->bounds.any)
        status = temporary_like(plan, x, &writes[BACK_WRITE_KEPT]);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "batch norm's gradients", run_backward, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[BACK_READ_G] = g;
    step->reads[BACK_READ_X] = x;
    step->reads[BACK_READ_Y] = writes[BACK_WRITE_KEPT] ? y : NULL;
    step->reads[BACK_READ_SCALE] = scale;
    step->reads[BACK_READ_SHIFT] = shift;
    step->reads[BACK_READ_MEAN] = statistics[0];
    step->reads[BACK_READ_VARIANCE] = statistics[1];
    memcpy(step->writes, writes, sizeof writes);
    step->in_place = writes[BACK_WRITE_X] != NULL;
    status = add_scratch(plan, it, step);
    for (size_t i = 0; !status && i < 3; i++)
        if (writes[i])
            status = plan_add_gradient(plan, node->inputs[i], writes[i]);
    if (!status && added != GRAPH_NONE && plan_wants_gradient(plan, added))
        status =
            plan_add_gradient(plan, added, writes[BACK_WRITE_KEPT] ? writes[BACK_WRITE_KEPT] : g);
    return status;
}
