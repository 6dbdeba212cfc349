/* A model made ready several times, so that batches run side by side, each by one thread.
 *
 * oneDNN shares the work of an operator among threads in ways that change the order of sums. With a
 * thread for each batch, results do not depend on how many threads there are, and nothing waits.
 * Only of a model so large that a second replica would take too much memory there is one, whose
 * operators are shared among the threads. */
#ifndef PAL_METHOD_REPLICAS_H
#define PAL_METHOD_REPLICAS_H

#include "engine/gradient.h"

typedef struct replicas replicas;

/* threads: at most so many replicas; those of the options do not count. */
pal_status replicas_new(const graph *source, const gradient_options *options, int threads,
                        replicas **out);
void replicas_free(replicas *replicas);

size_t replicas_count(const replicas *replicas);
gradients *replicas_get(const replicas *replicas, size_t i);

/* Calls run() for the first `count` replicas, at the same time. */
pal_status replicas_run(const replicas *replicas, size_t count,
                        pal_status (*run)(void *user, size_t i), void *user);

#endif
