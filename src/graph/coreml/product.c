/* Products with weights: linear, matmul, einsum, attention. */
#include "graph/coreml/lowering.h"

static void lower_linear(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), weight = mil_need(low, "weight"),
                 bias = mil_want(low, "bias");
    const op_attributes attributes = {.matmul = {.transpose_b = true, .alpha = 1}};
    mil_give(low, 0, mil_emit(low, OP_MATMUL, &attributes, VALUES(x, weight, bias)));
}

static void lower_matmul(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), y = mil_need(low, "y");
    /* Transposing a vector has no effect. */
    const op_attributes attributes = {
        .matmul = {.transpose_a =
                       mil_param_bool(low, "transpose_x", false) && mil_type_of(low, "x").rank > 1,
                   .transpose_b =
                       mil_param_bool(low, "transpose_y", false) && mil_type_of(low, "y").rank > 1,
                   .alpha = 1}};
    mil_give(low, 0, mil_emit(low, OP_MATMUL, &attributes, VALUES(x, y)));
}

static void lower_einsum(lowering *low, int kind)
{
    enum { MOST = 16 };
    (void)kind;
    const size_t count = mil_count(low, "values");
    const char *equation = mil_param_text(low, "equation", NULL);
    size_t values[MOST];
    if (!equation || count == 0 || count > MOST) {
        mil_fail(low, PAL_ERROR_FORMAT, "an equation of %zu values", count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = mil_use(low, mil_input_at(low, "values", i));
    const char *kept = arena_copy(&low->graph->arena, equation, __builtin_strlen(equation));
    if (!kept)
        mil_failed(low, fail_memory("a graph's nodes"));
    mil_give(low, 0, mil_emit(low, OP_EINSUM, &(op_attributes){.einsum = {kept}}, values, count));
}

static void lower_attention(lowering *low, int kind)
{
    (void)kind;
    const size_t query = mil_need(low, "query"), key = mil_need(low, "key"),
                 value = mil_need(low, "value");
    const size_t mask = mil_want(low, "attn_mask");
    mil_give(low, 0,
             mil_emit(low, OP_ATTENTION, &(op_attributes){.attention = {.scale = 0}},
                      VALUES(query, key, value, mask)));
}

const mil_operator mil_product_operators[] = {
    {"linear", lower_linear, 0},
    {"matmul", lower_matmul, 0},
    {"einsum", lower_einsum, 0},
    {"scaled_dot_product_attention", lower_attention, 0},
    {NULL, NULL, 0},
};
