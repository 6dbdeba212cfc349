/* Scratch memory, small and large, with and without a folder for it. */
#include "testing.h"

#include "base/scratch.h"

static void test_scratch(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 1000, 1 << 20, (1 << 22) + 5};
    for (int turn = 0; turn < 2; turn++) {
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
        setenv("TMPDIR", "/nowhere/at/all", 1); /* then another folder, or plain memory */
    }
    unsetenv("TMPDIR");
    assert_null(scratch_zeroed(UINT64_MAX / 2, 4));
    scratch_free(NULL);
    scratch_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scratch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
