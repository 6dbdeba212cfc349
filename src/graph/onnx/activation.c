/* Activation functions. */
#include "graph/onnx/lowering.h"

/* Functions with up to two parameters, and what they are where the file does not say. */
static const struct {
    const char *alpha, *beta;
    float alpha_default, beta_default;
} parameters[UNARY_KIND_COUNT] = {
    [UNARY_LEAKY_RELU] = {"alpha", NULL, 0.01F, 0},
    [UNARY_ELU] = {"alpha", NULL, 1, 0},
    [UNARY_SELU] = {"alpha", "gamma", 1.67326319217681884765625F, 1.05070102214813232421875F},
    [UNARY_CELU] = {"alpha", NULL, 1, 0},
    [UNARY_THRESHOLDED_RELU] = {"alpha", NULL, 1, 0},
    [UNARY_HARD_SIGMOID] = {"alpha", "beta", 0.2F, 0.5F},
    [UNARY_SWISH] = {"alpha", NULL, 1, 0},
    [UNARY_HARDMAX_SHRINK] = {"lambd", "bias", 0.5F, 0},
};

static void lower_function(lowering *low, int kind)
{
    float alpha = parameters[kind].alpha_default, beta = parameters[kind].beta_default;
    if (parameters[kind].alpha)
        alpha = attribute_float(low, parameters[kind].alpha, alpha);
    if (parameters[kind].beta)
        beta = attribute_float(low, parameters[kind].beta, beta);
    give(low, 0, emit_unary(low, (unary_kind)kind, alpha, beta, need(low, 0)));
}

static void lower_gelu(lowering *low, int kind)
{
    (void)kind;
    static const char *const forms[] = {"none", "tanh", NULL};
    const int form = attribute_choice(low, "approximate", 0, forms);
    give(low, 0, emit_unary(low, form ? UNARY_GELU_TANH : UNARY_GELU, 0, 0, need(low, 0)));
}

static void lower_prelu(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0);
    size_t slope = need(low, 1);
    if (low->opset < 7) /* one for all channels, or for each */
        slope = emit_from_axis(low, slope, x, 1);
    give(low, 0, emit(low, OP_PRELU, NULL, VALUES(x, slope)));
}

/* Before opset 13 the input was seen as a matrix whose rows begin at the axis. */
static void lower_softmax(lowering *low, int kind)
{
    const bool old = low->opset < 13;
    size_t x = need(low, 0);
    op_attributes attributes = {.softmax = {attribute_int(low, "axis", old ? 1 : -1), kind == 1}};
    if (!old) {
        give(low, 0, emit(low, OP_SOFTMAX, &attributes, VALUES(x)));
        return;
    }
    const size_t shape = emit_shape(low, x, 0, INT64_MAX);
    const op_attributes flat = {.flatten = {attributes.softmax.axis}};
    x = emit(low, OP_FLATTEN, &flat, VALUES(x));
    attributes.softmax.axis = 1;
    x = emit(low, OP_SOFTMAX, &attributes, VALUES(x));
    give(low, 0, emit_reshape(low, x, shape));
}

/* 1 at the first of the largest, 0 elsewhere. */
static size_t hardmax(lowering *low, size_t x, int64_t axis)
{
    const op_attributes best = {.argmax = {.axis = axis}};
    const op_attributes hot = {.one_hot = {axis}};
    const float ends[2] = {0, 1};
    const int64_t two = 2;
    const size_t index = emit(low, OP_ARGMAX, &best, VALUES(x));
    const size_t depth = emit_shape(low, x, axis, axis == -1 ? INT64_MAX : axis + 1);
    graph_tensor *tensor = low->status ? NULL : graph_add_tensor(low->graph, GRAPH_FLOAT, 1, &two);
    if (tensor)
        __builtin_memcpy(tensor->owned, ends, sizeof ends);
    const size_t values = graph_add_constant(low->graph, "", tensor);
    return emit(low, OP_ONE_HOT, &hot, VALUES(index, depth, values));
}

static void lower_hardmax(lowering *low, int kind)
{
    (void)kind;
    size_t x = need(low, 0);
    const int64_t axis = attribute_int(low, "axis", low->opset < 13 ? 1 : -1);
    if (low->status)
        return;
    if (low->opset >= 13) {
        give(low, 0, hardmax(low, x, axis));
        return;
    }
    const size_t shape = emit_shape(low, x, 0, INT64_MAX);
    const op_attributes flat = {.flatten = {axis}};
    x = hardmax(low, emit(low, OP_FLATTEN, &flat, VALUES(x)), 1);
    give(low, 0, emit_reshape(low, x, shape));
}

const onnx_operator activation_operators[] = {
    {"Relu", lower_function, UNARY_RELU},
    {"LeakyRelu", lower_function, UNARY_LEAKY_RELU},
    {"Elu", lower_function, UNARY_ELU},
    {"Selu", lower_function, UNARY_SELU},
    {"Celu", lower_function, UNARY_CELU},
    {"ThresholdedRelu", lower_function, UNARY_THRESHOLDED_RELU},
    {"Sigmoid", lower_function, UNARY_SIGMOID},
    {"HardSigmoid", lower_function, UNARY_HARD_SIGMOID},
    {"Tanh", lower_function, UNARY_TANH},
    {"Softplus", lower_function, UNARY_SOFTPLUS},
    {"Softsign", lower_function, UNARY_SOFTSIGN},
    {"HardSwish", lower_function, UNARY_HARD_SWISH},
    {"Swish", lower_function, UNARY_SWISH},
    {"Mish", lower_function, UNARY_MISH},
    {"Shrink", lower_function, UNARY_HARDMAX_SHRINK},
    {"Gelu", lower_gelu, 0},
    {"PRelu", lower_prelu, 0},
    {"Softmax", lower_softmax, 0},
    {"LogSoftmax", lower_softmax, 1},
    {"Hardmax", lower_hardmax, 0},
    {0},
};
