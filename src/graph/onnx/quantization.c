/* Numbers that are quantized and back, by arithmetic on floats: a runtime that computes in integers
 * rounds elsewhere. */
#include "graph/onnx/lowering.h"

/* Scales along an axis in the rank of x, so that they broadcast: a vector's shape becomes 1 in all
 * dimensions but one. A single number stays. */
static size_t along(lowering *low, size_t values, size_t x, int64_t axis)
{
    const graph_tensor *constant =
        values == GRAPH_NONE ? NULL : low->graph->values[values].constant;
    if (low->status || values == GRAPH_NONE || (constant && constant->elements == 1)) {
        const int64_t none = 0;
        return low->status || values == GRAPH_NONE
                   ? values
                   : emit_reshape(low, values, const_ints(low, &none, 0));
    }
    if (constant && constant->rank != 1) {
        low_fail(low, PAL_ERROR_UNSUPPORTED, "blocks of scales");
        return GRAPH_NONE;
    }
    if (!constant) /* its rank is not known here: a single number is what exporters write */
        return values;
    const int64_t rest = -1;
    const size_t rank = emit_shape(low, emit_shape(low, x, 0, INT64_MAX), 0, INT64_MAX);
    const size_t ones = emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(rank, const_int(low, 1)));
    const op_attributes put = {.scatter = {0}};
    const size_t shape = emit(low, OP_SCATTER_ELEMENTS, &put,
                              VALUES(ones, const_ints(low, &axis, 1), const_ints(low, &rest, 1)));
    return emit_reshape(low, values, shape);
}

static void lower_dequantize(lowering *low, int kind)
{
    (void)kind;
    const int64_t axis = attribute_int(low, "axis", 1);
    const size_t x = need(low, 0), zero = want(low, 2);
    const size_t scale = along(low, need(low, 1), x, axis);
    if (attribute_int(low, "block_size", 0))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "blocks of scales");
    size_t values = emit_cast(low, x, PAL_FLOAT32);
    if (zero != GRAPH_NONE)
        values = emit_binary(low, BINARY_SUB, values,
                             emit_cast(low, along(low, zero, x, axis), PAL_FLOAT32));
    give(low, 0, emit_binary(low, BINARY_MUL, values, scale));
}

/* The range of an integer type of up to 16 bits. */
static bool range_of(pal_dtype dtype, float *least, float *most)
{
    switch (dtype) {
    case PAL_INT4: *least = -8, *most = 7; return true;
    case PAL_UINT4: *least = 0, *most = 15; return true;
    case PAL_INT8: *least = -128, *most = 127; return true;
    case PAL_UINT8: *least = 0, *most = 255; return true;
    case PAL_INT16: *least = -32768, *most = 32767; return true;
    case PAL_UINT16: *least = 0, *most = 65535; return true;
    default: return false;
    }
}

static void lower_quantize(lowering *low, int kind)
{
    (void)kind;
    const int64_t axis = attribute_int(low, "axis", 1);
    const size_t x = need(low, 0), zero = want(low, 2);
    const size_t scale = along(low, need(low, 1), x, axis);
    graph_type type;
    pal_dtype dtype = zero == GRAPH_NONE ? PAL_UINT8 : value_dtype(low, zero);
    const int32_t asked = (int32_t)attribute_int(low, "output_dtype", 0);
    float least = 0, most = 0;
    if (asked && zero == GRAPH_NONE)
        type_of_dtype(asked, &type, &dtype);
    if (!range_of(dtype, &least, &most) || attribute_int(low, "block_size", 0))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "quantization to %s", pal_dtype_name(dtype));
    size_t values = emit_binary(low, BINARY_DIV, emit_cast(low, x, PAL_FLOAT32), scale);
    values = emit_unary(low, UNARY_ROUND, 0, 0, values);
    if (zero != GRAPH_NONE)
        values = emit_binary(low, BINARY_ADD, values,
                             emit_cast(low, along(low, zero, x, axis), PAL_FLOAT32));
    values = emit_unary(low, UNARY_CLIP, least, most, values);
    give(low, 0, emit_cast(low, values, dtype));
}

const onnx_operator quantization_operators[] = {
    {"DequantizeLinear", lower_dequantize, 0},
    {"QuantizeLinear", lower_quantize, 0},
    {0},
};
