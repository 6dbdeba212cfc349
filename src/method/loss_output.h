/* What a model's output is to a loss: which one, what it holds, and which classes the data says it
 * should have. */
#ifndef PAL_METHOD_LOSS_OUTPUT_H
#define PAL_METHOD_LOSS_OUTPUT_H

#include "graph/graph.h"
#include "method/feed.h"
#include "method/loss.h"

/* The number of the output of this name; NULL: of the first that holds numbers. */
pal_status loss_find_output(const graph *graph, const char *name, size_t *output);
/* Whether a softmax is the model's last word on a value. */
score_kind loss_scores_of(const graph *graph, size_t value);
/* The classes that a sample of a batch should have at each of its places, -1 where none counts: its
 * label, or the next tokens of a language model. *known false, and nothing written, where the data
 * does not say. */
pal_status loss_targets(const feed_batch *batch, size_t sample, size_t places, size_t classes,
                        int64_t *targets, bool *known);

#endif
