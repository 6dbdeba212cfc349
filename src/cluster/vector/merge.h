/* Vectors that are near each other merged into their weighted means, so that a search on few of
 * these sees nearly what it would see on all vectors. */
#ifndef PAL_CLUSTER_VECTOR_MERGE_H
#define PAL_CLUSTER_VECTOR_MERGE_H

#include "cluster/vector/tiles.h"

/* Above so many components near vectors are too few. */
enum { MOST_MERGED_DIM = 4 };

/* The means of the vectors in each cell of a grid of about `cells`, weighted with what the vectors
 * weigh together. A clustering of them has the error that it has on the vectors, less a constant,
 * but for vectors that it parts from others of their cell. Vectors without weight are left out.
 * Where fewer than `least` means (1 or more) would be left, `t` stays empty. */
pal_status tiles_merge(tiles *t, const tiles *from, size_t cells, size_t least);

#endif
