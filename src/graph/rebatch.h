/* Running batches through a model whose file fixes the batch.
 *
 * Core ML packages are mostly exported for one sample, with constants to match: reshape to
 * [1, 1280], slice [0:1], concatenate with a [1, 1, 768]. Given the graph at the file's own shapes
 * (the base) and the same graph under way at a batch `factor` times larger, a value whose shape has
 * grown shows where its batch axis is: on the one axis that is `factor` times longer. Constants
 * that speak of the batch are replaced, and what lacks the batch is repeated, so that axis grows
 * wherever it should. Where a reshape merges the batch with other axes, how much of the merged axis
 * lies before it is remembered, so that they come apart again: windows and heads lie behind the
 * batch, a sequence that comes first lies before it.
 *
 * This is a guess at what the exporter meant. An operator that mixes samples (a mean over the whole
 * batch) has no place in a model for one sample, but can be written: so results should be compared
 * once with runs at the file's own batch. */
#ifndef PAL_GRAPH_REBATCH_H
#define PAL_GRAPH_REBATCH_H

#include "graph/graph.h"

typedef struct rebatch {
    const graph *source, *base;
    const size_t *base_map; /* source value -> value of base */
    int64_t factor;
    int64_t *within; /* by source value, 0 at first: above 1, elements of the base's axis before the
                        batch */
} rebatch;

/* By how much `shapes` enlarge the batch that the file fixes; 1 where they are the file's or its
 * dimensions are free. PAL_ERROR_ARGUMENT, naming the input, where they fit the file in no way. */
pal_status rebatch_factor(const graph *source, const int64_t (*shapes)[PAL_MAX_RANK],
                          int64_t *factor);

/* Replaces those of the node's inputs (values of `out`) that do not fit the larger batch. */
pal_status rebatch_node(const rebatch *rebatch, graph *out, const graph_node *node, size_t *inputs);

/* Whether every output has grown along its first axis. */
pal_status rebatch_check(const rebatch *rebatch, const graph *out);

#endif
