/* The values that a stored centroid can take.
 *
 * A centroid is written in the weight's own type, so clustering chooses among the numbers of that
 * type: grid_round() gives the nearest one to a double. It runs in the innermost loop of the
 * optimiser, hence inline arithmetic without conversions or branches. */
#ifndef PAL_CLUSTER_GRID_H
#define PAL_CLUSTER_GRID_H

#include <stdbool.h>
#include <stddef.h>

#include "base/half.h"
#include "palettize.h"

typedef enum grid {
    GRID_FLOAT16,
    GRID_BFLOAT16,
    GRID_FLOAT32,
    GRID_INT8,  /* whole numbers, for entries of integer tables in units of their scale; weights */
    GRID_UINT8, /* themselves never have these */
} grid;

/* The grid of a type's numbers, if it has one. */
static inline bool grid_of(pal_dtype dtype, grid *out)
{
    switch (dtype) {
    case PAL_FLOAT16: *out = GRID_FLOAT16; return true;
    case PAL_BFLOAT16: *out = GRID_BFLOAT16; return true;
    case PAL_FLOAT32: *out = GRID_FLOAT32; return true;
    case PAL_INT8: *out = GRID_INT8; return true;
    case PAL_UINT8: *out = GRID_UINT8; return true;
    default: return false;
    }
}

/* The same for the types that weights have. */
static inline bool grid_of_weights(pal_dtype dtype, grid *out)
{
    return grid_of(dtype, out) && *out <= GRID_FLOAT32;
}

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

/* Nearest whole number of at least `low` and at most `high`. */
static inline double grid_round_whole(double x, double low, double high)
{
    double whole = (x + 0x1.8p52) - 0x1.8p52;
    return whole < low ? low : whole > high ? high : whole;
}

static inline double grid_round(grid grid, double x)
{
    switch (grid) {
    case GRID_FLOAT16: return grid_round_f16(x);
    case GRID_BFLOAT16: return grid_round_bf16(x);
    case GRID_FLOAT32: return (double)(float)x;
    case GRID_INT8: return grid_round_whole(x, -128, 127);
    case GRID_UINT8: return grid_round_whole(x, 0, 255);
    }
    return x;
}

/* ---------------------------------------------------------------- values of the grid in memory */

static inline size_t grid_size(grid grid)
{
    switch (grid) {
    case GRID_FLOAT16:
    case GRID_BFLOAT16: return 2;
    case GRID_FLOAT32: return 4;
    case GRID_INT8:
    case GRID_UINT8: break;
    }
    return 1;
}

static inline float grid_get(grid grid, const void *values, size_t i)
{
    switch (grid) {
    case GRID_FLOAT16: return f16_to_float(((const uint16_t *)values)[i]);
    case GRID_BFLOAT16: return bf16_to_float(((const uint16_t *)values)[i]);
    case GRID_FLOAT32: return ((const float *)values)[i];
    case GRID_INT8: return ((const int8_t *)values)[i];
    case GRID_UINT8: break;
    }
    return ((const uint8_t *)values)[i];
}

/* Stores the nearest value; whole numbers must be in range. */
static inline void grid_put(grid grid, void *values, size_t i, double value)
{
    switch (grid) {
    case GRID_FLOAT16: ((uint16_t *)values)[i] = f16_from_double(value); break;
    case GRID_BFLOAT16: ((uint16_t *)values)[i] = bf16_from_double(value); break;
    case GRID_FLOAT32: ((float *)values)[i] = (float)value; break;
    case GRID_INT8: ((int8_t *)values)[i] = (int8_t)value; break;
    case GRID_UINT8: ((uint8_t *)values)[i] = (uint8_t)value; break;
    }
}

/* A value as it is after being stored in one of the float types: unlike grid_round(), out of range
 * it is infinite. */
static inline float grid_stored(grid grid, double value)
{
    switch (grid) {
    case GRID_FLOAT16: return f16_to_float(f16_from_double(value));
    case GRID_BFLOAT16: return bf16_to_float(bf16_from_double(value));
    default: return (float)value;
    }
}

#endif
