#include "cluster/dkm/attention.h"

#include <math.h>
#include <string.h>

#include "base/variants.h"

enum { LANES = 8 };

double mixture_reach(unsigned k, double threshold)
{
    return threshold > 0 ? fmax(17 + log(k), 2 - log(threshold)) : 36;
}

/* e^x for x <= 0, to 1e-15 of it: 2^n e^r with |r| <= log(2) / 2. Below -700, e^-700. */
VARIANT_BODY void exponentials(double *restrict x)
{
    const double shift = 0x1.8p52;
    for (unsigned b = 0; b < BLOCK; b++)
        x[b] = x[b] > -700 ? x[b] : -700;
    for (unsigned b = 0; b < BLOCK; b++) {
        const double whole = x[b] * 0x1.71547652b82fep+0 + shift;
        const double n = whole - shift;
        const double r = (x[b] - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
        double e = 1. / 479001600;
        e = e * r + 1. / 39916800;
        e = e * r + 1. / 3628800;
        e = e * r + 1. / 362880;
        e = e * r + 1. / 40320;
        e = e * r + 1. / 5040;
        e = e * r + 1. / 720;
        e = e * r + 1. / 120;
        e = e * r + 1. / 24;
        e = e * r + 1. / 6;
        e = e * r + 0.5;
        e = e * r + 1;
        e = e * r + 1;
        uint64_t bits, power;
        memcpy(&bits, &e, sizeof bits);
        memcpy(&power, &whole, sizeof power);
        bits += power << 52;
        memcpy(&x[b], &bits, sizeof bits);
    }
}

/* Always in the same way: halves are added to halves. */
VARIANT_BODY double fold(double *lanes)
{
    for (unsigned half = LANES / 2; half; half /= 2)
        for (unsigned l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    return lanes[0];
}

VARIANT_BODY double product_sum(const double *restrict x, const double *restrict y)
{
    double lanes[LANES] = {0};
    for (unsigned b = 0; b < BLOCK; b += LANES)
        for (unsigned l = 0; l < LANES; l++)
            lanes[l] += x[b + l] * y[b + l];
    return fold(lanes);
}

/* ---------------------------------------------------------------- attention */

/* Which centroids can have attention from ascending points. The difference of squared distances to
 * two centroids is linear in the point, so that its ends decide; compared is with the centroid
 * nearest to the middle. */
VARIANT_BODY unsigned candidates(const mixture *m, double low, double high, uint8_t *which)
{
    const double middle = (low + high) / 2;
    double at_low[MOST_ROWS], at_high[MOST_ROWS], least = INFINITY;
    unsigned nearest = 0, count = 0;
    for (unsigned j = 0; j < m->k; j++) {
        const double c = m->centroid[j];
        at_low[j] = (low - c) * (low - c);
        at_high[j] = (high - c) * (high - c);
    }
    if (m->zero >= 0) {
        at_low[m->zero] -= m->bonus;
        at_high[m->zero] -= m->bonus;
    }
    for (unsigned j = 0; j < m->k; j++) {
        const double d = fabs(middle - m->centroid[j]);
        nearest = d < least ? j : nearest;
        least = d < least ? d : least;
    }
    const double low_limit = at_low[nearest] + m->reach * m->tau;
    const double high_limit = at_high[nearest] + m->reach * m->tau;
    for (unsigned j = 0; j < m->k; j++) {
        which[count] = (uint8_t)j;
        count += (at_low[j] <= low_limit) | (at_high[j] <= high_limit);
    }
    return count;
}

VARIANT_BODY void squared_distances(const mixture *m, const double *restrict points, unsigned j,
                                    double *restrict to)
{
    const double bonus = (int)j == m->zero ? m->bonus : 0;
    const double *c = m->centroid + j * m->dim;
    for (unsigned b = 0; b < BLOCK; b++)
        to[b] = (points[b] - c[0]) * (points[b] - c[0]);
    for (size_t d = 1; d < m->dim; d++)
        for (unsigned b = 0; b < BLOCK; b++) {
            const double difference = points[d * BLOCK + b] - c[d];
            to[b] += difference * difference;
        }
    for (unsigned b = 0; b < BLOCK; b++)
        to[b] -= bonus;
}

/* Whether any of the points is near enough. */
VARIANT_BODY bool reaches(const double *restrict distance, const double *restrict nearest,
                          double limit)
{
    double least[LANES];
    for (unsigned l = 0; l < LANES; l++)
        least[l] = INFINITY;
    for (unsigned b = 0; b < BLOCK; b += LANES)
        for (unsigned l = 0; l < LANES; l++) {
            const double beyond = distance[b + l] - nearest[b + l];
            least[l] = beyond < least[l] ? beyond : least[l];
        }
    for (unsigned half = LANES / 2; half; half /= 2)
        for (unsigned l = 0; l < half; l++)
            least[l] = least[l + half] < least[l] ? least[l + half] : least[l];
    return least[0] <= limit;
}

VARIANT_BODY void attend_body(const mixture *m, const double *points, bool ordered, attention *a)
{
    uint8_t which[MOST_ROWS + 1];
    unsigned count = m->k;
    if (ordered)
        count = candidates(m, points[0], points[BLOCK - 1], which);
    else
        for (unsigned j = 0; j < count; j++)
            which[j] = (uint8_t)j;
    for (unsigned b = 0; b < BLOCK; b++)
        a->nearest[b] = INFINITY;
    for (unsigned i = 0; i < count; i++) {
        double *distance = a->share[i];
        squared_distances(m, points, which[i], distance);
        for (unsigned b = 0; b < BLOCK; b++)
            a->nearest[b] = distance[b] < a->nearest[b] ? distance[b] : a->nearest[b];
    }
    double total[BLOCK] = {0};
    const double limit = m->reach * m->tau, per_tau = 1 / m->tau;
    unsigned rows = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!ordered && !reaches(a->share[i], a->nearest, limit))
            continue;
        double share[BLOCK];
        for (unsigned b = 0; b < BLOCK; b++)
            share[b] = (a->nearest[b] - a->share[i][b]) * per_tau;
        exponentials(share);
        for (unsigned b = 0; b < BLOCK; b++)
            total[b] += share[b];
        memcpy(a->share[rows], share, sizeof share);
        a->which[rows++] = which[i];
    }
    a->count = rows;
    for (unsigned b = 0; b < BLOCK; b++)
        total[b] = 1 / total[b];
    const double z = m->threshold;
    for (unsigned i = 0; i < rows; i++)
        for (unsigned b = 0; b < BLOCK; b++) {
            const double p = a->share[i][b] * total[b], excess = p - z;
            a->share[i][b] = p;
            a->excess[i][b] = excess > 0 ? excess : 0;
        }
}

VARIANTS(void, attend, (const mixture *m, const double *points, bool ordered, attention *a),
         (m, points, ordered, a))

VARIANT_BODY void attention_nearest_body(const mixture *m, const double *points, int32_t *which,
                                         double *distance)
{
    double least[BLOCK], own[BLOCK], number[BLOCK];
    for (unsigned b = 0; b < BLOCK; b++) {
        least[b] = INFINITY;
        number[b] = 0;
    }
    for (unsigned j = 0; j < m->k; j++) {
        squared_distances(m, points, j, own);
        for (unsigned b = 0; b < BLOCK; b++) {
            number[b] = own[b] < least[b] ? (double)j : number[b];
            least[b] = own[b] < least[b] ? own[b] : least[b];
        }
    }
    for (unsigned b = 0; b < BLOCK; b++)
        which[b] = (int32_t)number[b];
    memcpy(distance, least, sizeof least);
}

VARIANTS(void, attention_nearest,
         (const mixture *m, const double *points, int32_t *which, double *distance),
         (m, points, which, distance))

/* ---------------------------------------------------------------- forward */

VARIANT_BODY void attention_sums_body(const attention *a, const double *points, const double *mass,
                                      size_t dim, double *sums)
{
    double share[BLOCK];
    for (unsigned i = 0; i < a->count; i++) {
        double *to = sums + a->which[i] * (dim + 1), lanes[LANES] = {0};
        for (unsigned b = 0; b < BLOCK; b++)
            share[b] = mass[b] * a->excess[i][b];
        for (unsigned b = 0; b < BLOCK; b += LANES)
            for (unsigned l = 0; l < LANES; l++)
                lanes[l] += share[b + l];
        to[0] += fold(lanes);
        for (size_t d = 0; d < dim; d++)
            to[1 + d] += product_sum(share, points + d * BLOCK);
    }
}

VARIANTS(void, attention_sums,
         (const attention *a, const double *points, const double *mass, size_t dim, double *sums),
         (a, points, mass, dim, sums))

double attention_inertia(const attention *a, const double *mass)
{
    return product_sum(a->nearest, mass);
}

VARIANT_BODY void attention_mix_body(const attention *a, const double *table, const double *rest,
                                     size_t dim, double *restrict outputs)
{
    for (size_t d = 0; d < dim; d++) {
        double *to = outputs + d * BLOCK;
        for (unsigned b = 0; b < BLOCK; b++)
            to[b] = rest[d];
        for (unsigned i = 0; i < a->count; i++) {
            const double value = table[a->which[i] * dim + d];
            for (unsigned b = 0; b < BLOCK; b++)
                to[b] += a->excess[i][b] * value;
        }
    }
}

VARIANTS(void, attention_mix,
         (const attention *a, const double *table, const double *rest, size_t dim, double *outputs),
         (a, table, rest, dim, outputs))

/* ---------------------------------------------------------------- backward */

VARIANT_BODY void attention_gather_body(const attention *a, const double *incoming, size_t dim,
                                        double *sums)
{
    for (unsigned i = 0; i < a->count; i++)
        for (size_t d = 0; d < dim; d++)
            sums[a->which[i] * dim + d] += product_sum(a->excess[i], incoming + d * BLOCK);
}

VARIANTS(void, attention_gather,
         (const attention *a, const double *incoming, size_t dim, double *sums),
         (a, incoming, dim, sums))

/* alpha_j (x - unrounded centroid j) for each point: the gradient of the mass of its attention. */
VARIANT_BODY void pulls(const double *restrict points, const double *slope, double offset,
                        size_t dim, double *restrict to)
{
    for (unsigned b = 0; b < BLOCK; b++)
        to[b] = slope[0] * points[b] - offset;
    for (size_t d = 1; d < dim; d++)
        for (unsigned b = 0; b < BLOCK; b++)
            to[b] += slope[d] * points[d * BLOCK + b];
}

VARIANT_BODY void attention_retreat_body(attention *a, const mixture *m, const double *points,
                                         const retreat *r)
{
    const size_t dim = m->dim;
    double pull[BLOCK], by_mass[BLOCK], middle[BLOCK] = {0};
    pulls(points, r->rest, r->rest[dim], dim, by_mass);
    if (r->by_point)
        for (size_t d = 0; d < dim; d++)
            for (unsigned b = 0; b < BLOCK; b++)
                r->by_point[d * BLOCK + b] = r->rest[d] * r->mass[b];
    const bool inside = r->sums || r->by_point; /* through the attention itself */
    for (unsigned i = 0; i < a->count; i++) {
        const unsigned j = a->which[i];
        const double *slope = r->slope + j * dim, *p = a->share[i];
        double *e = a->excess[i];
        pulls(points, slope, r->offset[j], dim, pull);
        for (unsigned b = 0; b < BLOCK; b++)
            by_mass[b] += e[b] * pull[b];
        if (r->by_point)
            for (size_t d = 0; d < dim; d++)
                for (unsigned b = 0; b < BLOCK; b++)
                    r->by_point[d * BLOCK + b] += e[b] * slope[d] * r->mass[b];
        if (!inside)
            continue;
        for (unsigned b = 0; b < BLOCK; b++)
            pull[b] *= r->mass[b];
        for (size_t d = 0; r->table && d < dim; d++) {
            const double value = r->table[j * dim + d];
            for (unsigned b = 0; b < BLOCK; b++)
                pull[b] += r->incoming[d * BLOCK + b] * value;
        }
        for (unsigned b = 0; b < BLOCK; b++) {
            pull[b] = e[b] > 0 ? pull[b] : 0;
            middle[b] += p[b] * pull[b];
            e[b] = pull[b];
        }
    }
    if (r->by_mass)
        memcpy(r->by_mass, by_mass, sizeof by_mass);
    if (!inside)
        return;
    const double twice = 2 / m->tau;
    for (unsigned i = 0; i < a->count; i++) {
        const unsigned j = a->which[i];
        double *e = a->excess[i];
        for (unsigned b = 0; b < BLOCK; b++)
            e[b] = twice * a->share[i][b] * (e[b] - middle[b]);
        for (size_t d = 0; d < dim; d++) {
            const double c = m->centroid[j * dim + d], *x = points + d * BLOCK;
            double lanes[LANES] = {0};
            if (r->sums) {
                for (unsigned b = 0; b < BLOCK; b += LANES)
                    for (unsigned l = 0; l < LANES; l++)
                        lanes[l] += e[b + l] * (x[b + l] - c);
                r->sums[j * dim + d] += fold(lanes);
            }
            if (r->by_point)
                for (unsigned b = 0; b < BLOCK; b++)
                    r->by_point[d * BLOCK + b] += e[b] * (c - x[b]);
        }
    }
}

VARIANTS(void, attention_retreat,
         (attention * a, const mixture *m, const double *points, const retreat *r),
         (a, m, points, r))
