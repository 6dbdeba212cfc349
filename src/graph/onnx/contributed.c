/* Operators of onnxruntime's own domain, com.microsoft, that its optimiser and common exporters
 * write. */
#include "graph/onnx/lowering.h"

static void lower_unary(lowering *low, int kind)
{
    size_t x = need(low, 0);
    const size_t bias = want(low, 1);
    if (bias != GRAPH_NONE)
        x = emit_binary(low, BINARY_ADD, x, bias);
    give(low, 0, emit_unary(low, (unary_kind)kind, 0, 0, x));
}

static void lower_quick_gelu(lowering *low, int kind)
{
    (void)kind;
    const float alpha = attribute_float(low, "alpha", 1.702F);
    give(low, 0, emit_unary(low, UNARY_SWISH, alpha, 0, need(low, 0)));
}

static void lower_fused_matmul(lowering *low, int kind)
{
    (void)kind;
    if (attribute_int(low, "transBatchA", 0) || attribute_int(low, "transBatchB", 0))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "transposed batches");
    const op_attributes attributes = {.matmul = {attribute_int(low, "transA", 0) != 0,
                                                 attribute_int(low, "transB", 0) != 0,
                                                 attribute_float(low, "alpha", 1)}};
    give(low, 0, emit(low, OP_MATMUL, &attributes, VALUES(need(low, 0), need(low, 1))));
}

/* x + skip (+ bias), normalised; the sum is the fourth output. kind: 1 without mean and shift. */
static void lower_skip_norm(lowering *low, int kind)
{
    op_attributes attributes = {.norm = {.epsilon = attribute_float(low, "epsilon", 1e-12F)}};
    attributes.norm.axes[0] = -1;
    const bool simple = kind == 1;
    const size_t bias = want(low, simple ? 3 : 4);
    size_t sum = emit_binary(low, BINARY_ADD, need(low, 0), need(low, 1));
    if (bias != GRAPH_NONE)
        sum = emit_binary(low, BINARY_ADD, sum, bias);
    give(low, 0,
         simple ? emit(low, OP_RMS_NORM, &attributes, VALUES(sum, need(low, 2)))
                : emit(low, OP_LAYER_NORM, &attributes, VALUES(sum, need(low, 2), want(low, 3))));
    if (has_output(low, 1) || has_output(low, 2))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "its mean and deviation as outputs");
    give(low, 3, sum);
}

const onnx_operator contributed_operators[] = {
    {"Gelu", lower_unary, UNARY_GELU},
    {"BiasGelu", lower_unary, UNARY_GELU},
    {"FastGelu", lower_unary, UNARY_GELU_TANH},
    {"QuickGelu", lower_quick_gelu, 0},
    {"FusedMatMul", lower_fused_matmul, 0},
    {"SkipLayerNormalization", lower_skip_norm, 0},
    {"SkipSimplifiedLayerNormalization", lower_skip_norm, 1},
    {0},
};
