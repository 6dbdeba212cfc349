/* Operators element by element: arithmetic, comparison, logic, casts. */
#include <math.h>

#include "graph/onnx/lowering.h"

/* The second operand. Before opset 7 it could broadcast from an axis on. */
static size_t second(lowering *low, size_t first)
{
    const size_t operand = need(low, 1);
    return low->opset < 7 && attribute_int(low, "broadcast", 0) && attribute(low, "axis")
               ? emit_from_axis(low, operand, first, attribute_int(low, "axis", 0))
               : operand;
}

static void lower_binary(lowering *low, int kind)
{
    const size_t first = need(low, 0);
    give(low, 0, emit_binary(low, (binary_kind)kind, first, second(low, first)));
}

/* The same, where the result may leave the range of the operands' type. */
static void lower_arithmetic(lowering *low, int kind)
{
    const size_t first = need(low, 0);
    give(low, 0, emit_wrapped(low, emit_binary(low, (binary_kind)kind, first, second(low, first))));
}

static void lower_mod(lowering *low, int kind)
{
    (void)kind;
    const binary_kind chosen = attribute_int(low, "fmod", 0) ? BINARY_FMOD : BINARY_MOD;
    give(low, 0, emit_binary(low, chosen, need(low, 0), need(low, 1)));
}

/* The exponent may be of another type than the base, which decides. */
static void lower_pow(lowering *low, int kind)
{
    (void)kind;
    size_t base = need(low, 0), exponent = second(low, base);
    const pal_dtype dtype = value_dtype(low, base);
    const bool whole = value_type(low, base) == GRAPH_INT;
    if (low->status)
        return;
    if (value_type(low, base) != value_type(low, exponent)) {
        if (whole)
            base = emit_cast(low, base, PAL_FLOAT32);
        else
            exponent = emit_cast(low, exponent, PAL_FLOAT32);
    }
    size_t result = emit_binary(low, BINARY_POW, base, exponent);
    if (whole && value_type(low, result) != GRAPH_INT)
        result = emit_cast(low, result, dtype);
    else
        result = emit_wrapped(low, result);
    give(low, 0, result);
}

/* In 64 bits, and then in those of its type. */
static void lower_shift(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0), y = need(low, 1);
    const pal_dtype dtype = value_dtype(low, x);
    const bool right = attribute_is(low, "direction", "RIGHT");
    const size_t result = emit_binary(low, right ? BINARY_SHIFT_RIGHT : BINARY_SHIFT_LEFT, x, y);
    give(low, 0, emit_cast(low, result, dtype));
}

/* Any number of operands, two at a time. */
static void lower_several(lowering *low, int kind)
{
    const bool mean = kind < 0;
    const size_t count = input_count(low);
    size_t sum = need(low, 0);
    for (size_t i = 1; i < count && !low->status; i++)
        sum = emit_binary(low, mean ? BINARY_ADD : (binary_kind)kind, sum, need(low, i));
    if (mean)
        sum = emit_binary(low, BINARY_DIV, sum, const_like(low, sum, (double)count));
    else if (count == 1)
        sum = emit(low, OP_IDENTITY, NULL, VALUES(sum));
    give(low, 0, sum);
}

static void lower_unary(lowering *low, int kind)
{
    give(low, 0, emit_unary(low, (unary_kind)kind, 0, 0, need(low, 0)));
}

/* The least integer of a type has no opposite there. */
static void lower_sign_change(lowering *low, int kind)
{
    give(low, 0, emit_wrapped(low, emit_unary(low, (unary_kind)kind, 0, 0, need(low, 0))));
}

static void lower_is_inf(lowering *low, int kind)
{
    (void)kind;
    const bool positive = attribute_int(low, "detect_positive", 1);
    const bool negative = attribute_int(low, "detect_negative", 1);
    give(low, 0, emit_unary(low, UNARY_IS_INF, positive, negative, need(low, 0)));
}

/* ~x is x ^ -1, in the width of its type. */
static void lower_bit_not(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0);
    const pal_dtype dtype = value_dtype(low, x);
    const size_t flipped = emit_binary(low, BINARY_BIT_XOR, x, const_int(low, -1));
    give(low, 0, emit_cast(low, flipped, dtype));
}

static void lower_clip(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0);
    if (low->opset >= 11) {
        give(low, 0, emit(low, OP_CLIP, NULL, VALUES(x, want(low, 1), want(low, 2))));
        return;
    }
    const size_t least =
        attribute(low, "min") ? const_float(low, attribute_float(low, "min", 0)) : GRAPH_NONE;
    const size_t most =
        attribute(low, "max") ? const_float(low, attribute_float(low, "max", 0)) : GRAPH_NONE;
    give(low, 0, emit(low, OP_CLIP, NULL, VALUES(x, least, most)));
}

static void lower_where(lowering *low, int kind)
{
    (void)kind;
    give(low, 0, emit(low, OP_SELECT, NULL, VALUES(need(low, 0), need(low, 1), need(low, 2))));
}

/* ---------------------------------------------------------------- casts */

/* A cast to a type of the file, booleans among them. */
static size_t cast_to(lowering *low, size_t x, int32_t onnx_type)
{
    graph_type type;
    pal_dtype dtype;
    if (!type_of_dtype(onnx_type, &type, &dtype)) {
        low_fail(low, PAL_ERROR_UNSUPPORTED, "it casts to type %d", onnx_type);
        return GRAPH_NONE;
    }
    if (type != GRAPH_BOOL)
        return emit_cast(low, x, dtype);
    return value_type(low, x) == GRAPH_BOOL
               ? emit(low, OP_IDENTITY, NULL, VALUES(x))
               : emit_binary(low, BINARY_NOT_EQUAL, x, const_like(low, x, 0));
}

static void lower_cast(lowering *low, int kind)
{
    (void)kind;
    give(low, 0, cast_to(low, need(low, 0), (int32_t)attribute_int(low, "to", 0)));
}

static void lower_cast_like(lowering *low, int kind)
{
    (void)kind;
    enum { BOOL_TYPE = 9 };
    const size_t like = need(low, 1);
    give(low, 0,
         cast_to(low, need(low, 0),
                 value_type(low, like) == GRAPH_BOOL ? BOOL_TYPE
                                                     : onnx_from_dtype(value_dtype(low, like))));
}

/* ---------------------------------------------------------------- nothing */

static void lower_identity(lowering *low, int kind)
{
    (void)kind;
    give(low, 0, emit(low, OP_IDENTITY, NULL, VALUES(need(low, 0))));
}

/* Which part is dropped; NAN if that is computed, which only matters in training. */
static float dropout_ratio(lowering *low)
{
    const size_t input = low->opset < 12 ? GRAPH_NONE : want(low, 1);
    if (input == GRAPH_NONE)
        return attribute_float(low, "ratio", 0.5F);
    const graph_value *ratio = &low->graph->values[input];
    return ratio->constant && ratio->type == GRAPH_FLOAT && ratio->constant->elements == 1
               ? *(const float *)ratio->constant->data
               : NAN;
}

/* The mask that comes with it, where no one is dropped, is true everywhere. */
static void lower_dropout(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.dropout = {dropout_ratio(low)}};
    const size_t x = need(low, 0);
    give(low, 0, emit(low, OP_DROPOUT, &attributes, VALUES(x)));
    if (has_output(low, 1)) {
        const size_t shape = emit_shape(low, x, 0, INT64_MAX);
        const size_t ones = emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(shape, const_int(low, 1)));
        give(low, 1, emit_binary(low, BINARY_NOT_EQUAL, ones, const_int(low, 0)));
    }
}

const onnx_operator elementwise_operators[] = {
    {"Add", lower_arithmetic, BINARY_ADD},
    {"Sub", lower_arithmetic, BINARY_SUB},
    {"Mul", lower_arithmetic, BINARY_MUL},
    {"Div", lower_arithmetic, BINARY_DIV},
    {"Pow", lower_pow, 0},
    {"Mod", lower_mod, 0},
    {"And", lower_binary, BINARY_AND},
    {"Or", lower_binary, BINARY_OR},
    {"Xor", lower_binary, BINARY_XOR},
    {"Equal", lower_binary, BINARY_EQUAL},
    {"Less", lower_binary, BINARY_LESS},
    {"LessOrEqual", lower_binary, BINARY_LESS_EQUAL},
    {"Greater", lower_binary, BINARY_GREATER},
    {"GreaterOrEqual", lower_binary, BINARY_GREATER_EQUAL},
    {"BitwiseAnd", lower_binary, BINARY_BIT_AND},
    {"BitwiseOr", lower_binary, BINARY_BIT_OR},
    {"BitwiseXor", lower_binary, BINARY_BIT_XOR},
    {"BitwiseNot", lower_bit_not, 0},
    {"BitShift", lower_shift, 0},
    {"Sum", lower_several, BINARY_ADD},
    {"Min", lower_several, BINARY_MIN},
    {"Max", lower_several, BINARY_MAX},
    {"Mean", lower_several, -1},
    {"Abs", lower_sign_change, UNARY_ABS},
    {"Neg", lower_sign_change, UNARY_NEG},
    {"Sign", lower_unary, UNARY_SIGN},
    {"Exp", lower_unary, UNARY_EXP},
    {"Log", lower_unary, UNARY_LOG},
    {"Sqrt", lower_unary, UNARY_SQRT},
    {"Reciprocal", lower_unary, UNARY_RECIPROCAL},
    {"Erf", lower_unary, UNARY_ERF},
    {"Floor", lower_unary, UNARY_FLOOR},
    {"Ceil", lower_unary, UNARY_CEIL},
    {"Round", lower_unary, UNARY_ROUND},
    {"Sin", lower_unary, UNARY_SIN},
    {"Cos", lower_unary, UNARY_COS},
    {"Tan", lower_unary, UNARY_TAN},
    {"Asin", lower_unary, UNARY_ASIN},
    {"Acos", lower_unary, UNARY_ACOS},
    {"Atan", lower_unary, UNARY_ATAN},
    {"Sinh", lower_unary, UNARY_SINH},
    {"Cosh", lower_unary, UNARY_COSH},
    {"Asinh", lower_unary, UNARY_ASINH},
    {"Acosh", lower_unary, UNARY_ACOSH},
    {"Atanh", lower_unary, UNARY_ATANH},
    {"Not", lower_unary, UNARY_NOT},
    {"IsNaN", lower_unary, UNARY_IS_NAN},
    {"IsInf", lower_is_inf, 0},
    {"Clip", lower_clip, 0},
    {"Where", lower_where, 0},
    {"Cast", lower_cast, 0},
    {"CastLike", lower_cast_like, 0},
    {"Identity", lower_identity, 0},
    {"Dropout", lower_dropout, 0},
    {0},
};
