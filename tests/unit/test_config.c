/* Configuration files: what they mean for a weight, that they survive printing, and complaints. */
#include "testing.h"

#include <unistd.h>

#include "method/options.h"

static char path[] = "/tmp/palettize-config-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_config(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

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

/* The settings of a weight of this name and operator; nbits 99 if it is left alone. */
static settings settings_for(const pal_options *options, const char *name, const char *op)
{
    const pal_weight weight = {.name = name, .op = op};
    settings settings;
    bool none;
    options_for(options, &weight, &settings, &none);
    if (none)
        settings.nbits = 99;
    return settings;
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
    write_config(example);
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, path));
    assert_ok(pal_options_check(options));
    check_example(options);

    assert_ok(pal_options_text(options, &text));
    write_config(text);
    assert_ok(pal_options_new(&again));
    assert_ok(pal_options_load(again, path));
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
    write_config("op_type_configs: {conv: {nbits: 4}}\n");
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_load(options, path));
    assert_ok(pal_options_check(options));
    assert_int_equal(settings_for(options, "x", "conv").nbits, 4);
    assert_int_equal(settings_for(options, "x", "linear").nbits, 99);
    pal_options_free(options);
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
    };
    pal_options *options;
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_set(options, "nbits", "3"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_config(wrong[i][0]);
        assert_int_equal(pal_options_load(options, path), PAL_ERROR_ARGUMENT);
        if (!strstr(pal_error_message(), wrong[i][1]))
            print_error("%s: %s\n", wrong[i][0], pal_error_message());
        assert_non_null(strstr(pal_error_message(), wrong[i][1]));
        assert_non_null(strstr(pal_error_message(), path));
    }
    assert_string_equal(pal_options_value(options, "nbits"), "3"); /* as before */
    assert_int_equal(pal_options_load(options, "/nowhere.yaml"), PAL_ERROR_IO);
    pal_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_without_global),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
