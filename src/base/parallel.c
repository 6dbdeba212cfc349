#include "base/parallel.h"

#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

int parallel_processors(void)
{
#ifdef _OPENMP
    return omp_get_num_procs();
#else
    return 1;
#endif
}

typedef struct outcome {
    size_t item; /* of the failure kept so far */
    pal_status status;
    status_message message;
} outcome;

/* Keeps the failure of the earliest item. Call it inside the critical section. */
static void keep_failure(outcome *outcome, size_t item, pal_status status)
{
    if (outcome->status && outcome->item <= item)
        return;
    outcome->item = item;
    outcome->status = status;
    status_message_take(&outcome->message);
}

/* What the threads share. */
typedef struct crew {
    const parallel_job *job;
    size_t next, count;
    bool stop;
    outcome outcome;
} crew;

static void work(crew *c, int thread)
{
    const parallel_job *job = c->job;
    pal_status status = job->enter ? job->enter(job->user, thread) : PAL_OK;
    if (status) {
#pragma omp critical(palettize_parallel)
        {
            keep_failure(&c->outcome, SIZE_MAX, status);
            c->stop = true;
        }
    }
    for (;;) {
        size_t i;
        bool go;
#pragma omp critical(palettize_parallel)
        {
            go = !c->stop && c->next < c->count;
            i = c->next;
            c->next += go;
        }
        if (!go)
            break;
        status = job->item(job->user, thread, i);
#pragma omp critical(palettize_parallel)
        {
            if (!status && job->done && !c->stop && !job->done(job->user, i))
                status = fail(PAL_ERROR_CANCELLED, "cancelled");
            if (status) {
                keep_failure(&c->outcome, i, status);
                c->stop = true;
            }
        }
    }
    if (job->leave)
        job->leave(job->user, thread);
}

pal_status parallel_run(const parallel_job *job, size_t count, int threads)
{
    crew crew = {.job = job, .count = count, .outcome = {.status = PAL_OK}};
    if (count < (size_t)threads)
        threads = count ? (int)count : 1;
    if (threads == 1) { /* OpenMP would make a team, and exit where it finds no memory for it */
        work(&crew, 0);
    } else {
#pragma omp parallel num_threads(threads)
        work(&crew, omp_get_thread_num());
    }
    if (crew.outcome.status)
        status_message_put(&crew.outcome.message);
    return crew.outcome.status;
}
