/* Configuration files: what they mean for a weight, that they survive printing, and complaints. */
#include "testing.h"

#include "method/options.h"

static const char example[] =
    "config_type: OpPalettizerConfig\n"
    "global_config:\n"
    "  mode: kmeans\n"
    "  nbits: 4\n"
    "  num_kmeans_workers: 4\n"
    "op_type_configs:\n"
    "  linear: {nbits: 8, group_size: 16, granularity: per_grouped_channel}\n"
    "  gather: null\n"
    "op_name_configs:\n"
    "  \"head\\\\.[0-9]+\": {nbits: 2}\n"
    "  head.7: {mode: unique, nbits: ~}\n"
    "  'a[': {nbits: 1}\n";

/* The settings of a weight that these operators use; nbits 99 if it is left alone, 98 if the
 * operators disagree. */
static settings settings_of_uses(const pal_options *options, const char *name, weight_use *uses,
                                 size_t count)
{
    const model_weight weight = {
        .info = {.name = name, .op = count ? uses[0].op : "", .consumers = count}, .uses = uses};
    settings settings;
    char refusal[160];
    options_for(options, &weight, &settings, refusal);
    if (*refusal)
        settings.nbits = strstr(refusal, "different options") ? 98 : 99;
    return settings;
}

static settings settings_for(const pal_options *options, const char *name, const char *op)
{
    weight_use use = {op, ""};
    return settings_of_uses(options, name, &use, 1);
}

static void check_example(const pal_options *options)
{
    assert_int_equal(settings_for(options, "x", "conv").nbits, 4);
    assert_int_equal(settings_for(options, "x", "linear").nbits, 8);
    assert_int_equal(settings_for(options, "x", "linear").group_size, 16);
    assert_int_equal(settings_for(options, "x", "linear").granularity,
                     GRANULARITY_PER_GROUPED_CHANNEL);
    assert_int_equal(settings_for(options, "x", "conv").granularity, GRANULARITY_PER_TENSOR);
    assert_int_equal(settings_for(options, "x", "gather").nbits, 99);
    assert_int_equal(settings_for(options, "head.3", "linear").nbits, 2);
    assert_int_equal(settings_for(options, "my_head.3", "conv").nbits, 4); /* the whole name */
    assert_int_equal(settings_for(options, "head.7", "conv").mode, MODE_UNIQUE);
    assert_int_equal(settings_for(options, "a[", "conv").nbits, 1); /* no pattern, but a name */
}

static void test_rules(void **state)
{
    (void)state;
    pal_options *options, *again;
    char *text;
    write_text(in("config.yaml"), example);
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, in("config.yaml")));
    assert_ok(pal_options_check(options));
    check_example(options);

    assert_ok(pal_options_text(options, &text));
    write_text(in("config.yaml"), text);
    assert_ok(pal_options_new(&again));
    assert_ok(pal_options_load(again, in("config.yaml")));
    check_example(again);
    char *text_again;
    assert_ok(pal_options_text(again, &text_again));
    assert_string_equal(text, text_again);
    pal_free(text);
    pal_free(text_again);

    assert_ok(pal_options_set(options, "nbits", "6")); /* the command line, afterwards */
    assert_int_equal(settings_for(options, "x", "conv").nbits, 6);
    assert_int_equal(settings_for(options, "x", "linear").nbits, 8);
    pal_options_free(options);
    pal_options_free(again);
}

static void test_without_global(void **state)
{
    (void)state;
    pal_options *options;
    write_text(in("config.yaml"), "op_type_configs: {conv: {nbits: 4}}\n");
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, in("config.yaml")));
    assert_ok(pal_options_check(options));
    assert_ok(pal_options_set(options, "threads", "2"));
    assert_ok(pal_options_check(options));
    assert_int_equal(settings_for(options, "x", "conv").nbits, 4);
    assert_int_equal(settings_for(options, "x", "linear").nbits, 99);
    pal_options_free(options);
}

/* A weight that several operators use, and operators that are named. */
static void test_uses(void **state)
{
    (void)state;
    pal_options *options;
    weight_use uses[3] = {{"conv", "first"}, {"linear", "second"}, {"add", "third"}};
    write_text(in("config.yaml"),
               "global_config: {nbits: 4}\n"
               "op_type_configs: {linear: {nbits: 8}, add: {nbits: 8}}\n"
               "op_name_configs: {first: {nbits: 8}, named: {nbits: 1}, \"fi.*\": {nbits: 3}}\n");
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, in("config.yaml")));
    assert_int_equal(settings_of_uses(options, "x", uses, 1).nbits, 8); /* by its operator's name */
    assert_int_equal(settings_of_uses(options, "x", uses, 3).nbits,
                     8); /* three rules, one meaning */
    assert_int_equal(settings_of_uses(options, "named", uses, 3).nbits, 1);
    assert_int_equal(settings_of_uses(options, "x", uses + 1, 1).nbits, 8);
    uses[0].name = "fir"; /* patterns are for weights alone */
    assert_int_equal(settings_of_uses(options, "x", uses, 1).nbits, 4);
    assert_int_equal(settings_of_uses(options, "x", uses, 2).nbits, 98);
    assert_int_equal(settings_of_uses(options, "fit", uses, 2).nbits, 3);
    assert_int_equal(settings_of_uses(options, "x", uses, 0).nbits, 4);
    pal_options_free(options);
}

/* Tables, as lists and as files, in a file and printed again. */
static void test_tables(void **state)
{
    (void)state;
    static const double expected[] = {-1, -0.25, 0.5, 2e3};
    static const double pairs[] = {1, 2, 3, 4};
    pal_options *options, *again;
    char *text;
    write_text(in("config.yaml"),
               "global_config: {mode: custom, lut: [-1, -0.25, 0.5, 2e3]}\n"
               "op_type_configs:\n"
               "  linear: {mode: CUSTOM, cluster_dim: 2, lut: [[1, 2], [3, 4]]}\n"
               "  conv: {nbits: 4, lut_dtype: int8, enable_per_channel_scale: True}\n");
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, in("config.yaml")));
    assert_ok(pal_options_text(options, &text));
    write_text(in("config.yaml"), text);
    pal_free(text);
    assert_ok(pal_options_new(&again));
    assert_ok(pal_options_load(again, in("config.yaml")));
    for (int i = 0; i < 2; i++) {
        const pal_options *from = i ? again : options;
        settings scalars = settings_for(from, "x", "add");
        settings vectors = settings_for(from, "x", "linear");
        settings scaled = settings_for(from, "x", "conv");
        assert_int_equal(scalars.nbits, 2);
        assert_int_equal(scalars.mode, MODE_CUSTOM);
        assert_int_equal(scalars.table->count, 4);
        assert_memory_equal(scalars.table->values, expected, sizeof expected);
        assert_int_equal(vectors.nbits, 1);
        assert_int_equal(vectors.table->dim, 2);
        assert_memory_equal(vectors.table->values, pairs, sizeof pairs);
        assert_int_equal(scaled.lut_dtype, PAL_INT8);
        assert_true(scaled.per_channel_scale);
        assert_string_equal(pal_options_value(from, "lut"), "[-1, -0.25, 0.5, 2e3]");
    }
    pal_options_free(options);
    pal_options_free(again);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"", ":1: the file is empty"},
        {"- 1\n", ":1: expected"},
        {"global_config: {nbits: 4", "not YAML"},
        {"global_config:\n  nbits: 5\n", ":2: global_config: nbits: 5"},
        {"global_config:\n  nbits: 4\n  bits: 4\n", ":3: global_config: there is no option bits"},
        {"global_config: {}\n", "nbits: must be given"},
        {"global_config: 4\n", "expected options, or null"},
        {"global: {nbits: 4}\n", ":1: global: there is no such section"},
        {"config_type: OpThresholdPrunerConfig\n", "config_type"},
        {"op_name_configs:\n  a: {nbits: 2}\n  a: null\n", ":3: a is there twice"},
        {"op_name_configs: [a]\n", "expected a mapping"},
        {"op_name_configs: {[a]: null}\n", "expected a name"},
        {"op_name_configs:\n  a: {nbits: [2]}\n", ":2: a: nbits: expected a value"},
        {"global_config: &x {nbits: 4}\nop_type_configs: {a: *x}\n", "aliases"},
        {"global_config: {nbits: 4, mode: unique}\n", "finds its own"},
        {"global_config: {mode: custom}\n", "lut: must be given"},
        {"global_config: {nbits: 4, lut: [1, 2]}\n", "lut: only in mode custom"},
        {"global_config: {mode: custom, nbits: 1, lut: [1, 2]}\n", "nbits: mode custom"},
        {"global_config: {mode: custom, lut: [1, 2, 3]}\n", "lut: 3 values"},
        {"global_config: {mode: custom, lut: [1, x]}\n", ":1: global_config: lut: not a list"},
        {"global_config: {mode: custom, lut: [1, {a: b}]}\n", ":1: expected numbers"},
        {"global_config: {mode: custom, lut: [1, [2]]}\n", "entry 1 is not a number"},
        {"global_config: {mode: custom, lut: [[1, 2], [3]]}\n", "not a list of 2 numbers"},
        {"global_config: {mode: custom, lut: [[1, 2], [3, 4]]}\n", "cluster_dim is 1"},
        {"global_config: {mode: unique, lut_dtype: int8}\n", "lut_dtype: mode unique"},
        {"global_config: {nbits: 4, lut_dtype: int4}\n", "lut_dtype: int4 is not one of"},
        {"global_config: {nbits: 4, mode: uniform, cluster_dim: 2}\n", "cluster_dim: not above 1"},
    };
    pal_options *options;
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_set(options, "nbits", "3"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_text(in("config.yaml"), wrong[i][0]);
        assert_int_equal(pal_options_load(options, in("config.yaml")), PAL_ERROR_ARGUMENT);
        if (!strstr(pal_error_message(), wrong[i][1]))
            print_error("%s: %s\n", wrong[i][0], pal_error_message());
        assert_non_null(strstr(pal_error_message(), wrong[i][1]));
        assert_non_null(strstr(pal_error_message(), in("config.yaml")));
    }
    assert_string_equal(pal_options_value(options, "nbits"), "3"); /* as before */
    assert_int_equal(pal_options_load(options, "/nowhere.yaml"), PAL_ERROR_IO);
    pal_options_free(options);
}

/* Which names a pattern matches: whole ones. */
static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        {"layers\\\\.[0-9]{1,3}\\\\..*", "layers.12.weight", true},
        {"layers\\\\.[0-9]{1,3}\\\\..*", "layers.1234.weight", false},
        {"^conv[0-9]+$", "conv12", true},
        {"^conv[0-9]+$", "conv12x", false},
        {"a|ab", "ab", true},
        {"(a|b)+", "abba", true},
        {"(a|b)+", "xabba", false},
        {"[]^$(]+", "($^]", true},
        {"x[[:digit:]]\\\\$", "x1$", true},
        {"(^|a)*(^|a)*b$", "aab", true}, /* takes the C library for ever */
        {"a*b{0}c{2,3}(d|e|)f?", "aaccc", true},
        {"a*b{0}c{2,3}(d|e|)f?", "aabcc", false},
        {"a*b{0}c{2,3}(d|e|)f?", "ccef", true},
        {"a*b{0}c{2,3}(d|e|)f?", "cccc", false},
        {"(a{2}|b{2,}){2}", "aabbbbb", true},
        {"(a{2}|b{2,}){2}", "aab", false},
        {"[^a-c[:digit:]x-]+", "defy", true},
        {"[^a-c[:digit:]x-]+", "def-", false},
        {"a)|(b", "axyz", false}, /* no pattern by itself */
        {"a(b", "a(b", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        pal_options *options;
        snprintf(text, sizeof text, "op_name_configs: {\"%s\": {nbits: 1}}\n", cases[i].pattern);
        write_text(in("config.yaml"), text);
        assert_ok(pal_options_new(&options));
        assert_ok(pal_options_load(options, in("config.yaml")));
        assert_int_equal(settings_for(options, cases[i].name, "conv").nbits,
                         cases[i].matches ? 1 : 99);
        pal_options_free(options);
    }
}

/* What would take the C library gigabytes, hours, or all of the stack. */
static void test_large_patterns(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"((a{1,255}){1,255}){1,255}", "too large as a regular expression"},
        {"(((((((((((a+)+)+)+)+)+)+)+)+)+)+)", "too large as a regular expression"},
        {"a{99999999999999999999}", "too large as a regular expression"},
        {"(a*)\\\\1", "back references"},
    };
    char text[8192];
    pal_options *options;
    assert_ok(pal_options_new(&options));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "op_name_configs: {\"%s\": {nbits: 1}}\n", wrong[i][0]);
        write_text(in("config.yaml"), text);
        assert_fails(pal_options_load(options, in("config.yaml")), PAL_ERROR_ARGUMENT, wrong[i][1]);
    }
    int n = snprintf(text, sizeof text, "op_name_configs: {\"");
    memset(text + n, '(', 3000);
    memset(text + n + 3000, ')', 3000);
    snprintf(text + n + 6000, 100, "\": {nbits: 1}}\n");
    write_text(in("config.yaml"), text);
    assert_fails(pal_options_load(options, in("config.yaml")), PAL_ERROR_ARGUMENT, "too large");
    /* Many that are allowed each. */
    n = snprintf(text, sizeof text, "op_name_configs:\n");
    for (int i = 0; i < 150; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "  \"%d(a?){300}\": {nbits: 1}\n", i);
    write_text(in("config.yaml"), text);
    assert_fails(pal_options_load(options, in("config.yaml")), PAL_ERROR_ARGUMENT,
                 "after those before it");
    pal_options_free(options);
}

/* A key too long to stand before a colon is printed in a form that can be read. */
static void test_long_key(void **state)
{
    (void)state;
    char text[4096], *printed;
    pal_options *options, *again;
    int n = snprintf(text, sizeof text, "op_name_configs:\n  ? \"");
    memset(text + n, 'k', 3000);
    snprintf(text + n + 3000, 100, "\"\n  : {nbits: 2}\n  short: null\n");
    write_text(in("config.yaml"), text);
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_new(&again));
    assert_ok(pal_options_load(options, in("config.yaml")));
    assert_ok(pal_options_text(options, &printed));
    write_text(in("printed.yaml"), printed);
    assert_ok(pal_options_load(again, in("printed.yaml")));
    text[n + 3000] = 0;
    assert_int_equal(settings_for(again, text + n, "conv").nbits, 2);
    pal_free(printed);
    pal_options_free(options);
    pal_options_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),          cmocka_unit_test(test_without_global),
        cmocka_unit_test(test_uses),           cmocka_unit_test(test_tables),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_large_patterns), cmocka_unit_test(test_long_key),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
