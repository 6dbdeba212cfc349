/* Activations. */
#include <math.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- of one kind in the graph */

static void lower_plain(lowering *low, int kind)
{
    mil_give(low, 0, mil_emit_unary(low, (unary_kind)kind, 1, 0, mil_need(low, "x")));
}

/* With alpha, and beta where the operator has it. */
static void lower_parametric(lowering *low, int kind)
{
    const size_t x = mil_need(low, "x");
    const float alpha = mil_param_float(low, "alpha", 0), beta = mil_param_float(low, "beta", 0);
    mil_give(low, 0, mil_emit_unary(low, (unary_kind)kind, alpha, beta, x));
}

static void lower_relu6(lowering *low, int kind)
{
    mil_give(low, 0, mil_emit_unary(low, (unary_kind)kind, 0, 6, mil_need(low, "x")));
}

static void lower_gelu(lowering *low, int kind)
{
    static const char *const modes[] = {"EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION",
                                        NULL};
    static const unary_kind kinds[] = {UNARY_GELU, UNARY_GELU_TANH, UNARY_GELU_SIGMOID};
    (void)kind;
    const size_t x = mil_need(low, "x");
    mil_give(low, 0, mil_emit_unary(low, kinds[mil_param_choice(low, "mode", 0, modes)], 0, 0, x));
}

/* MIL keeps x = alpha, which the graph's operator sets to 0. */
static void lower_thresholded_relu(lowering *low, int kind)
{
    const size_t x = mil_need(low, "x");
    const float alpha = nextafterf(mil_param_float(low, "alpha", 0), -INFINITY);
    mil_give(low, 0, mil_emit_unary(low, (unary_kind)kind, alpha, 0, x));
}

/* ---------------------------------------------------------------- composed */

/* min(beta, x or alpha x) */
static void lower_clamped_relu(lowering *low, int kind)
{
    (void)kind;
    const float alpha = mil_param_float(low, "alpha", 0), beta = mil_param_float(low, "beta", 0);
    const size_t leaky = mil_emit_unary(low, UNARY_LEAKY_RELU, alpha, 0, mil_need(low, "x"));
    mil_give(low, 0, mil_emit_unary(low, UNARY_CLIP, -INFINITY, beta, leaky));
}

/* A vector with an element for each channel, to be broadcast to x. */
static size_t per_channel(lowering *low, const char *key)
{
    const mil_type x = mil_type_of(low, "x"), vector = mil_type_of(low, key);
    const size_t value = mil_need(low, key);
    int64_t axes[PAL_MAX_RANK];
    size_t count = 0;
    if (vector.rank != 1)
        mil_fail(low, PAL_ERROR_FORMAT, "its %s is no vector", key);
    for (size_t d = 2; d < x.rank; d++, count++)
        axes[count] = (int64_t)count + 1;
    return count ? mil_emit_unsqueeze(low, value, axes, count) : value;
}

static void lower_prelu(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    mil_give(low, 0, mil_emit(low, OP_PRELU, NULL, VALUES(x, per_channel(low, "alpha"))));
}

/* alpha softplus(beta x), for each channel its own */
static void lower_softplus_parametric(lowering *low, int kind)
{
    (void)kind;
    const size_t scaled =
        mil_emit_binary(low, BINARY_MUL, mil_need(low, "x"), per_channel(low, "beta"));
    const size_t plus = mil_emit_unary(low, UNARY_SOFTPLUS, 0, 0, scaled);
    mil_give(low, 0, mil_emit_binary(low, BINARY_MUL, plus, per_channel(low, "alpha")));
}

static void lower_softmax(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const op_attributes attributes = {.softmax = {.axis = mil_param_int(low, "axis", -1)}};
    mil_give(low, 0, mil_emit(low, OP_SOFTMAX, &attributes, VALUES(x)));
}

const mil_operator mil_activation_operators[] = {
    {"relu", lower_plain, UNARY_RELU},
    {"sigmoid", lower_plain, UNARY_SIGMOID},
    {"silu", lower_plain, UNARY_SWISH},
    {"softplus", lower_plain, UNARY_SOFTPLUS},
    {"softsign", lower_plain, UNARY_SOFTSIGN},
    {"tanh", lower_plain, UNARY_TANH},
    {"relu6", lower_relu6, UNARY_CLIP},
    {"elu", lower_parametric, UNARY_ELU},
    {"leaky_relu", lower_parametric, UNARY_LEAKY_RELU},
    {"linear_activation", lower_parametric, UNARY_LINEAR},
    {"scaled_tanh", lower_parametric, UNARY_SCALED_TANH},
    {"sigmoid_hard", lower_parametric, UNARY_HARD_SIGMOID},
    {"thresholded_relu", lower_thresholded_relu, UNARY_THRESHOLDED_RELU},
    {"clamped_relu", lower_clamped_relu, 0},
    {"gelu", lower_gelu, 0},
    {"prelu", lower_prelu, 0},
    {"softplus_parametric", lower_softplus_parametric, 0},
    {"softmax", lower_softmax, 0},
    {NULL, NULL, 0},
};
