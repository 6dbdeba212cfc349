#include "method/vectors.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cluster/vector.h"

static float value_at(const vector_group *g, size_t i)
{
    switch (g->grid) {
    case GRID_FLOAT16: return f16_to_float(((const uint16_t *)g->dense)[i]);
    case GRID_BFLOAT16: return bf16_to_float(((const uint16_t *)g->dense)[i]);
    case GRID_FLOAT32: break;
    }
    return ((const float *)g->dense)[i];
}

/* The vectors with their components in rows. */
static pal_status gather(const vector_group *g, float *rows, size_t count, double *peak)
{
    size_t vector = 0;
    *peak = 0;
    for (size_t o = 0; o < g->outer; o++) {
        for (size_t c = g->first; c < g->first + g->count; c += g->dim) {
            for (size_t i = 0; i < g->inner; i++, vector++) {
                for (size_t d = 0; d < g->dim; d++) {
                    float value = value_at(g, (o * g->channels + c + d) * g->inner + i);
                    if (!isfinite(value))
                        return fail(PAL_ERROR_VALUE, "a value is not finite");
                    rows[d * count + vector] = value;
                    *peak = fmax(*peak, fabs((double)value));
                }
            }
        }
    }
    return PAL_OK;
}

/* Rounds the centroids to what can be stored, and stores them. */
static void store(grid grid, float *centroids, size_t n, void *lut)
{
    for (size_t i = 0; i < n; i++) {
        double value = (double)centroids[i];
        switch (grid) {
        case GRID_FLOAT16:
            ((uint16_t *)lut)[i] = f16_from_double(value);
            centroids[i] = f16_to_float(((uint16_t *)lut)[i]);
            break;
        case GRID_BFLOAT16:
            ((uint16_t *)lut)[i] = bf16_from_double(value);
            centroids[i] = bf16_to_float(((uint16_t *)lut)[i]);
            break;
        case GRID_FLOAT32: ((float *)lut)[i] = centroids[i]; break;
        }
    }
}

pal_status vectors_cluster(const vector_group *g, unsigned nbits, int threads, void *lut,
                           uint8_t *indices, double *squared_error, double *peak)
{
    const unsigned k = 1u << nbits;
    const size_t count = g->outer * (g->count / g->dim) * g->inner;
    float *rows = mem_array(count * g->dim, sizeof *rows);
    float *centroids = mem_array(k * g->dim, sizeof *centroids);
    pal_status status = rows && centroids ? PAL_OK : fail_memory("clustering vectors");
    if (!status)
        status = gather(g, rows, count, peak);
    const vector_set set = {count, g->dim, rows, NULL};
    if (!status)
        status = vector_kmeans(&set, k, threads, centroids);
    if (!status) {
        store(g->grid, centroids, k * g->dim, lut);
        status = vector_assign(&set, centroids, k, threads, indices, squared_error);
    }
    free(rows);
    free(centroids);
    return status;
}
