/* Post-operations: what a primitive does to its result before it writes it. */
#include "engine/onednn_primitive.h"

size_t eltwise_of(unary_kind kind, float alpha, float beta, eltwise list[2])
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

pal_status onednn_attributes(const onednn_posts *posts, size_t rank, dnnl_primitive_attr_t *out,
                             int index[ONEDNN_MAX_POSTS])
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
