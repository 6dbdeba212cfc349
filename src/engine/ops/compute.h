/* The kernels that compute rather than move elements, and what they share. */
#ifndef PAL_ENGINE_OPS_COMPUTE_H
#define PAL_ENGINE_OPS_COMPUTE_H

#include "engine/kernels.h"
#include "engine/onednn.h"

/* convolution.c */
extern const op_kernel kernel_conv, kernel_conv_transpose;
/* matmul.c */
extern const op_kernel kernel_matmul;
/* attention.c */
extern const op_kernel kernel_attention;
/* pool.c */
extern const op_kernel kernel_pool;
/* normalise.c */
extern const op_kernel kernel_batch_norm, kernel_instance_norm, kernel_group_norm;
extern const op_kernel kernel_layer_norm, kernel_rms_norm, kernel_lp_norm;
/* response_norm.c */
extern const op_kernel kernel_lrn;
/* elementwise.c */
extern const op_kernel kernel_unary, kernel_binary, kernel_clip, kernel_prelu, kernel_select;
/* dropout.c */
extern const op_kernel kernel_dropout;
/* softmax.c */
extern const op_kernel kernel_softmax;

/* ---------------------------------------------------------------- results (posts.c) */

/* A primitive whose result other operators may be fused to. */
typedef struct posted {
    const char *what;
    size_t rank; /* of the result as the primitive sees it, which may not be the value's */
    const int64_t *shape;
    const graph_post *posts; /* the node's, or more */
    size_t post_count;
    const void *description; /* for make() */
    pal_status (*make)(const void *description, const onednn_posts *posts, onednn_primitive **out);
    /* Asks the plan for all operands but those of post-operations, in the primitive's layouts. */
    pal_status (*operands)(plan *plan, const graph_node *node, const void *description,
                           const onednn_primitive *primitive, buffer *roles[ONEDNN_ROLE_COUNT]);
} posted;

/* Makes the primitive, the buffer of the node's first output in its layout, the step, and steps of
 * their own for post-operations where oneDNN has no good implementation that takes them. */
pal_status posted_primitive(plan *plan, const graph_node *node, const posted *posted);
/* The steps of those operations alone, on a result that is complete otherwise. */
pal_status post_steps(plan *plan, const graph_node *node, const graph_post *posts, size_t count,
                      buffer *y);

/* ---------------------------------------------------------------- element by element */

/* y = f(x); y is in the layout of x, and may be x. */
pal_status unary_step(plan *plan, const graph_node *node, unary_kind kind, float alpha, float beta,
                      buffer *x, buffer *y);
/* A value in a layout that functions of one operand can keep. */
pal_status keepable_input(plan *plan, size_t value, buffer **out);
/* Zeros what pads the blocks of such a layout: functions do not keep it zero. */
void clear_padding(const buffer *y);
/* y += value, broadcast. */
pal_status add_step(plan *plan, const graph_node *node, size_t value, buffer *y);

#endif
