#include "cluster/vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/importance.h"
#include "cluster/vector/nearest.h"
#include "cluster/vector/search.h"

/* ---------------------------------------------------------------- few distinct vectors */

static void copy_vector(const vector_set *set, size_t i, float *to)
{
    for (size_t c = 0; c < set->dim; c++)
        to[c] = set->values[c * set->count + i] + 0.0F; /* -0 becomes 0 */
}

/* Collects the distinct vectors if they are at most k; 0 if they are more. The set is seen to the
 * end only where they are few. */
static unsigned distinct(const vector_set *set, unsigned k, float *found)
{
    enum { SLOTS = 1024 };
    uint16_t slots[SLOTS] = {0}; /* number of a vector found, + 1 */
    const size_t size = set->dim * sizeof *found;
    unsigned held = 0;
    float *next = found;
    for (size_t i = 0; i < set->count; i++) {
        copy_vector(set, i, next);
        uint64_t hash = 0;
        for (size_t c = 0; c < set->dim; c++) {
            uint32_t bits;
            memcpy(&bits, next + c, sizeof bits);
            hash = (hash ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
            hash ^= hash >> 29;
        }
        size_t slot = hash % SLOTS;
        while (slots[slot] && memcmp(found + (slots[slot] - 1) * set->dim, next, size) != 0)
            slot = (slot + 1) % SLOTS;
        if (slots[slot])
            continue;
        if (held == k)
            return 0;
        slots[slot] = (uint16_t)++held;
        next = found + held * set->dim;
    }
    return held;
}

/* ---------------------------------------------------------------- k-means */

/* The importances that clustering goes by, so that no vector is left out: those given, or lifted
 * ones, in memory that `lifted` keeps. */
static pal_status take_importance(const vector_set *set, const float **importance, float **lifted)
{
    *importance = set->importance;
    *lifted = NULL;
    if (importance_suffices(set->importance, set->count))
        return PAL_OK;
    *lifted = mem_array(set->count, sizeof **lifted);
    if (!*lifted)
        return fail_memory("clustering vectors");
    memcpy(*lifted, set->importance, set->count * sizeof **lifted);
    importance_lift(*lifted, set->count);
    *importance = *lifted;
    return PAL_OK;
}

pal_status vector_kmeans(const vector_set *set, unsigned k, int threads, float *centroids)
{
    const size_t dim = set->dim;
    float *found = mem_array((size_t)(k + 1) * dim, sizeof *found);
    if (!found)
        return fail_memory("clustering vectors");
    const unsigned few = distinct(set, k, found);
    for (unsigned j = 0; few && j < k; j++)
        memcpy(centroids + j * dim, found + (j < few ? j : few - 1) * dim, dim * sizeof *found);
    free(found);
    if (few)
        return PAL_OK;
    frame f = {0};
    vector_set all = *set;
    float *lifted;
    pal_status status = take_importance(set, &all.importance, &lifted);
    if (!status)
        status = frame_init(&f, set);
    if (!status)
        status = search(&all, &f, k, threads, centroids);
    for (unsigned j = 0; !status && j < k; j++)
        for (size_t d = 0; d < dim; d++)
            centroids[j * dim + d] = (float)((double)centroids[j * dim + d] / f.scale + f.shift[d]);
    frame_free(&f);
    free(lifted);
    return status;
}

/* ---------------------------------------------------------------- assignment */

enum { PIECE = 64 }; /* tiles whose errors are summed together */

typedef struct assignment {
    const vector_set *set;
    sites table; /* scaled */
    float scale;
    uint8_t which[MOST_SITES]; /* 0, 1, ... */
    uint8_t *indices;
    double *errors; /* of each piece */
    float *rooms;   /* dim x TILE for each thread */
} assignment;

static pal_status assign_piece(void *user, int thread, size_t piece)
{
    assignment *a = user;
    const vector_set *set = a->set;
    float *values = a->rooms + (size_t)thread * set->dim * TILE, distance[TILE];
    uint8_t nearest[TILE];
    double error = 0;
    const size_t end = (piece + 1) * PIECE * TILE;
    for (size_t begin = piece * PIECE * TILE; begin < end && begin < set->count; begin += TILE) {
        const size_t n = set->count - begin < TILE ? set->count - begin : TILE;
        for (size_t c = 0; c < set->dim; c++)
            for (size_t i = 0; i < TILE; i++)
                values[c * TILE + i] =
                    set->values[c * set->count + begin + (i < n ? i : n - 1)] * a->scale;
        tile_nearest(values, set->dim, a->table.rows, a->which, a->table.k, distance, nearest);
        for (size_t i = 0; i < n; i++)
            error +=
                (set->importance ? (double)set->importance[begin + i] : 1) * (double)distance[i];
        if (a->indices)
            memcpy(a->indices + begin, nearest, n);
    }
    a->errors[piece] = error;
    return PAL_OK;
}

/* A power of two that keeps squares of the values away from the limits of single precision; 1
 * unless it must be another, because scaling has a price where it makes denormal numbers. */
static double safe_scale(const vector_set *set)
{
    float peak = 0;
    for (size_t i = 0; i < set->count * set->dim; i++)
        peak = fabsf(set->values[i]) > peak ? fabsf(set->values[i]) : peak;
    int exponent = 0;
    if (peak > 0)
        frexp((double)peak, &exponent);
    return exponent > -40 && exponent < 40 ? 1 : ldexp(1, -exponent);
}

pal_status vector_assign(const vector_set *set, const float *centroids, unsigned k, int threads,
                         uint8_t *indices, double *error)
{
    const size_t pieces = (set->count + PIECE * TILE - 1) / (PIECE * TILE);
    const double scale = safe_scale(set);
    float *scaled = mem_array((size_t)k * set->dim, sizeof *scaled);
    assignment a = {.set = set, .scale = (float)scale, .indices = indices};
    a.errors = mem_array(pieces, sizeof *a.errors);
    a.rooms = mem_array((size_t)threads * set->dim * TILE, sizeof *a.rooms);
    pal_status status = PAL_OK;
    if (!scaled || !a.errors || !a.rooms)
        status = fail_memory("clustering vectors");
    else
        status = sites_init(&a.table, set->dim);
    if (status)
        goto cleanup;
    for (size_t i = 0; i < (size_t)k * set->dim; i++)
        scaled[i] = (float)((double)centroids[i] * scale);
    sites_set(&a.table, k, scaled);
    for (unsigned j = 0; j < MOST_SITES; j++)
        a.which[j] = (uint8_t)j;
    const parallel_job job = {.user = &a, .item = assign_piece};
    status = parallel_run(&job, pieces, (double)set->count * k < WORTH_THREADS ? 1 : threads);
    if (!status && error) {
        *error = 0;
        for (size_t i = 0; i < pieces; i++)
            *error += a.errors[i];
        *error /= scale * scale;
    }
cleanup:
    sites_free(&a.table);
    free(scaled);
    free(a.errors);
    free(a.rooms);
    return status;
}
