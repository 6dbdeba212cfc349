/* What batch norm does with a part of its elements: rows of as many columns as the part is wide,
 * each column with coefficients of its own. */
#ifndef PAL_ENGINE_OPS_BATCH_NORM_LOOPS_H
#define PAL_ENGINE_OPS_BATCH_NORM_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds that a result is kept within. */
typedef struct bounds {
    bool any;
    float low, high;
} bounds;

/* Where a part's elements are; NULL where there is no such thing. */
typedef struct part_data {
    const float *x, *g, *y, *added;
    float *to;
    bounds bounds;
} part_data;

static inline part_data part_from(part_data d, int64_t by)
{
    d.x = d.x ? d.x + by : NULL;
    d.g = d.g ? d.g + by : NULL;
    d.y = d.y ? d.y + by : NULL;
    d.added = d.added ? d.added + by : NULL;
    d.to = d.to ? d.to + by : NULL;
    return d;
}

/* Numbers of a channel, by column: y = (x - centre) factor + shift, and on the way back
 * dx = (g - mean_g - (x - centre) slope) factor. */
typedef struct coefficients {
    float *centre, *factor, *shift, *mean_g, *slope;
} coefficients;

static inline coefficients columns_from(coefficients k, int64_t c)
{
    return (coefficients){k.centre + c, k.factor + c, k.shift + c, k.mean_g + c, k.slope + c};
}

/* Sums by column. sum_x: first = sum x. sum_squares: first = sum (x - centre)^2. The others:
 * first = sum g, second = sum g (x - centre), where for sum_bounded_g and sum_kept_g g is zero if y
 * reached a bound; the one computes y anew, the other reads it and writes g with its zeros. */
typedef void sum_function(int64_t rows, int64_t width, part_data d, coefficients k, float *first,
                          float *second);
sum_function sum_x, sum_squares, sum_g, sum_bounded_g, sum_kept_g;

/* Results: y, or y + added, within bounds; dx, with zeros of g or without; the same with given
 * statistics, where it is g factor. */
typedef void result_function(int64_t rows, int64_t width, part_data d, coefficients k);
result_function result_plain, result_added;
result_function result_back, result_back_bounded, result_fixed, result_fixed_bounded;

#endif
