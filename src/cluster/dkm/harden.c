/* The hard result: the table as it is stored, and the nearest entry of each value. */
#include <stdlib.h>

#include "base/memory.h"
#include "cluster/dkm/iterate.h"
#include "cluster/dkm/table.h"
#include "cluster/dkm/team.h"

typedef struct hardening {
    mixture mixture;
    const double *table;
    finder finder;
    float *values;
    uint8_t *indices; /* of the group */
} hardening;

static void harden_block(const pass *pass, const block *b, double *sums)
{
    (void)sums;
    const hardening *h = pass->user;
    const dkm_config *c = &pass->d->config;
    int32_t which[BLOCK];
    double distance[BLOCK];
    find_nearest(&h->finder, &h->mixture, b->points, which, distance);
    for (size_t i = 0; h->indices && i < b->count; i++)
        h->indices[b->begin + i] = (uint8_t)which[i];
    if (!h->values)
        return;
    for (size_t i = 0; i < c->dim; i++)
        for (size_t j = 0; j < BLOCK; j++)
            b->room[i * BLOCK + j] = h->table[(size_t)which[j] * c->dim + i];
    layout_store_vectors(pass->d, pass->group, h->values, b->begin, b->room);
}

typedef struct call {
    const dkm *d;
    const float *weights;
    float *values;
    uint8_t *indices;
} call;

static pal_status harden_group(void *user, const team *team, size_t group)
{
    const call *call = user;
    const dkm *d = call->d;
    const dkm_config *c = &d->config;
    const size_t vectors = group_vectors(c);
    double *table = team_lead(team)->tables;
    hardening h = {
        .mixture = {.k = c->clusters,
                    .dim = c->dim,
                    .centroid = table,
                    .zero = -1,
                    .bonus = c->prune_threshold},
        .table = table,
        .values = call->values,
        .indices = call->indices ? call->indices + group * vectors : NULL,
    };
    pass pass = {.team = team,
                 .d = d,
                 .group = group,
                 .weights = call->weights,
                 .visit = harden_block,
                 .user = &h};
    table_round(c, d->centroids + group * table_size(c), table, NULL);
    if (c->enforce_zero)
        h.mixture.zero = table_keep_zero(c, table);
    finder_make(&h.finder, &h.mixture);
    pass_run(&pass);
    return PAL_OK;
}

pal_status dkm_harden(const dkm *d, dkm_workspace *workspace, const float *weights, int threads,
                      float *values, uint8_t *indices)
{
    call call = {d, weights, values, indices};
    double *range = mem_array(d->config.groups, 2 * sizeof *range);
    if (!range)
        return fail_memory("differentiable k-means");
    pal_status status = layer_scan(d, workspace, weights, threads, range);
    free(range);
    return status ? status : team_groups(d, workspace, threads, harden_group, &call);
}
