/* Fused graphs compute what they did before, with the nodes that they should have. */
#include "engine_graphs.h"

/* Computes before and after fusing; afterwards there are so many nodes, the last of this kind. */
static void check(bench *b, size_t result, size_t nodes, graph_op last)
{
    const uint64_t count = graph_elements(value_of(b, result));
    float *before = compute(b, result);
    b->graph->main.outputs = &result;
    b->graph->output_count = 1;
    assert_ok(graph_fuse(b->graph));
    assert_int_equal(b->graph->main.node_count, nodes);
    assert_int_equal(b->graph->main.nodes[nodes - 1].op, last);
    float *after = compute(b, result);
    double *wanted = malloc(count * sizeof *wanted);
    assert_non_null(wanted);
    for (uint64_t i = 0; i < count; i++)
        wanted[i] = (double)before[i];
    assert_close(after, wanted, count, 1e-5);
    free(wanted);
    free(before);
    free(after);
    bench_free(b);
}

static const op_attributes square_window = {
    .window = {
        .stride = {1, 1}, .dilation = {1, 1}, .pad_begin = {1, 1}, .pad_end = {1, 1}, .groups = 1}};

static size_t conv(bench *b, size_t x, int64_t in, int64_t out, bool biased)
{
    const size_t w = any_of(b, true, 4, (const int64_t[]){out, in, 3, 3});
    return add(b, OP_CONV, &square_window, 3,
               (const size_t[]){x, w, biased ? any_of(b, true, 1, &out) : GRAPH_NONE});
}

static size_t image(bench *b, int64_t channels)
{
    return any_of(b, false, 4, (const int64_t[]){2, channels, 6, 5});
}

static size_t batch_norm(bench *b, size_t x, int64_t channels)
{
    size_t inputs[5] = {x};
    for (size_t i = 1; i < 5; i++)
        inputs[i] = any_of(b, true, 1, &channels);
    float *variance = (float *)(uintptr_t)numbers_of(b, inputs[4]);
    for (int64_t c = 0; c < channels; c++)
        variance[c] = fabsf(variance[c]) + 0.5f;
    const op_attributes a = {.norm = {.epsilon = 1e-5f}};
    return add(b, OP_BATCH_NORM, &a, 5, inputs);
}

/* conv - batch norm - relu - conv - batch norm - plus the input - relu */
static void residual_block(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const size_t x = image(&b, 20);
    size_t y = unary(&b, UNARY_RELU, 0, 0, batch_norm(&b, conv(&b, x, 20, 20, false), 20));
    y = batch_norm(&b, conv(&b, y, 20, 20, true), 20);
    y = unary(&b, UNARY_RELU, 0, 0, binary(&b, BINARY_ADD, y, x));
    check(&b, y, 2, OP_CONV);
}

/* Two branches that are both convolutions; what is added is used once more. */
static void two_branches(void **state)
{
    (void)state;
    bench b = bench_new(2);
    const size_t x = image(&b, 20);
    const size_t left = conv(&b, x, 20, 24, true), right = conv(&b, x, 20, 24, true);
    const size_t sum = binary(&b, BINARY_ADD, left, right);
    const size_t y = binary(&b, BINARY_MUL, unary(&b, UNARY_RELU, 0, 0, sum), right);
    check(&b, y, 3, OP_BINARY);
}

static void constants_after_products(void **state)
{
    (void)state;
    for (int transposed = 0; transposed < 2; transposed++) {
        bench b = bench_new(3);
        size_t y = image(&b, 6);
        if (transposed) {
            op_attributes a = square_window;
            a.window.groups = 2;
            const size_t w = any_of(&b, true, 4, (const int64_t[]){6, 5, 3, 3});
            y = add(&b, OP_CONV_TRANSPOSE, &a, 2, (const size_t[]){y, w});
            b.graph->main.nodes[0].input_count = 2;
        } else {
            y = conv(&b, y, 6, 10, true);
        }
        y = binary(&b, BINARY_MUL, y, any_of(&b, true, 3, (const int64_t[]){10, 1, 1}));
        y = binary(&b, BINARY_ADD, any_of(&b, true, 4, (const int64_t[]){1, 10, 1, 1}), y);
        y = binary(&b, BINARY_DIV, y, number_of(&b, 3));
        y = binary(&b, BINARY_SUB, y, number_of(&b, 0.25f));
        check(&b, y, 1, transposed ? OP_CONV_TRANSPOSE : OP_CONV);
    }
    for (int flags = 0; flags < 4; flags++) {
        bench b = bench_new(4);
        const op_attributes a = {.matmul = {.alpha = 1.5f, .transpose_b = flags & 1}};
        const size_t x = any_of(&b, false, 3, (const int64_t[]){2, 7, 5});
        const size_t w =
            any_of(&b, true, 2, flags & 1 ? (const int64_t[]){9, 5} : (const int64_t[]){5, 9});
        size_t y = add(&b, OP_MATMUL, &a, 2, (const size_t[]){x, w});
        y = binary(&b, BINARY_ADD, y, any_of(&b, true, 1, (const int64_t[]){9}));
        if (flags & 2)
            y = binary(&b, BINARY_MUL, y, any_of(&b, true, 1, (const int64_t[]){9}));
        y = unary(&b, UNARY_TANH, 0, 0, y);
        check(&b, y, 1, OP_MATMUL);
    }
}

/* A constant that differs along another axis than the channels stays where it is. */
static void constants_that_do_not_fit(void **state)
{
    (void)state;
    bench b = bench_new(5);
    size_t y = conv(&b, image(&b, 6), 6, 5, true);
    y = binary(&b, BINARY_MUL, y, any_of(&b, true, 1, (const int64_t[]){5}));
    check(&b, y, 2, OP_BINARY);
}

/* Products of no channels, or of no elements to sum over, take nothing up. */
static void products_of_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        bench b = bench_new(7);
        const op_attributes product = {.matmul = {.alpha = 1, .transpose_b = true}};
        const op_attributes window = {
            .window = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
        size_t y;
        if (kind < 2) {
            const size_t w =
                any_of(&b, true, 2, kind ? (const int64_t[]){3, 0} : (const int64_t[]){0, 3});
            const size_t x = any_of(&b, false, 2, (const int64_t[]){2, kind ? 0 : 3});
            y = add(&b, OP_MATMUL, &product, 2, (const size_t[]){x, w});
        } else {
            const bool transposed = kind == 3;
            const size_t w =
                any_of(&b, true, 4,
                       transposed ? (const int64_t[]){6, 0, 1, 1} : (const int64_t[]){0, 6, 1, 1});
            y = add(&b, transposed ? OP_CONV_TRANSPOSE : OP_CONV, &window, 2,
                    (const size_t[]){image(&b, 6), w});
        }
        y = kind == 4 ? batch_norm(&b, y, 0) : binary(&b, BINARY_MUL, y, number_of(&b, 2));
        check(&b, y, 2, kind == 4 ? OP_BATCH_NORM : OP_BINARY);
    }
}

/* What the graph gives, or another node reads, is not fused away. */
static void results_that_are_needed(void **state)
{
    (void)state;
    bench b = bench_new(6);
    const size_t y = conv(&b, image(&b, 6), 6, 8, true);
    const size_t z = binary(&b, BINARY_SUB, unary(&b, UNARY_RELU, 0, 0, y), y);
    check(&b, z, 3, OP_BINARY);
}

static size_t times(bench *b, size_t x, float number)
{
    return binary(b, BINARY_MUL, x, number_of(b, number));
}

static void functions(void **state)
{
    (void)state;
    for (int kind = 0; kind < 9; kind++) {
        bench b = bench_new((uint64_t)kind);
        const size_t x = any_of(&b, false, 2, (const int64_t[]){4, 9});
        const size_t one = number_of(&b, 1);
        size_t y = x;
        switch (kind) {
        case 0: /* x * 0.5 * (1 + erf(x / sqrt 2)) */
            y = binary(&b, BINARY_DIV, x, number_of(&b, 1.41421356f));
            y = binary(&b, BINARY_ADD, unary(&b, UNARY_ERF, 0, 0, y), one);
            y = binary(&b, BINARY_MUL, times(&b, x, 0.5f), y);
            break;
        case 1: /* (x * (1 + erf(x / sqrt 2))) * 0.5 */
            y = binary(&b, BINARY_ADD, one, unary(&b, UNARY_ERF, 0, 0, times(&b, x, 0.70710678f)));
            y = times(&b, binary(&b, BINARY_MUL, x, y), 0.5f);
            break;
        case 2: /* x^3 as a power */
            y = times(&b, binary(&b, BINARY_POW, x, number_of(&b, 3)), 0.044715f);
            y = times(&b, binary(&b, BINARY_ADD, x, y), 0.79788456f);
            y = binary(&b, BINARY_ADD, unary(&b, UNARY_TANH, 0, 0, y), one);
            y = binary(&b, BINARY_MUL, times(&b, x, 0.5f), y);
            break;
        case 3: /* x^3 as products */
            y = times(&b, binary(&b, BINARY_MUL, binary(&b, BINARY_MUL, x, x), x), 0.044715f);
            y = times(&b, binary(&b, BINARY_ADD, y, x), 0.79788456f);
            y = binary(&b, BINARY_ADD, unary(&b, UNARY_TANH, 0, 0, y), one);
            y = times(&b, binary(&b, BINARY_MUL, y, x), 0.5f);
            break;
        case 4: y = binary(&b, BINARY_MUL, unary(&b, UNARY_SIGMOID, 0, 0, x), x); break;
        case 5:
            y = binary(&b, BINARY_MUL, x, unary(&b, UNARY_SIGMOID, 0, 0, times(&b, x, 1.702f)));
            break;
        case 6: /* x * clip(x + 3, 0, 6) / 6 */
            y = unary(&b, UNARY_CLIP, 0, 6, binary(&b, BINARY_ADD, x, number_of(&b, 3)));
            y = binary(&b, BINARY_DIV, binary(&b, BINARY_MUL, x, y), number_of(&b, 6));
            break;
        case 7:
            y = binary(&b, BINARY_MUL, x, unary(&b, UNARY_HARD_SIGMOID, 1.0f / 6, 0.5f, x));
            break;
        default:
            y = unary(&b, UNARY_TANH, 0, 0, unary(&b, UNARY_SOFTPLUS, 0, 0, x));
            y = binary(&b, BINARY_MUL, x, y);
            break;
        }
        check(&b, y, 1, OP_UNARY);
    }
}

/* A threshold before hard swish changes nothing up to -3, and something above. */
static void thresholds(void **state)
{
    (void)state;
    static const float alphas[] = {-3, -3.5F, -2};
    for (int i = 0; i < 3; i++) {
        bench b = bench_new(60);
        const size_t x =
            binary(&b, BINARY_MUL, conv(&b, image(&b, 20), 20, 16, true), number_of(&b, 2));
        const size_t y =
            unary(&b, UNARY_HARD_SWISH, 0, 0, unary(&b, UNARY_THRESHOLDED_RELU, alphas[i], 0, x));
        check(&b, y, i < 2 ? 1 : 3, i < 2 ? OP_CONV : OP_UNARY);
    }
}

/* Nearly such a function. */
static void other_functions(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const size_t x = any_of(&b, false, 2, (const int64_t[]){4, 9});
    const size_t other = any_of(&b, false, 2, (const int64_t[]){4, 9});
    size_t y = binary(&b, BINARY_MUL, x, unary(&b, UNARY_SIGMOID, 0, 0, other));
    size_t z = unary(&b, UNARY_CLIP, 0, 6, binary(&b, BINARY_ADD, y, number_of(&b, 2)));
    z = binary(&b, BINARY_DIV, binary(&b, BINARY_MUL, y, z), number_of(&b, 6));
    check(&b, z, 6, OP_BINARY);
}

/* The slope of a hard sigmoid as float16 holds it makes a hard swish, one that is merely near does
 * not; neither do constants that are off by more than half a step of float16. */
static void nearly_the_same_functions(void **state)
{
    (void)state;
    static const float slopes[] = {1.0F / 6, 0.16662598F, 0.1667F, 0.2F};
    for (int i = 0; i < 4; i++) {
        bench b = bench_new(70);
        const size_t x = any_of(&b, false, 2, (const int64_t[]){4, 9});
        const size_t y =
            binary(&b, BINARY_MUL, x, unary(&b, UNARY_HARD_SIGMOID, slopes[i], 0.5F, x));
        const uint64_t count = graph_elements(value_of(&b, y));
        b.graph->main.outputs = (size_t[]){y};
        b.graph->output_count = 1;
        assert_ok(graph_fuse(b.graph));
        assert_int_equal(b.graph->main.node_count, i < 2 ? 1 : 2);
        float *after = compute(&b, y);
        double *wanted = malloc(count * sizeof *wanted);
        assert_non_null(wanted);
        for (uint64_t k = 0; k < count; k++) {
            const double number = (double)numbers_of(&b, x)[k];
            wanted[k] = number * fmin(1, fmax(0, (double)slopes[i] * number + 0.5));
        }
        assert_close(after, wanted, count, i == 1 ? 1e-3 : 1e-5);
        free(wanted);
        free(after);
        bench_free(&b);
    }
    static const float roots[] = {1.4142F, 1.4153F};
    for (int i = 0; i < 2; i++) {
        bench b = bench_new(71);
        const size_t x = any_of(&b, false, 2, (const int64_t[]){4, 9});
        size_t y = unary(&b, UNARY_ERF, 0, 0, binary(&b, BINARY_DIV, x, number_of(&b, roots[i])));
        y = binary(&b, BINARY_MUL, x, binary(&b, BINARY_ADD, y, number_of(&b, 1)));
        y = times(&b, y, 0.5F);
        b.graph->main.outputs = &y;
        b.graph->output_count = 1;
        assert_ok(graph_fuse(b.graph));
        assert_int_equal(b.graph->main.node_count, i ? 5 : 1);
        bench_free(&b);
    }
}

static size_t mean(bench *b, size_t x)
{
    const op_attributes a = {.reduce = {.kind = REDUCE_MEAN, .keep_dims = true}};
    return add(b, OP_REDUCE, &a, 2,
               (const size_t[]){x, graph_add_ints(b->graph, &(int64_t){-1}, 1)});
}

static void norms(void **state)
{
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        bench b = bench_new((uint64_t)kind);
        const size_t x = any_of(&b, false, 3, (const int64_t[]){2, 4, 9});
        const size_t scale = any_of(&b, true, 1, (const int64_t[]){9});
        const size_t shift = any_of(&b, true, 1, (const int64_t[]){9});
        const bool layer = kind < 3;
        const size_t d = layer ? binary(&b, BINARY_SUB, x, mean(&b, x)) : x;
        const size_t square = kind % 3 == 0   ? binary(&b, BINARY_MUL, d, d)
                              : kind % 3 == 1 ? binary(&b, BINARY_POW, d, number_of(&b, 2))
                                              : unary(&b, UNARY_SQUARE, 0, 0, d);
        const size_t sum = binary(&b, BINARY_ADD, mean(&b, square), number_of(&b, 1e-3f));
        const size_t root = unary(&b, UNARY_SQRT, 0, 0, sum);
        size_t y;
        if (kind % 3 == 0)
            y = binary(&b, BINARY_DIV, d, root);
        else if (kind % 3 == 1)
            y = binary(&b, BINARY_MUL, unary(&b, UNARY_RECIPROCAL, 0, 0, root), d);
        else
            y = binary(&b, BINARY_MUL, d, unary(&b, UNARY_RSQRT, 0, 0, sum));
        y = binary(&b, BINARY_MUL, scale, y);
        if (layer)
            y = binary(&b, BINARY_ADD, y, shift);
        check(&b, y, 1, layer ? OP_LAYER_NORM : OP_RMS_NORM);
    }
}

/* An epsilon of more dimensions than x gives them to the result, which is no norm of x then. */
static void norm_of_more_dimensions(void **state)
{
    (void)state;
    bench b = bench_new(8);
    const size_t x = any_of(&b, false, 3, (const int64_t[]){2, 4, 9});
    const size_t epsilon = any_of(&b, true, 4, (const int64_t[]){1, 1, 1, 1});
    *(float *)(uintptr_t)numbers_of(&b, epsilon) = 1e-3F;
    const size_t d = binary(&b, BINARY_SUB, x, mean(&b, x));
    const size_t square = mean(&b, binary(&b, BINARY_MUL, d, d));
    const size_t root = unary(&b, UNARY_SQRT, 0, 0, binary(&b, BINARY_ADD, square, epsilon));
    check(&b, binary(&b, BINARY_DIV, d, root), 7, OP_BINARY);
}

static size_t transpose(bench *b, size_t x, int64_t p, int64_t q, int64_t r, int64_t s)
{
    const op_attributes a = {.transpose = {.count = 4, .perm = {p, q, r, s}}};
    return add(b, OP_TRANSPOSE, &a, 1, &x);
}

/* Heads that are split off by transposing, as frameworks write it; then without the transposition
 * back. */
static void attention(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        bench b = bench_new((uint64_t)kind);
        const op_attributes product = {.matmul = {.alpha = 1}};
        const op_attributes last = {.softmax = {.axis = kind & 1 ? 3 : -1}};
        const int64_t shape[4] = {2, 70, 3, 8};
        const size_t q = transpose(&b, any_of(&b, false, 4, shape), 0, 2, 1, 3);
        const size_t k = any_of(&b, false, 4, shape);
        const size_t v = transpose(&b, any_of(&b, false, 4, shape), 0, 2, 1, 3);
        size_t turned = kind & 2 ? transpose(&b, k, 0, 2, 3, 1)
                                 : transpose(&b, transpose(&b, k, 0, 2, 1, 3), 0, 1, 3, 2);
        size_t y = add(&b, OP_MATMUL, &product, 2, (const size_t[]){q, turned});
        y = kind & 1 ? times(&b, y, 0.3f) : binary(&b, BINARY_DIV, y, number_of(&b, 3));
        if (kind & 4)
            y = binary(&b, BINARY_ADD, y, any_of(&b, false, 4, (const int64_t[]){2, 1, 1, 70}));
        y = add(&b, OP_SOFTMAX, &last, 1, &y);
        y = add(&b, OP_MATMUL, &product, 2, (const size_t[]){y, v});
        if (kind != 5)
            y = transpose(&b, y, 0, 2, 1, 3);
        check(&b, y, kind == 5 ? 4 : 1, OP_ATTENTION);
    }
}

/* Scores that a mask repeats are more than those of the attention: in the number of queries, of
 * keys, or of heads. */
static void masks_that_enlarge(void **state)
{
    (void)state;
    static const int64_t masks[3][4] = {{1, 1, 4, 5}, {1, 1, 1, 5}, {2, 3, 1, 5}};
    static const int64_t lengths[3][2] = {{1, 5}, {4, 1}, {4, 5}};
    const op_attributes product = {.matmul = {.alpha = 1}};
    const op_attributes turned = {.matmul = {.alpha = 1, .transpose_b = true}};
    const op_attributes last = {.softmax = {.axis = -1}};
    for (int i = 0; i < 3; i++) {
        bench b = bench_new((uint64_t)i);
        const size_t q = any_of(&b, false, 4, (const int64_t[]){1, 3, lengths[i][0], 8});
        const size_t k = any_of(&b, false, 4, (const int64_t[]){1, 3, lengths[i][1], 8});
        const size_t v = any_of(&b, false, 4, (const int64_t[]){1, 3, 5, 8});
        size_t y = add(&b, OP_MATMUL, &turned, 2, (const size_t[]){q, k});
        y = binary(&b, BINARY_ADD, y, any_of(&b, false, 4, masks[i]));
        y = add(&b, OP_SOFTMAX, &last, 1, &y);
        y = add(&b, OP_MATMUL, &product, 2, (const size_t[]){y, v});
        /* The sum becomes a part of the product where it repeats nothing. */
        check(&b, y, 4, OP_MATMUL);
    }
}

/* Scores times 0 are no attention, whose scale of 0 means another one; nothing has changed then. */
static void attention_to_all_alike(void **state)
{
    (void)state;
    bench b = bench_new(9);
    const op_attributes product = {.matmul = {.alpha = 1}}, last = {.softmax = {.axis = -1}};
    const int64_t shape[4] = {2, 7, 3, 8};
    const size_t q = transpose(&b, any_of(&b, false, 4, shape), 0, 2, 1, 3);
    const size_t k = transpose(&b, any_of(&b, false, 4, shape), 0, 2, 3, 1);
    const size_t v = transpose(&b, any_of(&b, false, 4, shape), 0, 2, 1, 3);
    size_t y = times(&b, add(&b, OP_MATMUL, &product, 2, (const size_t[]){q, k}), 0);
    y = add(&b, OP_SOFTMAX, &last, 1, &y);
    y = add(&b, OP_MATMUL, &product, 2, (const size_t[]){y, v});
    check(&b, y, 6, OP_MATMUL);
}

/* Before opset 13 a softmax works on a matrix: reshapes stand around it. */
static void flat_softmax(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const size_t x = any_of(&b, false, 3, (const int64_t[]){2, 3, 5});
    size_t y = add(&b, OP_FLATTEN, &(op_attributes){.flatten = {.axis = 2}}, 1, &x);
    y = add(&b, OP_SOFTMAX, &(op_attributes){.softmax = {.axis = 1}}, 1, &y);
    y = add(&b, OP_RESHAPE, NULL, 2,
            (const size_t[]){y, graph_add_ints(b.graph, (const int64_t[]){2, 3, 5}, 3)});
    check(&b, y, 1, OP_SOFTMAX);
}

static void transpositions(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const op_attributes product = {.matmul = {.alpha = 1}};
    const size_t x = any_of(&b, false, 4, (const int64_t[]){2, 3, 4, 5});
    const size_t z = any_of(&b, false, 4, (const int64_t[]){2, 3, 6, 4});
    size_t y = transpose(&b, transpose(&b, x, 3, 1, 2, 0), 3, 1, 0, 2); /* 0 1 3 2 */
    y = add(&b, OP_MATMUL, &product, 2, (const size_t[]){y, transpose(&b, z, 0, 1, 3, 2)});
    check(&b, y, 1, OP_MATMUL);
}

static void padding(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const int64_t pads[8] = {0, 0, 1, 0, 0, 0, 2, 1};
    const size_t x = image(&b, 4);
    const size_t padded = add(&b, OP_PAD, &(op_attributes){.pad = {.mode = PAD_CONSTANT}}, 2,
                              (const size_t[]){x, graph_add_ints(b.graph, pads, 8)});
    check(&b, conv(&b, padded, 4, 8, true), 1, OP_CONV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_block),
        cmocka_unit_test(two_branches),
        cmocka_unit_test(constants_after_products),
        cmocka_unit_test(constants_that_do_not_fit),
        cmocka_unit_test(products_of_nothing),
        cmocka_unit_test(results_that_are_needed),
        cmocka_unit_test(functions),
        cmocka_unit_test(other_functions),
        cmocka_unit_test(nearly_the_same_functions),
        cmocka_unit_test(thresholds),
        cmocka_unit_test(norms),
        cmocka_unit_test(norm_of_more_dimensions),
        cmocka_unit_test(attention),
        cmocka_unit_test(masks_that_enlarge),
        cmocka_unit_test(attention_to_all_alike),
        cmocka_unit_test(flat_softmax),
        cmocka_unit_test(transpositions),
        cmocka_unit_test(padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
