/* First centroids: greedy k-means++. */
#ifndef PAL_CLUSTER_VECTOR_SEED_H
#define PAL_CLUSTER_VECTOR_SEED_H

#include "cluster/vector/nearest.h"

/* k centroids among the vectors. Where there are fewer distinct ones than k, the rest repeat. */
pal_status seed(const tiles *set, unsigned k, uint64_t *random, float *centroids);

#endif
