/* k-means of short vectors (cluster_dim > 1), where no optimum can be found in reasonable time: a
 * search, in src/cluster/vector/, from greedy k-means++ on a sample over Lloyd's iterations to
 * clusters given up here and split there. Deterministic: the generator is seeded the same each
 * time, sums over vectors are taken in fixed pieces, in their order, whatever the number of
 * threads, and the search ends after work counted, not time. */
#ifndef PAL_CLUSTER_VECTOR_H
#define PAL_CLUSTER_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct vector_set {
    size_t count, dim;
    const float *values;     /* dim rows of `count`: component d of vector i at [d * count + i] */
    const float *importance; /* one for each vector, >= 0; NULL: all ones */
} vector_set;

/* k centroids (k x dim) of low error; 1 <= k <= 256. Where there are fewer distinct vectors than k,
 * the rest repeat. Vectors without importance are served as importance.h says. */
pal_status vector_kmeans(const vector_set *set, unsigned k, int threads, float *centroids);

/* The nearest centroid of each vector (of two equally near, the first), and the summed squared
 * distances, weighted by importance. Either may be NULL. */
pal_status vector_assign(const vector_set *set, const float *centroids, unsigned k, int threads,
                         uint8_t *indices, double *error);

#endif
