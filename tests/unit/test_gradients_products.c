/* Gradients of einsum, attention and recurrent layers against finite differences. */
#include "gradient_checks.h"

static void einsums(void **state)
{
    (void)state;
    static const struct {
        const char *equation;
        size_t count;
        size_t rank[3];
        int64_t shape[3][4];
    } cases[] = {
        {"ij,jk->ik", 2, {2, 2}, {{3, 4}, {4, 5}}},
        {"bhld,bhsd->bhls", 2, {4, 4}, {{2, 2, 3, 4}, {2, 2, 5, 4}}},
        {"ij,k->j", 2, {2, 1}, {{3, 4}, {5}}},
        {"ii->i", 1, {2}, {{4, 4}}},
        {"ii,j->", 2, {2, 1}, {{4, 4}, {3}}},
        {"iji,kj->k", 2, {3, 2}, {{3, 4, 3}, {2, 4}}},
        {"...ij,...jk->...ik", 2, {4, 3}, {{2, 3, 2, 4}, {1, 4, 2}}},
        {"ab,bc,cd->ad", 3, {2, 2, 2}, {{2, 3}, {3, 4}, {4, 5}}},
        {"ij->ji", 1, {2}, {{3, 5}}},
        {"i,i,i->i", 3, {1, 1, 1}, {{6}, {6}, {6}}},
        {"i,j->ij", 2, {1, 1}, {{3}, {4}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b = bench_new(10 + i);
        const op_attributes a = {.einsum = {cases[i].equation}};
        size_t inputs[3];
        for (size_t o = 0; o < cases[i].count; o++)
            inputs[o] = any_of(&b, true, cases[i].rank[o], cases[i].shape[o]);
        const size_t y = add(&b, OP_EINSUM, &a, cases[i].count, inputs);
        for (size_t o = 0; o < cases[i].count; o++)
            check(&b, y, inputs[o]);
        bench_free(&b);
    }
}

/* More rows than a block has; keys that several heads share; masks of both kinds. */
static void attentions(void **state)
{
    (void)state;
    for (int variant = 0; variant < 6; variant++) {
        bench b = bench_new(30 + (uint64_t)variant);
        const op_attributes a = {
            .attention = {.scale = variant & 1 ? 0.4F : 0, .causal = variant == 2}};
        const int64_t rows = variant == 1 ? 70 : 5, heads = variant == 3 ? 1 : 2;
        const size_t q = any_of(&b, true, 4, SHAPE(2, 2, rows, 3));
        const size_t k = any_of(&b, true, 4, SHAPE(2, heads, 6, 3));
        const size_t v = any_of(&b, true, 4, SHAPE(2, heads, 6, 4));
        size_t inputs[4] = {q, k, v, GRAPH_NONE};
        if (variant >= 4)
            inputs[3] = any_of(&b, true, 3, variant == 4 ? SHAPE(2, rows, 6) : SHAPE(1, 1, 6));
        const size_t y =
            unary(&b, UNARY_TANH, 0, 0, add(&b, OP_ATTENTION, &a, variant >= 4 ? 4 : 3, inputs));
        for (size_t i = 0; i < (variant >= 4 ? 4 : 3); i++)
            check(&b, y, inputs[i]);
        bench_free(&b);
    }
}

/* ---------------------------------------------------------------- recurrent layers */

/* A layer of the given kind with all of its inputs; the results are joined. */
static size_t recurrent(bench *b, graph_op op, const op_attributes *a, bool lengths,
                        size_t inputs[8])
{
    const int64_t gates = op == OP_LSTM ? 4 : op == OP_GRU ? 3 : 1, hidden = 4, width = gates * 4;
    const int64_t ways = a->recurrent.direction == DIRECTION_BOTH ? 2 : 1;
    const bool turned = a->recurrent.batch_first;
    const size_t count = op == OP_LSTM ? 3 : 2;
    inputs[0] = any_of(b, true, 3, turned ? SHAPE(3, 5, 6) : SHAPE(5, 3, 6));
    inputs[1] = any_of(b, true, 3, SHAPE(ways, width, 6));
    inputs[2] = any_of(b, true, 3, SHAPE(ways, width, hidden));
    inputs[3] = any_of(b, true, 2, SHAPE(ways, 2 * width));
    inputs[4] = lengths ? graph_add_ints(b->graph, (const int64_t[]){5, 2, 3}, 3) : GRAPH_NONE;
    for (size_t i = 5; i < 7; i++)
        inputs[i] = any_of(b, true, 3, turned ? SHAPE(3, ways, hidden) : SHAPE(ways, 3, hidden));
    inputs[7] = any_of(b, true, 2, SHAPE(ways, 3 * hidden));
    for (size_t i = 1; i < 3; i++) /* so that functions do not saturate */
        for (uint64_t e = 0; e < graph_elements(value_of(b, inputs[i])); e++)
            ((float *)value_of(b, inputs[i])->constant->owned)[e] *= 0.4F;
    graph_node *node =
        graph_add_node(b->graph, &b->graph->main, op, "node", graph_op_name(op), 8, count);
    assert_non_null(node);
    node->attributes = *a;
    node->input_count = op == OP_LSTM ? 8 : 6;
    const graph_value *values[8] = {0};
    graph_value inferred[3];
    size_t flat[3];
    for (size_t i = 0; i < node->input_count; i++) {
        node->inputs[i] = inputs[i];
        values[i] = inputs[i] == GRAPH_NONE ? NULL : value_of(b, inputs[i]);
    }
    for (size_t i = 0; i < count; i++) {
        node->outputs[i] = flat[i] = graph_add_value(b->graph, "result", GRAPH_FLOAT);
        inferred[i] = *value_of(b, flat[i]);
    }
    for (size_t i = 0; i < node->input_count; i++) /* values may have moved */
        values[i] = inputs[i] == GRAPH_NONE ? NULL : value_of(b, inputs[i]);
    assert_ok(graph_infer(node, values, inferred));
    for (size_t i = 0; i < count; i++) {
        b->graph->values[flat[i]] = inferred[i];
        const int64_t all = -1;
        flat[i] = add(b, OP_RESHAPE, NULL, 2,
                      (const size_t[]){flat[i], graph_add_ints(b->graph, &all, 1)});
    }
    const op_attributes joined = {.concat = {0}};
    return add(b, OP_CONCAT, &joined, count, flat);
}

static void recurrent_layers(void **state)
{
    (void)state;
    for (int variant = 0; variant < 10; variant++) {
        static const graph_op ops[] = {OP_LSTM, OP_LSTM, OP_LSTM, OP_LSTM, OP_GRU,
                                       OP_GRU,  OP_GRU,  OP_RNN,  OP_RNN,  OP_LSTM};
        bench b = bench_new(50 + (uint64_t)variant);
        op_attributes a = {.recurrent = {.hidden_size = 4}};
        size_t inputs[8];
        for (int i = 0; i < 6; i++)
            a.recurrent.activations[i] =
                i % 3 == 0 && ops[variant] != OP_RNN ? UNARY_SIGMOID : UNARY_TANH;
        a.recurrent.direction = variant == 1 || variant == 5   ? DIRECTION_BOTH
                                : variant == 2 || variant == 8 ? DIRECTION_REVERSE
                                                               : DIRECTION_FORWARD;
        a.recurrent.batch_first = variant == 3 || variant == 5;
        a.recurrent.linear_before_reset = variant == 6 || variant == 5;
        a.recurrent.input_forget = variant == 9;
        const bool lengths = variant == 1 || variant == 4 || variant == 8;
        const size_t y = recurrent(&b, ops[variant], &a, lengths, inputs);
        for (size_t i = 0; i < (ops[variant] == OP_LSTM ? 8 : 6); i++)
            if (i != 4)
                check(&b, y, inputs[i]);
        bench_free(&b);
    }
}

/* Samples apart, for the weights of inputs and of states. */
static void recurrent_samples(void **state)
{
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        static const graph_op ops[] = {OP_LSTM, OP_GRU, OP_RNN};
        bench b = bench_new(70 + (uint64_t)variant);
        const int64_t gates = variant == 0 ? 4 : variant == 1 ? 3 : 1;
        op_attributes a = {.recurrent = {.hidden_size = 4, .batch_first = true}};
        a.recurrent.activations[0] = variant == 2 ? UNARY_TANH : UNARY_SIGMOID;
        a.recurrent.activations[1] = a.recurrent.activations[2] = UNARY_TANH;
        const size_t x = any_of(&b, false, 3, SHAPE(3, 5, 6));
        const size_t w = any_of(&b, true, 3, SHAPE(1, gates * 4, 6));
        const size_t r = any_of(&b, true, 3, SHAPE(1, gates * 4, 4));
        const size_t y = add(&b, ops[variant], &a, 3, (const size_t[]){x, w, r});
        check_apart(&b, y, w);
        check_apart(&b, y, r);
        bench_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(einsums),
        cmocka_unit_test(attentions),
        cmocka_unit_test(recurrent_layers),
        cmocka_unit_test(recurrent_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
