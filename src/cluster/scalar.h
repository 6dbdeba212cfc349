/* Scalar clustering of a buffer: bins, a look-up table chosen on them, and an index for each value.
 *
 * The order of calls: scalar_bins(), then one of the scalar_lut_ functions, then scalar_indices()
 * as often as needed (it may be given the buffer in pieces). A workspace serves one thread and is
 * reused from one buffer to the next. */
#ifndef PAL_CLUSTER_SCALAR_H
#define PAL_CLUSTER_SCALAR_H

#include "cluster/bins.h"
#include "cluster/kmeans1d.h"

enum { SCALAR_MAX_LUT = 256 };

typedef struct scalar_lut {
    unsigned size;                   /* entries */
    double centroid[SCALAR_MAX_LUT]; /* ascending, each a value of the grid */
    double squared_error;            /* sum over all values of (value - its centroid)^2 */
    double weighted_error;           /* the same, times importance */
} scalar_lut;

typedef struct scalar_workspace {
    bins bins;
    kmeans1d_workspace kmeans;
    uint8_t *index_of_pattern;       /* 16-bit types, for the patterns in the bins */
    float threshold[SCALAR_MAX_LUT]; /* float32: index = how many of them are below */
    grid grid;
} scalar_workspace;

void scalar_workspace_free(scalar_workspace *workspace);

/* See bins_fill(). */
pal_status scalar_bins(scalar_workspace *workspace, grid grid, const void *values,
                       const float *importance, size_t n);

/* The largest magnitude among the values. */
double scalar_peak(const scalar_workspace *workspace);

/* `size` entries of least weighted error. */
pal_status scalar_lut_kmeans(scalar_workspace *workspace, unsigned size, scalar_lut *lut);
/* `size` entries at equal distances from the least to the greatest value. */
pal_status scalar_lut_uniform(scalar_workspace *workspace, unsigned size, scalar_lut *lut);
/* The distinct values themselves, of which there must be at most `size`. */
pal_status scalar_lut_unique(scalar_workspace *workspace, unsigned size, scalar_lut *lut);

/* The nearest entry for each of n values that were among those given to scalar_bins(). */
void scalar_indices(const scalar_workspace *workspace, const void *values, size_t n,
                    uint8_t *indices);

#endif
