/* Element by element: functions of one value and of two. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "graph/coreml/lowering.h"

static void lower_unary(lowering *low, int kind)
{
    mil_give(low, 0, mil_emit_unary(low, (unary_kind)kind, 0, 0, mil_need(low, "x")));
}

/* Functions of x + epsilon. The default is a number of x's type: most vanish in float16. */
static void lower_with_epsilon(lowering *low, int kind)
{
    const size_t x = mil_need(low, "x");
    float epsilon = kind == UNARY_RECIPROCAL ? 1e-4f : kind == UNARY_RSQRT ? 1e-12f : 1e-45f;
    if (mil_type_of(low, "x").dtype == PAL_FLOAT16)
        epsilon = f16_to_float(f16_from_double((double)epsilon));
    epsilon = mil_param_float(low, "epsilon", epsilon);
    mil_give(low, 0, mil_emit_unary(low, (unary_kind)kind, epsilon, 0, x));
}

static void lower_binary(lowering *low, int kind)
{
    const size_t x = mil_need(low, "x"), y = mil_need(low, "y");
    mil_give(low, 0, mil_emit_binary(low, (binary_kind)kind, x, y));
}

static void lower_exp2(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    mil_give(low, 0, mil_emit_binary(low, BINARY_POW, mil_const_like(low, x, 2), x));
}

static void lower_clip(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const float lowest = mil_param_float(low, "alpha", -INFINITY);
    const float highest = mil_param_float(low, "beta", INFINITY);
    mil_give(low, 0, mil_emit_unary(low, UNARY_CLIP, lowest, highest, x));
}

static void lower_threshold(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    if (mil_value_type(low, x) == GRAPH_FLOAT)
        mil_give(
            low, 0,
            mil_emit_unary(low, UNARY_CLIP, mil_param_float(low, "alpha", -INFINITY), INFINITY, x));
    else
        mil_give(low, 0, mil_emit_binary(low, BINARY_MAX, x, mil_need(low, "alpha")));
}

/* ---------------------------------------------------------------- casts */

/* To a boolean: whether it is not 0. */
static size_t truth(lowering *low, size_t x)
{
    return mil_value_type(low, x) == GRAPH_BOOL
               ? x
               : mil_emit_binary(low, BINARY_NOT_EQUAL, x, mil_const_like(low, x, 0));
}

static void lower_cast(lowering *low, int kind)
{
    static const char *const names[] = {"fp16",  "fp32",  "fp64",   "int8",   "int16", "int32",
                                        "int64", "uint8", "uint16", "uint32", "bool",  NULL};
    static const pal_dtype types[] = {PAL_FLOAT16, PAL_FLOAT32, PAL_FLOAT64,    PAL_INT8,
                                      PAL_INT16,   PAL_INT32,   PAL_INT64,      PAL_UINT8,
                                      PAL_UINT16,  PAL_UINT32,  PAL_DTYPE_OTHER};
    (void)kind;
    const size_t x = mil_need(low, "x");
    if (!mil_is_given(low, "dtype"))
        mil_fail(low, PAL_ERROR_FORMAT, "its input dtype is missing");
    const pal_dtype to = types[mil_param_choice(low, "dtype", 0, names)];
    mil_give(low, 0, to == PAL_DTYPE_OTHER ? truth(low, x) : mil_emit_cast(low, x, to));
}

const mil_operator mil_elementwise_operators[] = {
    {"abs", lower_unary, UNARY_ABS},
    {"acos", lower_unary, UNARY_ACOS},
    {"acosh", lower_unary, UNARY_ACOSH},
    {"asin", lower_unary, UNARY_ASIN},
    {"asinh", lower_unary, UNARY_ASINH},
    {"atan", lower_unary, UNARY_ATAN},
    {"atanh", lower_unary, UNARY_ATANH},
    {"ceil", lower_unary, UNARY_CEIL},
    {"cos", lower_unary, UNARY_COS},
    {"cosh", lower_unary, UNARY_COSH},
    {"erf", lower_unary, UNARY_ERF},
    {"exp", lower_unary, UNARY_EXP},
    {"floor", lower_unary, UNARY_FLOOR},
    {"logical_not", lower_unary, UNARY_NOT},
    {"round", lower_unary, UNARY_ROUND},
    {"sign", lower_unary, UNARY_SIGN},
    {"sin", lower_unary, UNARY_SIN},
    {"sinh", lower_unary, UNARY_SINH},
    {"sqrt", lower_unary, UNARY_SQRT},
    {"square", lower_unary, UNARY_SQUARE},
    {"tan", lower_unary, UNARY_TAN},
    {"inverse", lower_with_epsilon, UNARY_RECIPROCAL},
    {"log", lower_with_epsilon, UNARY_LOG},
    {"rsqrt", lower_with_epsilon, UNARY_RSQRT},
    {"exp2", lower_exp2, 0},
    {"clip", lower_clip, 0},
    {"threshold", lower_threshold, 0},
    {"cast", lower_cast, 0},
    {"add", lower_binary, BINARY_ADD},
    {"sub", lower_binary, BINARY_SUB},
    {"mul", lower_binary, BINARY_MUL},
    {"real_div", lower_binary, BINARY_DIV},
    {"floor_div", lower_binary, BINARY_FLOOR_DIV},
    {"mod", lower_binary, BINARY_MOD},
    {"pow", lower_binary, BINARY_POW},
    {"maximum", lower_binary, BINARY_MAX},
    {"minimum", lower_binary, BINARY_MIN},
    {"equal", lower_binary, BINARY_EQUAL},
    {"not_equal", lower_binary, BINARY_NOT_EQUAL},
    {"less", lower_binary, BINARY_LESS},
    {"less_equal", lower_binary, BINARY_LESS_EQUAL},
    {"greater", lower_binary, BINARY_GREATER},
    {"greater_equal", lower_binary, BINARY_GREATER_EQUAL},
    {"logical_and", lower_binary, BINARY_AND},
    {"logical_or", lower_binary, BINARY_OR},
    {"logical_xor", lower_binary, BINARY_XOR},
    {NULL, NULL, 0},
};
