/* Primitives: their making over either version's interface, and the step that runs them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/onednn_api.h"

/* Which way a primitive goes. */
typedef enum way { WAY_FORWARD, WAY_TO_SOURCE, WAY_TO_WEIGHTS } way;

struct onednn_primitive {
    way way;
    dnnl_primitive_t primitive;
    layout *layouts[ONEDNN_ROLE_COUNT]; /* NULL where it has nothing in the role */
    bool plain[ONEDNN_ROLE_COUNT];      /* the layout is row-major */
    dnnl_memory_t memories[ONEDNN_ROLE_COUNT];
    void *handles[ONEDNN_ROLE_COUNT]; /* what the memories point to by now */
    int operands[ONEDNN_MAX_POSTS];   /* oneDNN's numbers of the post-operations' operands */
    bool sums;                        /* adds to what dst held */
    char implementation[32];
};

static const int forward_argument[ONEDNN_ROLE_COUNT] = {
    [ONEDNN_SRC] = DNNL_ARG_SRC,
    [ONEDNN_WEIGHTS] = DNNL_ARG_WEIGHTS,
    [ONEDNN_BIAS] = DNNL_ARG_BIAS,
    [ONEDNN_MEAN] = DNNL_ARG_MEAN,
    [ONEDNN_VARIANCE] = DNNL_ARG_VARIANCE,
    [ONEDNN_SCALE] = DNNL_ARG_SCALE,
    [ONEDNN_SHIFT] = DNNL_ARG_SHIFT,
    [ONEDNN_DST] = DNNL_ARG_DST,
    [ONEDNN_WORKSPACE] = DNNL_ARG_WORKSPACE,
    [ONEDNN_SCRATCH] = DNNL_ARG_SCRATCHPAD,
};

/* oneDNN's number of what stands in a role; 0 where nothing does. */
static int argument_of(way way, size_t role)
{
    if (way == WAY_FORWARD)
        return forward_argument[role];
    switch (role) {
    case ONEDNN_SRC: return way == WAY_TO_SOURCE ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
    case ONEDNN_WEIGHTS: return way == WAY_TO_SOURCE ? DNNL_ARG_WEIGHTS : DNNL_ARG_DIFF_WEIGHTS;
    case ONEDNN_BIAS: return way == WAY_TO_SOURCE ? 0 : DNNL_ARG_DIFF_BIAS;
    case ONEDNN_DST: return DNNL_ARG_DIFF_DST;
    case ONEDNN_SCRATCH: return DNNL_ARG_SCRATCHPAD;
    default: return 0;
    }
}

/* Whether the primitive writes what stands in a role. */
static bool gives(const onednn_primitive *p, size_t role)
{
    if (p->way == WAY_TO_SOURCE)
        return role == ONEDNN_SRC;
    if (p->way == WAY_TO_WEIGHTS)
        return role == ONEDNN_WEIGHTS || role == ONEDNN_BIAS;
    return role >= ONEDNN_DST;
}

void onednn_primitive_free(void *given)
{
    onednn_primitive *p = given;
    if (!p)
        return;
    for (size_t i = 0; i < ONEDNN_ROLE_COUNT; i++) {
        layout_free(p->layouts[i]);
        dnnl_memory_destroy(p->memories[i]);
    }
    dnnl_primitive_destroy(p->primitive);
    free(p);
}

const layout *onednn_layout(const onednn_primitive *primitive, onednn_role role)
{
    return primitive->plain[role] ? NULL : primitive->layouts[role];
}

void onednn_call_row_major(onednn_primitive *primitive, onednn_role role)
{
    primitive->plain[role] = true;
}

size_t onednn_bytes(const onednn_primitive *primitive, onednn_role role)
{
    return primitive->layouts[role] ? layout_bytes(primitive->layouts[role]) : 0;
}

const char *onednn_implementation(const onednn_primitive *primitive)
{
    return primitive->implementation;
}

bool onednn_is_reference(const onednn_primitive *primitive)
{
    return strncmp(primitive->implementation, "ref", 3) == 0 ||
           strncmp(primitive->implementation, "simple", 6) == 0;
}

/* ---------------------------------------------------------------- post-operations */

/* A function as oneDNN's element-wise algorithms, one after the other. */
typedef struct eltwise {
    dnnl_alg_kind_t algorithm;
    float alpha, beta;
} eltwise;

static size_t eltwise_of(unary_kind kind, float alpha, float beta, eltwise list[2])
{
#define ONE(...) (list[0] = (eltwise){__VA_ARGS__}, 1)
    switch (kind) {
    case UNARY_RELU: return ONE(dnnl_eltwise_relu, 0, 0);
    case UNARY_LEAKY_RELU: return ONE(dnnl_eltwise_relu, alpha, 0);
    case UNARY_ELU: return ONE(dnnl_eltwise_elu, alpha, 0);
    case UNARY_CLIP: return ONE(dnnl_eltwise_clip, alpha, beta);
    case UNARY_SIGMOID: return ONE(dnnl_eltwise_logistic, 0, 0);
    case UNARY_TANH: return ONE(dnnl_eltwise_tanh, 0, 0);
    case UNARY_SOFTPLUS: return ONE(dnnl_eltwise_soft_relu, 1, 0);
    case UNARY_SWISH: return ONE(dnnl_eltwise_swish, alpha, 0);
    case UNARY_GELU_SIGMOID: return ONE(dnnl_eltwise_swish, 1.702f, 0);
    case UNARY_MISH: return ONE(dnnl_eltwise_mish, 0, 0);
    case UNARY_GELU: return ONE(dnnl_eltwise_gelu_erf, 0, 0);
    case UNARY_GELU_TANH: return ONE(dnnl_eltwise_gelu_tanh, 0, 0);
    case UNARY_LINEAR: return ONE(dnnl_eltwise_linear, alpha, beta);
    case UNARY_NEG: return ONE(dnnl_eltwise_linear, -1, 0);
    case UNARY_ABS: return ONE(dnnl_eltwise_abs, 0, 0);
    case UNARY_EXP: return ONE(dnnl_eltwise_exp, 0, 0);
    case UNARY_SQRT: return ONE(dnnl_eltwise_sqrt, 0, 0);
    case UNARY_SQUARE: return ONE(dnnl_eltwise_square, 0, 0);
    case UNARY_HARD_SIGMOID:
        list[0] = (eltwise){dnnl_eltwise_linear, alpha, beta};
        list[1] = (eltwise){dnnl_eltwise_clip, 0, 1};
        return 2;
    case UNARY_HARD_SWISH: return ONE(dnnl_eltwise_hardswish, 1.0f / 6, 0.5f);
    default: return 0;
    }
#undef ONE
}

bool onednn_has_unary(unary_kind kind, float alpha, float beta)
{
    eltwise list[2];
    return eltwise_of(kind, alpha, beta, list) > 0;
}

static dnnl_status_t append_unary(dnnl_post_ops_t chain, const onednn_post *post, int *length)
{
    eltwise list[2];
    size_t count = eltwise_of(post->unary, post->alpha, post->beta, list);
    if (!count)
        return dnnl_unimplemented;
    for (size_t i = 0; i < count; i++) {
#if ONEDNN_3
        dnnl_status_t status =
            dnnl_post_ops_append_eltwise(chain, list[i].algorithm, list[i].alpha, list[i].beta);
#else
        dnnl_status_t status =
            dnnl_post_ops_append_eltwise(chain, 1, list[i].algorithm, list[i].alpha, list[i].beta);
#endif
        if (status)
            return status;
        ++*length;
    }
    return dnnl_success;
}

static dnnl_status_t append_sum(dnnl_post_ops_t chain)
{
#if ONEDNN_3
    return dnnl_post_ops_append_sum(chain, 1, 0, dnnl_f32);
#else
    return dnnl_post_ops_append_sum(chain, 1);
#endif
}

/* Attributes of a primitive: memory for its working from outside, and post-operations. `index`
 * receives the place in oneDNN's chain of each that has an operand. */
static pal_status make_attributes(const onednn_posts *posts, size_t rank,
                                  dnnl_primitive_attr_t *out, int index[ONEDNN_MAX_POSTS])
{
    dnnl_post_ops_t chain = NULL;
    int length = 0;
    pal_status failed = PAL_OK;
    dnnl_status_t status = dnnl_primitive_attr_create(out);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (!status)
        status = dnnl_post_ops_create(&chain);
    for (size_t i = 0; !status && !failed && posts && i < posts->count; i++) {
        const onednn_post *post = &posts->list[i];
        index[i] = length;
        if (post->kind == ONEDNN_UNARY) {
            status = append_unary(chain, post, &length);
        } else if (post->kind == ONEDNN_SUM) {
            status = append_sum(chain);
            length++;
        } else {
            layout *operand;
            failed = layout_new_strided(rank, post->shape, NULL, &operand);
            if (!failed)
                status = dnnl_post_ops_append_binary(chain, dnnl_binary_add, layout_md(operand));
            layout_free(operand);
            length++;
        }
    }
    if (!status && !failed)
        status = dnnl_primitive_attr_set_post_ops(*out, chain);
    dnnl_post_ops_destroy(chain);
    return failed ? failed : onednn_check(status, "post-operation");
}

/* ---------------------------------------------------------------- making primitives */

static pal_status tensor_layout(const onednn_tensor *tensor, layout **out)
{
    *out = NULL;
    if (!tensor)
        return PAL_OK;
    switch (tensor->form) {
    case ONEDNN_ANY: return layout_new_any(tensor->rank, tensor->shape, out);
    case ONEDNN_STRIDED:
        return layout_new_strided(tensor->rank, tensor->shape, tensor->strides, out);
    case ONEDNN_LAYOUT:
        if (tensor->layout) {
            *out = layout_copy(tensor->layout);
            return *out ? PAL_OK : PAL_ERROR_MEMORY;
        }
        break;
    case ONEDNN_PLAIN: break;
    }
    return layout_new_strided(tensor->rank, tensor->shape, NULL, out);
}

pal_status layout_new_tensor(const onednn_tensor *tensor, layout **out)
{
    pal_status status = tensor_layout(tensor, out);
    if (!status && *out && layout_is_row_major(*out)) {
        layout_free(*out);
        *out = NULL;
    }
    return status;
}

/* Records what the primitive has in a role, if anything. */
static pal_status learn(onednn_primitive *p, dnnl_engine_t engine, const_md md, onednn_role role)
{
    if (!md || !dnnl_memory_desc_get_size(md))
        return PAL_OK;
    p->layouts[role] = layout_new_from(md);
    if (!p->layouts[role])
        return PAL_ERROR_MEMORY;
    p->plain[role] = layout_is_row_major(p->layouts[role]);
    return onednn_check(dnnl_memory_create(&p->memories[role], md, engine, DNNL_MEMORY_NONE),
                        "memory");
}

static void forget(onednn_primitive *p, onednn_role role)
{
    layout_free(p->layouts[role]);
    dnnl_memory_destroy(p->memories[role]);
    p->layouts[role] = NULL;
    p->memories[role] = NULL;
}

static pal_status learn_all(onednn_primitive *p, dnnl_primitive_desc_t description,
                            const onednn_posts *posts, const int *index)
{
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    pal_status status = onednn_processor(&engine, &stream);
    for (int role = 0; !status && role < ONEDNN_ROLE_COUNT; role++)
        if (argument_of(p->way, (size_t)role))
            status = learn(p, engine,
                           dnnl_primitive_desc_query_md(description, dnnl_query_exec_arg_md,
                                                        argument_of(p->way, (size_t)role)),
                           (onednn_role)role);
    size_t operands = 0;
    for (size_t i = 0; !status && posts && i < posts->count; i++) {
        const onednn_post *post = &posts->list[i];
        p->sums |= post->kind == ONEDNN_SUM;
        if (post->kind != ONEDNN_ADD)
            continue;
        if (operands == ONEDNN_MAX_POSTS)
            return fail(PAL_ERROR_UNSUPPORTED, "too many post-operations");
        const int argument = DNNL_ARG_ATTR_MULTIPLE_POST_OP(index[i]) | DNNL_ARG_SRC_1;
        status = learn(p, engine,
                       dnnl_primitive_desc_query_md(description, dnnl_query_exec_arg_md, argument),
                       (onednn_role)(ONEDNN_OPERAND + operands));
        p->operands[operands++] = argument;
    }
    return status;
}

/* From a description to a primitive; takes neither. */
static pal_status complete(dnnl_primitive_desc_t description, way way, const onednn_posts *posts,
                           const int *index, onednn_primitive **out)
{
    onednn_primitive *p = mem_zeroed(1, sizeof *p);
    if (!p)
        return fail_memory("for a primitive");
    p->way = way;
    pal_status status = learn_all(p, description, posts, index);
    if (!status)
        status = onednn_check(dnnl_primitive_create(&p->primitive, description), "primitive");
    /* The name is oneDNN's own, but lives no longer than the description. */
    const char *name = NULL;
    if (!status && !dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name) &&
        name)
        snprintf(p->implementation, sizeof p->implementation, "%s", name);
    if (status)
        onednn_primitive_free(p);
    else
        *out = p;
    return status;
}

/* What the making of any primitive needs: the layouts of its tensors, attributes, the processor. */
typedef struct making {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    layout *src, *weights, *bias, *dst;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t description;
    dnnl_primitive_desc_t hint; /* on the way back: of the way forward */
    way way;
    int index[ONEDNN_MAX_POSTS];
} making;

static pal_status begin(making *m, const onednn_tensor *src, const onednn_tensor *weights,
                        const onednn_tensor *bias, const onednn_tensor *dst,
                        const onednn_posts *posts)
{
    pal_status status = onednn_processor(&m->engine, &m->stream);
    if (!status)
        status = tensor_layout(src, &m->src);
    if (!status)
        status = tensor_layout(weights, &m->weights);
    if (!status)
        status = tensor_layout(bias, &m->bias);
    if (!status)
        status = tensor_layout(dst, &m->dst);
    if (!status)
        status = make_attributes(posts, dst ? dst->rank : src->rank, &m->attributes, m->index);
    return status;
}

static pal_status end(making *m, pal_status status, const onednn_posts *posts,
                      onednn_primitive **out)
{
    if (!status)
        status = complete(m->description, m->way, posts, m->index, out);
    dnnl_primitive_desc_destroy(m->hint);
    dnnl_primitive_desc_destroy(m->description);
    dnnl_primitive_attr_destroy(m->attributes);
    layout_free(m->src);
    layout_free(m->weights);
    layout_free(m->bias);
    layout_free(m->dst);
    return status;
}

static void copy_dims(dnnl_dims_t to, const int64_t *from, size_t count, int64_t less)
{
    for (size_t i = 0; i < count; i++)
        to[i] = from[i] - less;
}

#if !ONEDNN_3
/* Version 2's second half of a description. */
static dnnl_status_t describe(making *m, dnnl_status_t status, const void *operation)
{
    return status ? status
                  : dnnl_primitive_desc_create(&m->description, operation, m->attributes, m->engine,
                                               m->hint);
}
#endif

static dnnl_status_t describe_convolution(making *m, const onednn_convolution *c)
{
    dnnl_dims_t stride, dilation, begin, end;
    copy_dims(stride, c->stride, c->spatial, 0);
    copy_dims(dilation, c->dilation, c->spatial, 1);
    copy_dims(begin, c->pad_begin, c->spatial, 0);
    copy_dims(end, c->pad_end, c->spatial, 0);
    const dnnl_prop_kind_t kind = c->training ? dnnl_forward_training : dnnl_forward_inference;
    const_md src = layout_md(m->src), weights = layout_md(m->weights);
    const_md bias = layout_md(m->bias), dst = layout_md(m->dst);
#if ONEDNN_3
    if (c->transposed)
        return dnnl_deconvolution_forward_primitive_desc_create(
            &m->description, m->engine, kind, dnnl_deconvolution_direct, src, weights, bias, dst,
            stride, dilation, begin, end, m->attributes);
    return dnnl_convolution_forward_primitive_desc_create(
        &m->description, m->engine, kind, dnnl_convolution_direct, src, weights, bias, dst, stride,
        dilation, begin, end, m->attributes);
#else
    if (c->transposed) {
        dnnl_deconvolution_desc_t d;
        return describe(m,
                        dnnl_dilated_deconvolution_forward_desc_init(
                            &d, kind, dnnl_deconvolution_direct, src, weights, bias, dst, stride,
                            dilation, begin, end),
                        &d);
    }
    dnnl_convolution_desc_t d;
    return describe(m,
                    dnnl_dilated_convolution_forward_desc_init(&d, kind, dnnl_convolution_direct,
                                                               src, weights, bias, dst, stride,
                                                               dilation, begin, end),
                    &d);
#endif
}

pal_status onednn_convolution_new(const onednn_convolution *c, const onednn_posts *posts,
                                  onednn_primitive **out)
{
    making m = {0};
    pal_status status = begin(&m, c->src, c->weights, c->bias, c->dst, posts);
    if (!status)
        status = onednn_check(describe_convolution(&m, c), "convolution");
    return end(&m, status, posts, out);
}

static dnnl_status_t describe_convolution_back(making *m, const onednn_convolution *c)
{
    dnnl_dims_t stride, dilation, begin, end;
    const bool to_source = m->way == WAY_TO_SOURCE;
    copy_dims(stride, c->stride, c->spatial, 0);
    copy_dims(dilation, c->dilation, c->spatial, 1);
    copy_dims(begin, c->pad_begin, c->spatial, 0);
    copy_dims(end, c->pad_end, c->spatial, 0);
    const_md src = layout_md(m->src), weights = layout_md(m->weights);
    const_md bias = layout_md(m->bias), dst = layout_md(m->dst);
#if ONEDNN_3
    if (c->transposed && to_source)
        return dnnl_deconvolution_backward_data_primitive_desc_create(
            &m->description, m->engine, dnnl_deconvolution_direct, src, weights, dst, stride,
            dilation, begin, end, m->hint, m->attributes);
    if (c->transposed)
        return dnnl_deconvolution_backward_weights_primitive_desc_create(
            &m->description, m->engine, dnnl_deconvolution_direct, src, weights, bias, dst, stride,
            dilation, begin, end, m->hint, m->attributes);
    if (to_source)
        return dnnl_convolution_backward_data_primitive_desc_create(
            &m->description, m->engine, dnnl_convolution_direct, src, weights, dst, stride,
            dilation, begin, end, m->hint, m->attributes);
    return dnnl_convolution_backward_weights_primitive_desc_create(
        &m->description, m->engine, dnnl_convolution_direct, src, weights, bias, dst, stride,
        dilation, begin, end, m->hint, m->attributes);
#else
    dnnl_deconvolution_desc_t t;
    dnnl_convolution_desc_t d;
    if (c->transposed && to_source)
        return describe(
            m,
            dnnl_dilated_deconvolution_backward_data_desc_init(
                &t, dnnl_deconvolution_direct, src, weights, dst, stride, dilation, begin, end),
            &t);
    if (c->transposed)
        return describe(m,
                        dnnl_dilated_deconvolution_backward_weights_desc_init(
                            &t, dnnl_deconvolution_direct, src, weights, bias, dst, stride,
                            dilation, begin, end),
                        &t);
    if (to_source)
        return describe(
            m,
            dnnl_dilated_convolution_backward_data_desc_init(
                &d, dnnl_convolution_direct, src, weights, dst, stride, dilation, begin, end),
            &d);
    return describe(
        m,
        dnnl_dilated_convolution_backward_weights_desc_init(
            &d, dnnl_convolution_direct, src, weights, bias, dst, stride, dilation, begin, end),
        &d);
#endif
}

static pal_status convolution_back(const onednn_convolution *given, way way, onednn_primitive **out)
{
    onednn_convolution c = *given;
    making m = {0};
    c.training = true;
    pal_status status = begin(&m, c.src, c.weights, c.bias, c.dst, NULL);
    if (!status)
        status = onednn_check(describe_convolution(&m, &c), "convolution");
    if (!status) {
        m.hint = m.description;
        m.description = NULL;
        m.way = way;
        status = onednn_check(describe_convolution_back(&m, &c), "convolution's gradient");
    }
    return end(&m, status, NULL, out);
}

pal_status onednn_convolution_back_to_source(const onednn_convolution *c, onednn_primitive **out)
{
    return convolution_back(c, WAY_TO_SOURCE, out);
}

pal_status onednn_convolution_back_to_weights(const onednn_convolution *c, onednn_primitive **out)
{
    return convolution_back(c, WAY_TO_WEIGHTS, out);
}

static dnnl_status_t describe_matmul(making *m)
{
    const_md a = layout_md(m->src), b = layout_md(m->weights);
    const_md bias = layout_md(m->bias), c = layout_md(m->dst);
#if ONEDNN_3
    return dnnl_matmul_primitive_desc_create(&m->description, m->engine, a, b, bias, c,
                                             m->attributes);
#else
    dnnl_matmul_desc_t d;
    return describe(m, dnnl_matmul_desc_init(&d, a, b, bias, c), &d);
#endif
}

pal_status onednn_matmul_new(const onednn_tensor *a, const onednn_tensor *b,
                             const onednn_tensor *bias, const onednn_tensor *c,
                             const onednn_posts *posts, onednn_primitive **out)
{
    making m = {0};
    pal_status status = begin(&m, a, b, bias, c, posts);
    if (!status)
        status = onednn_check(describe_matmul(&m), "matrix product");
    return end(&m, status, posts, out);
}

static dnnl_status_t describe_pool(making *m, const onednn_pool *p)
{
    static const dnnl_alg_kind_t algorithms[] = {
        [ONEDNN_MAX] = dnnl_pooling_max,
        [ONEDNN_AVERAGE] = dnnl_pooling_avg_exclude_padding,
        [ONEDNN_AVERAGE_WITH_PADS] = dnnl_pooling_avg_include_padding,
    };
    dnnl_dims_t kernel, stride, dilation, begin, end;
    copy_dims(kernel, p->kernel, p->spatial, 0);
    copy_dims(stride, p->stride, p->spatial, 0);
    copy_dims(dilation, p->dilation, p->spatial, 1);
    copy_dims(begin, p->pad_begin, p->spatial, 0);
    copy_dims(end, p->pad_end, p->spatial, 0);
    const dnnl_prop_kind_t kind = p->training ? dnnl_forward_training : dnnl_forward_inference;
#if ONEDNN_3
    return dnnl_pooling_forward_primitive_desc_create(
        &m->description, m->engine, kind, algorithms[p->kind], layout_md(m->src), layout_md(m->dst),
        stride, kernel, dilation, begin, end, m->attributes);
#else
    dnnl_pooling_v2_desc_t d;
    return describe(m,
                    dnnl_pooling_v2_forward_desc_init(&d, kind, algorithms[p->kind],
                                                      layout_md(m->src), layout_md(m->dst), stride,
                                                      kernel, dilation, begin, end),
                    &d);
#endif
}

pal_status onednn_pool_new(const onednn_pool *description, onednn_primitive **out)
{
    making m = {0};
    pal_status status = begin(&m, description->src, NULL, NULL, description->dst, NULL);
    if (!status)
        status = onednn_check(describe_pool(&m, description), "pool");
    return end(&m, status, NULL, out);
}

static dnnl_status_t describe_unary(making *m, const eltwise *e)
{
    const_md x = layout_md(m->src);
#if ONEDNN_3
    return dnnl_eltwise_forward_primitive_desc_create(&m->description, m->engine,
                                                      dnnl_forward_inference, e->algorithm, x, x,
                                                      e->alpha, e->beta, m->attributes);
#else
    dnnl_eltwise_desc_t d;
    return describe(m,
                    dnnl_eltwise_forward_desc_init(&d, dnnl_forward_inference, e->algorithm, x,
                                                   e->alpha, e->beta),
                    &d);
#endif
}

pal_status onednn_unary_new(const onednn_tensor *x, unary_kind kind, float alpha, float beta,
                            onednn_primitive **out)
{
    eltwise list[2];
    if (eltwise_of(kind, alpha, beta, list) != 1)
        return fail(PAL_ERROR_UNSUPPORTED, "oneDNN has no such function");
    making m = {0};
    pal_status status = begin(&m, x, NULL, NULL, NULL, NULL);
    if (!status)
        status = onednn_check(describe_unary(&m, list), "function");
    return end(&m, status, NULL, out);
}

static dnnl_status_t describe_softmax(making *m, size_t axis, bool logarithm)
{
    const_md x = layout_md(m->src);
    const dnnl_alg_kind_t algorithm = logarithm ? dnnl_softmax_log : dnnl_softmax_accurate;
#if ONEDNN_3
    return dnnl_softmax_forward_primitive_desc_create(&m->description, m->engine,
                                                      dnnl_forward_inference, algorithm, x, x,
                                                      (int)axis, m->attributes);
#else
    dnnl_softmax_v2_desc_t d;
    return describe(
        m,
        dnnl_softmax_v2_forward_desc_init(&d, dnnl_forward_inference, algorithm, x, x, (int)axis),
        &d);
#endif
}

pal_status onednn_softmax_new(const onednn_tensor *x, size_t axis, bool logarithm,
                              onednn_primitive **out)
{
    making m = {0};
    pal_status status = begin(&m, x, NULL, NULL, NULL, NULL);
    if (!status)
        status = onednn_check(describe_softmax(&m, axis, logarithm), "softmax");
    return end(&m, status, NULL, out);
}

static dnnl_status_t describe_batch_norm(making *m, float epsilon)
{
    const_md x = layout_md(m->src);
    const unsigned flags = dnnl_use_scale | dnnl_use_shift | dnnl_use_global_stats;
    const dnnl_prop_kind_t kind = dnnl_forward_inference;
#if ONEDNN_3
    return dnnl_batch_normalization_forward_primitive_desc_create(
        &m->description, m->engine, kind, x, x, epsilon, flags, m->attributes);
#else
    dnnl_batch_normalization_desc_t d;
    return describe(m, dnnl_batch_normalization_forward_desc_init(&d, kind, x, epsilon, flags), &d);
#endif
}

pal_status onednn_batch_norm_new(const onednn_tensor *x, float epsilon, onednn_primitive **out)
{
    making m = {0};
    pal_status status = begin(&m, x, NULL, NULL, NULL, NULL);
    if (!status)
        status = onednn_check(describe_batch_norm(&m, epsilon), "batch normalisation");
    status = end(&m, status, NULL, out);
    if (status)
        return status;
    forget(*out, ONEDNN_WEIGHTS); /* version 2 lists scale and shift once more, as one */
    return PAL_OK;
}

pal_status onednn_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                       float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                       float beta, float *c, int64_t ldc)
{
    return onednn_check(dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha,
                                   a, lda, b, ldb, beta, c, ldc),
                        "matrix product");
}

/* ---------------------------------------------------------------- running */

/* Buffers are looked for in the step, so that another step may run the same on others. */
typedef struct primitive_run {
    onednn_primitive *primitive;
    enum place { NOWHERE, IN_READS, IN_WRITES, IN_SCRATCH } places[ONEDNN_ROLE_COUNT];
    unsigned char numbers[ONEDNN_ROLE_COUNT]; /* among the step's reads, or writes */
} primitive_run;

static void release_run(void *state)
{
    primitive_run *run = state;
    onednn_primitive_free(run->primitive);
    free(run);
}

static int argument_number(const onednn_primitive *p, size_t role)
{
    return role >= ONEDNN_OPERAND && role < ONEDNN_OPERAND + ONEDNN_MAX_POSTS
               ? p->operands[role - ONEDNN_OPERAND]
               : argument_of(p->way, role);
}

pal_status onednn_execute(onednn_primitive *p, void *const data[ONEDNN_ROLE_COUNT])
{
    dnnl_exec_arg_t arguments[ONEDNN_ROLE_COUNT];
    int count = 0;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    pal_status status = onednn_processor(&engine, &stream);
    dnnl_status_t failed = dnnl_success;
    for (size_t role = 0; !status && !failed && role < ONEDNN_ROLE_COUNT; role++) {
        if (!p->memories[role])
            continue;
        if (p->handles[role] != data[role])
            failed = dnnl_memory_set_data_handle(p->memories[role], data[role]);
        p->handles[role] = data[role];
        arguments[count++] = (dnnl_exec_arg_t){argument_number(p, role), p->memories[role]};
    }
    if (!status && !failed)
        failed = dnnl_primitive_execute(p->primitive, stream, count, arguments);
    return status ? status : onednn_check(failed, "primitive");
}

static const buffer *in_role(const step *step, size_t role)
{
    const primitive_run *run = step->state;
    switch (run->places[role]) {
    case IN_READS: return step->reads[run->numbers[role]];
    case IN_WRITES: return step->writes[run->numbers[role]];
    case IN_SCRATCH: return step->scratch;
    case NOWHERE: break;
    }
    return NULL;
}

static pal_status run_primitive(const step *step)
{
    const primitive_run *run = step->state;
    void *data[ONEDNN_ROLE_COUNT] = {0};
    /* ONEDNN_SUM: what is added has to be where the result will be. It is, if the plan let the
     * result take its memory. */
    const buffer *dst = in_role(step, ONEDNN_DST), *before = in_role(step, ONEDNN_BEFORE);
    if (run->primitive->sums && before->data != dst->data)
        memcpy(dst->data, before->data, dst->bytes);
    for (size_t role = 0; role < ONEDNN_ROLE_COUNT; role++) {
        const buffer *buffer = in_role(step, role);
        data[role] = buffer ? buffer->data : NULL;
    }
    return onednn_execute(run->primitive, data);
}

/* What the plan is to know of a step: reads, writes, scratch. What a sum adds comes first. */
static pal_status list_buffers(plan *plan, step *s, primitive_run *run, buffer *const *roles)
{
    const onednn_primitive *p = run->primitive;
    size_t reads = 0, writes = 0;
    for (size_t role = 0; role < ONEDNN_ROLE_COUNT; role++) {
        const bool wanted = p->memories[role] || (role == ONEDNN_BEFORE && p->sums);
        if (!wanted || role == ONEDNN_SCRATCH)
            continue;
        if (!roles[role])
            return fail(PAL_ERROR_UNSUPPORTED, "a primitive lacks its operand %zu", role);
        if (reads == STEP_MAX_BUFFERS || writes == STEP_MAX_BUFFERS)
            return fail(PAL_ERROR_UNSUPPORTED, "too many operands");
        const bool given = gives(p, role);
        run->places[role] = given ? IN_WRITES : IN_READS;
        run->numbers[role] = (unsigned char)(given ? writes : reads);
        *(given ? &s->writes[writes++] : &s->reads[reads++]) = roles[role];
    }
    s->in_place = p->sums;
    const size_t bytes = onednn_bytes(p, ONEDNN_SCRATCH);
    if (!bytes)
        return PAL_OK;
    run->places[ONEDNN_SCRATCH] = IN_SCRATCH;
    return plan_new_temporary(plan, GRAPH_FLOAT, 1, &(int64_t){(int64_t)((bytes + 3) / 4)}, NULL, 0,
                              &s->scratch);
}

pal_status onednn_add_step(plan *plan, const graph_node *node, const char *what,
                           onednn_primitive *primitive, buffer *const roles[ONEDNN_ROLE_COUNT],
                           step **added)
{
    primitive_run *run = mem_zeroed(1, sizeof *run);
    if (!run) {
        onednn_primitive_free(primitive);
        return fail_memory("for a step");
    }
    run->primitive = primitive;
    step *s = plan_add_step(plan, node, what, run_primitive, run, release_run);
    if (!s)
        return PAL_ERROR_MEMORY;
    if (added)
        *added = s;
    return list_buffers(plan, s, run, roles);
}
