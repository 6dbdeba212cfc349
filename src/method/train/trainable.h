/* Which weights of a model training may change. */
#ifndef PAL_METHOD_TRAIN_TRAINABLE_H
#define PAL_METHOD_TRAIN_TRAINABLE_H

#include "format/format.h"
#include "graph/graph.h"

typedef enum weight_role {
    ROLE_FIXED,  /* a constant that was never trained, or that the format cannot replace */
    ROLE_FACTOR, /* multiplies activations: weight decay holds for it */
    ROLE_OTHER,  /* biases; scales and shifts of norms */
} weight_role;

/* By weight of the model, from how the graph as it was lowered uses it. */
pal_status trainable_roles(const pal_model *model, const graph *graph, weight_role *roles);

#endif
