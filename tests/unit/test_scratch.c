/* Scratch memory, small and large: in the usual folder, in another, and where no file can be had.
 */
#include "testing.h"

#include <signal.h>
#include <sys/resource.h>

#include "base/scratch.h"

static void use_scratch(void)
{
    static const uint64_t sizes[] = {0, 1, 1000, 1 << 20, (1 << 22) + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *memory = scratch_zeroed(sizes[i], 1);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
        for (uint64_t b = 0; b < sizes[i]; b++) {
            assert_int_equal(memory[b], 0);
            memory[b] = (unsigned char)(b * 7);
        }
        scratch_release(memory);
        for (uint64_t b = 0; b < sizes[i]; b++)
            assert_int_equal(memory[b], (unsigned char)(b * 7));
        scratch_free(memory);
    }
}

static void test_usual_folder(void **state)
{
    (void)state;
    use_scratch();
}

static void test_other_folder(void **state)
{
    (void)state;
    setenv("TMPDIR", "/nowhere/at/all", 1);
    use_scratch();
    unsetenv("TMPDIR");
}

static void test_no_file(void **state)
{
    (void)state;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    use_scratch();
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static void test_limits(void **state)
{
    (void)state;
    assert_null(scratch_zeroed(UINT64_MAX / 2, 4));
    assert_null(scratch_zeroed(UINT64_MAX / 2 + 2, 1));
    scratch_free(NULL);
    scratch_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual_folder),
        cmocka_unit_test(test_other_folder),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
