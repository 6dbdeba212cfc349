/* The functions of palettize.h: the layer with a workspace for each call. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/dkm.h"

struct pal_dkm {
    dkm *layer;
    int threads;
};

pal_dkm_config pal_dkm_defaults(size_t n, unsigned clusters)
{
    const dkm_config c = dkm_defaults(n, clusters);
    return (pal_dkm_config){
        .outer = c.outer,
        .groups = c.groups,
        .channels = c.channels,
        .inner = c.inner,
        .cluster_dim = c.dim,
        .clusters = c.clusters,
        .mode = PAL_DKM_SOFT,
        .tau = c.tau,
        .iterations = c.iterations,
        .epsilon = c.epsilon,
        .zero_threshold = c.zero_threshold,
        .prune_threshold = c.prune_threshold,
        .repair = c.repair,
        .weight_dtype = PAL_FLOAT32,
        .lut_dtype = PAL_FLOAT32,
    };
}

static bool find_mode(pal_dkm_mode mode, dkm_mode *out)
{
    static const dkm_mode modes[] = {DKM_SOFT, DKM_HARD, DKM_MEAN};
    if ((size_t)mode >= sizeof modes / sizeof *modes)
        return false;
    *out = modes[mode];
    return true;
}

pal_status pal_dkm_new(const pal_dkm_config *config, pal_dkm **out)
{
    if (!config || !out)
        return fail(PAL_ERROR_ARGUMENT, "dkm: no configuration");
    dkm_config c = {
        .outer = config->outer,
        .groups = config->groups,
        .channels = config->channels,
        .inner = config->inner,
        .dim = config->cluster_dim,
        .clusters = config->clusters,
        .tau = config->tau,
        .relative = config->relative_tau,
        .epsilon = config->epsilon,
        .iterations = config->iterations,
        .zero_threshold = config->zero_threshold,
        .enforce_zero = config->enforce_zero,
        .prune_threshold = config->prune_threshold,
        .repair = config->repair,
        .scale = config->scale,
        .scale_outer = config->scale_outer,
        .scale_channel = config->scale_channel,
        .scale_inner = config->scale_inner,
        .nodes = config->nodes,
    };
    if (!find_mode(config->mode, &c.mode))
        return fail(PAL_ERROR_ARGUMENT, "dkm: no such mode");
    if (!grid_of(config->weight_dtype, &c.weights) || !grid_of(config->lut_dtype, &c.table))
        return fail(PAL_ERROR_ARGUMENT, "dkm: weights or tables of type %s and %s",
                    pal_dtype_name(config->weight_dtype), pal_dtype_name(config->lut_dtype));
    pal_dkm *made = mem_zeroed(1, sizeof *made);
    if (!made)
        return fail_memory("differentiable k-means");
    made->threads = config->threads > 0 ? config->threads : parallel_processors();
    pal_status status = dkm_new(&c, &made->layer);
    if (status)
        free(made);
    else
        *out = made;
    return status;
}

void pal_dkm_free(pal_dkm *dkm)
{
    if (!dkm)
        return;
    dkm_free(dkm->layer);
    free(dkm);
}

pal_status pal_dkm_start(pal_dkm *dkm, const float *weights, const float *importance)
{
    dkm_workspace *workspace = NULL;
    pal_status status = dkm_workspace_new(&workspace);
    if (!status)
        status = dkm_start(dkm->layer, workspace, weights, importance, dkm->threads);
    dkm_workspace_free(workspace);
    return status;
}

const double *pal_dkm_centroids(const pal_dkm *dkm)
{
    return dkm_centroids(dkm->layer);
}

pal_status pal_dkm_set_centroids(pal_dkm *dkm, const double *centroids)
{
    return dkm_set_centroids(dkm->layer, centroids);
}

pal_status pal_dkm_set_tau(pal_dkm *dkm, double tau)
{
    return dkm_set_tau(dkm->layer, tau);
}

pal_status pal_dkm_set_mode(pal_dkm *dkm, pal_dkm_mode mode)
{
    dkm_mode found;
    if (!find_mode(mode, &found))
        return fail(PAL_ERROR_ARGUMENT, "dkm: no such mode");
    return dkm_set_mode(dkm->layer, found);
}

pal_status pal_dkm_forward(pal_dkm *dkm, const float *weights, float *palettized)
{
    dkm_workspace *workspace = NULL;
    pal_status status = dkm_workspace_new(&workspace);
    if (!status)
        status = dkm_forward(dkm->layer, workspace, weights, dkm->threads, palettized);
    dkm_workspace_free(workspace);
    return status;
}

pal_status pal_dkm_backward(pal_dkm *dkm, const float *weights, const float *gradient,
                            float *weight_gradient)
{
    dkm_workspace *workspace = NULL;
    pal_status status = dkm_workspace_new(&workspace);
    if (!status)
        status =
            dkm_backward(dkm->layer, workspace, weights, gradient, dkm->threads, weight_gradient);
    dkm_workspace_free(workspace);
    return status;
}

pal_status pal_dkm_finish(const pal_dkm *dkm, const float *weights, float *palettized,
                          uint8_t *indices)
{
    dkm_workspace *workspace = NULL;
    pal_status status = dkm_workspace_new(&workspace);
    if (!status)
        status = dkm_harden(dkm->layer, workspace, weights, dkm->threads, palettized, indices);
    dkm_workspace_free(workspace);
    return status;
}

pal_status pal_dkm_table(const pal_dkm *dkm, size_t group, float *values, int *entries,
                         double *scale, int *offset)
{
    const dkm_config *c = dkm_configuration(dkm->layer);
    if (group >= c->groups)
        return fail(PAL_ERROR_ARGUMENT, "dkm: group %zu of %zu", group, c->groups);
    dkm_lut *lut = mem_zeroed(1, sizeof *lut);
    if (!lut)
        return fail_memory("differentiable k-means");
    const size_t size = (size_t)c->clusters * c->dim;
    dkm_table(dkm->layer, group, lut);
    memcpy(values, lut->value, size * sizeof *values);
    if (entries && c->table != c->weights)
        memcpy(entries, lut->entry, size * sizeof *entries);
    if (scale)
        *scale = lut->scale;
    if (offset)
        *offset = lut->offset;
    free(lut);
    return PAL_OK;
}
