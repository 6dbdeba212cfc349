#include "method/train/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* From 1 to 0 while `part` goes from 0 to 1. */
static double half_cosine(double part)
{
    return 0.5 * (1 + cos(pi * part));
}

/* Up from 1/25 of the rate in the first three tenths, down to 1/250,000, as PyTorch's OneCycleLR.
 */
static double one_cycle(double step, double steps)
{
    static const double begin = 1.0 / 25, end = 1.0 / 250000;
    const double top = fmax(0.3 * steps - 1, 0), last = fmax(steps - 1, 1);
    if (step < top)
        return begin + (1 - begin) * (1 - half_cosine(step / top));
    return end + (1 - end) * half_cosine((step - top) / (last - top));
}

double schedule_lr(const recipe *recipe, uint64_t step, uint64_t steps)
{
    const double warm = recipe->warmup * (double)steps, at = (double)step + 1;
    const double part = ((double)step - warm) / fmax((double)steps - warm, 1);
    if (recipe->schedule == SCHEDULE_ONE_CYCLE)
        return recipe->lr * one_cycle((double)step, (double)steps);
    if (at < warm)
        return recipe->lr * at / warm;
    switch (recipe->schedule) {
    case SCHEDULE_COSINE: return recipe->lr * half_cosine(fmax(part, 0));
    case SCHEDULE_STEP: return recipe->lr * (part < 0.5 ? 1 : part < 0.75 ? 0.1 : 0.01);
    default: return recipe->lr;
    }
}

double schedule_tau(const recipe *recipe, uint64_t step, uint64_t steps)
{
    const double part = steps > 1 ? (double)step / (double)(steps - 1) : 1;
    return recipe->tau * pow(recipe->tau_end / recipe->tau, part);
}
