/* Centroids that no weight needs are given to clusters that are wide: those are split in two, in
 * the component in which they are widest, each half at its mean. */
#include <string.h>

#include "cluster/dkm/iterate.h"

/* ---------------------------------------------------------------- which */

static bool is_repeated(const dkm_config *c, const double *path, unsigned j)
{
    for (unsigned i = 0; i < j; i++) {
        bool same = true;
        for (size_t d = 0; d < c->dim; d++)
            same &= path[i * c->dim + d] == path[j * c->dim + d];
        if (same)
            return true;
    }
    return false;
}

static unsigned find_dead(const dkm *d, size_t group, const double *sums, uint8_t *dead)
{
    const dkm_config *c = &d->config;
    const group_state *g = &d->groups[group];
    const double fair = (double)group_vectors(c) / c->clusters;
    const double least = fair / 20 < 0.5 ? fair / 20 : 0.5;
    unsigned count = 0;
    for (unsigned j = 0; j < c->clusters; j++)
        if ((int)j != g->zero && (sums[j * (c->dim + 1)] < least || is_repeated(c, g->path, j)))
            dead[count++] = (uint8_t)j;
    return count;
}

/* ---------------------------------------------------------------- where to */

typedef struct splitting {
    const iteration *it;
    uint8_t component[DKM_MOST_CLUSTERS];
} splitting;

/* Squared distances of the points to their nearest centroid, by component. */
static void measure(const pass *pass, const block *b, double *sums)
{
    const splitting *s = pass->user;
    const mixture *m = &s->it->mixture;
    int32_t which[BLOCK];
    double distance[BLOCK];
    attention_nearest(m, b->points, which, distance);
    for (size_t i = 0; i < b->count; i++)
        for (size_t c = 0; c < m->dim; c++) {
            const size_t at = (size_t)which[i] * m->dim + c;
            const double difference = b->points[c * BLOCK + i] - m->centroid[at];
            sums[at] += b->mass[i] * difference * difference;
        }
}

/* Mass and sum of the points of a cluster below its centroid in its component, then of those above.
 */
static void halve(const pass *pass, const block *b, double *sums)
{
    const splitting *s = pass->user;
    const mixture *m = &s->it->mixture;
    int32_t which[BLOCK];
    double distance[BLOCK];
    attention_nearest(m, b->points, which, distance);
    for (size_t i = 0; i < b->count; i++) {
        const size_t j = (size_t)which[i], c = s->component[j];
        const bool above = b->points[c * BLOCK + i] > m->centroid[j * m->dim + c];
        double *own = sums + (2 * j + above) * (m->dim + 1);
        own[0] += b->mass[i];
        for (size_t d = 0; d < m->dim; d++)
            own[1 + d] += b->mass[i] * b->points[d * BLOCK + i];
    }
}

/* The clusters with the largest sums, widest first, of those with more than `least`; how many. */
static unsigned find_widest(const dkm_config *c, const bool *barred, const double *sums,
                            double least, unsigned most, uint8_t *widest, uint8_t *component)
{
    double width[DKM_MOST_CLUSTERS];
    for (unsigned j = 0; j < c->clusters; j++) {
        width[j] = 0;
        component[j] = 0;
        for (size_t i = 0; i < c->dim; i++) {
            const double own = sums[j * c->dim + i];
            width[j] += own;
            if (own > sums[j * c->dim + component[j]])
                component[j] = (uint8_t)i;
        }
        if (barred[j])
            width[j] = 0;
    }
    unsigned count = 0;
    while (count < most) {
        unsigned best = 0;
        for (unsigned j = 1; j < c->clusters; j++)
            best = width[j] > width[best] ? j : best;
        if (width[best] <= least)
            break;
        width[best] = 0;
        widest[count++] = (uint8_t)best;
    }
    return count;
}

static void move(const dkm_config *c, const double *half, double *centroid)
{
    for (size_t d = 0; d < c->dim; d++)
        centroid[d] = half[1 + d] / half[0];
}

bool group_repair(const pass *of, dkm *d, const iteration *it, const double *sums)
{
    const dkm_config *c = &d->config;
    group_state *g = &d->groups[of->group];
    uint8_t dead[DKM_MOST_CLUSTERS], widest[DKM_MOST_CLUSTERS];
    bool barred[DKM_MOST_CLUSTERS] = {false};
    splitting s = {.it = it};
    const unsigned wanted = find_dead(d, of->group, sums, dead);
    if (!wanted)
        return false;
    for (unsigned i = 0; i < wanted; i++)
        barred[dead[i]] = true;
    if (g->zero >= 0)
        barred[g->zero] = true;
    /* Equal weights between two nodes look as if they were some at each. */
    const double step = of->by_nodes ? team_lead(of->team)->nodes.step : 0;
    const double least = (double)group_vectors(c) * step * step / 4;
    pass pass = *of;
    pass.user = &s;
    pass.visit = measure;
    pass.width = table_size(c);
    const double *squares = pass_run(&pass);
    const unsigned found = find_widest(c, barred, squares, least, wanted, widest, s.component);
    pass.visit = halve;
    pass.width = 2 * (size_t)c->clusters * (c->dim + 1);
    const double *halves = pass_run(&pass);
    for (unsigned i = 0; i < found; i++) {
        const double *below = halves + 2 * (size_t)widest[i] * (c->dim + 1);
        const double *above = below + c->dim + 1;
        if (below[0] > 0 && above[0] > 0) {
            move(c, below, g->path + (size_t)widest[i] * c->dim);
            move(c, above, g->path + (size_t)dead[i] * c->dim);
        }
    }
    return true;
}
