#include "cluster/cholesky.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/loops.h"

enum {
    PANEL = 64, /* columns that are finished at once */
    ROWS = 32,  /* rows of what is left that one thread takes */
};

typedef struct elimination {
    double *a;
    size_t n, first, width;
    double *panel; /* the finished columns as rows: [PANEL, n] */
} elimination;

/* The columns of the panel, in their own rows. */
static void finish_corner(elimination *e, double least)
{
    double *a = e->a + e->first * e->n + e->first;
    for (size_t i = 0; i < e->width; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * e->n + j];
            for (size_t k = 0; k < j; k++)
                sum -= a[i * e->n + k] * a[j * e->n + k];
            if (i == j)
                a[i * e->n + i] = sqrt(sum > least ? sum : least);
            else
                a[i * e->n + j] = sum / a[j * e->n + j];
        }
}

/* The panel's columns in rows below it. */
static pal_status finish_rows(void *user, int thread, size_t item)
{
    elimination *e = user;
    const size_t begin = e->first + e->width + item * ROWS;
    const size_t end = begin + ROWS < e->n ? begin + ROWS : e->n;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        double *row = e->a + i * e->n + e->first;
        for (size_t j = 0; j < e->width; j++) {
            const double *of = e->a + (e->first + j) * e->n + e->first;
            double sum = row[j];
            for (size_t k = 0; k < j; k++)
                sum -= row[k] * of[k];
            row[j] = sum / of[j];
            e->panel[j * e->n + i] = row[j];
        }
    }
    return PAL_OK;
}

/* What is left, to the right of the panel. */
static pal_status reduce_rows(void *user, int thread, size_t item)
{
    elimination *e = user;
    const size_t left = e->first + e->width, begin = left + item * ROWS;
    const size_t end = begin + ROWS < e->n ? begin + ROWS : e->n;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        double *row = e->a + i * e->n;
        for (size_t k = 0; k < e->width; k++)
            loops_add_double(row + left, e->panel + k * e->n + left, -row[e->first + k],
                             i + 1 - left);
    }
    return PAL_OK;
}

pal_status cholesky(double *a, size_t n, double least, int threads)
{
    elimination e = {.a = a, .n = n};
    e.panel = mem_array((size_t)PANEL * (n ? n : 1), sizeof *e.panel);
    if (!e.panel)
        return fail_memory("solving equations");
    const parallel_job finish = {.user = &e, .item = finish_rows};
    const parallel_job reduce = {.user = &e, .item = reduce_rows};
    pal_status status = PAL_OK;
    for (; !status && e.first < n; e.first += PANEL) {
        e.width = n - e.first < PANEL ? n - e.first : PANEL;
        finish_corner(&e, least);
        const size_t below = n - e.first - e.width, items = (below + ROWS - 1) / ROWS;
        status = parallel_run(&finish, items, items > 2 ? threads : 1);
        if (!status)
            status = parallel_run(&reduce, items, items > 2 ? threads : 1);
    }
    free(e.panel);
    return status;
}

void cholesky_solve(const double *l, size_t n, double *x, size_t count)
{
    for (size_t i = 0; i < n; i++) {
        double *to = x + i * count;
        for (size_t k = 0; k < i; k++)
            loops_add_double(to, x + k * count, -l[i * n + k], count);
        for (size_t c = 0; c < count; c++)
            to[c] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        double *from = x + i * count;
        for (size_t c = 0; c < count; c++)
            from[c] /= l[i * n + i];
        for (size_t k = 0; k < i; k++)
            loops_add_double(x + k * count, from, -l[i * n + k], count);
    }
}
