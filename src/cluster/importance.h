/* What a value counts in clustering that has no importance of its own. */
#ifndef PAL_CLUSTER_IMPORTANCE_H
#define PAL_CLUSTER_IMPORTANCE_H

#include <stddef.h>

/* The least mass of one of `count` things that count `total` together. Were it 0, k-means would
 * leave those without importance wherever they come to lie. It is such that all of them count less
 * than single precision can tell from none, and that one of them is still far above what prefix
 * sums in double precision round off. */
static inline double least_mass(double total, size_t count)
{
    return total / (double)count * 0x1p-24;
}

#endif
