/* A model made ready for gradients of its weights: a static graph for one batch size, in which
 * weights are not folded into anything, and its plan. */
#ifndef PAL_ENGINE_GRADIENT_H
#define PAL_ENGINE_GRADIENT_H

#include "engine/plan.h"

typedef struct gradient_options {
    const int64_t (*shapes)[PAL_MAX_RANK]; /* of the graph's inputs */
    const bool *weights;                   /* by weight of the model: whether it wants a gradient */
    size_t weight_count;
    int threads;
    bool apart; /* squares of the samples' gradients, where the graph allows; the batch's otherwise
                 */
    bool weights_change; /* the wanted weights are variables */
    /* Of plan_options; `training` also keeps dropout in the graph. */
    bool training, fixed_statistics;
    uint64_t seed;
    recompute_kind recompute;
} gradient_options;

typedef struct gradients gradients;

/* A wanted weight that changes. Tied weights are one. Running statistics of batch norms may be
 * wanted as well, to be written: they have no gradient. */
typedef struct gradient_variable {
    size_t weight; /* of the model */
    size_t value;  /* of the graph */
    uint64_t elements;
    float *values;         /* row-major; to be written between runs */
    const float *gradient; /* row-major, valid after the way back until the next run; NULL: the loss
                              does not depend on the weight */
} gradient_variable;

/* `source` must outlive it. */
pal_status gradients_new(const graph *source, const gradient_options *options, gradients **out);
void gradients_free(gradients *gradients);

const graph *gradients_graph(const gradients *gradients);
/* For plan_run(), plan_run_backward(), plan_set_run(), plan_batch_statistics(). */
plan *gradients_plan(const gradients *gradients);
/* With weights_change, the variables in the order of the model's weights; a weight that nothing
 * uses is none. */
size_t gradients_variable_count(const gradients *gradients);
const gradient_variable *gradients_variable(const gradients *gradients, size_t i);
/* Whether squares are summed by sample: only if it was asked for. */
bool gradients_apart(const gradients *gradients);

/* Forgets the sums of squares so far. */
void gradients_clear(const gradients *gradients);
/* Adds the gradient of a weight of the model, or the sum of squares, to a row-major tensor;
 * `square`: its square. Tied weights that are several values of the graph are summed first. A
 * weight that the loss does not depend on adds nothing. */
pal_status gradients_add(const gradients *gradients, size_t weight, bool square, float *to);

#endif
