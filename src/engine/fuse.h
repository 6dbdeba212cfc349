/* Rewrites of a static graph that make inference faster: what follows an operator becomes part of
 * it. */
#ifndef PAL_ENGINE_FUSE_H
#define PAL_ENGINE_FUSE_H

#include "graph/graph.h"

/* Edits the graph in place; its outputs stay the same values. Not for gradients. */
pal_status graph_fuse(graph *graph);
/* Those that gradients allow: no weight is changed. */
pal_status graph_fuse_training(graph *graph);

#endif
