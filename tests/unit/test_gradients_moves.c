/* Gradients of what chooses and moves elements against finite differences. */
#include "gradient_checks.h"

static size_t ints(bench *b, size_t rank, const int64_t *shape, const int64_t *numbers)
{
    graph_tensor *tensor = graph_add_tensor(b->graph, GRAPH_INT, rank, shape);
    assert_non_null(tensor);
    memcpy(tensor->owned, numbers, tensor->elements * sizeof *numbers);
    return graph_add_constant(b->graph, "indices", tensor);
}

/* A node of several results. */
static void add_several(bench *b, graph_op op, const op_attributes *attributes, size_t count,
                        const size_t *inputs, size_t output_count, size_t *outputs)
{
    const graph_value *values[8] = {0};
    graph_value inferred[8] = {0};
    graph_node *node = graph_add_node(b->graph, &b->graph->main, op, "node", graph_op_name(op),
                                      count, output_count);
    assert_non_null(node);
    if (attributes)
        node->attributes = *attributes;
    memcpy(node->inputs, inputs, count * sizeof *inputs);
    for (size_t i = 0; i < output_count; i++)
        node->outputs[i] = outputs[i] = graph_add_value(b->graph, "result", GRAPH_FLOAT);
    for (size_t i = 0; i < count; i++)
        values[i] = inputs[i] == GRAPH_NONE ? NULL : value_of(b, inputs[i]);
    for (size_t i = 0; i < output_count; i++)
        inferred[i] = *value_of(b, outputs[i]);
    assert_ok(graph_infer(node, values, inferred));
    for (size_t i = 0; i < output_count; i++)
        b->graph->values[outputs[i]] = inferred[i];
}

/* Values that differ by more than a step, so that an order stays as it is. */
static size_t distinct(bench *b, size_t rank, const int64_t *shape)
{
    const size_t value = any_of(b, true, rank, shape);
    const uint64_t count = value_of(b, value)->constant->elements;
    for (uint64_t e = 0; e < count; e++)
        ((float *)value_of(b, value)->constant->owned)[e] =
            0.05F * (float)(e * 37 % 101) + 0.001F * (float)e - 2;
    return value;
}

static void gathers(void **state)
{
    (void)state;
    for (int64_t axis = 0; axis < 3; axis++) {
        bench b = bench_new(10);
        const op_attributes a = {.gather = {.axis = axis}};
        const size_t x = any_of(&b, true, 3, SHAPE(4, 5, 6));
        const size_t rows = ints(&b, 2, SHAPE(2, 3), (const int64_t[]){1, -1, 3, 1, 0, -2});
        check(&b, add(&b, OP_GATHER, &a, 2, (const size_t[]){x, rows}), x);
        const size_t few = ints(&b, 3, SHAPE(2, 2, 2), (const int64_t[]){0, 1, -1, 3, 2, 2, 0, -2});
        check(&b, add(&b, OP_GATHER_ELEMENTS, &a, 2, (const size_t[]){x, few}), x);
        bench_free(&b);
    }
    for (int64_t batch = 0; batch < 2; batch++) {
        bench b = bench_new(11);
        const op_attributes a = {.gather = {.batch_dims = batch}};
        const size_t x = any_of(&b, true, 3, SHAPE(2, 5, 6));
        const size_t tuples =
            ints(&b, 3, SHAPE(2, 2, 2), (const int64_t[]){0, 1, -1, 3, 1, 2, 0, 1});
        check(&b, add(&b, OP_GATHER_ND, &a, 2, (const size_t[]){x, tuples}), x);
        bench_free(&b);
    }
}

/* An embedding: rows named by an input, samples apart. */
static void embeddings(void **state)
{
    (void)state;
    bench b = bench_new(20);
    const op_attributes a = {.gather = {.axis = 0}};
    const size_t table = any_of(&b, true, 2, SHAPE(9, 5));
    size_t tokens;
    assert_ok(graph_add_input(b.graph, "tokens", PAL_INT64, GRAPH_INT, 2, SHAPE(4, 3), &tokens));
    b.graph->values[tokens].rank = 2;
    memcpy(b.graph->values[tokens].shape, SHAPE(4, 3), 2 * sizeof(int64_t));
    b.inputs[0] = malloc(12 * sizeof(int64_t));
    assert_non_null(b.inputs[0]);
    memcpy(b.inputs[0], (const int64_t[]){0, 1, 1, 8, -1, 2, 3, 4, 5, 1, 0, 0},
           12 * sizeof(int64_t));
    const size_t y =
        unary(&b, UNARY_TANH, 0, 0, add(&b, OP_GATHER, &a, 2, (const size_t[]){table, tokens}));
    check(&b, y, table);
    check_apart(&b, y, table);
    bench_free(&b);
}

static void scatters(void **state)
{
    (void)state;
    for (int reduction = 0; reduction < 5; reduction++) {
        bench b = bench_new(30);
        const op_attributes a = {.scatter = {.axis = 1, .reduction = reduction}};
        const size_t x = distinct(&b, 2, SHAPE(3, 5));
        const size_t updates = distinct(&b, 2, SHAPE(2, 4));
        for (int e = 0; e < 8; e++) /* none equal to an element of x; one of them is zero */
            ((float *)value_of(&b, updates)->constant->owned)[e] += 0.77F;
        ((float *)value_of(&b, updates)->constant->owned)[1] = 0;
        const size_t places = ints(&b, 2, SHAPE(2, 4), (const int64_t[]){0, 2, 2, -1, 1, 1, 1, 4});
        size_t y = add(&b, OP_SCATTER_ELEMENTS, &a, 3, (const size_t[]){x, places, updates});
        check(&b, y, x);
        check(&b, y, updates);
        const size_t tuples = ints(&b, 2, SHAPE(4, 1), (const int64_t[]){0, 2, -1, 0});
        const size_t rows = distinct(&b, 2, SHAPE(4, 5));
        for (int e = 0; e < 20; e++)
            ((float *)value_of(&b, rows)->constant->owned)[e] += 0.57F;
        y = add(&b, OP_SCATTER_ND, &a, 3, (const size_t[]){x, tuples, rows});
        check(&b, y, x);
        check(&b, y, rows);
        bench_free(&b);
    }
}

static void arrangements(void **state)
{
    (void)state;
    bench b = bench_new(40);
    const size_t x = any_of(&b, true, 4, SHAPE(2, 8, 4, 6));
    for (int other = 0; other < 2; other++) {
        const op_attributes blocks = {.blocks = {.size = 2, .column_row_depth = other}};
        check(&b, add(&b, OP_DEPTH_TO_SPACE, &blocks, 1, &x), x);
        check(&b, add(&b, OP_SPACE_TO_DEPTH, &blocks, 1, &x), x);
        const op_attributes triangle = {.trilu = {.upper = other}};
        check(&b, add(&b, OP_TRILU, &triangle, 1, &x), x);
        check(&b, add(&b, OP_TRILU, &triangle, 2, (const size_t[]){x, graph_add_int(b.graph, -1)}),
              x);
        const op_attributes sequence = {.sequence = {.batch_axis = other, .time_axis = 1 - other}};
        const size_t lengths =
            ints(&b, 1, SHAPE(other ? 8 : 2), (const int64_t[]){1, 2, 0, 2, 1, 1, 2, 2});
        check(&b, add(&b, OP_REVERSE_SEQUENCE, &sequence, 2, (const size_t[]){x, lengths}), x);
        for (int reverse = 0; reverse < 2; reverse++) {
            const op_attributes sums = {.cumsum = {.exclusive = other, .reverse = reverse}};
            check(&b, add(&b, OP_CUMSUM, &sums, 2, (const size_t[]){x, graph_add_int(b.graph, 2)}),
                  x);
        }
    }
    check(&b,
          add(&b, OP_TILE, NULL, 2,
              (const size_t[]){x, graph_add_ints(b.graph, (const int64_t[]){2, 1, 3, 1}, 4)}),
          x);
    check(&b,
          add(&b, OP_EXPAND, NULL, 2,
              (const size_t[]){x, graph_add_ints(b.graph, (const int64_t[]){3, 1, 1, 1, 1}, 5)}),
          x);
    bench_free(&b);
}

static void choices(void **state)
{
    (void)state;
    bench b = bench_new(50);
    const size_t x = distinct(&b, 2, SHAPE(4, 9)), y = any_of(&b, true, 1, SHAPE(9));
    const size_t condition = any_of(&b, false, 2, SHAPE(4, 1));
    size_t outputs[10];
    for (int smallest = 0; smallest < 2; smallest++)
        for (int64_t axis = 0; axis < 2; axis++) {
            const op_attributes a = {.topk = {.axis = axis, .smallest = smallest}};
            add_several(&b, OP_TOPK, &a, 2,
                        (const size_t[]){x, graph_add_ints(b.graph, (const int64_t[]){3}, 1)}, 2,
                        outputs);
            check(&b, outputs[0], x);
        }
    const op_attributes greater = {.binary = {.kind = BINARY_GREATER}};
    const size_t flags =
        add(&b, OP_BINARY, &greater, 2, (const size_t[]){condition, number_of(&b, 0)});
    for (int swapped = 0; swapped < 2; swapped++) {
        const size_t chosen =
            add(&b, OP_SELECT, NULL, 3, (const size_t[]){flags, swapped ? y : x, swapped ? x : y});
        check(&b, chosen, x);
        check(&b, chosen, y);
    }
    const size_t slope = any_of(&b, true, 2, SHAPE(4, 1));
    const size_t bent = add(&b, OP_PRELU, NULL, 2, (const size_t[]){x, slope});
    check(&b, bent, slope);
    for (int e = 0; e < 36; e++)
        ((float *)value_of(&b, x)->constant->owned)[e] += 0.013F; /* away from zero */
    check(&b, bent, x);
    bench_free(&b);
}

/* More parts than a step has reads; some of them lead nowhere. */
static void splits(void **state)
{
    (void)state;
    bench b = bench_new(60);
    const size_t x = any_of(&b, true, 3, SHAPE(3, 13, 2));
    const op_attributes a = {.split = {.axis = 1}}, joined = {.concat = {1}};
    size_t parts[3];
    add_several(&b, OP_SPLIT, &a, 2,
                (const size_t[]){x, graph_add_ints(b.graph, (const int64_t[]){4, 4, 5}, 3)}, 3,
                parts);
    const size_t product = binary(&b, BINARY_MUL, parts[0], parts[1]);
    check(&b, product, x);
    check(&b, add(&b, OP_CONCAT, &joined, 2, (const size_t[]){product, parts[2]}), x);
    bench_free(&b);
}

/* One pass or several, taps that overlap, places outside. */
static void resizes(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{2, 2, 9, 5}, {2, 2, 3, 11}, {2, 2, 5, 14}, {2, 2, 5, 7}};
    for (int mode = RESIZE_NEAREST; mode <= RESIZE_CUBIC; mode++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int antialias = 0; antialias < 2; antialias++) {
                bench b = bench_new(70);
                const op_attributes a = {
                    .resize = {.mode = mode, .cubic_a = -0.75F, .antialias = antialias}};
                const size_t x = any_of(&b, true, 4, SHAPE(2, 2, 5, 7));
                const size_t y = add(&b, OP_RESIZE, &a, 4,
                                     (const size_t[]){x, GRAPH_NONE, GRAPH_NONE,
                                                      graph_add_ints(b.graph, sizes[i], 4)});
                check(&b, unary(&b, UNARY_LINEAR, 2, 0, y), x);
                bench_free(&b);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gathers),      cmocka_unit_test(embeddings), cmocka_unit_test(scatters),
        cmocka_unit_test(arrangements), cmocka_unit_test(choices),    cmocka_unit_test(splits),
        cmocka_unit_test(resizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
