/* Convolutions and transposed convolutions of 1 to 3 dimensions, with groups. */
#include <string.h>

#include "engine/ops/compute.h"
#include "graph/infer.h"

typedef struct convolution {
    onednn_tensor src, weights, bias, dst;
    onednn_convolution description;
    layout *stored; /* how the weights lie in the graph's tensor; NULL: row-major */
} convolution;

static onednn_tensor tensor_of(const graph_value *value, bool any)
{
    onednn_tensor tensor = {.rank = value->rank, .form = any ? ONEDNN_ANY : ONEDNN_PLAIN};
    memcpy(tensor.shape, value->shape, value->rank * sizeof *tensor.shape);
    return tensor;
}

/* [O,C/g,...] as [g,O/g,C/g,...] if there are groups. */
static onednn_tensor weights_of(const graph_value *w, int64_t groups)
{
    onednn_tensor tensor = tensor_of(w, true);
    if (groups == 1)
        return tensor;
    tensor.rank = w->rank + 1;
    tensor.shape[0] = groups;
    tensor.shape[1] = w->shape[0] / groups;
    memcpy(tensor.shape + 2, w->shape + 1, (w->rank - 1) * sizeof *tensor.shape);
    return tensor;
}

/* [C,O/g,...] as [g,O/g,C/g,...], or [O,C,...] without groups, by strides. */
static onednn_tensor transposed_weights_of(const graph_value *w, int64_t groups)
{
    const int64_t in = w->shape[0] / groups, out = w->shape[1];
    onednn_tensor tensor = {.form = ONEDNN_STRIDED};
    int64_t window = 1, stride = 1;
    for (size_t i = 2; i < w->rank; i++)
        window *= w->shape[i];
    if (groups > 1) {
        tensor.shape[tensor.rank] = groups;
        tensor.strides[tensor.rank++] = in * out * window;
    }
    tensor.shape[tensor.rank] = out;
    tensor.strides[tensor.rank++] = window;
    tensor.shape[tensor.rank] = in;
    tensor.strides[tensor.rank++] = out * window;
    memcpy(tensor.shape + tensor.rank, w->shape + 2, (w->rank - 2) * sizeof *tensor.shape);
    for (size_t i = w->rank; i-- > 2;) {
        tensor.strides[tensor.rank + i - 2] = stride;
        stride *= w->shape[i];
    }
    tensor.rank += w->rank - 2;
    return tensor;
}

static pal_status make(const void *description, const onednn_posts *posts, onednn_primitive **out)
{
    const convolution *c = description;
    return onednn_convolution_new(&c->description, posts, out);
}

static pal_status give(plan *plan, const graph_node *node, const void *description,
                       const onednn_primitive *primitive, buffer *roles[ONEDNN_ROLE_COUNT])
{
    const convolution *c = description;
    pal_status status = plan_buffer_in(plan, node->inputs[0], onednn_layout(primitive, ONEDNN_SRC),
                                       &roles[ONEDNN_SRC]);
    if (!status)
        status = plan_buffer_as(plan, node->inputs[1], c->stored,
                                onednn_layout(primitive, ONEDNN_WEIGHTS), &roles[ONEDNN_WEIGHTS]);
    if (!status && c->description.bias)
        status = plan_buffer_in(plan, node->inputs[2], NULL, &roles[ONEDNN_BIAS]);
    return status;
}

static pal_status plan_convolution(plan *plan, const graph_node *node, bool transposed)
{
    const graph_value *x = plan_input(plan, node, 0), *w = plan_input(plan, node, 1);
    const graph_value *bias = plan_input(plan, node, 2), *y = plan_output(plan, node, 0);
    const int64_t groups = node->attributes.window.groups;
    window_geometry g;
    buffer *empty;
    pal_status status = resolve_window(node, x, w, &g);
    if (status)
        return status;
    if (graph_elements(y) == 0)
        return plan_new_buffer(plan, node->outputs[0], NULL, &empty);
    convolution c = {.src = tensor_of(x, true), .dst = tensor_of(y, true)};
    c.description = (onednn_convolution){.src = &c.src,
                                         .weights = &c.weights,
                                         .bias = bias ? &c.bias : NULL,
                                         .dst = &c.dst,
                                         .spatial = g.spatial,
                                         .transposed = transposed,
                                         .training = plan_has_gradients(plan)};
    memcpy(c.description.stride, g.stride, sizeof g.stride);
    memcpy(c.description.dilation, g.dilation, sizeof g.dilation);
    memcpy(c.description.pad_begin, g.pad_begin, sizeof g.pad_begin);
    memcpy(c.description.pad_end, g.pad_end, sizeof g.pad_end);
    if (bias)
        c.bias = tensor_of(bias, false);
    c.weights = weights_of(w, groups);
    if (transposed) {
        onednn_tensor stored = transposed_weights_of(w, groups);
        status = layout_new_tensor(&stored, &c.stored);
        c.weights = stored;
        c.weights.form = ONEDNN_ANY;
    }
    if (!status)
        status = posted_primitive(plan, node,
                                  &(posted){.what = transposed ? "deconvolution" : "convolution",
                                            .rank = y->rank,
                                            .shape = y->shape,
                                            .posts = node->posts,
                                            .post_count = node->post_count,
                                            .description = &c,
                                            .make = make,
                                            .operands = give});
    layout_free(c.stored);
    return status;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    return plan_convolution(plan, node, false);
}

static pal_status forward_transposed(plan *plan, const graph_node *node)
{
    return plan_convolution(plan, node, true);
}

const op_kernel kernel_conv = {.forward = forward};
const op_kernel kernel_conv_transpose = {.forward = forward_transposed};
