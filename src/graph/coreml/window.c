/* Convolutions and pools. */
#include <string.h>

#include "graph/coreml/lowering.h"

/* As the rules below. */
static const char *const pad_types[] = {"custom", "valid", "same", "same_lower", NULL};
static const pad_rule pad_rules[] = {PAD_EXPLICIT, PAD_VALID, PAD_SAME_UPPER, PAD_SAME_LOWER};

static void spread(int64_t *numbers, size_t from)
{
    for (size_t i = from; i < GRAPH_MAX_SPATIAL; i++)
        numbers[i] = 1;
}

static size_t read_extents(lowering *low, const char *key, size_t spatial, int64_t *numbers)
{
    const size_t count = mil_param_ints(low, key, numbers, GRAPH_MAX_SPATIAL);
    if (mil_is_given(low, key) && count != spatial)
        mil_fail(low, PAL_ERROR_FORMAT, "its %s are %zu numbers for %zu dimensions", key, count,
                 spatial);
    return count;
}

/* How many spatial dimensions, and the window's parameters. */
static size_t read_window(lowering *low, window *out)
{
    int64_t pads[2 * GRAPH_MAX_SPATIAL];
    const size_t rank = mil_type_of(low, "x").rank, spatial = rank - 2;
    *out = (window){.groups = mil_param_int(low, "groups", 1)};
    if (rank < 3 || rank > 2 + GRAPH_MAX_SPATIAL) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "an input of %zu dimensions", rank);
        return 0;
    }
    spread(out->stride, read_extents(low, "strides", spatial, out->stride));
    spread(out->dilation, read_extents(low, "dilations", spatial, out->dilation));
    out->rule = pad_rules[mil_param_choice(low, "pad_type", 1, pad_types)];
    /* Pads are in the file even where the rule does without them. */
    if (out->rule != PAD_EXPLICIT)
        return spatial;
    const size_t count = mil_param_ints(low, "pad", pads, 2 * GRAPH_MAX_SPATIAL);
    if (count && count != 2 * spatial)
        mil_fail(low, PAL_ERROR_FORMAT, "its pads are %zu numbers for %zu dimensions", count,
                 spatial);
    for (size_t i = 0; i < count / 2; i++) {
        out->pad_begin[i] = pads[2 * i];
        out->pad_end[i] = pads[2 * i + 1];
    }
    return spatial;
}

static void lower_conv(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {0};
    const size_t x = mil_need(low, "x"), weight = mil_need(low, "weight"),
                 bias = mil_want(low, "bias");
    read_window(low, &attributes.window);
    mil_give(low, 0, mil_emit(low, OP_CONV, &attributes, VALUES(x, weight, bias)));
}

/* ---------------------------------------------------------------- transposed convolutions */

/* The result's extents are given: what that means for pads, where the input's are known. As many
 * elements as the pads' rule says are cut at the beginning, the rest at the end. */
static void fit_output(lowering *low, size_t spatial, window *w)
{
    const mil_type x = mil_type_of(low, "x"), weight = mil_type_of(low, "weight");
    int64_t wanted[PAL_MAX_RANK];
    const size_t count = mil_param_ints(low, "output_shape", wanted, PAL_MAX_RANK);
    if (low->status || !count)
        return;
    if (count != spatial + 2 || weight.rank != spatial + 2) {
        mil_fail(low, PAL_ERROR_FORMAT, "an output shape of %zu dimensions", count);
        return;
    }
    const bool same = w->rule == PAD_SAME_UPPER || w->rule == PAD_SAME_LOWER;
    for (size_t i = 0; i < spatial; i++) {
        const int64_t in = x.shape[i + 2], kernel = weight.shape[i + 2], out = wanted[i + 2];
        int64_t full, reach;
        w->output_shape[i] = out;
        if (same || in < 1 || kernel < 1 || __builtin_mul_overflow(in - 1, w->stride[i], &full) ||
            __builtin_mul_overflow(kernel - 1, w->dilation[i], &reach) ||
            __builtin_add_overflow(full, reach, &full) ||
            __builtin_add_overflow(full, 1 - w->pad_begin[i], &full))
            continue; /* the graph's own rule for a given extent */
        w->output_shape[i] = 0;
        w->rule = PAD_EXPLICIT;
        w->pad_end[i] = full > out ? full - out : 0;
        w->output_padding[i] = out > full ? out - full : 0;
    }
}

static void lower_conv_transpose(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {0};
    const size_t x = mil_need(low, "x"), weight = mil_need(low, "weight"),
                 bias = mil_want(low, "bias");
    const size_t spatial = read_window(low, &attributes.window);
    fit_output(low, spatial, &attributes.window);
    mil_give(low, 0, mil_emit(low, OP_CONV_TRANSPOSE, &attributes, VALUES(x, weight, bias)));
}

/* ---------------------------------------------------------------- pools */

static void lower_pool(lowering *low, int kind)
{
    op_attributes attributes = {0};
    const size_t x = mil_need(low, "x");
    const size_t spatial = read_window(low, &attributes.window);
    read_extents(low, "kernel_sizes", spatial, attributes.window.kernel);
    if (!mil_is_given(low, "kernel_sizes"))
        mil_fail(low, PAL_ERROR_FORMAT, "its input kernel_sizes is missing");
    attributes.pool.kind = kind;
    attributes.pool.p = 2;
    attributes.pool.ceil = mil_param_bool(low, "ceil_mode", false);
    attributes.pool.include_pads = !mil_param_bool(low, "exclude_padding_from_average", false);
    mil_give(low, 0, mil_emit(low, OP_POOL, &attributes, VALUES(x)));
}

const mil_operator mil_window_operators[] = {
    {"conv", lower_conv, 0},
    {"conv_transpose", lower_conv_transpose, 0},
    {"avg_pool", lower_pool, POOL_AVERAGE},
    {"max_pool", lower_pool, POOL_MAX},
    {"l2_pool", lower_pool, POOL_LP},
    {NULL, NULL, 0},
};
