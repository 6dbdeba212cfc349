/* First centroids. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/dkm/nodes.h"
#include "cluster/dkm/table.h"
#include "cluster/dkm/team.h"
#include "cluster/importance.h"
#include "cluster/vector.h"

typedef struct call {
    const dkm *d;
    const float *weights, *importance;
    double *range;     /* least and greatest value of each group */
    double *centroids; /* of all groups */
} call;

/* The type that k-means is to choose centroids from. */
static grid centroid_grid(const dkm_config *c)
{
    return c->table == GRID_INT8 || c->table == GRID_UINT8 ? GRID_FLOAT32 : c->table;
}

/* ---------------------------------------------------------------- by nodes */

/* Of each interval the importance of its weights, and their sum weighted by it. */
static void weigh(const call *call, const nodes *n, size_t group, double *mass, double *sum)
{
    float room[CHUNK], more[CHUNK];
    const size_t all = group_elements(&call->d->config);
    memset(mass, 0, n->count * sizeof *mass);
    memset(sum, 0, n->count * sizeof *sum);
    for (size_t at = 0; at < all; at += CHUNK) {
        const size_t count = all - at < CHUNK ? all - at : CHUNK;
        const float *value = layout_take(call->d, group, call->weights, DIVIDED, at, count, room);
        const float *importance =
            layout_take(call->d, group, call->importance, UNSCALED, at, count, more);
        for (size_t i = 0; i < count; i++) {
            const size_t u = nodes_interval(n, value[i]);
            mass[u] += (double)importance[i];
            sum[u] += (double)importance[i] * (double)value[i];
        }
    }
}

/* Makes bins of the intervals that have weights: in by_mass and output, which are free as yet. */
static bins make_bins(const call *call, nodes *n, size_t group)
{
    double *mass = n->by_mass, *value = n->output, total = 0;
    size_t count = 0, used = 0;
    if (call->importance)
        weigh(call, n, group, mass, value);
    for (size_t u = 0; u < n->count; u++) {
        total += call->importance ? mass[u] : 0;
        used += n->number[u] > 0;
    }
    const double least = least_mass(total, used);
    for (size_t u = 0; u < n->count; u++) {
        if (!n->number[u])
            continue;
        const double own = total > 0 ? mass[u] : (double)n->number[u];
        value[count] = total > 0 && own > 0 ? value[u] / own : nodes_mean(n, u);
        mass[count++] = own > least ? own : least;
    }
    return (bins){.count = count, .value = value, .mass = mass, .times = mass};
}

static pal_status start_by_nodes(const call *call, const team *team, size_t group, double *to)
{
    const dkm_config *c = &call->d->config;
    place *lead = team_lead(team);
    const double *range = call->range + 2 * group;
    nodes_place(&lead->nodes, range[0], range[1], nodes_most(c, DKM_SOFT));
    nodes_count(team, call->d, group, call->weights, NULL, 0);
    const bins bins = make_bins(call, &lead->nodes, group);
    return kmeans1d(&bins, c->clusters, centroid_grid(c), &lead->scalar.kmeans, to);
}

/* ---------------------------------------------------------------- by values */

/* Values and importances of a group of single values. */
static pal_status start_by_values(const call *call, const team *team, size_t group, double *to)
{
    const dkm_config *c = &call->d->config;
    const size_t all = group_elements(c);
    scalar_workspace *scalar = &team_lead(team)->scalar;
    float *values = mem_array(all, sizeof *values);
    float *importance = call->importance ? mem_array(all, sizeof *importance) : NULL;
    pal_status status = values && (importance || !call->importance)
                            ? PAL_OK
                            : fail_memory("differentiable k-means");
    for (size_t at = 0; !status && at < all; at += CHUNK) {
        const size_t count = all - at < CHUNK ? all - at : CHUNK, size = count * sizeof *values;
        float room[CHUNK];
        memcpy(values + at, layout_take(call->d, group, call->weights, DIVIDED, at, count, room),
               size);
        if (importance)
            memcpy(importance + at,
                   layout_take(call->d, group, call->importance, UNSCALED, at, count, room), size);
    }
    scalar_lut lut;
    if (!status)
        status = scalar_bins(scalar, GRID_FLOAT32, values, importance, all);
    scalar->grid = centroid_grid(c);
    if (!status)
        status = scalar_lut_kmeans(scalar, c->clusters, &lut);
    if (!status)
        memcpy(to, lut.centroid, c->clusters * sizeof *to);
    free(values);
    free(importance);
    return status;
}

static void gather_vectors(const call *call, size_t group, float *rows, float *importance)
{
    const dkm_config *c = &call->d->config;
    const size_t all = group_vectors(c);
    double points[DKM_MOST_DIM * BLOCK];
    for (size_t at = 0; at < all; at += BLOCK) {
        const size_t count =
            layout_take_vectors(call->d, group, call->weights, DIVIDED, at, points);
        for (size_t i = 0; i < c->dim; i++)
            for (size_t b = 0; b < count; b++)
                rows[i * all + at + b] = (float)points[i * BLOCK + b];
        if (!importance)
            continue;
        layout_take_vectors(call->d, group, call->importance, UNSCALED, at, points);
        for (size_t b = 0; b < count; b++) {
            double sum = 0;
            for (size_t i = 0; i < c->dim; i++)
                sum += points[i * BLOCK + b];
            importance[at + b] = (float)sum;
        }
    }
}

static pal_status start_vectors(const call *call, const team *team, size_t group, double *to)
{
    const dkm_config *c = &call->d->config;
    const size_t all = group_vectors(c), size = table_size(c);
    float *rows = mem_array(all * c->dim, sizeof *rows), *found = mem_array(size, sizeof *found);
    float *importance = call->importance ? mem_array(all, sizeof *importance) : NULL;
    pal_status status = rows && found && (importance || !call->importance)
                            ? PAL_OK
                            : fail_memory("differentiable k-means");
    if (!status) {
        gather_vectors(call, group, rows, importance);
        const vector_set set = {all, c->dim, rows, importance};
        status = vector_kmeans(&set, c->clusters, team->threads, found);
    }
    for (size_t at = 0; !status && at < size; at++)
        to[at] = (double)found[at];
    free(rows);
    free(found);
    free(importance);
    return status;
}

/* ---------------------------------------------------------------- all groups */

static pal_status start_group(void *user, const team *team, size_t group)
{
    const call *call = user;
    const dkm_config *c = &call->d->config;
    double *to = call->centroids + group * table_size(c);
    if (c->dim > 1)
        return start_vectors(call, team, group, to);
    return nodes_most(c, DKM_SOFT) ? start_by_nodes(call, team, group, to)
                                   : start_by_values(call, team, group, to);
}

static pal_status check_importance(const dkm_config *c, const float *importance)
{
    const size_t all = c->groups * group_elements(c);
    for (size_t i = 0; importance && i < all; i++)
        if (!(importance[i] >= 0) || !isfinite(importance[i]))
            return fail(PAL_ERROR_VALUE, "importance %zu is negative or not finite", i);
    return PAL_OK;
}

pal_status dkm_start(dkm *d, dkm_workspace *workspace, const float *weights,
                     const float *importance, int threads)
{
    const dkm_config *c = &d->config;
    call call = {.d = d, .weights = weights, .importance = importance};
    call.range = mem_array(c->groups, 2 * sizeof *call.range);
    call.centroids = mem_array(c->groups * table_size(c), sizeof *call.centroids);
    pal_status status = call.range && call.centroids ? check_importance(c, importance)
                                                     : fail_memory("differentiable k-means");
    if (!status)
        status = layer_scan(d, workspace, weights, threads, call.range);
    if (!status)
        status = team_groups(d, workspace, threads, start_group, &call);
    if (!status)
        status = dkm_set_centroids(d, call.centroids);
    free(call.range);
    free(call.centroids);
    return status;
}
