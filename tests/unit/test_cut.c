/* A run that is cut anywhere goes on as if it had not been, whatever ran in between. */
#include "recompute_networks.h"

#include "engine/plan_cut.h"

static void fill(const plan *plan, const float *input, float factor)
{
    const buffer *x = plan_model_input(plan, 0);
    for (uint64_t i = 0; i < x->elements; i++)
        ((float *)x->data)[i] = factor * input[i];
}

/* At each step; returns how many there are. */
static size_t cut_everywhere(const plan *plan, const float *input)
{
    const buffer *y = plan_model_output(plan, 0);
    float *whole = malloc(y->bytes);
    assert_non_null(whole);
    fill(plan, input, 1);
    assert_ok(plan_run(plan, NULL));
    memcpy(whole, y->data, y->bytes);
    size_t step = 0;
    for (bool more = true; more; step++) {
        plan_cut cut;
        assert_ok(plan_cut_new(plan, step, &cut));
        more = cut.count != 1 || cut.alive[0]->data != y->data; /* nothing is left to be done */
        unsigned char *kept = malloc(cut.bytes);
        assert_non_null(kept);
        fill(plan, input, 1);
        assert_ok(plan_run_part(plan, 0, step));
        plan_cut_keep(&cut, kept);
        fill(plan, input, -2);
        assert_ok(plan_run(plan, NULL));
        assert_memory_not_equal(whole, y->data, y->bytes);
        plan_cut_restore(&cut, kept);
        assert_ok(plan_run_part(plan, step, SIZE_MAX));
        assert_memory_equal(whole, y->data, y->bytes);
        free(kept);
        plan_cut_free(&cut);
    }
    free(whole);
    return step;
}

/* Memory is shared in the one, and kept for the way back in the other. */
static void everywhere(void **state)
{
    (void)state;
    for (int network = 0; network < 4; network++) {
        bench b = bench_new(200 + (uint64_t)network);
        size_t result = network_of(&b, network);
        gradients *trained;
        plan *alone;
        assert_ok(train_network(&b, result, RECOMPUTE_NONE, &trained));
        assert_true(cut_everywhere(gradients_plan(trained), b.inputs[0]) > 5);
        b.graph->main.outputs = &result;
        assert_ok(plan_new(b.graph, &(plan_options){.threads = 1}, &alone));
        assert_true(cut_everywhere(alone, b.inputs[0]) > 5);
        plan_free(alone);
        gradients_free(trained);
        bench_free(&b);
    }
}

/* Nothing before its first reader depends on a variable, and that step does. */
static void readers(void **state)
{
    (void)state;
    for (int network = 0; network < 4; network++) {
        bench b = bench_new(300 + (uint64_t)network);
        gradients *made;
        assert_ok(train_network(&b, network_of(&b, network), RECOMPUTE_NONE, &made));
        const plan *plan = gradients_plan(made);
        const buffer *y = plan_model_output(plan, 0);
        float *before = malloc(y->bytes);
        assert_non_null(before);
        size_t different = 0;
        for (size_t i = 0; i < gradients_variable_count(made); i++) {
            const gradient_variable *variable = gradients_variable(made, i);
            const size_t reader = plan_first_reader(plan, variable->value);
            fill(plan, b.inputs[0], 1);
            assert_ok(plan_run(plan, NULL));
            memcpy(before, y->data, y->bytes);
            assert_ok(plan_run_part(plan, 0, reader));
            for (uint64_t e = 0; e < variable->elements; e++)
                variable->values[e] += 0.5F;
            assert_ok(plan_run_part(plan, reader, SIZE_MAX)); /* is told of the change */
            float *late = malloc(y->bytes);
            assert_non_null(late);
            memcpy(late, y->data, y->bytes);
            different += memcmp(before, late, y->bytes) != 0;
            assert_ok(plan_run(plan, NULL));
            assert_memory_equal(late, y->data, y->bytes);
            free(late);
        }
        assert_true(different > 3);
        free(before);
        gradients_free(made);
        bench_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everywhere),
        cmocka_unit_test(readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
