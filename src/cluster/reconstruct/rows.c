/* The indices of one unit: rounding with feedback, and coordinate descent. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/loops.h"
#include "cluster/reconstruct/state.h"

enum { MOST_SWEEPS = 16 };

pal_status row_memory_init(row_memory *m, const reconstruct_problem *problem)
{
    const size_t values = problem->dim * problem->columns;
    *m = (row_memory){.residual = mem_array(values, sizeof *m->residual),
                      .pulls = mem_array(values, sizeof *m->pulls),
                      .errors = mem_array(values, sizeof *m->errors),
                      .spread = mem_array(problem->entries * problem->columns, sizeof *m->spread),
                      .trial = mem_array(problem->columns, 1),
                      .gathered =
                          mem_array(problem->entries * problem->entries, sizeof *m->gathered)};
    return m->residual && m->pulls && m->errors && m->spread && m->trial && m->gathered
               ? PAL_OK
               : fail_memory("reconstructing a layer");
}

void row_memory_free(row_memory *m)
{
    free(m->residual);
    free(m->pulls);
    free(m->errors);
    free(m->spread);
    free(m->trial);
    free(m->gathered);
}

/* ---------------------------------------------------------------- the nearest entry */

/* A unit's view of its table. */
typedef struct view {
    const float *table; /* [entries, dim] */
    const float *scales;
    const double *weights;
    unsigned entries;
    size_t dim;
    float thresholds[RECONSTRUCT_MOST_ENTRIES]; /* scalars: between entries, times the scale */
} view;

static void view_of(const reconstruct *r, const piece *piece, size_t unit, view *v)
{
    const reconstruct_problem *p = &r->problem;
    v->table = r->tables + piece->table * p->entries * p->dim;
    v->scales = p->scales + unit * p->dim;
    v->weights = p->weights + unit * p->dim;
    v->entries = p->entries;
    v->dim = p->dim;
    for (unsigned k = 0; p->dim == 1 && k + 1 < p->entries; k++)
        v->thresholds[k] = v->scales[0] * 0.5F * (v->table[k] + v->table[k + 1]);
}

/* Scalars: entries are ascending, so counting thresholds finds the nearest. */
static unsigned nearest_scalar(const view *v, float wanted)
{
    unsigned k = 0;
    if (v->entries <= 16) {
        for (unsigned i = 0; i + 1 < v->entries; i++)
            k += wanted > v->thresholds[i];
        return k;
    }
    for (unsigned step = v->entries / 2; step; step /= 2)
        if (k + step - 1 < v->entries - 1 && wanted > v->thresholds[k + step - 1])
            k += step;
    return k;
}

/* wanted[j * stride] is what row j of the unit would like. */
static unsigned nearest(const view *v, const float *wanted, size_t stride)
{
    if (v->dim == 1)
        return nearest_scalar(v, *wanted);
    unsigned best = 0;
    double least = INFINITY;
    for (unsigned k = 0; k < v->entries; k++) {
        double distance = 0;
        for (size_t j = 0; j < v->dim; j++) {
            const double d = (double)(wanted[j * stride] - v->scales[j] * v->table[k * v->dim + j]);
            distance += v->weights[j] * d * d;
        }
        if (distance < least) {
            least = distance;
            best = k;
        }
    }
    return best;
}

/* ---------------------------------------------------------------- rounding with feedback */

void unit_round(const reconstruct *r, const piece *piece, size_t unit, uint8_t *indices,
                row_memory *m)
{
    const reconstruct_problem *p = &r->problem;
    const size_t n = p->columns, dim = p->dim;
    const float *l = unit_factor(r, unit);
    const float *targets = r->targets + unit * dim * n;
    float wanted[RECONSTRUCT_MOST_DIM];
    view v;
    view_of(r, piece, unit, &v);
    memset(m->pulls, 0, dim * n * sizeof *m->pulls);
    for (size_t c = n; c-- > 0;) {
        const float *row = l + c * n;
        for (size_t j = 0; j < dim; j++)
            wanted[j] = targets[j * n + c] + m->pulls[j * n + c] / row[c];
        const unsigned k = nearest(&v, wanted, 1);
        indices[c] = (uint8_t)k;
        for (size_t j = 0; j < dim; j++)
            loops_add(m->pulls + j * n, row,
                      targets[j * n + c] - v.scales[j] * v.table[k * dim + j], c);
    }
}

/* ---------------------------------------------------------------- errors, and descent */

state unit_kept(const reconstruct *r, size_t unit, const row_memory *m)
{
    const size_t n = r->problem.columns;
    return (state){r->indices + unit * n, r->residuals + unit * r->problem.dim * n, m->errors};
}

static double error_of(const reconstruct *r, const view *v, const state *s)
{
    const size_t n = r->problem.columns;
    double error = 0;
    for (size_t j = 0; j < v->dim; j++) {
        double sum = 0;
        for (size_t c = 0; c < n; c++)
            sum += (double)s->errors[j * n + c] * (double)s->residual[j * n + c];
        error += v->weights[j] * sum;
    }
    return error;
}

double unit_measure(const reconstruct *r, const piece *piece, size_t unit, state *s)
{
    const size_t n = r->problem.columns, dim = r->problem.dim;
    const float *moments = unit_moments(r, unit);
    view v;
    view_of(r, piece, unit, &v);
    memset(s->residual, 0, dim * n * sizeof *s->residual);
    for (size_t j = 0; j < dim; j++) {
        const float *targets = r->targets + (unit * dim + j) * n;
        for (size_t c = 0; c < n; c++) {
            s->errors[j * n + c] = v.scales[j] * v.table[s->indices[c] * dim + j] - targets[c];
            loops_add(s->residual + j * n, moments + c * n, s->errors[j * n + c], n);
        }
    }
    return error_of(r, &v, s);
}

double unit_descend(const reconstruct *r, const piece *piece, size_t unit, state *s)
{
    const size_t n = r->problem.columns, dim = r->problem.dim;
    const float *moments = unit_moments(r, unit);
    float wanted[RECONSTRUCT_MOST_DIM];
    bool changed = true;
    view v;
    view_of(r, piece, unit, &v);
    for (int sweep = 0; changed && sweep < MOST_SWEEPS; sweep++) {
        changed = false;
        for (size_t c = n; c-- > 0;) {
            const float curvature = moments[c * n + c];
            if (!(curvature > 0))
                continue;
            const unsigned old = s->indices[c];
            for (size_t j = 0; j < dim; j++)
                wanted[j] =
                    v.scales[j] * v.table[old * dim + j] - s->residual[j * n + c] / curvature;
            const unsigned k = nearest(&v, wanted, 1);
            if (k == old)
                continue;
            s->indices[c] = (uint8_t)k;
            changed = true;
            for (size_t j = 0; j < dim; j++) {
                const float step = v.scales[j] * (v.table[k * dim + j] - v.table[old * dim + j]);
                s->errors[j * n + c] += step;
                loops_add(s->residual + j * n, moments + c * n, step, n);
            }
        }
    }
    return error_of(r, &v, s);
}
