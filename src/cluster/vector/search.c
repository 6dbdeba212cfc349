/* Few clusters are searched for in a way of their own (few.h). Many have so many good arrangements
 * that only moves get on: one candidate from a small sample is improved by them, on a larger sample
 * and then on all vectors, for a time in proportion to what plain restarts of Lloyd's algorithm
 * would take. That time is counted in work done and not on a clock, so that the result does not
 * depend on the machine. */
#include "cluster/vector/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/vector/few.h"
#include "cluster/vector/moves.h"
#include "cluster/vector/seed.h"

/* Found by trial, with bench/vectors.py. */
enum {
    SEEDS = 32,          /* vectors a cluster in the first sample, */
    LEAST_SEEDS = 512,   /* and vectors in all, at least; */
    MIDDLE = 256,        /* the same in the second, */
    LEAST_MIDDLE = 8192, /* which only large sets have */
};
/* What part of the time of five restarts moves take: with many components a pass costs more of it.
 */
static const double SHARE = 0.11, SHARE_OF_LONG = 0.075;
enum { LONG = 5 };                   /* components */
static const double ON_SAMPLE = 0.4; /* of it, on the second sample if there is one */

/* From how long they took: the number of iterations grows with the number of vectors a cluster, to
 * a point. */
double restarts_work(size_t count, size_t dim, unsigned k)
{
    const double n = (double)count;
    const double rounds = fmin(4 * sqrt(n / k), fmin(25 * (double)dim, 160));
    return 8e6 + 5 * n * (rounds * (k + 15) + k * (2 + log(k)));
}

typedef struct search_job {
    const vector_set *set;
    const frame *frame;
    unsigned k;
    int threads;
    uint64_t random;
    float *centroids;
} search_job;

/* The vectors, or a sample of them, and a clustering. */
typedef struct stage {
    tiles set;
    clustering c;
} stage;

static void stage_free(stage *s)
{
    clustering_free(&s->c);
    tiles_free(&s->set);
}

static pal_status stage_init(stage *s, search_job *job, size_t count)
{
    *s = (stage){0};
    pal_status status =
        tiles_init(&s->set, job->set, job->frame, count, true, job->threads, &job->random);
    if (!status)
        status = clustering_init(&s->c, &s->set, job->k, job->threads);
    if (status)
        stage_free(s);
    return status;
}

/* First centroids, from a small sample. */
static pal_status begin(search_job *job)
{
    stage s;
    size_t count = (size_t)job->k * SEEDS;
    count = count > LEAST_SEEDS ? count : LEAST_SEEDS;
    pal_status status = stage_init(&s, job, count < job->set->count / 2 ? count : job->set->count);
    if (status)
        return status;
    status = seed(&s.set, job->k, &job->random, s.c.centroids);
    if (!status)
        status = clustering_lloyd(&s.c, 3e-3, 12);
    memcpy(job->centroids, s.c.centroids, (size_t)job->k * job->set->dim * sizeof(float));
    stage_free(&s);
    return status;
}

/* Moves, as long as there is work to spend; then iterations to the end. */
static pal_status improve(search_job *job, size_t count, double work)
{
    const size_t size = (size_t)job->k * job->set->dim * sizeof(float);
    stage s;
    pal_status status = stage_init(&s, job, count);
    if (status)
        return status;
    memcpy(s.c.centroids, job->centroids, size);
    status = clustering_lloyd(&s.c, 3e-5, 10);
    if (!status)
        status = moves_improve(&s.c, work, NULL);
    if (!status)
        status = moves_settle(&s.c, 1e-6, 100);
    memcpy(job->centroids, s.c.centroids, size);
    stage_free(&s);
    return status;
}

pal_status search(const vector_set *set, const frame *f, unsigned k, int threads, float *centroids)
{
    if (k <= MOST_FEW)
        return search_few(set, f, k, threads, centroids);
    search_job job = {.set = set, .frame = f, .k = k, .threads = threads, .random = 1};
    job.centroids = centroids;
    double work =
        (set->dim < LONG ? SHARE : SHARE_OF_LONG) * restarts_work(set->count, set->dim, k);
    size_t middle = (size_t)k * MIDDLE;
    middle = middle > LEAST_MIDDLE ? middle : LEAST_MIDDLE;
    pal_status status = begin(&job);
    if (!status && middle < set->count / 2) {
        status = improve(&job, middle, ON_SAMPLE * work);
        work *= 1 - ON_SAMPLE;
    }
    return status ? status : improve(&job, set->count, work);
}
