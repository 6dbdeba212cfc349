/* Few clusters have arrangements whose errors differ by a thousandth or less, and both restarts and
 * moves are needed to get from one to a better one. A sample cannot tell these apart: it has noise
 * of that size. So where vectors have few components, the search is made on the means of vectors
 * that are near each other (merge.h), which have next to none, and where they have many, candidates
 * come from a sample and moves are made on all vectors, after a look at the sample. */
#include "cluster/vector/few.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/vector/candidates.h"
#include "cluster/vector/merge.h"
#include "cluster/vector/moves.h"
#include "cluster/vector/search.h"

/* How many candidates there are for up to `k` clusters of up to `count` vectors. */
typedef struct effort {
    unsigned k;
    size_t count;
    unsigned starts; /* seeded on a small sample, with */
    unsigned seeds;  /* so many vectors a cluster; of them */
    unsigned middle; /* so many go on on few vectors, */
    unsigned last;   /* so many of them further, */
    unsigned moved;  /* and so many to moves, */
    double share;    /* which take this share each of the work of five restarts */
    int rounds;      /* of a tournament on all vectors */
} effort;

/* Found by trial, with bench/vectors.py. */
static const effort with_merged[] = {
    {8, 8192, 24, 128, 12, 4, 4, 0.002, 6},           {8, SIZE_MAX, 16, 128, 8, 3, 3, 0.0005, 5},
    {MOST_FEW, 8192, 6, 64, 3, 1, 1, 0.02, 6},        {MOST_FEW, 32768, 14, 64, 10, 4, 4, 0.003, 6},
    {MOST_FEW, SIZE_MAX, 24, 64, 16, 8, 8, 0.004, 6},
};
static const effort with_sample[] = {
    {8, SIZE_MAX, 16, 128, 8, 4, 1, 0, 5},
    {MOST_FEW, 8192, 5, 64, 3, 1, 1, 0.006, 4},
    {MOST_FEW, 32768, 10, 64, 4, 1, 1, 0.003, 4},
    {MOST_FEW, SIZE_MAX, 24, 64, 8, 3, 2, 0.012, 4},
};

enum {
    LEAST_SEEDS = 512, /* vectors in the first sample, at least */
    CELLS = 4096,      /* means of vectors near each other, where that is easy, */
    MORE_CELLS = 8192, /* and where it is not */
    LEAST_SAMPLE = 8192,
    MOST_SAMPLE = 32768,
};

typedef struct few_job {
    const vector_set *set;
    const frame *frame;
    unsigned k;
    int threads;
    effort effort;
    uint64_t random;
    pool pool;
    level all, few; /* few.set.count is 0 where all vectors are few enough */
    bool merged;    /* few are means, and not a sample */
    bool agreed;    /* most candidates came to the same end: there is no better one */
} few_job;

static pal_status add_sample(few_job *job, level *l, size_t count)
{
    return tiles_init(&l->set, job->set, job->frame, count, false, job->threads, &job->random);
}

/* Candidates from a small sample. */
static pal_status begin(few_job *job)
{
    level l = {0};
    size_t count = (size_t)job->k * job->effort.seeds;
    count = count > LEAST_SEEDS ? count : LEAST_SEEDS;
    pal_status status = add_sample(job, &l, count < job->set->count / 2 ? count : job->set->count);
    if (!status)
        status = crew_init(&l, job->k, job->pool.count, job->threads);
    const heat h = {.tolerance = 3e-3, .rounds = 12, .begin = true, .random = job->random};
    if (!status)
        status = heat_run(&h, &job->pool, &l);
    pool_keep(&job->pool, job->effort.middle);
    level_free(&l);
    return status;
}

/* All vectors, and the few that stand for them. */
static pal_status gather(few_job *job)
{
    const size_t count = job->set->count;
    pal_status status = add_sample(job, &job->all, count);
    if (status)
        return status;
    if (job->merged) {
        const size_t cells = job->set->dim == 2 || job->k <= 8 ? CELLS : MORE_CELLS;
        return count > 2 * cells ? tiles_merge(&job->few.set, &job->all.set, cells, job->k)
                                 : PAL_OK;
    }
    size_t sample = count / 4 < LEAST_SAMPLE ? LEAST_SAMPLE : count / 4;
    sample = sample < MOST_SAMPLE ? sample : MOST_SAMPLE;
    return count > 2 * sample ? add_sample(job, &job->few, sample) : PAL_OK;
}

static pal_status move_all(few_job *job, level *l, level *scouts)
{
    const double work = job->effort.share * restarts_work(job->set->count, job->set->dim, job->k);
    const heat h = {.tolerance = 3e-5, .rounds = 30, .moves = work, .scouts = scouts};
    return heat_run(&h, &job->pool, l);
}

/* The ends to which iterations lead on the few vectors, and moves from there if they are as good as
 * all. */
static pal_status on_few(few_job *job, level *l)
{
    pool *p = &job->pool;
    const unsigned count = p->count;
    const heat h = {.tolerance = 3e-5, .rounds = 30};
    pal_status status = crew_init(l, job->k, count, job->threads);
    if (!status)
        status = heat_run(&h, p, l);
    if (status)
        return status;
    job->agreed = 2 * pool_distinct(p) > count;
    pool_keep(p, job->effort.last);
    if (job->agreed || (l == &job->few && !job->merged))
        return PAL_OK;
    status = move_all(job, l, NULL);
    if (!status)
        pool_distinct(p);
    return status;
}

/* The best of those that are left, on all vectors. */
static pal_status on_all(few_job *job)
{
    pool *p = &job->pool;
    level *all = &job->all;
    const bool move = !job->merged && !job->agreed && job->effort.share > 0;
    pal_status status = crew_init(all, job->k, p->count, job->threads);
    if (!status)
        status = tournament(p, all, job->effort.rounds, move ? job->effort.moved : 1);
    if (!status && move)
        status = crew_init(&job->few, job->k, p->count, job->threads);
    if (!status && move)
        status = move_all(job, all, &job->few);
    return status;
}

static pal_status finish(few_job *job, float *centroids)
{
    const size_t size = job->pool.numbers * sizeof *centroids;
    pal_status status = crew_init(&job->all, job->k, 1, job->threads);
    if (status)
        return status;
    clustering *c = job->all.crew;
    memcpy(c->centroids, job->pool.centroids[0], size);
    status = moves_settle(c, 2e-6, 40);
    memcpy(centroids, c->centroids, size);
    return status;
}

pal_status search_few(const vector_set *set, const frame *f, unsigned k, int threads,
                      float *centroids)
{
    const bool merged = set->dim <= MOST_MERGED_DIM;
    const effort *e = merged ? with_merged : with_sample;
    while (e->k < k || e->count < set->count)
        e++;
    few_job job = {.set = set, .frame = f, .k = k, .threads = threads, .effort = *e, .random = 1};
    job.merged = merged;
    pal_status status = pool_init(&job.pool, (size_t)k * set->dim, e->starts);
    if (status)
        return status;
    status = begin(&job);
    if (!status)
        status = gather(&job);
    const bool all_few = job.few.set.count == 0;
    if (!status)
        status = on_few(&job, all_few ? &job.all : &job.few);
    if (!status && !all_few)
        status = on_all(&job);
    if (!status)
        status = finish(&job, centroids);
    level_free(&job.all);
    level_free(&job.few);
    pool_free(&job.pool);
    return status;
}
