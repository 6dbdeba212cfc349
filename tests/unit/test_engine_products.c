/* Convolutions, transposed convolutions and products of matrices against plain loops. */
#include "engine_graphs.h"

/* ---------------------------------------------------------------- convolutions */

typedef struct position {
    int64_t at[3];
} position;

static position position_of(int64_t number, const int64_t extent[3])
{
    position p;
    for (size_t i = 3; i-- > 0;) {
        p.at[i] = number % extent[i];
        number /= extent[i];
    }
    return p;
}

/* Geometry with three dimensions; those that lack are of extent 1. */
static void widen(window_geometry *g)
{
    for (size_t i = g->spatial; i < 3; i++) {
        g->kernel[i] = g->stride[i] = g->dilation[i] = g->input[i] = g->output[i] = 1;
        g->pad_begin[i] = g->pad_end[i] = 0;
    }
}

static int64_t product3(const int64_t n[3])
{
    return n[0] * n[1] * n[2];
}

/* The input's element under kernel position k of the window at p, or -1 in the padding. */
static int64_t under(const window_geometry *g, position p, position k)
{
    int64_t index = 0;
    for (size_t i = 0; i < 3; i++) {
        const int64_t at = p.at[i] * g->stride[i] - g->pad_begin[i] + k.at[i] * g->dilation[i];
        if (at < 0 || at >= g->input[i])
            return -1;
        index = index * g->input[i] + at;
    }
    return index;
}

static void plain_conv(const bench *b, const graph_node *node, double *y)
{
    const graph_value *x = value_of(b, node->inputs[0]), *w = value_of(b, node->inputs[1]);
    window_geometry g;
    assert_ok(resolve_window(node, x, w, &g));
    widen(&g);
    const float *from = numbers_of(b, node->inputs[0]), *weights = numbers_of(b, node->inputs[1]);
    const float *bias = node->inputs[2] == GRAPH_NONE ? NULL : numbers_of(b, node->inputs[2]);
    const int64_t in = w->shape[1], out = w->shape[0], groups = node->attributes.window.groups;
    const int64_t taps = product3(g.kernel), spots = product3(g.output), area = product3(g.input);
    for (int64_t n = 0; n < x->shape[0]; n++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t s = 0; s < spots; s++) {
                double sum = bias ? bias[o] : 0;
                const int64_t first = o / (out / groups) * in;
                for (int64_t c = 0; c < in; c++)
                    for (int64_t k = 0; k < taps; k++) {
                        const int64_t at =
                            under(&g, position_of(s, g.output), position_of(k, g.kernel));
                        if (at >= 0)
                            sum += (double)from[(n * x->shape[1] + first + c) * area + at] *
                                   weights[(o * in + c) * taps + k];
                    }
                y[(n * out + o) * spots + s] = sum;
            }
}

static void plain_conv_transpose(const bench *b, const graph_node *node, double *y)
{
    const graph_value *x = value_of(b, node->inputs[0]), *w = value_of(b, node->inputs[1]);
    window_geometry g;
    assert_ok(resolve_window(node, x, w, &g));
    widen(&g);
    const float *from = numbers_of(b, node->inputs[0]), *weights = numbers_of(b, node->inputs[1]);
    const float *bias = node->inputs[2] == GRAPH_NONE ? NULL : numbers_of(b, node->inputs[2]);
    const int64_t groups = node->attributes.window.groups, in = w->shape[0], each = w->shape[1];
    const int64_t taps = product3(g.kernel), spots = product3(g.input), area = product3(g.output);
    for (int64_t i = 0; i < x->shape[0] * each * groups * area; i++)
        y[i] = bias ? bias[i / area % (each * groups)] : 0;
    /* What the forward convolution would read at a place is written there: swap the extents. */
    window_geometry reverse = g;
    memcpy(reverse.input, g.output, sizeof g.output);
    for (int64_t n = 0; n < x->shape[0]; n++)
        for (int64_t c = 0; c < in; c++)
            for (int64_t s = 0; s < spots; s++)
                for (int64_t o = 0; o < each; o++)
                    for (int64_t k = 0; k < taps; k++) {
                        const int64_t at =
                            under(&reverse, position_of(s, g.input), position_of(k, g.kernel));
                        const int64_t channel = c / (in / groups) * each + o;
                        if (at >= 0)
                            y[(n * each * groups + channel) * area + at] +=
                                (double)from[(n * in + c) * spots + s] *
                                weights[(c * each + o) * taps + k];
                    }
}

static void check_convolution(uint64_t seed, bool transposed)
{
    bench b = bench_new(seed);
    uint64_t *random = &b.random;
    const size_t spatial = 1 + random_below(random, 3);
    const int64_t kinds[3] = {1, 1 + random_below(random, 3), 17};
    const int64_t groups = kinds[random_below(random, 3)];
    const int64_t in = groups * (groups == 17 ? 1 : 1 + random_below(random, 20));
    const int64_t out = groups * (groups == 17 ? 1 : 1 + random_below(random, 20));
    op_attributes a = {.window = {.groups = groups}};
    int64_t x_shape[5] = {1 + random_below(random, 3), in};
    int64_t w_shape[5] = {transposed ? in : out, (transposed ? out : in) / groups};
    for (size_t i = 0; i < spatial; i++) {
        a.window.stride[i] = 1 + random_below(random, 3);
        a.window.dilation[i] = 1 + random_below(random, 2);
        w_shape[2 + i] = 1 + random_below(random, 4);
        const int64_t reach = (w_shape[2 + i] - 1) * a.window.dilation[i] + 1;
        a.window.pad_begin[i] = random_below(random, (unsigned)reach);
        a.window.pad_end[i] = random_below(random, (unsigned)reach);
        x_shape[2 + i] = reach + random_below(random, 7);
        if (transposed)
            a.window.output_padding[i] = random_below(random, (unsigned)a.window.stride[i]);
    }
    const size_t x = any_of(&b, false, 2 + spatial, x_shape);
    const size_t w = any_of(&b, random_below(random, 3) > 0, 2 + spatial, w_shape);
    const size_t bias = random_below(random, 2) ? any_of(&b, true, 1, &out) : GRAPH_NONE;
    const size_t y =
        add(&b, transposed ? OP_CONV_TRANSPOSE : OP_CONV, &a, 3, (const size_t[]){x, w, bias});
    const uint64_t count = graph_elements(value_of(&b, y));
    double *wanted = malloc(count * sizeof *wanted);
    assert_non_null(wanted);
    graph_node *node = &b.graph->main.nodes[0];
    if (transposed)
        plain_conv_transpose(&b, node, wanted);
    else
        plain_conv(&b, node, wanted);
    /* Perhaps with a sum and a function after it. */
    if (random_below(random, 2)) {
        const size_t rank = value_of(&b, y)->rank;
        int64_t shape[PAL_MAX_RANK];
        memcpy(shape, value_of(&b, y)->shape, sizeof shape);
        const size_t other = any_of(&b, false, rank, shape);
        node->posts[node->post_count++] = (graph_post){.kind = POST_ADD, .value = other};
        for (uint64_t i = 0; i < count; i++)
            wanted[i] += numbers_of(&b, other)[i];
    }
    if (random_below(random, 2)) {
        node->posts[node->post_count++] =
            (graph_post){.kind = POST_UNARY, .unary = UNARY_SELU, .alpha = 1.5f, .beta = 1.1f};
        node->posts[node->post_count++] = (graph_post){.kind = POST_UNARY, .unary = UNARY_RELU};
        for (uint64_t i = 0; i < count; i++)
            wanted[i] = fmax(0, (double)1.1f * wanted[i]);
    } else if (random_below(random, 2)) {
        node->posts[node->post_count++] =
            (graph_post){.kind = POST_UNARY, .unary = UNARY_LEAKY_RELU, .alpha = 0.25f};
        for (uint64_t i = 0; i < count; i++)
            wanted[i] = wanted[i] < 0 ? 0.25 * wanted[i] : wanted[i];
    }
    float *got = compute(&b, y);
    assert_close(got, wanted, count, 1e-5);
    free(got);
    free(wanted);
    bench_free(&b);
}

static void convolutions(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 120; seed++)
        check_convolution(seed, false);
}

static void transposed_convolutions(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 120; seed++)
        check_convolution(1000 + seed, true);
}

/* ---------------------------------------------------------------- products */

static double element_of(const bench *b, size_t value, bool transposed, const int64_t *batch,
                         size_t batches, int64_t row, int64_t column, bool left)
{
    const graph_value *v = value_of(b, value);
    const float *numbers = numbers_of(b, value);
    if (v->rank == 1)
        return numbers[left ? column : row];
    const int64_t rows = v->shape[v->rank - 2], columns = v->shape[v->rank - 1];
    int64_t index = 0;
    for (size_t i = 0; i + 2 < v->rank; i++) {
        const int64_t at = batch[batches - (v->rank - 2) + i];
        index = index * v->shape[i] + (v->shape[i] == 1 ? 0 : at);
    }
    const int64_t r = transposed ? column : row, c = transposed ? row : column;
    return numbers[(index * rows + r) * columns + c];
}

static void check_matmul(uint64_t seed)
{
    bench b = bench_new(seed);
    uint64_t *random = &b.random;
    const int64_t m = 1 + random_below(random, 20), n = 1 + random_below(random, 40);
    const int64_t k = 1 + random_below(random, 20);
    int64_t batch[3], shapes[2][5];
    size_t ranks[2];
    op_attributes a = {.matmul = {.alpha = random_below(random, 2) ? 1 : 0.75f}};
    for (size_t i = 0; i < 3; i++)
        batch[i] = 1 + random_below(random, 3);
    for (size_t o = 0; o < 2; o++) {
        const size_t batches = random_below(random, 4);
        if (!random_below(random, 6)) {
            ranks[o] = 1;
            shapes[o][0] = k;
            continue;
        }
        ranks[o] = batches + 2;
        for (size_t i = 0; i < batches; i++)
            shapes[o][i] = random_below(random, 3) ? batch[3 - batches + i] : 1;
        const bool transposed = random_below(random, 2);
        const int64_t rows = o ? k : m, columns = o ? n : k;
        shapes[o][batches] = transposed ? columns : rows;
        shapes[o][batches + 1] = transposed ? rows : columns;
        *(o ? &a.matmul.transpose_b : &a.matmul.transpose_a) = transposed;
    }
    const size_t x = any_of(&b, false, ranks[0], shapes[0]);
    const size_t y = any_of(&b, random_below(random, 2), ranks[1], shapes[1]);
    const size_t without = add(&b, OP_MATMUL, &a, 2, (const size_t[]){x, y});
    const graph_value result = *value_of(&b, without);
    size_t bias = GRAPH_NONE;
    if (result.rank && random_below(random, 2)) {
        int64_t shape[PAL_MAX_RANK];
        const size_t rank = 1 + random_below(random, (unsigned)result.rank);
        for (size_t i = 0; i < rank; i++)
            shape[i] = random_below(random, 2) ? result.shape[result.rank - rank + i] : 1;
        bias = any_of(&b, random_below(random, 2), rank, shape);
    }
    const size_t z = add(&b, OP_MATMUL, &a, 3, (const size_t[]){x, y, bias});
    const uint64_t count = graph_elements(&result);
    double *wanted = malloc(count * sizeof *wanted);
    assert_non_null(wanted);
    const size_t lost = (ranks[0] == 1) + (ranks[1] == 1);
    const size_t batches = result.rank + lost - 2;
    for (uint64_t i = 0; i < count; i++) {
        int64_t rest = (int64_t)i, at[PAL_MAX_RANK] = {0}, column = 0, row = 0;
        if (ranks[1] > 1)
            column = rest % n, rest /= n;
        if (ranks[0] > 1)
            row = rest % m, rest /= m;
        for (size_t d = batches; d-- > 0;) {
            at[d] = rest % result.shape[d];
            rest /= result.shape[d];
        }
        double sum = 0;
        for (int64_t p = 0; p < k; p++)
            sum += element_of(&b, x, a.matmul.transpose_a, at, batches, row, p, true) *
                   element_of(&b, y, a.matmul.transpose_b, at, batches, p, column, false);
        wanted[i] = (double)a.matmul.alpha * sum;
        if (bias != GRAPH_NONE)
            wanted[i] += numbers_of(&b, bias)[broadcast_index(value_of(&b, bias), &result, i)];
    }
    float *got = compute(&b, z);
    assert_close(got, wanted, count, 1e-5);
    free(got);
    free(wanted);
    bench_free(&b);
}

static void products(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++)
        check_matmul(seed);
}

/* Nothing times nothing is zero, and a bias. */
static void empty_products(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const op_attributes a = {.matmul = {.alpha = 1}};
    const size_t x = any_of(&b, false, 2, (const int64_t[]){3, 0});
    const size_t y = any_of(&b, true, 2, (const int64_t[]){0, 2});
    const size_t bias = any_of(&b, true, 1, (const int64_t[]){2});
    float *got = compute(&b, add(&b, OP_MATMUL, &a, 3, (const size_t[]){x, y, bias}));
    double wanted[6];
    for (size_t i = 0; i < 6; i++)
        wanted[i] = numbers_of(&b, bias)[i % 2];
    assert_close(got, wanted, 6, 1e-6);
    free(got);
    bench_free(&b);
}

/* Between the second operand and the third lie more labels than a tensor has dimensions, or more
 * elements than fit anywhere: told before anything runs. */
static void sums_too_wide(void **state)
{
    (void)state;
    static const struct {
        const char *equation;
        size_t count, rank[5];
        int64_t extent[5]; /* of all dimensions */
    } cases[] = {
        {"abcdefghijklm,nopqrstuvwxyz,abcdefghijklm,nopqrstuvwxyz->",
         4,
         {13, 13, 13, 13},
         {1, 1, 1, 1}},
        {"a,b,c,d,abcd->", 5, {1, 1, 1, 1, 4}, {70000, 70000, 70000, 70000, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b = bench_new(1);
        plan *plan = NULL;
        const op_attributes a = {.einsum = {cases[i].equation}};
        size_t inputs[5];
        for (size_t o = 0; o < cases[i].count; o++) {
            int64_t shape[PAL_MAX_RANK];
            for (size_t d = 0; d < cases[i].rank[o]; d++)
                shape[d] = cases[i].extent[o];
            inputs[o] = any_of(&b, false, cases[i].rank[o], shape);
        }
        size_t y = add(&b, OP_EINSUM, &a, cases[i].count, inputs);
        b.graph->main.outputs = &y;
        b.graph->output_count = 1;
        assert_int_equal(plan_new(b.graph, &(plan_options){.threads = 1}, &plan),
                         PAL_ERROR_UNSUPPORTED);
        assert_non_null(strstr(pal_error_message(), "between two operands"));
        bench_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),  cmocka_unit_test(transposed_convolutions),
        cmocka_unit_test(products),      cmocka_unit_test(empty_products),
        cmocka_unit_test(sums_too_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
