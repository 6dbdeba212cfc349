/* What soft DKM does at each point, and the way back. Numbers in brackets are those of the formulas
 * in docs/dkm.md. */
#include <math.h>
#include <string.h>

#include "cluster/dkm/iterate.h"
#include "cluster/dkm/nodes.h"

/* ---------------------------------------------------------------- forward */

void soft_sums(const pass *pass, const block *b, double *sums)
{
    const iteration *it = pass->user;
    attention *a = b->own->attention;
    attend(&it->mixture, b->points, pass->by_nodes, a);
    attention_sums(a, b->points, b->mass, it->mixture.dim, sums);
    sums[pass->width - 1] += attention_inertia(a, b->mass);
}

void soft_output(const pass *pass, const block *b, double *sums)
{
    (void)sums;
    const iteration *it = pass->user;
    attention *a = b->own->attention;
    double *to = pass->by_nodes ? team_lead(pass->team)->nodes.output + b->begin : b->room;
    attend(&it->mixture, b->points, pass->by_nodes, a);
    attention_mix(a, it->table, it->rest, it->mixture.dim, to);
    if (!pass->by_nodes)
        layout_put_vectors(pass->d, pass->group, it->to, it->scaling, false, b->begin, to);
}

/* ---------------------------------------------------------------- backward */

/* The gradient of the outputs at the points. */
static const double *incoming_of(const pass *pass, const iteration *it, const block *b)
{
    if (pass->by_nodes)
        return team_lead(pass->team)->nodes.incoming + b->begin;
    layout_take_vectors(pass->d, pass->group, it->out, MULTIPLIED, b->begin, b->room);
    for (size_t i = 0; i < it->mixture.dim; i++)
        for (size_t j = b->count; j < BLOCK; j++)
            b->room[i * BLOCK + j] = 0;
    return b->room;
}

/* The gradient of the centroids that outputs were mixed from (7): excess for each centroid, and
 * the plain sum. */
static void gather(const pass *pass, const block *b, double *sums)
{
    const iteration *it = pass->user;
    const size_t dim = it->mixture.dim;
    attention *a = b->own->attention;
    const double *incoming = incoming_of(pass, it, b);
    double *plain = sums + it->mixture.k * dim;
    attend(&it->mixture, b->points, pass->by_nodes, a);
    attention_gather(a, incoming, dim, sums);
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j < BLOCK; j++)
            plain[i] += incoming[i * BLOCK + j];
    if (pass->by_nodes)
        attention_mix(a, it->table, it->rest, dim, team_lead(pass->team)->nodes.output + b->begin);
}

static void step_back(const pass *pass, const block *b, double *sums)
{
    const iteration *it = pass->user;
    attention *a = b->own->attention;
    retreat r = *it->retreat;
    r.mass = b->mass;
    r.sums = r.sums ? sums : NULL;
    if (r.table)
        r.incoming = incoming_of(pass, it, b);
    if (pass->by_nodes)
        r.by_mass = b->more;
    else
        r.by_point = b->more;
    attend(&it->mixture, b->points, pass->by_nodes, a);
    attention_retreat(a, &it->mixture, b->points, &r);
    if (!pass->by_nodes) {
        layout_put_vectors(pass->d, pass->group, it->to, it->scaling, !it->first, b->begin,
                           b->more);
        return;
    }
    double *to = team_lead(pass->team)->nodes.by_mass + b->begin;
    for (size_t i = 0; i < BLOCK; i++)
        to[i] = it->first ? b->more[i] : to[i] + b->more[i];
}

/* Slopes and offsets of iteration t, from the gradient of the centroids that it led to (8). */
static void make_slopes(const dkm *d, size_t group, unsigned t, const double *gradient,
                        double *slope, double *offset, double *rest)
{
    const dkm_config *c = &d->config;
    const group_state *g = &d->groups[group];
    const double *mean = mean_at(d, group, t);
    const double *attended = g->attended + (size_t)t * c->clusters;
    memset(rest, 0, (c->dim + 1) * sizeof *rest);
    for (unsigned j = 0; j < c->clusters; j++) {
        offset[j] = 0;
        for (size_t i = 0; i < c->dim; i++) {
            const size_t at = j * c->dim + i;
            slope[at] = (int)j != g->zero && attended[j] > 0 ? gradient[at] / attended[j] : 0;
            offset[j] += slope[at] * mean[at];
            rest[i] += c->zero_threshold * slope[at];
        }
        rest[c->dim] += c->zero_threshold * offset[j];
    }
}

/* One iteration back: `gradient` is that of the centroids after it, then of those before. */
static void retreat_through(pass pass, iteration *it, unsigned t, double *gradient, double *slope)
{
    const dkm *d = pass.d;
    const dkm_config *c = &d->config;
    const group_state *g = &d->groups[pass.group];
    const bool last = t + 1 == g->done;
    double *offset = slope + table_size(c);
    make_slopes(d, pass.group, t, gradient, slope, offset, it->rest);
    retreat r = {
        .slope = slope,
        .offset = offset,
        .rest = it->rest,
        .table = last ? it->table : NULL,
        .sums = t > 0 ? gradient : NULL, /* whether; where is up to the piece */
    };
    it->retreat = &r;
    it->first = last;
    it->mixture = mixture_at(d, pass.group, t);
    pass.visit = step_back;
    pass.width = t > 0 ? table_size(c) : 0;
    const double *sums = pass_run(&pass);
    for (size_t at = 0; t > 0 && at < table_size(c); at++) {
        const bool stayed = g->attended[(size_t)t * c->clusters + at / c->dim] <= 0;
        gradient[at] = sums[at] + (stayed ? gradient[at] : 0);
    }
}

void soft_backward(const team *team, const dkm *d, size_t group, const float *weights,
                   const float *out, double peak, float *gradient)
{
    const dkm_config *c = &d->config;
    const group_state *g = &d->groups[group];
    const size_t size = table_size(c);
    double *carried = team_lead(team)->tables, *slope = carried + size;
    pass pass = {
        .team = team, .d = d, .group = group, .weights = weights, .by_nodes = g->nodes > 0};
    iteration it = {.out = out,
                    .to = gradient,
                    .scaling = DIVIDED,
                    .table = path_at(d, group, g->done),
                    .rest = slope + size + c->clusters};
    if (g->nodes) {
        nodes_place(&team_lead(team)->nodes, g->low, g->high, g->nodes);
        nodes_count(team, d, group, weights, out, peak);
    }
    memset(it.rest, 0, c->dim * sizeof *it.rest);
    for (size_t at = 0; at < size; at++)
        it.rest[at % c->dim] += c->zero_threshold * it.table[at];
    it.mixture = mixture_at(d, group, g->done - 1);
    pass.visit = gather;
    pass.user = &it;
    pass.width = size + c->dim;
    const double *sums = pass_run(&pass);
    for (size_t at = 0; at < size; at++)
        carried[at] = sums[at] + c->zero_threshold * sums[size + at % c->dim];
    for (unsigned t = g->done; t-- > 0;)
        retreat_through(pass, &it, t, carried, slope);
    if (g->nodes)
        nodes_read_gradients(team, d, group, weights, out, gradient);
}
