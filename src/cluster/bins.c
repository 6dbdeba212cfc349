#include "cluster/bins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/importance.h"

enum {
    PATTERNS = 65536,
    SMALL = 32768, /* up to here a bitmap of the patterns that occur beats scanning all */
};

void bins_free(bins *bins)
{
    free(bins->value);
    free(bins->mass);
    free(bins->times_storage);
    free(bins->pattern);
    free(bins->histogram);
    free(bins->carried);
    free(bins->importance_sums);
    free(bins->occupied);
    for (int i = 0; i < 2; i++) {
        free(bins->sort[i]);
        free(bins->sort_importance[i]);
    }
    *bins = (struct bins){0};
}

/* Room for `capacity` bins, with occurrences of their own beside importance, and with patterns. */
static bool bins_reserve(bins *bins, size_t capacity, bool importance, bool patterns)
{
    if (capacity > bins->capacity) {
        free(bins->value);
        free(bins->mass);
        free(bins->times_storage);
        free(bins->pattern);
        bins->value = mem_array(capacity, sizeof *bins->value);
        bins->mass = mem_array(capacity, sizeof *bins->mass);
        bins->times_storage = NULL;
        bins->pattern = NULL;
        bins->capacity = bins->value && bins->mass ? capacity : 0;
    }
    if (importance && !bins->times_storage)
        bins->times_storage = mem_array(bins->capacity, sizeof *bins->times_storage);
    if (patterns && !bins->pattern)
        bins->pattern = mem_array(bins->capacity, sizeof *bins->pattern);
    return bins->capacity >= capacity && (!importance || bins->times_storage) &&
           (!patterns || bins->pattern);
}

static pal_status fail_value(size_t index, double value)
{
    return fail(PAL_ERROR_VALUE, "element %zu is %s", index,
                isnan(value) ? "NaN"
                : value > 0  ? "infinite"
                             : "minus infinity");
}

static pal_status check_importance(const float *importance, size_t n)
{
    float bad = 0; /* becomes NaN at the first value that is not finite */
    bool negative = false;
    for (size_t i = 0; i < n; i++) {
        bad += importance[i] * 0.0f;
        negative |= importance[i] < 0;
    }
    if (bad == 0 && !negative)
        return PAL_OK;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(importance[i]) || importance[i] < 0)
            return fail(PAL_ERROR_VALUE, "the importance of element %zu is %g", i,
                        (double)importance[i]);
    return PAL_OK;
}

/* Gives bins without importance the vanishing mass that the header promises. */
static void lift_zero_masses(bins *bins)
{
    double total = 0;
    for (size_t i = 0; i < bins->count; i++)
        total += bins->mass[i];
    if (total == 0) {
        memcpy(bins->mass, bins->times, bins->count * sizeof *bins->mass);
        return;
    }
    const double least = least_mass(total, bins->count);
    for (size_t i = 0; i < bins->count; i++)
        if (bins->mass[i] < least)
            bins->mass[i] = least;
}

/* ---------------------------------------------------------------- 16-bit types */

static pal_status find_bad_pattern(grid grid, const uint16_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool finite = grid == GRID_FLOAT16 ? f16_is_finite(values[i]) : bf16_is_finite(values[i]);
        if (!finite)
            return fail_value(i, (double)(grid == GRID_FLOAT16 ? f16_to_float(values[i])
                                                               : bf16_to_float(values[i])));
    }
    return PAL_OK;
}

/* How often a pattern occurs; it is cleared. */
static double take_count(bins *bins, uint32_t pattern)
{
    double count = bins->histogram[pattern];
    bins->histogram[pattern] = 0;
    if (bins->carried) {
        count += bins->carried[pattern];
        bins->carried[pattern] = 0;
    }
    return count;
}

/* Adds one bin and clears its histogram entries. `twin` is a second pattern of the same value. */
static void take_pattern(bins *bins, grid grid, bool importance, uint32_t pattern, uint32_t twin)
{
    size_t i = bins->count++;
    bins->value[i] = (double)(grid == GRID_FLOAT16 ? f16_to_float((uint16_t)pattern)
                                                   : bf16_to_float((uint16_t)pattern));
    bins->pattern[i] = (uint16_t)pattern;
    bins->times[i] = take_count(bins, pattern);
    if (twin != pattern)
        bins->times[i] += take_count(bins, twin);
    if (importance) {
        bins->mass[i] = bins->importance_sums[pattern];
        if (twin != pattern)
            bins->mass[i] += bins->importance_sums[twin];
        bins->importance_sums[pattern] = bins->importance_sums[twin] = 0;
    }
}

/* Calls take_pattern for the patterns in use, in the order of their values: negative ones from the
 * largest magnitude down, both zeros as one, positive ones up. */
static void collect_all(bins *bins, grid grid, bool importance, uint32_t end)
{
    const uint32_t *histogram = bins->histogram;
    for (uint32_t p = 0x8000 + end; --p > 0x8000;)
        if (histogram[p])
            take_pattern(bins, grid, importance, p, p);
    if (histogram[0] || histogram[0x8000])
        take_pattern(bins, grid, importance, 0, 0x8000);
    for (uint32_t p = 1; p < end; p++)
        if (histogram[p])
            take_pattern(bins, grid, importance, p, p);
}

static void collect_occupied(bins *bins, grid grid, bool importance)
{
    uint64_t *occupied = bins->occupied;
    bool zero = (occupied[0] & 1) || (occupied[0x8000 / 64] & 1);
    occupied[0] &= ~UINT64_C(1);
    occupied[0x8000 / 64] &= ~UINT64_C(1);
    for (uint32_t word = PATTERNS / 64; word-- > 0x8000 / 64;) {
        while (occupied[word]) {
            uint32_t bit = 63 - (uint32_t)__builtin_clzll(occupied[word]);
            occupied[word] ^= UINT64_C(1) << bit;
            take_pattern(bins, grid, importance, word * 64 + bit, word * 64 + bit);
        }
    }
    if (zero)
        take_pattern(bins, grid, importance, 0, 0x8000);
    for (uint32_t word = 0; word < 0x8000 / 64; word++) {
        while (occupied[word]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(occupied[word]);
            occupied[word] ^= UINT64_C(1) << bit;
            take_pattern(bins, grid, importance, word * 64 + bit, word * 64 + bit);
        }
    }
}

static bool patterns_reserve(bins *bins, bool importance)
{
    if (!bins->histogram)
        bins->histogram = mem_zeroed(PATTERNS, sizeof *bins->histogram);
    if (!bins->occupied)
        bins->occupied = mem_zeroed(PATTERNS / 64, sizeof *bins->occupied);
    if (importance && !bins->importance_sums)
        bins->importance_sums = mem_zeroed(PATTERNS, sizeof *bins->importance_sums);
    return bins->histogram && bins->occupied && (!importance || bins->importance_sums) &&
           bins_reserve(bins, PATTERNS, importance, true);
}

/* Patterns that are not finite stand from here on, in both halves. */
static uint32_t first_not_finite(grid grid)
{
    return grid == GRID_FLOAT16 ? 0x7c00 : 0x7f80;
}

static void histogram_clear(bins *bins)
{
    memset(bins->histogram, 0, PATTERNS * sizeof *bins->histogram);
    if (bins->carried)
        memset(bins->carried, 0, PATTERNS * sizeof *bins->carried);
}

/* Whether the histogram has any; it is cleared then. */
static bool histogram_is_bad(bins *bins, grid grid)
{
    uint32_t bad = 0;
    for (uint32_t p = first_not_finite(grid); p < 0x8000; p++)
        bad |= bins->histogram[p] | bins->histogram[p + 0x8000];
    if (bad)
        histogram_clear(bins);
    return bad != 0;
}

/* Makes room in the counts, of which the first 1 stays: it says that the pattern occurs. */
static bool carry(bins *bins)
{
    if (!bins->carried)
        bins->carried = mem_zeroed(PATTERNS, sizeof *bins->carried);
    if (!bins->carried)
        return false;
    for (size_t p = 0; p < PATTERNS; p++)
        if (bins->histogram[p] > 1) {
            bins->carried[p] += bins->histogram[p] - 1;
            bins->histogram[p] = 1;
        }
    bins->counted = 1;
    return true;
}

/* Counts values, as many at a time as a count holds for certain. */
static bool count_patterns(bins *bins, const uint16_t *values, size_t n)
{
    uint32_t *histogram = bins->histogram;
    while (n) {
        if (bins->counted == UINT32_MAX && !carry(bins))
            return false;
        const size_t room = UINT32_MAX - bins->counted, some = n < room ? n : room;
        for (size_t i = 0; i < some; i++)
            histogram[values[i]]++;
        bins->counted += (uint32_t)some;
        values += some;
        n -= some;
    }
    return true;
}

static pal_status fill_patterns(bins *bins, grid grid, const uint16_t *values,
                                const float *importance, size_t n)
{
    if (!patterns_reserve(bins, importance))
        return fail_memory("making a histogram");
    bins->counted = 0;
    if (!count_patterns(bins, values, n)) {
        histogram_clear(bins);
        return fail_memory("making a histogram");
    }
    if (histogram_is_bad(bins, grid))
        return find_bad_pattern(grid, values, n);
    bins->count = 0;
    bins->times = importance ? bins->times_storage : bins->mass;
    if (importance)
        for (size_t i = 0; i < n; i++)
            bins->importance_sums[values[i]] += (double)importance[i];
    if (n <= SMALL) {
        for (size_t i = 0; i < n; i++)
            bins->occupied[values[i] / 64] |= UINT64_C(1) << values[i] % 64;
        collect_occupied(bins, grid, importance);
    } else {
        collect_all(bins, grid, importance, first_not_finite(grid));
    }
    return PAL_OK;
}

pal_status bins_begin(bins *bins)
{
    bins->counted = 0;
    return patterns_reserve(bins, true) ? PAL_OK : fail_memory("making a histogram");
}

pal_status bins_add(bins *bins, const uint16_t *values, const float *importance, size_t n)
{
    if (!count_patterns(bins, values, n)) {
        histogram_clear(bins);
        memset(bins->importance_sums, 0, PATTERNS * sizeof *bins->importance_sums);
        return fail_memory("making a histogram");
    }
    for (size_t i = 0; i < n; i++)
        bins->importance_sums[values[i]] += (double)importance[i];
    return PAL_OK;
}

pal_status bins_end(bins *bins, grid grid)
{
    bins->count = 0;
    bins->times = bins->times_storage;
    if (histogram_is_bad(bins, grid)) {
        memset(bins->importance_sums, 0, PATTERNS * sizeof *bins->importance_sums);
        return fail(PAL_ERROR_VALUE, "a value is not finite");
    }
    collect_all(bins, grid, true, first_not_finite(grid));
    if (bins->count == 0)
        return fail(PAL_ERROR_ARGUMENT, "no values to cluster");
    lift_zero_masses(bins);
    return PAL_OK;
}

/* ---------------------------------------------------------------- float32 */

/* Unsigned integers in the order of the floats they stand for. */
static uint32_t key_from_float(float value)
{
    uint32_t bits = float_to_bits(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float float_from_key(uint32_t key)
{
    return float_from_bits(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

static bool sort_reserve(bins *bins, size_t n, bool importance)
{
    if (n > bins->sort_capacity) {
        for (int i = 0; i < 2; i++) {
            free(bins->sort[i]);
            free(bins->sort_importance[i]);
            bins->sort[i] = mem_array(n, sizeof **bins->sort);
            bins->sort_importance[i] = NULL;
        }
        bins->sort_capacity = bins->sort[0] && bins->sort[1] ? n : 0;
    }
    for (int i = 0; i < 2 && importance; i++)
        if (!bins->sort_importance[i])
            bins->sort_importance[i] = mem_array(bins->sort_capacity, sizeof(float));
    return bins->sort_capacity >= n &&
           (!importance || (bins->sort_importance[0] && bins->sort_importance[1]));
}

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

/* One stable pass of a radix sort by the digit at `shift`. */
static void radix_pass(const uint32_t *keys, const float *importance, size_t n, int shift,
                       const size_t *count, uint32_t *sorted, float *sorted_importance)
{
    size_t at[DIGITS], sum = 0;
    for (int d = 0; d < DIGITS; d++) {
        at[d] = sum;
        sum += count[d];
    }
    for (size_t i = 0; i < n; i++) {
        size_t place = at[keys[i] >> shift & (DIGITS - 1)]++;
        sorted[place] = keys[i];
        if (importance)
            sorted_importance[place] = importance[i];
    }
}

static pal_status fill_floats(bins *bins, const float *values, const float *importance, size_t n)
{
    if (!sort_reserve(bins, n, importance))
        return fail_memory("sorting weights");
    static const int shifts[3] = {0, DIGIT_BITS, 2 * DIGIT_BITS};
    size_t count[3][DIGITS] = {{0}};
    uint32_t *keys = bins->sort[0], *other = bins->sort[1];
    float *weights = NULL, *other_weights = NULL;
    if (importance) {
        weights = bins->sort_importance[0];
        other_weights = bins->sort_importance[1];
        memcpy(weights, importance, n * sizeof *weights);
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            return fail_value(i, (double)values[i]);
        uint32_t key = key_from_float(values[i] + 0.0f); /* -0 becomes 0 */
        keys[i] = key;
        for (int pass = 0; pass < 3; pass++)
            count[pass][key >> shifts[pass] & (DIGITS - 1)]++;
    }
    for (int pass = 0; pass < 3; pass++) {
        if (count[pass][keys[0] >> shifts[pass] & (DIGITS - 1)] == n)
            continue; /* the digit is the same in all */
        radix_pass(keys, weights, n, shifts[pass], count[pass], other, other_weights);
        uint32_t *swap = keys;
        keys = other;
        other = swap;
        float *swap_weights = weights;
        weights = other_weights;
        other_weights = swap_weights;
    }
    size_t distinct = 1;
    for (size_t i = 1; i < n; i++)
        distinct += keys[i] != keys[i - 1];
    if (!bins_reserve(bins, distinct, importance, false))
        return fail_memory("sorting weights");
    bins->times = importance ? bins->times_storage : bins->mass;
    size_t u = 0;
    for (size_t i = 0; i < n; u++) {
        double mass = 0;
        size_t begin = i;
        for (; i < n && keys[i] == keys[begin]; i++)
            mass += weights ? (double)weights[i] : 0;
        bins->value[u] = (double)float_from_key(keys[begin]);
        bins->times[u] = (double)(i - begin);
        if (weights)
            bins->mass[u] = mass;
    }
    bins->count = u;
    return PAL_OK;
}

pal_status bins_fill(bins *bins, grid grid, const void *values, const float *importance, size_t n)
{
    pal_status status = PAL_OK;
    if (n == 0)
        return fail(PAL_ERROR_ARGUMENT, "no values to cluster");
    if (importance && (status = check_importance(importance, n)))
        return status;
    status = grid == GRID_FLOAT32 ? fill_floats(bins, values, importance, n)
                                  : fill_patterns(bins, grid, values, importance, n);
    if (!status && importance)
        lift_zero_masses(bins);
    return status;
}
