/* Gradients of normalisations and of softmax against finite differences. */
#include "gradient_checks.h"

static void check_all(bench *b, size_t result, size_t count, const size_t *constants)
{
    /* A function behind it, so that the loss is not the same for all elements of a row. */
    const size_t bent = unary(b, UNARY_TANH, 0, 0, result);
    for (size_t i = 0; i < count; i++)
        check(b, bent, constants[i]);
}

static void channel_norms(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        bench b = bench_new(10 + (uint64_t)variant);
        op_attributes a = {.norm = {.epsilon = 1e-2F, .groups = 3}};
        const size_t x = any_of(&b, true, 4, SHAPE(2, 6, 3, 11));
        const size_t scale = any_of(&b, true, 1, SHAPE(6)), shift = any_of(&b, true, 1, SHAPE(6));
        const size_t inputs[] = {x, scale, shift};
        const graph_op op = variant & 1 ? OP_GROUP_NORM : OP_INSTANCE_NORM;
        const size_t count = variant & 2 ? 1 : 3;
        check_all(&b, add(&b, op, &a, count, inputs), count, inputs);
        bench_free(&b);
    }
}

/* Over the last axes, with parameters of one row, and over others, whose rows are gathered. */
static void norms_over_axes(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        int64_t axes[2];
        size_t rank;
        int64_t parameters[3];
    } cases[] = {
        {0, {-1}, 1, {19}},         {0, {1}, 2, {4, 19}}, {1, {1}, 2, {4, 1}},
        {2, {0, 2}, 3, {3, 1, 19}}, {1, {2}, 1, {1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int op = OP_LAYER_NORM; op <= OP_RMS_NORM; op++) {
            bench b = bench_new(20 + i);
            op_attributes a = {.norm = {.epsilon = 1e-2F, .axis_count = cases[i].count}};
            memcpy(a.norm.axes, cases[i].axes, sizeof cases[i].axes);
            const size_t x = any_of(&b, true, 3, SHAPE(3, 4, 19));
            const size_t scale = any_of(&b, true, cases[i].rank, cases[i].parameters);
            const size_t shift = any_of(&b, true, cases[i].rank, cases[i].parameters);
            const size_t inputs[] = {x, scale, shift};
            const size_t count = op == OP_LAYER_NORM ? 3 : 2;
            check_all(&b, add(&b, (graph_op)op, &a, count, inputs), count, inputs);
            check_all(&b, add(&b, (graph_op)op, &a, 1, inputs), 1, inputs);
            bench_free(&b);
        }
}

static void vector_norms(void **state)
{
    (void)state;
    for (int p = 1; p <= 2; p++)
        for (int small = 0; small < 2; small++) { /* epsilon larger than any norm: a factor */
            bench b = bench_new(30 + (uint64_t)p);
            const op_attributes a = {.norm = {.epsilon = small ? 100 : 1e-3F,
                                              .p = p,
                                              .axis_count = 1,
                                              .axes = {small ? 2 : 1}}};
            const size_t x = any_of(&b, true, 3, SHAPE(2, 5, 7));
            float *values = value_of(&b, x)->constant->owned;
            for (int e = 0; e < 70; e++) /* away from the corners of absolute values */
                values[e] += values[e] < 0 ? -0.1F : 0.1F;
            check_all(&b, add(&b, OP_LP_NORM, &a, 1, &x), 1, &x);
            bench_free(&b);
        }
}

static void local_response(void **state)
{
    (void)state;
    for (int64_t size = 2; size <= 5; size++) {
        bench b = bench_new(40 + (uint64_t)size);
        const op_attributes a = {
            .lrn = {.alpha = 0.9F, .beta = size == 3 ? 0.75F : 0.6F, .bias = 1.5F, .size = size}};
        const size_t x = any_of(&b, true, 4, SHAPE(2, 7, 2, 3));
        check_all(&b, add(&b, OP_LRN, &a, 1, &x), 1, &x);
        bench_free(&b);
    }
}

static void softmaxes(void **state)
{
    (void)state;
    for (int logarithm = 0; logarithm < 2; logarithm++)
        for (int64_t axis = -1; axis < 2; axis++) {
            bench b = bench_new(50);
            const op_attributes a = {.softmax = {.axis = axis, .logarithm = logarithm}};
            const size_t x = any_of(&b, true, 3, SHAPE(4, 5, 6));
            check_all(&b, add(&b, OP_SOFTMAX, &a, 1, &x), 1, &x);
            bench_free(&b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channel_norms), cmocka_unit_test(norms_over_axes),
        cmocka_unit_test(vector_norms),  cmocka_unit_test(local_response),
        cmocka_unit_test(softmaxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
