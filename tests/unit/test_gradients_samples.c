/* Which gradients are kept apart by sample: those of weights that meet a batch whose samples lie
 * one after another, wherever they have been before. Others are the whole batch's, and said to be.
 */
#include "gradient_checks.h"

enum { N = 4, TIME = 6, WIDTH = 8 };

static size_t reshape(bench *b, size_t x, size_t rank, const int64_t *shape)
{
    return add(b, OP_RESHAPE, NULL, 2, (const size_t[]){x, graph_add_ints(b->graph, shape, rank)});
}

static size_t transpose(bench *b, size_t x, size_t rank, const int64_t *perm)
{
    op_attributes a = {.transpose = {.count = rank}};
    memcpy(a.transpose.perm, perm, rank * sizeof *perm);
    return add(b, OP_TRANSPOSE, &a, 1, &x);
}

static size_t swapped(bench *b, size_t x)
{
    return transpose(b, x, 3, SHAPE(1, 0, 2));
}

static size_t slice(bench *b, size_t x, int64_t axis, int64_t start, int64_t end, int64_t step)
{
    return add(
        b, OP_SLICE, NULL, 5,
        (const size_t[]){x, graph_add_ints(b->graph, &start, 1), graph_add_ints(b->graph, &end, 1),
                         graph_add_ints(b->graph, &axis, 1), graph_add_ints(b->graph, &step, 1)});
}

static size_t concat(bench *b, int64_t axis, size_t x, size_t y)
{
    return add(b, OP_CONCAT, &(op_attributes){.concat = {axis}}, 2, (const size_t[]){x, y});
}

static size_t mean(bench *b, size_t x, int64_t axis, bool keep)
{
    const op_attributes a = {.reduce = {.kind = REDUCE_MEAN, .keep_dims = keep}};
    return add(b, OP_REDUCE, &a, 2, (const size_t[]){x, graph_add_ints(b->graph, &axis, 1)});
}

static size_t softmax(bench *b, size_t x, int64_t axis)
{
    return add(b, OP_SOFTMAX, &(op_attributes){.softmax = {.axis = axis}}, 1, &x);
}

static size_t gather(bench *b, size_t x, int64_t axis)
{
    const size_t indices = graph_add_ints(b->graph, SHAPE(1, 0, 3, 1), 4);
    return add(b, OP_GATHER, &(op_attributes){.gather = {.axis = axis}}, 2,
               (const size_t[]){x, indices});
}

static size_t product(bench *b, size_t x, size_t y, bool transposed)
{
    const op_attributes a = {.matmul = {.transpose_b = transposed, .alpha = 1}};
    return add(b, OP_MATMUL, &a, 2, (const size_t[]){x, y});
}

/* ---------------------------------------------------------------- ways to the product */

static size_t rows(bench *b, size_t x)
{
    return reshape(b, x, 2, SHAPE(N * TIME, WIDTH));
}

static size_t heads(bench *b, size_t x)
{
    const op_attributes a = {.attention = {.scale = 0.5F}};
    size_t y = transpose(b, reshape(b, x, 4, SHAPE(0, TIME, 2, WIDTH / 2)), 4, SHAPE(0, 2, 1, 3));
    y = add(b, OP_ATTENTION, &a, 3, (const size_t[]){y, y, y});
    return reshape(b, transpose(b, y, 4, SHAPE(0, 2, 1, 3)), 3, SHAPE(N, -1, WIDTH));
}

static size_t time_first_and_back(bench *b, size_t x)
{
    const size_t shift = any_of(b, true, 3, SHAPE(TIME, 1, WIDTH));
    return swapped(b, binary(b, BINARY_ADD, softmax(b, swapped(b, x), 0), shift));
}

static size_t parts_of_time(bench *b, size_t x)
{
    const size_t token = any_of(b, true, 3, SHAPE(N, 2, WIDTH));
    return concat(b, 1, token, gather(b, slice(b, x, 1, 5, 0, -1), 1));
}

static size_t mean_of_time(bench *b, size_t x)
{
    return mean(b, x, 1, false);
}

static size_t scores(bench *b, size_t x)
{
    return product(b, softmax(b, product(b, x, x, true), -1), x, false);
}

static size_t labels(bench *b, size_t x)
{
    const op_attributes a = {.einsum = {"nld,de->lne"}};
    return swapped(
        b, add(b, OP_EINSUM, &a, 2, (const size_t[]){x, any_of(b, true, 2, SHAPE(WIDTH, WIDTH))}));
}

static size_t states(bench *b, size_t x)
{
    op_attributes a = {.recurrent = {.hidden_size = WIDTH}};
    a.recurrent.activations[0] = UNARY_TANH;
    const size_t w = any_of(b, true, 3, SHAPE(1, WIDTH, WIDTH));
    const size_t r = any_of(b, true, 3, SHAPE(1, WIDTH, WIDTH));
    const size_t y = add(b, OP_RNN, &a, 3, (const size_t[]){swapped(b, x), w, r});
    return transpose(b, y, 4, SHAPE(2, 0, 1, 3));
}

static size_t windows(bench *b, size_t x)
{
    const op_attributes a = {.window = plain_window}, norm = {.norm = {.epsilon = 1e-3F}};
    const size_t w = any_of(b, true, 3, SHAPE(3, TIME, 1));
    const size_t y = add(b, OP_CONV, &a, 2, (const size_t[]){x, w});
    return add(b, OP_INSTANCE_NORM, &norm, 1, &y);
}

static size_t batch_between(bench *b, size_t x)
{
    return transpose(b, reshape(b, x, 4, SHAPE(N, 2, TIME / 2, WIDTH)), 4, SHAPE(1, 0, 2, 3));
}

static size_t table(bench *b, size_t x)
{
    const size_t rows_of_table = any_of(b, true, 2, SHAPE(N, WIDTH));
    (void)x;
    return rows_of_table;
}

static size_t twice(bench *b, size_t x)
{
    return concat(b, 0, x, unary(b, UNARY_TANH, 0, 0, x));
}

static size_t backwards(bench *b, size_t x)
{
    return slice(b, x, 0, -1, -100, -1);
}

static size_t taken(bench *b, size_t x)
{
    return gather(b, x, 0);
}

static size_t centred(bench *b, size_t x)
{
    return binary(b, BINARY_SUB, x, mean(b, x, 0, true));
}

static size_t shares_of_batch(bench *b, size_t x)
{
    return softmax(b, x, 0);
}

static size_t pairs_of_samples(bench *b, size_t x)
{
    const size_t flat = reshape(b, x, 2, SHAPE(N, -1));
    const size_t spread = any_of(b, true, 2, SHAPE(N, WIDTH));
    return product(b, product(b, flat, flat, true), spread, false);
}

static size_t cut_elsewhere(bench *b, size_t x)
{
    return transpose(b, reshape(b, x, 3, SHAPE(2, 2 * TIME, WIDTH)), 3, SHAPE(1, 0, 2));
}

typedef size_t way(bench *b, size_t x);

static void product_apart(void **state)
{
    (void)state;
    static way *const ways[] = {rows,          heads,        time_first_and_back,
                                parts_of_time, mean_of_time, scores,
                                labels,        states,       windows};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bench b = bench_new(10 + i);
        const size_t x = ways[i](&b, any_of(&b, false, 3, SHAPE(N, TIME, WIDTH)));
        const size_t w = any_of(&b, true, 2, SHAPE(WIDTH, 5));
        const size_t y = reshape(&b, product(&b, x, w, false), 2, SHAPE(N, -1));
        check_apart(&b, unary(&b, UNARY_TANH, 0, 0, y), w);
        bench_free(&b);
    }
}

/* Rows of the samples in turn. */
static void time_first(void **state)
{
    (void)state;
    for (int transposed = 0; transposed < 2; transposed++) {
        bench b = bench_new(20);
        const size_t x = swapped(&b, any_of(&b, false, 3, SHAPE(N, TIME, WIDTH)));
        const size_t w = any_of(&b, true, 2, transposed ? SHAPE(5, WIDTH) : SHAPE(WIDTH, 5));
        const size_t y = swapped(&b, product(&b, x, w, transposed));
        check_apart(&b, unary(&b, UNARY_TANH, 0, 0, y), w);
        bench_free(&b);
    }
}

/* The plan for samples says that it does not keep them apart, and has the batch's gradient. */
static void check_not_apart(bench *b, size_t result, size_t constant)
{
    const uint64_t count = value_of(b, constant)->constant->elements;
    float *weights = loss_weights(b, result);
    plan *whole = differentiate(b, result, constant, 0, weights, SIZE_MAX);
    plan *plan = differentiate(b, result, constant, N, weights, SIZE_MAX);
    assert_false(plan_keeps_samples_apart(plan));
    float *wanted = gradient_of(whole, constant), *got = gradient_of(plan, constant);
    for (uint64_t i = 0; i < count; i++)
        assert_true(fabsf(got[i] - wanted[i]) <= 1e-5F * fmaxf(1, fabsf(wanted[i])));
    free(got);
    free(wanted);
    free(weights);
    plan_free(plan);
    plan_free(whole);
}

static void product_not_apart(void **state)
{
    (void)state;
    static way *const ways[] = {batch_between, table,   twice,           backwards,
                                taken,         centred, shares_of_batch, pairs_of_samples,
                                cut_elsewhere};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bench b = bench_new(30 + i);
        const size_t x = ways[i](&b, any_of(&b, false, 3, SHAPE(N, TIME, WIDTH)));
        const size_t w = any_of(&b, true, 2, SHAPE(WIDTH, 5));
        const size_t y = product(&b, x, w, false);
        check_not_apart(&b, unary(&b, UNARY_TANH, 0, 0, y), w);
        bench_free(&b);
    }
}

/* Filters for an image that is the same for all samples. */
static void filters_of_constants(void **state)
{
    (void)state;
    for (int64_t groups = 1; groups <= WIDTH; groups *= WIDTH) {
        bench b = bench_new(50);
        op_attributes a = {.window = plain_window};
        a.window.groups = groups;
        const size_t image = any_of(&b, true, 4, SHAPE(1, WIDTH, 7, 7));
        const size_t w = any_of(&b, true, 4, SHAPE(WIDTH, WIDTH / groups, 5, 5));
        const size_t x = any_of(&b, false, 4, SHAPE(N, WIDTH, 3, 3));
        const size_t filtered = add(&b, OP_CONV, &a, 2, (const size_t[]){image, w});
        check_not_apart(&b, binary(&b, BINARY_MUL, x, filtered), w);
        bench_free(&b);
    }
}

/* A filter that is computed of a weight has the whole batch's gradient, which the weight gets. */
static void computed_filters(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        bench b = bench_new(60 + (uint64_t)variant);
        const int64_t groups = variant == 1 ? 2 : variant == 2 ? WIDTH : 1;
        const bool transposed = variant == 3;
        op_attributes a = {.window = plain_window};
        a.window.groups = groups;
        const size_t x = any_of(&b, false, 4, SHAPE(N, WIDTH, 7, 6));
        const size_t stored = any_of(&b, true, 4, SHAPE(3, 2, WIDTH / groups, WIDTH));
        const size_t w = transpose(&b, stored, 4, SHAPE(3, 2, 0, 1));
        const size_t y =
            add(&b, transposed ? OP_CONV_TRANSPOSE : OP_CONV, &a, 2, (const size_t[]){x, w});
        check(&b, y, stored);
        check_not_apart(&b, y, stored);
        bench_free(&b);
    }
}

/* The batch of a recurrent layer is its second axis; where the first is the model's batch, the
 * second has as many places by chance. */
static void recurrent_batches(void **state)
{
    (void)state;
    for (int right = 0; right < 2; right++) {
        bench b = bench_new(70);
        op_attributes a = {.recurrent = {.hidden_size = 3}};
        a.recurrent.activations[0] = UNARY_TANH;
        size_t x = any_of(&b, false, 3, SHAPE(N, N, WIDTH));
        const size_t w = any_of(&b, true, 3, SHAPE(1, 3, WIDTH));
        const size_t r = any_of(&b, true, 3, SHAPE(1, 3, 3));
        if (right)
            x = swapped(&b, x);
        size_t y = add(&b, OP_RNN, &a, 3, (const size_t[]){x, w, r});
        y = transpose(&b, y, 4, SHAPE(2, 0, 1, 3));
        for (int which = 0; which < 2; which++)
            if (right)
                check_apart(&b, y, which ? r : w);
            else
                check_not_apart(&b, y, which ? r : w);
        bench_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_apart),     cmocka_unit_test(time_first),
        cmocka_unit_test(product_not_apart), cmocka_unit_test(filters_of_constants),
        cmocka_unit_test(computed_filters),  cmocka_unit_test(recurrent_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
