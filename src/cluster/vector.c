#include "cluster/vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

enum {
    BLOCK = 256,        /* vectors that are compared with all centroids while in the cache */
    PIECE = 64 * BLOCK, /* vectors whose sums are taken together */
    MAX_ROUNDS = 100,
    SAMPLE_LEAST = 16384,
    SAMPLE_PER_CLUSTER = 128,
};

/* The generated code differs only in how many vectors it holds at once, not in any result. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) &&             \
    !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

/* ---------------------------------------------------------------- distances */

/* For up to BLOCK vectors from `first`: nearest and, if wanted, second nearest squared distance. */
typedef struct nearest {
    float first[BLOCK], second[BLOCK];
    int32_t index[BLOCK];
} nearest;

/* d[i] = squared distance of vector i to one centroid; the number of components is a constant in
 * each call. */
static inline __attribute__((always_inline)) void distances(const float *restrict values,
                                                            size_t stride, size_t dim,
                                                            const float *restrict centroid,
                                                            size_t n, float *restrict d)
{
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t c = 0; c < dim; c++) {
            float difference = values[c * stride + i] - centroid[c];
            sum += difference * difference;
        }
        d[i] = sum;
    }
}

WIDE static void block_distances(const float *values, size_t stride, size_t dim,
                                 const float *centroid, float *d)
{
    switch (dim) {
    case 1: distances(values, stride, 1, centroid, BLOCK, d); break;
    case 2: distances(values, stride, 2, centroid, BLOCK, d); break;
    case 3: distances(values, stride, 3, centroid, BLOCK, d); break;
    case 4: distances(values, stride, 4, centroid, BLOCK, d); break;
    case 8: distances(values, stride, 8, centroid, BLOCK, d); break;
    default: distances(values, stride, dim, centroid, BLOCK, d); break;
    }
}

WIDE static void keep_nearest(const float *restrict d, int32_t index, float *restrict first,
                              int32_t *restrict indices)
{
    for (size_t i = 0; i < BLOCK; i++) {
        indices[i] = d[i] < first[i] ? index : indices[i];
        first[i] = d[i] < first[i] ? d[i] : first[i];
    }
}

WIDE static void keep_two_nearest(const float *restrict d, int32_t index, float *restrict first,
                                  float *restrict second, int32_t *restrict indices)
{
    for (size_t i = 0; i < BLOCK; i++) {
        float loser = d[i] < first[i] ? first[i] : d[i];
        second[i] = loser < second[i] ? loser : second[i];
        indices[i] = d[i] < first[i] ? index : indices[i];
        first[i] = d[i] < first[i] ? d[i] : first[i];
    }
}

/* The vectors from `begin` on, BLOCK of them; the last ones are repeated where there are fewer. */
static const float *block_values(const vector_set *set, size_t begin, size_t n, float *padded,
                                 size_t *stride)
{
    if (n == BLOCK) {
        *stride = set->count;
        return set->values + begin;
    }
    for (size_t c = 0; c < set->dim; c++)
        for (size_t i = 0; i < BLOCK; i++)
            padded[c * BLOCK + i] = set->values[c * set->count + begin + (i < n ? i : n - 1)];
    *stride = BLOCK;
    return padded;
}

/* ---------------------------------------------------------------- one pass over the vectors */

/* What a pass gathers over one piece, and then over all of them. */
typedef struct sums {
    double error;
    double *total;   /* k x dim: weighted sums of the members */
    double *mass;    /* k */
    double *missed;  /* k: what giving up the cluster would add to the error */
    double *spread;  /* k: its own error */
    double farthest; /* largest weighted distance, and of which vector */
    size_t farthest_vector;
} sums;

typedef struct pass {
    const vector_set *set;
    const float *centroids;
    unsigned k;
    bool two;         /* also second nearest, for `missed` */
    uint8_t *indices; /* may be NULL */
    double *numbers;  /* room for the sums of all pieces */
    sums *pieces;
    float *padded; /* dim x BLOCK for each thread */
    size_t piece_count;
} pass;

static size_t pass_numbers(const pass *p)
{
    return (size_t)p->k * (p->set->dim + 3);
}

static void pass_free(pass *p)
{
    free(p->numbers);
    free(p->pieces);
    free(p->padded);
}

static pal_status pass_init(pass *p, const vector_set *set, unsigned k, int threads)
{
    *p = (pass){.set = set, .k = k};
    p->piece_count = (set->count + PIECE - 1) / PIECE;
    p->numbers = mem_array((p->piece_count + 1) * pass_numbers(p), sizeof *p->numbers);
    p->pieces = mem_array(p->piece_count + 1, sizeof *p->pieces);
    p->padded = mem_array((size_t)threads * set->dim * BLOCK, sizeof *p->padded);
    if (p->numbers && p->pieces && p->padded)
        return PAL_OK;
    pass_free(p);
    return fail_memory("clustering vectors");
}

static sums *piece_sums(pass *p, size_t i)
{
    double *at = p->numbers + i * pass_numbers(p);
    sums *s = &p->pieces[i];
    memset(at, 0, pass_numbers(p) * sizeof *at);
    *s = (sums){.total = at, .farthest = -1};
    s->mass = s->total + (size_t)p->k * p->set->dim;
    s->missed = s->mass + p->k;
    s->spread = s->missed + p->k;
    return s;
}

static void add_block(const pass *p, sums *s, const nearest *near, size_t begin, size_t n)
{
    const vector_set *set = p->set;
    for (size_t i = 0; i < n; i++) {
        const size_t j = (size_t)near->index[i];
        const double weight = set->importance ? (double)set->importance[begin + i] : 1;
        const double error = weight * (double)near->first[i];
        for (size_t c = 0; c < set->dim; c++)
            s->total[j * set->dim + c] += weight * (double)set->values[c * set->count + begin + i];
        s->mass[j] += weight;
        s->error += error;
        s->spread[j] += error;
        if (p->two)
            s->missed[j] += weight * (double)near->second[i] - error;
        if (error > s->farthest) {
            s->farthest = error;
            s->farthest_vector = begin + i;
        }
    }
    if (p->indices)
        for (size_t i = 0; i < n; i++)
            p->indices[begin + i] = (uint8_t)near->index[i];
}

static pal_status run_piece(void *user, int thread, size_t piece)
{
    pass *p = user;
    const vector_set *set = p->set;
    sums *s = piece_sums(p, piece);
    nearest near;
    float d[BLOCK];
    size_t end = (piece + 1) * PIECE < set->count ? (piece + 1) * PIECE : set->count;
    for (size_t begin = piece * PIECE, n; begin < end; begin += n) {
        size_t stride;
        n = end - begin < BLOCK ? end - begin : BLOCK;
        const float *values =
            block_values(set, begin, n, p->padded + (size_t)thread * set->dim * BLOCK, &stride);
        for (size_t i = 0; i < BLOCK; i++) {
            near.first[i] = near.second[i] = INFINITY;
            near.index[i] = 0;
        }
        for (unsigned j = 0; j < p->k; j++) {
            block_distances(values, stride, set->dim, p->centroids + j * set->dim, d);
            if (p->two)
                keep_two_nearest(d, (int32_t)j, near.first, near.second, near.index);
            else
                keep_nearest(d, (int32_t)j, near.first, near.index);
        }
        add_block(p, s, &near, begin, n);
    }
    return PAL_OK;
}

/* Assigns all vectors to `centroids` and gathers the sums. */
static pal_status pass_run(pass *p, const float *centroids, bool two, uint8_t *indices, int threads,
                           const sums **out)
{
    p->centroids = centroids;
    p->two = two;
    p->indices = indices;
    parallel_job job = {.user = p, .item = run_piece};
    pal_status status = parallel_run(&job, p->piece_count, threads);
    if (status)
        return status;
    sums *all = piece_sums(p, p->piece_count);
    for (size_t i = 0; i < p->piece_count; i++) {
        const sums *s = &p->pieces[i];
        for (size_t j = 0; j < pass_numbers(p); j++)
            all->total[j] += s->total[j]; /* mass, missed and spread lie behind total */
        all->error += s->error;
        if (s->farthest > all->farthest) {
            all->farthest = s->farthest;
            all->farthest_vector = s->farthest_vector;
        }
    }
    *out = all;
    return PAL_OK;
}

/* ---------------------------------------------------------------- Lloyd's iterations */

static void copy_vector(const vector_set *set, size_t i, float *to)
{
    for (size_t c = 0; c < set->dim; c++)
        to[c] = set->values[c * set->count + i];
}

/* Moves centroids to the means of their members; one without members goes to the worst-served
 * vector (one such in each iteration). */
static void update(const pass *p, const sums *s, float *centroids)
{
    const size_t dim = p->set->dim;
    bool repaired = false;
    for (unsigned j = 0; j < p->k; j++) {
        if (s->mass[j] > 0) {
            for (size_t c = 0; c < dim; c++)
                centroids[j * dim + c] = (float)(s->total[j * dim + c] / s->mass[j]);
        } else if (!repaired && s->farthest > 0) {
            copy_vector(p->set, s->farthest_vector, centroids + j * dim);
            repaired = true;
        }
    }
}

/* Iterates until the error falls by less than `tolerance` of itself. The error returned belongs to
 * the centroids before their last move, and so is an upper bound. */
static pal_status lloyd(pass *p, float *centroids, double tolerance, int rounds, int threads,
                        double *error)
{
    double before = INFINITY;
    for (int round = 0; round < rounds; round++) {
        const sums *s;
        pal_status status = pass_run(p, centroids, false, NULL, threads, &s);
        if (status)
            return status;
        *error = s->error;
        if (before - s->error <= tolerance * s->error)
            break;
        before = s->error;
        update(p, s, centroids);
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- seeding */

static uint64_t next_random(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double next_unit(uint64_t *state)
{
    return (double)(next_random(state) >> 11) * 0x1p-53;
}

/* The vector at which the running sum of `cost` passes a random share of `total`. */
static size_t draw(const double *cost, size_t n, double total, uint64_t *random)
{
    double at = next_unit(random) * total;
    for (size_t i = 0; i + 1 < n; i++) {
        at -= cost[i];
        if (at < 0)
            return i;
    }
    return n - 1;
}

/* cost[i] lowered to the distance to the vector `chosen`, into `to`; returns the sum. */
static double lower_costs(const vector_set *set, const double *cost, size_t chosen, double *to)
{
    double total = 0;
    for (size_t i = 0; i < set->count; i++) {
        double d = 0;
        for (size_t c = 0; c < set->dim; c++) {
            double difference = (double)set->values[c * set->count + i] -
                                (double)set->values[c * set->count + chosen];
            d += difference * difference;
        }
        d *= set->importance ? (double)set->importance[i] : 1;
        to[i] = d < cost[i] ? d : cost[i];
        total += to[i];
    }
    return total;
}

static pal_status seed(const vector_set *set, unsigned k, uint64_t *random, float *centroids)
{
    const int trials = 2 + (int)log((double)k);
    double *cost = mem_array(set->count, sizeof *cost), *best = mem_array(set->count, sizeof *best);
    double *trial = mem_array(set->count, sizeof *trial);
    if (!cost || !best || !trial) {
        free(cost);
        free(best);
        free(trial);
        return fail_memory("clustering vectors");
    }
    double total = 0;
    for (size_t i = 0; i < set->count; i++)
        cost[i] = set->importance ? (double)set->importance[i] : 1;
    for (size_t i = 0; i < set->count; i++)
        total += cost[i];
    for (unsigned j = 0; j < k; j++) {
        double best_total = INFINITY;
        size_t best_vector = 0;
        for (int t = 0; t < (j ? trials : 1); t++) {
            size_t chosen = draw(cost, set->count, total, random);
            if (j == 0)
                for (size_t i = 0; i < set->count; i++)
                    cost[i] = INFINITY;
            double sum = lower_costs(set, cost, chosen, trial);
            if (sum < best_total) {
                double *swap = best;
                best = trial;
                trial = swap;
                best_total = sum;
                best_vector = chosen;
            }
        }
        copy_vector(set, best_vector, centroids + j * set->dim);
        double *swap = cost;
        cost = best;
        best = swap;
        total = best_total;
    }
    free(cost);
    free(best);
    free(trial);
    return PAL_OK;
}

/* ---------------------------------------------------------------- moves */

/* The cluster at place `rank` when they are sorted by `key`, ascending. O(k rank). */
static unsigned ranked(const double *key, unsigned k, unsigned rank)
{
    double floor = -INFINITY;
    unsigned last = 0;
    for (unsigned r = 0; r <= rank && r < k; r++) {
        unsigned best = k;
        for (unsigned j = 0; j < k; j++) {
            bool after = key[j] > floor || (key[j] == floor && r > 0 && j > last);
            if (after && (best == k || key[j] < key[best]))
                best = j;
        }
        if (best == k)
            break;
        last = best;
        floor = key[best];
    }
    return last;
}

/* Gives up a cluster that is hardly missed and splits one with a large error, and keeps the result
 * if Lloyd's iterations then end lower; after a failure the next pair is tried. */
static pal_status improve(pass *p, float *centroids, double *error, uint64_t *random, int threads)
{
    enum { TRIES = 100, DONORS = 3, SMALL = 32 };
    const size_t dim = p->set->dim;
    const unsigned patience = p->k <= SMALL ? 18 : 6;
    float *trial = mem_array((size_t)p->k * dim, sizeof *trial);
    if (!trial)
        return fail_memory("clustering vectors");
    pal_status status = PAL_OK;
    unsigned in_vain = 0;
    for (int t = 0; t < TRIES && in_vain < patience && p->k > 1; t++) {
        const sums *s;
        status = pass_run(p, centroids, true, NULL, threads, &s);
        if (status)
            break;
        for (unsigned j = 0; j < p->k; j++)
            s->spread[j] = -s->spread[j];
        unsigned given = ranked(s->missed, p->k, in_vain % DONORS);
        unsigned split = ranked(s->spread, p->k, in_vain / DONORS);
        if (given == split || !(s->mass[split] > 0)) {
            in_vain++;
            continue;
        }
        memcpy(trial, centroids, (size_t)p->k * dim * sizeof *trial);
        double radius = sqrt(-s->spread[split] / s->mass[split] / (double)dim);
        for (size_t c = 0; c < dim; c++) {
            float step = (float)((next_unit(random) - 0.5) * 2 * radius);
            trial[given * dim + c] = centroids[split * dim + c] + step;
            trial[split * dim + c] = centroids[split * dim + c] - step;
        }
        double after = INFINITY;
        status = lloyd(p, trial, 3e-4, 20, threads, &after);
        if (status)
            break;
        if (after < *error * (1 - 1e-5)) {
            memcpy(centroids, trial, (size_t)p->k * dim * sizeof *trial);
            *error = after;
            in_vain = 0;
        } else {
            in_vain++;
        }
    }
    free(trial);
    return status;
}

/* ---------------------------------------------------------------- whole */

/* A sample: one vector from each of `count` stretches of equal length. NULL when out of memory. */
static float *sample(const vector_set *set, size_t count, uint64_t *random, float **importance)
{
    float *values = mem_array(count * set->dim, sizeof *values);
    *importance = set->importance ? mem_array(count, sizeof **importance) : NULL;
    if (!values || (set->importance && !*importance)) {
        free(values);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        double stretch = (double)set->count / (double)count;
        size_t at = (size_t)(((double)i + next_unit(random)) * stretch);
        at = at < set->count ? at : set->count - 1;
        for (size_t c = 0; c < set->dim; c++)
            values[c * count + i] = set->values[c * set->count + at];
        if (*importance)
            (*importance)[i] = set->importance[at];
    }
    return values;
}

/* Seeds, iterates and improves on the given vectors. */
static pal_status search(const vector_set *set, unsigned k, int threads, uint64_t *random,
                         float *centroids)
{
    pass p;
    double error = INFINITY;
    pal_status status = pass_init(&p, set, k, threads);
    if (status)
        return status;
    status = seed(set, k, random, centroids);
    if (!status)
        status = lloyd(&p, centroids, 1e-4, MAX_ROUNDS, threads, &error);
    if (!status)
        status = improve(&p, centroids, &error, random, threads);
    if (!status)
        status = lloyd(&p, centroids, 1e-5, MAX_ROUNDS, threads, &error);
    pass_free(&p);
    return status;
}

pal_status vector_kmeans(const vector_set *set, unsigned k, int threads, float *centroids)
{
    uint64_t random = 1;
    size_t most = (size_t)k * SAMPLE_PER_CLUSTER;
    most = most < SAMPLE_LEAST ? SAMPLE_LEAST : most;
    if (set->count <= 2 * most)
        return search(set, k, threads, &random, centroids);
    vector_set part = {.count = most, .dim = set->dim};
    float *importance = NULL, *values = sample(set, most, &random, &importance);
    pal_status status = values ? PAL_OK : fail_memory("clustering vectors");
    part.values = values;
    part.importance = importance;
    if (!status)
        status = search(&part, k, threads, &random, centroids);
    free(values);
    free(importance);
    pass p;
    double error;
    if (status || (status = pass_init(&p, set, k, threads)))
        return status;
    status = lloyd(&p, centroids, 2e-6, MAX_ROUNDS, threads, &error);
    pass_free(&p);
    return status;
}

pal_status vector_assign(const vector_set *set, const float *centroids, unsigned k, int threads,
                         uint8_t *indices, double *error)
{
    pass p;
    const sums *s;
    pal_status status = pass_init(&p, set, k, threads);
    if (status)
        return status;
    status = pass_run(&p, centroids, false, indices, threads, &s);
    if (!status && error)
        *error = s->error;
    pass_free(&p);
    return status;
}
