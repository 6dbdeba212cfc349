/* What a plan is made of: for the files that make, lay out and run one. */
#ifndef PAL_ENGINE_PLAN_STATE_H
#define PAL_ENGINE_PLAN_STATE_H

#include "engine/plan.h"

/* The buffers that hold a value: the first as it was made, the others reordered. */
typedef struct value_buffers {
    buffer **list;
    size_t count, capacity;
} value_buffers;

/* What consumers gave of a value's gradient, until it is asked for. */
typedef struct value_gradient {
    buffer **shares;
    size_t count, capacity;
    buffer *sum;         /* once it was asked for */
    value_buffers forms; /* the sum in other layouts */
    buffer *squares;     /* of a weight, by its samples */
    size_t passes;       /* consumers that compute it for each sample */
} value_gradient;

/* What a batch norm found in its batch. */
typedef struct kept_statistics {
    const graph_node *node;
    buffer *mean, *variance;
    uint64_t count;
} kept_statistics;

struct plan {
    plan_options options;
    const graph *graph;
    mem_arena arena;
    buffer **buffers;
    size_t buffer_count, buffer_capacity;
    value_buffers *values; /* by value of the graph */
    step *steps;
    size_t step_count, step_capacity;
    const graph_node *node;     /* whose steps are being made */
    buffer **inputs, **outputs; /* of the model */
    unsigned char *memory;      /* that buffers share */
    size_t memory_bytes, constant_bytes;
    size_t forward_count;      /* steps; those after it go backward */
    bool *wants;               /* by value; NULL: forward only */
    value_gradient *gradients; /* by value */
    size_t *batch_axes; /* by value (plan_samples.c); NULL unless several samples are kept apart */
    buffer **output_gradients;
    uint64_t run; /* its number, for what is drawn */
    kept_statistics *statistics;
    size_t statistics_count, statistics_capacity;
};

/* The buffer whose memory this one uses. */
buffer *buffer_root(buffer *buffer);

/* Calls `visit` with the root of each buffer that a step, number `at`, reads or writes. */
typedef void root_visit(void *to, const step *step, size_t at, buffer *root);
void visit_reads(const step *step, size_t at, root_visit *visit, void *to);
void visit_writes(const step *step, size_t at, root_visit *visit, void *to);

/* Appends the step that runs a reorder, whose state it takes over. */
pal_status plan_add_reorder(plan *plan, void *state, buffer *from, buffer *to);

/* Everything for the way back, after the steps forward are made. */
pal_status plan_make_backward(plan *plan);
/* Which values want gradients. */
pal_status plan_find_wants(plan *plan);
/* Where the samples of the batch lie in each value. */
pal_status plan_find_samples(plan *plan);
void plan_free_gradients(plan *plan);

/* Rewrites the list of steps such that the way back computes again what options.recompute says
 * (plan_recompute.c). */
pal_status plan_recompute(plan *plan);

/* Memory for everything that lives between steps: lifetimes, in-place steps, offsets. */
pal_status plan_lay_out(plan *plan);
/* The most bytes that any step finds alive, which the memory laid out comes close to. Leaves the
 * plan as it was. */
pal_status plan_most_alive(plan *plan, size_t *bytes);

#endif
