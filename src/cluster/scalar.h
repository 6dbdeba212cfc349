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
    uint8_t place[SCALAR_MAX_LUT];   /* where each of them stands in the table */
    double squared_error;            /* sum over all values of (value - its centroid)^2 */
    double weighted_error;           /* the same, times importance as the bins have it */
    double scale;                    /* of an integer table (integers.h), a value of the grid; */
    int offset;                      /* 0 for int8 */
    int entry[SCALAR_MAX_LUT];       /* centroid = (entry - offset) * scale, rounded to the grid */
} scalar_lut;

typedef struct scalar_workspace {
    bins bins;
    kmeans1d_workspace kmeans;
    uint8_t *index_of_pattern;       /* 16-bit types, for the patterns in the bins */
    float threshold[SCALAR_MAX_LUT]; /* how many of them are below a value: its centroid */
    uint8_t place[SCALAR_MAX_LUT];   /* of the centroids in the table */
    grid grid;                       /* of the centroids */
    grid values;                     /* of the values in the bins */
    double *coarse;                  /* for integer tables: values and masses of fewer bins, and */
    size_t coarse_capacity;          /* their values in units of the scale */
} scalar_workspace;

void scalar_workspace_free(scalar_workspace *workspace);

/* See bins_fill(). */
pal_status scalar_bins(scalar_workspace *workspace, grid grid, const void *values,
                       const float *importance, size_t n);

/* The largest magnitude among the values. */
double scalar_peak(const scalar_workspace *workspace);

/* `size` entries of least weighted error. */
pal_status scalar_lut_kmeans(scalar_workspace *workspace, unsigned size, scalar_lut *lut);
/* `size` entries at equal distances from the least to the greatest value; or at a distance rounded
 * to the grid, where that has the lower weighted error. */
pal_status scalar_lut_uniform(scalar_workspace *workspace, unsigned size, scalar_lut *lut);
/* The distinct values themselves, of which there must be at most `size`. */
pal_status scalar_lut_unique(scalar_workspace *workspace, unsigned size, scalar_lut *lut);

/* Brings entries into ascending order, equal ones in the order they have; the places they had. */
void sort_entries(unsigned size, double *entries, uint8_t *place);
/* The given entries, rounded to the grid, in any order, which the table keeps. */
pal_status scalar_lut_given(scalar_workspace *workspace, unsigned size, const double *entries,
                            scalar_lut *lut);

/* After a change of the centroids: finds the nearest one of each bin (of two equally near, the
 * lower), remembers it for scalar_indices(), and sums the errors. */
pal_status scalar_assign(scalar_workspace *workspace, scalar_lut *lut);

/* The nearest centroid of any value, by halving; its place in the table is another matter. */
static inline unsigned scalar_nearest(const scalar_workspace *workspace, float value)
{
    unsigned index = 0;
    for (unsigned step = SCALAR_MAX_LUT / 2; step; step /= 2)
        index += value > workspace->threshold[index + step - 1] ? step : 0;
    return index;
}

/* The place in the table of the nearest centroid, for each of n values that were among those given
 * to scalar_bins(). */
void scalar_indices(const scalar_workspace *workspace, const void *values, size_t n,
                    uint8_t *indices);

#endif
