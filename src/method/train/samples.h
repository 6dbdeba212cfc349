/* The samples of a run: those that are trained on, and those that are held back to score. */
#ifndef PAL_METHOD_TRAIN_SAMPLES_H
#define PAL_METHOD_TRAIN_SAMPLES_H

#include "method/feed.h"

/* Cuts the data, at random by the seed: `part` of it, rounded, is held back; NULL if that is
 * nothing. Both must be freed before the data. */
pal_status samples_split(const pal_data *data, double part, uint64_t seed, pal_data **training,
                         pal_data **held_back);

#endif
