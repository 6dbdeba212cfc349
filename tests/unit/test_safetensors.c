/* safetensors checkpoints: files that the tests write themselves, there and back. */
#include "testing.h"

#include <sys/stat.h>
#include <unistd.h>

#include "format/safetensors/safetensors.h"
#include "samples.h"

/* ---------------------------------------------------------------- tensors */

static const sample_tensor samples[] = {
    {"model.embed_tokens.weight", PAL_BFLOAT16, 96, 32},
    {"layers.0.q_proj.weight", PAL_BFLOAT16, 64, 48},
    {"layers.0.k_proj.weight", PAL_FLOAT16, 30, 100},
    {"layers.0.up_proj.weight", PAL_FLOAT32, 50, 44},
    {"layers.0.odd.weight", PAL_BFLOAT16, 47, 53},
    {"layers.0.input_layernorm.weight", PAL_BFLOAT16, 32, 0},
    {"layers.0.q_proj.bias", PAL_FLOAT16, 3, 0},
    {"layers.0.double.weight", PAL_FLOAT64, 64, 64},
    {"layers.0.small.weight", PAL_FLOAT8E4M3FN, 64, 64},
    {"position_ids", PAL_INT64, 5, 0},
    {"lm_head.weight", PAL_BFLOAT16, 96, 32},
};

enum { SAMPLES = sizeof samples / sizeof *samples };

/* Writes samples[first .. end). */
static uint64_t write_samples(const char *path, size_t first, size_t end, unsigned distinct,
                              size_t pad)
{
    return sample_checkpoint(path, samples + first, end - first, distinct, pad, 7 + first);
}

/* ---------------------------------------------------------------- one file */

/* Which weights are palettized, and that what was saved is what was reported. */
static void test_single(void **state)
{
    (void)state;
    pal_model *model, *saved;
    pal_report *report;
    uint64_t bytes, on_disk;
    write_samples(in("in.safetensors"), 0, SAMPLES, 0, 8);
    pal_options *options = options_with((const char *const[]){
        "nbits", "3", "granularity", "per_grouped_channel", "group_size", "16", NULL});
    assert_ok(pal_model_open(in("in.safetensors"), &model));
    assert_string_equal(pal_model_format(model), "safetensors");
    assert_int_equal(pal_model_weight_count(model), SAMPLES - 1); /* not the integers */
    assert_ok(pal_compress(model, options, NULL, NULL, &report));
    assert_ok(pal_model_save(model, in("out.safetensors"), &bytes));
    assert_ok(path_total_bytes(in("out.safetensors"), &on_disk));
    assert_int_equal(bytes, on_disk);
    assert_ok(pal_model_open(in("out.safetensors"), &saved));
    assert_int_equal(pal_model_weight_count(saved), pal_model_weight_count(model));
    assert_int_equal(assert_reported(report, saved), 5);
    assert_non_null(strstr(pal_report_get(report, 0)->reason, "embedding"));
    assert_int_equal(
        pal_model_weight(saved, find_weight(saved, "layers.0.k_proj.weight"))->num_luts,
        2); /* groups of 15 */
    pal_report_free(report);
    pal_model_free(model);
    pal_model_free(saved);
    pal_options_free(options);
    decompress(in("out.safetensors"), in("back.safetensors"));
    compress(in("back.safetensors"), in("again.safetensors"),
             (const char *const[]){"mode", "unique", "granularity", "per_grouped_channel",
                                   "group_size", "16", NULL});
    decompress(in("again.safetensors"), in("back2.safetensors"));
    assert_same_files(in("back.safetensors"), in("back2.safetensors"));
}

/* Few distinct values: compressing loses nothing, and decompressing gives the same file. */
static void test_lossless(void **state)
{
    (void)state;
    static const unsigned distinct[] = {2, 4, 7, 16, 40, 200};
    for (size_t i = 0; i < sizeof distinct / sizeof *distinct; i++) {
        write_samples(in("in.safetensors"), 0, SAMPLES, distinct[i], 8);
        compress(in("in.safetensors"), in("out.safetensors"),
                 (const char *const[]){"mode", "unique", "embeddings", "palettize", NULL});
        decompress(in("out.safetensors"), in("back.safetensors"));
        assert_same_files(in("in.safetensors"), in("back.safetensors"));
    }
}

/* A header of odd length leaves no tensor aligned. */
static void test_unaligned(void **state)
{
    (void)state;
    for (size_t pad = 1; pad <= 3; pad += 2) {
        write_samples(in("in.safetensors"), 0, SAMPLES, 16, 8);
        write_samples(in("odd.safetensors"), 0, SAMPLES, 16, pad);
        const char *const pairs[] = {"nbits", "4", NULL};
        compress(in("in.safetensors"), in("a.safetensors"), pairs);
        compress(in("odd.safetensors"), in("b.safetensors"), pairs);
        assert_same_files(in("a.safetensors"), in("b.safetensors"));
    }
}

/* The length of a header may look like the beginning of an ONNX model. */
static void test_like_onnx(void **state)
{
    (void)state;
    const char *const paths[] = {in("like.safetensors"), in("like-onnx")};
    for (size_t i = 0; i < 2; i++) {
        pal_model *model;
        write_samples(paths[i], 0, SAMPLES, 16, 0x100108);
        assert_ok(pal_model_open(paths[i], &model));
        assert_string_equal(pal_model_format(model), "safetensors");
        pal_model_free(model);
    }
}

static void test_threads(void **state)
{
    (void)state;
    write_samples(in("in.safetensors"), 0, SAMPLES, 0, 8);
    compress(in("in.safetensors"), in("a.safetensors"),
             (const char *const[]){"nbits", "2", "threads", "1", NULL});
    compress(in("in.safetensors"), in("b.safetensors"),
             (const char *const[]){"nbits", "2", "threads", "3", NULL});
    assert_same_files(in("a.safetensors"), in("b.safetensors"));
}

/* ---------------------------------------------------------------- a folder */

static void write_folder(unsigned distinct)
{
    static const char *const files[2] = {"model-00001-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors"};
    mkdir(in("folder"), 0777);
    mkdir(in("folder/sub"), 0777);
    write_data(in("folder/config.json"), "{}\n", 3);
    write_data(in("folder/sub/notes.txt"), "x", 1);
    uint64_t total =
        write_samples(in("folder/model-00001-of-00002.safetensors"), 0, 4, distinct, 8);
    total += write_samples(in("folder/model-00002-of-00002.safetensors"), 4, SAMPLES, distinct, 8);
    sample_index(in("folder/model.safetensors.index.json"), samples, SAMPLES, 4, files, total);
}

static void test_folder(void **state)
{
    (void)state;
    static const char *const files[] = {
        "config.json", "sub/notes.txt", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "model.safetensors.index.json"};
    pal_model *model;
    write_folder(16);
    compress(in("folder"), in("small"), (const char *const[]){"mode", "unique", NULL});
    assert_same_files(in("folder/config.json"), in("small/config.json"));
    assert_ok(pal_model_open(in("small"), &model));
    assert_int_equal(pal_model_weight_count(model), SAMPLES - 1);
    assert_string_equal(pal_model_description(model), "11 tensors in 2 files, 5 palettized");
    assert_ok(pal_model_save(model, in("small"), NULL)); /* over itself */
    pal_model_free(model);
    decompress(in("small"), in("plain"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char a[128], b[128];
        snprintf(a, sizeof a, "folder/%s", files[i]);
        snprintf(b, sizeof b, "plain/%s", files[i]);
        assert_same_files(in(a), in(b));
    }
    mkdir(in("one"), 0777);
    write_samples(in("one/model.safetensors"), 0, SAMPLES, 16, 8);
    compress(in("one"), in("one-small"), (const char *const[]){"mode", "unique", NULL});
    decompress(in("one-small"), in("one-plain"));
    assert_same_files(in("one/model.safetensors"), in("one-plain/model.safetensors"));
}

static void test_destination(void **state)
{
    (void)state;
    pal_model *model;
    write_folder(0);
    mkdir(in("full"), 0777);
    mkdir(in("empty"), 0777);
    write_data(in("full/precious"), "x", 1);
    assert_ok(pal_model_open(in("folder"), &model));
    assert_int_equal(pal_model_save(model, in("full"), NULL), PAL_ERROR_IO);
    assert_int_equal(access(in("full/precious"), F_OK), 0);
    assert_int_equal(pal_model_save(model, in("full/precious"), NULL), PAL_ERROR_IO);
    assert_int_equal(pal_model_save(model, in("folder/inside"), NULL), PAL_ERROR_ARGUMENT);
    assert_ok(pal_model_save(model, in("empty"), NULL));
    assert_ok(pal_model_save(model, in("folder"), NULL));
    pal_model_free(model);
    write_samples(in("in.safetensors"), 0, SAMPLES, 0, 8);
    assert_ok(pal_model_open(in("in.safetensors"), &model));
    assert_int_equal(pal_model_save(model, in("full"), NULL), PAL_ERROR_IO);
    assert_ok(pal_model_save(model, in("in.safetensors"), NULL));
    pal_model_free(model);
}

static void test_bad_index(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "not sound JSON"},
        {"[]", "no weight_map"},
        {"{\"weight_map\":{}}", "no weight_map"},
        {"{\"weight_map\":{\"a\":\"a.safetensors\",\"a\":\"a.safetensors\"}}", "duplicate"},
        {"{\"weight_map\":{\"a\":1}}", "outside the folder"},
        {"{\"weight_map\":{\"a\":\"../in.safetensors\"}}", "outside the folder"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "outside the folder"},
        {"{\"weight_map\":{\"a\":\"missing.safetensors\"}}", "missing.safetensors"},
        {"{\"weight_map\":{\"a\":\"config.json\"}}", "too few"},
        {"{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}", "a is not in"},
    };
    write_folder(0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pal_model *model = NULL;
        write_data(in("folder/model.safetensors.index.json"), bad[i].text, strlen(bad[i].text));
        assert_int_not_equal(pal_model_open(in("folder"), &model), PAL_OK);
        assert_null(model);
        assert_non_null(strstr(pal_error_message(), directory));
        if (!strstr(pal_error_message(), bad[i].reason))
            print_error("%s: %s\n", bad[i].text, pal_error_message());
        assert_non_null(strstr(pal_error_message(), bad[i].reason));
    }
    /* The same tensor in two files. */
    write_samples(in("folder/model-00002-of-00002.safetensors"), 0, 4, 0, 8);
    sample_index(in("folder/model.safetensors.index.json"), samples, SAMPLES, 4,
                 (const char *const[]){"model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors"},
                 1);
    pal_model *model;
    assert_int_equal(pal_model_open(in("folder"), &model), PAL_ERROR_FORMAT);
    assert_non_null(strstr(pal_error_message(), "is also in"));
}

/* ---------------------------------------------------------------- every form of a palette */

static const struct {
    pal_dtype dtype;
    sample_form form;
} forms[] = {
    {PAL_BFLOAT16, {4, {1}, 1, 0, 0, false, false, 0}},
    {PAL_FLOAT32, {3, {1, 4}, 1, 0, 0, false, false, 0}},
    {PAL_FLOAT16, {1, {8}, 1, 0, 0, false, true, 0}},
    {PAL_FLOAT32, {6, {2}, 2, 0, 0, false, false, 0}},
    {PAL_BFLOAT16, {2, {2}, 4, 1, 0, false, true, 0}},
    {PAL_FLOAT16, {8, {4}, 1, 0, PAL_INT8, false, false, 0}},
    {PAL_FLOAT32, {3, {1, 2}, 1, 0, PAL_UINT8, true, true, 0}},
    {PAL_FLOAT32, {4, {2}, 2, 1, PAL_INT8, true, false, 0}},
    {PAL_BFLOAT16, {3, {2}, 1, 0, 0, false, false, 7}},
    {PAL_FLOAT16, {2, {1, 2}, 2, 0, PAL_UINT8, true, true, 33}},
};

enum { FORMS = sizeof forms / sizeof *forms, ROWS = 48, COLUMNS = 40 };

static void write_dense_forms(const char *path)
{
    char header[4096];
    static const unsigned char zeros[FORMS * ROWS * COLUMNS * 4];
    size_t at = 0;
    int n = snprintf(header, sizeof header, "{");
    for (size_t i = 0; i < FORMS; i++) {
        const element_type *type = element_type_of(forms[i].dtype);
        size_t end = at + ROWS * COLUMNS * type->bits / 8;
        n += snprintf(
            header + n, sizeof header - (size_t)n,
            "%s\"form%zu\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
            i ? "," : "", i, type->name, ROWS, COLUMNS, at, end);
        at = end;
    }
    snprintf(header + n, sizeof header - (size_t)n, "}");
    sample_safetensors(path, header, 8, zeros, at);
}

/* Palettes of all forms are saved, read again and decoded to the same values. With a folder in
 * SAFETENSORS_FORMS the files stay there, for a reader in another language. */
static void test_forms(void **state)
{
    (void)state;
    char small[600], plain[600];
    const char *folder = getenv("SAFETENSORS_FORMS");
    snprintf(small, sizeof small, "%s/palettized.safetensors", folder ? folder : directory);
    snprintf(plain, sizeof plain, "%s/dense.safetensors", folder ? folder : directory);
    pal_model *model;
    replacement list[FORMS];
    void *expected[FORMS];
    uint64_t seed = 3;
    write_dense_forms(in("zeros.safetensors"));
    assert_ok(pal_model_open(in("zeros.safetensors"), &model));
    for (size_t i = 0; i < FORMS; i++) {
        list[i] = (replacement){i, NULL, NULL};
        list[i].palette = sample_palette(&forms[i].form, forms[i].dtype, 2,
                                         (const uint64_t[]){ROWS, COLUMNS}, &seed);
        expected[i] = calloc(ROWS * COLUMNS, 4);
        assert_ok(palette_decode(list[i].palette, expected[i]));
    }
    assert_ok(model->format->replace(model, list, FORMS));
    assert_ok(pal_model_save(model, small, NULL));
    pal_model_free(model);
    decompress(small, plain);
    assert_ok(pal_model_open(plain, &model));
    for (size_t i = 0; i < FORMS; i++) {
        assert_int_equal(model->weights[i].info.storage, PAL_STORAGE_DENSE);
        assert_memory_equal(model->weights[i].dense, expected[i], model->weights[i].info.bytes);
        free(expected[i]);
    }
    pal_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),      cmocka_unit_test(test_lossless),
        cmocka_unit_test(test_unaligned),   cmocka_unit_test(test_like_onnx),
        cmocka_unit_test(test_threads),     cmocka_unit_test(test_folder),
        cmocka_unit_test(test_destination), cmocka_unit_test(test_bad_index),
        cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
