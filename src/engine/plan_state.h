/* What a plan is made of: for the files that make, lay out and run one. */
#ifndef PAL_ENGINE_PLAN_STATE_H
#define PAL_ENGINE_PLAN_STATE_H

#include "engine/plan.h"

/* The buffers that hold a value: the first as it was made, the others reordered. */
typedef struct value_buffers {
    buffer **list;
    size_t count, capacity;
} value_buffers;

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
};

/* The buffer whose memory this one uses. */
buffer *buffer_root(buffer *buffer);

/* Appends the step that runs a reorder, whose state it takes over. */
pal_status plan_add_reorder(plan *plan, void *state, buffer *from, buffer *to);

/* Memory for everything that lives between steps: lifetimes, in-place steps, offsets. */
pal_status plan_lay_out(plan *plan);

#endif
