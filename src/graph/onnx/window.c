/* Convolutions and pools. */
#include "graph/onnx/lowering.h"

/* Attributes of one node have numbers for equally many dimensions. */
static void check_spatial(lowering *low, const char *name, size_t spatial, window *to)
{
    if (spatial && to->spatial && spatial != to->spatial)
        low_fail(low, PAL_ERROR_FORMAT,
                 "its attribute %s is for %zu spatial dimensions, another for %zu", name, spatial,
                 to->spatial);
    if (spatial)
        to->spatial = spatial;
}

/* The numbers of an attribute, one for each spatial dimension; where it is not given, `otherwise`.
 */
static void read_extents(lowering *low, const char *name, int64_t otherwise, int64_t *out,
                         window *to)
{
    for (size_t d = 0; d < GRAPH_MAX_SPATIAL; d++)
        out[d] = otherwise;
    const size_t count = attribute_ints(low, name, out, GRAPH_MAX_SPATIAL);
    check_spatial(low, name, count == NONE ? 0 : count, to);
}

static void read_pads(lowering *low, window *to)
{
    int64_t pads[2 * GRAPH_MAX_SPATIAL];
    size_t count = attribute_ints(low, "pads", pads, 2 * GRAPH_MAX_SPATIAL);
    count = count == NONE ? 0 : count;
    if (count % 2)
        low_fail(low, PAL_ERROR_FORMAT,
                 "its attribute pads has %zu numbers, not two for each of its dimensions", count);
    check_spatial(low, "pads", count / 2, to);
    for (size_t d = 0; d < count / 2; d++) {
        to->pad_begin[d] = pads[d];
        to->pad_end[d] = pads[count / 2 + d];
    }
}

window read_window(lowering *low)
{
    static const char *const rules[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", NULL};
    static const pad_rule meanings[] = {PAD_EXPLICIT, PAD_VALID, PAD_SAME_UPPER, PAD_SAME_LOWER};
    window window = {.groups = attribute_int(low, "group", 1)};
    window.rule = meanings[attribute_choice(low, "auto_pad", 0, rules)];
    read_extents(low, "kernel_shape", 0, window.kernel, &window);
    read_extents(low, "strides", 1, window.stride, &window);
    read_extents(low, "dilations", 1, window.dilation, &window);
    read_extents(low, "output_padding", 0, window.output_padding, &window);
    read_extents(low, "output_shape", 0, window.output_shape, &window);
    read_pads(low, &window);
    return window;
}

static void lower_conv(lowering *low, int kind)
{
    const op_attributes attributes = {.window = read_window(low)};
    give(low, 0,
         emit(low, (graph_op)kind, &attributes, VALUES(need(low, 0), need(low, 1), want(low, 2))));
}

/* The exponent of a norm, which was no integer at first. */
static int64_t read_norm(lowering *low)
{
    const Onnx__Attribute *p = attribute(low, "p");
    if (p && p->has_f)
        low_fail(low, PAL_ERROR_UNSUPPORTED, "norm %g", (double)p->f);
    return attribute_int(low, "p", 2);
}

static void lower_pool(lowering *low, int kind)
{
    op_attributes attributes = {.window = read_window(low)};
    size_t results[2];
    attributes.pool.kind = kind;
    attributes.pool.ceil = attribute_int(low, "ceil_mode", 0) != 0;
    attributes.pool.include_pads = attribute_int(low, "count_include_pad", 0) != 0;
    attributes.pool.p = read_norm(low);
    attributes.pool.column_major = attribute_int(low, "storage_order", 0) != 0;
    const size_t x = need(low, 0);
    /* Bytes are exact as floats; other integers are not maximised. */
    const bool bytes = value_type(low, x) == GRAPH_INT;
    const size_t floats = bytes ? emit_cast(low, x, PAL_FLOAT32) : x;
    emit_all(low, OP_POOL, &attributes, VALUES(floats), results, has_output(low, 1) ? 2 : 1);
    give(low, 0, bytes ? emit_cast(low, results[0], value_dtype(low, x)) : results[0]);
    if (has_output(low, 1))
        give(low, 1, results[1]);
}

static void lower_global(lowering *low, int kind)
{
    op_attributes attributes = {0};
    attributes.pool.kind = kind;
    attributes.pool.global = true;
    attributes.pool.p = read_norm(low);
    give(low, 0, emit(low, OP_POOL, &attributes, VALUES(need(low, 0))));
}

const onnx_operator window_operators[] = {
    {"Conv", lower_conv, OP_CONV},
    {"ConvTranspose", lower_conv, OP_CONV_TRANSPOSE},
    {"MaxPool", lower_pool, POOL_MAX},
    {"AveragePool", lower_pool, POOL_AVERAGE},
    {"LpPool", lower_pool, POOL_LP},
    {"GlobalMaxPool", lower_global, POOL_MAX},
    {"GlobalAveragePool", lower_global, POOL_AVERAGE},
    {"GlobalLpPool", lower_global, POOL_LP},
    {0},
};
