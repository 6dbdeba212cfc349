/* Candidates for centroids that compete: a pool of them, and what they do on a set of vectors, side
 * by side in several threads. What comes of a candidate does not depend on the others, nor on the
 * threads. */
#ifndef PAL_CLUSTER_VECTOR_CANDIDATES_H
#define PAL_CLUSTER_VECTOR_CANDIDATES_H

#include "cluster/vector/lloyd.h"

typedef struct pool {
    unsigned count;
    size_t numbers;    /* k x dim */
    float **centroids; /* sorted by error */
    double *error;
    float *memory;
} pool;

pal_status pool_init(pool *p, size_t numbers, unsigned count);
void pool_free(pool *p);

/* Only the first `keep` stay. */
void pool_keep(pool *p, unsigned keep);

/* Candidates that came to about the same error as a better one drop out. Returns how many had that
 * of the best, itself included. */
unsigned pool_distinct(pool *p);

/* The vectors, or few that stand for them, and clusterings of these: one for each thread where
 * candidates are at work side by side, or one that all threads share. */
typedef struct level {
    tiles set;
    clustering *crew;
    unsigned count;
} level;

/* As many clusterings as can be at work on `candidates`, in place of those there were. After a
 * failure, too, the level is to be freed. */
pal_status crew_init(level *l, unsigned k, unsigned candidates, int threads);
void crew_free(level *l);
void level_free(level *l);

/* What each candidate has to do: iterations, as clustering_lloyd() takes them, and moves. */
typedef struct heat {
    double tolerance;
    int rounds;
    double moves;  /* work to spend on them */
    level *scouts; /* as many clusterings of a sample, for moves to look ahead on; NULL: none */
    bool begin;    /* first centroids are wanted, too */
    uint64_t random;
} heat;

/* Afterwards the pool is sorted. */
pal_status heat_run(const heat *h, pool *p, level *l);

/* Some iterations for each, the worse half drops out, and so on, until `keep` are left. */
pal_status tournament(pool *p, level *l, int rounds, unsigned keep);

#endif
