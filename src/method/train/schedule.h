/* What changes in the course of training: the learning rate and the temperature. */
#ifndef PAL_METHOD_TRAIN_SCHEDULE_H
#define PAL_METHOD_TRAIN_SCHEDULE_H

#include "method/train/recipe.h"

/* The learning rate of step `step` (from 0) of `steps`. */
double schedule_lr(const recipe *recipe, uint64_t step, uint64_t steps);
/* The temperature: from tau to tau_end by equal factors. */
double schedule_tau(const recipe *recipe, uint64_t step, uint64_t steps);

#endif
