/* What bench/vectors.py calls: the library keeps clustering of vectors to itself, and this module
 * holds that part of it and one function that can be seen. */
#include <stdlib.h>

#include "cluster/vector.h"

__attribute__((visibility("default"))) int bench_vector_kmeans(const float *rows, size_t count,
                                                               size_t dim, unsigned k, int threads,
                                                               float *centroids, uint8_t *labels);

/* Centroids (k x dim) and labels of `count` vectors whose components lie in `dim` rows. */
int bench_vector_kmeans(const float *rows, size_t count, size_t dim, unsigned k, int threads,
                        float *centroids, uint8_t *labels)
{
    const vector_set set = {count, dim, rows, NULL};
    pal_status status = vector_kmeans(&set, k, threads, centroids);
    return status ? (int)status : (int)vector_assign(&set, centroids, k, threads, labels, NULL);
}
