#include "cluster/loops.h"

#include "base/variants.h"

VARIANT_BODY void loops_add_body(float *restrict to, const float *restrict from, float times,
                                 size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += times * from[i];
}

VARIANTS(void, loops_add, (float *to, const float *from, float times, size_t n),
         (to, from, times, n))

VARIANT_BODY void loops_add_double_body(double *restrict to, const double *restrict from,
                                        double times, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += times * from[i];
}

VARIANTS(void, loops_add_double, (double *to, const double *from, double times, size_t n),
         (to, from, times, n))

VARIANT_BODY void loops_sum_body(float *restrict to, const float *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

VARIANTS(void, loops_sum, (float *to, const float *from, size_t n), (to, from, n))
