/* Walking a tensor in row-major order while an offset into another follows by strides: what all
 * operators that move elements come down to. */
#ifndef PAL_ENGINE_OPS_WALK_H
#define PAL_ENGINE_OPS_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "engine/plan.h"

/* The destination's extents and, for each of its axes, how far the source moves (in elements). Axes
 * are merged where one continues the other; the last axis is the innermost. */
typedef struct walk {
    size_t rank;
    int64_t extent[PAL_MAX_RANK], stride[PAL_MAX_RANK];
    int64_t start; /* where the source begins */
} walk;

/* Strides of a row-major tensor. */
void row_major_strides(size_t rank, const int64_t *shape, int64_t *strides);

/* A walk over `shape` with these source strides; axes of extent 1 go, neighbours merge. */
walk walk_new(size_t rank, const int64_t *shape, const int64_t *strides, int64_t start);

/* The error of an index that names no place of its axis. */
pal_status bad_index(int64_t index, int64_t extent);

/* to[i] = from[offset of the walk], for elements of 1, 4 or 8 bytes. Uses OpenMP's threads. */
void walk_copy(const walk *walk, size_t element, const void *from, void *to);
/* The other way: to[offset of the walk] = from[i]; no two offsets may be equal. */
void walk_put(const walk *walk, size_t element, const void *from, void *to);

#endif
