#include "cluster/vector/candidates.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/vector/moves.h"
#include "cluster/vector/seed.h"

/* ---------------------------------------------------------------- the pool */

void pool_free(pool *p)
{
    free(p->centroids);
    free(p->error);
    free(p->memory);
}

pal_status pool_init(pool *p, size_t numbers, unsigned count)
{
    *p = (pool){.count = count, .numbers = numbers};
    p->centroids = mem_array(count, sizeof *p->centroids);
    p->error = mem_array(count, sizeof *p->error);
    p->memory = mem_array(count * numbers, sizeof *p->memory);
    if (!p->centroids || !p->error || !p->memory) {
        pool_free(p);
        return fail_memory("clustering vectors");
    }
    for (unsigned i = 0; i < count; i++)
        p->centroids[i] = p->memory + i * numbers;
    return PAL_OK;
}

static void pool_sort(pool *p)
{
    for (unsigned i = 1; i < p->count; i++) {
        float *own = p->centroids[i];
        const double error = p->error[i];
        unsigned at = i;
        for (; at && error < p->error[at - 1]; at--) {
            p->error[at] = p->error[at - 1];
            p->centroids[at] = p->centroids[at - 1];
        }
        p->error[at] = error;
        p->centroids[at] = own;
    }
}

void pool_keep(pool *p, unsigned keep)
{
    p->count = keep < p->count ? keep : p->count;
}

unsigned pool_distinct(pool *p)
{
    const double SAME = 2e-5; /* of the error */
    unsigned kept = 1, best = 1;
    for (unsigned i = 1; i < p->count; i++) {
        best += p->error[i] <= p->error[0] * (1 + SAME);
        if (p->error[i] <= p->error[kept - 1] * (1 + SAME))
            continue;
        float *own = p->centroids[i];
        p->centroids[i] = p->centroids[kept];
        p->centroids[kept] = own;
        p->error[kept++] = p->error[i];
    }
    p->count = kept;
    return best;
}

/* ---------------------------------------------------------------- levels */

enum { WORTH_CREW = 1 << 16 }; /* distances to all candidates that are worth waking threads for */

void crew_free(level *l)
{
    for (unsigned i = 0; i < l->count; i++)
        clustering_free(&l->crew[i]);
    free(l->crew);
    l->crew = NULL;
    l->count = 0;
}

void level_free(level *l)
{
    crew_free(l);
    tiles_free(&l->set);
}

pal_status crew_init(level *l, unsigned k, unsigned candidates, int threads)
{
    const bool beside = candidates > 1 && (double)l->set.count * k * candidates >= WORTH_CREW;
    const unsigned count = !beside                          ? 1
                           : candidates < (unsigned)threads ? candidates
                                                            : (unsigned)threads;
    crew_free(l);
    l->crew = mem_zeroed(count, sizeof *l->crew);
    if (!l->crew)
        return fail_memory("clustering vectors");
    pal_status status = PAL_OK;
    for (; l->count < count && !status; l->count += !status)
        status = clustering_init(&l->crew[l->count], &l->set, k, count > 1 ? 1 : threads);
    return status;
}

/* ---------------------------------------------------------------- heats */

typedef struct run {
    const heat *heat;
    pool *pool;
    level *level;
} run;

static pal_status run_candidate(void *user, int thread, size_t i)
{
    const run *r = user;
    const heat *h = r->heat;
    clustering *c = &r->level->crew[thread];
    float *own = r->pool->centroids[i];
    const size_t size = r->pool->numbers * sizeof *own;
    pal_status status = PAL_OK;
    clustering_forget(c);
    if (h->begin) { /* places of the sequence that are far from each other */
        uint64_t random = h->random + (uint64_t)i * UINT64_C(0xd1b54a32d192ed03);
        status = seed(c->set, c->k, &random, own);
    }
    memcpy(c->centroids, own, size);
    if (!status)
        status = clustering_lloyd(c, h->tolerance, h->rounds);
    if (!status && h->moves > 0)
        status = moves_improve(c, c->work + h->moves, h->scouts ? &h->scouts->crew[thread] : NULL);
    memcpy(own, c->centroids, size);
    r->pool->error[i] = c->error;
    return status;
}

pal_status heat_run(const heat *h, pool *p, level *l)
{
    run r = {h, p, l};
    const parallel_job job = {.user = &r, .item = run_candidate};
    unsigned threads = l->count;
    if (h->scouts && h->scouts->count < threads)
        threads = h->scouts->count;
    pal_status status = parallel_run(&job, p->count, (int)threads);
    if (!status)
        pool_sort(p);
    return status;
}

pal_status tournament(pool *p, level *l, int rounds, unsigned keep)
{
    const heat h = {.tolerance = 1e-4, .rounds = rounds};
    pal_status status = PAL_OK;
    while (!status && p->count > keep) {
        status = heat_run(&h, p, l);
        pool_keep(p, p->count / 2 > keep ? p->count / 2 : keep);
    }
    return status;
}
