/* Vectors as the searching code wants them: shifted to their mean and scaled by a power of two, so
 * that single precision serves at any magnitude, and laid out in tiles of 64 with the components of
 * a tile in rows. Where that pays, vectors that are near each other share a tile, so that a box
 * around a tile rules out most centroids at once. */
#ifndef PAL_CLUSTER_VECTOR_TILES_H
#define PAL_CLUSTER_VECTOR_TILES_H

#include <stdbool.h>

#include "cluster/vector.h"

enum { TILE = 64, GROUP = 8 /* tiles */ };

typedef struct tiles {
    size_t count, dim; /* of the vectors, without padding */
    size_t tile_count;
    float *values;      /* tile_count x dim x TILE; the last tile repeats its last vector */
    float *weights;     /* tile_count x TILE; 0 in the padding */
    float *boxes;       /* tile_count x 2 x dim: middles, then half widths; NULL: none */
    float *group_boxes; /* the same of each GROUP of tiles */
} tiles;

/* How the values were shifted and scaled; the same for a set and its samples. */
typedef struct frame {
    double *shift; /* dim */
    double scale;
} frame;

pal_status frame_init(frame *f, const vector_set *set);
void frame_free(frame *f);

/* All vectors, or (count below set->count) a sample: one from each of `count` stretches of equal
 * length. */
pal_status tiles_init(tiles *t, const vector_set *set, const frame *f, size_t count, bool boxed,
                      int threads, uint64_t *random);

/* Room for `count` vectors without boxes; then what follows from these once they are there. */
pal_status tiles_alloc(tiles *t, size_t count, size_t dim, bool boxed);
void tiles_complete(tiles *t);
void tiles_free(tiles *t);

static inline const float *tile_values(const tiles *t, size_t tile)
{
    return t->values + tile * t->dim * TILE;
}

static inline const float *tile_weights(const tiles *t, size_t tile)
{
    return t->weights + tile * TILE;
}

/* The boxes around groups of tiles, from those around the tiles. */
void tiles_group(tiles *t);

/* The box around a tile: `dim` middles, then `dim` half widths. */
void tile_box(const float *values, size_t dim, float *box);

/* SplitMix64, and a number in [0, 1) made from it. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline double next_unit(uint64_t *state)
{
    return (double)(next_random(state) >> 11) * 0x1p-53;
}

#endif
