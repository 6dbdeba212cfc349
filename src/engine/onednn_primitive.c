/* Primitives: what one consists of, and how a description becomes one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/onednn_primitive.h"

static const int forward_argument[ONEDNN_ROLE_COUNT] = {
    [ONEDNN_SRC] = DNNL_ARG_SRC,
    [ONEDNN_WEIGHTS] = DNNL_ARG_WEIGHTS,
    [ONEDNN_BIAS] = DNNL_ARG_BIAS,
    [ONEDNN_MEAN] = DNNL_ARG_MEAN,
    [ONEDNN_VARIANCE] = DNNL_ARG_VARIANCE,
    [ONEDNN_SCALE] = DNNL_ARG_SCALE,
    [ONEDNN_SHIFT] = DNNL_ARG_SHIFT,
    [ONEDNN_DST] = DNNL_ARG_DST,
    [ONEDNN_SCRATCH] = DNNL_ARG_SCRATCHPAD,
};

int onednn_argument(way way, size_t role)
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

void onednn_forget(onednn_primitive *p, onednn_role role)
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
        if (onednn_argument(p->way, (size_t)role))
            status = learn(p, engine,
                           dnnl_primitive_desc_query_md(description, dnnl_query_exec_arg_md,
                                                        onednn_argument(p->way, (size_t)role)),
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

pal_status making_begin(making *m, const onednn_tensor *src, const onednn_tensor *weights,
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
        status = onednn_attributes(posts, dst ? dst->rank : src->rank, &m->attributes, m->index);
    return status;
}

pal_status making_end(making *m, pal_status status, const onednn_posts *posts,
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
