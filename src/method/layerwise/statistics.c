/* What compression does to the mean and the variance of each channel is undone where the network
 * has numbers for it: in the running statistics of batch norms, or in biases.
 *
 * Statistics are relative. With m and v the mean and variance that calibration samples show, and M
 * and V those that the batch norm holds, V v'/v takes the place of V, and m' + (M - m) sqrt(v'/v)
 * that of M, the primes marking the compressed network: a channel that is shifted and scaled leaves
 * the batch norm as it did before. An uncompressed network stays as it is, however few the samples.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "method/layerwise/layerwise.h"

typedef struct channels {
    const walk *walk;
    size_t value, count, outer, inner; /* of a chunk: [outer, count, inner] */
    double *sums;                      /* [chunks, 2, 2, count]: by network, of x and of x^2 */
    double *mean[2], *variance[2];
    uint64_t elements;
} channels;

static void channels_free(channels *c)
{
    free(c->sums);
    for (int i = 0; i < 2; i++) {
        free(c->mean[i]);
        free(c->variance[i]);
    }
}

static pal_status sum_chunk(void *user, int thread, size_t chunk)
{
    const channels *c = user;
    const graph_value *value = &c->walk->graph->values[c->value];
    const size_t outer = (size_t)value->shape[0] == c->walk->batch
                             ? c->outer / c->walk->batch * walk_count(c->walk, chunk)
                             : c->outer;
    (void)thread;
    for (int network = 0; network < 2; network++) {
        const float *x = walk_values(c->walk, (enum network)network, chunk, c->value);
        double *sum = c->sums + (chunk * 2 + (size_t)network) * 2 * c->count;
        double *square = sum + c->count;
        for (size_t o = 0; o < outer; o++)
            for (size_t k = 0; k < c->count; k++) {
                double a[4] = {0}, b[4] = {0};
                for (size_t i = 0; i < c->inner; i++, x++) {
                    a[i % 4] += (double)*x;
                    b[i % 4] += (double)*x * (double)*x;
                }
                sum[k] += a[0] + a[1] + a[2] + a[3];
                square[k] += b[0] + b[1] + b[2] + b[3];
            }
    }
    walk_rest(c->walk, chunk, c->value);
    return PAL_OK;
}

/* Of a value in both networks. */
static pal_status measure(const walk *w, size_t value, size_t axis, channels *c)
{
    const graph_value *v = &w->graph->values[value];
    *c = (channels){.walk = w, .value = value, .outer = 1, .inner = 1};
    c->count = (size_t)v->shape[axis];
    for (size_t d = 0; d < v->rank; d++) {
        if (d < axis)
            c->outer *= (size_t)v->shape[d];
        else if (d > axis)
            c->inner *= (size_t)v->shape[d];
    }
    c->sums = mem_zeroed(w->chunks * 4, c->count * sizeof *c->sums);
    for (int i = 0; i < 2; i++) {
        c->mean[i] = mem_zeroed(c->count, sizeof *c->mean[i]);
        c->variance[i] = mem_zeroed(c->count, sizeof *c->variance[i]);
        if (!c->mean[i] || !c->variance[i])
            return fail_memory("calibration");
    }
    if (!c->sums)
        return fail_memory("calibration");
    const parallel_job job = {.user = c, .item = sum_chunk};
    pal_status status = parallel_run(&job, w->chunks, w->threads);
    double elements = 0;
    for (size_t chunk = 0; chunk < w->chunks; chunk++)
        elements +=
            (double)((size_t)v->shape[0] == w->batch ? c->outer / w->batch * walk_count(w, chunk)
                                                     : c->outer) *
            (double)c->inner;
    for (int i = 0; !status && i < 2; i++)
        for (size_t k = 0; k < c->count; k++) {
            for (size_t chunk = 0; chunk < w->chunks; chunk++) {
                const double *sum = c->sums + (chunk * 2 + (size_t)i) * 2 * c->count;
                c->mean[i][k] += sum[k];
                c->variance[i][k] += sum[c->count + k];
            }
            c->mean[i][k] /= elements;
            c->variance[i][k] = c->variance[i][k] / elements - c->mean[i][k] * c->mean[i][k];
            if (!(c->variance[i][k] > 0))
                c->variance[i][k] = 0;
        }
    return status;
}

/* ---------------------------------------------------------------- constants */

bool constant_adjustable(const calibration *c, size_t value)
{
    const graph_value *v = value == GRAPH_NONE ? NULL : &c->walk.graph->values[value];
    if (!v || v->weight == GRAPH_NONE || c->several[v->weight])
        return false;
    const model_weight *weight = &c->compression->model->weights[v->weight];
    const pal_dtype dtype = weight->info.dtype;
    return !c->compression->targets[v->weight].wanted && !weight->locked && weight->dense &&
           (dtype == PAL_FLOAT32 || dtype == PAL_FLOAT16 || dtype == PAL_BFLOAT16) &&
           weight->info.elements == v->constant->elements;
}

bool statistics_adjustable(const calibration *c, const graph_node *node)
{
    return node->op == OP_BATCH_NORM && constant_adjustable(c, node->inputs[3]) &&
           constant_adjustable(c, node->inputs[4]);
}

/* The model and the compressed network get other values for a constant. */
static pal_status adjust(calibration *c, size_t value, const float *values, const char *why)
{
    walk *w = &c->walk;
    const size_t weight = w->graph->values[value].weight;
    float *to;
    pal_status status = compression_adjust(c->compression, weight, values, why);
    if (!status)
        status = walk_replace(w, value, &to);
    if (!status)
        compression_adjusted(c->compression, weight, to);
    return status;
}

pal_status statistics_correct(calibration *c, const graph_node *node)
{
    const walk *w = &c->walk;
    const float *mean = w->graph->values[node->inputs[3]].constant->data;
    const float *variance = w->graph->values[node->inputs[4]].constant->data;
    const double epsilon = (double)node->attributes.norm.epsilon;
    channels seen;
    if (!w->differs[node->inputs[0]])
        return PAL_OK;
    pal_status status = measure(w, node->inputs[0], 1, &seen);
    float *means = mem_array(seen.count, sizeof *means);
    float *variances = mem_array(seen.count, sizeof *variances);
    if (!status && (!means || !variances))
        status = fail_memory("calibration");
    for (size_t k = 0; !status && k < seen.count; k++) {
        const double before = seen.variance[0][k], after = seen.variance[1][k];
        const double tiny = 1e-12 * seen.mean[0][k] * seen.mean[0][k] + 1e-30;
        const double ratio = before > tiny && after > tiny ? after / before : 1;
        const double shifted = seen.mean[1][k] + ((double)mean[k] - seen.mean[0][k]) * sqrt(ratio);
        const double scaled = ((double)variance[k] + epsilon) * ratio - epsilon;
        means[k] = (float)shifted;
        variances[k] = scaled > 0 ? (float)scaled : 0;
    }
    if (!status)
        status = adjust(c, node->inputs[3], means, "running mean, shifted to make up for errors");
    if (!status)
        status =
            adjust(c, node->inputs[4], variances, "running variance, scaled to make up for errors");
    free(means);
    free(variances);
    channels_free(&seen);
    return status;
}

/* ---------------------------------------------------------------- layers without batch norm */

const graph_node *layer_norm(const calibration *c, const layer *l)
{
    const size_t next = c->consumer[l->y];
    const graph_node *node = next == GRAPH_NONE ? NULL : &c->walk.graph->main.nodes[next];
    return node && c->correct && node->inputs[0] == l->y && statistics_adjustable(c, node) ? node
                                                                                           : NULL;
}

/* Output channels must be the channels of the palette. */
pal_status layer_add_scales(calibration *c, const layer *l, bool *added)
{
    compression *all = c->compression;
    const size_t weight = c->walk.graph->values[l->weight].weight;
    const target *t = &all->targets[weight];
    const pal_weight *info = &all->model->weights[weight].info;
    size_t inner = 1;
    *added = t->channel_scale;
    if (*added)
        return PAL_OK;
    for (size_t d = t->plan.axis + 1; d < info->rank; d++)
        inner *= (size_t)info->shape[d];
    if (t->source != weight || info->shape[t->plan.axis] != l->rows)
        return PAL_OK;
    for (size_t r = 0; r < l->rows; r++)
        if (l->row_offset[r] != r * inner)
            return PAL_OK;
    pal_status status = target_scale_channels(all, weight);
    *added = !status;
    return status == PAL_ERROR_UNSUPPORTED ? PAL_OK : status;
}

typedef struct affine {
    const walk *walk;
    const channels *seen;
    const double *factor; /* NULL: 1 */
    bool shifts;
    double *fixed; /* what stays where it is when there is no shift: the old bias */
} affine;

/* What the layer gives, with its new scales and bias. */
static pal_status apply_chunk(void *user, int thread, size_t chunk)
{
    const affine *a = user;
    const channels *c = a->seen;
    float *x = walk_values(a->walk, NETWORK_COMPRESSED, chunk, c->value);
    (void)thread;
    for (size_t o = 0; o < c->outer; o++)
        for (size_t k = 0; k < c->count; k++) {
            const double from = a->shifts ? c->mean[1][k] : a->fixed[k];
            const double to = a->shifts ? c->mean[0][k] : a->fixed[k];
            for (size_t i = 0; i < c->inner; i++, x++)
                *x = (float)(((double)*x - from) * a->factor[k] + to);
        }
    walk_rest(a->walk, chunk, c->value);
    return PAL_OK;
}

/* The palette's scales times what brings the variances to those of the float network. */
static pal_status rescale(calibration *c, const layer *l, const channels *seen, double *factor)
{
    const size_t weight = c->walk.graph->values[l->weight].weight;
    const target *t = &c->compression->targets[weight];
    float *scale = mem_array(l->rows, sizeof *scale);
    if (!scale)
        return fail_memory("calibration");
    for (size_t k = 0; k < l->rows; k++) {
        const double old = (double)grid_get(t->grid, t->palette->scale, k);
        scale[k] = (float)old;
        if (old > 0 && seen->variance[0][k] > 0 && seen->variance[1][k] > 0)
            scale[k] = (float)(old * sqrt(seen->variance[0][k] / seen->variance[1][k]));
        scale[k] = grid_stored(t->grid, (double)scale[k]);
        factor[k] = old > 0 ? (double)scale[k] / old : 1;
    }
    pal_status status = compression_rescale(c->compression, weight, scale);
    free(scale);
    return status;
}

pal_status layer_correct(calibration *c, const layer *l)
{
    const walk *w = &c->walk;
    const size_t weight = w->graph->values[l->weight].weight;
    const target *t = &c->compression->targets[weight];
    const graph_tensor *old = l->bias == GRAPH_NONE ? NULL : w->graph->values[l->bias].constant;
    const bool per_row = old && old->elements == l->rows;
    const bool shifts = per_row && constant_adjustable(c, l->bias);
    const bool scales = t->channel_scale && (shifts || !old || per_row);
    if (!w->differs[l->y] || (!shifts && !scales))
        return PAL_OK;
    channels seen;
    pal_status status = measure(w, l->y, l->axis, &seen);
    float *bias = mem_array(seen.count, sizeof *bias);
    double *factor = mem_array(seen.count, sizeof *factor);
    double *fixed = mem_zeroed(seen.count, sizeof *fixed);
    if (!status && (!bias || !factor || !fixed))
        status = fail_memory("calibration");
    for (size_t k = 0; !status && k < seen.count; k++) {
        factor[k] = 1;
        fixed[k] = per_row ? (double)((const float *)old->data)[k] : 0;
    }
    if (!status && scales)
        status = rescale(c, l, &seen, factor);
    for (size_t k = 0; !status && k < seen.count; k++)
        bias[k] = (float)(seen.mean[0][k] - factor[k] * (seen.mean[1][k] - fixed[k]));
    if (!status && shifts)
        status = adjust(c, l->bias, bias, "bias, shifted to make up for errors");
    affine affine = {w, &seen, factor, shifts, fixed};
    const parallel_job job = {.user = &affine, .item = apply_chunk};
    if (!status)
        status = parallel_run(&job, w->all_chunks, w->threads);
    free(bias);
    free(factor);
    free(fixed);
    channels_free(&seen);
    return status;
}
