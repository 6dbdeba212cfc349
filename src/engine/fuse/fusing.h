/* What the rewrites share. Each looks at one node, and if the pattern that ends there is found
 * changes the graph and says so.
 *
 * A value that is used once disappears with the two nodes around it becoming one. The new node
 * takes the place of the later one, where all its other inputs are known to be computed. */
#ifndef PAL_ENGINE_FUSE_FUSING_H
#define PAL_ENGINE_FUSE_FUSING_H

#include "graph/graph.h"

typedef struct watch watch;

typedef struct fusing {
    graph *graph;
    /* For each value: how many nodes and outputs of the graph use it, and the node that gives it.
     * Nodes that lead to no output count for nothing. */
    size_t *uses, *producer;
    size_t value_count, uses_capacity, producer_capacity;
    watch *watch;
    pal_status failed; /* out of memory */
} fusing;

typedef bool (*rewrite)(fusing *f, graph_node *node);

/* ---------------------------------------------------------------- who uses what (uses.c) */

pal_status uses_count(fusing *f);
void uses_free(fusing *f);
/* Whether anything uses what the node gives. */
bool is_alive(const fusing *f, const graph_node *node);
/* A rewrite begins at this node. */
void uses_begin(fusing *f, size_t node);
/* It may change this node, too. False when out of memory. */
bool uses_watch(const fusing *f, size_t node);
/* It is over; whether it changed anything. */
pal_status uses_end(fusing *f, bool changed);

/* ---------------------------------------------------------------- looking (look.c) */

static inline graph_value *value_at(const fusing *f, size_t value)
{
    return &f->graph->values[value];
}

/* Input i, or GRAPH_NONE. */
static inline size_t input_at(const graph_node *node, size_t i)
{
    return i < node->input_count ? node->inputs[i] : GRAPH_NONE;
}

/* The node that gives a value, if it is of this kind; else NULL. A rewrite may change it: there is
 * no other way to the nodes around. */
graph_node *maker_of(const fusing *f, size_t value, graph_op op);
/* The same if no other node nor the graph's outputs use the value. */
graph_node *only_maker_of(const fusing *f, size_t value, graph_op op);
/* As only_maker_of, of a function. */
graph_node *unary_maker(const fusing *f, size_t value, unary_kind kind);
graph_node *binary_maker(const fusing *f, size_t value, binary_kind kind);

bool same_shape(const fusing *f, size_t a, size_t b);
/* A float constant of one element that does not enlarge what it is combined with. */
bool scalar_constant(const fusing *f, size_t value, size_t rank, float *number);
/* The values of a float constant that differ along one axis of a tensor of this rank only; *count
 * is 1 or that axis's extent. NULL if it is no such thing. */
const float *axis_constant(const fusing *f, size_t value, size_t rank, size_t axis, int64_t extent,
                           int64_t *count);
/* The other input of a node of two operands. */
size_t other_input(const graph_node *node, size_t value);

/* ---------------------------------------------------------------- changing (look.c) */

/* A new float constant of this shape, to be filled; NULL if out of memory. */
float *new_constant(fusing *f, size_t rank, const int64_t *shape, size_t *value);
/* Gives a node other inputs; GRAPH_NONE for those left out. */
bool set_inputs(fusing *f, graph_node *node, size_t count, const size_t *inputs);
/* `later` becomes what `earlier` is, with the result of `later`; `earlier` is gone. */
void move_node(graph_node *earlier, graph_node *later);
/* ---------------------------------------------------------------- rewrites */

/* affine.c: what is constant goes into weights and biases */
bool fuse_batch_norm(fusing *f, graph_node *node);
bool fuse_scale(fusing *f, graph_node *node);
bool fuse_bias(fusing *f, graph_node *node);
/* post.c: what follows a product becomes a post-operation */
bool fuse_activation(fusing *f, graph_node *node);
bool fuse_sum(fusing *f, graph_node *node);
/* training.c */
bool fuse_bounds(fusing *f, graph_node *node);
bool fuse_addition(fusing *f, graph_node *node);
/* function.c: functions that were written out */
bool fuse_function(fusing *f, graph_node *node);
bool fuse_threshold(fusing *f, graph_node *node);
bool fuse_clip(fusing *f, graph_node *node);
/* norm.c */
bool fuse_layer_norm(fusing *f, graph_node *node);
bool fuse_rms_norm(fusing *f, graph_node *node);
bool fuse_norm_scale(fusing *f, graph_node *node);
bool fuse_norm_shift(fusing *f, graph_node *node);
/* attention.c */
bool fuse_attention(fusing *f, graph_node *node);
bool fuse_heads(fusing *f, graph_node *node);
/* shape.c: what only moves elements */
bool fuse_transposes(fusing *f, graph_node *node);
bool fuse_transposed_operand(fusing *f, graph_node *node);
bool fuse_flat_softmax(fusing *f, graph_node *node);
bool fuse_pad(fusing *f, graph_node *node);

/* The permutation of a transposition, written out. */
void read_perm(const fusing *f, const graph_node *node, size_t perm[PAL_MAX_RANK]);

#endif
