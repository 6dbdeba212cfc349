/* Distinct values of a buffer, in ascending order, with how often (or with how much importance)
 * each occurs.
 *
 * This is what makes the scalar algorithms cheap: float16 and bfloat16 have at most 65,536 values,
 * so that a histogram, one pass over the weights, is all that clustering ever reads of them. */
#ifndef PAL_CLUSTER_BINS_H
#define PAL_CLUSTER_BINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "cluster/grid.h"

/* All arrays have `count` entries, and room for more: a bins is reused from one buffer to the next.
 * Start from {0}. -0 counts as 0. */
typedef struct bins {
    size_t count;
    double *value;     /* ascending, distinct */
    double *mass;      /* > 0: occurrences, or summed importance */
    double *times;     /* occurrences; the same array as mass when there is no importance */
    uint16_t *pattern; /* 16-bit types: the bit pattern of value; -0 has the pattern of 0 here */
    size_t capacity;
    double *times_storage;
    uint32_t *histogram; /* 65,536 zeros between uses, */
    uint32_t counted;    /* which none of them is above, */
    double *carried;     /* and what they could not hold; NULL until so many values come */
    double *importance_sums;
    uint64_t *occupied; /* one bit for each pattern */
    uint32_t *sort[2];  /* float32: keys being sorted */
    float *sort_importance[2];
    size_t sort_capacity;
} bins;

void bins_free(bins *bins);

/* Fills `bins` from n >= 1 values of the grid's type (uint16_t or float). `importance` may be NULL.
 * PAL_ERROR_VALUE names the first index that holds no finite value, or an importance that is
 * negative or not finite. A value whose importances are all 0, or nearly, gets the mass of
 * importance.h; if there is no importance at all, masses are occurrences. */
pal_status bins_fill(bins *bins, grid grid, const void *values, const float *importance, size_t n);

/* The same for values of a 16-bit type that come in pieces, each with its importances: begin, add
 * as often as needed, end. Importances must be finite and >= 0. */
pal_status bins_begin(bins *bins);
pal_status bins_add(bins *bins, const uint16_t *values, const float *importance, size_t n);
/* PAL_ERROR_VALUE if a value was not finite. */
pal_status bins_end(bins *bins, grid grid);

#endif
