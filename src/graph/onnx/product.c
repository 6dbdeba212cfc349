/* Products of matrices. */
#include "graph/onnx/lowering.h"

static void lower_matmul(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.matmul = {.alpha = 1}};
    give(low, 0, emit(low, OP_MATMUL, &attributes, VALUES(need(low, 0), need(low, 1))));
}

/* alpha A' B' + beta C */
static void lower_gemm(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.matmul = {attribute_int(low, "transA", 0) != 0,
                                                 attribute_int(low, "transB", 0) != 0,
                                                 attribute_float(low, "alpha", 1)}};
    const float beta = attribute_float(low, "beta", 1);
    size_t c = want(low, 2);
    if (c != GRAPH_NONE && beta != 1)
        c = emit_binary(low, BINARY_MUL, c, const_like(low, c, beta));
    give(low, 0, emit(low, OP_MATMUL, &attributes, VALUES(need(low, 0), need(low, 1), c)));
}

static void lower_einsum(lowering *low, int kind)
{
    (void)kind;
    const Onnx__Attribute *equation = attribute(low, "equation");
    op_attributes attributes = {0};
    if (!equation || !equation->s.len) {
        low_fail(low, PAL_ERROR_FORMAT, "its equation is missing");
        return;
    }
    attributes.einsum.equation = arena_copy(&low->graph->arena, equation->s.data, equation->s.len);
    if (!attributes.einsum.equation) {
        low_failed(low, fail_memory("a graph's nodes"));
        return;
    }
    const size_t count = input_count(low);
    size_t *inputs = arena_alloc(&low->graph->arena, (count + 1) * sizeof *inputs);
    for (size_t i = 0; inputs && i < count; i++)
        inputs[i] = need(low, i);
    if (!inputs)
        low_failed(low, fail_memory("a graph's nodes"));
    else
        give(low, 0, emit(low, OP_EINSUM, &attributes, inputs, count));
}

const onnx_operator product_operators[] = {
    {"MatMul", lower_matmul, 0},
    {"Gemm", lower_gemm, 0},
    {"Einsum", lower_einsum, 0},
    {0},
};
