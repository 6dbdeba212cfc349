/* safetensors headers: what is refused and with which words, what is accepted, what names mean. */
#include "testing.h"

#include "format/safetensors/safetensors.h"
#include "samples.h"

/* ---------------------------------------------------------------- damaged headers */

#define TENSOR(name, type, shape, begin, end)                                                      \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static const struct {
    const char *header, *reason;
} damaged[] = {
    {"", "begin with {"},
    {"[]", "begin with {"},
    {"{ ", "not sound JSON"},
    {"{\"a\":}", "not sound JSON"},
    {"{\"\xff\":1}", "not sound JSON"},
    {"{\"a\\u0000b\":1}", "not sound JSON"},
    {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("a", "F32", "[1]", "4", "8") "}",
     "duplicate"},
    {"{\"a\":1}", "a: it has no dtype"},
    {"{\"a\":{\"dtype\":1}}", "a: it has no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":1}}", "a: it has no shape"},
    {"{" TENSOR("a", "F32", "[-1]", "0", "4") "}", "a: dimension 0"},
    {"{" TENSOR("a", "F32", "[1.5]", "0", "4") "}", "a: dimension 0"},
    {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "4") "}", "a: the product"},
    {"{" TENSOR("a", "F32", "[4611686018427387904]", "0", "0") "}", "a: 0 bytes"},
    {"{" TENSOR("a", "F32", "[99999999999999999999]", "0", "4") "}", "not sound JSON"},
    {"{" TENSOR("a", "F32", "[1]", "-4", "0") "}", "a: its data_offsets are not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
     "a: its data_offsets are not"},
    {"{" TENSOR("a", "F32", "[1]", "4", "0") "}", "a: its data_offsets [4, 0] are not within 64"},
    {"{" TENSOR("a", "F32", "[1]", "64", "68") "}", "are not within 64"},
    {"{" TENSOR("a", "F32", "[2]", "0", "4") "}", "a: 4 bytes for 2 elements of type F32"},
    {"{" TENSOR("a", "F4", "[3]", "0", "2") "}", "a: 2 bytes for 3 elements of type F4"},
    {"{" TENSOR("a", "F32", "[2]", "0", "8") "," TENSOR("b", "F32", "[2]", "4", "12") "}",
     "b overlaps a"},
    {"{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("b", "U8", "[4]", "0", "4") "}",
     "b overlaps a"},
    {"{\"__metadata__\":[]}", "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"a\":1}}", "__metadata__: a is not a string"},
    {"{\"__metadata__\":{\"palettize.version\":\"1\"}}", "only one of"},
    {"{\"__metadata__\":{\"palettize.version\":\"3\",\"palettize.tensors\":\"{}\"}}", "version 3"},
    {"{\"__metadata__\":{\"palettize.version\":\"1\",\"palettize.tensors\":\"[]\"}}",
     "not a JSON object"},
    {"{\"__metadata__\":{\"palettize.version\":\"1\",\"palettize.tensors\":\"{\\\"a\\\":1}\"}}",
     "describes 1 palettes, of which 0"},
};

static void assert_refused(const char *what, const char *reason)
{
    pal_model *model = NULL;
    pal_status status = pal_model_open(in("bad.safetensors"), &model);
    if (!status || !strstr(pal_error_message(), reason))
        print_error("%.200s: %s\n", what, status ? pal_error_message() : "accepted");
    assert_int_not_equal(status, PAL_OK);
    assert_null(model);
    assert_non_null(strstr(pal_error_message(), reason));
    assert_non_null(strstr(pal_error_message(), "bad.safetensors"));
}

static void test_damaged(void **state)
{
    (void)state;
    const unsigned char data[64] = {0};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        sample_safetensors(in("bad.safetensors"), damaged[i].header, 1, data, sizeof data);
        assert_refused(damaged[i].header, damaged[i].reason);
    }
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    memcpy(deep, "{\"a\":", 5);
    deep[100000] = 0;
    sample_safetensors(in("bad.safetensors"), deep, 1, data, sizeof data);
    assert_refused("deep", "depth");
    free(deep);
    static const unsigned char lengths[][9] = {
        {0},
        {100, 0, 0, 0, 0, 0, 0, 0, '{'},
        {255, 255, 255, 255, 255, 255, 255, 255, '{'},
        {1, 0, 0, 0, 0, 0, 0, 0, '{'},
    };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_data(in("bad.safetensors"), lengths[i], sizeof *lengths);
        assert_refused("a length", i == 1 || i == 2 ? "truncated" : "begin with {");
    }
    for (size_t size = 0; size < 8; size++) {
        write_data(in("bad.safetensors"), lengths[1], size);
        assert_refused("a short file", "too few");
    }
}

/* What does no harm is accepted: holes, types we do not know, empty tensors, many dimensions. */
static void test_lenient(void **state)
{
    (void)state;
    const unsigned char data[64] = {0};
    pal_model *model;
    sample_safetensors(
        in("in.safetensors"),
        "{" TENSOR("a", "F32", "[2]", "8", "16") "," TENSOR(
            "b", "X9", "[2]", "20",
            "23") "," TENSOR("c", "F32", "[0,3]", "16",
                             "16") "," TENSOR("d", "F32", "[]", "32",
                                              "36") "," TENSOR("e", "F16",
                                                               "[1,1,1,1,1,1,1,1,1,1,1,1,1,"
                                                               "1,1,1,1,1,1]",
                                                               "36", "38") "}",
        8, data, sizeof data);
    assert_ok(pal_model_open(in("in.safetensors"), &model));
    assert_int_equal(pal_model_weight_count(model), 2);
    assert_ok(pal_model_save(model, in("out.safetensors"), NULL));
    pal_model_free(model);
    assert_ok(pal_model_open(in("out.safetensors"), &model));
    assert_string_equal(pal_model_description(model), "5 tensors in 1 file");
    pal_model_free(model);
}

/* Every description and part of a palette that does not fit the others is refused. */
static void test_damaged_palettes(void **state)
{
    (void)state;
    static const struct {
        const char *description, *indices, *lut, *more, *reason;
    } bad[] = {
        {"'nbits':5,'dtype':'F16','shape':[4,4]", "8", "[1,1,4,1]", "", "nbits"},
        {"'nbits':2,'dtype':'F64','shape':[4,4]", "8", "[1,1,4,1]", "", "dtype"},
        {"'nbits':2,'dtype':'F16','shape':[]", "8", "[1,1,4,1]", "", "shape"},
        {"'nbits':2,'dtype':'F16','shape':[0,4]", "8", "[1,1,4,1]", "", "shape"},
        {"'nbits':2,'dtype':'F16','shape':[4294967296,4294967296]", "8", "[1,1,4,1]", "", "shape"},
        {"'nbits':2,'dtype':'F16','shape':[4,4],'vector_axis':2", "8", "[1,1,4,1]", "", "axis"},
        {"'nbits':2,'dtype':'F16','shape':[4,4]", "8", "[1,4,1]", "", "LUT"},
        {"'nbits':2,'dtype':'F16','shape':[4,4]", "8", "[1,2,2,1]", "", "2^nbits"},
        {"'nbits':1,'dtype':'F16','shape':[4,64]", "8", "[1,1,2,2]", "", "indices"},
        {"'nbits':2,'dtype':'F16','shape':[4,4]", "16", "[1,1,4,1]", "", "indices"},
        {"'nbits':2,'dtype':'F16','shape':[3,4]", "8", "[2,1,4,1]", "", "divide"},
        {"'nbits':2,'dtype':'F16','shape':[4,3],'vector_axis':1", "8", "[1,1,4,2]", "", "divide"},
        {"'nbits':2,'dtype':'BF16','shape':[4,4]", "8", "[1,1,4,1]", "", "type F16"},
        {"'nbits':2,'dtype':'F16','shape':[4,4]", "8", "[1,1,4,1]",
         TENSOR("w.palette_lut_scale", "F16", "[1,1]", "96", "98"), "integer LUT"},
        {"'nbits':2,'dtype':'F16','shape':[4,4]", "8", "[1,1,4,1]",
         TENSOR("w.palette_scale", "F16", "[2,1]", "96", "100"), "scale"},
        {"'nbits':2,'dtype':'F16','shape':[4,4]", "8", "[1,1,4,1]",
         TENSOR("w", "F16", "[2,1]", "96", "100"), "also in"},
    };
    const unsigned char data[128] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char description[256], header[1024];
        size_t n = 0, entries = 1;
        for (const char *c = bad[i].description; *c; c++) {
            if (*c == '\'')
                description[n++] = '\\';
            description[n++] = *c == '\'' ? '"' : *c;
        }
        description[n] = 0;
        for (const char *c = bad[i].lut; *c; c++)
            entries *= *c >= '1' && *c <= '9' ? (size_t)(*c - '0') : 1;
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{\"palettize.version\":\"1\",\"palettize.tensors\":"
                 "\"{\\\"w\\\":{%s}}\"},\"w.palette_indices\":{\"dtype\":\"U8\",\"shape\":[%s],"
                 "\"data_offsets\":[0,%s]},\"w.palette_lut\":{\"dtype\":\"F16\",\"shape\":%s,"
                 "\"data_offsets\":[32,%zu]}%s%s}",
                 description, bad[i].indices, bad[i].indices, bad[i].lut, 32 + 2 * entries,
                 *bad[i].more ? "," : "", bad[i].more);
        sample_safetensors(in("bad.safetensors"), header, 8, data, sizeof data);
        assert_refused(header, bad[i].reason);
    }
}

/* ---------------------------------------------------------------- names */

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool embedding, locked;
    } names[] = {
        {"model.layers.0.self_attn.q_proj.weight", false, false},
        {"lm_head.weight", false, false},
        {"weight", false, false},
        {"", false, false},
        {"model.embed_tokens.weight", true, false},
        {"transformer.wte.weight", true, false},
        {"wpe.weight", true, false},
        {"shared.weight", true, false},
        {"bert.embeddings.word_embeddings.weight", true, false},
        {"time_embedding.linear_1.weight", false, false},
        {"patch_embed.proj.weight", false, false},
        {"model.norm.weight", false, true},
        {"encoder.LayerNorm.weight", false, true},
        {"h.0.ln_1.weight", false, true},
        {"transformer_blocks.0.norm1.linear.weight", false, false},
        {"q_proj.bias", false, true},
        {"mlp.up_proj.weight_scale_inv", false, true},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool embedding;
        const char *locked;
        name_tells(names[i].name, &embedding, &locked);
        if (embedding != names[i].embedding || (locked != NULL) != names[i].locked)
            print_error("%s\n", names[i].name);
        assert_int_equal(embedding, names[i].embedding);
        assert_int_equal(locked != NULL, names[i].locked);
    }
}

/* A tensor with the name of a part keeps its weight from being palettized. */
static void test_taken_names(void **state)
{
    (void)state;
    unsigned char data[2 * 64 * 64 + 8] = {0};
    pal_model *model;
    sample_safetensors(in("in.safetensors"),
                       "{" TENSOR("w", "F16", "[64,64]", "0", "8192") "," TENSOR(
                           "w.palette_lut", "F16", "[4]", "8192", "8200") "}",
                       8, data, sizeof data);
    assert_ok(pal_model_open(in("in.safetensors"), &model));
    assert_non_null(strstr(pal_model_skip_reason(model, 0, NULL), "names of its palette"));
    pal_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged),          cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_damaged_palettes), cmocka_unit_test(test_names),
        cmocka_unit_test(test_taken_names),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
