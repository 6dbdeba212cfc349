#include "cluster/importance.h"

#include <math.h>

static double sum_of(const float *importance, size_t count)
{
    double total = 0;
    for (size_t i = 0; i < count; i++)
        total += (double)importance[i];
    return total;
}

bool importance_suffices(const float *importance, size_t count)
{
    if (!importance)
        return true;
    const double total = sum_of(importance, count), least = least_mass(total, count);
    bool enough = total > 0;
    for (size_t i = 0; i < count; i++)
        enough &= (double)importance[i] >= least;
    return enough;
}

/* The unit makes the mean about 1, so that single precision holds the least mass whatever the
 * importances were; a trifle more than that mass suffices for the larger sum, too. */
void importance_lift(float *importance, size_t count)
{
    const double total = sum_of(importance, count), least = least_mass(total, count);
    const double unit = total > 0 ? ldexp(1, -ilogb(total / (double)count)) : 1;
    for (size_t i = 0; i < count; i++)
        importance[i] =
            total > 0 ? (float)(fmax((double)importance[i], least * (1 + 0x1p-20)) * unit) : 1;
}
