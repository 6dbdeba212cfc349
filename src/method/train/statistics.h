/* The means and variances that batch norms will use once the model is trained. */
#ifndef PAL_METHOD_TRAIN_STATISTICS_H
#define PAL_METHOD_TRAIN_STATISTICS_H

#include "engine/gradient.h"
#include "method/compression.h"

typedef struct norm_statistics {
    size_t mean_weight, variance_weight; /* of the model */
    uint64_t channels;
    float *mean, *variance; /* now */
    double *sums;           /* of means, then of variances, over the batches of a measurement */
} norm_statistics;

typedef struct statistics {
    norm_statistics *norms;
    size_t count;
    uint64_t batches; /* of the measurement */
} statistics;

/* Of a plan for training; they begin as the compression adjusted them, or else as the file has
 * them. Batch norms whose statistics cannot be
 * replaced: PAL_ERROR_UNSUPPORTED. */
pal_status statistics_new(const compression *compression, gradients *gradients, statistics *out);
void statistics_free(statistics *it);

/* Moves them a tenth of the way to those of the batch that has just run, as PyTorch does. */
void statistics_follow(statistics *it, gradients *gradients);

/* Measuring them: begin, add after each run, and take the means over all runs. */
void statistics_begin(statistics *it);
void statistics_add(statistics *it, gradients *gradients);
void statistics_take(statistics *it);

#endif
