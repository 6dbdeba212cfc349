/* The search where clusters are few. */
#ifndef PAL_CLUSTER_VECTOR_FEW_H
#define PAL_CLUSTER_VECTOR_FEW_H

#include "cluster/vector/tiles.h"

enum { MOST_FEW = 32 };

/* k centroids (k x dim), as the frame has them; k up to MOST_FEW. */
pal_status search_few(const vector_set *set, const frame *f, unsigned k, int threads,
                      float *centroids);

#endif
