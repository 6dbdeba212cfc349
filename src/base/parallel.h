/* Work shared by threads: items are taken in order by whichever thread is free. Results must not
 * depend on which thread took what; the status returned is that of the first item that failed. */
#ifndef PAL_BASE_PARALLEL_H
#define PAL_BASE_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* Processors to use where the user did not say. */
int parallel_processors(void);

typedef struct parallel_job {
    void *user;
    /* Called once in each thread before its first item, and after its last; may be NULL. */
    pal_status (*enter)(void *user, int thread);
    void (*leave)(void *user, int thread);
    pal_status (*item)(void *user, int thread, size_t i);
    /* Called after each item, by one thread at a time; false cancels. May be NULL. */
    bool (*done)(void *user, size_t i);
} parallel_job;

/* threads: 1 or more. Thread numbers given to the job are 0 .. threads - 1. After a failure or a
 * cancellation no more items are begun. */
pal_status parallel_run(const parallel_job *job, size_t count, int threads);

#endif
