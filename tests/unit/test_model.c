/* The public interface on the package that the repository carries. */
#include "testing.h"

#include <unistd.h>

#include "base/file.h"
#include "base/half.h"
#include "format/format.h"

/* Compresses, saves, reads back, decompresses, saves, reads back: every stage must agree with the
 * report and with the stage before. */
static void round_trip(const char *const *pairs)
{
    const char *small = in("small.mlpackage");
    const char *plain = in("plain.mlpackage");
    pal_options *options = options_with(pairs);
    pal_model *original, *model, *saved, *dense;
    pal_report *report;
    uint64_t bytes, bytes_on_disk;
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &original));
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &model));
    assert_ok(pal_compress(model, options, NULL, NULL, &report));
    assert_ok(pal_model_save(model, small, &bytes));
    assert_ok(path_total_bytes(small, &bytes_on_disk));
    assert_int_equal(bytes, bytes_on_disk);

    assert_ok(pal_model_open(small, &saved));
    assert_int_equal(pal_model_weight_count(saved), pal_model_weight_count(original));
    assert_true(assert_reported(report, saved) >= 6);
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        const pal_weight *weight = pal_model_weight(saved, i);
        uint16_t *before = dense_values(original, i), *after = dense_values(saved, i);
        double error = 0;
        for (uint64_t e = 0; e < weight->elements; e++) {
            double d = (double)f16_to_float(before[e]) - (double)f16_to_float(after[e]);
            error += d * d;
        }
        if (entry->status == PAL_WEIGHT_COMPRESSED) {
            /* distances between vectors are summed in float32 */
            assert_true(fabs(error / (double)weight->elements - entry->mse) <= 1e-5 * entry->mse);
        } else {
            assert_true(error == 0);
        }
        free(before);
        free(after);
    }

    pal_report *back;
    assert_ok(pal_decompress(saved, NULL, NULL, &back));
    assert_ok(pal_model_save(saved, plain, NULL));
    assert_ok(pal_model_open(plain, &dense));
    for (size_t i = 0; i < pal_model_weight_count(dense); i++) {
        const pal_weight *weight = pal_model_weight(dense, i);
        assert_int_equal(weight->storage, PAL_STORAGE_DENSE);
        uint16_t *from_report = dense_values(model, i), *from_file = dense_values(dense, i);
        assert_memory_equal(from_report, from_file, weight->elements * 2);
        free(from_report);
        free(from_file);
    }
    pal_report_free(back);
    pal_report_free(report);
    pal_model_free(original);
    pal_model_free(model);
    pal_model_free(saved);
    pal_model_free(dense);
    pal_options_free(options);
}

static void test_per_tensor(void **state)
{
    (void)state;
    static const char *const widths[] = {"1", "2", "3", "4", "6", "8"};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        round_trip((const char *const[]){"nbits", widths[i], NULL});
}

static void test_grouped(void **state)
{
    (void)state;
    static const char *const sizes[] = {"1", "5", "16", "1000"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        round_trip((const char *const[]){"nbits", "3", "granularity", "per_grouped_channel",
                                         "group_size", sizes[i], NULL});
        round_trip((const char *const[]){"nbits", "2", "granularity", "per_grouped_channel",
                                         "group_size", sizes[i], "channel_axis", "1", NULL});
    }
}

static void test_vectors(void **state)
{
    (void)state;
    round_trip((const char *const[]){"nbits", "4", "cluster_dim", "2", NULL});
    round_trip((const char *const[]){"nbits", "6", "cluster_dim", "4", "granularity",
                                     "per_grouped_channel", "group_size", "20", NULL});
    round_trip((const char *const[]){"nbits", "3", "cluster_dim", "8", "granularity",
                                     "per_grouped_channel", "group_size", "16", "channel_axis", "1",
                                     NULL});
}

static void test_uniform(void **state)
{
    (void)state;
    round_trip((const char *const[]){"nbits", "4", "mode", "uniform", NULL});
    round_trip(
        (const char *const[]){"nbits", "6", "mode", "uniform", "weight_threshold", "0", NULL});
}

static void test_integer_tables(void **state)
{
    (void)state;
    round_trip((const char *const[]){"nbits", "4", "lut_dtype", "int8", NULL});
    round_trip((const char *const[]){"nbits", "3", "lut_dtype", "uint8", "granularity",
                                     "per_grouped_channel", "group_size", "5", NULL});
    round_trip((const char *const[]){"nbits", "4", "lut_dtype", "uint8", "cluster_dim", "2", NULL});
}

static void test_scales(void **state)
{
    (void)state;
    round_trip((const char *const[]){"nbits", "4", "enable_per_channel_scale", "true", NULL});
    round_trip((const char *const[]){"nbits", "2", "enable_per_channel_scale", "true",
                                     "granularity", "per_grouped_channel", "group_size", "16",
                                     "channel_axis", "1", NULL});
    round_trip((const char *const[]){"nbits", "4", "enable_per_channel_scale", "true",
                                     "cluster_dim", "2", NULL});
}

static void test_custom(void **state)
{
    (void)state;
    round_trip((const char *const[]){"mode", "custom", "lut", "[0.05, -0.1, 0, 0.2]", NULL});
    round_trip((const char *const[]){"mode", "custom", "cluster_dim", "2", "lut",
                                     "[[0.1, 0.1], [-0.1, 0.1], [0.1, -0.1], [-0.1, -0.1]]", NULL});
}

/* A model that was palettized and made dense again holds few distinct values: unique finds them. */
static void test_unique(void **state)
{
    (void)state;
    const char *plain = in("plain.mlpackage");
    pal_model *model;
    pal_report *report;
    round_trip((const char *const[]){"nbits", "4", NULL}); /* leaves plain.mlpackage */
    pal_options *options = options_with((const char *const[]){"mode", "unique", NULL});
    assert_ok(pal_model_open(plain, &model));
    assert_ok(pal_compress(model, options, NULL, NULL, &report));
    size_t four = 0;
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        if (entry->status == PAL_WEIGHT_COMPRESSED) {
            assert_true(entry->mse == 0 && isinf(entry->psnr) && entry->weight.nbits == 4);
            four++;
        }
    }
    assert_true(four >= 6);
    pal_report_free(report);
    pal_model_free(model);
    pal_model *original;
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &original));
    assert_ok(pal_compress(original, options, NULL, NULL, &report));
    for (size_t i = 0; i < pal_report_count(report); i++) {
        assert_int_equal(pal_report_get(report, i)->status, PAL_WEIGHT_SKIPPED);
        if (pal_report_get(report, i)->weight.elements > 2048 &&
            pal_report_get(report, i)->weight.rank > 1)
            assert_non_null(strstr(pal_report_get(report, i)->reason, "distinct values"));
    }
    pal_report_free(report);
    pal_model_free(original);
    pal_options_free(options);
}

/* Saved twice, with different numbers of threads: the same bytes. */
static void test_deterministic(void **state)
{
    (void)state;
    const char *const paths[] = {in("one.mlpackage"), in("two.mlpackage")};
    for (int i = 0; i < 2; i++) {
        pal_model *model;
        pal_options *options =
            options_with((const char *const[]){"nbits", "4", "granularity", "per_grouped_channel",
                                               "group_size", "4", "threads", i ? "3" : "1", NULL});
        assert_ok(pal_model_open(EXAMPLE_PACKAGE, &model));
        assert_ok(pal_compress(model, options, NULL, NULL, NULL));
        assert_ok(pal_model_save(model, paths[i], NULL));
        assert_ok(pal_model_save(model, paths[i], NULL)); /* over itself */
        pal_model_free(model);
        pal_options_free(options);
    }
    static const char *const files[] = {"Manifest.json", "Data/com.apple.CoreML/model.mlmodel",
                                        "Data/com.apple.CoreML/weights/weight.bin"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char *a = path_join(paths[0], files[f]), *b = path_join(paths[1], files[f]);
        assert_same_files(a, b);
        free(a);
        free(b);
    }
}

static bool stop_at_once(void *user, uint64_t done, uint64_t total, const char *what)
{
    ++*(int *)user;
    assert_true(done <= total && *what);
    return false;
}

/* Cancelled, and then again to the end: nothing of the first try remains. */
static void test_cancel(void **state)
{
    (void)state;
    pal_model *model;
    pal_options *options = options_with((const char *const[]){"nbits", "4", NULL});
    int calls = 0;
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &model));
    assert_int_equal(pal_compress(model, options, stop_at_once, &calls, NULL), PAL_ERROR_CANCELLED);
    assert_int_equal(calls, 1);
    for (size_t i = 0; i < pal_model_weight_count(model); i++)
        assert_int_equal(pal_model_weight(model, i)->storage, PAL_STORAGE_DENSE);
    assert_ok(pal_compress(model, options, NULL, NULL, NULL));
    pal_model_free(model);
    pal_options_free(options);
}

static void test_refused(void **state)
{
    (void)state;
    pal_model *model = NULL;
    assert_int_equal(pal_model_open("/nowhere/at/all", &model), PAL_ERROR_IO);
    assert_non_null(strstr(pal_error_message(), "/nowhere/at/all"));
    assert_null(model);
    assert_int_equal(pal_model_open(directory, &model), PAL_ERROR_FORMAT);
    assert_ok(pal_model_open(EXAMPLE_PACKAGE, &model));
    assert_int_equal(pal_model_save(model, "/nowhere/out.mlpackage", NULL), PAL_ERROR_IO);
    const char *full = in("full"), *file = in("full/precious");
    file_writer writer;
    staged_output stage;
    assert_ok(stage_directory(&stage, full));
    assert_ok(stage_commit(&stage));
    assert_ok(writer_open(&writer, file));
    assert_ok(writer_close(&writer));
    assert_int_equal(pal_model_save(model, full, NULL), PAL_ERROR_IO); /* no package: kept */
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(pal_model_save(model, file, NULL), PAL_ERROR_IO);
    const char *copy = in("copy.mlpackage"), *inside = in("copy.mlpackage/Data/out.mlpackage");
    pal_model *own = NULL;
    assert_ok(path_copy(EXAMPLE_PACKAGE, copy, NULL, NULL));
    assert_ok(pal_model_open(copy, &own));
    assert_fails(pal_model_save(own, inside, NULL), PAL_ERROR_ARGUMENT, "lies inside the input");
    assert_int_not_equal(access(inside, F_OK), 0);
    assert_ok(pal_model_save(own, copy, NULL));
    pal_model_free(own);
    assert_null(pal_model_weight(model, pal_model_weight_count(model)));
    pal_model_free(model);
}

static pal_status count_entry(void *count, const char *name)
{
    (void)name;
    ++*(size_t *)count;
    return PAL_OK;
}

/* Refused before the work as it would be after it; whatever the answer, nothing changes. */
static void test_destination(void **state)
{
    (void)state;
    static const char *const models[] = {EXAMPLE_PACKAGE, EXAMPLE_DIRECTORY "/fashion-mnist.onnx"};
    assert_int_equal(pal_model_check_destination(NULL, "x"), PAL_ERROR_ARGUMENT);
    for (size_t i = 0; i < 2; i++) {
        static const char content[] = "precious";
        static const char *const folders[] = {"destination-0", "destination-1"};
        const char *file = i ? in("destination-1/file") : in("destination-0/file");
        const char *fresh = i ? in("destination-1/new") : in("destination-0/new");
        pal_model *model;
        staged_output stage;
        file_writer writer;
        file_map map;
        assert_ok(stage_directory(&stage, in(folders[i])));
        assert_ok(stage_commit(&stage));
        assert_ok(writer_open(&writer, file));
        writer_write(&writer, content, sizeof content);
        assert_ok(writer_close(&writer));
        assert_ok(pal_model_open(models[i], &model));
        assert_int_equal(pal_model_check_destination(model, ""), PAL_ERROR_ARGUMENT);
        assert_fails(pal_model_check_destination(model, "/nowhere/out"), PAL_ERROR_IO,
                     "/nowhere/out: cannot create");
        assert_fails(pal_model_check_destination(model, in(folders[i])), PAL_ERROR_IO,
                     "not replaced");
        assert_ok(pal_model_check_destination(model, fresh));
        assert_int_equal(pal_model_check_destination(model, file), i ? PAL_OK : PAL_ERROR_IO);
        size_t entries = 0;
        assert_ok(directory_walk(in(folders[i]), count_entry, &entries));
        assert_int_equal(entries, 1);
        assert_ok(file_map_open(file, &map));
        assert_int_equal(map.size, sizeof content);
        assert_memory_equal(map.data, content, sizeof content);
        file_map_close(&map);
        pal_model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_per_tensor),     cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_vectors),        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_integer_tables), cmocka_unit_test(test_scales),
        cmocka_unit_test(test_custom),         cmocka_unit_test(test_unique),
        cmocka_unit_test(test_deterministic),  cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_destination),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
