/* What the onednn*.c files that make and run primitives share: what one consists of, and the parts
 * of its making.
 *
 *   onednn_primitive.c  from a description to a primitive
 *   onednn_posts.c      post-operations
 *   onednn_operators.c  the description of each operator, over either version's interface
 *   onednn_steps.c      the steps of a plan that run primitives */
#ifndef PAL_ENGINE_ONEDNN_PRIMITIVE_H
#define PAL_ENGINE_ONEDNN_PRIMITIVE_H

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

/* oneDNN's number of what stands in a role; 0 where nothing does. */
int onednn_argument(way way, size_t role);
/* Forgets what the primitive has in a role. */
void onednn_forget(onednn_primitive *primitive, onednn_role role);

/* ---------------------------------------------------------------- onednn_posts.c */

/* A function as oneDNN's element-wise algorithms, one after the other. */
typedef struct eltwise {
    dnnl_alg_kind_t algorithm;
    float alpha, beta;
} eltwise;

/* How many of them there are; 0: oneDNN has no such function. */
size_t eltwise_of(unary_kind kind, float alpha, float beta, eltwise list[2]);

/* Attributes of a primitive: memory for its working from outside, and post-operations. `index`
 * receives the place in oneDNN's chain of each that has an operand. */
pal_status onednn_attributes(const onednn_posts *posts, size_t rank, dnnl_primitive_attr_t *out,
                             int index[ONEDNN_MAX_POSTS]);

/* ---------------------------------------------------------------- making */

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

/* The layouts and attributes; dst, weights and bias may be NULL. */
pal_status making_begin(making *m, const onednn_tensor *src, const onednn_tensor *weights,
                        const onednn_tensor *bias, const onednn_tensor *dst,
                        const onednn_posts *posts);
/* Unless `status` tells that something failed, the primitive of the description that the making has
 * by now. Frees what the making holds. */
pal_status making_end(making *m, pal_status status, const onednn_posts *posts,
                      onednn_primitive **out);

#endif
