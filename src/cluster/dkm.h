/* Differentiable k-means (DKM, arXiv 2108.12659; eDKM, arXiv 2309.00964): a layer that replaces the
 * weights of a tensor by soft mixtures of a few centroids, and leads the gradient of a loss back
 * through that to the weights. docs/dkm.md has the formulas and their derivation.
 *
 * In a training loop, for each weight tensor:
 *
 *     dkm_new(&config, &d);
 *     dkm_start(d, w, weights, NULL, threads);      centroids by k-means (or dkm_set_centroids)
 *     each step:
 *         dkm_forward(d, w, weights, threads, palettized);     the network computes with these
 *         ... loss, gradient of the palettized weights ...
 *         dkm_backward(d, w, weights, gradient, threads, gradient);        in place, or elsewhere
 *         ... the optimizer changes the weights ...
 *     dkm_harden(d, w, weights, threads, values, indices); dkm_table(d, group, &table);
 *
 * The state that goes from one step to the next are the centroids alone: dkm_centroids() and
 * dkm_set_centroids() save and restore them (a resumed run gives the same bytes). A dkm keeps what
 * the backward pass needs, some T k numbers for each group; everything larger is in the workspace,
 * which any number of tensors share, one at a time.
 *
 * Small groups are computed value by value. Of large ones, of single values, at most 65,536 evenly
 * spaced nodes are looked at; each weight counts for the two nodes that it lies between. The result
 * is the function that is linear from node to node, and the gradient is the exact one of that.
 *
 * Results are the same bytes at any number of threads. Many small tensors are best given to several
 * threads at once, each with a workspace of its own and threads = 1. */
#ifndef PAL_CLUSTER_DKM_H
#define PAL_CLUSTER_DKM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "cluster/grid.h"

enum { DKM_MOST_CLUSTERS = 256, DKM_MOST_DIM = 64, DKM_MOST_ITERATIONS = 100 };

typedef enum dkm_mode {
    DKM_SOFT, /* attention by softmax: the algorithm itself */
    DKM_HARD, /* the nearest centroid; each step moves it to the mean of its weights; the gradient
                 goes to the weights unchanged (straight through) */
    DKM_MEAN, /* the same, but the gradient goes through those means: the weights of a cluster share
                 it evenly (coremltools' mode "hard") */
} dkm_mode;

typedef struct dkm_config {
    /* The weights are [outer, groups, channels, inner], innermost last. Those of all positions
     * before and after, of `channels` neighbouring channels, share a table. */
    size_t outer, groups, channels, inner;
    unsigned dim;      /* values of a vector, of neighbouring channels: cluster_dim; divides
                          `channels` */
    unsigned clusters; /* 2^nbits, 1 to 256 */
    dkm_mode mode;
    double tau;             /* temperature: attention is softmax(-distance^2 / tau); > 0 */
    bool relative;          /* tau counts in units of the variance of the group's values */
    double epsilon;         /* iterations end when the summed squared distances of the weights to
                               their nearest centroids change by no more */
    unsigned iterations;    /* at most so many, >= 1 */
    double zero_threshold;  /* attention is never below this; 0 to 1e-3 */
    bool enforce_zero;      /* the centroid nearest to 0 is kept at exactly 0, */
    double prune_threshold; /* and squared distances to it count less by this */
    bool repair;            /* centroids without weights go where they help */
    grid weights;           /* the type that the weights will be stored in: GRID_FLOAT16, ... */
    grid table; /* the type of the table: the same, or GRID_INT8 or GRID_UINT8; centroids
                   are rounded to it in each iteration, gradients pass unchanged */
    /* Scales by which weights are divided before and multiplied after: that of outer position o,
     * channel c (of all groups), inner position i is scale[o * scale_outer + c * scale_channel + i
     * * scale_inner]. Positive. Copied by dkm_new(). NULL: none. */
    const float *scale;
    size_t scale_outer, scale_channel, scale_inner;
    size_t nodes; /* at most so many: a power of two, 16 to 65,536; 0: chosen by the size of a
                     group; DKM_EXACT: none, each value counts by itself */
} dkm_config;

#define DKM_EXACT SIZE_MAX

/* coremltools' defaults (tau 1e-4, epsilon 1e-4, 3 iterations, thresholds of 1e-7) for a single
 * group of n float32 values; repair is on. */
dkm_config dkm_defaults(size_t n, unsigned clusters);

typedef struct dkm dkm;
typedef struct dkm_workspace dkm_workspace;

pal_status dkm_workspace_new(dkm_workspace **out);
void dkm_workspace_free(dkm_workspace *workspace);

/* PAL_ERROR_ARGUMENT names what is out of range in the configuration. */
pal_status dkm_new(const dkm_config *config, dkm **out);
void dkm_free(dkm *d);
const dkm_config *dkm_configuration(const dkm *d);

/* For annealing, from the next forward pass on. */
pal_status dkm_set_tau(dkm *d, double tau);
pal_status dkm_set_mode(dkm *d, dkm_mode mode);

/* First centroids: k-means of the weights as they are, weighted by `importance` (one for each
 * weight, >= 0) if not NULL. Optimal for single values, as far as nodes tell them apart. */
pal_status dkm_start(dkm *d, dkm_workspace *workspace, const float *weights,
                     const float *importance, int threads);

/* The centroids now: [groups, clusters, dim], of the weights divided by their scales. */
const double *dkm_centroids(const dkm *d);
/* PAL_ERROR_VALUE if one is not finite. */
pal_status dkm_set_centroids(dkm *d, const double *centroids);

/* All four take weights [outer, groups, channels, inner]; a weight that is not finite:
 * PAL_ERROR_VALUE, naming its index, and the state is as before. */

/* Iterates from the centroids of before, keeps the new ones, and writes what the network is to
 * compute with; `palettized` may be NULL. */
pal_status dkm_forward(dkm *d, dkm_workspace *workspace, const float *weights, int threads,
                       float *palettized);

/* The gradient of the weights from that of the palettized ones, `out`, through all iterations of
 * the last forward pass, whose weights must be given again. `gradient` may be `out`; otherwise they
 * must not overlap. What is taken for constant: the centroids that the pass began with, a relative
 * temperature, and that rounding is none. */
pal_status dkm_backward(dkm *d, dkm_workspace *workspace, const float *weights, const float *out,
                        int threads, float *gradient);

/* The hard result: each weight's nearest centroid, as a table of the configured type has it, times
 * its scale, rounded to the weights' type. `values` has the layout of the weights. `indices` are of
 * each group one after the other, in the order [outer, channels / dim, inner] within it. Either may
 * be NULL; values may be the weights. */
pal_status dkm_harden(const dkm *d, dkm_workspace *workspace, const float *weights, int threads,
                      float *values, uint8_t *indices);

/* The table of a group as it is stored. For an integer table an entry e stands for (e - offset) *
 * scale; otherwise `entry` is not set, scale is 1 and offset 0. */
typedef struct dkm_lut {
    float value[DKM_MOST_CLUSTERS * DKM_MOST_DIM]; /* clusters x dim */
    int entry[DKM_MOST_CLUSTERS * DKM_MOST_DIM];
    double scale;
    int offset;
} dkm_lut;

void dkm_table(const dkm *d, size_t group, dkm_lut *lut);

#endif
