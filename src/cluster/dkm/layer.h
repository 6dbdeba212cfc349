/* What the files of this folder share.
 *
 *   layer.c      the state of a tensor, and the order of things
 *   layout.c     which weights a group has; divided by scales and multiplied again
 *   nodes.c      weights spread over evenly spaced nodes, and read off them
 *   points.c     a pass over the points of a group in fixed pieces
 *   iterate.c    the iterations of a group
 *   soft.c       what they do at each point, and the way back
 *   hard.c       the same in the modes without attention
 *   start.c      first centroids
 *   repair.c     centroids without weights
 *   table.c      centroids rounded to the type of the table
 *   harden.c     the hard result
 *   team.c       threads, and the memory they work in
 *   attention.c  the inner loops
 *   public.c     the functions of palettize.h
 *
 * "Values" are weights divided by their scales. "Points" are what attention is computed for: the
 * nodes of a group, with a mass each, or the values (vectors) themselves. */
#ifndef PAL_CLUSTER_DKM_LAYER_H
#define PAL_CLUSTER_DKM_LAYER_H

#include "cluster/dkm.h"
#include "cluster/dkm/attention.h"
#include "cluster/scalar.h"

/* ---------------------------------------------------------------- the state of a tensor */

/* What a group keeps from the forward to the backward pass. */
typedef struct group_state {
    double *path;     /* centroids before the first iteration and after each: (T + 1) x k x dim;
                         between the passes of two steps only the last count */
    double *mean;     /* the same before they were rounded: T x k x dim; NULL where nothing is
                         rounded, and path serves */
    double *attended; /* of each iteration, the sums of attention: T x k */
    unsigned done;    /* iterations of the last forward pass */
    int zero;         /* the centroid that was kept at 0, or -1 */
    double tau;       /* as it was in effect */
    double low, high; /* least and greatest value */
    size_t nodes;     /* at most; 0: value by value */
} group_state;

struct dkm {
    dkm_config config;
    float *scale;    /* copied */
    double *storage; /* of all groups */
    group_state *groups;
    double *centroids; /* of all groups, after the last step */
    bool passed;       /* there was a forward pass */
    dkm_mode mode;     /* of it */
};

static inline size_t group_elements(const dkm_config *c)
{
    return c->outer * c->channels * c->inner;
}

static inline size_t group_vectors(const dkm_config *c)
{
    return group_elements(c) / c->dim;
}

static inline size_t table_size(const dkm_config *c)
{
    return (size_t)c->clusters * c->dim;
}

static inline double *path_at(const dkm *d, size_t group, unsigned iteration)
{
    return d->groups[group].path + iteration * table_size(&d->config);
}

/* Centroids before rounding that iteration t led to. */
static inline const double *mean_at(const dkm *d, size_t group, unsigned t)
{
    const group_state *g = &d->groups[group];
    return g->mean ? g->mean + t * table_size(&d->config) : path_at(d, group, t + 1);
}

/* The centroids of iteration t, and what attention to them is computed from. */
mixture mixture_at(const dkm *d, size_t group, unsigned t);

/* The least and the greatest value of each group, two numbers each; PAL_ERROR_VALUE if a weight is
 * not finite. */
pal_status layer_scan(const dkm *d, dkm_workspace *workspace, const float *weights, int threads,
                      double *range);

/* ---------------------------------------------------------------- layout.c */

enum { CHUNK = 1024 }; /* values handled at once */

typedef enum scaling {
    UNSCALED,
    DIVIDED,    /* by the scale of each */
    MULTIPLIED, /* with it */
} scaling;

/* Elements begin .. begin + count - 1 of a group, in the order [outer, channels, inner]; count <=
 * CHUNK. Returns them in `room` or where they lie. */
const float *layout_take(const dkm *d, size_t group, const float *tensor, scaling scaling,
                         size_t begin, size_t count, float *room);
/* The way back; changes `values`. */
void layout_put(const dkm *d, size_t group, float *tensor, scaling scaling, size_t begin,
                size_t count, float *values);

/* Vectors begin .. begin + BLOCK - 1, component c of vector b at [c * BLOCK + b]; past the last, it
 * repeats. Returns how many there are. */
size_t layout_take_vectors(const dkm *d, size_t group, const float *tensor, scaling scaling,
                           size_t begin, double *points);
/* The way back; added to what is there, if `add`. */
void layout_put_vectors(const dkm *d, size_t group, float *tensor, scaling scaling, bool add,
                        size_t begin, const double *points);

/* The way back of what a file will hold: times scales, and rounded to the type of the weights. */
void layout_store_vectors(const dkm *d, size_t group, float *tensor, size_t begin,
                          const double *points);

/* The first element of the tensor that is not finite, or not after it was divided by its scale;
 * SIZE_MAX if there is none. */
size_t layout_find_bad(const dkm *d, const float *tensor, scaling scaling);

/* ---------------------------------------------------------------- the workspace */

/* A line from one node to the next: at the left one, and what is added towards the right one. */
typedef struct line {
    float value, slope;
} line;

enum { MOST_NODES = 65536 };

/* Evenly spaced nodes; nodes.c has what is done with them. */
typedef struct nodes {
    size_t count;       /* of intervals between them; nodes are one more */
    double first, step; /* node u is at first + u * step */
    double *mass;       /* of each node: summed nearness of weights */
    double *incoming;   /* the same of the gradients of the outputs */
    double *output;     /* at each node, the palettized value */
    double *by_mass;    /* and the gradient of its mass */
    uint8_t *alive;     /* of each block: whether some weight lies in it or next to it */
    uint64_t *number;   /* of each interval: weights in it, */
    uint64_t *way;      /* the sum of their ways from its left node, in small units, */
    int64_t *gradient;  /* and that of their gradients: all, and the part of the right node */
    line *lines;
    size_t capacity; /* intervals that there is room for */
} nodes;

/* What one thread needs by itself, and, of the first of a team, what a group needs while it is
 * worked on. */
typedef struct place {
    attention *attention;
    double *room;      /* ROOMS x DKM_MOST_DIM x BLOCK: points and the like */
    uint64_t *tally;   /* of each interval: what this thread counted, number and way in one */
    int64_t *gradient; /* the same of gradients */
    size_t tally_capacity;
    nodes nodes;
    double *pieces; /* the sums of each piece of a pass, */
    size_t pieces_capacity;
    double *sums;   /* and their sums, in order */
    double *tables; /* room for what is made of them: tables_room() */
    size_t sums_capacity, tables_capacity;
    scalar_workspace scalar;
} place;

enum { ROOMS = 3 };

static inline size_t tables_room(const dkm_config *c)
{
    return 4 * table_size(c) + 2 * (c->clusters + c->dim + 1);
}

struct dkm_workspace {
    place *places;
    int count;
};

/* The threads that work on a group. */
typedef struct team {
    dkm_workspace *workspace;
    int first, threads;
} team;

static inline place *team_place(const team *t, int thread)
{
    return &t->workspace->places[t->first + thread];
}

/* The place that has what belongs to the group. */
static inline place *team_lead(const team *t)
{
    return team_place(t, 0);
}

/* item(user, place of the thread, i) for i < count; it cannot fail. */
void team_run(const team *t, size_t count, void (*item)(void *user, place *own, size_t i),
              void *user);

#endif
