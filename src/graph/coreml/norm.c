/* Normalisations. */
#include <string.h>

#include "graph/coreml/lowering.h"

static void lower_batch_norm(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), mean = mil_need(low, "mean"),
                 variance = mil_need(low, "variance");
    size_t scale = mil_want(low, "gamma"), shift = mil_want(low, "beta");
    if (scale == GRAPH_NONE)
        scale = mil_emit_filled(low, mil_emit_shape(low, mean, 0, INT64_MAX), 1);
    if (shift == GRAPH_NONE)
        shift = mil_emit_filled(low, mil_emit_shape(low, mean, 0, INT64_MAX), 0);
    const op_attributes attributes = {.norm = {.epsilon = mil_param_float(low, "epsilon", 1e-5f)}};
    mil_give(low, 0,
             mil_emit(low, OP_BATCH_NORM, &attributes, VALUES(x, scale, shift, mean, variance)));
}

static void lower_instance_norm(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), scale = mil_want(low, "gamma"),
                 shift = mil_want(low, "beta");
    const op_attributes attributes = {.norm = {.epsilon = mil_param_float(low, "epsilon", 1e-5f)}};
    mil_give(low, 0, mil_emit(low, OP_INSTANCE_NORM, &attributes, VALUES(x, scale, shift)));
}

/* gamma and beta have the normalised dimensions only: the others, between them, become 1. */
static size_t spread_over(lowering *low, const char *key, const bool *normalised, size_t rank)
{
    const size_t value = mil_want(low, key);
    int64_t axes[PAL_MAX_RANK];
    size_t count = 0, first = 0;
    while (first < rank && !normalised[first])
        first++;
    for (size_t d = first; d < rank; d++)
        if (!normalised[d])
            axes[count++] = (int64_t)(d - first);
    return value == GRAPH_NONE || !count ? value : mil_emit_unsqueeze(low, value, axes, count);
}

static void lower_layer_norm(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), rank = mil_type_of(low, "x").rank;
    op_attributes attributes = {.norm = {.epsilon = mil_param_float(low, "epsilon", 1e-5f)}};
    int64_t axes[PAL_MAX_RANK];
    bool normalised[PAL_MAX_RANK] = {0};
    size_t count = mil_param_ints(low, "axes", axes, PAL_MAX_RANK);
    for (size_t i = 0; i < count; i++)
        normalised[mil_make_axis(low, axes[i], rank)] = true;
    for (size_t d = 0; d < rank; d++)
        if (normalised[d] || !mil_is_given(low, "axes")) {
            normalised[d] = true;
            attributes.norm.axes[attributes.norm.axis_count++] = (int64_t)d;
        }
    if (!attributes.norm.axis_count) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "a normalisation over no axes");
        return;
    }
    const size_t scale = spread_over(low, "gamma", normalised, rank);
    const size_t shift = spread_over(low, "beta", normalised, rank);
    mil_give(low, 0, mil_emit(low, OP_LAYER_NORM, &attributes, VALUES(x, scale, shift)));
}

/* x / sqrt(sum of squares + epsilon), over the last three dimensions */
static void lower_l2_norm(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const op_attributes sum = {.reduce = {.kind = REDUCE_SUM_SQUARE, .keep_dims = true}};
    const size_t squares =
        mil_emit(low, OP_REDUCE, &sum, VALUES(x, mil_const_ints(low, INTS(-3, -2, -1))));
    const float epsilon = mil_param_float(low, "epsilon", 1e-6f);
    mil_give(
        low, 0,
        mil_emit_binary(low, BINARY_MUL, x, mil_emit_unary(low, UNARY_RSQRT, epsilon, 0, squares)));
}

static void lower_local_response_norm(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const op_attributes attributes = {.lrn = {.alpha = mil_param_float(low, "alpha", 1e-4f),
                                              .beta = mil_param_float(low, "beta", 0.75f),
                                              .bias = mil_param_float(low, "k", 1),
                                              .size = mil_param_int(low, "size", 0)}};
    mil_give(low, 0, mil_emit(low, OP_LRN, &attributes, VALUES(x)));
}

const mil_operator mil_norm_operators[] = {
    {"batch_norm", lower_batch_norm, 0},
    {"instance_norm", lower_instance_norm, 0},
    {"layer_norm", lower_layer_norm, 0},
    {"l2_norm", lower_l2_norm, 0},
    {"local_response_norm", lower_local_response_norm, 0},
    {NULL, NULL, 0},
};
