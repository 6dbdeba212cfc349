/* What a model computes: a list of operators on values, read-only for everybody but the lowering
 * that made it.
 *
 * ONNX graphs and Core ML programs lower to one small set of operators (ops.h). Whatever can be a
 * tensor in either format (a shape to reshape to, axes, pads) is an input of the node here,
 * constant or computed; only what is fixed by the file is an attribute. Shapes are not known yet: a
 * model's inputs may have free dimensions. graph_specialise() (specialise.h) fills them in for
 * given inputs, folds what is constant and drops what is dead. */
#ifndef PAL_GRAPH_GRAPH_H
#define PAL_GRAPH_GRAPH_H

#include "base/memory.h"
#include "base/status.h"
#include "graph/ops.h"

/* What values are computed in, whatever type the file stores: every floating type as float32, every
 * integer type as int64_t, booleans as a byte of 0 or 1. */
typedef enum graph_type { GRAPH_FLOAT, GRAPH_INT, GRAPH_BOOL } graph_type;

static inline size_t graph_type_size(graph_type type)
{
    return type == GRAPH_FLOAT ? 4 : type == GRAPH_INT ? 8 : 1;
}

#define GRAPH_NONE SIZE_MAX /* no such value: an optional input or output that is left out */
#define GRAPH_FREE (-1)     /* a dimension that the file leaves open */

/* Values of a tensor, row-major. */
typedef struct graph_tensor {
    graph_type type;
    size_t rank;
    int64_t shape[PAL_MAX_RANK];
    uint64_t elements;
    const void *data; /* aligned for its type */
    void *owned;      /* what scratch_free() gives back with the graph, or NULL: data points into
                         the model file or the graph's arena */
} graph_tensor;

typedef struct graph_value {
    const char *name; /* in the file; "" for values that lowering made up */
    graph_type type;
    const graph_tensor *constant; /* or NULL: computed, or an input */
    size_t
        weight;  /* of pal_model_weight() whose values the constant is; GRAPH_NONE if it is none */
    size_t rank; /* of a constant its tensor's; of others known only in a graph that
                    graph_specialise() made */
    int64_t shape[PAL_MAX_RANK];
} graph_value;

/* An input of the model, as the file declares it. */
typedef struct graph_input {
    size_t value;
    pal_dtype dtype; /* in the file */
    size_t rank;
    int64_t shape[PAL_MAX_RANK]; /* GRAPH_FREE where open */
} graph_input;

/* An operator that inference fused into the one before: applied to its result, in order. */
typedef struct graph_post {
    enum { POST_UNARY, POST_ADD } kind;
    unary_kind unary; /* POST_UNARY */
    float alpha, beta;
    size_t value; /* POST_ADD: of the same shape as the result, or broadcast to it */
} graph_post;

#define GRAPH_MAX_POSTS   4
#define GRAPH_MAX_OUTPUTS 128 /* of one node */

typedef struct graph_node {
    graph_op op;
    const char *name;         /* for messages: the node's name in the file, or its first output's */
    const char *type;         /* for messages: the operator as the file calls it */
    size_t *inputs, *outputs; /* values; GRAPH_NONE where left out */
    size_t input_count, output_count;
    op_attributes attributes;
    graph_post posts[GRAPH_MAX_POSTS];
    size_t post_count;
    /* OP_IF: what either branch computes (then, else), and the values that it gives as outputs. */
    struct graph_branch *branches;
} graph_node;

typedef struct graph_branch {
    graph_node *nodes;
    size_t node_count, node_capacity;
    size_t *outputs;
} graph_branch;

typedef struct graph {
    mem_arena arena;
    graph_value *values;
    size_t value_count, value_capacity;
    graph_branch main; /* its nodes in the order of evaluation; its outputs are the model's */
    size_t output_count;
    graph_input *inputs; /* those that are no constants */
    size_t input_count;
    graph_tensor **tensors; /* all that the graph owns */
    size_t tensor_count, tensor_capacity;
} graph;

/* The graph of a model that is open: every weight that the model holds (palettized, quantized and
 * sparse ones too) becomes a dense constant. The graph points into the model's file: it must not
 * outlive the model. PAL_ERROR_UNSUPPORTED lists every operator of the model that is unknown, with
 * the names of its nodes; PAL_ERROR_FORMAT names the node that makes no sense (a cycle, a value
 * that nothing gives). */
pal_status graph_lower(pal_model *model, graph **out);
void graph_free(graph *graph);

/* ---------------------------------------------------------------- building (build.c) */

pal_status graph_new(graph **out);
/* These give GRAPH_NONE or NULL when out of memory, with the message set. Names are copied. */
size_t graph_add_value(graph *graph, const char *name, graph_type type);
/* A tensor that the graph frees, with room for its values in `owned` (zeroed), which `data` shows.
 */
graph_tensor *graph_add_tensor(graph *graph, graph_type type, size_t rank, const int64_t *shape);
/* A tensor whose values are elsewhere and outlive the graph; aligned for the type. */
graph_tensor *graph_add_view(graph *graph, graph_type type, size_t rank, const int64_t *shape,
                             const void *data);
/* A hint that the values are not needed soon: they may leave memory, to be read again from where
 * they came. */
void graph_tensor_release(const graph_tensor *tensor);
/* Makes a value constant. */
void graph_set_constant(graph *graph, size_t value, const graph_tensor *tensor);
/* A new value that is constant; GRAPH_NONE for a tensor of NULL. */
size_t graph_add_constant(graph *graph, const char *name, const graph_tensor *tensor);
/* Short constants: a vector of integers (rank 1), or a single number (rank 0). */
size_t graph_add_ints(graph *graph, const int64_t *numbers, size_t count);
size_t graph_add_int(graph *graph, int64_t number);
size_t graph_add_float(graph *graph, float number);
/* Appends a node with room for its inputs and outputs, all GRAPH_NONE, to a branch (&graph->main
 * for the main one). The pointer lives until the next node is added to the branch. */
graph_node *graph_add_node(graph *graph, graph_branch *branch, graph_op op, const char *name,
                           const char *type, size_t input_count, size_t output_count);
pal_status graph_add_input(graph *graph, const char *name, pal_dtype dtype, graph_type type,
                           size_t rank, const int64_t *shape, size_t *value);

/* Takes away nodes that no output needs, and the memory of constants that nobody reads. For graphs
 * that graph_specialise() made (it does so itself), after changes. */
pal_status graph_drop_dead(graph *graph);

/* "node 'conv1' (Conv): " before the thread's message. */
pal_status graph_node_failed(const graph_node *node, pal_status status);

#endif
