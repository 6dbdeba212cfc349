/* Sensitivities of a model's weights: in memory, and as a file. */
#ifndef PAL_METHOD_SENSITIVITY_H
#define PAL_METHOD_SENSITIVITY_H

#include "base/status.h"

typedef struct weight_sensitivity {
    char *name;
    size_t rank;
    uint64_t shape[PAL_MAX_RANK], elements;
    float *values; /* scratch memory */
} weight_sensitivity;

struct pal_sensitivity {
    weight_sensitivity *weights;
    size_t count, capacity;
};

/* Those of a weight, in its order; NULL where there are none. */
const float *sensitivity_of(const pal_sensitivity *sensitivity, const pal_weight *weight);

/* Makes room for those of a weight, zeroed. */
pal_status sensitivity_add(pal_sensitivity *sensitivity, const pal_weight *weight, float **values);

/* Those that are drawn towards their mean within each weight, which also becomes 1: shrinkage 1
 * makes all equal, 0 keeps their ratios. */
pal_status sensitivity_shrink(const pal_sensitivity *from, double shrinkage, pal_sensitivity **out);
/* Where there is nothing to choose a shrinkage by. */
#define DEFAULT_SHRINKAGE 0.7

#endif
