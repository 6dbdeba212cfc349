/* What the ways back share. */
#ifndef PAL_ENGINE_OPS_BACK_H
#define PAL_ENGINE_OPS_BACK_H

#include "engine/ops/walk.h"
#include "engine/plan.h"

/* Adds the sums of `from` (row-major) to the gradient of a value that was broadcast to it: aligned
 * from the right after `behind` dimensions of extent 1 are thought behind the value's own (a bias
 * of channels has as many as there are spatial dimensions). */
pal_status back_reduced(plan *plan, const graph_node *node, size_t value, size_t behind,
                        buffer *from);

/* A new row-major buffer of a value's shape, and the step that fills it from what it reads. */
pal_status back_step(plan *plan, const graph_node *node, const char *what,
                     pal_status (*run)(const step *), void *state, void (*release)(void *),
                     const graph_value *shape, buffer *const *reads, size_t count, buffer **out);

/* The way back of operators whose first input alone has a gradient: a step that reads the gradient
 * of the first output and then these values (GRAPH_NONE: NULL), all row-major, and writes the
 * gradient of the first input. */
pal_status back_source(plan *plan, const graph_node *node, const char *what,
                       pal_status (*run)(const step *), void *state, const size_t *values,
                       size_t count);

/* Adds to the gradient of a value the sums of `from` (row-major), over which the walk goes while it
 * moves through the value. */
pal_status back_sums(plan *plan, const graph_node *node, size_t value, const walk *walk,
                     buffer *from);

#endif
