/* The loss that sensitivities are of, its gradient by a model's output, and how far one output is
 * from another. */
#ifndef PAL_METHOD_LOSS_H
#define PAL_METHOD_LOSS_H

#include "base/status.h"

typedef enum loss_kind {
    LOSS_CLASSES, /* cross entropy of scores [places, classes] */
    LOSS_NUMBER,  /* the output itself, one number for each sample */
} loss_kind;

/* What an output holds. */
typedef enum score_kind {
    SCORES_PLAIN,         /* to be put through softmax */
    SCORES_PROBABILITIES, /* what softmax gave */
    SCORES_LOGARITHMS,    /* of probabilities */
} score_kind;

typedef struct loss {
    loss_kind kind;
    score_kind scores;
    size_t places, classes; /* of each sample */
    uint64_t seed;
} loss;

/* From the shape of an output, whose first dimension is the batch's. */
pal_status loss_for(const pal_tensor *output, score_kind scores, uint64_t seed, loss *out);

/* The loss of one sample and its gradient, both of `places * classes` numbers (or of one).
 * `targets`: the class at each place, -1 where it does not count; NULL: drawn from the model's own
 * probabilities, by the seed and the sample's number. */
double loss_gradient(const loss *loss, const float *output, const int64_t *targets, uint64_t sample,
                     float *gradient);

/* KL(was || is) of the scores at one place, in nats; each score lies `stride` behind the one
 * before. Classes that `was` rules out (by -inf, or a probability of 0) add nothing. */
double scores_divergence(score_kind kind, const float *was, const float *is, size_t classes,
                         size_t stride);

#endif
