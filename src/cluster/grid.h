/* The values that a stored centroid can take.
 *
 * A centroid is written in the weight's own type, so clustering chooses among the numbers of that
 * type: grid_round() gives the nearest one to a double. It runs in the innermost loop of the
 * optimiser, hence inline arithmetic without conversions or branches. */
#ifndef PAL_CLUSTER_GRID_H
#define PAL_CLUSTER_GRID_H

#include "base/half.h"

typedef enum grid {
    GRID_FLOAT16,
    GRID_BFLOAT16,
    GRID_FLOAT32,
} grid;

/* Nearest float16 for |x| <= 65504; of two equally near ones, either. Veltkamp's splitting keeps
 * the upper 11 of 53 bits; subnormals are multiples of 2^-24. */
static inline double grid_round_f16(double x)
{
    double scaled = x * (0x1p42 + 1);
    double normal = scaled - (scaled - x);
    double subnormal = (x + 0x1.8p28) - 0x1.8p28;
    return __builtin_fabs(x) < 0x1p-14 ? subnormal : normal;
}

/* Nearest bfloat16: 8 bits; subnormals are multiples of 2^-133. */
static inline double grid_round_bf16(double x)
{
    double scaled = x * (0x1p45 + 1);
    double normal = scaled - (scaled - x);
    double subnormal = (x + 0x1.8p-81) - 0x1.8p-81;
    return __builtin_fabs(x) < 0x1p-126 ? subnormal : normal;
}

static inline double grid_round(grid grid, double x)
{
    switch (grid) {
    case GRID_FLOAT16: return grid_round_f16(x);
    case GRID_BFLOAT16: return grid_round_bf16(x);
    case GRID_FLOAT32: return (double)(float)x;
    }
    return x;
}

#endif
