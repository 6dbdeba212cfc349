/* safetensors checkpoints: files that the tests write themselves, there and back. */
#include "safetensors_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "format/safetensors/safetensors.h"
#include "palette/pack.h"

static void assert_same_files(const char *a, const char *b)
{
    file_map x, y;
    assert_ok(file_map_open(a, &x));
    assert_ok(file_map_open(b, &y));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    file_map_close(&x);
    file_map_close(&y);
}

/* ---------------------------------------------------------------- tensors */

typedef struct sample {
    const char *name, *type;
    uint64_t rows, columns; /* columns 0: a vector */
} sample;

static const sample samples[] = {
    {"model.embed_tokens.weight", "BF16", 96, 32},
    {"layers.0.q_proj.weight", "BF16", 64, 48},
    {"layers.0.k_proj.weight", "F16", 30, 100},
    {"layers.0.up_proj.weight", "F32", 50, 44},
    {"layers.0.odd.weight", "BF16", 47, 53},
    {"layers.0.input_layernorm.weight", "BF16", 32, 0},
    {"layers.0.q_proj.bias", "F16", 3, 0},
    {"layers.0.double.weight", "F64", 64, 64},
    {"layers.0.small.weight", "F8_E4M3", 64, 64},
    {"position_ids", "I64", 5, 0},
    {"lm_head.weight", "BF16", 96, 32},
};

enum { SAMPLES = sizeof samples / sizeof *samples };

static size_t width_of(const char *type)
{
    return strcmp(type, "F8_E4M3") == 0 ? 1
           : strstr(type, "64")         ? 8
           : strcmp(type, "F32") == 0   ? 4
                                        : 2;
}

static void put(unsigned char *to, const char *type, double value)
{
    float single = (float)value;
    uint16_t half = *type == 'B' ? bf16_from_double(value) : f16_from_double(value);
    memset(to, 0, width_of(type));
    if (strcmp(type, "F32") == 0)
        memcpy(to, &single, sizeof single);
    else if (width_of(type) == 2)
        memcpy(to, &half, sizeof half);
    else if (strcmp(type, "F64") == 0)
        memcpy(to, &value, sizeof value);
}

/* Writes samples[first .. end) with normally distributed values, or with at most `distinct` ones,
 * in the form in which the reference implementation would. */
static uint64_t write_samples(const char *path, size_t first, size_t end, unsigned distinct,
                              size_t pad)
{
    char header[8192];
    unsigned char *data = malloc(1 << 20);
    size_t at = 0;
    uint64_t seed = 7 + first;
    int n = snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = first; i < end; i++) {
        const sample *s = &samples[i];
        const uint64_t elements = s->rows * (s->columns ? s->columns : 1);
        char shape[64];
        snprintf(shape, sizeof shape, s->columns ? "%d,%d" : "%d", (int)s->rows, (int)s->columns);
        n += snprintf(header + n, sizeof header - (size_t)n,
                      ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                      s->name, s->type, shape, at, at + elements * width_of(s->type));
        for (uint64_t e = 0; e < elements; e++, at += width_of(s->type))
            put(data + at, s->type,
                distinct ? 0.25 * (double)random_below(&seed, distinct) - 1 : random_normal(&seed));
    }
    snprintf(header + n, sizeof header - (size_t)n, "}");
    write_file(path, header, pad, data, at);
    free(data);
    return at;
}

static pal_options *options_with(const char *const *pairs)
{
    pal_options *options;
    assert_ok(pal_options_new(&options));
    for (; *pairs; pairs += 2)
        assert_ok(pal_options_set(options, pairs[0], pairs[1]));
    return options;
}

static void compress(const char *from, const char *to, const char *const *pairs)
{
    pal_model *model;
    pal_options *options = options_with(pairs);
    assert_ok(pal_model_open(from, &model));
    assert_string_equal(pal_model_format(model), "safetensors");
    assert_ok(pal_compress(model, options, NULL, NULL, NULL));
    assert_ok(pal_model_save(model, to, NULL));
    pal_model_free(model);
    pal_options_free(options);
}

static void decompress(const char *from, const char *to)
{
    pal_model *model;
    assert_ok(pal_model_open(from, &model));
    assert_ok(pal_decompress(model, NULL, NULL, NULL));
    assert_ok(pal_model_save(model, to, NULL));
    pal_model_free(model);
}

static size_t find_weight(const pal_model *model, const char *name)
{
    for (size_t i = 0; i < pal_model_weight_count(model); i++)
        if (strcmp(pal_model_weight(model, i)->name, name) == 0)
            return i;
    return SIZE_MAX;
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
    assert_int_equal(pal_model_weight_count(model), SAMPLES - 1); /* not the integers */
    assert_ok(pal_compress(model, options, NULL, NULL, &report));
    assert_ok(pal_model_save(model, in("out.safetensors"), &bytes));
    assert_ok(path_total_bytes(in("out.safetensors"), &on_disk));
    assert_int_equal(bytes, on_disk);
    assert_ok(pal_model_open(in("out.safetensors"), &saved));
    assert_int_equal(pal_model_weight_count(saved), pal_model_weight_count(model));
    size_t compressed = 0;
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        const pal_weight *weight = pal_model_weight(saved, i);
        assert_string_equal(entry->weight.name, weight->name);
        assert_int_equal(entry->weight.storage, weight->storage);
        assert_int_equal(entry->weight.nbits, weight->nbits);
        assert_int_equal(entry->weight.num_luts, weight->num_luts);
        assert_int_equal(entry->weight.bytes, weight->bytes);
        assert_memory_equal(entry->weight.shape, weight->shape, sizeof weight->shape);
        compressed += entry->status == PAL_WEIGHT_COMPRESSED;
        assert_true(entry->status == PAL_WEIGHT_COMPRESSED || *entry->reason);
    }
    assert_int_equal(compressed, 5);
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

static void write_index(const char *path, uint64_t total, const char *const files[2], size_t split)
{
    json_t *map = json_object();
    for (size_t i = 0; i < SAMPLES; i++)
        json_object_set_new(map, samples[i].name, json_string(files[i >= split]));
    json_t *index =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    char *text = json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS);
    size_t length = strlen(text);
    text[length] = '\n';
    write_bytes(path, text, length + 1);
    free(text);
    json_decref(index);
}

static void write_folder(unsigned distinct)
{
    static const char *const files[2] = {"model-00001-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors"};
    mkdir(in("folder"), 0777);
    mkdir(in("folder/sub"), 0777);
    write_bytes(in("folder/config.json"), "{}\n", 3);
    write_bytes(in("folder/sub/notes.txt"), "x", 1);
    uint64_t total =
        write_samples(in("folder/model-00001-of-00002.safetensors"), 0, 4, distinct, 8);
    total += write_samples(in("folder/model-00002-of-00002.safetensors"), 4, SAMPLES, distinct, 8);
    write_index(in("folder/model.safetensors.index.json"), total, files, 4);
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
    write_bytes(in("full/precious"), "x", 1);
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
        write_bytes(in("folder/model.safetensors.index.json"), bad[i].text, strlen(bad[i].text));
        assert_int_not_equal(pal_model_open(in("folder"), &model), PAL_OK);
        assert_null(model);
        assert_non_null(strstr(pal_error_message(), directory));
        if (!strstr(pal_error_message(), bad[i].reason))
            print_error("%s: %s\n", bad[i].text, pal_error_message());
        assert_non_null(strstr(pal_error_message(), bad[i].reason));
    }
    /* The same tensor in two files. */
    write_samples(in("folder/model-00002-of-00002.safetensors"), 0, 4, 0, 8);
    write_index(in("folder/model.safetensors.index.json"), 1,
                (const char *const[]){"model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors"},
                4);
    pal_model *model;
    assert_int_equal(pal_model_open(in("folder"), &model), PAL_ERROR_FORMAT);
    assert_non_null(strstr(pal_error_message(), "is also in"));
}

/* ---------------------------------------------------------------- every form of a palette */

typedef struct form {
    unsigned nbits;
    pal_dtype dtype, lut_dtype;
    size_t axis;
    uint64_t groups;
    size_t vector_size, vector_axis;
    bool offset, scale;
} form;

static const form forms[] = {
    {4, PAL_BFLOAT16, PAL_BFLOAT16, 0, 1, 1, 0, false, false},
    {3, PAL_FLOAT32, PAL_FLOAT32, 1, 4, 1, 0, false, false},
    {1, PAL_FLOAT16, PAL_FLOAT16, 0, 8, 1, 0, false, true},
    {6, PAL_FLOAT32, PAL_FLOAT32, 0, 2, 2, 0, false, false},
    {2, PAL_BFLOAT16, PAL_BFLOAT16, 0, 2, 4, 1, false, true},
    {8, PAL_FLOAT16, PAL_INT8, 0, 4, 1, 0, false, false},
    {3, PAL_FLOAT32, PAL_UINT8, 1, 2, 1, 0, true, true},
    {4, PAL_FLOAT32, PAL_INT8, 0, 2, 2, 1, true, false},
};

enum { FORMS = sizeof forms / sizeof *forms, ROWS = 48, COLUMNS = 40 };

static void fill(void *values, pal_dtype dtype, uint64_t count, uint64_t *seed)
{
    for (uint64_t i = 0; i < count; i++) {
        double value = random_normal(seed);
        switch (dtype) {
        case PAL_FLOAT32: ((float *)values)[i] = (float)value; break;
        case PAL_FLOAT16: ((uint16_t *)values)[i] = f16_from_double(value); break;
        case PAL_BFLOAT16: ((uint16_t *)values)[i] = bf16_from_double(value); break;
        default: ((uint8_t *)values)[i] = (uint8_t)random_bits(seed); break;
        }
    }
}

static palette *make_palette(const form *form, uint64_t *seed)
{
    palette *p = calloc(1, sizeof *p);
    p->nbits = form->nbits;
    p->dtype = form->dtype;
    p->lut_dtype = form->lut_dtype;
    p->rank = 2;
    p->shape[0] = ROWS;
    p->shape[1] = COLUMNS;
    p->blocks[0] = p->blocks[1] = 1;
    p->blocks[form->axis] = form->groups;
    p->vector_size = form->vector_size;
    p->vector_axis = form->vector_axis;
    const size_t width = pal_dtype_bits(form->dtype) / 8;
    const uint64_t tables = palette_num_luts(p), entries = palette_lut_elements(p);
    void *lut = palette_allocate(p, entries, pal_dtype_bits(form->lut_dtype) / 8);
    fill(lut, form->lut_dtype, entries, seed);
    p->lut = lut;
    uint8_t *unpacked = malloc(palette_index_count(p));
    for (uint64_t i = 0; i < palette_index_count(p); i++)
        unpacked[i] = (uint8_t)random_below(seed, 1u << form->nbits);
    uint8_t *indices = palette_allocate(p, palette_index_bytes(p), 1);
    pack_indices(unpacked, palette_index_count(p), form->nbits, indices);
    free(unpacked);
    p->indices = indices;
    if (form->lut_dtype != form->dtype) {
        void *scale = palette_allocate(p, tables, width);
        fill(scale, form->dtype, tables, seed);
        p->lut_scale = scale;
    }
    if (form->offset) {
        void *offset = palette_allocate(p, tables, 1);
        fill(offset, form->lut_dtype, tables, seed);
        p->lut_offset = offset;
    }
    if (form->scale) {
        void *scale = palette_allocate(p, ROWS, width);
        fill(scale, form->dtype, ROWS, seed);
        p->scale = scale;
        p->scale_shape[0] = ROWS;
        p->scale_shape[1] = 1;
    }
    return p;
}

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
    write_file(path, header, 8, zeros, at);
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
        list[i] = (replacement){i, make_palette(&forms[i], &seed), NULL};
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
        cmocka_unit_test(test_single),    cmocka_unit_test(test_lossless),
        cmocka_unit_test(test_unaligned), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_folder),    cmocka_unit_test(test_destination),
        cmocka_unit_test(test_bad_index), cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
