/* Moves that Lloyd's iterations cannot make: clusters are given up, and others split. */
#ifndef PAL_CLUSTER_VECTOR_MOVES_H
#define PAL_CLUSTER_VECTOR_MOVES_H

#include "cluster/vector/lloyd.h"

/* Improves c->centroids, after a pass over them, until little more is found or c->work passes
 * `limit`; then a pass over the centroids is due. Clusters without members are the first to be
 * given up, also past the limit. `scout` (may be NULL) clusters a sample of the same vectors, with
 * as many centroids: what looks much worse there is not tried. */
pal_status moves_improve(clustering *c, double limit, clustering *scout);

/* Iterates to the end, as clustering_lloyd() does, and leaves no cluster empty that could have a
 * member; the centroids then are the means of their members. */
pal_status moves_settle(clustering *c, double tolerance, int rounds);

#endif
