/* k-means++ (Arthur and Vassilvitskii 2007) in its greedy form: of several vectors, drawn with a
 * probability in proportion to their squared distance to the nearest centroid so far, the one is
 * taken that lowers the sum of those most. */
#include "cluster/vector/seed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct seeding {
    const tiles *set;
    float *distance; /* of each vector to the nearest centroid, squared */
    float *most;     /* of each tile, the largest of them */
    double *sums;    /* of each tile, the weighted sum */
} seeding;

/* The vector at which the running sum of weighted distances passes a random share of the whole. */
static size_t draw(const seeding *s, double total, uint64_t *random)
{
    const tiles *set = s->set;
    double at = next_unit(random) * total;
    size_t tile = 0;
    while (tile + 1 < set->tile_count && at >= s->sums[tile])
        at -= s->sums[tile++];
    const float *weights = tile_weights(set, tile), *distance = s->distance + tile * TILE;
    size_t chosen = 0;
    for (size_t i = 0; i < TILE && tile * TILE + i < set->count; i++) {
        const double share = (double)(weights[i] * distance[i]);
        if (!(share > 0))
            continue;
        chosen = i;
        at -= share;
        if (at < 0)
            break;
    }
    return tile * TILE + chosen;
}

static void copy_vector(const tiles *set, size_t i, float *to)
{
    const float *from = tile_values(set, i / TILE) + i % TILE;
    for (size_t c = 0; c < set->dim; c++)
        to[c] = from[c * TILE];
}

/* Whether no vector of the tile is nearer to `point` than to its centroid. */
static bool out_of_reach(const seeding *s, size_t tile, const float *point)
{
    const size_t dim = s->set->dim;
    if (!s->set->boxes)
        return false;
    const float *box = s->set->boxes + tile * 2 * dim;
    float square = 0;
    for (size_t c = 0; c < dim; c++) {
        float beside = fabsf(point[c] - box[c]) - box[dim + c];
        beside = beside > 0 ? beside : 0;
        square += beside * beside;
    }
    return square * 0.99999F > s->most[tile];
}

/* The sum of distances with `point` as one more centroid; `keep`: from now on. */
static double with(seeding *s, const float *point, bool keep)
{
    const tiles *set = s->set;
    float scratch[TILE], most;
    double total = 0;
    for (size_t tile = 0; tile < set->tile_count; tile++) {
        float *distance = s->distance + tile * TILE;
        double sum = s->sums[tile];
        if (!out_of_reach(s, tile, point)) {
            sum = tile_lower(tile_values(set, tile), tile_weights(set, tile), set->dim, point,
                             distance, keep ? distance : scratch, &most);
            if (keep) {
                s->sums[tile] = sum;
                s->most[tile] = most;
            }
        }
        total += sum;
    }
    return total;
}

pal_status seed(const tiles *set, unsigned k, uint64_t *random, float *centroids)
{
    const size_t n = set->tile_count;
    seeding s = {.set = set,
                 .distance = mem_array(n * TILE, sizeof *s.distance),
                 .most = mem_array(n, sizeof *s.most),
                 .sums = mem_array(n, sizeof *s.sums)};
    pal_status status = PAL_OK;
    if (!s.distance || !s.most || !s.sums) {
        status = fail_memory("clustering vectors");
        goto cleanup;
    }
    const int trials = 2 + (int)log((double)k);
    double total = 0;
    for (size_t tile = 0; tile < n; tile++) {
        s.sums[tile] = 0;
        for (size_t i = 0; i < TILE; i++) {
            s.distance[tile * TILE + i] = 1;
            s.sums[tile] += (double)tile_weights(set, tile)[i];
        }
        total += s.sums[tile];
    }
    copy_vector(set, draw(&s, total, random), centroids);
    for (size_t tile = 0; tile < n; tile++) {
        for (size_t i = 0; i < TILE; i++)
            s.distance[tile * TILE + i] = INFINITY;
        s.most[tile] = INFINITY;
    }
    total = with(&s, centroids, true);
    for (unsigned j = 1; j < k; j++) {
        float *point = centroids + j * set->dim;
        double best = INFINITY;
        size_t best_vector = 0;
        for (int t = 0; t < trials && total > 0; t++) {
            const size_t chosen = draw(&s, total, random);
            copy_vector(set, chosen, point);
            const double sum = with(&s, point, false);
            if (sum < best) {
                best = sum;
                best_vector = chosen;
            }
        }
        copy_vector(set, best_vector, point);
        total = with(&s, point, true);
    }
cleanup:
    free(s.distance);
    free(s.most);
    free(s.sums);
    return status;
}
