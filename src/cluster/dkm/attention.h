/* The inner loops of soft DKM: attention of a block of points to the centroids, what a block adds
 * to sums over points, and its way back. Formulas are numbered as in docs/dkm.md.
 *
 * Attention is max(p, z), p the softmax and z the zero threshold. Most centroids have p far below z
 * for most points, so what is kept is the excess max(p, z) - z, of the centroids that have any;
 * what z itself adds to sums is the same for every centroid, and added once by the caller. */
#ifndef PAL_CLUSTER_DKM_ATTENTION_H
#define PAL_CLUSTER_DKM_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLOCK = 32,      /* points at once */
    MOST_ROWS = 256, /* centroids */
};

/* What attention is computed from. */
typedef struct mixture {
    unsigned k;
    size_t dim;
    const double *centroid; /* k x dim */
    double tau;
    double threshold; /* z */
    double reach;     /* exp(-reach) is as good as nothing */
    int zero;         /* the centroid with a bonus, -1: none, */
    double bonus;     /* which its squared distances are reduced by */
} mixture;

/* The reach that loses no digits of single precision: all terms left out of a softmax of k are
 * below 4e-8 of it together, and each far below the threshold. */
double mixture_reach(unsigned k, double threshold);

typedef struct attention {
    unsigned count;                  /* rows: centroids with attention */
    uint8_t which[MOST_ROWS];        /* centroids, ascending */
    double nearest[BLOCK];           /* least squared distance, less the bonus */
    double share[MOST_ROWS][BLOCK];  /* p */
    double excess[MOST_ROWS][BLOCK]; /* max(p, z) - z */
} attention;

/* points: component c of point b at [c * BLOCK + b]. ordered: dim is 1 and the points ascend. */
void attend(const mixture *m, const double *points, bool ordered, attention *a);

/* What the points give to sums, each `mass` times: to sums[j * (dim + 1)] the excess of centroid j
 * behind it excess times point (4). */
void attention_sums(const attention *a, const double *points, const double *mass, size_t dim,
                    double *sums);
/* Inertia: mass times least distance. */
double attention_inertia(const attention *a, const double *mass);

/* outputs[c * BLOCK + b] = sum_j a_bj table_j (6); rest: the threshold times the table's sum, for
 * each component. */
void attention_mix(const attention *a, const double *table, const double *rest, size_t dim,
                   double *outputs);

/* sums[j * dim + c] += excess times incoming gradient (7), of which component c of point b is
 * incoming[c * BLOCK + b]. */
void attention_gather(const attention *a, const double *incoming, size_t dim, double *sums);

/* One iteration back. */
typedef struct retreat {
    const double *slope;  /* alpha (8): k x dim */
    const double *offset; /* beta: of each centroid, alpha times unrounded centroid */
    const double *rest;   /* z times the sum of all slopes (dim numbers), then of all offsets */
    const double *table;  /* what outputs were mixed from, if this was the last iteration; or NULL,
                             and with it */
    const double *incoming; /* the gradient of the outputs */
    const double *mass;
    double *sums;     /* gradient of this iteration's centroids, added: k x dim; NULL: not
                         wanted */
    double *by_mass;  /* receives the gradient of each point's mass (12); may be NULL */
    double *by_point; /* receives that of the points (11), like points; may be NULL */
} retreat;

/* Uses up a->excess. */
void attention_retreat(attention *a, const mixture *m, const double *points, const retreat *r);

/* The nearest centroid (first of equally near ones) and its squared distance, less the bonus. */
void attention_nearest(const mixture *m, const double *points, int32_t *which, double *distance);

#endif
