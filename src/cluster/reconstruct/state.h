/* What the steps of reconstruct.h share. Columns are in ascending order of curvature here. */
#ifndef PAL_CLUSTER_RECONSTRUCT_STATE_H
#define PAL_CLUSTER_RECONSTRUCT_STATE_H

#include "cluster/reconstruct.h"

enum { RECONSTRUCT_MOST_DIM = 64, RECONSTRUCT_MOST_ENTRIES = 256 };

/* A run of units under one table: what one thread takes. */
typedef struct piece {
    size_t first, count; /* units */
    size_t table;
} piece;

struct reconstruct {
    reconstruct_problem problem;
    size_t units;
    uint32_t *order;  /* [blocks, columns]: the column that stands at each place */
    float *moments;   /* [blocks, columns, columns] */
    float *factors;   /* [blocks, columns, columns]: L */
    float *targets;   /* [rows, columns] */
    uint8_t *indices; /* [units, columns] */
    float *tables;    /* [tables, entries, dim]; scalars ascending */
    float *aims;      /* [rows, columns]: H t */
    float *residuals; /* [rows, columns]: H (q - t) of each unit's indices */
    double *errors;   /* by unit */
    piece *pieces;
    size_t piece_count;
    struct row_memory *memory; /* by thread */
    size_t slots;              /* pieces whose sums there is room for at a time */
    double *normal, *slope;    /* by slot, and of a table behind them: [dim, entries, entries] and
                                  [dim, entries] */
};

/* Working memory of one thread. */
typedef struct row_memory {
    float *residual;  /* [dim, columns]: H (q - t) of a unit on trial */
    float *errors;    /* [dim, columns]: q - t of a unit at work */
    float *pulls;     /* [dim, columns]: errors fed back */
    float *spread;    /* [entries, columns] */
    uint8_t *trial;   /* [columns] */
    double *gathered; /* [entries, entries] */
} row_memory;

/* H of a unit, or its L. */
static inline const float *unit_moments(const reconstruct *r, size_t unit)
{
    const size_t n = r->problem.columns;
    return r->moments + unit / (r->units / r->problem.blocks) * n * n;
}

static inline const float *unit_factor(const reconstruct *r, size_t unit)
{
    const size_t n = r->problem.columns;
    return r->factors + unit / (r->units / r->problem.blocks) * n * n;
}

pal_status row_memory_init(row_memory *memory, const reconstruct_problem *problem);
void row_memory_free(row_memory *memory);

/* ---------------------------------------------------------------- rows.c */

/* A unit's indices with what follows from them. */
typedef struct state {
    uint8_t *indices;
    float *residual; /* [dim, columns]: H (q - t) */
    float *errors;   /* [dim, columns]: q - t */
} state;

/* The two that follow from the indices; the error. */
double unit_measure(const reconstruct *r, const piece *piece, size_t unit, state *state);
/* Indices by rounding with feedback. */
void unit_round(const reconstruct *r, const piece *piece, size_t unit, uint8_t *indices,
                row_memory *memory);
/* Coordinate descent; the error then. */
double unit_descend(const reconstruct *r, const piece *piece, size_t unit, state *state);
/* The state of the unit as it is kept, but for its errors, in the thread's memory. */
state unit_kept(const reconstruct *r, size_t unit, const row_memory *memory);

/* ---------------------------------------------------------------- refit.c */

/* Tables by least squares, from residuals that are up to date; afterwards they and the units'
 * errors are not. Free scales likewise, which brings residuals up to date. */
pal_status refit_tables(reconstruct *r);
pal_status refit_scales(reconstruct *r);
void tables_sort(reconstruct *r);

#endif
