#include "method/train/start.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "method/feed.h"
#include "method/layerwise/method.h"
#include "palette/pack.h"

enum {
    SAMPLES = 128,  /* of the training data that the start looks at */
    HELD_BACK = 64, /* and behind them those that tell whether reconstruction is a gain */
    ROUNDS = 8,     /* of moving weights until clusters have their means */
};

/* How far weights go from their centroid towards where they were. Where they were may be near the
 * border of the cell, or at it: their soft values would be far from the reconstructed ones. On the
 * centroid itself they would be as far from all borders as can be, and would not change sides. */
static const double SPREAD = 0.5;

/* ---------------------------------------------------------------- palettes */

/* Differentiable k-means must be able to train each palette. */
static pal_status check_targets(const compression *c)
{
    for (size_t i = 0; i < c->model->weight_count; i++) {
        const target *t = &c->targets[i];
        const char *name = c->model->weights[i].info.name;
        if (t->wanted && t->settings.mode != MODE_KMEANS)
            return fail(PAL_ERROR_UNSUPPORTED, "%s: method dkm is for weights in mode kmeans",
                        name);
        if (t->wanted && t->run_first)
            return fail(PAL_ERROR_UNSUPPORTED,
                        "%s: is pruned, and method dkm would fill its zeros: leave it out in the "
                        "configuration, or decompress it first",
                        name);
    }
    return PAL_OK;
}

/* The first samples of the training data, which are in random order. */
static pal_status take_samples(const pal_data *training, uint64_t most, pal_data **out)
{
    const uint64_t count = pal_data_count(training);
    return data_part(training, 0, count < most ? count : most, out);
}

static pal_status measure(const compression *c, const method_settings *settings,
                          const pal_data *training, pal_sensitivity **out)
{
    const pal_sensitivity_options options = {.threads = options_threads(c->options),
                                             .seed = settings->seed,
                                             .output = *settings->output ? settings->output : NULL};
    pal_data *samples = NULL;
    pal_sensitivity *measured = NULL;
    pal_status status = take_samples(training, SAMPLES, &samples);
    if (!status)
        status =
            pal_sensitivity_measure(c->model, samples, c->options, &options, NULL, NULL, &measured);
    if (!status)
        status = sensitivity_shrink(measured, DEFAULT_SHRINKAGE, out);
    pal_sensitivity_free(measured);
    pal_data_free(samples);
    return status;
}

static pal_status reconstruct(compression *c, const method_settings *settings,
                              const pal_data *training)
{
    method_settings own = *settings;
    pal_data *samples = NULL;
    own.method = METHOD_LAYERWISE;
    own.samples = SAMPLES;
    own.held_back = HELD_BACK;
    own.correct = CORRECT_ON;
    pal_status status = take_samples(training, SAMPLES + HELD_BACK, &samples);
    if (!status)
        status = layerwise_find(c, &own, samples);
    for (size_t i = 0; i < c->model->weight_count; i++)
        if (c->targets[i].wanted)
            *c->targets[i].remark = 0;
    pal_data_free(samples);
    return status;
}

pal_status start_compression(compression *c, const method_settings *settings,
                             const pal_data *training)
{
    const start_kind start = settings->recipe.start;
    pal_sensitivity *sensitivity = NULL;
    pal_status status =
        start == START_SENSITIVE ? measure(c, settings, training, &sensitivity) : PAL_OK;
    c->sensitivity = sensitivity;
    if (!status)
        status = compression_begin(c);
    if (status) {
        pal_sensitivity_free(sensitivity);
        return status;
    }
    status = check_targets(c);
    if (!status)
        status = compression_cluster(c);
    c->sensitivity = NULL;
    pal_sensitivity_free(sensitivity);
    if (!status && start == START_LAYERWISE)
        status = reconstruct(c, settings, training);
    if (status)
        compression_abandon(c);
    return status;
}

void start_drop_fixed(compression *c, const weight_role *roles, const statistics *statistics)
{
    for (size_t i = 0; i < c->model->weight_count; i++) {
        target *t = &c->targets[i];
        bool follows = roles[i] != ROLE_FIXED;
        for (size_t n = 0; !follows && n < statistics->count; n++)
            follows =
                statistics->norms[n].mean_weight == i || statistics->norms[n].variance_weight == i;
        if (follows || !t->dense)
            continue;
        scratch_free(t->dense);
        t->dense = NULL;
        *t->remark = 0;
    }
}

/* ---------------------------------------------------------------- weights within their cells */

/* The vectors of a weight, and the centroids that they belong to. */
typedef struct cells {
    const dkm_config *config;
    const double *centroids;
    uint8_t *indices; /* row-major */
    double *sums;     /* by group, centroid and component: of how far off the vectors are */
    double *counts;   /* by group and centroid */
    double *shift;    /* as sums: what is added to all vectors of a centroid */
} cells;

typedef struct vector_place {
    size_t index, element, scale; /* element and scale: of its first component */
    size_t group;
} vector_place;

static vector_place place_of(const dkm_config *c, size_t index)
{
    const size_t channels = c->channels * c->groups, rows = channels / c->dim;
    const size_t i = index % c->inner, row = index / c->inner % rows, o = index / c->inner / rows;
    const size_t channel = row * c->dim;
    return (vector_place){index, (o * channels + channel) * c->inner + i,
                          o * c->scale_outer + i * c->scale_inner, channel / c->channels};
}

/* How far `offset` may go from centroid j without leaving its cell, 1 being all of it. */
static double reach(const dkm_config *c, const double *table, size_t j, const double *offset)
{
    double most = 1;
    for (size_t other = 0; other < c->clusters; other++) {
        double square = 0, along = 0;
        for (size_t d = 0; d < c->dim; d++) {
            const double way = table[other * c->dim + d] - table[j * c->dim + d];
            square += way * way;
            along += way * offset[d];
        }
        if (along * most > 0.5 * square)
            most = 0.5 * square / along;
    }
    return most;
}

/* The float weight's offset from its centroid and the shift together, cut off at the border. */
static void find_offset(const cells *cells, const vector_place *at, const float *values,
                        double offset[DKM_MOST_DIM])
{
    const dkm_config *c = cells->config;
    const double *table = cells->centroids + at->group * c->clusters * c->dim;
    const size_t j = cells->indices[at->index];
    const double scale = c->scale ? (double)c->scale[at->scale] : 1;
    const double *shift = cells->shift + (at->group * c->clusters + j) * c->dim;
    for (size_t d = 0; d < c->dim; d++)
        offset[d] =
            (double)values[at->element + d * c->inner] / scale - table[j * c->dim + d] + shift[d];
    const double part = reach(c, table, j, offset);
    for (size_t d = 0; d < c->dim; d++)
        offset[d] *= part;
}

/* Moves the vectors of each centroid together, so that after the cut it is their mean again. */
static void balance(cells *cells, size_t vectors, const float *values)
{
    const dkm_config *c = cells->config;
    const size_t tables = c->groups * c->clusters;
    double offset[DKM_MOST_DIM];
    memset(cells->sums, 0, tables * c->dim * sizeof *cells->sums);
    memset(cells->counts, 0, tables * sizeof *cells->counts);
    for (size_t v = 0; v < vectors; v++) {
        const vector_place at = place_of(c, v);
        const size_t entry = at.group * c->clusters + cells->indices[v];
        find_offset(cells, &at, values, offset);
        cells->counts[entry]++;
        for (size_t d = 0; d < c->dim; d++)
            cells->sums[entry * c->dim + d] += offset[d];
    }
    for (size_t e = 0; e < tables * c->dim; e++)
        if (cells->counts[e / c->dim] > 0)
            cells->shift[e] -= cells->sums[e] / cells->counts[e / c->dim];
}

static void bring_into_cells(cells *cells, size_t vectors, float *values)
{
    const dkm_config *c = cells->config;
    double offset[DKM_MOST_DIM];
    for (int round = 0; round < ROUNDS; round++)
        balance(cells, vectors, values);
    for (size_t v = 0; v < vectors; v++) {
        const vector_place at = place_of(c, v);
        const double *centroid =
            cells->centroids + (at.group * c->clusters + cells->indices[v]) * c->dim;
        const double scale = c->scale ? (double)c->scale[at.scale] : 1;
        find_offset(cells, &at, values, offset);
        for (size_t d = 0; d < c->dim; d++)
            values[at.element + d * c->inner] = (float)((centroid[d] + SPREAD * offset[d]) * scale);
    }
}

static pal_status move_values(const target *t, const dkm *layer, float *values)
{
    const dkm_config *c = dkm_configuration(layer);
    const size_t vectors = c->outer * c->groups * c->channels / c->dim * c->inner;
    const size_t entries = c->groups * c->clusters;
    cells cells = {.config = c, .centroids = dkm_centroids(layer)};
    cells.indices = mem_array(vectors, 1);
    cells.sums = mem_zeroed(entries * c->dim, sizeof *cells.sums);
    cells.counts = mem_zeroed(entries, sizeof *cells.counts);
    cells.shift = mem_zeroed(entries * c->dim, sizeof *cells.shift);
    const bool made = cells.indices && cells.sums && cells.counts && cells.shift;
    if (made) {
        unpack_indices(t->palette->indices, 0, vectors, t->nbits, cells.indices);
        bring_into_cells(&cells, vectors, values);
    }
    free(cells.indices);
    free(cells.sums);
    free(cells.counts);
    free(cells.shift);
    return made ? PAL_OK : fail_memory("training");
}

pal_status start_layer(const target *t, start_kind start, dkm *layer, float *values)
{
    const uint64_t count = palette_lut_elements(t->palette);
    void *stored = mem_array((size_t)count, grid_size(t->grid));
    double *centroids = mem_array((size_t)count, sizeof *centroids);
    pal_status status =
        stored && centroids ? palette_lut_values(t->palette, stored) : fail_memory("training");
    for (uint64_t i = 0; !status && i < count; i++)
        centroids[i] = (double)grid_get(t->grid, stored, i);
    if (!status)
        status = dkm_set_centroids(layer, centroids);
    if (!status && start == START_LAYERWISE)
        status = move_values(t, layer, values);
    free(stored);
    free(centroids);
    return status;
}
