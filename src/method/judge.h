/* How far a model with other weights is from what it was: the distance of its output, on samples.
 *
 * Of scores of classes that is the Kullback-Leibler divergence of the probabilities, in nats, the
 * mean over samples and places; of other numbers the squared error relative to the mean square.
 * Labels are not needed. */
#ifndef PAL_METHOD_JUDGE_H
#define PAL_METHOD_JUDGE_H

#include "base/status.h"

typedef struct judge judge;

typedef struct judge_options {
    const bool *weights; /* by weight of the model: those that will change */
    const char *output;  /* NULL: the model's first */
    size_t batch;        /* samples at once; 0: 32 */
    int threads;         /* 0: all processors */
} judge_options;

/* Runs the model as it is on the samples, as many as memory of fixed size holds, and keeps what it
 * answers. PAL_ERROR_VALUE, naming the sample, if that is not finite. */
pal_status judge_open(pal_model *model, const pal_data *data, const judge_options *options,
                      judge **out);
void judge_free(judge *judge);

uint64_t judge_samples(const judge *judge);
/* Multiplications by these weights for one sample. */
double judge_work(const judge *judge);

/* The values of a weight, row-major, as the next run will have them; at first the model's own. NULL
 * where nothing that is run uses the weight. */
float *judge_weight(const judge *judge, size_t weight);
/* The mean distance over the first `samples`. Runs may end early once it is certain to be above
 * `limit`: then *out is infinite, as it is where an output is not finite. */
pal_status judge_distance(judge *judge, uint64_t samples, double limit, double *out);

#endif
