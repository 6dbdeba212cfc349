#include "cluster/dkm/team.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/dkm/nodes.h"
#include "cluster/dkm/points.h"

/* ---------------------------------------------------------------- room */

static void nodes_free(nodes *n)
{
    free(n->mass);
    free(n->incoming);
    free(n->output);
    free(n->by_mass);
    free(n->alive);
    free(n->number);
    free(n->way);
    free(n->gradient);
    free(n->lines);
    *n = (nodes){0};
}

static bool nodes_reserve(nodes *n, size_t intervals)
{
    const size_t all = intervals + 1 + BLOCK;
    if (intervals <= n->capacity)
        return true;
    nodes_free(n);
    n->mass = mem_array(all, sizeof *n->mass);
    n->incoming = mem_array(all, sizeof *n->incoming);
    n->output = mem_zeroed(all, sizeof *n->output);
    n->by_mass = mem_zeroed(all, sizeof *n->by_mass);
    n->alive = mem_array(all / BLOCK + 1, 1);
    n->number = mem_array(intervals, sizeof *n->number);
    n->way = mem_array(intervals, sizeof *n->way);
    n->gradient = mem_array(intervals, 2 * sizeof *n->gradient);
    n->lines = mem_array(intervals, sizeof *n->lines);
    if (!n->mass || !n->incoming || !n->output || !n->by_mass || !n->alive || !n->number ||
        !n->way || !n->gradient || !n->lines) {
        nodes_free(n);
        return false;
    }
    n->capacity = intervals;
    return true;
}

static bool tallies_reserve(place *p, size_t intervals)
{
    if (intervals <= p->tally_capacity)
        return true;
    free(p->tally);
    free(p->gradient);
    p->tally = mem_array(intervals, sizeof *p->tally);
    p->gradient = mem_array(intervals, 2 * sizeof *p->gradient);
    p->tally_capacity = p->tally && p->gradient ? intervals : 0;
    return p->tally_capacity == intervals;
}

static bool place_reserve(place *p, const dkm_config *c, bool leads)
{
    const size_t width = 2 * (size_t)c->clusters * (c->dim + 1) + c->dim + 1; /* of any pass */
    const size_t scan = scan_pieces(c), pass = pass_room(width);
    const size_t intervals = nodes_most(c, DKM_SOFT);
    if (!p->attention)
        p->attention = mem_zeroed(1, sizeof *p->attention);
    if (!p->room)
        p->room = mem_zeroed((size_t)ROOMS * DKM_MOST_DIM * BLOCK, sizeof *p->room);
    if (!p->attention || !p->room || !tallies_reserve(p, intervals))
        return false;
    return !leads ||
           (nodes_reserve(&p->nodes, intervals) &&
            mem_grow((void **)&p->pieces, &p->pieces_capacity, scan > pass ? scan : pass,
                     sizeof *p->pieces) &&
            mem_grow((void **)&p->sums, &p->sums_capacity, width, sizeof *p->sums) &&
            mem_grow((void **)&p->tables, &p->tables_capacity, tables_room(c), sizeof *p->tables));
}

static void place_free(place *p)
{
    free(p->attention);
    free(p->room);
    free(p->tally);
    free(p->gradient);
    nodes_free(&p->nodes);
    free(p->pieces);
    free(p->sums);
    free(p->tables);
    scalar_workspace_free(&p->scalar);
}

pal_status dkm_workspace_new(dkm_workspace **out)
{
    *out = mem_zeroed(1, sizeof **out);
    return *out ? PAL_OK : fail_memory("differentiable k-means");
}

void dkm_workspace_free(dkm_workspace *workspace)
{
    if (!workspace)
        return;
    for (int i = 0; i < workspace->count; i++)
        place_free(&workspace->places[i]);
    free(workspace->places);
    free(workspace);
}

static pal_status workspace_reserve(dkm_workspace *w, const dkm_config *c, int threads,
                                    bool all_lead)
{
    if (w->count < threads) {
        place *places = realloc(w->places, (size_t)threads * sizeof *places);
        if (!places)
            return fail_memory("differentiable k-means");
        w->places = places;
        for (; w->count < threads; w->count++)
            w->places[w->count] = (place){0};
    }
    for (int i = 0; i < threads; i++)
        if (!place_reserve(&w->places[i], c, all_lead || i == 0))
            return fail_memory("differentiable k-means");
    return PAL_OK;
}

/* ---------------------------------------------------------------- threads */

typedef struct pieces {
    const team *team;
    void (*item)(void *user, place *own, size_t i);
    void *user;
} pieces;

static pal_status run_piece(void *user, int thread, size_t i)
{
    const pieces *p = user;
    p->item(p->user, team_place(p->team, thread), i);
    return PAL_OK;
}

void team_run(const team *t, size_t count, void (*item)(void *user, place *own, size_t i),
              void *user)
{
    pieces p = {t, item, user};
    const parallel_job job = {.user = &p, .item = run_piece};
    parallel_run(&job, count, t->threads);
}

typedef struct groups {
    dkm_workspace *workspace;
    pal_status (*work)(void *user, const team *team, size_t group);
    void *user;
} groups;

static pal_status run_group(void *user, int thread, size_t group)
{
    const groups *g = user;
    const team team = {g->workspace, thread, 1};
    return g->work(g->user, &team, group);
}

pal_status team_groups(const dkm *d, dkm_workspace *workspace, int threads,
                       pal_status (*work)(void *user, const team *team, size_t group), void *user)
{
    enum { WORTH_SHARING = 1 << 15 }; /* values; calling threads has its price */
    const dkm_config *c = &d->config;
    if (threads < 1)
        threads = 1;
    if (group_elements(c) * c->groups < WORTH_SHARING)
        threads = 1;
    const bool each_alone = c->groups >= 2 * (size_t)threads || group_elements(c) < WORTH_SHARING;
    pal_status status = workspace_reserve(workspace, c, threads, each_alone);
    if (status)
        return status;
    groups g = {workspace, work, user};
    if (each_alone) {
        const parallel_job job = {.user = &g, .item = run_group};
        return parallel_run(&job, c->groups, threads);
    }
    const team team = {workspace, 0, threads};
    for (size_t i = 0; !status && i < c->groups; i++)
        status = work(user, &team, i);
    return status;
}
