#include "cluster/dkm/points.h"

#include <string.h>

enum { LEAST_EACH = 32, MOST_PIECES = 64 };

static size_t blocks_of(const pass *p)
{
    const size_t points =
        p->by_nodes ? team_lead(p->team)->nodes.count + 1 : group_vectors(&p->d->config);
    return (points + BLOCK - 1) / BLOCK;
}

static size_t blocks_each(size_t blocks)
{
    const size_t each = (blocks + MOST_PIECES - 1) / MOST_PIECES;
    return each < LEAST_EACH ? LEAST_EACH : each;
}

size_t pass_room(size_t width)
{
    return MOST_PIECES * width;
}

static void visit_nodes(const pass *p, block *b, double *points, double *sums)
{
    const nodes *n = &team_lead(p->team)->nodes;
    if (!n->alive[b->begin / BLOCK])
        return;
    b->count = n->count + 1 - b->begin < BLOCK ? n->count + 1 - b->begin : BLOCK;
    b->mass = n->mass + b->begin;
    for (size_t i = 0; i < BLOCK; i++)
        points[i] = n->first + (double)(b->begin + i) * n->step;
    p->visit(p, b, sums);
}

static void visit_values(const pass *p, block *b, double *points, double *sums)
{
    double mass[BLOCK];
    b->count = layout_take_vectors(p->d, p->group, p->weights, DIVIDED, b->begin, points);
    for (size_t i = 0; i < BLOCK; i++)
        mass[i] = i < b->count ? 1 : 0;
    b->mass = mass;
    p->visit(p, b, sums);
}

static void visit_piece(void *user, place *own, size_t i)
{
    const pass *p = user;
    const size_t room = (size_t)DKM_MOST_DIM * BLOCK, blocks = blocks_of(p);
    const size_t end = blocks - i * p->each < p->each ? blocks : (i + 1) * p->each;
    double *sums = team_lead(p->team)->pieces + i * p->width;
    memset(sums, 0, p->width * sizeof *sums);
    for (size_t at = i * p->each; at < end; at++) {
        block b = {.begin = at * BLOCK,
                   .points = own->room,
                   .own = own,
                   .room = own->room + room,
                   .more = own->room + 2 * room};
        if (p->by_nodes)
            visit_nodes(p, &b, own->room, sums);
        else
            visit_values(p, &b, own->room, sums);
    }
}

const double *pass_run(pass *p)
{
    const place *lead = team_lead(p->team);
    const size_t blocks = blocks_of(p);
    p->each = blocks_each(blocks);
    const size_t pieces = (blocks + p->each - 1) / p->each;
    team_run(p->team, pieces, visit_piece, p);
    memset(lead->sums, 0, p->width * sizeof *lead->sums);
    for (size_t i = 0; i < pieces; i++)
        for (size_t s = 0; s < p->width; s++)
            lead->sums[s] += lead->pieces[i * p->width + s];
    return lead->sums;
}
