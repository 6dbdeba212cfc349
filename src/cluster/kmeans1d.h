/* Optimal k-means in one dimension, with centroids from the grid of storable values. */
#ifndef PAL_CLUSTER_KMEANS1D_H
#define PAL_CLUSTER_KMEANS1D_H

#include "cluster/bins.h"

/* Buffers that are reused from one problem to the next. Start from {0}. */
typedef struct kmeans1d_workspace {
    struct node *nodes, *coarse; /* coarse has half the capacity */
    uint32_t *previous, *queue, *queue_from;
    size_t capacity;
    double shift;
} kmeans1d_workspace;

void kmeans1d_workspace_free(kmeans1d_workspace *workspace);

/* The k centroids of least sum of mass * (value - nearest centroid)^2 among all choices of k
 * numbers of the grid, in ascending order; k >= 1. Where fewer suffice for zero error, the last one
 * is repeated. O(U log U) time for a few rounds, O(U) memory, U the number of bins. */
pal_status kmeans1d(const bins *bins, unsigned k, grid grid, kmeans1d_workspace *workspace,
                    double *centroids);

/* For judging centroids that were chosen otherwise: sums over the bins, */
pal_status kmeans1d_sums(const bins *bins, grid grid, kmeans1d_workspace *workspace);
/* and then by how much the error of k ascending centroids is below that of a single one in the
 * middle of the bins, in O(k log U). */
double kmeans1d_gain(const bins *bins, const kmeans1d_workspace *workspace, unsigned k,
                     const double *centroids);

#endif
