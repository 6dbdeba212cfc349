/* The table from operators to the code that computes them: one file in ops/ for each family,
 * forward and backward side by side. */
#ifndef PAL_ENGINE_KERNELS_H
#define PAL_ENGINE_KERNELS_H

#include "engine/plan.h"

typedef struct op_kernel {
    /* Appends the steps that compute the node's outputs. All shapes are known. */
    pal_status (*forward)(plan *plan, const graph_node *node);
    /* Appends the steps that turn gradients of the outputs into gradients of those inputs that want
     * one. NULL: not differentiable. */
    pal_status (*backward)(plan *plan, const graph_node *node);
} op_kernel;

/* NULL forward where an operator is not computed. */
const op_kernel *kernel_of(graph_op op);

#endif
