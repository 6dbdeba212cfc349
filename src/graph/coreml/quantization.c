/* Values quantized and dequantized while the model runs. */
#include "graph/coreml/lowering.h"

/* A number, or a vector along the axis, to be broadcast to the input. */
static size_t along_axis(lowering *low, const char *key)
{
    const size_t value = mil_want(low, key), rank = mil_type_of(low, "input").rank;
    int64_t axes[PAL_MAX_RANK];
    size_t count = 0;
    if (value == GRAPH_NONE || mil_type_of(low, key).rank == 0)
        return value;
    const size_t axis = mil_param_axis(low, "axis", (int64_t)rank, rank);
    for (size_t d = axis + 1; d < rank; d++, count++)
        axes[count] = (int64_t)count + 1;
    return count ? mil_emit_unsqueeze(low, value, axes, count) : value;
}

/* scale (x - zero point) */
static void lower_dequantize(lowering *low, int kind)
{
    (void)kind;
    size_t x = mil_emit_cast(low, mil_need(low, "input"), PAL_FLOAT32);
    const size_t zero = along_axis(low, "zero_point");
    if (zero != GRAPH_NONE)
        x = mil_emit_binary(low, BINARY_SUB, x, zero);
    if (!mil_is_given(low, "scale"))
        mil_fail(low, PAL_ERROR_FORMAT, "its input scale is missing");
    mil_give(low, 0, mil_emit_binary(low, BINARY_MUL, x, along_axis(low, "scale")));
}

/* x / scale, rounded, plus the zero point, in the range of the type */
static void lower_quantize(lowering *low, int kind)
{
    static const char *const types[] = {"int8", "uint8", NULL};
    (void)kind;
    const size_t x = mil_need(low, "input"), zero = along_axis(low, "zero_point");
    if (!mil_is_given(low, "scale") || !mil_is_given(low, "output_dtype"))
        mil_fail(low, PAL_ERROR_FORMAT, "its input scale or output_dtype is missing");
    const bool is_unsigned = mil_param_choice(low, "output_dtype", 0, types) == 1;
    const size_t scaled = mil_emit_binary(low, BINARY_DIV, x, along_axis(low, "scale"));
    size_t whole = mil_emit_unary(low, UNARY_ROUND, 0, 0, scaled);
    if (zero != GRAPH_NONE)
        whole = mil_emit_binary(low, BINARY_ADD, whole, zero);
    const size_t within =
        mil_emit_unary(low, UNARY_CLIP, is_unsigned ? 0 : -128, is_unsigned ? 255 : 127, whole);
    mil_give(low, 0, mil_emit_cast(low, within, is_unsigned ? PAL_UINT8 : PAL_INT8));
}

const mil_operator mil_quantization_operators[] = {
    {"dequantize", lower_dequantize, 0},
    {"quantize", lower_quantize, 0},
    {NULL, NULL, 0},
};
