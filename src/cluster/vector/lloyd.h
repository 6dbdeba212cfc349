/* Lloyd's iterations over tiles. */
#ifndef PAL_CLUSTER_VECTOR_LLOYD_H
#define PAL_CLUSTER_VECTOR_LLOYD_H

#include "cluster/vector/nearest.h"

/* Centroids over a set, and what one pass over the vectors finds out. */
typedef struct clustering {
    const tiles *set;
    unsigned k;
    int threads;
    float *centroids;           /* k x dim */
    double error;               /* of the centroids, after a pass */
    uint8_t *index;             /* of each vector of each tile, its centroid */
    double *totals;             /* k x (dim + 1): weighted sums and weights of the members */
    size_t members[MOST_SITES]; /* those with a weight above 0 */
    double work;                /* done so far: about nanoseconds of one thread */
    sites table;                /* the centroids of the last pass */
    /* The rest is for passes alone. */
    uint8_t *anchors;       /* of each tile, the centroid last seen in its middle */
    uint8_t *group_anchors; /* and of each group of tiles */
    bool anew;              /* the next pass takes the sums anew */
    struct gain *gains;     /* one for each piece of the set */
    struct room *rooms;     /* one for each thread */
    double *gain_totals, *room_folded;
    float *room_sums, *room_rows;
    struct past *past; /* the last iterations */
} clustering;

pal_status clustering_init(clustering *c, const tiles *set, unsigned k, int threads);
void clustering_free(clustering *c);

/* As if nothing had been clustered before: what follows does not depend on it. */
void clustering_forget(clustering *c);

/* Assigns all vectors to the nearest of c->centroids and finds the error and the sums. */
pal_status clustering_pass(clustering *c);

/* Iterates until the error falls by less than `tolerance` of itself, at most `rounds` passes. On
 * return a pass over the centroids has been made. */
pal_status clustering_lloyd(clustering *c, double tolerance, int rounds);

/* Moves the centroids to the means of their members. */
void clustering_center(clustering *c);

#endif
