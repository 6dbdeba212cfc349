/* One layer: from the moments of what it reads and should give to its palette. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/cholesky.h"
#include "cluster/reconstruct.h"
#include "cluster/scalar.h"
#include "cluster/vector.h"
#include "method/layerwise/layerwise.h"

/* What is added to the diagonal of second moments, times its mean, before a system is solved: a
 * tenth was better on samples held back than a hundredth, both where targets are moved and where
 * rounding errors are fed back (docs/layerwise.md). */
static const double DAMPING = 0.1;

/* A layer on its way. */
typedef struct task {
    calibration *calibration;
    const layer *layer;
    target *target;
    size_t weight; /* of the model */
    moments moments;
    float *original;     /* [rows, columns] */
    float *targets;      /* the same, with what makes up for errors upstream, over the scales */
    float *column_scale; /* per-channel scales by column; NULL: 1 */
    double *row_weight;
    float *row_scale, *tables;
    uint8_t *indices;
    size_t dim, groups, entries;
    bool free_scales;
} task;

static void task_free(task *t)
{
    moments_free(&t->moments);
    free(t->original);
    free(t->targets);
    free(t->column_scale);
    free(t->row_weight);
    free(t->row_scale);
    free(t->tables);
    free(t->indices);
}

/* ---------------------------------------------------------------- how the palette is cut */

/* Where an element of the weight stands by the palette's axis. */
typedef struct place {
    size_t outer, channel, inner;
} place;

typedef struct cut {
    size_t channels, inner;
} cut;

static cut cut_of(const task *t)
{
    const pal_weight *info = &t->calibration->compression->model->weights[t->weight].info;
    cut cut = {(size_t)info->shape[t->target->plan.axis], 1};
    for (size_t d = t->target->plan.axis + 1; d < info->rank; d++)
        cut.inner *= (size_t)info->shape[d];
    return cut;
}

static place place_of(cut cut, size_t element)
{
    return (place){element / cut.inner / cut.channels, element / cut.inner % cut.channels,
                   element % cut.inner};
}

/* Whether tables, vectors and scales go by rows and columns in the way that reconstruction needs.
 */
static bool fits(const task *t)
{
    const layer *l = t->layer;
    const cut cut = cut_of(t);
    const size_t per_table = cut.channels / t->groups, rows = l->rows / t->groups;
    for (size_t r = 0; r < l->rows; r++) {
        const place first = place_of(cut, l->row_offset[r]);
        const place last = place_of(cut, l->row_offset[r] + l->column_offset[l->columns - 1]);
        if (t->groups > 1 &&
            (first.channel / per_table != r / rows || last.channel / per_table != r / rows))
            return false;
        const place lead = place_of(cut, l->row_offset[r / t->dim * t->dim]);
        if (t->dim > 1 &&
            (first.outer != lead.outer || first.inner != lead.inner ||
             first.channel != lead.channel + r % t->dim || lead.channel % t->dim != 0))
            return false;
        if (t->target->settings.per_channel_scale && (first.outer || first.inner))
            return false;
    }
    return l->rows / l->blocks % t->dim == 0;
}

static void remark(task *t, const char *text)
{
    snprintf(t->target->remark, sizeof t->target->remark, "%s", text);
}

/* ---------------------------------------------------------------- what is aimed at */

/* W + (y x^T - W x x^T) (x x^T + damping)^-1: on the inputs that the compressed network gives, the
 * row that comes nearest to the float network's output. */
static pal_status aim_block(void *user, int thread, size_t block)
{
    task *t = user;
    const moments *m = &t->moments;
    const size_t n = m->columns, rows = m->rows / m->blocks;
    const double *own = m->own + block * n * n;
    double trace = 0;
    (void)thread;
    double *factor = mem_array(n * n, sizeof *factor);
    double *missing = mem_array(n, rows * sizeof *missing); /* [columns, rows] */
    if (!factor || !missing) {
        free(factor);
        free(missing);
        return fail_memory("calibration");
    }
    memcpy(factor, own, n * n * sizeof *factor);
    for (size_t c = 0; c < n; c++)
        trace += own[c * n + c];
    const double mean = trace > 0 ? trace / (double)n : 1;
    for (size_t c = 0; c < n; c++)
        factor[c * n + c] += DAMPING * mean;
    memset(missing, 0, n * rows * sizeof *missing);
    for (size_t r = 0; r < rows; r++) {
        const float *w = t->original + (block * rows + r) * n;
        const double *cross = m->cross + (block * rows + r) * n;
        double *sum = mem_zeroed(n, sizeof *sum);
        if (!sum) {
            free(factor);
            free(missing);
            return fail_memory("calibration");
        }
        for (size_t c = 0; c < n; c++)
            for (size_t k = 0; k < n; k++)
                sum[k] += (double)w[c] * own[c * n + k];
        for (size_t c = 0; c < n; c++)
            missing[c * rows + r] = cross[c] - sum[c];
        free(sum);
    }
    pal_status status = cholesky(factor, n, 1e-9 * mean, 1);
    if (!status)
        cholesky_solve(factor, n, missing, rows);
    for (size_t r = 0; !status && r < rows; r++)
        for (size_t c = 0; c < n; c++)
            t->targets[(block * rows + r) * n + c] =
                t->original[(block * rows + r) * n + c] + (float)missing[c * rows + r];
    free(factor);
    free(missing);
    return status;
}

/* The weight of each row's error: what the batch norm behind it makes of that. */
static void weigh_rows(task *t, const graph_node *norm)
{
    const graph *graph = t->calibration->walk.graph;
    for (size_t r = 0; r < t->layer->rows; r++)
        t->row_weight[r] = 1;
    if (!norm)
        return;
    const graph_tensor *scale = graph->values[norm->inputs[1]].constant;
    const graph_tensor *variance = graph->values[norm->inputs[4]].constant;
    double largest = 0;
    for (size_t r = 0; scale && variance && r < t->layer->rows; r++) {
        const double by = (double)((const float *)scale->data)[r];
        const double of =
            (double)((const float *)variance->data)[r] + (double)norm->attributes.norm.epsilon;
        t->row_weight[r] = of > 0 ? by * by / of : 1;
        largest = fmax(largest, t->row_weight[r]);
    }
    for (size_t r = 0; r < t->layer->rows; r++) /* a channel of no weight keeps a little */
        t->row_weight[r] = fmax(t->row_weight[r], 1e-6 * (largest > 0 ? largest : 1));
}

/* Scales to begin with: the rows' magnitudes, as their inputs weigh them, about a mean of 1. */
static void start_scales(task *t)
{
    const moments *m = &t->moments;
    const size_t n = m->columns, rows = m->rows / m->blocks;
    double logarithms = 0;
    size_t count = 0;
    for (size_t r = 0; r < m->rows; r++) {
        const double *own = m->own + r / rows * n * n;
        double sum = 0, weight = 0;
        t->row_scale[r] = 1;
        for (size_t c = 0; c < n; c++) {
            const double v = (double)t->targets[r * n + c];
            sum += v * v * own[c * n + c];
            weight += own[c * n + c];
        }
        if (!t->free_scales || !(sum > 0) || !(weight > 0))
            continue;
        t->row_scale[r] = (float)sqrt(sum / weight);
        logarithms += log((double)t->row_scale[r]);
        count++;
    }
    const double mean = count ? exp(logarithms / (double)count) : 1;
    for (size_t r = 0; t->free_scales && r < m->rows; r++)
        if (t->row_scale[r] != 1 || mean != 1)
            t->row_scale[r] = (float)((double)t->row_scale[r] / mean);
}

/* ---------------------------------------------------------------- tables to begin with */

static pal_status start_scalars(task *t, size_t table, const float *values, const float *importance,
                                size_t count, bool weighted)
{
    scalar_workspace workspace = {0};
    scalar_lut lut;
    pal_status status =
        scalar_bins(&workspace, GRID_FLOAT32, values, weighted ? importance : NULL, count);
    if (!status)
        status = scalar_lut_kmeans(&workspace, (unsigned)t->entries, &lut);
    for (size_t k = 0; !status && k < t->entries; k++)
        t->tables[table * t->entries + k] = (float)lut.centroid[k];
    scalar_workspace_free(&workspace);
    return status;
}

/* K-means of the rows over their scales, weighted by the diagonal of the second moments. */
static pal_status start_table(void *user, int thread, size_t table)
{
    task *t = user;
    const moments *m = &t->moments;
    const size_t n = m->columns, block_rows = m->rows / m->blocks, rows = m->rows / t->groups;
    const size_t count = rows / t->dim * n;
    float *values = mem_array(count, t->dim * sizeof *values);
    float *importance = mem_array(count, sizeof *importance);
    bool weighted = false;
    (void)thread;
    if (!values || !importance) {
        free(values);
        free(importance);
        return fail_memory("calibration");
    }
    for (size_t u = 0; u < rows / t->dim; u++)
        for (size_t c = 0; c < n; c++) {
            double weight = 0;
            for (size_t j = 0; j < t->dim; j++) {
                const size_t r = table * rows + u * t->dim + j;
                const double scale = (double)t->row_scale[r];
                values[j * count + u * n + c] = (float)((double)t->targets[r * n + c] / scale);
                weight +=
                    t->row_weight[r] * scale * scale * m->own[(r / block_rows * n + c) * n + c];
            }
            importance[u * n + c] = (float)weight;
            weighted = weighted || weight > 0;
        }
    pal_status status;
    if (t->dim == 1) {
        status = start_scalars(t, table, values, importance, count, weighted);
    } else {
        const vector_set set = {count, t->dim, values, weighted ? importance : NULL};
        status =
            vector_kmeans(&set, (unsigned)t->entries, 1, t->tables + table * t->entries * t->dim);
    }
    free(values);
    free(importance);
    return status;
}

/* ---------------------------------------------------------------- putting it in place */

/* The layer's tables and indices become the weight's palette; the tables are what is left of them
 * after rounding. */
static pal_status store(task *t)
{
    const layer *l = t->layer;
    compression *c = t->calibration->compression;
    const cut cut = cut_of(t);
    const size_t n = l->columns, units = l->rows / t->dim;
    uint8_t *placed = mem_array(units * n, 1);
    if (!placed)
        return fail_memory("calibration");
    for (size_t u = 0; u < units; u++)
        for (size_t i = 0; i < n; i++) {
            const place at = place_of(cut, l->row_offset[u * t->dim] + l->column_offset[i]);
            const size_t index =
                (at.outer * (cut.channels / t->dim) + at.channel / t->dim) * cut.inner + at.inner;
            placed[index] = t->indices[u * n + i];
        }
    pal_status status = compression_solve(c, t->weight, t->tables,
                                          t->target->channel_scale ? t->row_scale : NULL, placed);
    free(placed);
    const size_t count = t->groups * t->entries * t->dim;
    void *stored = mem_array(count, sizeof(float));
    if (!status && !stored)
        status = fail_memory("calibration");
    if (!status)
        status = palette_lut_values(t->target->palette, stored);
    for (size_t i = 0; !status && i < count; i++)
        t->tables[i] = grid_get(t->target->grid, stored, i);
    free(stored);
    return status;
}

static pal_status reconstruct_and_store(task *t)
{
    const moments *m = &t->moments;
    const size_t n = m->columns;
    const parallel_job start = {.user = t, .item = start_table};
    t->tables = mem_array(t->groups * t->entries * t->dim, sizeof *t->tables);
    t->indices = mem_array(m->rows / t->dim * n, 1);
    if (!t->tables || !t->indices)
        return fail_memory("calibration");
    pal_status status = parallel_run(&start, t->groups, t->calibration->walk.threads);
    const reconstruct_problem problem = {.rows = m->rows,
                                         .columns = n,
                                         .blocks = m->blocks,
                                         .dim = t->dim,
                                         .tables = t->groups,
                                         .entries = (unsigned)t->entries,
                                         .free_scales = t->free_scales,
                                         .damping = DAMPING,
                                         .targets = t->targets,
                                         .weights = t->row_weight,
                                         .moments = m->own,
                                         .scales = t->row_scale,
                                         .threads = t->calibration->walk.threads};
    reconstruct *r = NULL;
    if (!status)
        status = reconstruct_new(&problem, &r);
    free(t->moments.own);
    t->moments.own = NULL;
    if (!status)
        status = reconstruct_solve(r, t->tables, t->indices);
    if (!status)
        status = store(t);
    if (!status)
        status = reconstruct_reassign(r, t->tables, t->indices);
    if (!status)
        status = store(t);
    reconstruct_free(r);
    return status;
}

/* ---------------------------------------------------------------- the layer */

/* The weight as a matrix, in units of the per-channel scales if there are any. */
static pal_status gather(task *t)
{
    const layer *l = t->layer;
    const size_t n = l->columns;
    const graph_tensor *dense = t->calibration->walk.graph->values[l->weight].constant;
    const palette *p = t->target->palette;
    const cut cut = cut_of(t);
    t->original = mem_array(l->rows * n, sizeof *t->original);
    t->targets = mem_array(l->rows * n, sizeof *t->targets);
    t->row_weight = mem_array(l->rows, sizeof *t->row_weight);
    t->row_scale = mem_array(l->rows, sizeof *t->row_scale);
    t->column_scale =
        t->target->settings.per_channel_scale ? mem_array(n, sizeof *t->column_scale) : NULL;
    if (!t->original || !t->targets || !t->row_weight || !t->row_scale ||
        (t->target->settings.per_channel_scale && !t->column_scale))
        return fail_memory("calibration");
    for (size_t c = 0; t->column_scale && c < n; c++) {
        const place at = place_of(cut, l->column_offset[c]);
        t->column_scale[c] = grid_get(t->target->grid, p->scale, at.outer * cut.inner + at.inner);
    }
    for (size_t r = 0; r < l->rows; r++)
        for (size_t c = 0; c < n; c++) {
            const float value =
                ((const float *)dense->data)[l->row_offset[r] + l->column_offset[c]];
            t->original[r * n + c] = t->column_scale ? value / t->column_scale[c] : value;
        }
    memcpy(t->targets, t->original, l->rows * n * sizeof *t->targets);
    return PAL_OK;
}

/* Inputs in units of what their column is multiplied by. */
static void scale_moments(task *t)
{
    moments *m = &t->moments;
    const size_t n = m->columns;
    for (size_t b = 0; t->column_scale && b < m->blocks; b++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                m->own[(b * n + i) * n + j] *=
                    (double)t->column_scale[i] * (double)t->column_scale[j];
    for (size_t r = 0; t->column_scale && r < m->rows; r++)
        for (size_t c = 0; c < n; c++)
            m->cross[r * n + c] *= (double)t->column_scale[c];
}

/* Without a constant behind it that can follow, y must lose the layer's own bias. */
static void subtract_bias(task *t)
{
    const layer *l = t->layer;
    const size_t n = l->columns, block_rows = l->rows / l->blocks;
    const graph_tensor *bias =
        l->bias == GRAPH_NONE ? NULL : t->calibration->walk.graph->values[l->bias].constant;
    for (size_t r = 0; bias && r < l->rows; r++) {
        const double b = (double)((const float *)bias->data)[bias->elements == l->rows ? r : 0];
        for (size_t c = 0; c < n; c++)
            t->moments.cross[r * n + c] -= b * t->moments.mean_x[r / block_rows * n + c];
    }
}

static pal_status solve(task *t)
{
    calibration *c = t->calibration;
    const layer *l = t->layer;
    const graph_node *norm = layer_norm(c, l);
    const bool bias = c->correct && constant_adjustable(c, l->bias);
    t->free_scales = norm != NULL || t->target->channel_scale;
    pal_status status = gather(t);
    if (!status)
        status = moments_measure(&c->walk, l, &t->moments);
    if (status)
        return status;
    if (norm || bias)
        moments_centre(&t->moments);
    else
        subtract_bias(t);
    scale_moments(t);
    const parallel_job aim = {.user = t, .item = aim_block};
    if (c->walk.differs[l->x])
        status = parallel_run(&aim, l->blocks, c->walk.threads);
    free(t->moments.cross);
    t->moments.cross = NULL;
    weigh_rows(t, norm);
    start_scales(t);
    return status ? status : reconstruct_and_store(t);
}

pal_status layer_solve(calibration *c, const layer *l, bool *solved)
{
    const size_t used = c->walk.graph->values[l->weight].weight;
    const size_t weight = c->compression->targets[used].source;
    target *target = &c->compression->targets[weight];
    task t = {.calibration = c,
              .layer = l,
              .target = target,
              .weight = weight,
              .dim = target->settings.cluster_dim,
              .groups = (size_t)target->plan.groups,
              .entries = (size_t)1 << target->nbits};
    *solved = false;
    if (target->settings.mode != MODE_KMEANS) {
        remark(&t, "its mode names its table: not reconstructed");
        return PAL_OK;
    }
    if (target->run_first || c->compression->model->weights[weight].pruned.mask) {
        remark(&t, "K-Means: pruned weights are not reconstructed");
        return PAL_OK;
    }
    if (!fits(&t)) {
        remark(&t, "K-Means: groups, vectors or scales that do not go by output channels");
        return PAL_OK;
    }
    pal_status status = solve(&t);
    task_free(&t);
    *solved = !status;
    return status;
}
