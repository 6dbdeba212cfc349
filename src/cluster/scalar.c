#include "cluster/scalar.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void scalar_workspace_free(scalar_workspace *workspace)
{
    bins_free(&workspace->bins);
    kmeans1d_workspace_free(&workspace->kmeans);
    free(workspace->index_of_pattern);
    free(workspace->coarse);
    *workspace = (scalar_workspace){0};
}

pal_status scalar_bins(scalar_workspace *workspace, grid grid, const void *values,
                       const float *importance, size_t n)
{
    workspace->grid = workspace->values = grid;
    return bins_fill(&workspace->bins, grid, values, importance, n);
}

double scalar_peak(const scalar_workspace *workspace)
{
    const bins *bins = &workspace->bins;
    return fmax(fabs(bins->value[0]), fabs(bins->value[bins->count - 1]));
}

/* The largest float that is not above x. */
static float float_below(double x)
{
    float nearest = (float)x;
    return (double)nearest > x ? nextafterf(nearest, -FLT_MAX) : nearest;
}

pal_status scalar_assign(scalar_workspace *workspace, scalar_lut *lut)
{
    const bins *bins = &workspace->bins;
    const bool patterns = workspace->values != GRID_FLOAT32;
    if (patterns && !workspace->index_of_pattern) {
        workspace->index_of_pattern = mem_zeroed(65536, 1);
        if (!workspace->index_of_pattern)
            return fail_memory("assigning weights");
    }
    lut->squared_error = lut->weighted_error = 0;
    unsigned entry = 0;
    for (size_t i = 0; i < bins->count; i++) {
        double value = bins->value[i];
        while (entry + 1 < lut->size &&
               value > (lut->centroid[entry] + lut->centroid[entry + 1]) / 2)
            entry++;
        double error = value - lut->centroid[entry];
        lut->squared_error += bins->times[i] * error * error;
        lut->weighted_error += bins->mass[i] * error * error;
        if (patterns) {
            workspace->index_of_pattern[bins->pattern[i]] = lut->place[entry];
            if (bins->pattern[i] == 0)
                workspace->index_of_pattern[0x8000] = lut->place[entry];
        }
    }
    for (unsigned i = 0; i < SCALAR_MAX_LUT; i++)
        workspace->threshold[i] = i + 1 < lut->size
                                      ? float_below((lut->centroid[i] + lut->centroid[i + 1]) / 2)
                                      : INFINITY;
    memcpy(workspace->place, lut->place, sizeof lut->place);
    return PAL_OK;
}

/* The table has the centroids in their order. */
static pal_status assign_in_order(scalar_workspace *workspace, scalar_lut *lut)
{
    for (unsigned i = 0; i < SCALAR_MAX_LUT; i++)
        lut->place[i] = (uint8_t)i;
    return scalar_assign(workspace, lut);
}

pal_status scalar_lut_kmeans(scalar_workspace *workspace, unsigned size, scalar_lut *lut)
{
    lut->size = size;
    pal_status status =
        kmeans1d(&workspace->bins, size, workspace->grid, &workspace->kmeans, lut->centroid);
    return status ? status : assign_in_order(workspace, lut);
}

static pal_status lut_of_steps(scalar_workspace *workspace, double step, scalar_lut *lut)
{
    const bins *bins = &workspace->bins;
    const double least = bins->value[0], greatest = bins->value[bins->count - 1];
    for (unsigned i = 0; i < lut->size; i++)
        lut->centroid[i] = fmin(grid_round(workspace->grid, least + i * step), greatest);
    return assign_in_order(workspace, lut);
}

/* The entries are rounded to the grid, so that a step which the grid can hold may serve better, by
 * chance, than the exact one. coremltools rounds the difference, then the step. */
pal_status scalar_lut_uniform(scalar_workspace *workspace, unsigned size, scalar_lut *lut)
{
    const bins *bins = &workspace->bins;
    const grid type = workspace->grid;
    const double range = bins->value[bins->count - 1] - bins->value[0], parts = size - 1;
    const double exact = range / parts;
    const double rounded = grid_round(type, grid_round(type, range) / parts);
    lut->size = size;
    pal_status status = lut_of_steps(workspace, exact, lut);
    if (status || rounded == exact || !isfinite(rounded))
        return status;
    const double error = lut->weighted_error;
    status = lut_of_steps(workspace, rounded, lut);
    if (!status && !(lut->weighted_error < error))
        status = lut_of_steps(workspace, exact, lut);
    return status;
}

pal_status scalar_lut_unique(scalar_workspace *workspace, unsigned size, scalar_lut *lut)
{
    const bins *bins = &workspace->bins;
    if (bins->count > size)
        return fail(PAL_ERROR_VALUE, "%zu distinct values, more than %u", bins->count, size);
    lut->size = size;
    for (unsigned i = 0; i < size; i++)
        lut->centroid[i] =
            grid_round(workspace->grid, bins->value[i < bins->count ? i : bins->count - 1]);
    return assign_in_order(workspace, lut);
}

typedef struct placed {
    double value;
    unsigned place;
} placed;

static int by_value(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

void sort_entries(unsigned size, double *entries, uint8_t *place)
{
    placed sorted[SCALAR_MAX_LUT];
    for (unsigned i = 0; i < size; i++)
        sorted[i] = (placed){entries[i], i};
    qsort(sorted, size, sizeof *sorted, by_value);
    for (unsigned i = 0; i < size; i++) {
        entries[i] = sorted[i].value;
        place[i] = (uint8_t)sorted[i].place;
    }
}

pal_status scalar_lut_given(scalar_workspace *workspace, unsigned size, const double *entries,
                            scalar_lut *lut)
{
    lut->size = size;
    for (unsigned i = 0; i < size; i++)
        lut->centroid[i] = grid_round(workspace->grid, entries[i]);
    sort_entries(size, lut->centroid, lut->place);
    return scalar_assign(workspace, lut);
}

void scalar_indices(const scalar_workspace *workspace, const void *values, size_t n,
                    uint8_t *indices)
{
    if (workspace->values != GRID_FLOAT32) {
        const uint16_t *patterns = values;
        const uint8_t *table = workspace->index_of_pattern;
        for (size_t i = 0; i < n; i++)
            indices[i] = table[patterns[i]];
        return;
    }
    const float *floats = values;
    for (size_t i = 0; i < n; i++)
        indices[i] = workspace->place[scalar_nearest(workspace, floats[i])];
}

/* ---------------------------------------------------------------- the public functions */

/* By the importances themselves, not by what the bins made of those that are 0. */
static double error_by_importance(const scalar_workspace *workspace, const scalar_lut *lut,
                                  const void *values, const float *importance, size_t n)
{
    enum { PIECE = 1024 };
    const grid grid = workspace->values;
    const size_t size = grid_size(grid);
    uint8_t indices[PIECE];
    double error = 0;
    for (size_t done = 0; done < n; done += PIECE) {
        const size_t count = n - done < PIECE ? n - done : PIECE;
        const unsigned char *piece = (const unsigned char *)values + done * size;
        scalar_indices(workspace, piece, count, indices);
        for (size_t i = 0; i < count; i++) {
            const double beside = (double)grid_get(grid, piece, i) - lut->centroid[indices[i]];
            error += (double)importance[done + i] * (beside * beside);
        }
    }
    return error;
}

static pal_status kmeans(grid grid, const void *values, const float *importance, size_t n,
                         unsigned k, scalar_lut *lut, uint8_t *indices, double *squared_error)
{
    if (!values || k < 1 || k > SCALAR_MAX_LUT)
        return fail(PAL_ERROR_ARGUMENT, "k-means needs values and 1 to %d clusters",
                    SCALAR_MAX_LUT);
    scalar_workspace workspace = {0};
    pal_status status = scalar_bins(&workspace, grid, values, importance, n);
    if (!status)
        status = scalar_lut_kmeans(&workspace, k, lut);
    if (!status && indices)
        scalar_indices(&workspace, values, n, indices);
    if (!status && squared_error)
        *squared_error = importance ? error_by_importance(&workspace, lut, values, importance, n)
                                    : lut->weighted_error;
    scalar_workspace_free(&workspace);
    return status;
}

pal_status pal_kmeans_f16(const uint16_t *values, const float *importance, size_t n, unsigned k,
                          uint16_t *centroids, uint8_t *indices, double *squared_error)
{
    scalar_lut lut;
    pal_status status =
        kmeans(GRID_FLOAT16, values, importance, n, k, &lut, indices, squared_error);
    for (unsigned i = 0; !status && i < k; i++)
        centroids[i] = f16_from_double(lut.centroid[i]);
    return status;
}

pal_status pal_kmeans_bf16(const uint16_t *values, const float *importance, size_t n, unsigned k,
                           uint16_t *centroids, uint8_t *indices, double *squared_error)
{
    scalar_lut lut;
    pal_status status =
        kmeans(GRID_BFLOAT16, values, importance, n, k, &lut, indices, squared_error);
    for (unsigned i = 0; !status && i < k; i++)
        centroids[i] = bf16_from_double(lut.centroid[i]);
    return status;
}

pal_status pal_kmeans_f32(const float *values, const float *importance, size_t n, unsigned k,
                          float *centroids, uint8_t *indices, double *squared_error)
{
    scalar_lut lut;
    pal_status status =
        kmeans(GRID_FLOAT32, values, importance, n, k, &lut, indices, squared_error);
    for (unsigned i = 0; !status && i < k; i++)
        centroids[i] = (float)lut.centroid[i];
    return status;
}
