#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/cholesky.h"
#include "cluster/loops.h"
#include "cluster/reconstruct/state.h"

enum {
    MOST_ROUNDS = 24,
    MOST_PIECES = 32, /* of one table */
    SLOTS = 4,        /* for each thread: pieces of all tables would be gigabytes of sums */
};
static const double WORTHWHILE = 1e-4; /* a smaller gain, relative, ends the search */

void reconstruct_free(reconstruct *r)
{
    if (!r)
        return;
    for (int i = 0; r->memory && i < r->problem.threads; i++)
        row_memory_free(&r->memory[i]);
    free(r->memory);
    free(r->order);
    free(r->moments);
    free(r->factors);
    free(r->targets);
    free(r->indices);
    free(r->tables);
    free(r->aims);
    free(r->residuals);
    free(r->errors);
    free(r->pieces);
    free(r->normal);
    free(r->slope);
    free(r);
}

double reconstruct_error(const reconstruct *r)
{
    double sum = 0;
    for (size_t u = 0; u < r->units; u++)
        sum += r->errors[u];
    return sum;
}

/* ---------------------------------------------------------------- making it */

/* Pieces lie within one table. */
static pal_status cut(reconstruct *r)
{
    const reconstruct_problem *p = &r->problem;
    const size_t per_table = r->units / p->tables;
    const size_t most = (per_table + MOST_PIECES - 1) / MOST_PIECES;
    size_t capacity = 0;
    for (size_t u = 0; u < r->units;) {
        const size_t table = u / per_table;
        size_t end = u + most;
        end = end < (table + 1) * per_table ? end : (table + 1) * per_table;
        if (!mem_grow((void **)&r->pieces, &capacity, r->piece_count + 1, sizeof *r->pieces))
            return fail_memory("reconstructing a layer");
        r->pieces[r->piece_count++] = (piece){u, end - u, table};
        u = end;
    }
    return PAL_OK;
}

static int by_curvature(const void *a, const void *b)
{
    const double *const *x = a, *const *y = b;
    if (**x != **y)
        return **x < **y ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

/* Which column comes where. */
static pal_status find_order(reconstruct *r, size_t block)
{
    const size_t n = r->problem.columns;
    const double *moments = r->problem.moments + block * n * n;
    const double **diagonal = mem_array(n, sizeof *diagonal);
    if (!diagonal)
        return fail_memory("reconstructing a layer");
    for (size_t c = 0; c < n; c++)
        diagonal[c] = moments + c * n + c;
    qsort(diagonal, n, sizeof *diagonal, by_curvature);
    for (size_t c = 0; c < n; c++)
        r->order[block * n + c] = (uint32_t)((size_t)(diagonal[c] - moments) / n);
    free(diagonal);
    return PAL_OK;
}

/* H in its order, as floats, and then, in its place, L. Columns without input (H is zero there)
 * make no difference; the damping keeps them from being divided by. */
static pal_status factorise(reconstruct *r, size_t block, int threads)
{
    const size_t n = r->problem.columns;
    const uint32_t *order = r->order + block * n;
    double *given = r->problem.moments + block * n * n, trace = 0;
    float *moments = r->moments + block * n * n, *factors = r->factors + block * n * n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            moments[i * n + j] = (float)given[order[i] * n + order[j]];
    for (size_t i = 0; i < n; i++)
        trace += given[i * n + i];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            given[i * n + j] = (double)moments[i * n + j];
    double mean = trace / (double)n;
    if (!(mean > 0))
        mean = 1;
    for (size_t i = 0; i < n; i++)
        given[i * n + i] += (r->problem.damping + 1e-7) * mean;
    pal_status status = cholesky(given, n, 1e-9 * mean, threads);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            factors[i * n + j] = (float)given[i * n + j];
    return status;
}

static pal_status prepare_block(void *user, int thread, size_t block)
{
    reconstruct *r = user;
    (void)thread;
    pal_status status = find_order(r, block);
    return status ? status : factorise(r, block, r->problem.blocks == 1 ? r->problem.threads : 1);
}

static void order_targets(reconstruct *r)
{
    const reconstruct_problem *p = &r->problem;
    const size_t n = p->columns, per_block = p->rows / p->blocks;
    for (size_t row = 0; row < p->rows; row++) {
        const uint32_t *order = r->order + row / per_block * n;
        for (size_t c = 0; c < n; c++)
            r->targets[row * n + c] = p->targets[row * n + order[c]];
    }
}

static pal_status aim_piece(void *user, int thread, size_t i)
{
    reconstruct *r = user;
    const size_t n = r->problem.columns, dim = r->problem.dim;
    (void)thread;
    for (size_t u = r->pieces[i].first; u < r->pieces[i].first + r->pieces[i].count; u++)
        for (size_t j = u * dim; j < (u + 1) * dim; j++)
            for (size_t c = 0; c < n; c++)
                loops_add(r->aims + j * n, unit_moments(r, u) + c * n, r->targets[j * n + c], n);
    return PAL_OK;
}

pal_status reconstruct_new(const reconstruct_problem *problem, reconstruct **out)
{
    reconstruct *r = mem_zeroed(1, sizeof *r);
    if (!r)
        return fail_memory("reconstructing a layer");
    const reconstruct_problem *p = &r->problem;
    const size_t n = problem->columns, square = problem->blocks * n * n;
    const size_t normals = problem->dim * problem->entries * problem->entries;
    r->problem = *problem;
    r->units = p->rows / p->dim;
    pal_status status = cut(r);
    r->order = mem_array(p->blocks * n, sizeof *r->order);
    r->moments = mem_array(square, sizeof *r->moments);
    r->factors = mem_array(square, sizeof *r->factors);
    r->targets = mem_array(p->rows * n, sizeof *r->targets);
    r->indices = mem_zeroed(r->units * n, 1);
    r->tables = mem_array(p->tables * p->entries * p->dim, sizeof *r->tables);
    r->aims = mem_zeroed(p->rows * n, sizeof *r->aims);
    r->residuals = mem_zeroed(p->rows * n, sizeof *r->residuals);
    r->errors = mem_array(r->units, sizeof *r->errors);
    r->memory = mem_zeroed((size_t)p->threads, sizeof *r->memory);
    r->slots = (size_t)p->threads * SLOTS;
    r->slots = r->slots < r->piece_count ? r->slots : r->piece_count;
    r->normal = mem_array((r->slots + 1) * normals, sizeof *r->normal);
    r->slope = mem_array((r->slots + 1) * p->dim * p->entries, sizeof *r->slope);
    if (!status &&
        (!r->order || !r->moments || !r->factors || !r->targets || !r->indices || !r->tables ||
         !r->aims || !r->residuals || !r->errors || !r->memory || !r->normal || !r->slope))
        status = fail_memory("reconstructing a layer");
    for (int i = 0; !status && i < p->threads; i++)
        status = row_memory_init(&r->memory[i], p);
    const parallel_job blocks = {.user = r, .item = prepare_block};
    const parallel_job pieces = {.user = r, .item = aim_piece};
    if (!status)
        status = parallel_run(&blocks, p->blocks, p->threads);
    if (!status) {
        order_targets(r);
        status = parallel_run(&pieces, r->piece_count, p->threads);
    }
    if (status) {
        reconstruct_free(r);
        return status;
    }
    *out = r;
    return PAL_OK;
}

/* ---------------------------------------------------------------- solving */

/* A unit goes on from its indices, and from those of rounding anew, and keeps the better end. */
static pal_status improve_piece(void *user, int thread, size_t i)
{
    reconstruct *r = user;
    const piece *piece = &r->pieces[i];
    const size_t n = r->problem.columns;
    row_memory *m = &r->memory[thread];
    for (size_t u = piece->first; u < piece->first + piece->count; u++) {
        state kept = unit_kept(r, u, m), fresh = {m->trial, m->residual, m->errors};
        unit_measure(r, piece, u, &kept);
        const double before = unit_descend(r, piece, u, &kept);
        unit_round(r, piece, u, m->trial, m);
        unit_measure(r, piece, u, &fresh);
        const double after = unit_descend(r, piece, u, &fresh);
        if (after < before) {
            memcpy(kept.indices, fresh.indices, n);
            memcpy(kept.residual, fresh.residual, r->problem.dim * n * sizeof *kept.residual);
        }
        r->errors[u] = after < before ? after : before;
    }
    return PAL_OK;
}

static pal_status improve(reconstruct *r)
{
    const parallel_job job = {.user = r, .item = improve_piece};
    return parallel_run(&job, r->piece_count, r->problem.threads);
}

static void take_indices(reconstruct *r, const uint8_t *from)
{
    const size_t n = r->problem.columns, per_block = r->units / r->problem.blocks;
    for (size_t u = 0; u < r->units; u++)
        for (size_t c = 0; c < n; c++)
            r->indices[u * n + c] = from[u * n + r->order[u / per_block * n + c]];
}

static void give_indices(const reconstruct *r, uint8_t *to)
{
    const size_t n = r->problem.columns, per_block = r->units / r->problem.blocks;
    for (size_t u = 0; u < r->units; u++)
        for (size_t c = 0; c < n; c++)
            to[u * n + r->order[u / per_block * n + c]] = r->indices[u * n + c];
}

static size_t table_values(const reconstruct *r)
{
    return r->problem.tables * r->problem.entries * r->problem.dim;
}

pal_status reconstruct_solve(reconstruct *r, float *tables, uint8_t *indices)
{
    memcpy(r->tables, tables, table_values(r) * sizeof *tables);
    tables_sort(r);
    pal_status status = improve(r);
    for (int round = 0; !status && round < MOST_ROUNDS; round++) {
        const double before = reconstruct_error(r);
        status = refit_tables(r);
        if (!status && r->problem.free_scales)
            status = refit_scales(r);
        if (!status)
            status = improve(r);
        if (!(reconstruct_error(r) < (1 - WORTHWHILE) * before))
            break;
    }
    memcpy(tables, r->tables, table_values(r) * sizeof *tables);
    give_indices(r, indices);
    return status;
}

pal_status reconstruct_reassign(reconstruct *r, const float *tables, uint8_t *indices)
{
    memcpy(r->tables, tables, table_values(r) * sizeof *tables);
    take_indices(r, indices);
    tables_sort(r);
    pal_status status = improve(r);
    give_indices(r, indices);
    return status;
}
