/* Convolutions and pools. */
#include <string.h>

#include "graph/inference.h"

/* Attributes are below this, so that sums and products of a few of them fit. */
#define MOST ((int64_t)1 << 31)

static pal_status read_window(const graph_node *node, const graph_value *x,
                              const graph_value *weight, window_geometry *out)
{
    const window *w = &node->attributes.window;
    *out = (window_geometry){.spatial = x->rank - 2};
    if (w->spatial && w->spatial != out->spatial)
        return infer_fail(node, "its attributes are for %zu spatial dimensions, its input has %zu",
                          w->spatial, out->spatial);
    for (size_t i = 0; i < out->spatial; i++) {
        out->input[i] = x->shape[i + 2];
        out->kernel[i] = weight ? weight->shape[i + 2] : w->kernel[i];
        out->stride[i] = w->stride[i];
        out->dilation[i] = w->dilation[i];
        if (weight && w->kernel[i] && w->kernel[i] != out->kernel[i])
            return infer_fail(node, "its kernel is %lld by attribute and %lld by weight",
                              (long long)w->kernel[i], (long long)out->kernel[i]);
        if (out->kernel[i] < 1 || out->stride[i] < 1 || out->dilation[i] < 1 ||
            out->kernel[i] > MOST || out->stride[i] > MOST || out->dilation[i] > MOST)
            return infer_fail(node, "kernel %lld, stride %lld, dilation %lld",
                              (long long)out->kernel[i], (long long)out->stride[i],
                              (long long)out->dilation[i]);
        if (w->rule == PAD_EXPLICIT) {
            out->pad_begin[i] = w->pad_begin[i];
            out->pad_end[i] = w->pad_end[i];
            if (out->pad_begin[i] < 0 || out->pad_end[i] < 0 || out->pad_begin[i] > MOST ||
                out->pad_end[i] > MOST)
                return infer_fail(node, "pads %lld and %lld", (long long)out->pad_begin[i],
                                  (long long)out->pad_end[i]);
        }
    }
    return PAL_OK;
}

/* What the kernel covers. */
static int64_t reach(const window_geometry *g, size_t i)
{
    return (g->kernel[i] - 1) * g->dilation[i] + 1;
}

static pal_status set_forward(const graph_node *node, window_geometry *g, size_t i, bool ceil)
{
    const pad_rule rule = node->attributes.window.rule;
    if (rule == PAD_SAME_UPPER || rule == PAD_SAME_LOWER) {
        g->output[i] = (g->input[i] + g->stride[i] - 1) / g->stride[i];
        int64_t total = (g->output[i] - 1) * g->stride[i] + reach(g, i) - g->input[i];
        total = total > 0 ? total : 0;
        g->pad_begin[i] = rule == PAD_SAME_UPPER ? total / 2 : total - total / 2;
        g->pad_end[i] = total - g->pad_begin[i];
        return PAL_OK;
    }
    const int64_t padded = g->input[i] + g->pad_begin[i] + g->pad_end[i];
    if (padded < reach(g, i))
        return infer_fail(node, "its window of %lld is larger than its padded input of %lld",
                          (long long)reach(g, i), (long long)padded);
    g->output[i] = (padded - reach(g, i) + (ceil ? g->stride[i] - 1 : 0)) / g->stride[i] + 1;
    /* No window begins in the padding at the end. */
    if (ceil && (g->output[i] - 1) * g->stride[i] >= g->input[i] + g->pad_begin[i])
        g->output[i]--;
    return PAL_OK;
}

static pal_status set_transposed(const graph_node *node, window_geometry *g, size_t i)
{
    const window *w = &node->attributes.window;
    const bool same = w->rule == PAD_SAME_UPPER || w->rule == PAD_SAME_LOWER;
    const int64_t extra = w->output_padding[i], wanted = w->output_shape[i];
    int64_t full, plain;
    if (extra < 0 || extra > MOST || wanted < 0 || wanted > MOST)
        return infer_fail(node, "output padding %lld, output extent %lld", (long long)extra,
                          (long long)wanted);
    if (g->input[i] < 1 || __builtin_mul_overflow(g->input[i] - 1, g->stride[i], &plain) ||
        __builtin_add_overflow(plain, reach(g, i), &plain) ||
        __builtin_add_overflow(plain, extra, &full))
        return infer_fail(node, "an input of extent %lld", (long long)g->input[i]);
    if (wanted || same) {
        if (!wanted && __builtin_mul_overflow(g->input[i], g->stride[i], &g->output[i]))
            return infer_fail(node, "its result is too large");
        if (wanted)
            g->output[i] = wanted;
        const int64_t cut = full > g->output[i] ? full - g->output[i] : 0;
        g->pad_begin[i] = w->rule == PAD_SAME_UPPER ? cut / 2 : cut - cut / 2;
    } else {
        g->output[i] = full - g->pad_begin[i] - g->pad_end[i];
        if (g->output[i] < 1)
            return infer_fail(node, "its pads cut all of its result");
    }
    g->pad_end[i] = plain - g->pad_begin[i] - g->output[i];
    return PAL_OK;
}

pal_status resolve_window(const graph_node *node, const graph_value *x, const graph_value *weight,
                          window_geometry *out)
{
    const bool pool = node->op == OP_POOL;
    if (x->rank < 3 || x->rank > 2 + GRAPH_MAX_SPATIAL)
        return graph_node_failed(
            node, fail(PAL_ERROR_UNSUPPORTED, "an input of %zu dimensions", x->rank));
    if (weight && weight->rank != x->rank)
        return infer_fail(node, "its weight has %zu dimensions, its input %zu", weight->rank,
                          x->rank);
    if (pool && node->attributes.pool.global) {
        *out = (window_geometry){.spatial = x->rank - 2};
        for (size_t i = 0; i < out->spatial; i++) {
            out->input[i] = out->kernel[i] = x->shape[i + 2];
            out->stride[i] = out->dilation[i] = out->output[i] = 1;
        }
        return PAL_OK;
    }
    pal_status status = read_window(node, x, weight, out);
    for (size_t i = 0; !status && i < out->spatial; i++)
        status = node->op == OP_CONV_TRANSPOSE
                     ? set_transposed(node, out, i)
                     : set_forward(node, out, i, pool && node->attributes.pool.ceil);
    return status;
}

static pal_status set_result(const graph_node *node, const graph_value *x, int64_t channels,
                             const window_geometry *g, graph_value *out)
{
    int64_t shape[2 + GRAPH_MAX_SPATIAL] = {x->shape[0], channels};
    memcpy(shape + 2, g->output, g->spatial * sizeof *shape);
    return infer_set(node, out, x->rank, shape);
}

pal_status infer_conv(const graph_node *node, const graph_value *const *inputs,
                      graph_value *outputs)
{
    const graph_value *x = inputs[0], *w = inputs[1];
    const int64_t groups = node->attributes.window.groups;
    window_geometry g;
    pal_status status = resolve_window(node, x, w, &g);
    if (status)
        return status;
    if (groups < 1 || groups > x->shape[1] || x->shape[1] % groups || w->shape[0] % groups ||
        w->shape[1] != x->shape[1] / groups)
        return infer_fail(node,
                          "an input of %lld channels, a weight of %lld x %lld and %lld groups",
                          (long long)x->shape[1], (long long)w->shape[0], (long long)w->shape[1],
                          (long long)groups);
    status = infer_expect_vector(node, "bias", infer_input(node, inputs, 2), w->shape[0]);
    return status ? status : set_result(node, x, w->shape[0], &g, &outputs[0]);
}

pal_status infer_conv_transpose(const graph_node *node, const graph_value *const *inputs,
                                graph_value *outputs)
{
    const graph_value *x = inputs[0], *w = inputs[1];
    const int64_t groups = node->attributes.window.groups;
    int64_t channels;
    window_geometry g;
    pal_status status = resolve_window(node, x, w, &g);
    if (status)
        return status;
    if (groups < 1 || groups > x->shape[1] || x->shape[1] % groups || w->shape[0] != x->shape[1] ||
        __builtin_mul_overflow(w->shape[1], groups, &channels))
        return infer_fail(node,
                          "an input of %lld channels, a weight of %lld x %lld and %lld groups",
                          (long long)x->shape[1], (long long)w->shape[0], (long long)w->shape[1],
                          (long long)groups);
    status = infer_expect_vector(node, "bias", infer_input(node, inputs, 2), channels);
    return status ? status : set_result(node, x, channels, &g, &outputs[0]);
}

pal_status infer_pool(const graph_node *node, const graph_value *const *inputs,
                      graph_value *outputs)
{
    window_geometry g;
    pal_status status = resolve_window(node, inputs[0], NULL, &g);
    if (!status && node->output_count > 1 && node->attributes.pool.kind != POOL_MAX)
        status = infer_fail(node, "only a maximum has indices");
    if (!status && node->attributes.pool.kind == POOL_LP && node->attributes.pool.p < 1)
        status = infer_fail(node, "norm %lld", (long long)node->attributes.pool.p);
    for (size_t i = 0; !status && i < node->output_count; i++)
        status = set_result(node, inputs[0], inputs[0]->shape[1], &g, &outputs[i]);
    return status;
}
