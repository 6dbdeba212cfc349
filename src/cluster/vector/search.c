/* Few clusters have few good arrangements, which restarts find and moves do not; many clusters have
 * so many that only moves get on. So candidates compete, more of them where k is small, and drop
 * out as the samples grow; those that are left are improved by moves, where k is not small, for a
 * time in proportion to what plain restarts of Lloyd's algorithm would take. That time is counted
 * in work done and not on a clock, so that the result does not depend on the machine. */
#include "cluster/vector/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/vector/moves.h"
#include "cluster/vector/seed.h"

/* How it goes for up to `k` clusters. */
typedef struct effort {
    unsigned k;
    unsigned starts; /* candidates, seeded on a sample of */
    unsigned seeds;  /* so many vectors a cluster, of which */
    unsigned middle; /* so many go on to a larger sample, */
    unsigned last;   /* and so many to all vectors; */
    unsigned moved;  /* so many are tried with moves, */
    double share;    /* which take this share of the time that five restarts would take */
} effort;

/* Found by trial, with bench/vectors.py. */
static const effort efforts[] = {
    {8, 20, 128, 12, 6, 3, 0.02},
    {32, 6, 64, 4, 4, 4, 0.1},
    {MOST_SITES, 1, 32, 1, 1, 1, 0.075},
};

enum {
    LEAST_SEEDS = 512,   /* vectors in the first sample, at least, */
    LEAST_MIDDLE = 8192, /* and in the second, */
    MIDDLE = 256,        /* which has so many a cluster */
    BOXED_FROM = 32,     /* clusters from which on an order in space pays */
};

/* ---------------------------------------------------------------- candidates */

typedef struct pool {
    unsigned count;
    size_t numbers;    /* k x dim */
    float **centroids; /* sorted by error */
    double *error;
    float *memory;
} pool;

static void pool_free(pool *p)
{
    free(p->centroids);
    free(p->error);
    free(p->memory);
}

static pal_status pool_init(pool *p, size_t numbers, unsigned count)
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

/* Lloyd's iterations for each; the best `keep` stay. */
static pal_status pool_refine(pool *p, clustering *c, double tolerance, int rounds, unsigned keep)
{
    for (unsigned i = 0; i < p->count; i++) {
        float *own = p->centroids[i];
        memcpy(c->centroids, own, p->numbers * sizeof *own);
        pal_status status = clustering_lloyd(c, tolerance, rounds);
        if (status)
            return status;
        memcpy(own, c->centroids, p->numbers * sizeof *own);
        unsigned at = i;
        for (; at && c->error < p->error[at - 1]; at--) {
            p->error[at] = p->error[at - 1];
            p->centroids[at] = p->centroids[at - 1];
        }
        p->error[at] = c->error;
        p->centroids[at] = own;
    }
    p->count = keep < p->count ? keep : p->count;
    return PAL_OK;
}

/* Some iterations for each, half of them drop out, and so on. */
static pal_status tournament(pool *p, clustering *c, unsigned keep)
{
    pal_status status = PAL_OK;
    while (!status && p->count > keep)
        status = pool_refine(p, c, 1e-4, 6, p->count / 2 > keep ? p->count / 2 : keep);
    return status;
}

/* ---------------------------------------------------------------- levels */

/* The vectors, or a sample of them, and a clustering. */
typedef struct level {
    tiles set;
    clustering c;
} level;

static void level_free(level *l)
{
    clustering_free(&l->c);
    tiles_free(&l->set);
}

static pal_status level_init(level *l, const vector_set *set, const frame *f, size_t count,
                             unsigned k, int threads, uint64_t *random)
{
    *l = (level){0};
    pal_status status = tiles_init(&l->set, set, f, count, k >= BOXED_FROM, random);
    if (!status)
        status = clustering_init(&l->c, &l->set, k, threads);
    if (status)
        level_free(l);
    return status;
}

/* Candidates in turn: moves, as long as there is work to spend; then iterations to the end for the
 * best. No cluster stays empty that could have a member. */
static pal_status finish(clustering *c, pool *p, double work)
{
    enum { REPAIRS = 3 };
    const size_t size = p->numbers * sizeof(float);
    unsigned best = 0;
    double least = INFINITY;
    pal_status status = PAL_OK;
    work += c->work;
    for (unsigned i = 0; i < p->count && !status && (i == 0 || c->work < work); i++) {
        memcpy(c->centroids, p->centroids[i], size);
        status = clustering_lloyd(c, 3e-5, 10);
        if (!status)
            status = moves_improve(c, work);
        memcpy(p->centroids[i], c->centroids, size);
        if (c->error < least) {
            least = c->error;
            best = i;
        }
    }
    memcpy(c->centroids, p->centroids[best], size);
    if (!status)
        status = clustering_lloyd(c, 1e-6, 100);
    for (int repair = 0; !status && repair < REPAIRS && clusters_empty(c); repair++) {
        status = moves_improve(c, 0);
        if (!status)
            status = clustering_lloyd(c, 1e-6, 100);
    }
    if (!status)
        clustering_center(c);
    memcpy(p->centroids[0], c->centroids, size);
    p->count = 1;
    return status;
}

/* Nanoseconds that five restarts of Lloyd's algorithm might take, from how long they took: the
 * number of iterations grows with the number of vectors a cluster, to a point. */
static double restarts(const vector_set *set, unsigned k)
{
    const double n = (double)set->count;
    const double rounds = fmin(4 * sqrt(n / k), fmin(25 * (double)set->dim, 160));
    return 8e6 + 5 * n * (rounds * (k + 15) + k * (2 + log(k)));
}

/* ---------------------------------------------------------------- the search */

typedef struct search_job {
    const vector_set *set;
    const frame *frame;
    const effort *effort;
    unsigned k;
    int threads;
    uint64_t random;
    pool pool;
    double work; /* to spend on moves */
} search_job;

static pal_status job_level(search_job *job, size_t count, level *l)
{
    return level_init(l, job->set, job->frame, count, job->k, job->threads, &job->random);
}

/* Candidates from a small sample. */
static pal_status begin(search_job *job)
{
    pool *p = &job->pool;
    level l;
    size_t count = (size_t)job->k * job->effort->seeds;
    count = count > LEAST_SEEDS ? count : LEAST_SEEDS;
    pal_status status = job_level(job, count < job->set->count / 2 ? count : job->set->count, &l);
    if (status)
        return status;
    for (unsigned i = 0; i < p->count && !status; i++)
        status = seed(&l.set, job->k, &job->random, p->centroids[i]);
    if (!status)
        status = pool_refine(p, &l.c, 3e-3, 12, job->effort->middle);
    level_free(&l);
    return status;
}

/* Fewer candidates from a larger sample, if the vectors are many more than that. */
static pal_status go_on(search_job *job)
{
    level l;
    size_t count = (size_t)job->k * MIDDLE;
    count = count > LEAST_MIDDLE ? count : LEAST_MIDDLE;
    if (count >= job->set->count / 2)
        return PAL_OK;
    pal_status status = job_level(job, count, &l);
    if (status)
        return status;
    status = tournament(&job->pool, &l.c, job->effort->last);
    if (!status && job->effort->last == 1) {
        status = finish(&l.c, &job->pool, 0.4 * job->work);
        job->work *= 0.6;
    }
    level_free(&l);
    return status;
}

/* The best one, on all vectors. */
static pal_status end(search_job *job)
{
    level l;
    pal_status status = job_level(job, job->set->count, &l);
    if (status)
        return status;
    status = tournament(&job->pool, &l.c, job->effort->moved);
    if (!status)
        status = finish(&l.c, &job->pool, job->work);
    level_free(&l);
    return status;
}

pal_status search(const vector_set *set, const frame *f, unsigned k, int threads, float *centroids)
{
    search_job job = {
        .set = set, .frame = f, .effort = efforts, .k = k, .threads = threads, .random = 1};
    while (job.effort->k < k)
        job.effort++;
    job.work = job.effort->share * restarts(set, k);
    pal_status status = pool_init(&job.pool, (size_t)k * set->dim, job.effort->starts);
    if (status)
        return status;
    status = begin(&job);
    if (!status)
        status = go_on(&job);
    if (!status)
        status = end(&job);
    if (!status)
        memcpy(centroids, job.pool.centroids[0], job.pool.numbers * sizeof *centroids);
    pool_free(&job.pool);
    return status;
}
