#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/dkm/iterate.h"
#include "cluster/dkm/nodes.h"
#include "cluster/dkm/table.h"
#include "cluster/dkm/team.h"

/* ---------------------------------------------------------------- the configuration */

dkm_config dkm_defaults(size_t n, unsigned clusters)
{
    return (dkm_config){
        .outer = 1,
        .groups = 1,
        .channels = n,
        .inner = 1,
        .dim = 1,
        .clusters = clusters,
        .tau = 1e-4,
        .epsilon = 1e-4,
        .iterations = 3,
        .zero_threshold = 1e-7,
        .prune_threshold = 1e-7,
        .repair = true,
        .weights = GRID_FLOAT32,
        .table = GRID_FLOAT32,
    };
}

static pal_status check_shape(const dkm_config *c)
{
    uint64_t all;
    if (!c->outer || !c->groups || !c->channels || !c->inner)
        return fail(PAL_ERROR_ARGUMENT, "dkm: no weights");
    if (!mem_multiply(c->outer, c->groups, &all) || !mem_multiply(all, c->channels, &all) ||
        !mem_multiply(all, c->inner, &all) || all > SIZE_MAX / 64)
        return fail(PAL_ERROR_ARGUMENT, "dkm: too many weights");
    if (c->dim < 1 || c->dim > DKM_MOST_DIM || c->channels % c->dim)
        return fail(PAL_ERROR_ARGUMENT,
                    "dkm: cluster_dim %u is not 1 to %d or does not divide %zu channels", c->dim,
                    DKM_MOST_DIM, c->channels);
    if (c->clusters < 1 || c->clusters > DKM_MOST_CLUSTERS)
        return fail(PAL_ERROR_ARGUMENT, "dkm: %u clusters, not 1 to %d", c->clusters,
                    DKM_MOST_CLUSTERS);
    if (c->nodes && c->nodes != DKM_EXACT &&
        (c->nodes < 16 || c->nodes > MOST_NODES || (c->nodes & (c->nodes - 1))))
        return fail(PAL_ERROR_ARGUMENT, "dkm: %zu nodes, not a power of two from 16 to %d",
                    c->nodes, MOST_NODES);
    return PAL_OK;
}

static bool within(double x, double low, double high)
{
    return x >= low && x <= high; /* not if x is NaN */
}

static pal_status check_numbers(const dkm_config *c)
{
    if (c->mode != DKM_SOFT && c->mode != DKM_HARD && c->mode != DKM_MEAN)
        return fail(PAL_ERROR_ARGUMENT, "dkm: no such mode");
    if (!within(c->tau, 1e-30, 1e30))
        return fail(PAL_ERROR_ARGUMENT, "dkm: tau %g, not 1e-30 to 1e30", c->tau);
    if (!within(c->epsilon, 0, INFINITY))
        return fail(PAL_ERROR_ARGUMENT, "dkm: epsilon %g, not 0 or more", c->epsilon);
    if (c->iterations < 1 || c->iterations > DKM_MOST_ITERATIONS)
        return fail(PAL_ERROR_ARGUMENT, "dkm: %u iterations, not 1 to %d", c->iterations,
                    DKM_MOST_ITERATIONS);
    if (!within(c->zero_threshold, 0, 1e-3))
        return fail(PAL_ERROR_ARGUMENT, "dkm: zero_threshold %g, not 0 to 1e-3", c->zero_threshold);
    if (!within(c->prune_threshold, 0, 1e30))
        return fail(PAL_ERROR_ARGUMENT, "dkm: prune_threshold %g, not 0 or more",
                    c->prune_threshold);
    if (c->weights > GRID_FLOAT32 ||
        (c->table != c->weights && c->table != GRID_INT8 && c->table != GRID_UINT8))
        return fail(PAL_ERROR_ARGUMENT,
                    "dkm: the table is neither of the type of the weights nor int8 or uint8");
    return PAL_OK;
}

static size_t scale_count(const dkm_config *c)
{
    return (c->outer - 1) * c->scale_outer + (c->groups * c->channels - 1) * c->scale_channel +
           (c->inner - 1) * c->scale_inner + 1;
}

static pal_status copy_scale(dkm *d, const float *scale)
{
    const size_t count = scale_count(&d->config);
    for (size_t i = 0; i < count; i++)
        if (!(scale[i] > 0) || !isfinite(scale[i]))
            return fail(PAL_ERROR_ARGUMENT, "dkm: scale %zu is not a positive number", i);
    d->scale = mem_array(count, sizeof *d->scale);
    if (!d->scale)
        return fail_memory("differentiable k-means");
    memcpy(d->scale, scale, count * sizeof *d->scale);
    return PAL_OK;
}

/* ---------------------------------------------------------------- making and freeing */

static pal_status allocate(dkm *d)
{
    const dkm_config *c = &d->config;
    const size_t size = table_size(c), iterations = c->iterations;
    const size_t means = table_rounds(c) ? iterations * size : 0;
    const size_t each = (iterations + 1) * size + means + iterations * c->clusters;
    uint64_t all;
    if (!mem_multiply(c->groups, each + size, &all))
        return fail_memory("differentiable k-means");
    d->groups = mem_zeroed(c->groups, sizeof *d->groups);
    d->storage = mem_zeroed(all, sizeof *d->storage);
    if (!d->groups || !d->storage)
        return fail_memory("differentiable k-means");
    d->centroids = d->storage;
    for (size_t i = 0; i < c->groups; i++) {
        group_state *g = &d->groups[i];
        g->path = d->storage + c->groups * size + i * each;
        g->attended = g->path + (iterations + 1) * size;
        g->mean = means ? g->attended + iterations * c->clusters : NULL;
    }
    return PAL_OK;
}

pal_status dkm_new(const dkm_config *config, dkm **out)
{
    pal_status status = check_shape(config);
    if (!status)
        status = check_numbers(config);
    if (status)
        return status;
    dkm *d = mem_zeroed(1, sizeof *d);
    if (!d)
        return fail_memory("differentiable k-means");
    d->config = *config;
    d->config.scale = NULL;
    status = allocate(d);
    if (!status && config->scale)
        status = copy_scale(d, config->scale);
    if (status) {
        dkm_free(d);
        return status;
    }
    d->config.scale = d->scale;
    *out = d;
    return PAL_OK;
}

void dkm_free(dkm *d)
{
    if (!d)
        return;
    free(d->scale);
    free(d->groups);
    free(d->storage);
    free(d);
}

const dkm_config *dkm_configuration(const dkm *d)
{
    return &d->config;
}

pal_status dkm_set_tau(dkm *d, double tau)
{
    dkm_config changed = d->config;
    changed.tau = tau;
    pal_status status = check_numbers(&changed);
    if (!status)
        d->config.tau = tau;
    return status;
}

pal_status dkm_set_mode(dkm *d, dkm_mode mode)
{
    dkm_config changed = d->config;
    changed.mode = mode;
    pal_status status = check_numbers(&changed);
    if (!status)
        d->config.mode = mode;
    return status;
}

const double *dkm_centroids(const dkm *d)
{
    return d->centroids;
}

pal_status dkm_set_centroids(dkm *d, const double *centroids)
{
    const dkm_config *c = &d->config;
    for (size_t i = 0; i < c->groups * table_size(c); i++)
        if (!isfinite(centroids[i]))
            return fail(PAL_ERROR_VALUE, "centroid %zu is not finite", i);
    memmove(d->centroids, centroids, c->groups * table_size(c) * sizeof *centroids);
    for (size_t i = 0; c->enforce_zero && i < c->groups; i++)
        table_keep_zero(c, d->centroids + i * table_size(c));
    return PAL_OK;
}

/* ---------------------------------------------------------------- the passes */

typedef struct scanned {
    const dkm *d;
    const float *weights;
    double *range;
} scanned;

typedef struct call {
    dkm *d;
    const float *weights, *out;
    float *to;
    double *peaks; /* of each group's gradients */
    double *range; /* least and greatest value of each group */
} call;

static pal_status scan_weights(void *user, const team *team, size_t group)
{
    const scanned *s = user;
    double *range = s->range + 2 * group;
    if (scan_range(team, s->d, group, s->weights, DIVIDED, &range[0], &range[1]))
        return PAL_OK;
    return fail(PAL_ERROR_VALUE, "weight %zu is not finite",
                layout_find_bad(s->d, s->weights, DIVIDED));
}

static pal_status scan_gradients(void *user, const team *team, size_t group)
{
    const call *call = user;
    double low, high;
    if (!scan_range(team, call->d, group, call->out, MULTIPLIED, &low, &high))
        return fail(PAL_ERROR_VALUE, "the gradient of palettized weight %zu is not finite",
                    layout_find_bad(call->d, call->out, MULTIPLIED));
    call->peaks[group] = fmax(fabs(low), fabs(high));
    return PAL_OK;
}

static pal_status forward(void *user, const team *team, size_t group)
{
    const call *call = user;
    call->d->groups[group].low = call->range[2 * group];
    call->d->groups[group].high = call->range[2 * group + 1];
    group_forward(team, call->d, group, call->weights, call->to);
    return PAL_OK;
}

static pal_status backward(void *user, const team *team, size_t group)
{
    const call *call = user;
    group_backward(team, call->d, group, call->weights, call->out, call->peaks[group], call->to);
    return PAL_OK;
}

pal_status layer_scan(const dkm *d, dkm_workspace *workspace, const float *weights, int threads,
                      double *range)
{
    scanned scanned = {d, weights, range};
    return team_groups(d, workspace, threads, scan_weights, &scanned);
}

pal_status dkm_forward(dkm *d, dkm_workspace *workspace, const float *weights, int threads,
                       float *palettized)
{
    call call = {.d = d, .weights = weights, .to = palettized};
    call.range = mem_array(d->config.groups, 2 * sizeof *call.range);
    if (!call.range)
        return fail_memory("differentiable k-means");
    pal_status status = layer_scan(d, workspace, weights, threads, call.range);
    if (!status) {
        d->mode = d->config.mode;
        d->passed = true;
        status = team_groups(d, workspace, threads, forward, &call);
    }
    free(call.range);
    return status;
}

pal_status dkm_backward(dkm *d, dkm_workspace *workspace, const float *weights, const float *out,
                        int threads, float *gradient)
{
    call call = {.d = d, .weights = weights, .out = out, .to = gradient};
    if (!d->passed)
        return fail(PAL_ERROR_ARGUMENT, "dkm: backward without a forward pass");
    call.peaks = mem_array(d->config.groups, sizeof *call.peaks);
    if (!call.peaks)
        return fail_memory("differentiable k-means");
    pal_status status = team_groups(d, workspace, threads, scan_gradients, &call);
    if (!status)
        status = team_groups(d, workspace, threads, backward, &call);
    free(call.peaks);
    return status;
}
