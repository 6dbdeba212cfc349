/* Every allocation of a plan whose way back computes things again fails once: PAL_ERROR_MEMORY.
 * Leaks are for the address sanitizer. */
#include "recompute_networks.h"

#include "failing_memory.h"

static void every_allocation(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const size_t y = recurrent_network(&b, 6, 4);
    long refusals = 0, without = 0;
    for (bool refused = true; refused; refusals++) {
        gradients *made = NULL;
        memory_fail_after(refusals);
        const pal_status status = train_network(&b, y, RECOMPUTE_ALL, &made);
        refused = memory_failed();
        if (status) /* otherwise a kernel went on without its first choice */
            assert_int_equal(status, PAL_ERROR_MEMORY);
        assert_true(refused || !status);
        without += status != PAL_OK;
        gradients_free(made);
    }
    assert_true(without > 100);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
