/* Look-up tables of single values, against searches that know nothing of the ideas behind them. */
#include "testing.h"

#include "base/half.h"
#include "cluster/kmeans1d.h"
#include "cluster/scalar.h"

/* ---------------------------------------------------------------- reference searches */

/* Least error of one cluster over the float16 grid, by trying the neighbours of the mean. None, if
 * nothing in it counts. */
static double cluster_error(const double *value, const double *mass, size_t n)
{
    double total = 0, mean = 0, best = INFINITY;
    for (size_t i = 0; i < n; i++) {
        total += mass[i];
        mean += mass[i] * value[i];
    }
    if (total == 0)
        return 0;
    uint16_t near = f16_from_double(mean / total);
    for (int step = -1; step <= 1; step++) {
        double centroid = (double)f16_to_float((uint16_t)(near + step)), error = 0;
        if (!f16_is_finite((uint16_t)(near + step)))
            continue;
        for (size_t i = 0; i < n; i++)
            error += mass[i] * (value[i] - centroid) * (value[i] - centroid);
        best = error < best ? error : best;
    }
    return best;
}

/* All ways to give each of n values, not necessarily sorted, to one of k clusters. */
static double exhaustive(const double *value, const double *mass, size_t n, unsigned k)
{
    double best = INFINITY, v[8], m[8];
    unsigned long ways = 1;
    for (size_t i = 0; i < n; i++)
        ways *= k;
    for (unsigned long way = 0; way < ways; way++) {
        double error = 0;
        for (unsigned c = 0; c < k; c++) {
            size_t count = 0;
            unsigned long digits = way;
            for (size_t i = 0; i < n; i++, digits /= k) {
                if (digits % k == c) {
                    v[count] = value[i];
                    m[count++] = mass[i];
                }
            }
            error += count ? cluster_error(v, m, count) : 0;
        }
        best = error < best ? error : best;
    }
    return best;
}

/* Textbook dynamic programming over sorted values, errors summed term by term. */
static double dynamic(const double *value, const double *mass, size_t n, unsigned k)
{
    double *best = malloc((n + 1) * sizeof *best), *next = malloc((n + 1) * sizeof *next);
    double *error = malloc(n * n * sizeof *error);
    for (size_t j = 0; j < n; j++)
        for (size_t i = j; i < n; i++)
            error[j * n + i] = cluster_error(value + j, mass + j, i - j + 1);
    for (size_t i = 0; i <= n; i++)
        best[i] = i ? INFINITY : 0;
    for (unsigned c = 0; c < k; c++) {
        next[0] = 0;
        for (size_t i = 1; i <= n; i++) {
            next[i] = best[i];
            for (size_t j = 0; j < i; j++)
                next[i] = fmin(next[i], best[j] + error[j * n + i - 1]);
        }
        double *swap = best;
        best = next;
        next = swap;
    }
    double result = best[n];
    free(best);
    free(next);
    free(error);
    return result;
}

/* ---------------------------------------------------------------- comparison */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Random numbers of many kinds: few or many distinct values, several scales, heavy tails. */
static double random_value(uint64_t *seed, int kind)
{
    switch (kind) {
    case 0: return random_normal(seed);
    case 1: return (double)random_below(seed, 7) - 3;
    case 2: return 0.25 * random_normal(seed) + 100;
    case 3: return pow(random_normal(seed), 3) * 1e-3;
    case 4: return ldexp(random_unit(seed), -(int)random_below(seed, 24));
    default: return 1 + ldexp((double)random_below(seed, 40), -10);
    }
}

/* Error of the library's answer, computed afresh from centroids and indices. */
static double library_error(const uint16_t *values, const float *importance, size_t n, unsigned k)
{
    uint16_t centroids[256];
    uint8_t *indices = malloc(n);
    double claimed, error = 0, total = 0;
    assert_ok(pal_kmeans_f16(values, importance, n, k, centroids, indices, &claimed));
    for (unsigned c = 1; c < k; c++)
        assert_true(f16_to_float(centroids[c]) >= f16_to_float(centroids[c - 1]));
    for (size_t i = 0; i < n; i++) {
        double value = (double)f16_to_float(values[i]);
        double mine = fabs(value - (double)f16_to_float(centroids[indices[i]]));
        assert_true(indices[i] < k);
        for (unsigned c = 0; c < k; c++)
            assert_true(mine <= fabs(value - (double)f16_to_float(centroids[c])));
        double mass = importance ? (double)importance[i] : 1;
        error += mass * mine * mine;
        total += mass * value * value;
    }
    assert_true(fabs(error - claimed) <= 1e-9 * total + 1e-9 * error);
    free(indices);
    return error;
}

typedef enum weighting { EQUAL, WEIGHTED, WITH_ZEROS } weighting;

/* The answer has the least error. Values of importance 0 may cost the others a trifle. */
static void compare(uint64_t *seed, size_t most, weighting weighting, bool exhaustively)
{
    const bool weighted = weighting != EQUAL;
    size_t n = 1 + random_below(seed, (unsigned)most);
    unsigned k = 1 + random_below(seed, exhaustively ? 4 : 17);
    int kind = (int)random_below(seed, 6);
    uint16_t *values = malloc(n * sizeof *values);
    float *importance = malloc(n * sizeof *importance);
    double *pairs = malloc(2 * n * sizeof *pairs), *value = malloc(n * sizeof *value);
    double *mass = malloc(n * sizeof *mass), scale = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        values[i] = f16_from_double(random_value(seed, kind));
        importance[i] = (float)ldexp(random_unit(seed) + 0.01, (int)random_below(seed, 8));
        if (weighting == WITH_ZEROS && random_below(seed, 2))
            importance[i] = 0;
        pairs[2 * i] = (double)f16_to_float(values[i]);
        pairs[2 * i + 1] = weighted ? (double)importance[i] : 1;
    }
    qsort(pairs, n, 2 * sizeof *pairs, by_value);
    for (size_t i = 0; i < n; i++) {
        value[i] = pairs[2 * i];
        mass[i] = pairs[2 * i + 1];
        scale += mass[i] * (value[i] - value[0]) * (value[i] - value[0]);
        total += mass[i];
    }
    double expected = exhaustively ? exhaustive(value, mass, n, k) : dynamic(value, mass, n, k);
    double found = library_error(values, weighted ? importance : NULL, n, k);
    double tolerance = 1e-12 * scale + 1e-9 * expected;
    if (weighting == WITH_ZEROS)
        tolerance += 0x1p-24 * total * pow(value[n - 1] - value[0], 2);
    if (fabs(found - expected) > tolerance)
        print_error("n %zu k %u kind %d: found %.17g, best %.17g\n", n, k, kind, found, expected);
    assert_true(fabs(found - expected) <= tolerance);
    free(values);
    free(importance);
    free(pairs);
    free(value);
    free(mass);
}

static void test_exhaustive(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 4000; i++)
        compare(&seed, 6, (weighting)(i % 3), true);
}

static void test_dynamic(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 4000; i++)
        compare(&seed, 40, (weighting)(i % 3), false);
    for (int i = 0; i < 60; i++)
        compare(&seed, 250, (weighting)(i % 3), false);
}

/* ---------------------------------------------------------------- larger problems */

/* Error of k clusters of sorted float32 values by divide and conquer on the optimal boundaries, in
 * long double: slow, but independent of penalties. */
typedef struct layers {
    const long double *s0, *s1, *s2;
    long double *from, *to;
} layers;

static long double span_error(const layers *l, size_t j, size_t i)
{
    long double m = l->s0[i] - l->s0[j], s = l->s1[i] - l->s1[j];
    return l->s2[i] - l->s2[j] - s * s / m;
}

static void conquer(layers *l, size_t low, size_t high, size_t first, size_t last)
{
    if (low > high)
        return;
    size_t middle = (low + high) / 2, best = first;
    long double least = INFINITY;
    for (size_t j = first; j < middle && j <= last; j++) {
        long double error = l->from[j] + span_error(l, j, middle);
        if (error < least) {
            least = error;
            best = j;
        }
    }
    l->to[middle] = least;
    if (middle > low)
        conquer(l, low, middle - 1, first, best);
    conquer(l, middle + 1, high, best, last);
}

static void test_many_values(void **state)
{
    (void)state;
    enum { N = 6000 };
    static float values[N];
    static double sorted[N];
    static long double s0[N + 1], s1[N + 1], s2[N + 1], a[N + 1], b[N + 1];
    uint64_t seed = 3;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            double x = random_normal(&seed);
            values[i] = (float)(round == 0 ? x : round == 1 ? x * x * x : x + (x > 0 ? 30 : 0));
            sorted[i] = (double)values[i];
        }
        qsort(sorted, N, sizeof *sorted, by_value);
        for (size_t i = 0; i < N; i++) {
            s0[i + 1] = s0[i] + 1;
            s1[i + 1] = s1[i] + (long double)sorted[i];
            s2[i + 1] = s2[i] + (long double)sorted[i] * (long double)sorted[i];
        }
        layers l = {s0, s1, s2, a, b};
        a[0] = 0;
        for (size_t i = 1; i <= N; i++)
            a[i] = INFINITY;
        for (unsigned k = 1; k <= 256; k++) {
            l.to[0] = INFINITY;
            conquer(&l, 1, N, 0, N);
            long double *swap = l.from;
            l.from = l.to;
            l.to = swap;
            if (k & (k - 1))
                continue;
            float centroids[256];
            double error;
            assert_ok(pal_kmeans_f32(values, NULL, N, k, centroids, NULL, &error));
            assert_true(fabs(error / (double)l.from[N] - 1) < 1e-7); /* float32 centroids */
        }
    }
}

/* ---------------------------------------------------------------- edges */

static void test_few_distinct(void **state)
{
    (void)state;
    uint16_t values[64], centroids[256];
    uint8_t indices[64];
    double error;
    for (unsigned distinct = 1; distinct <= 20; distinct++) {
        for (unsigned i = 0; i < 64; i++)
            values[i] = f16_from_double(i % distinct * 0.5 - 3);
        for (unsigned k = distinct; k <= 256; k += 5) {
            assert_ok(pal_kmeans_f16(values, NULL, 64, k, centroids, indices, &error));
            assert_true(error == 0);
            for (unsigned i = 0; i < 64; i++)
                assert_int_equal(centroids[indices[i]], values[i]);
            for (unsigned c = distinct; c < k; c++)
                assert_int_equal(centroids[c], centroids[distinct - 1]);
        }
    }
}

static void test_signed_zero(void **state)
{
    (void)state;
    uint16_t values[4] = {0x8000, 0x0000, 0x8000, 0x3c00}, centroids[2];
    float floats[3] = {-0.0f, 0.0f, 1.0f}, float_centroids[2];
    uint8_t indices[4];
    double error;
    assert_ok(pal_kmeans_f16(values, NULL, 4, 2, centroids, indices, &error));
    assert_true(error == 0 && centroids[0] == 0 && centroids[1] == 0x3c00);
    assert_true(indices[0] == 0 && indices[1] == 0 && indices[2] == 0 && indices[3] == 1);
    assert_ok(pal_kmeans_f32(floats, NULL, 3, 2, float_centroids, indices, &error));
    assert_true(error == 0 && indices[0] == 0 && indices[1] == 0 && indices[2] == 1);
}

static void test_refused(void **state)
{
    (void)state;
    uint16_t halves[3] = {0x3c00, 0x7c00, 0x3c00}, centroids[4];
    float floats[3] = {1, 2, NAN}, importance[3] = {1, -1, 1}, float_centroids[4];
    assert_int_equal(pal_kmeans_f16(halves, NULL, 3, 4, centroids, NULL, NULL), PAL_ERROR_VALUE);
    assert_string_equal(pal_error_message(), "element 1 is infinite");
    halves[1] = 0xfe01;
    assert_int_equal(pal_kmeans_f16(halves, NULL, 3, 4, centroids, NULL, NULL), PAL_ERROR_VALUE);
    assert_string_equal(pal_error_message(), "element 1 is NaN");
    assert_int_equal(pal_kmeans_bf16((uint16_t[]){0xff80}, NULL, 1, 4, centroids, NULL, NULL),
                     PAL_ERROR_VALUE);
    assert_string_equal(pal_error_message(), "element 0 is minus infinity");
    assert_int_equal(pal_kmeans_f32(floats, NULL, 3, 4, float_centroids, NULL, NULL),
                     PAL_ERROR_VALUE);
    assert_string_equal(pal_error_message(), "element 2 is NaN");
    floats[2] = 3;
    assert_int_equal(pal_kmeans_f32(floats, importance, 3, 4, float_centroids, NULL, NULL),
                     PAL_ERROR_VALUE);
    assert_non_null(strstr(pal_error_message(), "importance of element 1"));
    assert_int_equal(pal_kmeans_f32(floats, NULL, 0, 4, float_centroids, NULL, NULL),
                     PAL_ERROR_ARGUMENT);
    assert_int_equal(pal_kmeans_f32(floats, NULL, 3, 0, float_centroids, NULL, NULL),
                     PAL_ERROR_ARGUMENT);
    assert_int_equal(pal_kmeans_f32(floats, NULL, 3, 257, float_centroids, NULL, NULL),
                     PAL_ERROR_ARGUMENT);
}

/* Values without importance are still served, and do not disturb the others. */
static void test_zero_importance(void **state)
{
    (void)state;
    float values[6] = {0, 1, 2, 10, 11, 50}, importance[6] = {1, 1, 1, 1, 1, 0}, centroids[3];
    uint8_t indices[6];
    double error;
    assert_ok(pal_kmeans_f32(values, importance, 6, 2, centroids, indices, &error));
    assert_true(fabsf(centroids[0] - 1) < 2e-6f && fabsf(centroids[1] - 10.5f) < 2e-6f);
    assert_int_equal(indices[5], 1);
    assert_true(fabs(error - 2.5) < 1e-9);
    memset(importance, 0, sizeof importance);
    assert_ok(pal_kmeans_f32(values, importance, 6, 3, centroids, indices, &error));
    assert_true(centroids[0] == 1 && centroids[1] == 10.5f && centroids[2] == 50);
    assert_true(error == 0);
}

/* The same where all but a few values have no importance, and are so many that their masses are
 * next to nothing beside those of the few: these are served as if they were alone, and the others,
 * with what centroids are left, nearly as if all counted the same. */
static void test_few_important(void **state)
{
    (void)state;
    enum { N = 20000, MOST = 50 };
    static float values[N], importance[N];
    static uint8_t indices[N];
    static const unsigned few[] = {5, 5, MOST, MOST}, clusters[] = {4, 16, 16, 256};
    uint64_t seed = 10;
    for (size_t i = 0; i < N; i++)
        values[i] = (float)random_normal(&seed);
    for (size_t t = 0; t < sizeof few / sizeof *few; t++) {
        const unsigned k = clusters[t];
        float centroids[256], one[256];
        double error, alone, equal, others = 0;
        for (size_t i = 0; i < N; i++)
            importance[i] = i < few[t] ? (float)(1 + i % 3) : 0;
        assert_ok(pal_kmeans_f32(values, importance, N, k, centroids, indices, &error));
        assert_ok(pal_kmeans_f32(values, importance, few[t], k, one, NULL, &alone));
        assert_ok(pal_kmeans_f32(values, NULL, N, k, one, NULL, &equal));
        assert_true(error <= alone * (1 + 1e-4) + 1e-12);
        for (unsigned c = 1; c < k; c++)
            assert_true(centroids[c] >= centroids[c - 1]);
        for (size_t i = few[t]; i < N; i++)
            others += pow((double)values[i] - (double)centroids[indices[i]], 2);
        if (k > few[t])
            assert_true(others < 1.25 * equal);
    }
}

/* The optimum is translation invariant where the grid allows it, and never falls behind with more
 * clusters. */
static void test_monotone(void **state)
{
    (void)state;
    enum { N = 5000 };
    static uint16_t values[N];
    uint16_t centroids[256];
    uint64_t seed = 9;
    double before = INFINITY, error;
    for (size_t i = 0; i < N; i++)
        values[i] = f16_from_double(random_normal(&seed));
    for (unsigned k = 1; k <= 256; k++) {
        assert_ok(pal_kmeans_f16(values, NULL, N, k, centroids, NULL, &error));
        assert_true(error <= before);
        before = error;
    }
}

/* More values than 32 bits count: the bins are brought to where those would have brought them. */
static void test_large_counts(void **state)
{
    (void)state;
    enum { MORE = 30 };
    const uint16_t one = 0x3c00, two = 0x4000;
    uint16_t values[MORE];
    float importance[MORE];
    bins bins = {0};
    for (size_t i = 0; i < MORE; i++) {
        values[i] = i % 3 ? one : two;
        importance[i] = 2;
    }
    for (int round = 0; round < 2; round++) { /* the second finds everything as it was */
        assert_ok(bins_begin(&bins));
        bins.counted = bins.histogram[one] = UINT32_MAX - 5;
        assert_ok(bins_add(&bins, values, importance, MORE));
        assert_ok(bins_add(&bins, values, importance, MORE));
        assert_ok(bins_end(&bins, GRID_FLOAT16));
        assert_int_equal(bins.count, 2);
        assert_true(bins.times[0] == UINT32_MAX - 5 + 40.0 && bins.times[1] == 20);
        assert_true(bins.mass[0] == 80 && bins.mass[1] == 40);
        assert_ok(bins_begin(&bins));
        values[0] = 0x7c00;
        bins.counted = bins.histogram[one] = UINT32_MAX;
        assert_ok(bins_add(&bins, values, importance, MORE));
        assert_int_equal(bins_end(&bins, GRID_FLOAT16), PAL_ERROR_VALUE);
        values[0] = two;
        assert_ok(bins_fill(&bins, GRID_FLOAT16, values, NULL, MORE));
        assert_true(bins.count == 2 && bins.times[0] == 20 && bins.times[1] == 10);
    }
    bins_free(&bins);
}

/* Squared error of the nearest of equally distant entries, as they are stored. */
static double steps_error(grid type, const void *values, size_t n, double least, double step,
                          unsigned size)
{
    double error = 0;
    for (size_t i = 0; i < n; i++) {
        double value = (double)grid_get(type, values, i), nearest = INFINITY;
        for (unsigned j = 0; j < size; j++)
            nearest = fmin(nearest, fabs(value - (double)grid_stored(type, least + j * step)));
        error += nearest * nearest;
    }
    return error;
}

/* Mode uniform takes the exact step or the one that the type can hold, whichever is better. */
static void test_uniform(void **state)
{
    (void)state;
    enum { COUNT = 700 };
    static const grid types[] = {GRID_FLOAT16, GRID_BFLOAT16, GRID_FLOAT32};
    unsigned rounded_ones = 0;
    uint64_t seed = 11;
    scalar_workspace workspace = {0};
    for (int round = 0; round < 90; round++) {
        const grid type = types[round % 3];
        const unsigned size = 1u << (1 + round % 8);
        const double plus = round % 2 ? 3 : 0;
        float room[COUNT];
        double least = INFINITY, greatest = -INFINITY;
        for (size_t i = 0; i < COUNT; i++) {
            grid_put(type, room, i, 0.05 * random_normal(&seed) + plus);
            least = fmin(least, (double)grid_get(type, room, i));
            greatest = fmax(greatest, (double)grid_get(type, room, i));
        }
        const double parts = size - 1;
        const double step =
            (double)grid_stored(type, (double)grid_stored(type, greatest - least) / parts);
        const double exact =
            steps_error(type, room, COUNT, least, (greatest - least) / parts, size);
        const double rounded = steps_error(type, room, COUNT, least, step, size);
        scalar_lut lut;
        assert_int_equal(scalar_bins(&workspace, type, room, NULL, COUNT), PAL_OK);
        assert_int_equal(scalar_lut_uniform(&workspace, size, &lut), PAL_OK);
        assert_true(lut.squared_error <= fmin(exact, rounded) * (1 + 1e-9));
        rounded_ones += rounded < exact * (1 - 1e-9);
        assert_true(lut.centroid[0] == least && lut.centroid[size - 1] <= greatest);
    }
    assert_in_range(rounded_ones, 5, 85);
    scalar_workspace_free(&workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exhaustive),      cmocka_unit_test(test_dynamic),
        cmocka_unit_test(test_many_values),     cmocka_unit_test(test_few_distinct),
        cmocka_unit_test(test_signed_zero),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_zero_importance), cmocka_unit_test(test_few_important),
        cmocka_unit_test(test_large_counts),    cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
