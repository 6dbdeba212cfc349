/* Convolutions and transposed convolutions of 1 to 3 dimensions, with groups. */
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/compute.h"
#include "engine/ops/depthwise.h"
#include "engine/ops/slopes.h"
#include "graph/infer.h"

typedef struct convolution {
    onednn_tensor src, weights, bias, dst;
    onednn_convolution description;
    window_geometry geometry;
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

/* What oneDNN is to know of the node; layout_free(c->stored) afterwards. */
static pal_status describe(plan *plan, const graph_node *node, bool transposed, convolution *c)
{
    const graph_value *x = plan_input(plan, node, 0), *w = plan_input(plan, node, 1);
    const graph_value *bias = plan_input(plan, node, 2), *y = plan_output(plan, node, 0);
    const int64_t groups = node->attributes.window.groups;
    window_geometry g;
    pal_status status = resolve_window(node, x, w, &g);
    if (status)
        return status;
    *c = (convolution){.src = tensor_of(x, true), .dst = tensor_of(y, true), .geometry = g};
    c->description = (onednn_convolution){.src = &c->src,
                                          .weights = &c->weights,
                                          .bias = bias ? &c->bias : NULL,
                                          .dst = &c->dst,
                                          .spatial = g.spatial,
                                          .transposed = transposed,
                                          .training = plan_has_gradients(plan)};
    memcpy(c->description.stride, g.stride, sizeof g.stride);
    memcpy(c->description.dilation, g.dilation, sizeof g.dilation);
    memcpy(c->description.pad_begin, g.pad_begin, sizeof g.pad_begin);
    memcpy(c->description.pad_end, g.pad_end, sizeof g.pad_end);
    if (bias)
        c->bias = tensor_of(bias, false);
    c->weights = weights_of(w, groups);
    if (transposed) {
        onednn_tensor stored = transposed_weights_of(w, groups);
        status = layout_new_tensor(&stored, &c->stored);
        c->weights = stored;
        c->weights.form = ONEDNN_ANY;
    }
    return status;
}

static pal_status plan_convolution(plan *plan, const graph_node *node, bool transposed)
{
    const graph_value *y = plan_output(plan, node, 0);
    convolution c = {0};
    buffer *empty;
    if (graph_elements(y) == 0)
        return plan_new_buffer(plan, node->outputs[0], NULL, &empty);
    pal_status status = describe(plan, node, transposed, &c);
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

/* ---------------------------------------------------------------- the way back */

static pal_status back_to_source(plan *plan, const graph_node *node, convolution *c)
{
    onednn_primitive *primitive;
    buffer *roles[ONEDNN_ROLE_COUNT] = {0};
    const graph_value *x = plan_input(plan, node, 0);
    c->description.bias = NULL;
    pal_status status = onednn_convolution_back_to_source(&c->description, &primitive);
    if (status)
        return status;
    status = plan_gradient_in(plan, node->outputs[0], onednn_layout(primitive, ONEDNN_DST),
                              &roles[ONEDNN_DST]);
    if (!status)
        status = plan_buffer_as(plan, node->inputs[1], c->stored,
                                onednn_layout(primitive, ONEDNN_WEIGHTS), &roles[ONEDNN_WEIGHTS]);
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, x->rank, x->shape,
                                    onednn_layout(primitive, ONEDNN_SRC), 0, &roles[ONEDNN_SRC]);
    if (status) {
        onednn_primitive_free(primitive);
        return status;
    }
    buffer *gradient = roles[ONEDNN_SRC];
    status = onednn_add_step(plan, node, "convolution's source", primitive, roles, NULL);
    return status ? status : plan_add_gradient(plan, node->inputs[0], gradient);
}

/* The weights' gradient by a part of the batch: one sample, or all of it. */
typedef struct weights_back {
    onednn_primitive *primitive;
    layout *src, *dst;           /* of the whole batch; NULL: row-major */
    size_t src_bytes, dst_bytes; /* of a part */
} weights_back;

static void release_weights(void *state)
{
    weights_back *it = state;
    onednn_primitive_free(it->primitive);
    layout_free(it->src);
    layout_free(it->dst);
}

static pal_status run_weights(const step *step, size_t sample)
{
    const weights_back *it = step->state;
    const size_t part = sample == PLAN_ALL ? 0 : sample;
    void *data[ONEDNN_ROLE_COUNT] = {
        [ONEDNN_SRC] = (unsigned char *)step->reads[0]->data + part * it->src_bytes,
        [ONEDNN_DST] = (unsigned char *)step->reads[1]->data + part * it->dst_bytes,
        [ONEDNN_WEIGHTS] = step->writes[0]->data,
        [ONEDNN_SCRATCH] = step->scratch ? step->scratch->data : NULL,
    };
    return onednn_execute(it->primitive, data);
}

/* The layout of a batch whose samples have that of the primitive. */
static pal_status layout_of_batch(const onednn_primitive *primitive, onednn_role role,
                                  const graph_value *value, layout **out)
{
    const layout *part = onednn_layout(primitive, role);
    *out = NULL;
    return part ? layout_like(part, value->rank, value->shape, out) : PAL_OK;
}

/* A filter for each channel. */
static bool is_depthwise(const plan *plan, const graph_node *node, const convolution *c)
{
    const int64_t groups = node->attributes.window.groups;
    return !c->description.transposed && groups > 1 &&
           plan_input(plan, node, 0)->shape[1] == groups &&
           plan_output(plan, node, 0)->shape[1] == groups;
}

/* Not by products of matrices, each for a single channel, or no faster. */
static bool is_made_for_depthwise(const onednn_primitive *primitive)
{
    return !strstr(onednn_implementation(primitive), "gemm") && !onednn_is_reference(primitive);
}

static pal_status back_to_weights(plan *plan, const graph_node *node, convolution *c)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    const bool apart =
        plan_is_weight(plan, node->inputs[1]) && plan_samples_along(plan, node->inputs[0], 0);
    const size_t samples = apart ? plan_get_options(plan)->samples : 0;
    buffer *source, *gradient, *scratch = NULL;
    weights_back *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    c->description.bias = NULL;
    if (samples) {
        c->src.shape[0] /= (int64_t)samples;
        c->dst.shape[0] /= (int64_t)samples;
    }
    if (c->stored) { /* the gradient is to lie as the weights do */
        onednn_tensor stored =
            transposed_weights_of(plan_input(plan, node, 1), node->attributes.window.groups);
        c->weights = stored;
    }
    pal_status status = onednn_convolution_back_to_weights(&c->description, &it->primitive);
    if (!status && is_depthwise(plan, node, c) && !is_made_for_depthwise(it->primitive)) {
        bool done;
        status = depthwise_back_to_weights(plan, node, &c->geometry, apart, &done);
        if (status || done) {
            release_weights(it);
            return status;
        }
    }
    if (!status)
        status = layout_of_batch(it->primitive, ONEDNN_SRC, x, &it->src);
    if (!status)
        status = layout_of_batch(it->primitive, ONEDNN_DST, y, &it->dst);
    it->src_bytes = status ? 0 : onednn_bytes(it->primitive, ONEDNN_SRC);
    it->dst_bytes = status ? 0 : onednn_bytes(it->primitive, ONEDNN_DST);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], it->src, &source);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], it->dst, &gradient);
    const int64_t room = status ? 0 : (int64_t)onednn_bytes(it->primitive, ONEDNN_SCRATCH) / 4 + 1;
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    if (status) {
        release_weights(it);
        return status;
    }
    /* Strided weights are row-major in the graph's own shape. */
    return plan_add_weight_pass(
        plan, node, node->inputs[1],
        &(weight_share){.what = "convolution's weights",
                        .layout = c->stored ? NULL : onednn_layout(it->primitive, ONEDNN_WEIGHTS),
                        .pass = run_weights,
                        .apart = apart,
                        .state = it,
                        .release = release_weights,
                        .reads = {source, gradient},
                        .scratch = scratch});
}

static pal_status back(plan *plan, const graph_node *node, bool transposed)
{
    convolution c = {0};
    pal_status status = describe(plan, node, transposed, &c);
    if (!status)
        status = back_posts(plan, node);
    if (!status && plan_wants_gradient(plan, node->inputs[0]))
        status = back_to_source(plan, node, &c);
    if (!status && plan_wants_gradient(plan, node->inputs[1]))
        status = back_to_weights(plan, node, &c);
    if (!status && node->input_count > 2 && plan_wants_gradient(plan, node->inputs[2])) {
        buffer *gradient;
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
        if (!status)
            status = back_reduced(plan, node, node->inputs[2], gradient->rank - 2, gradient);
    }
    layout_free(c.stored);
    return status;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    return back(plan, node, false);
}

static pal_status backward_transposed(plan *plan, const graph_node *node)
{
    return back(plan, node, true);
}

const op_kernel kernel_conv = {forward, backward};
const op_kernel kernel_conv_transpose = {forward_transposed, backward_transposed};
