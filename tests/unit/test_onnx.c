/* ONNX models: compressing and restoring the examples, every form of palette, damaged files. */
#include "testing.h"

#include <unistd.h>

#include "base/file.h"
#include "format/format.h"
#include "palette/pack.h"

static char directory[] = "/tmp/palettize-test-XXXXXX";

static const char *const examples[] = {EXAMPLE_DIRECTORY "/fashion-mnist.onnx",
                                       EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx"};

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    path_remove(directory);
    return 0;
}

/* The dense values of weight i of an open model, in fresh memory. */
static void *dense_values(const pal_model *model, size_t i)
{
    const model_weight *weight = &model->weights[i];
    size_t bytes = weight->info.elements * pal_dtype_bits(weight->info.dtype) / 8;
    void *values = malloc(bytes);
    if (weight->info.storage == PAL_STORAGE_DENSE) {
        memcpy(values, weight->dense, bytes);
    } else {
        palette *palette;
        assert_ok(model->format->read_palette(model, i, &palette));
        assert_ok(palette_decode(palette, values));
        palette_free(palette);
    }
    return values;
}

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

/* Whether two files are the same bytes. */
static bool same_files(const char *a, const char *b)
{
    file_map x, y;
    assert_ok(file_map_open(a, &x));
    assert_ok(file_map_open(b, &y));
    bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    file_map_close(&x);
    file_map_close(&y);
    return same;
}

/* ---------------------------------------------------------------- with the public interface */

/* Compressed, saved, read back, decompressed, saved, read back: every stage agrees with the one
 * before. */
static void round_trip(const char *example, const char *const *pairs)
{
    char *small = path_join(directory, "small.onnx"), *plain = path_join(directory, "plain.onnx");
    char *again = path_join(directory, "again.onnx");
    pal_options *options;
    pal_model *model, *saved, *dense;
    pal_report *report;
    uint64_t bytes, bytes_on_disk;
    size_t compressed = 0;
    assert_ok(pal_options_new(&options));
    for (; *pairs; pairs += 2)
        assert_ok(pal_options_set(options, pairs[0], pairs[1]));
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
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        const pal_weight *weight = pal_model_weight(saved, i);
        assert_int_equal(entry->weight.storage, weight->storage);
        assert_int_equal(entry->weight.nbits, weight->nbits);
        assert_int_equal(entry->weight.num_luts, weight->num_luts);
        assert_int_equal(entry->weight.bytes, weight->bytes);
        assert_int_equal(entry->weight.channel_axis, weight->channel_axis);
        compressed += entry->status == PAL_WEIGHT_COMPRESSED;
    }
    assert_int_equal(compressed, 6);
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
    free(small);
    free(plain);
    free(again);
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
    char *once = path_join(directory, "once.onnx"), *twice = path_join(directory, "twice.onnx");
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
    free(once);
    free(twice);
}

/* ---------------------------------------------------------------- every form of palette */

typedef struct form {
    unsigned nbits;
    uint64_t blocks[4];
    size_t vector_size, vector_axis;
    bool integers, offsets, scaled;
} form;

static void fill_floats(float *values, uint64_t count, uint64_t *seed)
{
    for (uint64_t i = 0; values && i < count; i++)
        values[i] = (float)random_normal(seed);
}

/* A palette of this form with random content for a weight [32, 32, 3, 3]. */
static palette *random_palette(const form *form, const pal_weight *weight, uint64_t *seed)
{
    palette *p = calloc(1, sizeof *p);
    p->nbits = form->nbits;
    p->dtype = PAL_FLOAT32;
    p->lut_dtype = form->integers ? PAL_INT8 : PAL_FLOAT32;
    p->rank = weight->rank;
    p->vector_size = form->vector_size;
    p->vector_axis = form->vector_axis;
    memcpy(p->shape, weight->shape, sizeof p->shape);
    memcpy(p->blocks, form->blocks, sizeof form->blocks);
    const uint64_t count = palette_index_count(p), entries = palette_lut_elements(p);
    const uint64_t tables = palette_num_luts(p);
    uint8_t *indices = malloc(count);
    for (uint64_t i = 0; i < count; i++)
        indices[i] = (uint8_t)random_below(seed, 1u << form->nbits);
    uint8_t *packed = palette_allocate(p, palette_index_bytes(p), 1);
    pack_indices(indices, count, form->nbits, packed);
    free(indices);
    p->indices = packed;
    if (form->integers) {
        int8_t *lut = palette_allocate(p, entries, 1), *offset = NULL;
        float *scale = palette_allocate(p, tables, sizeof *scale);
        for (uint64_t i = 0; i < entries; i++)
            lut[i] = (int8_t)random_bits(seed);
        if (form->offsets)
            offset = palette_allocate(p, tables, 1);
        for (uint64_t i = 0; offset && i < tables; i++)
            offset[i] = (int8_t)random_bits(seed);
        fill_floats(scale, tables, seed);
        p->lut = lut;
        p->lut_offset = offset;
        p->lut_scale = scale;
    } else {
        float *lut = palette_allocate(p, entries, sizeof *lut);
        fill_floats(lut, entries, seed);
        p->lut = lut;
    }
    if (form->scaled) {
        float *scale = palette_allocate(p, p->shape[0], sizeof *scale);
        fill_floats(scale, p->shape[0], seed);
        for (size_t d = 0; d < p->rank; d++)
            p->scale_shape[d] = d ? 1 : p->shape[0];
        p->scale = scale;
    }
    return p;
}

static void check_form(const form *form, uint64_t *seed)
{
    char *path = path_join(directory, "form.onnx");
    pal_model *model, *saved;
    size_t i = 0;
    assert_ok(pal_model_open(examples[0], &model));
    while (strcmp(pal_model_weight(model, i)->name, "reduce.weight") != 0)
        i++;
    replacement r = {.weight = i,
                     .palette = random_palette(form, pal_model_weight(model, i), seed)};
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
    free(path);
}

static void test_forms(void **state)
{
    (void)state;
    static const unsigned widths[] = {1, 2, 3, 4, 6, 8};
    uint64_t seed = 5;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        const unsigned n = widths[w];
        const form forms[] = {
            {n, {1, 1, 1, 1}, 1, 0, false, false, false},
            {n, {4, 1, 1, 1}, 1, 0, false, false, false},
            {n, {32, 32, 3, 3}, 1, 0, false, false, false},
            {n, {2, 16, 3, 1}, 1, 0, false, false, false},
            {n, {1, 1, 1, 1}, 4, 0, false, false, false},
            {n, {1, 1, 1, 1}, 2, 1, false, false, false},
            {n, {1, 1, 1, 1}, 3, 3, false, false, false},
            {n, {4, 2, 1, 1}, 2, 0, false, false, false},
            {n, {16, 1, 1, 1}, 2, 0, false, false, false},
            {n, {1, 1, 1, 1}, 1, 0, true, false, false},
            {n, {8, 1, 1, 1}, 1, 0, true, true, false},
            {n, {8, 1, 1, 1}, 2, 1, true, true, true},
            {n, {1, 1, 1, 1}, 1, 0, false, false, true},
            {n, {1, 4, 1, 1}, 2, 0, false, false, true},
        };
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
            check_form(&forms[f], &seed);
    }
}

/* ---------------------------------------------------------------- damage */

static void write_file(const char *path, const void *data, size_t size)
{
    file_writer writer;
    assert_ok(writer_open(&writer, path));
    writer_write(&writer, data, size);
    assert_ok(writer_close(&writer));
}

/* A damaged file is refused, or does what it says; it never crashes. */
static void test_damage(void **state)
{
    (void)state;
    char *small = path_join(directory, "small.onnx"), *bad = path_join(directory, "bad.onnx");
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
        write_file(bad, bytes, size);
        pal_model *model;
        if (pal_model_open(bad, &model))
            continue;
        if (!pal_decompress(model, NULL, NULL, NULL))
            (void)pal_model_save(model, bad, NULL);
        pal_model_free(model);
    }
    free(bytes);
    file_map_close(&map);
    free(small);
    free(bad);
}

static void test_refused(void **state)
{
    (void)state;
    pal_model *model;
    char *path = path_join(directory, "empty.onnx");
    write_file(path, "", 0);
    assert_int_equal(pal_model_open(path, &model), PAL_ERROR_FORMAT);
    assert_non_null(strstr(pal_error_message(), "without a graph"));
    write_file(path, "\x3a\xff\xff\xff\x0f", 5); /* a graph of 32 MiB */
    assert_int_equal(pal_model_open(path, &model), PAL_ERROR_FORMAT);
    assert_ok(pal_model_open(examples[0], &model));
    assert_int_equal(pal_model_save(model, directory, NULL), PAL_ERROR_IO); /* kept */
    assert_int_equal(access(directory, F_OK), 0);
    assert_int_equal(pal_model_save(model, "/nowhere/out.onnx", NULL), PAL_ERROR_IO);
    pal_model_free(model);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_per_tensor),
        cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_tables_and_scales),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
