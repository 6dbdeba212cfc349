/* A part's sums and results, for batch_norm.c: the same loops over every width of rows. */
#include "engine/ops/batch_norm_loops.h"

#include "engine/ops/wide.h"

#define INLINE static inline __attribute__((always_inline))

/* Columns that are looked at together. A part's rows that are narrower are several to a row of so
 * many; wider ones are cut. */
enum { LANES = 16 };

/* Coefficients once for each column of a row of several narrow ones. */
typedef struct lanes {
    float of[5][LANES];
} lanes;

INLINE coefficients in_lanes(lanes *to, int64_t width, coefficients k)
{
    for (int64_t l = 0; l < LANES; l++) {
        to->of[0][l] = k.centre[l % width];
        to->of[1][l] = k.factor[l % width];
        to->of[2][l] = k.shift[l % width];
        to->of[3][l] = k.mean_g[l % width];
        to->of[4][l] = k.slope[l % width];
    }
    return (coefficients){to->of[0], to->of[1], to->of[2], to->of[3], to->of[4]};
}

/* ---------------------------------------------------------------- sums of a part */

typedef enum sum_kind { X, SQUARES, G, G_BOUNDED, G_KEPT } sum_kind;

INLINE bool within(bounds bounds, float y)
{
    return y > bounds.low && y < bounds.high;
}

INLINE float normalised(const part_data *d, coefficients k, int64_t i, int64_t c)
{
    return (d->x[i] - k.centre[c]) * k.factor[c] + k.shift[c];
}

INLINE void sum_rows(sum_kind kind, int64_t rows, int64_t stride, int64_t n, part_data d,
                     coefficients k, float *first, float *second)
{
    float a[LANES] = {0}, b[LANES] = {0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++) {
            const int64_t i = r * stride + c;
            if (kind == X) {
                a[c] += d.x[i];
            } else if (kind == SQUARES) {
                a[c] += (d.x[i] - k.centre[c]) * (d.x[i] - k.centre[c]);
            } else {
                float g = d.g[i];
                if (kind == G_BOUNDED)
                    g = within(d.bounds, normalised(&d, k, i, c)) ? g : 0;
                if (kind == G_KEPT)
                    d.to[i] = g = within(d.bounds, d.y[i]) ? g : 0;
                a[c] += g;
                b[c] += g * (d.x[i] - k.centre[c]);
            }
        }
    for (int64_t c = 0; c < n; c++) {
        first[c] = a[c];
        if (kind >= G)
            second[c] = b[c];
    }
}

/* The sums of a part, for each of its columns. `second` is not touched where there is but one. */
INLINE void sum_part(sum_kind kind, int64_t rows, int64_t width, part_data d, coefficients k,
                     float *first, float *second)
{
    if (width >= LANES || LANES % width) {
        int64_t c = 0;
        for (; c + LANES <= width; c += LANES)
            sum_rows(kind, rows, width, LANES, part_from(d, c), columns_from(k, c), first + c,
                     second + c);
        if (c < width)
            sum_rows(kind, rows, width, width - c, part_from(d, c), columns_from(k, c), first + c,
                     second + c);
        return;
    }
    const int64_t folds = LANES / width, whole = rows / folds;
    lanes of_lanes;
    float a[LANES], b[LANES];
    sum_rows(kind, whole, LANES, LANES, d, in_lanes(&of_lanes, width, k), a, b);
    sum_rows(kind, rows - whole * folds, width, width, part_from(d, whole * LANES), k, first,
             second);
    for (int64_t l = 0; l < LANES; l++) {
        first[l % width] += a[l];
        if (kind >= G)
            second[l % width] += b[l];
    }
}

#define SUM_FUNCTION(name, kind)                                                                   \
    WIDE void name(int64_t rows, int64_t width, part_data d, coefficients k, float *first,         \
                   float *second)                                                                  \
    {                                                                                              \
        sum_part(kind, rows, width, d, k, first, second);                                          \
    }
SUM_FUNCTION(sum_x, X)
SUM_FUNCTION(sum_squares, SQUARES)
SUM_FUNCTION(sum_g, G)
SUM_FUNCTION(sum_bounded_g, G_BOUNDED)
SUM_FUNCTION(sum_kept_g, G_KEPT)

/* ---------------------------------------------------------------- results of a part */

typedef enum result_kind { PLAIN, ADDED, BACK, BACK_BOUNDED, FIXED, FIXED_BOUNDED } result_kind;

INLINE void apply_rows(result_kind kind, int64_t rows, int64_t stride, int64_t n, part_data d,
                       coefficients k)
{
    const bounds limits = d.bounds;
    for (int64_t r = 0; r < rows; r++)
        INDEPENDENT for (int64_t c = 0; c < n; c++)
        {
            const int64_t i = r * stride + c;
            if (kind == PLAIN || kind == ADDED) {
                float v = normalised(&d, k, i, c);
                v = kind == ADDED ? v + d.added[i] : v;
                v = v < limits.low ? limits.low : v;
                d.to[i] = v > limits.high ? limits.high : v;
                continue;
            }
            float g = d.g[i];
            if (kind == BACK_BOUNDED || kind == FIXED_BOUNDED)
                g = within(limits, normalised(&d, k, i, c)) ? g : 0;
            if (kind == BACK || kind == BACK_BOUNDED)
                g = g - k.mean_g[c] - (d.x[i] - k.centre[c]) * k.slope[c];
            d.to[i] = g * k.factor[c];
        }
}

INLINE void apply_part(result_kind kind, int64_t rows, int64_t width, part_data d, coefficients k)
{
    if (width >= LANES || LANES % width) {
        int64_t c = 0;
        for (; c + LANES <= width; c += LANES)
            apply_rows(kind, rows, width, LANES, part_from(d, c), columns_from(k, c));
        if (c < width)
            apply_rows(kind, rows, width, width - c, part_from(d, c), columns_from(k, c));
        return;
    }
    const int64_t whole = rows / (LANES / width);
    lanes of_lanes;
    apply_rows(kind, whole, LANES, LANES, d, in_lanes(&of_lanes, width, k));
    apply_rows(kind, rows - whole * (LANES / width), width, width, part_from(d, whole * LANES), k);
}

#define RESULT_FUNCTION(name, kind)                                                                \
    WIDE void name(int64_t rows, int64_t width, part_data d, coefficients k)                       \
    {                                                                                              \
        apply_part(kind, rows, width, d, k);                                                       \
    }
RESULT_FUNCTION(result_plain, PLAIN)
RESULT_FUNCTION(result_added, ADDED)
RESULT_FUNCTION(result_back, BACK)
RESULT_FUNCTION(result_back_bounded, BACK_BOUNDED)
RESULT_FUNCTION(result_fixed, FIXED)
RESULT_FUNCTION(result_fixed_bounded, FIXED_BOUNDED)
