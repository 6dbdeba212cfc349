/* Batch normalisation in training; for inference see normalise.c. */
#ifndef PAL_ENGINE_OPS_BATCH_NORM_H
#define PAL_ENGINE_OPS_BATCH_NORM_H

#include "engine/plan.h"

pal_status batch_norm_training(plan *plan, const graph_node *node);
pal_status batch_norm_back(plan *plan, const graph_node *node);

#endif
