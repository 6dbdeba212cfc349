/* Numbers that are quantized and back, by arithmetic on floats: a runtime that computes in integers
 * rounds elsewhere. */
#include "graph/onnx/lowering.h"

/* ---------------------------------------------------------------- scales and zero points */

/* A vector of scales or zero points along an axis of x, in a shape that broadcasts to it: 1 in all
 * dimensions but that one. Whether it is a vector or a single number is not known here: the latter
 * becomes 1 in all dimensions. */
static size_t along(lowering *low, size_t values, size_t x, int64_t axis)
{
    const int64_t rest = -1, last = 1;
    const graph_tensor *constant =
        low->status || values == GRAPH_NONE ? NULL : low->graph->values[values].constant;
    if (low->status || values == GRAPH_NONE)
        return values;
    if (constant && constant->elements == 1)
        return emit_reshape(low, values, const_ints(low, &rest, 0));
    const size_t rank = emit_shape(low, emit_shape(low, x, 0, INT64_MAX), 0, INT64_MAX);
    /* The default axis of a single number may lie beyond x. */
    const size_t within =
        emit_binary(low, BINARY_MIN, const_ints(low, &axis, 1),
                    emit_binary(low, BINARY_SUB, rank, const_ints(low, &last, 1)));
    const size_t ones = emit_filled(low, rank, const_int(low, 1));
    const op_attributes put = {.scatter = {0}};
    const size_t shape =
        emit(low, OP_SCATTER_ELEMENTS, &put, VALUES(ones, within, const_ints(low, &rest, 1)));
    return emit_reshape(low, values, shape);
}

/* One for each block of x along the axis, repeated for the elements of the block. */
static size_t of_blocks(lowering *low, size_t values, size_t x, int64_t axis, int64_t size)
{
    if (values == GRAPH_NONE)
        return values;
    const size_t places = emit_count(low, emit_length(low, x, axis));
    return emit_gather(low, values, emit_binary(low, BINARY_DIV, places, const_int(low, size)),
                       axis);
}

/* The i-th input as the node's axis and block size lay it over x, as floats; it may be left out. */
static size_t parameter(lowering *low, size_t i, size_t x)
{
    const int64_t axis = attribute_int(low, "axis", 1), size = attribute_int(low, "block_size", 0);
    const size_t values = want(low, i);
    if (size < 0)
        low_fail(low, PAL_ERROR_FORMAT, "blocks of %lld", (long long)size);
    if (values == GRAPH_NONE || low->status)
        return GRAPH_NONE;
    return emit_cast(low,
                     size ? of_blocks(low, values, x, axis, size) : along(low, values, x, axis),
                     PAL_FLOAT32);
}

/* x minus its zero point, as floats: exact up to 2^24. */
static size_t centred(lowering *low, size_t x, size_t zero)
{
    const size_t values = emit_cast(low, x, PAL_FLOAT32);
    return zero == GRAPH_NONE
               ? values
               : emit_binary(low, BINARY_SUB, values, emit_cast(low, zero, PAL_FLOAT32));
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

/* round(x) + zero, cut off at the range of the type. */
static size_t quantized(lowering *low, size_t x, size_t zero, pal_dtype dtype)
{
    float least = 0, most = 0;
    if (!range_of(dtype, &least, &most))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "quantization to %s", pal_dtype_name(dtype));
    size_t values = emit_unary(low, UNARY_ROUND, 0, 0, x);
    if (zero != GRAPH_NONE)
        values = emit_binary(low, BINARY_ADD, values, emit_cast(low, zero, PAL_FLOAT32));
    return emit_cast(low, emit_unary(low, UNARY_CLIP, least, most, values), dtype);
}

/* ---------------------------------------------------------------- there and back */

static void lower_dequantize(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0);
    need(low, 1);
    const size_t scale = parameter(low, 1, x), zero = parameter(low, 2, x);
    give(low, 0, emit_binary(low, BINARY_MUL, centred(low, x, zero), scale));
}

static void lower_quantize(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0), given = want(low, 2);
    const int32_t asked = (int32_t)attribute_int(low, "output_dtype", 0);
    pal_dtype dtype = given == GRAPH_NONE ? PAL_UINT8 : value_dtype(low, given);
    graph_type type;
    if (asked && given == GRAPH_NONE && !type_of_dtype(asked, &type, &dtype))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "quantization to type %d", (int)asked);
    need(low, 1);
    const size_t scale = parameter(low, 1, x), zero = parameter(low, 2, x);
    const size_t scaled = emit_binary(low, BINARY_DIV, emit_cast(low, x, PAL_FLOAT32), scale);
    give(low, 0, quantized(low, scaled, zero, dtype));
}

/* To uint8, by the range of x together with 0: x, its scale and its zero point. */
static void lower_dynamic(lowering *low, int kind)
{
    (void)kind;
    const size_t x = need(low, 0), nothing = const_float(low, 0);
    const size_t least =
        emit_binary(low, BINARY_MIN, nothing, emit_reduce(low, REDUCE_MIN, x, GRAPH_NONE, false));
    const size_t most =
        emit_binary(low, BINARY_MAX, nothing, emit_reduce(low, REDUCE_MAX, x, GRAPH_NONE, false));
    const size_t range = emit_binary(low, BINARY_SUB, most, least);
    const size_t step = emit_binary(low, BINARY_DIV, range, const_float(low, 255));
    const size_t scale =
        emit_select(low, emit_binary(low, BINARY_EQUAL, range, nothing), const_float(low, 1), step);
    const size_t shift =
        emit_unary(low, UNARY_NEG, 0, 0, emit_binary(low, BINARY_DIV, least, scale));
    const size_t zero = quantized(low, shift, GRAPH_NONE, PAL_UINT8);
    give(low, 0, quantized(low, emit_binary(low, BINARY_DIV, x, scale), zero, PAL_UINT8));
    give(low, 1, scale);
    give(low, 2, zero);
}

/* ---------------------------------------------------------------- products of integers */

/* Zero points of the rows of a matrix: a number, or one for each. */
static size_t of_rows(lowering *low, size_t values, size_t matrix)
{
    return along(low, values, matrix, -2);
}

/* Sums are floats: exact up to 2^24, which is 258 products of bytes, beyond that to 1e-7. */
static void lower_matmul_integer(lowering *low, int kind)
{
    (void)kind;
    const size_t a = need(low, 0), b = need(low, 1);
    const size_t product = emit_matmul(low, centred(low, a, of_rows(low, want(low, 2), a)),
                                       centred(low, b, want(low, 3)), false);
    give(low, 0, emit_cast(low, product, PAL_INT32));
}

static void lower_conv_integer(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.window = read_window(low)};
    const size_t x = need(low, 0), w = need(low, 1);
    const size_t result = emit(
        low, OP_CONV, &attributes,
        VALUES(centred(low, x, want(low, 2)), centred(low, w, along(low, want(low, 3), w, 0))));
    give(low, 0, emit_cast(low, result, PAL_INT32));
}

/* A product of integers with its scales, brought to those of the result. */
static void give_scaled(lowering *low, size_t product, size_t a_scale, size_t b_scale,
                        size_t y_scale, size_t y_zero)
{
    const size_t scale =
        emit_binary(low, BINARY_DIV, emit_binary(low, BINARY_MUL, a_scale, b_scale), y_scale);
    give(low, 0,
         quantized(low, emit_binary(low, BINARY_MUL, product, scale), y_zero,
                   value_dtype(low, y_zero)));
}

/* a, its scale and zero point; b's; the result's. */
static void lower_qlinear_matmul(lowering *low, int kind)
{
    (void)kind;
    size_t in[8];
    for (size_t i = 0; i < 8; i++)
        in[i] = need(low, i);
    const size_t product = emit_matmul(low, centred(low, in[0], of_rows(low, in[2], in[0])),
                                       centred(low, in[3], in[5]), false);
    give_scaled(low, product, of_rows(low, in[1], product), in[4], of_rows(low, in[6], product),
                of_rows(low, in[7], product));
}

/* The same with x and w; the bias is in units of both scales. */
static void lower_qlinear_conv(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.window = read_window(low)};
    const size_t bias = want(low, 8);
    size_t in[8];
    for (size_t i = 0; i < 8; i++)
        in[i] = need(low, i);
    const size_t result =
        emit(low, OP_CONV, &attributes,
             VALUES(centred(low, in[0], in[2]), centred(low, in[3], along(low, in[5], in[3], 0)),
                    bias == GRAPH_NONE ? GRAPH_NONE : emit_cast(low, bias, PAL_FLOAT32)));
    give_scaled(low, result, in[1], along(low, in[4], result, 1), in[6], in[7]);
}

const onnx_operator quantization_operators[] = {
    {"DequantizeLinear", lower_dequantize, 0},   {"QuantizeLinear", lower_quantize, 0},
    {"DynamicQuantizeLinear", lower_dynamic, 0}, {"MatMulInteger", lower_matmul_integer, 0},
    {"ConvInteger", lower_conv_integer, 0},      {"QLinearMatMul", lower_qlinear_matmul, 0},
    {"QLinearConv", lower_qlinear_conv, 0},      {0},
};
