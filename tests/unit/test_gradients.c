/* Gradients against finite differences, operator by operator, and gradients of single samples. */
#include "gradient_checks.h"

/* ---------------------------------------------------------------- products with weights */

static void convolutions(void **state)
{
    (void)state;
    for (int variant = 0; variant < 6; variant++) {
        bench b = bench_new(10 + (uint64_t)variant);
        op_attributes a = {.window = plain_window};
        const bool transposed = variant >= 4;
        const int64_t groups = variant == 1 || variant == 5 ? 2 : variant == 2 ? 8 : 1;
        a.window.groups = groups;
        a.window.pad_begin[0] = a.window.pad_end[1] = 1;
        if (variant == 3 || transposed)
            a.window.stride[0] = a.window.stride[1] = 2;
        const size_t x = any_of(&b, false, 4, SHAPE(3, 8, 7, 6));
        const size_t w = any_of(
            &b, true, 4, transposed ? SHAPE(8, 6 / groups, 3, 2) : SHAPE(8, 8 / groups, 3, 2));
        const size_t bias = any_of(&b, true, 1, SHAPE(transposed ? 6 : 8));
        const size_t y =
            add(&b, transposed ? OP_CONV_TRANSPOSE : OP_CONV, &a, 3, (const size_t[]){x, w, bias});
        check(&b, y, w);
        check(&b, y, bias);
        check_apart(&b, y, w);
        bench_free(&b);
    }
}

/* A filter for each channel, of sizes for which oneDNN has and has not an implementation of its
 * own: more and fewer channels than a vector has, padding wider than a window's half, strides that
 * leave a margin, holes. */
static void depthwise(void **state)
{
    (void)state;
    static const struct {
        size_t spatial;
        int64_t channels, extent[2], kernel[2], stride[2], dilation[2], begin[2], end[2];
    } cases[] = {
        {2, 16, {8, 7}, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}},
        {2, 16, {9, 8}, {5, 5}, {2, 2}, {1, 1}, {2, 2}, {2, 2}},
        {2, 12, {6, 6}, {5, 3}, {1, 2}, {1, 1}, {4, 0}, {3, 1}},
        {2, 24, {4, 4}, {7, 7}, {1, 1}, {1, 1}, {3, 3}, {3, 3}},
        {2, 8, {9, 9}, {3, 3}, {1, 1}, {2, 3}, {2, 3}, {2, 3}},
        {2, 16, {5, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
        {2, 5, {6, 5}, {5, 5}, {3, 1}, {1, 1}, {2, 0}, {0, 2}},
        {1, 16, {21}, {9}, {2}, {1}, {4}, {4}},
        {1, 8, {12}, {4}, {1}, {2}, {0}, {3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b = bench_new(900 + i);
        op_attributes a = {.window = plain_window};
        const op_attributes before = {.window = plain_window};
        const size_t rank = cases[i].spatial + 2;
        const int64_t c = cases[i].channels;
        int64_t extent[4] = {3, 16}, mixing[4] = {c, 16, 1, 1}, window[4] = {c, 1};
        a.window.groups = c;
        for (size_t d = 0; d < cases[i].spatial; d++) {
            extent[d + 2] = cases[i].extent[d];
            window[d + 2] = cases[i].kernel[d];
            a.window.stride[d] = cases[i].stride[d];
            a.window.dilation[d] = cases[i].dilation[d];
            a.window.pad_begin[d] = cases[i].begin[d];
            a.window.pad_end[d] = cases[i].end[d];
        }
        const size_t x = any_of(&b, false, rank, extent), m = any_of(&b, true, rank, mixing);
        const size_t w = any_of(&b, true, rank, window);
        const size_t mixed = add(&b, OP_CONV, &before, 2, (const size_t[]){x, m});
        const size_t y = add(&b, OP_CONV, &a, 2, (const size_t[]){mixed, w});
        check(&b, y, w);
        check(&b, y, m);
        check_apart(&b, y, w);
        bench_free(&b);
    }
}

/* A weight two layers before the loss: gradients through functions and convolutions. */
static void through_layers(void **state)
{
    (void)state;
    bench b = bench_new(20);
    const op_attributes a = {.window = plain_window};
    const size_t x = any_of(&b, false, 4, SHAPE(2, 3, 8, 8));
    const size_t first = any_of(&b, true, 4, SHAPE(16, 3, 3, 3));
    const size_t second = any_of(&b, true, 4, SHAPE(5, 16, 3, 3));
    size_t y = add(&b, OP_CONV, &a, 2, (const size_t[]){x, first});
    const size_t smooth = unary(&b, UNARY_TANH, 0, 0, y);
    const size_t both = binary(&b, BINARY_ADD, smooth, y); /* two consumers of y */
    y = add(&b, OP_CONV, &a, 2, (const size_t[]){both, second});
    check(&b, y, first);
    check(&b, y, second);
    check_apart(&b, y, first);
    check_apart(&b, y, second);
    bench_free(&b);
}

static void matrix_products(void **state)
{
    (void)state;
    for (int variant = 0; variant < 8; variant++) {
        bench b = bench_new(30 + (uint64_t)variant);
        const bool ta = variant & 1, tb = variant & 2, batched = variant & 4;
        const op_attributes a = {.matmul = {.transpose_a = ta, .transpose_b = tb, .alpha = 0.5F}};
        const int64_t m = 5, k = 4, n = 3;
        const int64_t rows = ta ? k : m, columns = ta ? m : k;
        const size_t x = batched ? any_of(&b, false, 4, SHAPE(2, 3, rows, columns))
                                 : any_of(&b, false, 2, SHAPE(rows, columns));
        const size_t w = batched ? any_of(&b, true, 3, SHAPE(3, tb ? n : k, tb ? k : n))
                                 : any_of(&b, true, 2, SHAPE(tb ? n : k, tb ? k : n));
        const size_t bias = any_of(&b, true, 1, SHAPE(n));
        const size_t y = add(&b, OP_MATMUL, &a, 3, (const size_t[]){x, w, bias});
        check(&b, y, w);
        check(&b, y, bias);
        if (!ta && !batched)
            check_apart(&b, y, w);
        bench_free(&b);
    }
}

/* Rows of every sample meet the same weight. */
static void products_of_sequences(void **state)
{
    (void)state;
    bench b = bench_new(40);
    const op_attributes a = {.matmul = {.alpha = 1}},
                        t = {.matmul = {.transpose_b = true, .alpha = 1}};
    const size_t x = any_of(&b, false, 3, SHAPE(4, 6, 5));
    const size_t w = any_of(&b, true, 2, SHAPE(5, 7)), v = any_of(&b, true, 2, SHAPE(3, 7));
    size_t y = add(&b, OP_MATMUL, &a, 2, (const size_t[]){x, w});
    y = unary(&b, UNARY_GELU, 0, 0, y);
    y = add(&b, OP_MATMUL, &t, 2, (const size_t[]){y, v});
    check(&b, y, w);
    check(&b, y, v);
    check_apart(&b, y, w);
    check_apart(&b, y, v);
    bench_free(&b);
}

/* ---------------------------------------------------------------- element by element */

static void functions(void **state)
{
    (void)state;
    static const struct {
        unary_kind kind;
        float alpha, beta;
    } smooth[] = {
        {UNARY_ELU, 0.7F, 0},
        {UNARY_SELU, 1.67F, 1.05F},
        {UNARY_CELU, 0.8F, 0},
        {UNARY_SIGMOID, 0, 0},
        {UNARY_TANH, 0, 0},
        {UNARY_SCALED_TANH, 1.7F, 0.6F},
        {UNARY_SOFTPLUS, 0, 0},
        {UNARY_SOFTSIGN, 0, 0},
        {UNARY_SWISH, 1.3F, 0},
        {UNARY_MISH, 0, 0},
        {UNARY_GELU, 0, 0},
        {UNARY_GELU_TANH, 0, 0},
        {UNARY_GELU_SIGMOID, 0, 0},
        {UNARY_LINEAR, -2, 3},
        {UNARY_NEG, 0, 0},
        {UNARY_EXP, 0, 0},
        {UNARY_SQUARE, 0, 0},
        {UNARY_ERF, 0, 0},
        {UNARY_SIN, 0, 0},
        {UNARY_COS, 0, 0},
        {UNARY_ATAN, 0, 0},
        {UNARY_SINH, 0, 0},
        {UNARY_COSH, 0, 0},
        {UNARY_ASINH, 0, 0},
        {UNARY_RELU, 0, 0},
        {UNARY_LEAKY_RELU, 0.1F, 0},
        {UNARY_CLIP, -0.5F, 0.9F},
        {UNARY_HARD_SWISH, 0, 0},
        {UNARY_HARD_SIGMOID, 0.2F, 0.5F},
        {UNARY_ABS, 0, 0},
        {UNARY_EXPM1, 0, 0},
    };
    for (size_t i = 0; i < sizeof smooth / sizeof *smooth; i++) {
        bench b = bench_new(50 + i);
        const size_t w = any_of(&b, true, 2, SHAPE(4, 9));
        float *values = (float *)(uintptr_t)value_of(&b, w)->constant->owned;
        for (int e = 0; e < 36; e++) { /* away from the corners */
            const float corners[] = {0, -0.5F, 0.9F, 3, -3, 2.5F, -2.5F};
            for (size_t c = 0; c < sizeof corners / sizeof *corners; c++)
                if (fabsf(values[e] - corners[c]) < 3 * check_step)
                    values[e] += 0.1F;
        }
        check(&b, unary(&b, smooth[i].kind, smooth[i].alpha, smooth[i].beta, w), w);
        bench_free(&b);
    }
}

/* Functions of numbers that lie between 0.2 and 0.8, or larger by one. */
static void bounded_functions(void **state)
{
    (void)state;
    static const struct {
        unary_kind kind;
        float alpha, beta, shift;
    } functions[] = {
        {UNARY_LOG, 0.1F, 0, 0},
        {UNARY_SQRT, 0, 0, 0},
        {UNARY_RSQRT, 0.1F, 0, 0},
        {UNARY_RECIPROCAL, 0.5F, 0, 0},
        {UNARY_TAN, 0, 0, 0},
        {UNARY_ASIN, 0, 0, 0},
        {UNARY_ACOS, 0, 0, 0},
        {UNARY_ATANH, 0, 0, 0},
        {UNARY_ACOSH, 0, 0, 1},
        {UNARY_THRESHOLDED_RELU, 0.1F, 0, 0},
        {UNARY_HARDMAX_SHRINK, 0.1F, 0.05F, 0},
        {UNARY_FLOOR, 0, 0, 0},
        {UNARY_CEIL, 0, 0, 0},
        {UNARY_SIGN, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        bench b = bench_new(80 + i);
        const size_t w = any_of(&b, true, 2, SHAPE(3, 7));
        float *values = value_of(&b, w)->constant->owned;
        for (int e = 0; e < 21; e++)
            values[e] = functions[i].shift + 0.5F + 0.3F * sinf(values[e]);
        check(&b, unary(&b, functions[i].kind, functions[i].alpha, functions[i].beta, w), w);
        bench_free(&b);
    }
}

/* Functions whose slope at 0 is infinite, on a layout whose padding is 0. */
static void slopes_of_padding(void **state)
{
    (void)state;
    static const struct {
        unary_kind kind;
        float alpha;
    } functions[] = {{UNARY_SQRT, 0}, {UNARY_LOG, 0}, {UNARY_RSQRT, 0}, {UNARY_RECIPROCAL, 0}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        bench b = bench_new(95 + i);
        const op_attributes a = {.window = plain_window};
        const size_t x = any_of(&b, false, 4, SHAPE(2, 8, 9, 9));
        const size_t first = any_of(&b, true, 4, SHAPE(16, 8, 3, 3));
        const size_t second = any_of(&b, true, 4, SHAPE(20, 16, 3, 3));
        const size_t third = any_of(&b, true, 4, SHAPE(16, 20, 3, 3));
        float *values = value_of(&b, second)->constant->owned;
        for (int e = 0; e < 20 * 16 * 9; e++)
            values[e] *= 0.01F;
        size_t y = add(&b, OP_CONV, &a, 2, (const size_t[]){x, first});
        y = add(&b, OP_CONV, &a, 2, (const size_t[]){y, second});
        y = unary(&b, UNARY_SOFTPLUS, 0, 0, y);
        y = unary(&b, functions[i].kind, functions[i].alpha, 0, y);
        y = add(&b, OP_CONV, &a, 2, (const size_t[]){y, third});
        check(&b, y, first);
        bench_free(&b);
    }
}

static void pairs(void **state)
{
    (void)state;
    static const binary_kind kinds[] = {BINARY_ADD,  BINARY_SUB,      BINARY_MUL, BINARY_DIV,
                                        BINARY_POW,  BINARY_MIN,      BINARY_MAX, BINARY_MOD,
                                        BINARY_FMOD, BINARY_FLOOR_DIV};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int swapped = 0; swapped < 2; swapped++)
            for (int shape = 0; shape < 3; shape++) {
                bench b = bench_new(100 + i);
                const size_t x = any_of(&b, false, 3, SHAPE(3, 4, 5));
                const size_t w = shape == 0   ? any_of(&b, true, 3, SHAPE(3, 4, 5))
                                 : shape == 1 ? any_of(&b, true, 2, SHAPE(4, 1))
                                              : any_of(&b, true, 1, SHAPE(5));
                for (int s = 0; s < 2; s++) {
                    float *values = s ? b.inputs[0] : value_of(&b, w)->constant->owned;
                    for (uint64_t e = 0; e < graph_elements(value_of(&b, s ? x : w)); e++)
                        if (kinds[i] < BINARY_FLOOR_DIV) /* away from zero */
                            values[e] += values[e] < 0 ? -1 : 1;
                        else /* positive; quotients that are not whole */
                            values[e] = (s ? 2.4F : 0.95F) + 0.05F * sinf(values[e]);
                }
                const size_t y = swapped ? binary(&b, kinds[i], w, x) : binary(&b, kinds[i], x, w);
                check(&b, y, w);
                bench_free(&b);
            }
}

/* ---------------------------------------------------------------- the rest */

static void others(void **state)
{
    (void)state;
    bench b = bench_new(200);
    const size_t w = any_of(&b, true, 4, SHAPE(2, 3, 6, 5));
    float *values = value_of(&b, w)->constant->owned;
    for (int e = 0; e < 180;
         e++) /* all different by more than a step: maxima stay where they are */
        values[e] = 0.05F * (float)(e * 37 % 180) - 4;
    const op_attributes mean = {.reduce = {.kind = REDUCE_MEAN, .keep_dims = true}};
    const op_attributes norm = {.norm = {.epsilon = 1e-3F}};
    const op_attributes perm = {.transpose = {4, {0, 2, 3, 1}}};
    const op_attributes joined = {.concat = {1}};
    op_attributes pool = {.window = plain_window};
    pool.window.kernel[0] = 3, pool.window.kernel[1] = 2;
    pool.window.stride[0] = 2;
    pool.window.pad_begin[0] = 1;
    const int64_t two[] = {2, 3}, starts[] = {1, -1}, ends[] = {6, -100}, steps[] = {2, -2};
    const int64_t pads[] = {0, 1, 0, -1, 0, 0, 2, 0};
    const size_t axes = graph_add_ints(b.graph, two, 2);
    check(&b, add(&b, OP_REDUCE, &mean, 2, (const size_t[]){w, axes}), w);
    for (int kind = REDUCE_SUM; kind <= REDUCE_LOG_SUM_EXP; kind++) {
        const op_attributes a = {.reduce = {.kind = (reduce_kind)kind}};
        if (kind != REDUCE_LOG_SUM && kind != REDUCE_PRODUCT && kind != REDUCE_L1)
            check(&b, add(&b, OP_REDUCE, &a, 2, (const size_t[]){w, axes}), w);
    }
    check(&b, add(&b, OP_TRANSPOSE, &perm, 1, &w), w);
    check(&b, add(&b, OP_CONCAT, &joined, 3, (const size_t[]){w, w, w}), w);
    check(&b,
          add(&b, OP_SLICE, NULL, 5,
              (const size_t[]){w, graph_add_ints(b.graph, starts, 2),
                               graph_add_ints(b.graph, ends, 2), axes,
                               graph_add_ints(b.graph, steps, 2)}),
          w);
    check(&b, add(&b, OP_PAD, NULL, 2, (const size_t[]){w, graph_add_ints(b.graph, pads, 8)}), w);
    for (int kind = POOL_MAX; kind <= POOL_AVERAGE; kind++)
        for (int global = 0; global < 2; global++) {
            op_attributes a = pool;
            a.pool.kind = kind;
            a.pool.global = global;
            a.pool.include_pads = true;
            check(&b, add(&b, OP_POOL, &a, 1, &w), w);
        }
    const size_t scale = any_of(&b, true, 1, SHAPE(3)), shift = any_of(&b, true, 1, SHAPE(3));
    const size_t centre = any_of(&b, true, 1, SHAPE(3)), spread = any_of(&b, true, 1, SHAPE(3));
    for (int c = 0; c < 3; c++)
        ((float *)value_of(&b, spread)->constant->owned)[c] = 1 + (float)c;
    const size_t y =
        add(&b, OP_BATCH_NORM, &norm, 5, (const size_t[]){w, scale, shift, centre, spread});
    check(&b, y, w);
    check(&b, y, scale);
    check(&b, y, shift);
    bench_free(&b);
}

/* Products of which no, one and two factors are zero, and elements that are the extreme together:
 * where two are, the slope is that of either side's mean. */
static void reductions_of_equals(void **state)
{
    (void)state;
    bench b = bench_new(250);
    const size_t w = any_of(&b, true, 3, SHAPE(3, 4, 2));
    const int64_t one = 1;
    const size_t axis = graph_add_ints(b.graph, &one, 1);
    float *values = value_of(&b, w)->constant->owned;
    values[2] = values[9] = values[13] = 0;
    const op_attributes product = {.reduce = {.kind = REDUCE_PRODUCT}};
    check(&b, add(&b, OP_REDUCE, &product, 2, (const size_t[]){w, axis}), w);
    values[2] = values[6] = 5;
    values[9] = values[11] = -5;
    for (int smallest = 0; smallest < 2; smallest++) {
        const op_attributes a = {.reduce = {.kind = smallest ? REDUCE_MIN : REDUCE_MAX}};
        check(&b, add(&b, OP_REDUCE, &a, 2, (const size_t[]){w, axis}), w);
    }
    bench_free(&b);
}

/* What has no gradient says so, with the node's name. */
static void no_gradient(void **state)
{
    (void)state;
    bench b = bench_new(300);
    const size_t w = any_of(&b, true, 2, SHAPE(3, 4));
    const size_t bound = unary(&b, UNARY_TANH, 0, 0, any_of(&b, true, 0, NULL));
    size_t y = add(&b, OP_CLIP, NULL, 2, (const size_t[]){w, bound});
    bool *wanted = calloc(b.graph->value_count, sizeof *wanted);
    plan *plan = NULL;
    assert_non_null(wanted);
    wanted[w] = true;
    b.graph->main.outputs = &y;
    b.graph->output_count = 1;
    assert_int_equal(plan_new(b.graph, &(plan_options){.threads = 1, .wanted = wanted}, &plan),
                     PAL_ERROR_UNSUPPORTED);
    assert_non_null(strstr(pal_error_message(), "node 'node' (Clip)"));
    free(wanted);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(depthwise),
        cmocka_unit_test(through_layers),
        cmocka_unit_test(matrix_products),
        cmocka_unit_test(products_of_sequences),
        cmocka_unit_test(functions),
        cmocka_unit_test(bounded_functions),
        cmocka_unit_test(slopes_of_padding),
        cmocka_unit_test(pairs),
        cmocka_unit_test(others),
        cmocka_unit_test(reductions_of_equals),
        cmocka_unit_test(no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
