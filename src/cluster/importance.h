/* What a thing counts in clustering that has no importance of its own. Were it 0, k-means would
 * leave such things wherever they come to lie. */
#ifndef PAL_CLUSTER_IMPORTANCE_H
#define PAL_CLUSTER_IMPORTANCE_H

#include <stdbool.h>
#include <stddef.h>

/* The least mass of one of `count` things that count `total` together. All of this mass together
 * count less than single precision can tell from nothing, and one of them is still far above what
 * sums in double precision round off. */
static inline double least_mass(double total, size_t count)
{
    return total / (double)count * 0x1p-24;
}

/* Whether all of `count` >= 1 importances have the least mass; NULL, which means all ones, has. */
bool importance_suffices(const float *importance, size_t count);
/* Gives it to those below; all ones where nothing has any. They may come out in other units. */
void importance_lift(float *importance, size_t count);

#endif
