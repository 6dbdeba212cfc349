/* How to train, as numbers: what method_options.c declares for method dkm. */
#ifndef PAL_METHOD_TRAIN_RECIPE_H
#define PAL_METHOD_TRAIN_RECIPE_H

#include <stdint.h>

#include "engine/plan.h"

typedef enum optimizer_kind {
    OPTIMIZER_SGD,
    OPTIMIZER_ADAMW,
} optimizer_kind;

typedef enum schedule_kind {
    SCHEDULE_COSINE,
    SCHEDULE_CONSTANT,
    SCHEDULE_STEP,
    SCHEDULE_ONE_CYCLE,
} schedule_kind;

typedef enum assignment_kind {
    ASSIGNMENT_SOFT,
    ASSIGNMENT_HARD,
} assignment_kind;

typedef enum start_kind {
    START_LAYERWISE,
    START_SENSITIVE,
    START_KMEANS,
} start_kind;

typedef struct recipe {
    start_kind start; /* the method that finds the palettes that training begins with */
    uint64_t epochs;
    optimizer_kind optimizer;
    schedule_kind schedule;
    double lr;              /* the highest of the schedule */
    double warmup;          /* part of all steps in which it rises from 0 */
    double weight_decay;    /* of weights that multiply; not of biases and norms */
    double momentum;        /* SGD: with Nesterov's look ahead; AdamW: of the first moment */
    double clip;            /* the largest norm of all gradients together; 0: any */
    double label_smoothing; /* the part of a label's probability that all classes share */
    double distill;         /* how much the float model's answer counts beside labels, 0 to 1 */
    double temperature;     /* by which both answers are softened there */
    double validation;      /* the part of the samples that is held back */
    uint64_t micro_batch;   /* samples that run at once; 0: the whole batch */
    recompute_kind recompute;
    uint64_t statistics; /* batches on which the final statistics of batch norms are taken; 0: the
                            running ones of training */
    assignment_kind assignment;
    double tau, tau_end; /* temperature of soft assignment, in the variance of the weights, at first
                            and at the end */
    double zero_threshold;
    uint64_t iterations;
    char augment[128];
    char checkpoint[4096], resume[4096], log[4096];
    uint64_t checkpoint_steps; /* 0: after each epoch */
} recipe;

#endif
