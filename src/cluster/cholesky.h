/* Symmetric positive definite systems. Sums are taken in an order that does not depend on the
 * number of threads. */
#ifndef PAL_CLUSTER_CHOLESKY_H
#define PAL_CLUSTER_CHOLESKY_H

#include <stddef.h>

#include "base/status.h"

/* In place: of a symmetric matrix, of which the lower triangle is read, the lower triangular L with
 * L L^T = a. What lies above the diagonal is left alone. A pivot that is not above `least` (what is
 * left of the diagonal is rounding error) is taken for `least`, so that this always succeeds. */
pal_status cholesky(double *a, size_t n, double least, int threads);

/* x := a^-1 x, of L; x is [n, count], a right-hand side in each column. */
void cholesky_solve(const double *l, size_t n, double *x, size_t count);

#endif
