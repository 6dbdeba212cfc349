/* The search for centroids: from candidates on a small sample to one on all vectors. */
#ifndef PAL_CLUSTER_VECTOR_SEARCH_H
#define PAL_CLUSTER_VECTOR_SEARCH_H

#include "cluster/vector/tiles.h"

/* k centroids (k x dim), as the frame has them. */
pal_status search(const vector_set *set, const frame *f, unsigned k, int threads, float *centroids);

/* Nanoseconds that five restarts of Lloyd's algorithm might take, in which searches reckon. */
double restarts_work(size_t count, size_t dim, unsigned k);

#endif
