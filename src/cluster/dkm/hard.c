/* The modes without attention: each value has its nearest centroid, and each centroid is the mean
 * of its values. */
#include <math.h>
#include <string.h>

#include "cluster/dkm/iterate.h"

/* ---------------------------------------------------------------- the nearest centroid */

void finder_make(finder *f, const mixture *m)
{
    f->usable = m->dim == 1 && (m->zero < 0 || m->bonus == 0);
    if (!f->usable)
        return;
    memcpy(f->centroid, m->centroid, m->k * sizeof *f->centroid);
    sort_entries(m->k, f->centroid, f->place);
    for (unsigned j = 0; j < DKM_MOST_CLUSTERS; j++)
        f->threshold[j] = j + 1 < m->k ? (f->centroid[j] + f->centroid[j + 1]) / 2 : INFINITY;
}

void find_nearest(const finder *f, const mixture *m, const double *points, int32_t *which,
                  double *distance)
{
    if (!f->usable) {
        attention_nearest(m, points, which, distance);
        return;
    }
    for (size_t b = 0; b < BLOCK; b++) {
        unsigned at = 0;
        for (unsigned step = DKM_MOST_CLUSTERS / 2; step; step /= 2)
            at += points[b] > f->threshold[at + step - 1] ? step : 0;
        const double difference = points[b] - f->centroid[at];
        which[b] = f->place[at];
        distance[b] = difference * difference;
    }
}

/* ---------------------------------------------------------------- forward */

void hard_sums(const pass *pass, const block *b, double *sums)
{
    const iteration *it = pass->user;
    const size_t dim = it->mixture.dim;
    int32_t which[BLOCK];
    double distance[BLOCK];
    find_nearest(it->finder, &it->mixture, b->points, which, distance);
    for (size_t i = 0; i < b->count; i++) {
        double *own = sums + (size_t)which[i] * (dim + 1);
        own[0] += 1;
        for (size_t c = 0; c < dim; c++)
            own[1 + c] += b->points[c * BLOCK + i];
        sums[pass->width - 1] += distance[i];
    }
}

void hard_output(const pass *pass, const block *b, double *sums)
{
    (void)sums;
    const iteration *it = pass->user;
    const size_t dim = it->mixture.dim;
    int32_t which[BLOCK];
    double distance[BLOCK];
    find_nearest(it->finder, &it->mixture, b->points, which, distance);
    for (size_t c = 0; c < dim; c++)
        for (size_t i = 0; i < BLOCK; i++)
            b->room[c * BLOCK + i] = it->table[(size_t)which[i] * dim + c];
    layout_put_vectors(pass->d, pass->group, it->to, it->scaling, false, b->begin, b->room);
}

/* ---------------------------------------------------------------- backward */

static void straight_through(const pass *pass, const block *b, double *sums)
{
    (void)sums;
    const iteration *it = pass->user;
    layout_take_vectors(pass->d, pass->group, it->out, UNSCALED, b->begin, b->room);
    layout_put_vectors(pass->d, pass->group, it->to, UNSCALED, false, b->begin, b->room);
}

/* Summed gradients of each centroid's values. */
static void gather(const pass *pass, const block *b, double *sums)
{
    const iteration *it = pass->user;
    const size_t dim = it->mixture.dim;
    int32_t which[BLOCK];
    double distance[BLOCK];
    find_nearest(it->finder, &it->mixture, b->points, which, distance);
    layout_take_vectors(pass->d, pass->group, it->out, MULTIPLIED, b->begin, b->room);
    for (size_t i = 0; i < b->count; i++)
        for (size_t c = 0; c < dim; c++)
            sums[(size_t)which[i] * dim + c] += b->room[c * BLOCK + i];
}

void hard_backward(const team *team, const dkm *d, size_t group, const float *weights,
                   const float *out, float *gradient)
{
    const dkm_config *c = &d->config;
    const group_state *g = &d->groups[group];
    const size_t size = table_size(c);
    pass pass = {.team = team, .d = d, .group = group, .weights = weights};
    finder f;
    iteration it = {.finder = &f, .out = out, .to = gradient, .scaling = DIVIDED};
    it.mixture = mixture_at(d, group, g->done - 1);
    pass.user = &it;
    if (d->mode == DKM_HARD) {
        pass.visit = straight_through;
        if (out != gradient)
            pass_run(&pass);
        return;
    }
    finder_make(&f, &it.mixture);
    pass.visit = gather;
    pass.width = size;
    const double *sums = pass_run(&pass);
    const double *attended = g->attended + (size_t)(g->done - 1) * c->clusters;
    double *table = team_lead(team)->tables;
    for (size_t at = 0; at < size; at++) {
        const size_t j = at / c->dim;
        table[at] = attended[j] > 0 && (int)j != g->zero ? sums[at] / attended[j] : 0;
    }
    it.table = table;
    pass.visit = hard_output;
    pass.width = 0;
    pass_run(&pass);
}
