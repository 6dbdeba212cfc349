/* The passes of one group; iterate.c leads, soft.c and hard.c have what is done at each point. */
#ifndef PAL_CLUSTER_DKM_ITERATE_H
#define PAL_CLUSTER_DKM_ITERATE_H

#include "cluster/dkm/points.h"

/* Both passes of a group, whose range of values is known (group_state). They cannot fail. */
void group_forward(const team *team, dkm *d, size_t group, const float *weights, float *palettized);
/* peak: the largest magnitude of `out`, times scales. */
void group_backward(const team *team, const dkm *d, size_t group, const float *weights,
                    const float *out, double peak, float *gradient);

/* A pass for one iteration: of each centroid its excess attention and the same times points
 * (clusters x (dim + 1)), then the inertia. */
enum { INERTIA = 1 };

typedef struct iteration {
    mixture mixture;
    const double *table; /* what is mixed */
    double *rest;        /* room for dim + 1 numbers */
    const float *out;
    float *to;
    scaling scaling; /* of what is written there */
    bool first;      /* backward: of those that add to the gradient */
    const retreat *retreat;
    const struct finder *finder;
} iteration;

/* Centroids before iteration 0 that hardly any weight attends to, or that are the same as another,
 * are put where clusters are widest. sums: what the pass for that iteration found, which has to be
 * run again if this returns true. */
bool group_repair(const pass *of, dkm *d, const iteration *it, const double *sums);

void soft_sums(const pass *pass, const block *b, double *sums);
void soft_output(const pass *pass, const block *b, double *sums);
void soft_backward(const team *team, const dkm *d, size_t group, const float *weights,
                   const float *out, double peak, float *gradient);

/* The nearest centroid by halving, for single values. */
typedef struct finder {
    bool usable;
    double threshold[DKM_MOST_CLUSTERS]; /* what is above belongs to a later one */
    double centroid[DKM_MOST_CLUSTERS];
    uint8_t place[DKM_MOST_CLUSTERS];
} finder;

void finder_make(finder *f, const mixture *m);
void find_nearest(const finder *f, const mixture *m, const double *points, int32_t *which,
                  double *distance);

void hard_sums(const pass *pass, const block *b, double *sums);
void hard_output(const pass *pass, const block *b, double *sums);
void hard_backward(const team *team, const dkm *d, size_t group, const float *weights,
                   const float *out, float *gradient);

#endif
