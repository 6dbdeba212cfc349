/* ONNX models: compressing and restoring the examples, every form of palette, damaged files. */
#include "testing.h"

#include <dirent.h>
#include <unistd.h>

#include "base/file.h"
#include "format/format.h"
#include "samples.h"

static const char *const examples[] = {EXAMPLE_DIRECTORY "/fashion-mnist.onnx",
                                       EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx"};

static void assert_same_values(const pal_model *a, const pal_model *b)
{
    assert_int_equal(pal_model_weight_count(a), pal_model_weight_count(b));
    for (size_t i = 0; i < pal_model_weight_count(a); i++) {
        const pal_weight *x = pal_model_weight(a, i), *y = pal_model_weight(b, i);
        assert_string_equal(x->name, y->name);
        assert_string_equal(x->op, y->op);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->shape, y->shape, sizeof x->shape);
        void *before = dense_values(a, i), *after = dense_values(b, i);
        assert_memory_equal(before, after, x->elements * pal_dtype_bits(x->dtype) / 8);
        free(before);
        free(after);
    }
}

/* ---------------------------------------------------------------- with the public interface */

/* Compressed, saved, read back, decompressed, saved, read back: every stage agrees with the one
 * before. */
static void round_trip(const char *example, const char *const *pairs)
{
    const char *small = in("small.onnx"), *plain = in("plain.onnx");
    const char *again = in("again.onnx");
    pal_options *options = options_with(pairs);
    pal_model *model, *saved, *dense;
    pal_report *report;
    uint64_t bytes, bytes_on_disk;
    assert_ok(pal_model_open(example, &model));
    assert_string_equal(pal_model_format(model), "onnx");
    assert_ok(pal_compress(model, options, NULL, NULL, &report));
    assert_ok(pal_model_save(model, small, &bytes));
    assert_ok(pal_model_save(model, again, NULL));
    assert_true(same_files(small, again));
    assert_ok(path_total_bytes(small, &bytes_on_disk));
    assert_int_equal(bytes, bytes_on_disk);

    assert_ok(pal_model_open(small, &saved));
    assert_same_values(model, saved);
    assert_int_equal(assert_reported(report, saved), 6);
    assert_ok(pal_model_save(saved, again, NULL)); /* nothing changed: nothing changes */
    assert_true(same_files(small, again));

    assert_ok(pal_decompress(saved, NULL, NULL, NULL));
    assert_ok(pal_model_save(saved, plain, NULL));
    assert_ok(pal_model_open(plain, &dense));
    assert_same_values(model, dense);
    for (size_t i = 0; i < pal_model_weight_count(dense); i++)
        assert_int_equal(pal_model_weight(dense, i)->storage, PAL_STORAGE_DENSE);
    assert_ok(path_total_bytes(plain, &bytes));
    assert_int_equal(bytes, pal_model_bytes(model));
    pal_report_free(report);
    pal_model_free(model);
    pal_model_free(saved);
    pal_model_free(dense);
    pal_options_free(options);
}

static void test_per_tensor(void **state)
{
    (void)state;
    static const char *const widths[] = {"1", "2", "3", "4", "6", "8"};
    for (size_t e = 0; e < 2; e++)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
            round_trip(examples[e], (const char *const[]){"nbits", widths[i], NULL});
}

static void test_tables_and_scales(void **state)
{
    (void)state;
    for (size_t e = 0; e < sizeof examples / sizeof *examples; e++) {
        round_trip(examples[e], (const char *const[]){"nbits", "4", "lut_dtype", "int8", NULL});
        round_trip(examples[e],
                   (const char *const[]){"nbits", "3", "lut_dtype", "uint8", "granularity",
                                         "per_grouped_channel", "group_size", "8",
                                         "enable_per_channel_scale", "true", NULL});
        round_trip(examples[e],
                   (const char *const[]){"mode", "custom", "lut", "[-0.1, 0, 0.1, 0.2]",
                                         "enable_per_channel_scale", "true", NULL});
    }
}

static void test_grouped(void **state)
{
    (void)state;
    static const char *const sizes[] = {"1", "5", "16", "1000"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        round_trip(examples[0],
                   (const char *const[]){"nbits", "3", "granularity", "per_grouped_channel",
                                         "group_size", sizes[i], NULL});
        round_trip(examples[1],
                   (const char *const[]){"nbits", "8", "granularity", "per_grouped_channel",
                                         "group_size", sizes[i], "channel_axis", "1", NULL});
    }
}

/* Opened and saved: the same model, at most with its fields in another order. */
static void test_untouched(void **state)
{
    (void)state;
    const char *once = in("once.onnx"), *twice = in("twice.onnx");
    for (size_t e = 0; e < 2; e++) {
        pal_model *model, *saved;
        uint64_t bytes;
        assert_ok(pal_model_open(examples[e], &model));
        assert_ok(pal_model_save(model, once, &bytes));
        assert_int_equal(bytes, pal_model_bytes(model));
        assert_ok(pal_model_open(once, &saved));
        assert_same_values(model, saved);
        assert_ok(pal_model_save(saved, twice, NULL));
        assert_true(same_files(once, twice));
        pal_model_free(model);
        pal_model_free(saved);
    }
}

/* ---------------------------------------------------------------- every form of palette */

static void check_form(const sample_form *form, uint64_t *seed)
{
    const char *path = in("form.onnx");
    pal_model *model, *saved;
    assert_ok(pal_model_open(examples[0], &model));
    const size_t i = find_weight(model, "reduce.weight");
    const pal_weight *info = pal_model_weight(model, i); /* [32, 32, 3, 3] */
    replacement r = {.weight = i,
                     .palette = sample_palette(form, PAL_FLOAT32, 4, info->shape, seed)};
    assert_ok(model->format->replace(model, &r, 1));
    assert_ok(pal_model_save(model, path, NULL));
    assert_ok(pal_model_open(path, &saved));
    const pal_weight *weight = pal_model_weight(saved, i);
    assert_int_equal(weight->storage, PAL_STORAGE_PALETTIZED);
    assert_int_equal(weight->nbits, form->nbits);
    assert_int_equal(weight->num_luts, palette_num_luts(r.palette));
    assert_int_equal(weight->bytes, palette_bytes(r.palette));
    palette *read;
    assert_ok(saved->format->read_palette(saved, i, &read));
    assert_int_equal(read->vector_size, form->vector_size);
    assert_int_equal(read->lut_dtype, r.palette->lut_dtype);
    assert_memory_equal(read->blocks, r.palette->blocks, sizeof read->blocks);
    palette_free(read);
    assert_same_values(model, saved);
    assert_ok(pal_decompress(saved, NULL, NULL, NULL));
    assert_ok(pal_model_save(saved, path, NULL));
    pal_model_free(saved);
    assert_ok(pal_model_open(path, &saved));
    assert_same_values(model, saved);
    pal_model_free(model);
    pal_model_free(saved);
}

static void test_forms(void **state)
{
    (void)state;
    static const unsigned widths[] = {1, 2, 3, 4, 6, 8};
    uint64_t seed = 5;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        const unsigned n = widths[w];
        const sample_form forms[] = {
            {n, {1, 1, 1, 1}, 1, 0, 0, false, false, 0},
            {n, {4, 1, 1, 1}, 1, 0, 0, false, false, 0},
            {n, {32, 32, 3, 3}, 1, 0, 0, false, false, 0},
            {n, {2, 16, 3, 1}, 1, 0, 0, false, false, 0},
            {n, {1, 1, 1, 1}, 4, 0, 0, false, false, 0},
            {n, {1, 1, 1, 1}, 2, 1, 0, false, false, 0},
            {n, {1, 1, 1, 1}, 3, 3, 0, false, false, 0},
            {n, {4, 2, 1, 1}, 2, 0, 0, false, false, 0},
            {n, {16, 1, 1, 1}, 2, 0, 0, false, false, 0},
            {n, {1, 1, 1, 1}, 1, 0, PAL_INT8, false, false, 0},
            {n, {8, 1, 1, 1}, 1, 0, PAL_INT8, true, false, 0},
            {n, {8, 1, 1, 1}, 2, 1, PAL_INT8, true, true, 0},
            {n, {1, 1, 1, 1}, 1, 0, 0, false, true, 0},
            {n, {1, 4, 1, 1}, 2, 0, 0, false, true, 0},
            {n, {1, 1, 1, 1}, 1, 0, 0, false, false, 1},
            {n, {4, 1, 1, 1}, 1, 0, 0, false, true, 90},
            {n, {8, 1, 1, 1}, 2, 1, PAL_INT8, true, true, 50},
        };
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
            check_form(&forms[f], &seed);
    }
}

/* ---------------------------------------------------------------- graphs of all kinds */

static const sample_model plain = {.opset = 17, .ir_version = 8, .dtype = PAL_FLOAT32};

/* Compresses what is in `from` with the configuration of that text; what is saved has the same
 * values, names and functions. Returns how many weights were compressed. */
static size_t compress_with(const char *from, const char *config)
{
    pal_options *options;
    pal_model *model, *saved;
    pal_report *report;
    write_text(in("config.yaml"), config);
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, in("config.yaml")));
    assert_ok(pal_model_open(from, &model));
    assert_ok(pal_compress(model, options, NULL, NULL, &report));
    assert_ok(pal_model_save(model, in("small.onnx"), NULL));
    assert_ok(pal_model_open(in("small.onnx"), &saved));
    assert_same_values(model, saved);
    const size_t compressed = assert_reported(report, saved);
    pal_report_free(report);
    pal_model_free(model);
    pal_model_free(saved);
    pal_options_free(options);
    return compressed;
}

/* Weights of different widths in one graph share what unpacks bytes only where it is the same. */
static void test_widths_together(void **state)
{
    (void)state;
    sample_onnx(directory, &plain);
    assert_int_equal(compress_with(in("model.onnx"),
                                   "global_config: {nbits: 1, weight_threshold: 0}\n"
                                   "op_name_configs:\n"
                                   "  conv.weight: {nbits: 4, weight_threshold: 0}\n"
                                   "  up.weight: {nbits: 2, weight_threshold: 0}\n"
                                   "  bias: {nbits: 3, weight_threshold: 0}\n"
                                   "  linear.weight: {nbits: 6, weight_threshold: 0}\n"),
                     5);
}

/* Graphs keep their names when the operators around them change. */
static void test_branches(void **state)
{
    (void)state;
    sample_model model = plain;
    model.branches = true;
    for (int s = STORED_RAW; s <= STORED_EXTERNAL; s++) {
        model.storage = (sample_storage)s;
        sample_onnx(directory, &model);
        assert_int_equal(compress_with(in("model.onnx"), "global_config: {nbits: 4, "
                                                         "weight_threshold: 0}\n"),
                         7);
    }
}

/* The file with one text in the place of another of the same length, wherever it is. */
static void replace_text(const char *path, const char *old, const char *new)
{
    file_map map;
    const size_t length = strlen(old);
    size_t found = 0;
    assert_int_equal(length, strlen(new));
    assert_ok(file_map_open(path, &map));
    const size_t size = map.size;
    char *bytes = malloc(size);
    memcpy(bytes, map.data, size);
    file_map_close(&map);
    for (size_t i = 0; i + length <= size; i++) {
        if (memcmp(bytes + i, old, length) == 0) {
            memcpy(bytes + i, new, length);
            found++;
        }
    }
    assert_true(found > 0);
    write_data(path, bytes, size);
    free(bytes);
}

/* Names that look like ours, in the model already: of values, and of what is used but not there. */
static void test_names(void **state)
{
    (void)state;
    static const char config[] = "global_config: {nbits: 4, weight_threshold: 0}\n";
    static const char *const undefined[] = {"pal.0", "pal1.3", "pal99999999999999999999.0"};
    sample_onnx(directory, &plain);
    replace_text(in("model.onnx"), "conv.weight", "pal9999999.");
    replace_text(in("model.onnx"), "linear.weight", "pal10000000.0");
    assert_int_equal(compress_with(in("model.onnx"), config), 5);
    for (size_t i = 0; i < sizeof undefined / sizeof *undefined; i++) {
        sample_model model = plain;
        model.undefined = undefined[i];
        sample_onnx(directory, &model);
        assert_int_equal(compress_with(in("model.onnx"), config), 5);
    }
    /* The last operator of a palette has a name of the model. */
    sample_onnx(directory, &plain);
    replace_text(in("model.onnx"), "bias", "pal.");
    assert_int_equal(compress_with(in("model.onnx"), config), 5);
    assert_int_equal(compress_with(in("small.onnx"), config), 0);
}

static void test_two_of_a_name(void **state)
{
    (void)state;
    pal_model *model;
    sample_onnx(directory, &plain);
    replace_text(in("model.onnx"), "linear.weight", "shared.weight");
    assert_fails(pal_model_open(in("model.onnx"), &model), PAL_ERROR_FORMAT,
                 "two values of the name shared.weight");
}

/* A convolution whose groups are more than the channels. */
static void test_groups(void **state)
{
    (void)state;
    pal_model *model;
    pal_options *options = options_with((const char *const[]){
        "nbits", "2", "cluster_dim", "3", "weight_threshold", "0", "channel_axis", "0", NULL});
    sample_onnx(directory, &plain);
    replace_text(in("model.onnx"), "group\x18\x02", "group\x18\x09");
    assert_ok(pal_model_open(in("model.onnx"), &model));
    const size_t conv = find_weight(model, "conv.weight");
    assert_non_null(strstr(pal_model_skip_reason(model, conv, options), "does not divide"));
    assert_ok(pal_compress(model, options, NULL, NULL, NULL));
    assert_int_equal(pal_model_weight(model, conv)->storage, PAL_STORAGE_DENSE);
    pal_model_free(model);
    pal_options_free(options);
}

/* ---------------------------------------------------------------- external data */

static const sample_model external = {
    .opset = 17, .ir_version = 8, .dtype = PAL_FLOAT32, .storage = STORED_EXTERNAL, .distinct = 9};

static const char *const four_bit[] = {"nbits", "4", "weight_threshold", "300", NULL};

/* How many data files of a model of that name there are. */
static size_t data_files(const char *folder, const char *name)
{
    size_t count = 0;
    const size_t n = strlen(name);
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (struct dirent *entry; (entry = readdir(listing));)
        count += strncmp(entry->d_name, name, n) == 0 && strstr(entry->d_name + n, ".data");
    closedir(listing);
    return count;
}

static void assert_opens(const char *path)
{
    pal_model *model;
    assert_ok(pal_model_open(path, &model));
    pal_model_free(model);
}

/* A model that has been given another name keeps the data that it was written with, whatever is
 * written under its first name. */
static void test_data_of_others(void **state)
{
    (void)state;
    const char *out = in("kept/out.onnx"), *base = in("kept/base.onnx");
    sample_onnx(directory, &external);
    compress(in("model.onnx"), out, four_bit);
    assert_int_equal(data_files(in("kept"), "out.onnx"), 1);
    assert_int_equal(rename(out, base), 0);
    decompress(base, out);
    assert_opens(base);
    assert_int_equal(data_files(in("kept"), "out.onnx"), 2);
    /* The same where the output is another model, or is the input and has a second name. */
    decompress(base, out);
    assert_opens(base);
    assert_opens(out);
    assert_int_equal(unlink(out), 0);
    assert_int_equal(link(base, out), 0);
    decompress(base, out);
    assert_opens(base);
    assert_opens(out);
    path_remove(in("kept"));
}

/* A copy that is the input keeps what it reads from; a model that is replaced leaves nothing. */
static void test_data_replaced(void **state)
{
    (void)state;
    const char *out = in("replaced/out.onnx"), *copy = in("replaced/copy.onnx");
    sample_onnx(directory, &external);
    compress(in("model.onnx"), out, four_bit);
    assert_ok(path_copy(out, copy, NULL, NULL));
    decompress(copy, out);
    assert_opens(copy);
    assert_opens(out);
    assert_int_equal(data_files(in("replaced"), "out.onnx"), 2);
    path_remove(in("replaced"));

    compress(in("model.onnx"), in("replaced/out.onnx"), four_bit);
    decompress(out, out); /* in its own place */
    assert_int_equal(data_files(in("replaced"), "out.onnx"), 1);
    assert_opens(out);
    compress(in("model.onnx"), out, four_bit);
    assert_int_equal(data_files(in("replaced"), "out.onnx"), 1);
    assert_opens(out);
    path_remove(in("replaced"));
}

/* Behind a link, model and data lie together, where the link leads. */
static void test_linked_output(void **state)
{
    (void)state;
    const char *target = in("store/target.onnx"), *out = in("links/out.onnx");
    sample_onnx(directory, &external);
    write_text(target, "old");
    assert_int_equal(symlink("../store/target.onnx", out), 0);
    compress(in("model.onnx"), out, four_bit);
    assert_int_equal(data_files(in("store"), "target.onnx"), 1);
    assert_int_equal(data_files(in("links"), "out.onnx"), 0);
    assert_opens(target);
    assert_opens(out);
    path_remove(in("store"));
    path_remove(in("links"));
}

/* Where the place of data has no length, it is what the shape takes. */
static void test_no_length(void **state)
{
    (void)state;
    pal_model *with, *without;
    sample_onnx(directory, &external);
    assert_ok(pal_model_open(in("model.onnx"), &with));
    assert_ok(path_copy(in("model.onnx"), in("short.onnx"), NULL, NULL));
    replace_text(in("short.onnx"), "length", "LENGTH");
    assert_ok(pal_model_open(in("short.onnx"), &without));
    assert_true(pal_model_weight_count(with) > 2);
    assert_same_values(with, without);
    pal_model_free(with);
    pal_model_free(without);
}

/* ---------------------------------------------------------------- damage */

/* A damaged file is refused, or does what it says; it never crashes. */
static void test_damage(void **state)
{
    (void)state;
    const char *small = in("small.onnx"), *bad = in("bad.onnx");
    uint64_t seed = 3;
    file_map map;
    round_trip(examples[0],
               (const char *const[]){"nbits", "6", "granularity", "per_grouped_channel", NULL});
    assert_ok(file_map_open(small, &map));
    unsigned char *bytes = malloc(map.size);
    for (size_t i = 0; i < 400; i++) {
        size_t size = map.size;
        memcpy(bytes, map.data, map.size);
        if (i % 4 == 0)
            size = random_below(&seed, (unsigned)map.size);
        for (unsigned n = random_below(&seed, 4); n > 0; n--)
            bytes[random_below(&seed, i % 2 ? 8192 : (unsigned)map.size)] =
                (unsigned char)random_bits(&seed);
        write_data(bad, bytes, size);
        pal_model *model;
        if (pal_model_open(bad, &model))
            continue;
        if (!pal_decompress(model, NULL, NULL, NULL))
            (void)pal_model_save(model, bad, NULL);
        pal_model_free(model);
    }
    free(bytes);
    file_map_close(&map);
}

static void test_refused(void **state)
{
    (void)state;
    pal_model *model;
    const char *path = in("empty.onnx");
    write_data(path, "", 0);
    assert_int_equal(pal_model_open(path, &model), PAL_ERROR_FORMAT);
    assert_non_null(strstr(pal_error_message(), "without a graph"));
    write_data(path, "\x3a\xff\xff\xff\x0f", 5); /* a graph of 32 MiB */
    assert_int_equal(pal_model_open(path, &model), PAL_ERROR_FORMAT);
    assert_ok(pal_model_open(examples[0], &model));
    assert_int_equal(pal_model_save(model, directory, NULL), PAL_ERROR_IO); /* kept */
    assert_int_equal(access(directory, F_OK), 0);
    assert_int_equal(pal_model_save(model, "/nowhere/out.onnx", NULL), PAL_ERROR_IO);
    pal_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_per_tensor),
        cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_tables_and_scales),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_widths_together),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_two_of_a_name),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_data_of_others),
        cmocka_unit_test(test_data_replaced),
        cmocka_unit_test(test_linked_output),
        cmocka_unit_test(test_no_length),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
