/* Every allocation of a plan whose way back computes things again fails once: PAL_ERROR_MEMORY. The
 * linker puts the functions below between the library and the C library; leaks are for the address
 * sanitizer. */
#include "recompute_networks.h"

#include <limits.h>
#include <stdatomic.h>

static atomic_long left = LONG_MAX; /* allocations until the one that fails */

static bool refuse(void)
{
    return atomic_fetch_sub(&left, 1) == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return refuse() ? NULL : __real_realloc(memory, size);
}

static void every_allocation(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const size_t y = recurrent_network(&b, 6, 4);
    long refusals = 0, without = 0;
    for (bool refused = true; refused; refusals++) {
        gradients *made = NULL;
        atomic_store(&left, refusals);
        const pal_status status = train_network(&b, y, RECOMPUTE_ALL, &made);
        refused = atomic_exchange(&left, LONG_MAX) < 0;
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
