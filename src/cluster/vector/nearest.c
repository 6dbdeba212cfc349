#include "cluster/vector/nearest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/variants.h"

/* ---------------------------------------------------------------- the table of centroids */

pal_status sites_init(sites *s, size_t dim)
{
    *s = (sites){.dim = dim};
    s->rows = mem_zeroed(MOST_SITES * row_stride(dim), sizeof *s->rows);
    s->columns = mem_zeroed((dim + 1) * MOST_SITES, sizeof *s->columns);
    if (s->rows && s->columns)
        return PAL_OK;
    sites_free(s);
    return fail_memory("clustering vectors");
}

void sites_free(sites *s)
{
    free(s->rows);
    free(s->columns);
    *s = (sites){0};
}

static unsigned rounded_up(unsigned k, unsigned step)
{
    return (k + step - 1) / step * step;
}

/* Rows infinitely far behind the m that there are. */
static void pad_rows(float *rows, size_t dim, unsigned m)
{
    for (unsigned i = m; i < rounded_up(m, SITE_GROUP); i++)
        for (size_t c = 0; c < dim; c++)
            rows[i * row_stride(dim) + c] = INFINITY;
}

enum { COLUMN_STEP = 16 }; /* loops over columns go in such steps */

static void pad_columns(sites *s)
{
    for (unsigned j = s->k; j < rounded_up(s->k, COLUMN_STEP); j++) {
        for (size_t c = 0; c < s->dim; c++)
            s->columns[c * MOST_SITES + j] = 0;
        s->columns[s->dim * MOST_SITES + j] = INFINITY;
    }
}

void sites_set(sites *s, unsigned k, const float *centroids)
{
    s->k = k;
    for (unsigned j = 0; j < k; j++) {
        const float *from = centroids + j * s->dim;
        double square = 0;
        for (size_t c = 0; c < s->dim; c++) {
            square += (double)from[c] * (double)from[c];
            s->rows[j * row_stride(s->dim) + c] = s->columns[c * MOST_SITES + j] = from[c];
        }
        s->columns[s->dim * MOST_SITES + j] = (float)(square / 2);
    }
    pad_rows(s->rows, s->dim, k);
    pad_columns(s);
}

static inline void copy_row(const float *from, size_t stride, float *to)
{
    for (size_t c = 0; c < stride; c += 4)
        memcpy(to + c, from + c, 4 * sizeof *to);
}

void sites_part(const sites *s, const uint8_t *which, unsigned m, sites *part)
{
    const size_t stride = row_stride(s->dim);
    part->k = m;
    for (unsigned i = 0; i < m; i++)
        copy_row(s->rows + which[i] * stride, stride, part->rows + i * stride);
    for (size_t c = 0; c <= s->dim; c++)
        for (unsigned i = 0; i < m; i++)
            part->columns[c * MOST_SITES + i] = s->columns[c * MOST_SITES + which[i]];
    pad_columns(part);
}

/* ---------------------------------------------------------------- centroids near a box */

/* keep[j]: whether centroid j can beat the anchor somewhere in the box. Centroids are ordered by
 * score(c) = |c|^2 / 2 - x c as by their distance to x. With u = c_j - c_anchor, the most that the
 * anchor's score can exceed j's is found at the corner in the direction of u: the difference in the
 * middle + sum |u| half. Rounding is allowed for. */
VARIANT_BODY unsigned near(const sites *s, const float *box, unsigned anchor, uint8_t *keep)
{
    const size_t dim = s->dim;
    const float *half_square = s->columns + dim * MOST_SITES;
    const unsigned n = rounded_up(s->k, COLUMN_STEP);
    float score[MOST_SITES], reach[MOST_SITES], square = 0;
    for (size_t c = 0; c < dim; c++)
        square += box[c] * box[c];
    const float slack = 2.5e-7F * (float)dim;
    for (unsigned j = 0; j < n; j++) {
        score[j] = half_square[j];
        reach[j] = slack * (half_square[j] + square);
    }
    for (size_t c = 0; c < dim; c++) {
        const float *column = s->columns + c * MOST_SITES, middle = box[c], half = box[dim + c];
        const float own = column[anchor];
        for (unsigned j = 0; j < n; j++) {
            score[j] -= middle * column[j];
            reach[j] += half * fabsf(column[j] - own);
        }
    }
    const float own = score[anchor] + slack * half_square[anchor];
    for (unsigned j = 0; j < n; j++) /* & and not &&, which compilers do not vectorise */
        keep[j] = (score[j] - own <= reach[j]) & (half_square[j] < INFINITY);
    return n;
}

VARIANT_BODY unsigned sites_near_body(const sites *s, const float *box, unsigned anchor,
                                      unsigned except, uint8_t *which, float *rows)
{
    const size_t stride = row_stride(s->dim);
    uint8_t keep[MOST_SITES];
    const unsigned n = near(s, box, anchor, keep);
    if (except < n)
        keep[except] = 0;
    unsigned m = 0;
    for (unsigned eight = 0; eight < n; eight += 8) {
        uint64_t kept;
        memcpy(&kept, keep + eight, sizeof kept);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        kept = __builtin_bswap64(kept);
#endif
        for (; kept; kept &= kept - 1)
            which[m++] = (uint8_t)(eight + (unsigned)__builtin_ctzll(kept) / 8);
    }
    for (unsigned i = 0; i < m; i++)
        copy_row(s->rows + which[i] * stride, stride, rows + i * stride);
    pad_rows(rows, s->dim, m);
    for (unsigned i = m; i < rounded_up(m, SITE_GROUP); i++)
        which[i] = 0;
    return m;
}

VARIANTS(unsigned, sites_near,
         (const sites *s, const float *box, unsigned anchor, unsigned except, uint8_t *which,
          float *rows),
         (s, box, anchor, except, which, rows))

/* ---------------------------------------------------------------- the nearest centroid */

/* Squared distances are taken from differences: the shorter way by products would lose the digits
 * that tell centroids apart which are near each other but far from the mean. As many rows at once
 * as a processor has registers for; the number of components is a constant in each call. */
VARIANT_BODY void nearest_few(const float *restrict values, size_t dim, const float *restrict rows,
                              const uint8_t *restrict which, unsigned m, float *restrict distance,
                              int32_t *restrict nearest, unsigned at_once)
{
    for (size_t i = 0; i < TILE; i++) {
        distance[i] = INFINITY;
        nearest[i] = which[0];
    }
    for (unsigned j = 0; j < m; j += at_once) {
        const float *site = rows + j * row_stride(dim);
        int32_t numbers[SITE_GROUP];
        for (unsigned s = 0; s < at_once; s++)
            numbers[s] = which[j + s];
        for (size_t i = 0; i < TILE; i++) {
            float best = distance[i];
            int32_t number = nearest[i];
            for (unsigned s = 0; s < at_once; s++) {
                float own = 0;
                for (size_t c = 0; c < dim; c++) {
                    float difference = values[c * TILE + i] - site[s * row_stride(dim) + c];
                    own += difference * difference;
                }
                number = own < best ? numbers[s] : number;
                best = own < best ? own : best;
            }
            distance[i] = best;
            nearest[i] = number;
        }
    }
}

VARIANT_BODY void nearest_any(const float *restrict values, size_t dim, const float *restrict rows,
                              const uint8_t *restrict which, unsigned m, float *restrict distance,
                              int32_t *restrict nearest)
{
    float own[TILE];
    for (size_t i = 0; i < TILE; i++) {
        distance[i] = INFINITY;
        nearest[i] = which[0];
    }
    for (unsigned j = 0; j < m; j++) {
        const float *site = rows + j * row_stride(dim);
        memset(own, 0, sizeof own);
        for (size_t c = 0; c < dim; c++)
            for (size_t i = 0; i < TILE; i++) {
                float difference = values[c * TILE + i] - site[c];
                own[i] += difference * difference;
            }
        for (size_t i = 0; i < TILE; i++) {
            nearest[i] = own[i] < distance[i] ? which[j] : nearest[i];
            distance[i] = own[i] < distance[i] ? own[i] : distance[i];
        }
    }
}

VARIANT_BODY void tile_nearest_body(const float *values, size_t dim, const float *rows,
                                    const uint8_t *which, unsigned m, float *distance,
                                    uint8_t *nearest)
{
    int32_t number[TILE];
    switch (dim) {
    case 2: nearest_few(values, 2, rows, which, m, distance, number, 4); break;
    case 3: nearest_few(values, 3, rows, which, m, distance, number, 4); break;
    case 4: nearest_few(values, 4, rows, which, m, distance, number, 4); break;
    case 8: nearest_few(values, 8, rows, which, m, distance, number, 2); break;
    default: nearest_any(values, dim, rows, which, m, distance, number); break;
    }
    for (size_t i = 0; i < TILE; i++)
        nearest[i] = (uint8_t)number[i];
}

VARIANTS(void, tile_nearest,
         (const float *values, size_t dim, const float *rows, const uint8_t *which, unsigned m,
          float *distance, uint8_t *nearest),
         (values, dim, rows, which, m, distance, nearest))

/* ---------------------------------------------------------------- sums over a tile */

/* Halves are added to halves, always in this way, until one number is left. */
VARIANT_BODY float fold_sum(float *numbers)
{
    for (size_t half = TILE / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            numbers[i] += numbers[i + half];
    return numbers[0];
}

VARIANT_BODY double tile_error_body(const float *restrict weights, const float *restrict distance)
{
    float share[TILE];
    for (size_t i = 0; i < TILE; i++)
        share[i] = weights[i] * distance[i];
    return (double)fold_sum(share);
}

VARIANTS(double, tile_error, (const float *weights, const float *distance), (weights, distance))

VARIANT_BODY double tile_lower_body(const float *restrict values, const float *restrict weights,
                                    size_t dim, const float *restrict point, const float *distance,
                                    float *lowered, float *restrict most)
{
    float own[TILE] = {0}, share[TILE];
    for (size_t c = 0; c < dim; c++)
        for (size_t i = 0; i < TILE; i++) {
            float difference = values[c * TILE + i] - point[c];
            own[i] += difference * difference;
        }
    for (size_t i = 0; i < TILE; i++) {
        own[i] = own[i] < distance[i] ? own[i] : distance[i];
        share[i] = own[i] * weights[i];
    }
    memcpy(lowered, own, sizeof own);
    for (size_t half = TILE / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            own[i] = own[i] > own[i + half] ? own[i] : own[i + half];
    *most = own[0];
    return (double)fold_sum(share);
}

VARIANTS(double, tile_lower,
         (const float *values, const float *weights, size_t dim, const float *point,
          const float *distance, float *lowered, float *most),
         (values, weights, dim, point, distance, lowered, most))

VARIANT_BODY void tile_sums_body(const float *restrict values, const float *restrict weights,
                                 size_t dim, const uint8_t *index, unsigned k, float *restrict sums)
{
    enum { STEP = SUM_LANES };
    float side[TILE], have[TILE];
    int32_t which[TILE];
    for (size_t i = 0; i < TILE; i++) {
        which[i] = index[i];
        have[i] = weights[i] > 0 ? 1 : 0;
    }
    for (unsigned j = 0; j < k; j++) {
        for (size_t i = 0; i < TILE; i++)
            side[i] = which[i] == (int32_t)j ? weights[i] : 0;
        for (size_t c = 0; c < dim; c++, sums += STEP) {
            const float *row = values + c * TILE;
            for (size_t i = 0; i < STEP; i++)
                sums[i] += (side[i] * row[i] + side[i + STEP] * row[i + STEP]) +
                           (side[i + 2 * STEP] * row[i + 2 * STEP] +
                            side[i + 3 * STEP] * row[i + 3 * STEP]);
        }
        for (size_t i = 0; i < STEP; i++)
            sums[i] += (side[i] + side[i + STEP]) + (side[i + 2 * STEP] + side[i + 3 * STEP]);
        sums += STEP;
        for (size_t i = 0; i < TILE; i++)
            side[i] = which[i] == (int32_t)j ? have[i] : 0;
        for (size_t i = 0; i < STEP; i++)
            sums[i] += (side[i] + side[i + STEP]) + (side[i + 2 * STEP] + side[i + 3 * STEP]);
        sums += STEP;
    }
}

VARIANTS(void, tile_sums,
         (const float *values, const float *weights, size_t dim, const uint8_t *index, unsigned k,
          float *sums),
         (values, weights, dim, index, k, sums))

VARIANT_BODY void lanes_fold_body(float *restrict lanes, size_t rows, double *restrict sums)
{
    for (size_t r = 0; r < rows; r++, lanes += SUM_LANES) {
        for (size_t half = SUM_LANES / 2; half; half /= 2)
            for (size_t l = 0; l < half; l++)
                lanes[l] += lanes[l + half];
        sums[r] += (double)lanes[0];
        memset(lanes, 0, SUM_LANES * sizeof *lanes);
    }
}

VARIANTS(void, lanes_fold, (float *lanes, size_t rows, double *sums), (lanes, rows, sums))

VARIANT_BODY void tile_beyond_body(const float *values, const float *weights, size_t dim,
                                   const float *origin, const float *a, float b, double *sums)
{
    float side[TILE] = {0}, share[TILE];
    for (size_t c = 0; c < dim; c++)
        for (size_t i = 0; i < TILE; i++)
            side[i] += (values[c * TILE + i] - origin[c]) * a[c];
    for (size_t i = 0; i < TILE; i++)
        side[i] = side[i] > b ? weights[i] : 0;
    for (size_t c = 0; c < dim; c++) {
        for (size_t i = 0; i < TILE; i++)
            share[i] = side[i] * (values[c * TILE + i] - origin[c]);
        sums[c] += (double)fold_sum(share);
    }
    sums[dim] += (double)fold_sum(side);
}

VARIANTS(void, tile_beyond,
         (const float *values, const float *weights, size_t dim, const float *origin,
          const float *a, float b, double *sums),
         (values, weights, dim, origin, a, b, sums))
