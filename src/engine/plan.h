/* A plan: the steps that run a static graph, and the memory that they share.
 *
 * Each operator has a kernel (kernels.h) that looks at its node once and appends steps to the plan:
 * forward when the plan is made, and for training, in the opposite order of nodes, backward. Steps
 * of both kinds read and write buffers; when all are known, memory is laid out by the buffers'
 * lifetimes, so that an activation's memory is free again after the last step that reads it,
 * whichever direction that step belongs to.
 *
 * A buffer's elements lie row-major or in a layout that oneDNN chose (onednn.h). A kernel takes
 * what it can and asks for another form where it must; the plan adds the reorder once for all that
 * ask. */
#ifndef PAL_ENGINE_PLAN_H
#define PAL_ENGINE_PLAN_H

#include "graph/graph.h"

/* How elements lie in memory. Belongs to whoever made it and must outlive the plan; onednn.h. */
typedef struct layout layout;

typedef struct buffer {
    graph_type type;
    size_t rank;
    int64_t shape[PAL_MAX_RANK];
    uint64_t elements;
    const layout *layout; /* NULL: row-major */
    size_t bytes;         /* padding of blocked layouts included */
    bool constant;        /* its data is there while the plan is made, and never changes */
    void *data;           /* of others: valid when steps run */
    struct buffer *base;  /* whose memory this one shares (a reshape's), or NULL */
    /* Memory planning: the first step that writes it and the last that needs it. */
    size_t first, last, offset;
    size_t number; /* among the plan's buffers */
    bool pinned; /* an input or output of the model, or a gradient that is asked for: own memory */
    void *owned; /* a constant's memory, if it is the plan's */
} buffer;

#define STEP_MAX_BUFFERS 8

typedef struct step {
    const char *what; /* for profiles: "convolution", "reorder" */
    const graph_node *node;
    pal_status (*run)(const struct step *step);
    /* The same where what the step wrote to pinned buffers is still there, and need not be written
     * again. NULL: run(). */
    pal_status (*repeat)(const struct step *step);
    /* The kernel's own. It holds no buffers: those are the step's, so that a second step with the
     * same state can do the same with others (plan_recompute.c). */
    void *state;
    void (*release)(void *state);                               /* frees it; may be NULL */
    buffer *reads[STEP_MAX_BUFFERS], *writes[STEP_MAX_BUFFERS]; /* NULL where there is none */
    buffer **more; /* beyond STEP_MAX_BUFFERS reads, as for concat; in the plan's arena */
    size_t more_count;
    buffer *scratch; /* memory for the time of the step, or NULL */
    bool in_place;   /* writes[0] may be given the memory of reads[0] if nobody needs that later */
    bool costly;     /* takes much longer than its buffers take to be read and written */
} step;

typedef struct plan plan;

/* What the way back computes again instead of finding it kept. */
typedef enum recompute_kind {
    RECOMPUTE_NONE,
    RECOMPUTE_CHEAP, /* all but what costly steps gave */
    RECOMPUTE_ALL,
} recompute_kind;

typedef struct plan_options {
    int threads;
    bool training;         /* batch norm uses the batch's statistics, dropout drops */
    bool fixed_statistics; /* with `training`: batch norm all the same uses those of the file */
    uint64_t seed;         /* of what training draws; see plan_set_run() */
    /* For gradients: by value of the graph, whether a constant (a weight) wants one. NULL: forward
     * only. Steps backward are made then. */
    const bool *wanted;
    /* Samples of a batch whose gradients of weights are kept apart: what is asked for is the sum of
     * their squares, over all runs. 0: the gradient of the whole batch, of each run. */
    size_t samples;
    bool weights_change; /* wanted constants are variables: see plan_variable() */
    /* With `wanted`: saves activations for some more work; the results are the same bits. Inputs
     * and variables must then stay as they are from a run to the end of its way back. */
    recompute_kind recompute;
} plan_options;

/* ---------------------------------------------------------------- for kernels, while planning */

const plan_options *plan_get_options(const plan *plan);
const graph *plan_graph(const plan *plan);
/* The value behind a node's input or output; NULL where it is left out. */
const graph_value *plan_input(const plan *plan, const graph_node *node, size_t i);
const graph_value *plan_output(const plan *plan, const graph_node *node, size_t i);
/* Memory that lives as long as the plan; NULL when out of memory. */
void *plan_alloc(plan *plan, size_t size);

/* The buffer that holds a value, in whatever layout it was made. */
pal_status plan_buffer(plan *plan, size_t value, buffer **out);
/* The same in row-major order (layout NULL) or in a given layout: the reorder is added if needed,
 * at once for constants. */
pal_status plan_buffer_in(plan *plan, size_t value, const layout *layout, buffer **out);
/* The value's row-major elements, taken to lie in `stored` (weights that are transposed, by
 * strides; NULL: row-major in the shape of `layout`), in the order of `layout`. */
pal_status plan_buffer_as(plan *plan, size_t value, const layout *stored, const layout *layout,
                          buffer **out);
/* A new buffer for a value that this node computes. */
pal_status plan_new_buffer(plan *plan, size_t value, const layout *layout, buffer **out);
/* The value has the elements of `of` (row-major) under another shape: no step is needed. */
pal_status plan_new_view(plan *plan, size_t value, buffer *of);
/* A buffer that is no value of the graph: scratch, workspaces for the way back. `layout` may be
 * NULL; bytes then are the elements' unless given. */
pal_status plan_new_temporary(plan *plan, graph_type type, size_t rank, const int64_t *shape,
                              const layout *layout, size_t bytes, buffer **out);
/* Appends a step; fills what and node. The pointer lives until the next step is added. NULL when
 * out of memory: release(state) has then been called. */
step *plan_add_step(plan *plan, const graph_node *node, const char *what,
                    pal_status (*run)(const step *), void *state, void (*release)(void *));

/* The way of most operators that are no business of oneDNN: inputs row-major, outputs row-major,
 * one step that calls run() with reads[] and writes[] as the node's inputs and outputs (NULL where
 * left out). */
pal_status plan_simple(plan *plan, const graph_node *node, const char *what,
                       pal_status (*run)(const step *), void *state, void (*release)(void *));

/* The step that was added last. */
step *plan_last_step(plan *plan);

/* ---------------------------------------------------------------- making and running one */

/* Plans a static graph, which must outlive the plan. Weights that only live on in another layout
 * let go of their pages. */
pal_status plan_new(const graph *graph, const plan_options *options, plan **out);
void plan_free(plan *plan);

/* Row-major; an input's data is to be filled before a run, an output's is valid until the next. */
const buffer *plan_model_input(const plan *plan, size_t i);
const buffer *plan_model_output(const plan *plan, size_t i);

/* Runs the steps forward. `seconds` may be NULL, or receives the time of each step. */
pal_status plan_run(const plan *plan, double *seconds);
/* Those from `begin` to the one before `end`, or to the last. What they need is what the steps
 * before `begin` left, or was restored (plan_cut.h). */
pal_status plan_run_part(const plan *plan, size_t begin, size_t end);

size_t plan_step_count(const plan *plan);
const step *plan_step_get(const plan *plan, size_t i);
/* Bytes of the memory that the plan's activations share, and of the constants that it holds. */
size_t plan_activation_bytes(const plan *plan);
size_t plan_constant_bytes(const plan *plan);

/* ---------------------------------------------------------------- training */

/* Which run comes next: what a run draws (dropout) depends on the seed and on this number, 0 at
 * first, and on nothing else. */
void plan_set_run(plan *plan, uint64_t number);

/* A batch norm that uses its batch's own statistics. */
typedef struct batch_statistics {
    size_t running_mean, running_variance; /* values of the graph */
    uint64_t channels;
    uint64_t count;               /* elements behind each channel's statistics */
    const float *mean, *variance; /* of the last run; the variance is biased: a mean of squares */
} batch_statistics;

/* By number, in the order of the graph. */
size_t plan_batch_norm_count(const plan *plan);
batch_statistics plan_batch_statistics(const plan *plan, size_t i);

/* For kernels: the key with which the node draws in this run (draw.h). */
uint64_t plan_draw_key(const plan *plan, const graph_node *node);
/* Keeps what a batch norm found in its batch, as row-major buffers, for whoever asks. */
pal_status plan_keep_statistics(plan *plan, const graph_node *node, buffer *mean, buffer *variance,
                                uint64_t count);
void plan_kept_statistics(const plan *plan, const graph_node *node, buffer *statistics[2]);

/* ---------------------------------------------------------------- gradients: for kernels */

/* Whether plan is made for gradients: forward primitives then leave what the way back needs. */
bool plan_has_gradients(const plan *plan);
/* Whether the loss depends, through this value, on a weight that wants a gradient; or the value is
 * such a weight. */
bool plan_wants_gradient(const plan *plan, size_t value);
/* Whether the value itself is a weight that wants one. */
bool plan_is_weight(const plan *plan, size_t value);
/* Whether any consumer gave a share of the value's gradient. */
bool plan_reaches(const plan *plan, size_t value);
/* The gradient of a value, the sum of what all its consumers gave: a buffer in some layout, to be
 * read only. NULL in *out if nothing reached the value. */
pal_status plan_gradient(plan *plan, size_t value, buffer **out);
/* The same in a layout (NULL: row-major). */
pal_status plan_gradient_in(plan *plan, size_t value, const layout *layout, buffer **out);
/* From now on plan_gradient() gives this buffer instead: for operators with what was fused to them,
 * once that is undone. */
void plan_replace_gradient(plan *plan, size_t value, buffer *by);
/* One consumer's share of a value's gradient, of the value's elements in any layout. A weight's
 * share given in this way is that of the whole batch. */
pal_status plan_add_gradient(plan *plan, size_t value, buffer *share);
/* The same for a row-major buffer whose elements are the share under another shape. */
pal_status plan_add_gradient_view(plan *plan, size_t value, buffer *of);

/* Whether the samples of the batch, where their gradients are to be kept apart, follow each other
 * along this axis of the value, so that each has an equal part of it and nothing else lies there.
 * False for what is the same for all samples: the gradient of what it is multiplied with is the sum
 * of all samples'. */
bool plan_samples_along(const plan *plan, size_t value, size_t axis);

/* Computes into writes[0] the gradient of a weight by one sample: number `sample` of the batch, or
 * by the whole batch where `sample` is PLAN_ALL. */
#define PLAN_ALL SIZE_MAX
typedef pal_status (*weight_pass)(const step *step, size_t sample);

/* A consumer's share of a weight's gradient, and the step that computes it. */
typedef struct weight_share {
    const char *what;
    const layout *layout; /* of the share, in the buffer behind writes[0] */
    weight_pass pass;
    bool apart; /* it can be called for each sample; otherwise for PLAN_ALL only */
    void *state;
    void (*release)(void *state);
    buffer *reads[2], *scratch;
} weight_share;

/* Adds that step: for each sample where that is asked for, it is possible, and the value is a
 * weight itself; for the whole batch otherwise, also for values that are computed of weights. Takes
 * over the state, also on failure. */
pal_status plan_add_weight_pass(plan *plan, const graph_node *node, size_t value,
                                const weight_share *share);

/* ---------------------------------------------------------------- gradients: for those who run it
 */

/* The gradient of the loss by the i-th output of the model, row-major: to be filled after
 * plan_run() and before plan_run_backward(). NULL where no weight that wants a gradient lies before
 * it. */
const buffer *plan_output_gradient(const plan *plan, size_t i);
pal_status plan_run_backward(const plan *plan, double *seconds);

/* After the way back: the gradient of a wanted weight by the whole batch or, with samples, the sum
 * of the squares of those of each sample so far. In some layout; NULL if the loss does not depend
 * on it. */
const buffer *plan_weight_gradient(const plan *plan, size_t value);
/* Whether gradients of samples are really kept apart: false where a weight has several consumers,
 * or one that cannot tell samples apart. Then a plan for a batch of one sample will do, without
 * `samples`, whose gradients the caller squares. */
bool plan_keeps_samples_apart(const plan *plan);

/* The current values of a weight that changes, row-major: the caller may write them between runs.
 * Its gradient is row-major then as well. NULL where the value is no wanted weight, or nothing uses
 * it. */
float *plan_variable(const plan *plan, size_t value);

#endif
