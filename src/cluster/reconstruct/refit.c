/* Tables and scales for given indices: least squares in closed form. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/cholesky.h"
#include "cluster/loops.h"
#include "cluster/reconstruct/state.h"

/* M[a, b] = sum of H over the pairs of columns with the indices a and b. */
static void gather_moments(const reconstruct *r, size_t unit, const uint8_t *indices, row_memory *m)
{
    const reconstruct_problem *p = &r->problem;
    const size_t n = p->columns, k = p->entries;
    const float *moments = unit_moments(r, unit);
    double *gathered = m->gathered;
    memset(m->spread, 0, k * n * sizeof *m->spread);
    memset(gathered, 0, k * k * sizeof *gathered);
    for (size_t c = 0; c < n; c++)
        loops_sum(m->spread + indices[c] * n, moments + c * n, n);
    for (size_t a = 0; a < k; a++)
        for (size_t c = 0; c < n; c++)
            gathered[a * k + indices[c]] += (double)m->spread[a * n + c];
}

/* ---------------------------------------------------------------- tables */

/* As many pieces as there are slots for. */
typedef struct wave {
    reconstruct *r;
    size_t first;
} wave;

/* A step of Newton's method is exact here: by the entries the error has the second derivative M,
 * weighted, and the slope is what H (q - t) sums up to over each entry's columns. */
static pal_status sum_piece(void *user, int thread, size_t slot)
{
    const wave *w = user;
    const reconstruct *r = w->r;
    const reconstruct_problem *p = &r->problem;
    const piece *piece = &r->pieces[w->first + slot];
    const size_t n = p->columns, k = p->entries, dim = p->dim;
    row_memory *m = &r->memory[thread];
    double *normal = r->normal + slot * dim * k * k, *slope = r->slope + slot * dim * k;
    memset(normal, 0, dim * k * k * sizeof *normal);
    memset(slope, 0, dim * k * sizeof *slope);
    for (size_t u = piece->first; u < piece->first + piece->count; u++) {
        const uint8_t *indices = r->indices + u * n;
        gather_moments(r, u, indices, m);
        for (size_t j = 0; j < dim; j++) {
            const double scale = (double)p->scales[u * dim + j], weight = p->weights[u * dim + j];
            loops_add_double(normal + j * k * k, m->gathered, weight * scale * scale, k * k);
            for (size_t c = 0; c < n; c++)
                slope[j * k + indices[c]] +=
                    weight * scale * (double)r->residuals[(u * dim + j) * n + c];
        }
    }
    return PAL_OK;
}

/* Entries that no index names, or that hardly matter, stay where they are. */
static pal_status step_table(double *normal, double *slope, size_t k, float *table, size_t dim)
{
    double trace = 0;
    for (size_t a = 0; a < k; a++)
        trace += normal[a * k + a];
    if (!(trace > 0))
        return PAL_OK;
    for (size_t a = 0; a < k; a++)
        normal[a * k + a] += 1e-9 * trace / (double)k;
    pal_status status = cholesky(normal, k, 1e-12 * trace / (double)k, 1);
    if (status)
        return status;
    cholesky_solve(normal, k, slope, 1);
    for (size_t a = 0; a < k; a++)
        if (isfinite(slope[a]))
            table[a * dim] -= (float)slope[a];
    return PAL_OK;
}

/* Adds what a piece came to to the sums of its table, and steps after its last one. */
static pal_status take_piece(reconstruct *r, size_t i, size_t slot)
{
    const size_t k = r->problem.entries, dim = r->problem.dim, table = r->pieces[i].table;
    const double *normal = r->normal + slot * dim * k * k, *slope = r->slope + slot * dim * k;
    double *all = r->normal + r->slots * dim * k * k, *slopes = r->slope + r->slots * dim * k;
    if (i == 0 || r->pieces[i - 1].table != table) {
        memcpy(all, normal, dim * k * k * sizeof *all);
        memcpy(slopes, slope, dim * k * sizeof *slopes);
    } else {
        loops_add_double(all, normal, 1, dim * k * k);
        loops_add_double(slopes, slope, 1, dim * k);
    }
    if (i + 1 < r->piece_count && r->pieces[i + 1].table == table)
        return PAL_OK;
    pal_status status = PAL_OK;
    for (size_t j = 0; !status && j < dim; j++)
        status =
            step_table(all + j * k * k, slopes + j * k, k, r->tables + table * k * dim + j, dim);
    return status;
}

pal_status refit_tables(reconstruct *r)
{
    wave w = {.r = r};
    const parallel_job job = {.user = &w, .item = sum_piece};
    pal_status status = PAL_OK;
    for (; !status && w.first < r->piece_count; w.first += r->slots) {
        const size_t left = r->piece_count - w.first, count = left < r->slots ? left : r->slots;
        status = parallel_run(&job, count, r->problem.threads);
        for (size_t slot = 0; !status && slot < count; slot++)
            status = take_piece(r, w.first + slot, slot);
    }
    tables_sort(r);
    return status;
}

/* Scalars: entries ascending, with the indices renamed. */
void tables_sort(reconstruct *r)
{
    const reconstruct_problem *p = &r->problem;
    const size_t k = p->entries, per_table = r->units / p->tables;
    for (size_t t = 0; p->dim == 1 && t < p->tables; t++) {
        float *table = r->tables + t * k;
        uint8_t at[RECONSTRUCT_MOST_ENTRIES], place[RECONSTRUCT_MOST_ENTRIES];
        bool moved = false;
        for (size_t a = 0; a < k; a++)
            at[a] = (uint8_t)a;
        for (size_t a = 1; a < k; a++) /* few, and nearly sorted */
            for (size_t b = a; b > 0 && table[b] < table[b - 1]; b--) {
                const float value = table[b];
                const uint8_t index = at[b];
                table[b] = table[b - 1];
                table[b - 1] = value;
                at[b] = at[b - 1];
                at[b - 1] = index;
                moved = true;
            }
        for (size_t a = 0; a < k; a++)
            place[at[a]] = (uint8_t)a;
        uint8_t *indices = r->indices + t * per_table * p->columns;
        for (size_t i = 0; moved && i < per_table * p->columns; i++)
            indices[i] = place[indices[i]];
    }
}

/* ---------------------------------------------------------------- scales */

/* f q is nearest to t, in the measure of H, where f = (q H t) / (q H q). The residual turns from
 * H (q - t) to H (f q - t). */
static pal_status scale_piece(void *user, int thread, size_t i)
{
    const reconstruct *r = user;
    const reconstruct_problem *p = &r->problem;
    const piece *piece = &r->pieces[i];
    const size_t n = p->columns, dim = p->dim;
    for (size_t u = piece->first; u < piece->first + piece->count; u++) {
        state s = unit_kept(r, u, &r->memory[thread]);
        unit_measure(r, piece, u, &s);
        for (size_t j = 0; j < dim; j++) {
            const float *targets = r->targets + (u * dim + j) * n;
            const float *aims = r->aims + (u * dim + j) * n;
            float *residual = s.residual + j * n;
            double across = 0, own = 0;
            for (size_t c = 0; c < n; c++) {
                const double q = (double)(s.errors[j * n + c] + targets[c]);
                across += q * (double)aims[c];
                own += q * (double)(residual[c] + aims[c]);
            }
            const double factor = own > 0 ? across / own : 1;
            if (!(factor > 0.1 && factor < 10))
                continue;
            p->scales[u * dim + j] *= (float)factor;
            for (size_t c = 0; c < n; c++)
                residual[c] = (float)factor * (residual[c] + aims[c]) - aims[c];
        }
    }
    return PAL_OK;
}

pal_status refit_scales(reconstruct *r)
{
    const parallel_job job = {.user = r, .item = scale_piece};
    return parallel_run(&job, r->piece_count, r->problem.threads);
}
