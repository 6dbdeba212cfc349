/* Vector palettization of one group of channels. */
#ifndef PAL_METHOD_VECTORS_H
#define PAL_METHOD_VECTORS_H

#include "base/status.h"
#include "cluster/grid.h"

/* A tensor [outer, channels, inner] of values of the grid's type, of which the channels from
 * `first` on, `count` of them, make the group. Vectors lie along the channels; `dim` divides
 * count. */
typedef struct vector_group {
    const void *dense;
    grid grid;
    size_t outer, channels, inner;
    size_t first, count;
    size_t dim;
} vector_group;

/* Fills `lut`, 2^nbits x dim values of the grid's type, and an index for each vector, in the order
 * [outer, count / dim, inner]. `squared_error` is summed over the values as stored, `peak` their
 * largest magnitude. PAL_ERROR_VALUE if a value is not finite. */
pal_status vectors_cluster(const vector_group *group, unsigned nbits, int threads, void *lut,
                           uint8_t *indices, double *squared_error, double *peak);

#endif
