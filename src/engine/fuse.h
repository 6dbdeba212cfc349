/* Rewrites of a static graph that make inference faster: what follows an operator becomes part of
 * it. */
#ifndef PAL_ENGINE_FUSE_H
#define PAL_ENGINE_FUSE_H

#include "graph/graph.h"

/* Edits the graph in place; its outputs stay the same values. Not for training. */
pal_status graph_fuse(graph *graph);

#endif
