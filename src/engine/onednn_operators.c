/* The description of each operator, over either version's interface. */
#include <stdlib.h>
#include <string.h>

#include "engine/onednn_primitive.h"

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
    pal_status status = making_begin(&m, c->src, c->weights, c->bias, c->dst, posts);
    if (!status)
        status = onednn_check(describe_convolution(&m, c), "convolution");
    return making_end(&m, status, posts, out);
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
    pal_status status = making_begin(&m, c.src, c.weights, c.bias, c.dst, NULL);
    if (!status)
        status = onednn_check(describe_convolution(&m, &c), "convolution");
    if (!status) {
        m.hint = m.description;
        m.description = NULL;
        m.way = way;
        status = onednn_check(describe_convolution_back(&m, &c), "convolution's gradient");
    }
    return making_end(&m, status, NULL, out);
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
    pal_status status = making_begin(&m, a, b, bias, c, posts);
    if (!status)
        status = onednn_check(describe_matmul(&m), "matrix product");
    return making_end(&m, status, posts, out);
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
#if ONEDNN_3
    return dnnl_pooling_forward_primitive_desc_create(
        &m->description, m->engine, dnnl_forward_inference, algorithms[p->kind], layout_md(m->src),
        layout_md(m->dst), stride, kernel, dilation, begin, end, m->attributes);
#else
    dnnl_pooling_v2_desc_t d;
    return describe(m,
                    dnnl_pooling_v2_forward_desc_init(
                        &d, dnnl_forward_inference, algorithms[p->kind], layout_md(m->src),
                        layout_md(m->dst), stride, kernel, dilation, begin, end),
                    &d);
#endif
}

pal_status onednn_pool_new(const onednn_pool *description, onednn_primitive **out)
{
    making m = {0};
    pal_status status = making_begin(&m, description->src, NULL, NULL, description->dst, NULL);
    if (!status)
        status = onednn_check(describe_pool(&m, description), "pool");
    return making_end(&m, status, NULL, out);
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
    pal_status status = making_begin(&m, x, NULL, NULL, NULL, NULL);
    if (!status)
        status = onednn_check(describe_unary(&m, list), "function");
    return making_end(&m, status, NULL, out);
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
    pal_status status = making_begin(&m, x, NULL, NULL, NULL, NULL);
    if (!status)
        status = onednn_check(describe_softmax(&m, axis, logarithm), "softmax");
    return making_end(&m, status, NULL, out);
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
    pal_status status = making_begin(&m, x, NULL, NULL, NULL, NULL);
    if (!status)
        status = onednn_check(describe_batch_norm(&m, epsilon), "batch normalisation");
    status = making_end(&m, status, NULL, out);
    if (status)
        return status;
    onednn_forget(*out, ONEDNN_WEIGHTS); /* version 2 lists scale and shift once more, as one */
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
