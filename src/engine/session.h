/* Sessions over graphs that are not just as a file has them. */
#ifndef PAL_ENGINE_SESSION_H
#define PAL_ENGINE_SESSION_H

#include "graph/graph.h"

/* A session that takes over the graph, also on failure. The model is what the graph points into. */
pal_status session_new(pal_model *model, graph *graph, int threads, pal_session **out);

/* The graph as it was lowered. */
const graph *session_graph(const pal_session *session);

/* Whether samples run one by one because batches cannot be trusted. */
bool session_one_by_one(const pal_session *session);

#endif
