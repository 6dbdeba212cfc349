/* The way back of depthwise convolutions to their weights, where oneDNN has no implementation that
 * is made for them. */
#ifndef PAL_ENGINE_OPS_DEPTHWISE_H
#define PAL_ENGINE_OPS_DEPTHWISE_H

#include "engine/plan.h"
#include "graph/infer.h"

/* Adds the pass that computes the gradient of weights [C,1,...], of one or two spatial dimensions,
 * with stride, dilation and padding as the geometry has them. `apart`: the batch is that of the
 * model. *done: whether it did; not where activations lie such that channels are no neighbours. */
pal_status depthwise_back_to_weights(plan *plan, const graph_node *node, const window_geometry *g,
                                     bool apart, bool *done);

#endif
