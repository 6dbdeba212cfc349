/* A graph made static: for inputs of given shapes every shape is known, what is constant is folded,
 * branches with a constant condition are chosen, and what no output needs is gone. */
#ifndef PAL_GRAPH_SPECIALISE_H
#define PAL_GRAPH_SPECIALISE_H

#include "graph/graph.h"

/* Computes a node whose inputs are all constant (NULL where left out); outputs come with type and
 * shape and with zeroed memory to be filled. Supplied by the engine. */
typedef pal_status (*graph_evaluate)(void *user, const graph_node *node,
                                     const graph_value *const *inputs,
                                     graph_tensor *const *outputs);

typedef struct specialise_options {
    /* The shape of every input of the graph, in its order; no free dimension. Where the file fixes
     * the first dimension of all inputs and the shapes here differ from the file's by a common
     * factor in it, the batch is enlarged although the file does not foresee it: see rebatched. */
    const int64_t (*shapes)[PAL_MAX_RANK];
    bool keep_weights; /* weights, and what is computed from them, are not folded: for gradients */
    bool keep_dropout; /* dropout is not the identity: for training */
    graph_evaluate evaluate;
    void *user;
} specialise_options;

/* The result points into `source`, which must outlive it. *rebatched (may be NULL) tells that the
 * batch is larger than the file foresees: a result that the caller should check against runs of the
 * file's own batch. If a batch cannot be enlarged: PAL_ERROR_UNSUPPORTED. */
pal_status graph_specialise(const graph *source, const specialise_options *options, graph **out,
                            bool *rebatched);

#endif
