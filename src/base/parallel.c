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

pal_status parallel_run(const parallel_job *job, size_t count, int threads)
{
    outcome outcome = {.status = PAL_OK};
    bool stop = false;
    size_t next = 0;
    if (count < (size_t)threads)
        threads = count ? (int)count : 1;
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        pal_status status = job->enter ? job->enter(job->user, thread) : PAL_OK;
        if (status) {
#pragma omp critical(palettize_parallel)
            {
                keep_failure(&outcome, SIZE_MAX, status);
                stop = true;
            }
        }
        for (;;) {
            size_t i;
            bool go;
#pragma omp critical(palettize_parallel)
            {
                go = !stop && next < count;
                i = next;
                next += go;
            }
            if (!go)
                break;
            status = job->item(job->user, thread, i);
#pragma omp critical(palettize_parallel)
            {
                if (!status && job->done && !stop && !job->done(job->user, i))
                    status = fail(PAL_ERROR_CANCELLED, "cancelled");
                if (status) {
                    keep_failure(&outcome, i, status);
                    stop = true;
                }
            }
        }
        if (job->leave)
            job->leave(job->user, thread);
    }
    if (outcome.status)
        status_message_put(&outcome.message);
    return outcome.status;
}
