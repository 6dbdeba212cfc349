/* Layer-wise reconstruction against exhaustive search, against rounding with feedback as GPTQ
 * writes it down (by the inverse of H), and against small steps away from its result. */
#include "testing.h"

#include "cluster/cholesky.h"
#include "cluster/reconstruct/state.h"

static double uniform(uint64_t *seed)
{
    return 2 * random_unit(seed) - 1;
}

/* ---------------------------------------------------------------- equations */

static void random_moments(double *h, size_t n, size_t samples, uint64_t *seed)
{
    memset(h, 0, n * n * sizeof *h);
    for (size_t s = 0; s < samples; s++) {
        double x[256], common = uniform(seed);
        for (size_t i = 0; i < n; i++)
            x[i] = uniform(seed) * (1 + (double)(i % 3)) + common;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                h[i * n + j] += x[i] * x[j] / (double)samples;
    }
}

static void cholesky_gives_the_matrix_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 63, 64, 65, 130, 200};
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t n = sizes[i];
        double *a = calloc(n * n, sizeof *a), *l = calloc(n * n, sizeof *l);
        double *x = calloc(n * 3, sizeof *x), *y = calloc(n * 3, sizeof *y);
        random_moments(a, n, 2 * n + 5, &seed);
        memcpy(l, a, n * n * sizeof *a);
        assert_ok(cholesky(l, n, 0, 1));
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c <= r; c++) {
                double sum = 0;
                for (size_t k = 0; k <= c; k++)
                    sum += l[r * n + k] * l[c * n + k];
                assert_true(fabs(sum - a[r * n + c]) < 1e-12 * (double)n);
            }
        for (size_t k = 0; k < n * 3; k++)
            x[k] = y[k] = uniform(&seed);
        cholesky_solve(l, n, x, 3);
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < 3; c++) {
                double sum = 0;
                for (size_t k = 0; k < n; k++)
                    sum += a[r * n + k] * x[k * 3 + c];
                assert_true(fabs(sum - y[r * 3 + c]) < 1e-8);
            }
        double *other = calloc(n * n, sizeof *other);
        memcpy(other, a, n * n * sizeof *a);
        assert_ok(cholesky(other, n, 0, 3));
        for (size_t r = 0; r < n; r++)
            assert_memory_equal(other + r * n, l + r * n, (r + 1) * sizeof *l);
        free(a);
        free(l);
        free(x);
        free(y);
        free(other);
    }
}

/* ---------------------------------------------------------------- problems */

typedef struct trial {
    reconstruct_problem problem;
    float *targets, *scales, *tables;
    double *weights, *moments; /* the latter as they were */
    uint8_t *indices;
    reconstruct *r;
} trial;

static void trial_init(trial *t, const reconstruct_problem *shape, uint64_t *seed)
{
    *t = (trial){.problem = *shape};
    reconstruct_problem *p = &t->problem;
    const size_t square = p->columns * p->columns;
    t->targets = calloc(p->rows * p->columns, sizeof *t->targets);
    t->scales = calloc(p->rows, sizeof *t->scales);
    t->weights = calloc(p->rows, sizeof *t->weights);
    t->moments = calloc(p->blocks * square, sizeof *t->moments);
    t->tables = calloc(p->tables * p->entries * p->dim, sizeof *t->tables);
    t->indices = calloc(p->rows / p->dim * p->columns, 1);
    for (size_t i = 0; i < p->rows * p->columns; i++)
        t->targets[i] = (float)uniform(seed);
    for (size_t r = 0; r < p->rows; r++) {
        t->scales[r] = (float)(1 + 0.5 * uniform(seed));
        t->weights[r] = 1.5 + uniform(seed);
    }
    for (size_t b = 0; b < p->blocks; b++)
        random_moments(t->moments + b * square, p->columns, 3 * p->columns, seed);
    for (size_t i = 0; i < p->tables; i++)
        for (size_t k = 0; k < p->entries * p->dim; k++)
            t->tables[i * p->entries * p->dim + k] =
                p->dim == 1 ? -1 + 2 * ((float)k + 0.5F) / (float)p->entries : (float)uniform(seed);
    double *used = calloc(p->blocks * square, sizeof *used);
    memcpy(used, t->moments, p->blocks * square * sizeof *used);
    p->targets = t->targets;
    p->weights = t->weights;
    p->scales = t->scales;
    p->moments = used;
    assert_ok(reconstruct_new(p, &t->r));
    free(used);
}

static void trial_free(trial *t)
{
    reconstruct_free(t->r);
    free(t->targets);
    free(t->scales);
    free(t->weights);
    free(t->moments);
    free(t->tables);
    free(t->indices);
}

/* The error from its definition, with one entry of the tables moved by `step`. */
static double error_of(const trial *t, const uint8_t *indices, size_t moved, double step)
{
    const reconstruct_problem *p = &t->problem;
    double error = 0;
    for (size_t r = 0; r < p->rows; r++) {
        const double *h = t->moments + r / (p->rows / p->blocks) * p->columns * p->columns;
        double e[256];
        for (size_t c = 0; c < p->columns; c++) {
            const size_t index = indices[r / p->dim * p->columns + c];
            const size_t at =
                (r / (p->rows / p->tables) * p->entries + index) * p->dim + r % p->dim;
            const double entry = (double)t->tables[at] + (at == moved ? step : 0);
            e[c] = (double)t->scales[r] * entry - (double)t->targets[r * p->columns + c];
        }
        for (size_t i = 0; i < p->columns; i++)
            for (size_t j = 0; j < p->columns; j++)
                error += t->weights[r] * e[i] * h[i * p->columns + j] * e[j];
    }
    return error;
}

/* The least error of all choices of indices for these tables, one unit after the other. */
static double exhaustive(const trial *t)
{
    const reconstruct_problem *p = &t->problem;
    const size_t units = p->rows / p->dim, n = p->columns;
    uint8_t *indices = calloc(units * n, 1);
    double least = 0;
    for (size_t u = 0; u < units; u++) { /* the others stay at 0 and add a constant */
        size_t choices = 1;
        double best = INFINITY;
        for (size_t c = 0; c < n; c++)
            choices *= p->entries;
        memset(indices, 0, units * n);
        const double before = error_of(t, indices, SIZE_MAX, 0);
        for (size_t choice = 0; choice < choices; choice++) {
            for (size_t c = 0, left = choice; c < n; c++, left /= p->entries)
                indices[u * n + c] = (uint8_t)(left % p->entries);
            best = fmin(best, error_of(t, indices, SIZE_MAX, 0));
        }
        least += best - (u ? before : 0);
    }
    free(indices);
    return least;
}

static const reconstruct_problem SMALL = {
    .rows = 4, .columns = 4, .blocks = 1, .dim = 1, .tables = 1, .entries = 4, .threads = 1};

/* Of small problems the search finds the optimum mostly, and is never far from it; the error that
 * it tells is that of its indices. */
static void indices_are_near_the_optimum(void **state)
{
    (void)state;
    uint64_t seed = 2;
    int optimal = 0;
    double found = 0, least = 0;
    for (int i = 0; i < 60; i++) {
        trial t;
        reconstruct_problem shape = SMALL;
        shape.dim = i % 3 == 2 ? 2 : 1;
        shape.blocks = i % 2 ? 2 : 1;
        trial_init(&t, &shape, &seed);
        assert_ok(reconstruct_reassign(t.r, t.tables, t.indices));
        const double error = error_of(&t, t.indices, SIZE_MAX, 0), best = exhaustive(&t);
        assert_true(fabs(error - reconstruct_error(t.r)) < 1e-4 * error + 1e-9);
        assert_true(error > best - 1e-6);
        optimal += error < best * (1 + 1e-5) + 1e-9;
        found += error;
        least += best;
        trial_free(&t);
    }
    assert_true(optimal >= 36);
    assert_true(found < 1.05 * least);
}

/* With a diagonal H columns do not meet: every index is that of the nearest entry. */
static void without_correlation_entries_are_nearest(void **state)
{
    (void)state;
    uint64_t seed = 3;
    trial t;
    reconstruct_problem shape = SMALL;
    shape.rows = 6;
    shape.columns = 20;
    trial_init(&t, &shape, &seed);
    reconstruct_free(t.r);
    for (size_t i = 0; i < 20; i++)
        for (size_t j = 0; j < 20; j++)
            t.moments[i * 20 + j] = i == j ? 1 + (double)i : 0;
    double used[400];
    memcpy(used, t.moments, sizeof used);
    t.problem.moments = used;
    assert_ok(reconstruct_new(&t.problem, &t.r));
    assert_ok(reconstruct_reassign(t.r, t.tables, t.indices));
    for (size_t r = 0; r < 6; r++)
        for (size_t c = 0; c < 20; c++) {
            const float want = t.targets[r * 20 + c];
            const float got = fabsf(t.scales[r] * t.tables[t.indices[r * 20 + c]] - want);
            for (unsigned k = 0; k < 4; k++)
                assert_true(got <= fabsf(t.scales[r] * t.tables[k] - want) + 1e-6F);
        }
    trial_free(&t);
}

/* GPTQ as published: column by column, the error over H^-1's diagonal goes, times H^-1's row, into
 * the columns not yet rounded, and the column leaves H^-1. */
static void gptq(const trial *t, size_t row, uint8_t *indices)
{
    const size_t n = t->problem.columns;
    double inverse[32 * 32], l[32 * 32], w[32];
    memcpy(l, t->moments, n * n * sizeof *l);
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        trace += l[i * n + i];
    for (size_t i = 0; i < n; i++)
        l[i * n + i] += (t->problem.damping + 1e-7) * trace / (double)n;
    memset(inverse, 0, sizeof inverse);
    for (size_t i = 0; i < n; i++)
        inverse[i * n + i] = 1;
    assert_ok(cholesky(l, n, 0, 1));
    cholesky_solve(l, n, inverse, n);
    for (size_t c = 0; c < n; c++)
        w[c] = (double)t->targets[row * n + c];
    bool done[32] = {false};
    for (size_t step = 0; step < n; step++) {
        size_t at = SIZE_MAX; /* the largest curvature that is left */
        for (size_t c = 0; c < n; c++)
            if (!done[c] && (at == SIZE_MAX || t->moments[c * n + c] > t->moments[at * n + at]))
                at = c;
        double best = INFINITY, q = 0;
        for (unsigned k = 0; k < t->problem.entries; k++) {
            const double entry = (double)t->scales[row] * (double)t->tables[k];
            if (fabs(entry - w[at]) < best) {
                best = fabs(entry - w[at]);
                indices[at] = (uint8_t)k;
                q = entry;
            }
        }
        const double error = (w[at] - q) / inverse[at * n + at];
        double gone[32];
        memcpy(gone, inverse + at * n, n * sizeof *gone);
        for (size_t c = 0; c < n; c++)
            if (!done[c])
                w[c] -= error * gone[c];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                inverse[i * n + j] -= gone[i] * gone[j] / gone[at];
        done[at] = true;
    }
}

static void rounding_is_that_of_gptq(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int i = 0; i < 20; i++) {
        trial t;
        reconstruct_problem shape = SMALL;
        shape.columns = 32;
        shape.damping = 0.01;
        trial_init(&t, &shape, &seed);
        memcpy(t.r->tables, t.tables, 4 * sizeof *t.tables);
        for (size_t u = 0; u < shape.rows; u++) {
            uint8_t ours[32], published[32];
            const piece piece = {u, 1, 0};
            unit_round(t.r, &piece, u, ours, &t.r->memory[0]);
            gptq(&t, u, published);
            for (size_t c = 0; c < 32; c++)
                assert_int_equal(ours[c], published[t.r->order[c]]);
        }
        trial_free(&t);
    }
}

/* After solving neither an entry nor a scale nor an index can be moved to advantage, and rounding
 * to the nearest entries of the tables at the start is beaten. */
static void solutions_are_stationary(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (int i = 0; i < 12; i++) {
        trial t;
        reconstruct_problem shape = SMALL;
        shape.rows = 16;
        shape.columns = 24;
        shape.damping = 0.01;
        shape.dim = i % 3 == 0 ? 2 : 1;
        shape.tables = i % 2 ? 4 : 1;
        shape.blocks = i % 4 < 2 ? 1 : 2;
        shape.free_scales = i >= 6;
        trial_init(&t, &shape, &seed);
        assert_ok(reconstruct_reassign(t.r, t.tables, t.indices));
        const double before = error_of(&t, t.indices, SIZE_MAX, 0);
        assert_ok(reconstruct_solve(t.r, t.tables, t.indices));
        const double error = error_of(&t, t.indices, SIZE_MAX, 0);
        assert_true(error < before);
        assert_true(fabs(error - reconstruct_error(t.r)) < 1e-4 * error);
        const size_t entries = shape.tables * shape.entries * shape.dim;
        for (size_t k = 0; k < entries; k++) {
            assert_true(error_of(&t, t.indices, k, 0.1) > error * (1 - 1e-6));
            assert_true(error_of(&t, t.indices, k, -0.1) > error * (1 - 1e-6));
        }
        const size_t count = shape.rows / shape.dim * shape.columns;
        for (size_t at = 0; at < count; at++) {
            const uint8_t kept = t.indices[at];
            for (unsigned k = 0; k < shape.entries; k++) {
                t.indices[at] = (uint8_t)k;
                assert_true(error_of(&t, t.indices, SIZE_MAX, 0) > error * (1 - 1e-5));
            }
            t.indices[at] = kept;
        }
        trial_free(&t);
    }
}

/* One table of many pieces, and many tables of a few or of one; of these there is no room for the
 * sums of all at a time. */
static void threads_make_no_difference(void **state)
{
    (void)state;
    static const size_t tables[] = {1, 8, 48};
    for (size_t c = 0; c < 6; c++) {
        trial t[2];
        for (int i = 0; i < 2; i++) {
            uint64_t seed = 6;
            reconstruct_problem shape = SMALL;
            shape.rows = 96;
            shape.columns = 40;
            shape.dim = 1 + c / 3;
            shape.tables = tables[c % 3];
            shape.free_scales = true;
            shape.threads = i ? 3 : 1;
            trial_init(&t[i], &shape, &seed);
            assert_true(t[i].r->slots < t[i].r->piece_count);
            assert_ok(reconstruct_solve(t[i].r, t[i].tables, t[i].indices));
        }
        const size_t entries = 4 * tables[c % 3] * (1 + c / 3);
        assert_memory_equal(t[0].tables, t[1].tables, entries * sizeof(float));
        assert_memory_equal(t[0].scales, t[1].scales, 96 * sizeof(float));
        assert_memory_equal(t[0].indices, t[1].indices, 96 / (1 + c / 3) * 40);
        trial_free(&t[0]);
        trial_free(&t[1]);
    }
}

/* Inputs that are always 0, or always the same: H is singular. */
static void singular_moments_do_no_harm(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int i = 0; i < 3; i++) {
        trial t;
        reconstruct_problem shape = SMALL;
        trial_init(&t, &shape, &seed);
        reconstruct_free(t.r);
        for (size_t a = 0; a < 4; a++)
            for (size_t b = 0; b < 4; b++)
                t.moments[a * 4 + b] = i == 0 ? 0 : i == 1 ? 1 : a == 2 || b == 2 ? 0 : 0.5;
        double used[16];
        memcpy(used, t.moments, sizeof used);
        t.problem.moments = used;
        assert_ok(reconstruct_new(&t.problem, &t.r));
        assert_ok(reconstruct_solve(t.r, t.tables, t.indices));
        for (unsigned k = 0; k < 4; k++)
            assert_true(isfinite(t.tables[k]) && fabsf(t.tables[k]) < 100);
        assert_true(isfinite(reconstruct_error(t.r)));
        trial_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cholesky_gives_the_matrix_back),
        cmocka_unit_test(indices_are_near_the_optimum),
        cmocka_unit_test(without_correlation_entries_are_nearest),
        cmocka_unit_test(rounding_is_that_of_gptq),
        cmocka_unit_test(solutions_are_stationary),
        cmocka_unit_test(threads_make_no_difference),
        cmocka_unit_test(singular_moments_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
