/* The grid is as fine along an axis as the cube root of the density of the vectors there, which is
 * the best for few steps and a small squared error (Panter and Dite 1951). */
#include "cluster/vector/merge.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

enum { FINE = 1024 }; /* steps of equal width in which the density is taken */

typedef struct axis {
    float least, scale; /* (x - least) * scale: the fine step of x */
    uint16_t place[FINE];
} axis;

static inline unsigned fine_step(const axis *a, float x)
{
    const float step = (x - a->least) * a->scale;
    return step < FINE - 1 ? (unsigned)step : FINE - 1;
}

/* Finds the steps of axis c: `steps` of them. */
static void axis_init(axis *a, const tiles *from, size_t c, unsigned steps)
{
    float least = INFINITY, most = -INFINITY;
    for (size_t tile = 0; tile < from->tile_count; tile++) {
        const float *row = tile_values(from, tile) + c * TILE;
        for (size_t i = 0; i < TILE; i++) {
            least = row[i] < least ? row[i] : least;
            most = row[i] > most ? row[i] : most;
        }
    }
    a->least = least;
    a->scale = most > least ? FINE / (most - least) : 0;
    double mass[FINE] = {0}, sum = 0;
    for (size_t tile = 0; tile < from->tile_count; tile++) {
        const float *row = tile_values(from, tile) + c * TILE, *weights = tile_weights(from, tile);
        for (size_t i = 0; i < TILE; i++)
            mass[fine_step(a, row[i])] += (double)weights[i];
    }
    for (size_t i = 0; i < FINE; i++)
        sum += mass[i] = cbrt(mass[i]);
    double before = 0;
    for (size_t i = 0; i < FINE; i++) {
        const double at = (before + mass[i] / 2) / sum * steps;
        a->place[i] = (uint16_t)(at < steps - 1 ? at : steps - 1);
        before += mass[i];
    }
}

/* Adds the vectors of each cell: their weighted components and weights. */
static void add_up(const tiles *from, const axis *axes, unsigned steps, double *sums)
{
    const size_t dim = from->dim;
    for (size_t tile = 0; tile < from->tile_count; tile++) {
        const float *values = tile_values(from, tile), *weights = tile_weights(from, tile);
        uint32_t cell[TILE] = {0};
        for (size_t c = 0; c < dim; c++)
            for (size_t i = 0; i < TILE; i++)
                cell[i] =
                    cell[i] * steps + axes[c].place[fine_step(&axes[c], values[c * TILE + i])];
        for (size_t i = 0; i < TILE; i++) {
            double *sum = sums + cell[i] * (dim + 1);
            const double weight = (double)weights[i];
            for (size_t c = 0; c < dim; c++)
                sum[c] += weight * (double)values[c * TILE + i];
            sum[dim] += weight;
        }
    }
}

pal_status tiles_merge(tiles *t, const tiles *from, size_t cells, size_t least)
{
    const size_t dim = from->dim, width = dim + 1;
    const unsigned steps = (unsigned)fmax(2, rint(pow((double)cells, 1 / (double)dim)));
    size_t all = 1, count = 0;
    for (size_t c = 0; c < dim; c++)
        all *= steps;
    *t = (tiles){0};
    axis *axes = mem_array(dim, sizeof *axes);
    double *sums = mem_zeroed(all * width, sizeof *sums);
    pal_status status = PAL_OK;
    if (!axes || !sums) {
        status = fail_memory("clustering vectors");
        goto cleanup;
    }
    for (size_t c = 0; c < dim; c++)
        axis_init(&axes[c], from, c, steps);
    add_up(from, axes, steps, sums);
    for (size_t n = 0; n < all; n++)
        count += sums[n * width + dim] > 0;
    if (count >= least)
        status = tiles_alloc(t, count, dim, false);
    if (status || count < least)
        goto cleanup;
    for (size_t n = 0, to = 0; n < all; n++) {
        const double *sum = sums + n * width;
        if (!(sum[dim] > 0))
            continue;
        for (size_t c = 0; c < dim; c++)
            t->values[(to / TILE * dim + c) * TILE + to % TILE] = (float)(sum[c] / sum[dim]);
        t->weights[to++] = (float)sum[dim];
    }
    tiles_complete(t);
cleanup:
    free(axes);
    free(sums);
    return status;
}
