/* From a model's file to a graph: one function for each kind of file that has one. The graph is
 * empty before; after a failure it is good only for graph_free(). */
#ifndef PAL_GRAPH_LOWER_H
#define PAL_GRAPH_LOWER_H

#include "graph/graph.h"

pal_status graph_lower_onnx(pal_model *model, graph *graph);
pal_status graph_lower_coreml(pal_model *model, graph *graph);

#endif
