/* Moves that Lloyd's iterations cannot make: clusters are given up, and others split. */
#ifndef PAL_CLUSTER_VECTOR_MOVES_H
#define PAL_CLUSTER_VECTOR_MOVES_H

#include "cluster/vector/lloyd.h"

unsigned clusters_empty(const clustering *c);

/* Improves c->centroids, after a pass over them, until little more is found or c->work passes
 * `limit`; then a pass over the centroids is due. Clusters without members are the first to be
 * given up, also past the limit. */
pal_status moves_improve(clustering *c, double limit);

#endif
