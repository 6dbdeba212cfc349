/* A pass over the points of a group in fixed pieces, whose sums are added in their order. */
#ifndef PAL_CLUSTER_DKM_POINTS_H
#define PAL_CLUSTER_DKM_POINTS_H

#include "cluster/dkm/layer.h"

/* The points of a block, as a visitor sees them. */
typedef struct block {
    size_t begin, count;  /* the first, and how many; behind those it is filled up */
    const double *points; /* component c of point b at [c * BLOCK + b] */
    const double *mass;   /* of each; 0 for what fills it up */
    place *own;           /* of the thread; own->attention is there for use, own->room has */
    double *room;         /* this for BLOCK more vectors, */
    double *more;         /* and this */
} block;

typedef struct pass {
    const team *team;
    const dkm *d;
    size_t group;
    const float *weights;
    bool by_nodes;
    size_t width; /* sums that each piece makes; 0: none */
    void (*visit)(const struct pass *pass, const block *b, double *sums);
    void *user;
    size_t each; /* blocks of a piece, set by pass_run() */
} pass;

/* Visits all blocks that have weights. Returns the sums: `width` numbers in the lead's place, valid
 * until the next pass. */
const double *pass_run(pass *pass);

/* How many doubles of lead->pieces a pass takes at most, whatever the number of its points: with
 * more of those there may be fewer pieces. */
size_t pass_room(size_t width);

#endif
