/* Regular expressions against the C library's, on random patterns small enough for it. */
#include "testing.h"

#include <regex.h>

#include "method/pattern.h"

static void random_text(uint64_t *seed, const char *const *pieces, unsigned count, unsigned most,
                        char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (unsigned n = random_below(seed, most + 1); n > 0; n--) {
        int length = snprintf(out + used, size - used, "%s", pieces[random_below(seed, count)]);
        used += (size_t)length;
    }
}

static void test_against_library(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",    "b",   "c",     "ab",    "(",     ")",     "(",
                                         ")",    "|",   "*",     "+",     "?",     ".",     "[ab]",
                                         "[^a]", "{2}", "{0,1}", "{1,}",  "{1,2}", "[a-b]", "(a|b)",
                                         "\\.",  "\\(", "[]a]",  "(ab)*", "^",     "$"};
    static const char *const letters[] = {"a", "b", "c", ".", "(", "]"};
    uint64_t seed = 1;
    size_t compared = 0, matched = 0;
    for (int i = 0; i < 100000; i++) {
        char text[64], whole[80], name[16];
        size_t spent = 0;
        pattern *ours;
        regex_t theirs;
        random_text(&seed, pieces, sizeof pieces / sizeof *pieces, 7, text, sizeof text);
        assert_int_not_equal(pattern_new(text, &spent, &ours), PAL_ERROR_MEMORY);
        snprintf(whole, sizeof whole, "^(%s)$", text);
        if (!ours || regcomp(&theirs, whole, REG_EXTENDED | REG_NOSUB)) {
            pattern_free(ours);
            continue;
        }
        for (int j = 0; j < 5; j++, compared++) {
            random_text(&seed, letters, sizeof letters / sizeof *letters, 6, name, sizeof name);
            const bool expected = regexec(&theirs, name, 0, NULL, 0) == 0;
            if (pattern_matches(ours, name) != expected)
                print_error("%s on %s: %s\n", text, name, expected ? "matches" : "does not match");
            assert_int_equal(pattern_matches(ours, name), expected);
            matched += expected;
        }
        regfree(&theirs);
        pattern_free(ours);
    }
    assert_true(compared > 50000 && matched > 5000);
}

/* Long names take time in proportion to their length, whatever the pattern. */
static void test_long_names(void **state)
{
    (void)state;
    enum { LENGTH = 100000 };
    static char name[LENGTH + 1];
    size_t spent = 0;
    pattern *pattern;
    memset(name, 'a', LENGTH);
    assert_ok(pattern_new("((a*)*)*(a|aa)+(a?){20}", &spent, &pattern));
    assert_true(pattern_matches(pattern, name));
    name[LENGTH - 1] = 'b';
    assert_false(pattern_matches(pattern, name));
    pattern_free(pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_library),
        cmocka_unit_test(test_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
