/* Optimizers: how a gradient changes weights. */
#ifndef PAL_METHOD_TRAIN_OPTIMIZER_H
#define PAL_METHOD_TRAIN_OPTIMIZER_H

#include <stddef.h>

#include "method/train/recipe.h"

enum { OPTIMIZER_MOST_SLOTS = 2 };

typedef struct optimizer {
    optimizer_kind kind;
    double momentum; /* SGD: Nesterov's; AdamW: beta 1 */
    double decay;    /* of this tensor */
    double lr;       /* of this step */
    uint64_t step;   /* 0 at first */
} optimizer;

/* Numbers that are kept for each weight from step to step, zero at first: 0 to
 * OPTIMIZER_MOST_SLOTS. */
size_t optimizer_slots(optimizer_kind kind, double momentum);

/* One step, as torch.optim.SGD (nesterov) and torch.optim.AdamW (beta 2 0.999, epsilon 1e-8) make
 * it. */
void optimizer_update(const optimizer *it, size_t count, float *weights, const float *gradient,
                      float *const slots[OPTIMIZER_MOST_SLOTS]);

#endif
