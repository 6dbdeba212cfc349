/* Every allocation of a layer of differentiable k-means fails once: PAL_ERROR_MEMORY, and what
 * there was before goes on as if nothing had been. Leaks are for the address sanitizer. */
#include "testing.h"

#include "failing_memory.h"

typedef struct steps {
    pal_dkm_config config;
    float *weights, *out, *results;
    pal_dkm *dkm;
} steps;

/* Makes the call fail at each of its allocations, until it succeeds. */
#define WITHOUT_MEMORY(call)                                                                       \
    for (long nth_ = 0;; nth_++) {                                                                 \
        memory_fail_after(nth_);                                                                   \
        const pal_status status_ = (call);                                                         \
        const bool refused_ = memory_failed();                                                     \
        assert_int_equal(status_, refused_ ? PAL_ERROR_MEMORY : PAL_OK);                           \
        if (!refused_)                                                                             \
            break;                                                                                 \
        assert_true(nth_ < 200);                                                                   \
    }

static void go_without(steps *s, size_t n)
{
    uint8_t *indices = malloc(n);
    WITHOUT_MEMORY(pal_dkm_new(&s->config, &s->dkm));
    WITHOUT_MEMORY(pal_dkm_start(s->dkm, s->weights, NULL));
    WITHOUT_MEMORY(pal_dkm_start(s->dkm, s->weights, s->weights + n));
    WITHOUT_MEMORY(pal_dkm_forward(s->dkm, s->weights, s->results));
    WITHOUT_MEMORY(pal_dkm_backward(s->dkm, s->weights, s->out, s->results + n));
    WITHOUT_MEMORY(pal_dkm_finish(s->dkm, s->weights, s->results + 2 * n, indices));
    free(indices);
}

static void go(steps *s, size_t n)
{
    assert_ok(pal_dkm_new(&s->config, &s->dkm));
    assert_ok(pal_dkm_start(s->dkm, s->weights, s->weights + n));
    assert_ok(pal_dkm_forward(s->dkm, s->weights, s->results));
    assert_ok(pal_dkm_backward(s->dkm, s->weights, s->out, s->results + n));
    assert_ok(pal_dkm_finish(s->dkm, s->weights, s->results + 2 * n, NULL));
}

static void test_every_allocation(void **state)
{
    (void)state;
    static const size_t sizes[] = {600, 40000, 600};
    for (size_t t = 0; t < 3; t++) {
        const size_t n = sizes[t];
        uint64_t seed = t;
        steps s = {.config = pal_dkm_defaults(n, 8)};
        s.config.channels = 4;
        s.config.inner = n / 4;
        s.config.cluster_dim = t == 2 ? 2 : 1;
        s.config.threads = 2;
        s.weights = malloc(2 * n * sizeof *s.weights);
        s.out = malloc(n * sizeof *s.out);
        s.results = malloc(6 * n * sizeof *s.results);
        for (size_t i = 0; i < n; i++) {
            s.weights[i] = (float)random_normal(&seed);
            s.weights[n + i] = (float)random_unit(&seed); /* importances */
            s.out[i] = (float)random_normal(&seed);
        }
        go_without(&s, n);
        steps undisturbed = s;
        undisturbed.results = s.results + 3 * n;
        go(&undisturbed, n);
        assert_memory_equal(s.results, undisturbed.results, 3 * n * sizeof *s.results);
        pal_dkm_free(undisturbed.dkm);
        pal_dkm_free(s.dkm);
        free(s.weights);
        free(s.out);
        free(s.results);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
