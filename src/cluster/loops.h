/* The inner loops of linear algebra: y += a x. */
#ifndef PAL_CLUSTER_LOOPS_H
#define PAL_CLUSTER_LOOPS_H

#include <stddef.h>

void loops_add(float *to, const float *from, float times, size_t n);
void loops_add_double(double *to, const double *from, double times, size_t n);
/* to[i] += from[i] */
void loops_sum(float *to, const float *from, size_t n);

#endif
