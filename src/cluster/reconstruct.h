/* Tables and indices that keep what a layer computes, rather than its weights.
 *
 * A layer's rows (output channels) are multiplied with inputs x of which the second moments H = sum
 * x x^T are known. Quantized rows q = scale * entry[index] are to make
 *
 *     sum over rows of weight * (q - t) H (q - t)^T
 *
 * small, t the row that is aimed at. Three steps alternate, none of which makes it larger:
 *
 *   - indices anew by rounding with feedback (GPTQ, arXiv 2210.17323; on a table, GPTVQ, arXiv
 *     2402.15319): with H = L L^T, columns in ascending order of curvature, the error is the sum of
 *     squares of L^T (q - t), a triangular system, which is gone through from its last column (the
 *     one of largest curvature) to the first; each is rounded to what makes up best for the errors
 *     before it. A unit takes the result if it beats what it had;
 *   - coordinate descent: one index at a time takes its best value, until none changes;
 *   - the table, and if they are free the rows' scales, by least squares for these indices.
 *
 * Vectors: `dim` consecutive rows share an index; a column of such a unit is one vector.
 * Deterministic: units are independent, and sums over them are taken in fixed pieces. */
#ifndef PAL_CLUSTER_RECONSTRUCT_H
#define PAL_CLUSTER_RECONSTRUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct reconstruct_problem {
    size_t rows, columns;
    size_t blocks;         /* of rows / blocks consecutive rows, each with an H of its own */
    size_t dim;            /* divides the rows of a block and of a table */
    size_t tables;         /* each of rows / tables consecutive rows */
    unsigned entries;      /* of a table; at most 256 */
    bool free_scales;      /* scales are for us to choose; otherwise as given */
    double damping;        /* added to the diagonal of H when errors are fed back: times its mean */
    const float *targets;  /* [rows, columns] */
    const double *weights; /* [rows] */
    double *moments;       /* [blocks, columns, columns], symmetric; used up: free after new() */
    float *scales;         /* [rows], > 0; in and out */
    int threads;
} reconstruct_problem;

typedef struct reconstruct reconstruct;

/* The problem's arrays must outlive it, but for the moments. */
pal_status reconstruct_new(const reconstruct_problem *problem, reconstruct **out);
void reconstruct_free(reconstruct *r);

/* From tables [tables, entries, dim] that are a reasonable start (k-means, weighted by the diagonal
 * of H) to better ones, and their indices [rows / dim, columns]. */
pal_status reconstruct_solve(reconstruct *r, float *tables, uint8_t *indices);
/* The best indices that can be found for tables as they are (of scalars: ascending), not worse than
 * those given. */
pal_status reconstruct_reassign(reconstruct *r, const float *tables, uint8_t *indices);
/* The error after either. */
double reconstruct_error(const reconstruct *r);

#endif
