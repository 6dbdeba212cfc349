/* Ways back of functions of one and of two operands. */
#ifndef PAL_ENGINE_OPS_SLOPES_H
#define PAL_ENGINE_OPS_SLOPES_H

#include "engine/plan.h"

/* The derivative at x; 0 where the function is a step. */
float unary_slope(unary_kind kind, float alpha, float beta, float x);

pal_status back_unary(plan *plan, const graph_node *node, unary_kind kind, float alpha, float beta);
/* BINARY_PRELU (loops.h) is a kind here, too. */
pal_status back_binary(plan *plan, const graph_node *node, binary_kind kind);
pal_status back_select(plan *plan, const graph_node *node);
/* Undoes what graph_fuse_training() fused to a product: from here on the gradient of the node's
 * output is that of the product itself. */
pal_status back_posts(plan *plan, const graph_node *node);

#endif
