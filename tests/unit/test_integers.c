/* Integer tables: what they hold, and how close they come. */
#include "testing.h"

#include "cluster/integers.h"

enum { COUNT = 6000 };

static const grid kinds[] = {GRID_INT8, GRID_UINT8};
static const grid types[] = {GRID_FLOAT16, GRID_BFLOAT16, GRID_FLOAT32};

/* Values of one of the float types: normal, times and plus something. */
static void fill(grid type, void *values, size_t n, double times, double plus, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        grid_put(type, values, i, times * random_normal(&seed) + plus);
}

/* Every entry is in range, what it stands for is the centroid, and the errors are those of the
 * nearest centroids. */
static void check_table(const scalar_lut *lut, grid kind, grid type, const void *values, size_t n)
{
    const integer_scale scale = {lut->scale, lut->offset};
    double error = 0;
    assert_true(lut->scale > 0 && lut->scale == (double)grid_stored(type, lut->scale));
    assert_true(kind == GRID_UINT8 || lut->offset == 0);
    assert_in_range(lut->offset, 0, 255);
    for (unsigned i = 0; i < lut->size; i++) {
        assert_true(lut->entry[i] == (int)grid_round(kind, lut->entry[i]));
        assert_true(lut->centroid[i] == integer_value(type, scale, lut->entry[i]));
        assert_true(i == 0 || lut->centroid[i - 1] <= lut->centroid[i]);
        assert_true(isfinite(lut->centroid[i]));
    }
    for (size_t i = 0; i < n; i++) {
        double value = (double)grid_get(type, values, i), least = INFINITY;
        for (unsigned j = 0; j < lut->size; j++)
            least = fmin(least, fabs(value - lut->centroid[j]));
        error += least * least;
    }
    assert_true(fabs(error - lut->squared_error) <= 1e-9 * error);
}

/* Not worse than what coremltools does to a table: scale the largest entry to 127, round. */
static double rounded_error(const scalar_lut *lut, grid type, const void *values, size_t n)
{
    double peak = fmax(fabs(lut->centroid[0]), fabs(lut->centroid[lut->size - 1])), error = 0;
    const double scale = (double)grid_stored(type, peak / 127);
    double centroids[SCALAR_MAX_LUT];
    for (unsigned i = 0; i < lut->size; i++)
        centroids[i] = (double)grid_stored(type, rint(lut->centroid[i] / scale) * scale);
    for (size_t i = 0; i < n; i++) {
        double value = (double)grid_get(type, values, i), least = INFINITY;
        for (unsigned j = 0; j < lut->size; j++)
            least = fmin(least, fabs(value - centroids[j]));
        error += least * least;
    }
    return error;
}

static void test_tables(void **state)
{
    (void)state;
    static const unsigned sizes[] = {2, 4, 16, 256};
    static const double places[][2] = {{1, 0}, {0.02, 0}, {1e-3, 0.5}, {3, -40}};
    void *values = malloc(COUNT * sizeof(float));
    scalar_workspace workspace = {0};
    for (size_t t = 0; t < 3; t++) {
        for (size_t p = 0; p < 4; p++) {
            fill(types[t], values, COUNT, places[p][0], places[p][1], t + 10 * p);
            assert_ok(scalar_bins(&workspace, types[t], values, NULL, COUNT));
            for (size_t s = 0; s < 4; s++) {
                scalar_lut exact, table;
                assert_ok(scalar_lut_kmeans(&workspace, sizes[s], &exact));
                for (size_t k = 0; k < 2; k++) {
                    table = exact;
                    assert_ok(scalar_lut_integers(&workspace, kinds[k], false, &table));
                    check_table(&table, kinds[k], types[t], values, COUNT);
                    assert_true(table.squared_error >= exact.squared_error * (1 - 1e-9));
                    assert_true(table.squared_error <=
                                rounded_error(&exact, types[t], values, COUNT) * (1 + 1e-9));
                }
            }
        }
    }
    scalar_workspace_free(&workspace);
    free(values);
}

/* With two entries everything can be tried: all pairs of integers at the scale found. */
static void test_best_at_its_scale(void **state)
{
    (void)state;
    enum { FEW = 60 };
    uint16_t values[FEW];
    scalar_workspace workspace = {0};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        fill(GRID_FLOAT16, values, FEW, 1, 0.3, seed);
        scalar_lut table;
        assert_ok(scalar_bins(&workspace, GRID_FLOAT16, values, NULL, FEW));
        assert_ok(scalar_lut_kmeans(&workspace, 2, &table));
        assert_ok(scalar_lut_integers(&workspace, GRID_INT8, false, &table));
        const integer_scale scale = {table.scale, table.offset};
        double best = INFINITY;
        for (int a = -128; a <= 127; a++) {
            for (int b = a; b <= 127; b++) {
                double x = integer_value(GRID_FLOAT16, scale, a), error = 0;
                double y = integer_value(GRID_FLOAT16, scale, b);
                for (size_t i = 0; i < FEW; i++) {
                    double value = (double)f16_to_float(values[i]);
                    double d = fmin(fabs(value - x), fabs(value - y));
                    error += d * d;
                }
                best = fmin(best, error);
            }
        }
        /* Products are rounded to float16, which clustering in units of the scale does not see. */
        assert_true(table.squared_error <= best * (1 + 1e-3));
    }
    scalar_workspace_free(&workspace);
}

static void test_given_entries(void **state)
{
    (void)state;
    static const double entries[] = {0.5, -1, 2, 0}, sorted[] = {-1, 0, 0.5, 2};
    float values[COUNT];
    scalar_workspace workspace = {0};
    scalar_lut table;
    uint8_t index;
    fill(GRID_FLOAT32, values, COUNT, 1, 0, 3);
    assert_ok(scalar_bins(&workspace, GRID_FLOAT32, values, NULL, COUNT));
    assert_ok(scalar_lut_given(&workspace, 4, entries, &table));
    for (unsigned i = 0; i < 4; i++) {
        assert_true(table.centroid[i] == sorted[i]);
        assert_true(entries[table.place[i]] == sorted[i]);
    }
    for (size_t i = 0; i < 100; i++) {
        scalar_indices(&workspace, &values[i], 1, &index);
        for (unsigned j = 0; j < 4; j++)
            assert_true(fabs((double)values[i] - entries[index]) <=
                        fabs((double)values[i] - entries[j]));
    }
    for (size_t k = 0; k < 2; k++) {
        assert_ok(scalar_lut_given(&workspace, 4, entries, &table));
        assert_ok(scalar_lut_integers(&workspace, kinds[k], true, &table));
        for (unsigned i = 0; i < 4; i++) /* the same entries, rounded */
            assert_true(fabs(table.centroid[i] - sorted[i]) <= table.scale / 2 * (1 + 1e-6));
    }
    scalar_workspace_free(&workspace);
}

static void test_extremes(void **state)
{
    (void)state;
    static const double places[][2] = {{15000, 0}, {1e-7, 0}, {0, 0}, {0, 65504}, {0, -6e-8}};
    uint16_t values[500];
    scalar_workspace workspace = {0};
    for (size_t p = 0; p < 5; p++) {
        uint64_t seed = p + 1;
        for (size_t i = 0; i < 500; i++) {
            double value = places[p][0] * random_normal(&seed) + places[p][1];
            values[i] = f16_from_double(fmax(-65504, fmin(65504, value)));
        }
        for (size_t k = 0; k < 2; k++) {
            scalar_lut table;
            assert_ok(scalar_bins(&workspace, GRID_FLOAT16, values, NULL, 500));
            assert_ok(scalar_lut_kmeans(&workspace, 16, &table));
            assert_ok(scalar_lut_integers(&workspace, kinds[k], false, &table));
            check_table(&table, kinds[k], GRID_FLOAT16, values, 500);
        }
    }
    scalar_workspace_free(&workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_best_at_its_scale),
        cmocka_unit_test(test_given_entries),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
