/* Histograms and tables of the weights of a model, against plain counting. */
#include "testing.h"

#include "base/half.h"
#include "format/format.h"

/* Counts the same values again, with the bins found by comparing with their edges. */
static void test_histogram(void **state)
{
    (void)state;
    pal_model *model;
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &model));
    for (size_t i = 0; i < pal_model_weight_count(model); i++) {
        const pal_weight *weight = pal_model_weight(model, i);
        const uint16_t *values = model->weights[i].dense;
        pal_histogram h;
        uint64_t total, below = 0, above = 0, counts[PAL_HISTOGRAM_BINS] = {0};
        double mean = 0, variance = 0, least = INFINITY, greatest = -INFINITY;
        assert_ok(pal_model_histogram(model, i, &h));
        for (uint64_t e = 0; e < weight->elements; e++) {
            const double value = (double)f16_to_float(values[e]);
            mean += value / (double)weight->elements;
            least = value < least ? value : least;
            greatest = value > greatest ? value : greatest;
        }
        for (uint64_t e = 0; e < weight->elements; e++) {
            const double difference = (double)f16_to_float(values[e]) - mean;
            variance += difference * difference / (double)weight->elements;
        }
        const double deviation = sqrt(variance), close = 1e-9 * (fabs(mean) + deviation);
        const double low = mean - 5 * deviation, high = mean + 5 * deviation;
        assert_true(fabs(h.low - (least > low ? least : low)) <= close);
        assert_true(fabs(h.high - (greatest < high ? greatest : high)) <= close);
        for (uint64_t e = 0; e < weight->elements; e++) {
            const double value = (double)f16_to_float(values[e]);
            below += value < h.low;
            above += value > h.high;
            size_t bin = PAL_HISTOGRAM_BINS - 1;
            while (bin && value < h.low + (h.high - h.low) * (double)bin / PAL_HISTOGRAM_BINS)
                bin--;
            counts[bin] += value >= h.low && value <= h.high;
        }
        total = h.below + h.above;
        uint64_t differences = 0;
        for (size_t b = 0; b < PAL_HISTOGRAM_BINS; b++) {
            total += h.counts[b];
            differences +=
                h.counts[b] > counts[b] ? h.counts[b] - counts[b] : counts[b] - h.counts[b];
        }
        assert_int_equal(total, weight->elements);
        assert_int_equal(h.below, below);
        assert_int_equal(h.above, above);
        assert_true(differences <= 2); /* values on an edge */
    }
    pal_histogram h;
    assert_fails(pal_model_histogram(model, 1000, &h), PAL_ERROR_ARGUMENT, "no such weight");
    pal_model_free(model);
}

/* Every value of the dense tensor stands in the table, and every entry was asked for. */
static void check_tables(const char *const *pairs, size_t vector)
{
    pal_model *model;
    pal_options *options = options_with(pairs);
    size_t seen = 0;
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &model));
    assert_ok(pal_compress(model, options, NULL, NULL, NULL));
    for (size_t i = 0; i < pal_model_weight_count(model); i++) {
        const pal_weight *weight = pal_model_weight(model, i);
        float *table;
        size_t count;
        bool scaled;
        pal_histogram h;
        if (weight->storage != PAL_STORAGE_PALETTIZED) {
            assert_fails(pal_model_luts(model, i, &table, &count, &scaled), PAL_ERROR_UNSUPPORTED,
                         "not palettized");
            continue;
        }
        assert_ok(pal_model_luts(model, i, &table, &count, &scaled));
        assert_int_equal(count, (weight->num_luts << weight->nbits) * vector);
        assert_false(scaled);
        uint16_t *values = dense_values(model, i);
        for (uint64_t e = 0; e < weight->elements; e++) {
            size_t entry = 0;
            while (entry < count && table[entry] != f16_to_float(values[e]))
                entry++;
            assert_true(entry < count);
        }
        free(values);
        pal_free(table);
        assert_fails(pal_model_histogram(model, i, &h), PAL_ERROR_UNSUPPORTED, "not stored");
        seen++;
    }
    assert_true(seen >= 6);
    pal_options_free(options);
    pal_model_free(model);
}

static void test_tables(void **state)
{
    (void)state;
    check_tables((const char *const[]){"nbits", "4", NULL}, 1);
    check_tables((const char *const[]){"nbits", "3", "granularity", "per_grouped_channel",
                                       "group_size", "8", NULL},
                 1);
    check_tables((const char *const[]){"nbits", "2", "cluster_dim", "2", NULL}, 2);
    check_tables((const char *const[]){"nbits", "4", "lut_dtype", "int8", NULL}, 1);
}

/* In ONNX files the scales stand apart from the tables, which then hold quotients. */
static void test_scaled_tables(void **state)
{
    (void)state;
    pal_model *model;
    size_t seen = 0;
    pal_options *options =
        options_with((const char *const[]){"nbits", "4", "enable_per_channel_scale", "true", NULL});
    assert_ok(pal_model_open(EXAMPLE_DIRECTORY "/fashion-mnist.onnx", &model));
    assert_ok(pal_compress(model, options, NULL, NULL, NULL));
    for (size_t i = 0; i < pal_model_weight_count(model); i++) {
        float *table;
        size_t count;
        bool scaled = false;
        if (pal_model_weight(model, i)->storage != PAL_STORAGE_PALETTIZED)
            continue;
        assert_ok(pal_model_luts(model, i, &table, &count, &scaled));
        assert_true(scaled);
        for (size_t e = 0; e < count; e++)
            assert_true(fabs((double)table[e]) <= 1);
        pal_free(table);
        seen++;
    }
    assert_true(seen >= 6);
    pal_options_free(options);
    pal_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_scaled_tables),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
