/* From a graph to a plan: static shapes, folded constants, fused operators. */
#ifndef PAL_ENGINE_ENGINE_H
#define PAL_ENGINE_ENGINE_H

#include "engine/plan.h"
#include "graph/specialise.h"

/* Computes a node of constants with its kernel: for graph_specialise(). `user` is not used. */
pal_status engine_evaluate(void *user, const graph_node *node, const graph_value *const *inputs,
                           graph_tensor *const *outputs);

/* Lets OpenMP, and with it oneDNN, use this many threads from now on in this thread; returns how
 * many it were before. */
int engine_set_threads(int threads);

#endif
