/* Options as text. */
#include "testing.h"

static void test_defaults(void **state)
{
    (void)state;
    pal_options *options;
    assert_ok(pal_options_new(&options));
    assert_null(pal_options_value(options, "nbits"));
    assert_string_equal(pal_options_value(options, "mode"), "kmeans");
    assert_string_equal(pal_options_value(options, "granularity"), "per_tensor");
    assert_string_equal(pal_options_value(options, "group_size"), "32");
    assert_string_equal(pal_options_value(options, "weight_threshold"), "2048");
    assert_null(pal_options_value(options, "channel_axis"));
    assert_null(pal_options_value(options, "no such option"));
    pal_options_free(options);
}

/* Every default satisfies its own option, and every option has something to say. */
static void test_table(void **state)
{
    (void)state;
    pal_options *options;
    assert_ok(pal_options_new(&options));
    size_t count = 0;
    for (const pal_option *option; (option = pal_option_get(count)); count++) {
        assert_true(strlen(option->help) > 20);
        if (option->default_value)
            assert_ok(pal_options_set(options, option->name, option->default_value));
    }
    assert_true(count >= 7);
    pal_options_free(options);
}

static void test_set(void **state)
{
    (void)state;
    pal_options *options;
    assert_ok(pal_options_new(&options));
    assert_ok(pal_options_set(options, "nbits", "6"));
    assert_ok(pal_options_set(options, "group-size", "16"));
    assert_ok(pal_options_set(options, "channel_axis", "-1"));
    assert_ok(pal_options_set(options, "nbits", "04"));
    assert_string_equal(pal_options_value(options, "nbits"), "4");
    assert_string_equal(pal_options_value(options, "group_size"), "16");
    assert_string_equal(pal_options_value(options, "channel_axis"), "-1");
    pal_options_free(options);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"nbits", "5"},
        {"nbits", "0"},
        {"nbits", ""},
        {"nbits", "4x"},
        {"nbits", " 4"},
        {"nbits", "99999999999999999999"},
        {"mode", "median"},
        {"mode", ""},
        {"mode", "kmeans|uniform"},
        {"group_size", "0"},
        {"group_size", "-4"},
        {"weight_threshold", "-1"},
        {"granularity", "none"},
        {"channel_axis", "1000"},
        {"bits", "4"},
    };
    pal_options *options;
    assert_ok(pal_options_new(&options));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(pal_options_set(options, wrong[i][0], wrong[i][1]), PAL_ERROR_ARGUMENT);
        assert_non_null(strstr(pal_error_message(), wrong[i][0]));
    }
    assert_string_equal(pal_options_value(options, "group_size"), "32");
    pal_options_free(options);
}

static void test_agreement(void **state)
{
    (void)state;
    pal_options *options;
    assert_ok(pal_options_new(&options));
    assert_int_equal(pal_options_check(options), PAL_ERROR_ARGUMENT); /* kmeans without nbits */
    assert_int_equal(pal_options_check(NULL), PAL_ERROR_ARGUMENT);
    assert_ok(pal_options_set(options, "nbits", "4"));
    assert_ok(pal_options_check(options));
    assert_ok(pal_options_set(options, "mode", "unique"));
    assert_int_equal(pal_options_check(options), PAL_ERROR_ARGUMENT);
    pal_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_table),
        cmocka_unit_test(test_set),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_agreement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
