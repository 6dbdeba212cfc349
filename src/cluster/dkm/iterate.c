#include "cluster/dkm/iterate.h"

#include <math.h>
#include <string.h>

#include "cluster/dkm/nodes.h"
#include "cluster/dkm/table.h"

/* ---------------------------------------------------------------- before the first iteration */

/* Total, sum and squares of the values, from their middle. */
static void moment_sums(const pass *pass, const block *b, double *sums)
{
    const dkm_config *c = &pass->d->config;
    const double middle = *(const double *)pass->user;
    for (size_t i = 0; i < c->dim; i++)
        for (size_t j = 0; j < BLOCK; j++) {
            const double x = b->points[i * BLOCK + j] - middle;
            sums[i] += b->mass[j] * x;
            sums[c->dim + i] += b->mass[j] * x * x;
        }
}

/* Sums of the values' components; returns the variance. */
static double find_moments(pass pass, double *totals)
{
    const dkm_config *c = &pass.d->config;
    const group_state *g = &pass.d->groups[pass.group];
    const double n = (double)group_vectors(c);
    double middle = (g->low + g->high) / 2, variance = 0;
    pass.visit = moment_sums;
    pass.user = &middle;
    pass.width = 2 * c->dim;
    const double *sums = pass_run(&pass);
    for (size_t i = 0; i < c->dim; i++) {
        totals[i] = sums[i] + n * middle;
        variance += (sums[c->dim + i] - sums[i] / n * sums[i]) / n;
    }
    return fmax(variance / c->dim, 0);
}

/* ---------------------------------------------------------------- iterations */

/* The centroids that iteration t leads to (5). */
static void update(const dkm *d, size_t group, unsigned t, const double *sums, const double *totals)
{
    const dkm_config *c = &d->config;
    group_state *g = &d->groups[group];
    const double z = d->mode == DKM_SOFT ? c->zero_threshold : 0;
    const double *before = path_at(d, group, t);
    double *mean = g->mean ? g->mean + t * table_size(c) : path_at(d, group, t + 1);
    double *attended = g->attended + (size_t)t * c->clusters;
    for (unsigned j = 0; j < c->clusters; j++) {
        const double *own = sums + j * (c->dim + 1);
        attended[j] = z * (double)group_vectors(c) + own[0];
        for (size_t i = 0; i < c->dim; i++) {
            const size_t at = j * c->dim + i;
            if ((int)j == g->zero)
                mean[at] = 0;
            else
                mean[at] =
                    attended[j] > 0 ? (z * totals[i] + own[1 + i]) / attended[j] : before[at];
        }
    }
    if (g->mean)
        table_round(c, mean, path_at(d, group, t + 1), NULL);
}

static const double *take_sums(pass *pass, iteration *it, finder *f, unsigned t)
{
    it->mixture = mixture_at(pass->d, pass->group, t);
    if (pass->d->mode != DKM_SOFT)
        finder_make(f, &it->mixture);
    return pass_run(pass);
}

static void iterate(pass pass, dkm *d, iteration *it, finder *f, const double *totals)
{
    const dkm_config *c = &d->config;
    double before = 0;
    pass.visit = d->mode == DKM_SOFT ? soft_sums : hard_sums;
    pass.user = it;
    pass.width = c->clusters * (size_t)(c->dim + 1) + INERTIA;
    for (unsigned t = 0; t < c->iterations; t++) {
        const double *sums = take_sums(&pass, it, f, t);
        if (t == 0 && c->repair && group_repair(&pass, d, it, sums))
            sums = take_sums(&pass, it, f, t);
        const double inertia = sums[pass.width - 1];
        update(d, pass.group, t, sums, totals);
        d->groups[pass.group].done = t + 1;
        if (t > 0 && fabs(before - inertia) <= c->epsilon)
            break;
        before = inertia;
    }
}

mixture mixture_at(const dkm *d, size_t group, unsigned t)
{
    const dkm_config *c = &d->config;
    const group_state *g = &d->groups[group];
    return (mixture){
        .k = c->clusters,
        .dim = c->dim,
        .centroid = path_at(d, group, t),
        .tau = g->tau,
        .threshold = c->zero_threshold,
        .reach = mixture_reach(c->clusters, c->zero_threshold),
        .zero = g->zero,
        .bonus = c->prune_threshold,
    };
}

/* Temperature, nodes and sums of the values. */
static void prepare(pass *pass, dkm *d, double *totals)
{
    const dkm_config *c = &d->config;
    group_state *g = &d->groups[pass->group];
    const bool nodes = nodes_most(c, d->mode) > 0;
    g->tau = c->tau;
    if (c->relative || !nodes) {
        const double variance = find_moments(*pass, totals);
        g->tau *= c->relative && variance > 0 ? variance : 1;
    }
    g->nodes = nodes ? nodes_enough(c, g->tau, g->path, g->high - g->low) : 0;
    if (!nodes)
        return;
    pass->by_nodes = true;
    nodes_place(&team_lead(pass->team)->nodes, g->low, g->high, g->nodes);
    nodes_count(pass->team, d, pass->group, pass->weights, NULL, 0);
    find_moments(*pass, totals);
}

static void write_outputs(pass pass, const dkm *d, iteration *it)
{
    const dkm_config *c = &d->config;
    for (size_t i = 0; i < c->dim; i++) {
        it->rest[i] = 0;
        for (unsigned j = 0; j < c->clusters; j++)
            it->rest[i] += c->zero_threshold * it->table[j * c->dim + i];
    }
    pass.visit = d->mode == DKM_SOFT ? soft_output : hard_output;
    pass.user = it;
    pass_run(&pass);
    if (pass.by_nodes)
        nodes_read_outputs(pass.team, d, pass.group, pass.weights, it->to);
}

void group_forward(const team *team, dkm *d, size_t group, const float *weights, float *palettized)
{
    const dkm_config *c = &d->config;
    group_state *g = &d->groups[group];
    double *centroids = d->centroids + group * table_size(c), *totals = team_lead(team)->tables;
    pass pass = {.team = team, .d = d, .group = group, .weights = weights};
    finder f;
    iteration it = {.finder = &f, .to = palettized, .scaling = MULTIPLIED, .rest = totals + c->dim};
    memcpy(g->path, centroids, table_size(c) * sizeof *g->path);
    g->zero = c->enforce_zero ? table_keep_zero(c, g->path) : -1;
    prepare(&pass, d, totals);
    iterate(pass, d, &it, &f, totals);
    it.table = path_at(d, group, g->done);
    memcpy(centroids, it.table, table_size(c) * sizeof *centroids);
    if (palettized)
        write_outputs(pass, d, &it);
}

void group_backward(const team *team, const dkm *d, size_t group, const float *weights,
                    const float *out, double peak, float *gradient)
{
    if (d->mode == DKM_SOFT)
        soft_backward(team, d, group, weights, out, peak, gradient);
    else
        hard_backward(team, d, group, weights, out, gradient);
}
