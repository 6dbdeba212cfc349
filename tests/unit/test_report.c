/* The page for people: texts are escaped, numbers are as people read them, axes have round marks.
 */
#include "testing.h"

#include <unistd.h>

#include "report/charts.h"
#include "report/html.h"
#include "report/page.h"

static char *text_of(const char *path)
{
    file_map map;
    assert_ok(file_map_open(path, &map));
    char *text = keep_memory(map.size + 1);
    memcpy(text, map.data, map.size);
    file_map_close(&map);
    return text;
}

typedef void (*number_form)(file_writer *out, double value);

static void assert_written(number_form form, double value, const char *expected)
{
    file_writer out;
    assert_ok(writer_open(&out, in("number")));
    form(&out, value);
    assert_ok(writer_close(&out));
    assert_string_equal(text_of(in("number")), expected);
}

static void assert_escaped(const char *given, const char *expected)
{
    file_writer out;
    assert_ok(writer_open(&out, in("text")));
    html_text(&out, given);
    assert_ok(writer_close(&out));
    assert_string_equal(text_of(in("text")), expected);
}

static void test_text(void **state)
{
    (void)state;
    assert_escaped("a_weight.0", "a_weight.0");
    assert_escaped("<script>&\"'", "&lt;script&gt;&amp;&quot;&#39;");
    assert_escaped("gr\xc3\xbc\xc3\x9f \xe4\xb8\xad \xf0\x9f\x98\x80",
                   "gr\xc3\xbc\xc3\x9f \xe4\xb8\xad \xf0\x9f\x98\x80");
    assert_escaped("a\x01z\x7f", "a\xef\xbf\xbdz\xef\xbf\xbd");
    /* too short, overlong, a surrogate, past the last, a stray byte, a C1 control, no character */
    assert_escaped("\xe4\xb8", "\xef\xbf\xbd\xef\xbf\xbd");
    assert_escaped("\xc0\xbc", "\xef\xbf\xbd\xef\xbf\xbd");
    assert_escaped("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_escaped("\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_escaped("\x80", "\xef\xbf\xbd");
    assert_escaped("\xc2\x85", "\xef\xbf\xbd\xef\xbf\xbd");
    assert_escaped("\xef\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_escaped("\xe4<b>", "\xef\xbf\xbd&lt;b&gt;");
}

static void two_digits(file_writer *out, double value)
{
    html_number(out, value, 2);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_written(html_bytes, 0, "0&nbsp;bytes");
    assert_written(html_bytes, 1023, "1023&nbsp;bytes");
    assert_written(html_bytes, 1024, "1.00&nbsp;KiB");
    assert_written(html_bytes, 80563, "78.7&nbsp;KiB");
    assert_written(html_bytes, 197376, "193&nbsp;KiB");
    assert_written(html_bytes, 1048575, "1.00&nbsp;MiB");
    assert_written(html_bytes, 5.5e12, "5.00&nbsp;TiB");
    assert_written(two_digits, 4, "4");
    assert_written(two_digits, 4.5, "4.5");
    assert_written(two_digits, 120, "120");
    assert_written(two_digits, -0.001, "0");
    assert_written(two_digits, NAN, "n/a");
    assert_written(two_digits, -INFINITY, "&minus;&infin;");
    assert_written(html_short, 0.00012345, "0.000123");
    assert_written(html_short, INFINITY, "&infin;");
    assert_written(html_seconds, 0.314, "0.31&nbsp;s");
    assert_written(html_seconds, 252.4, "4&nbsp;min 12&nbsp;s");
    assert_written(html_seconds, 7384, "2&nbsp;h 3&nbsp;min");
}

/* Whatever the ends: marks lie inside, there are at least two and not too many, and their distance
 * is 1, 2 or 5 times a power of ten. */
static void test_ticks(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        const double low = (random_unit(&seed) - 0.5) * pow(10, 8 * random_unit(&seed) - 4);
        const double high = low + pow(10, 8 * random_unit(&seed) - 4);
        const int wanted = 3 + (int)(4 * random_unit(&seed));
        double step, tick = axis_ticks(low, high, wanted, &step);
        const double digit = step / pow(10, floor(log10(step) + 1e-9));
        assert_true(fabs(digit - 1) < 1e-6 || fabs(digit - 2) < 1e-6 || fabs(digit - 5) < 1e-6 ||
                    fabs(digit - 2.5) < 1e-6);
        assert_true(tick >= low - 1e-9 * fabs(low));
        int count = 0;
        for (; tick <= high; tick += step)
            count++;
        assert_true(count >= 2 && count <= 2 * wanted + 2);
    }
}

/* A page of nothing, of what is not known, and of sizes that are none. */
static void test_odd_runs(void **state)
{
    (void)state;
    const double counts[4] = {0}, x[2] = {1, 1}, y[2] = {NAN, NAN};
    const page_series series = {"loss", y};
    const page_weight weights[] = {
        {.name = "", .op = "", .type = "", .shape = "", .reason = "", .psnr = NAN, .mse = NAN},
        {.name = "one value",
         .op = "conv",
         .type = "float16",
         .shape = "1",
         .reason = "",
         .palettized = true,
         .nbits = 1,
         .psnr = INFINITY,
         .histogram = {.low = 3, .high = 3, .counts = counts, .bins = 4}},
    };
    page_run run = {.model = "/",
                    .output = "",
                    .method = "kmeans",
                    .series = "kmeans",
                    .seconds = NAN,
                    .peak_bytes = NAN,
                    .training = {"step", x, &series, 1, 2}};
    assert_fails(page_write(in("none.html"), &run, 0), PAL_ERROR_ARGUMENT, "no run");
    assert_ok(page_write(in("empty.html"), &run, 1));
    run.weights = weights;
    run.weight_count = 2;
    assert_ok(page_write(in("one.html"), &run, 1));
    const page_run runs[] = {run, run, run};
    assert_ok(page_write(in("three.html"), runs, 3));
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"empty.html", "one.html", "three.html"};
        const char *text = text_of(in(names[i]));
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf\""));
        assert_non_null(strstr(text, "</html>"));
    }
    assert_fails(page_write("/no/such/folder/page.html", &run, 1), PAL_ERROR_IO, "page.html");
}

/* What training held back is other data than the scores': a tile, and in no comparison. */
static void test_held_back(void **state)
{
    (void)state;
    const page_score held_back = {.known = true, .samples = 80, .top1 = 61.25, .agreement = NAN};
    const page_score before = {.known = true, .samples = 2000, .top1 = 93.5, .agreement = NAN};
    const page_run run = {.model = "m",
                          .output = "o",
                          .method = "dkm",
                          .series = "dkm",
                          .seconds = NAN,
                          .peak_bytes = NAN,
                          .score_before = before,
                          .held_back = held_back};
    const page_run runs[] = {run, run};
    assert_ok(page_check(in("held.html")));
    assert_int_equal(access(in("held.html"), F_OK), -1);
    assert_ok(page_write(in("held.html"), runs, 1));
    const char *text = text_of(in("held.html"));
    assert_non_null(strstr(text, "61.25"));
    assert_non_null(strstr(text, "held back from training, 80 samples"));
    assert_null(strstr(text, "points from"));
    assert_ok(page_write(in("both.html"), runs, 2));
    assert_null(strstr(text_of(in("both.html")), "Size and accuracy"));
    assert_fails(page_check("/no/such/folder/page.html"), PAL_ERROR_IO, "page.html");
    assert_fails(page_check(directory), PAL_ERROR_IO, "not replaced");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),      cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_ticks),     cmocka_unit_test(test_odd_runs),
        cmocka_unit_test(test_held_back),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
