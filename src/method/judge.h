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
    size_t batch;        /* samples at once; 0: 8 */
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
/* The part of them whose results go to batch norms. */
double judge_normalised(const judge *judge);

/* Whether what is run uses the weight. */
bool judge_runs(const judge *judge, size_t weight);
/* Sets the values of a weight, row-major, for the runs that follow; at first they are the model's
 * own. Nothing happens where nothing uses it. */
void judge_set(judge *judge, size_t weight, const float *values);
/* The place in a run where the weight first takes part; of what is not run the last. */
size_t judge_place(const judge *judge, size_t weight);
/* From now on runs, over the first `samples` or fewer, begin at this place: weights that take part
 * before it stay as they are, and what they give is computed once and kept, where there is memory
 * for it. Place 0: at the beginning. */
pal_status judge_begin_at(judge *judge, size_t place, uint64_t samples);
/* Puts those of the first `samples` in front whose distance was the largest when they last ran, so
 * that runs beyond a limit end early. Runs must begin at place 0. */
pal_status judge_farthest_first(judge *judge, uint64_t samples);
/* The mean distance over the first `samples`; infinite where it is above `limit`, which may end
 * runs early, or where an output is not finite. */
pal_status judge_distance(judge *judge, uint64_t samples, double limit, double *out);

#endif
