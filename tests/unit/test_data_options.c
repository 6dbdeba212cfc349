/* The options for data: what they take, what they refuse. */
#include "data/data_options.h"
#include "testing.h"

static data_options set(const char *name, const char *value)
{
    data_options options;
    data_options_default(&options);
    assert_ok(data_options_set(&options, name, value));
    assert_ok(data_options_check(&options));
    return options;
}

static void values(void **state)
{
    (void)state;
    data_options options = set("mean", "0.485 0.456,0.406");
    assert_int_equal(options.mean_count, 3);
    assert_true(options.mean[0] == 0.485 && options.mean[1] == 0.456 && options.mean[2] == 0.406);
    assert_true(options.for_images);
    options = set("std", " 0.5, ");
    assert_int_equal(options.std_count, 1);
    assert_true(options.std[0] == 0.5);
    assert_true(set("scale", "1/127.5").scale == 1 / 127.5);
    assert_true(set("scale", "2").scale == 2);
    options = set("resize", "256");
    assert_int_equal(options.resize_short, 256);
    options = set("resize", "224x192");
    assert_int_equal(options.resize_width, 224);
    assert_int_equal(options.resize_height, 192);
    assert_int_equal(options.resize_short, 0);
    options = set("crop", "224");
    assert_int_equal(options.crop_width, 224);
    assert_int_equal(options.crop_height, 224);
    options = set("shuffle-seed", "18446744073709551615");
    assert_true(options.shuffle && options.seed == UINT64_MAX && !options.for_images);
    assert_int_equal(set("limit", "12").limit, 12);
    assert_int_equal(set("layout", "NHWC").layout, LAYOUT_NHWC);
    assert_int_equal(set("colour", "bgr").colour, COLOUR_BGR);
    assert_string_equal(set("split", "val").split, "val");
    data_options_default(&options);
    assert_false(options.for_images);
    assert_true(options.scale == 1.0 / 255);
}

static void refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"mean", ""},        {"mean", "1 2"},
        {"mean", "1 2 3 4"}, {"mean", "a"},
        {"mean", "1;2;3"},   {"mean", "nan"},
        {"std", "inf"},      {"scale", "1/0"},
        {"scale", "1/"},     {"scale", "x"},
        {"resize", "0"},     {"resize", "10x"},
        {"resize", "-3"},    {"resize", "70000"},
        {"resize", "3x4x5"}, {"crop", "99999999999999999"},
        {"crop", ""},        {"limit", "-1"},
        {"limit", "1.5"},    {"limit", ""},
        {"limit", " 3"},     {"layout", "chw"},
        {"colour", "cmyk"},  {"split", ""},
        {"split", "a/b"},    {"shuffle_seed", "18446744073709551616"},
        {"sizes", "3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        data_options options, before;
        memset(&before, 0, sizeof before);
        data_options_default(&before);
        options = before;
        assert_int_equal(data_options_set(&options, cases[i][0], cases[i][1]), PAL_ERROR_ARGUMENT);
        assert_non_null(strstr(pal_error_message(), cases[i][0]));
        assert_false(options.shuffle || options.for_images || options.mean_count);
        assert_int_equal(options.resize_short, 0);
    }
}

static void disagreeing(void **state)
{
    (void)state;
    static const char *const cases[][4] = {
        {"std", "0", "limit", "1"},
        {"std", "1 -1 1", "limit", "1"},
        {"resize", "20x30", "crop", "21x10"},
        {"resize", "20x30", "crop", "31"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        data_options options;
        data_options_default(&options);
        assert_ok(data_options_set(&options, cases[i][0], cases[i][1]));
        assert_ok(data_options_set(&options, cases[i][2], cases[i][3]));
        assert_int_equal(data_options_check(&options), PAL_ERROR_ARGUMENT);
    }
}

/* Every default in the table is a value that the option takes, and what it has without. */
static void declared(void **state)
{
    (void)state;
    size_t i = 0;
    for (const data_option *option; (option = data_option_get(i)); i++) {
        assert_true(option->name && option->argument && option->help);
        data_options options, defaults;
        data_options_default(&options);
        data_options_default(&defaults);
        if (option->default_value)
            assert_ok(data_options_set(&options, option->name, option->default_value));
        assert_true(options.scale == defaults.scale && options.limit == defaults.limit);
        assert_true(options.layout == defaults.layout && options.colour == defaults.colour);
    }
    assert_int_equal(i, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(refused),
        cmocka_unit_test(disagreeing),
        cmocka_unit_test(declared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
