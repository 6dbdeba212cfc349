/* Normalisation. */
#include "graph/onnx/lowering.h"

static void lower_batch(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.norm = {.epsilon = attribute_float(low, "epsilon", 1e-5F)}};
    if (attribute_int(low, "training_mode", 0))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "it is in training mode");
    if (low->opset < 9 && !attribute_int(low, "spatial", 1))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "it normalises each element by itself");
    give(low, 0,
         emit(low, OP_BATCH_NORM, &attributes,
              VALUES(need(low, 0), need(low, 1), need(low, 2), need(low, 3), need(low, 4))));
}

static void lower_instance(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.norm = {.epsilon = attribute_float(low, "epsilon", 1e-5F)}};
    give(
        low, 0,
        emit(low, OP_INSTANCE_NORM, &attributes, VALUES(need(low, 0), need(low, 1), need(low, 2))));
}

/* A number for each group as one for each of its channels. */
static size_t spread(lowering *low, size_t values, size_t x, int64_t groups)
{
    const int64_t minus_one = -1;
    const size_t channels = emit_shape(low, x, 1, 2);
    const size_t each = emit_binary(low, BINARY_DIV, channels, const_ints(low, &groups, 1));
    const op_attributes along = {.concat = {0}};
    const size_t shape = emit(low, OP_CONCAT, &along, VALUES(const_ints(low, &groups, 1), each));
    const size_t wide = emit(low, OP_EXPAND, NULL, VALUES(emit_unsqueeze(low, values, 1), shape));
    return emit_reshape(low, wide, const_ints(low, &minus_one, 1));
}

static void lower_group(lowering *low, int kind)
{
    (void)kind;
    const int64_t groups = attribute_int(low, "num_groups", 1);
    const op_attributes attributes = {
        .norm = {.epsilon = attribute_float(low, "epsilon", 1e-5F), .groups = groups}};
    const size_t x = need(low, 0);
    size_t scale = need(low, 1), shift = need(low, 2);
    if (low->opset < 21) {
        scale = spread(low, scale, x, groups);
        shift = spread(low, shift, x, groups);
    }
    give(low, 0, emit(low, OP_GROUP_NORM, &attributes, VALUES(x, scale, shift)));
}

static void lower_layer(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {.norm = {.epsilon = attribute_float(low, "epsilon", 1e-5F)}};
    size_t results[3], count = 1;
    attributes.norm.axes[0] = attribute_int(low, "axis", -1);
    for (size_t i = 1; i < 3; i++)
        count = has_output(low, i) ? i + 1 : count;
    emit_all(low, OP_LAYER_NORM, &attributes, VALUES(need(low, 0), want(low, 1), want(low, 2)),
             results, count);
    for (size_t i = 0; i < count; i++)
        give(low, i, results[i]);
}

static void lower_rms(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {.norm = {.epsilon = attribute_float(low, "epsilon", 1e-5F)}};
    attributes.norm.axes[0] = attribute_int(low, "axis", -1);
    give(low, 0, emit(low, OP_RMS_NORM, &attributes, VALUES(need(low, 0), want(low, 1))));
}

static void lower_lp(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {.norm = {.p = attribute_int(low, "p", 2), .axis_count = 1}};
    attributes.norm.axes[0] = attribute_int(low, "axis", -1);
    give(low, 0, emit(low, OP_LP_NORM, &attributes, VALUES(need(low, 0))));
}

static void lower_lrn(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {
        .lrn = {attribute_float(low, "alpha", 1e-4F), attribute_float(low, "beta", 0.75F),
                attribute_float(low, "bias", 1), attribute_int(low, "size", 1)}};
    give(low, 0, emit(low, OP_LRN, &attributes, VALUES(need(low, 0))));
}

/* (x - mean) / (deviation + 1e-9) */
static void lower_mean_variance(lowering *low, int kind)
{
    (void)kind;
    int64_t axes[PAL_MAX_RANK] = {0, 2, 3};
    size_t count = attribute_ints(low, "axes", axes, PAL_MAX_RANK);
    const size_t x = need(low, 0), along = const_ints(low, axes, count == NONE ? 3 : count);
    const size_t centred =
        emit_binary(low, BINARY_SUB, x, emit_reduce(low, REDUCE_MEAN, x, along, true));
    const size_t square = emit_unary(low, UNARY_SQUARE, 0, 0, centred);
    const size_t variance = emit_reduce(low, REDUCE_MEAN, square, along, true);
    const size_t deviation = emit_unary(low, UNARY_SQRT, 0, 0, variance);
    const size_t safe = emit_binary(low, BINARY_ADD, deviation, const_float(low, 1e-9F));
    give(low, 0, emit_binary(low, BINARY_DIV, centred, safe));
}

const onnx_operator norm_operators[] = {
    {"BatchNormalization", lower_batch, 0},
    {"InstanceNormalization", lower_instance, 0},
    {"GroupNormalization", lower_group, 0},
    {"LayerNormalization", lower_layer, 0},
    {"RMSNormalization", lower_rms, 0},
    {"SimplifiedLayerNormalization", lower_rms, 0}, /* onnxruntime writes it in ONNX's domain */
    {"LpNormalization", lower_lp, 0},
    {"LRN", lower_lrn, 0},
    {"MeanVarianceNormalization", lower_mean_variance, 0},
    {0},
};
