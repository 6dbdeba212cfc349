#include "cluster/dkm/table.h"

#include <math.h>
#include <string.h>

#include "cluster/integers.h"

static void round_to_integers(const dkm_config *c, const double *centroids, double *rounded,
                              dkm_lut *lut)
{
    integer_scale scales[INTEGER_SCALES];
    double low = centroids[0], high = centroids[0];
    for (size_t at = 0; at < table_size(c); at++) {
        low = fmin(low, centroids[at]);
        high = fmax(high, centroids[at]);
    }
    integer_scales(c->table, c->weights, low, high, scales);
    for (size_t at = 0; at < table_size(c); at++) {
        const int entry = integer_entry(c->table, c->weights, scales[0], centroids[at]);
        rounded[at] = integer_value(c->weights, scales[0], entry);
        if (lut)
            lut->entry[at] = entry;
    }
    if (lut) {
        lut->scale = scales[0].scale;
        lut->offset = scales[0].offset;
    }
}

/* Nearest of the type, without ever becoming infinite. */
static double round_float(grid grid, double x)
{
    const double most = grid == GRID_FLOAT16 ? 65504 : 0x1.fep127;
    return grid == GRID_FLOAT32 ? (double)(float)x : fmax(-most, fmin(most, grid_round(grid, x)));
}

void table_round(const dkm_config *c, const double *centroids, double *rounded, dkm_lut *lut)
{
    if (lut) {
        lut->scale = 1;
        lut->offset = 0;
    }
    if (c->table == GRID_INT8 || c->table == GRID_UINT8) {
        round_to_integers(c, centroids, rounded, lut);
        return;
    }
    for (size_t at = 0; at < table_size(c); at++)
        rounded[at] = round_float(c->table, centroids[at]);
}

int table_keep_zero(const dkm_config *c, double *centroids)
{
    double least = INFINITY;
    int zero = 0;
    for (unsigned j = 0; j < c->clusters; j++) {
        double square = 0;
        for (size_t i = 0; i < c->dim; i++)
            square += centroids[j * c->dim + i] * centroids[j * c->dim + i];
        if (square < least) {
            least = square;
            zero = (int)j;
        }
    }
    memset(centroids + (size_t)zero * c->dim, 0, c->dim * sizeof *centroids);
    return zero;
}

void dkm_table(const dkm *d, size_t group, dkm_lut *lut)
{
    const dkm_config *c = &d->config;
    double rounded[DKM_MOST_CLUSTERS * DKM_MOST_DIM];
    table_round(c, d->centroids + group * table_size(c), rounded, lut);
    for (size_t at = 0; at < table_size(c); at++)
        lut->value[at] = (float)rounded[at];
}
