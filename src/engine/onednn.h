/* The only door to oneDNN: layouts, reorders and primitives, over its C interface of version 2
 * (Debian 12 has 2.6) and of version 3. No other file includes dnnl.h.
 *
 * A layout says how the elements of a float tensor lie in memory. Row-major is no layout: wherever
 * one is handed out, NULL means row-major, so that comparing with NULL is all that others need.
 * Layouts that a primitive chose belong to the primitive; primitives are freed with the steps that
 * run them, and no buffer is looked at after that.
 *
 * oneDNN asks OpenMP for the number of threads both when a primitive is made and when it runs: call
 * omp_set_num_threads() before planning, and let it be the same when the plan runs. */
#ifndef PAL_ENGINE_ONEDNN_H
#define PAL_ENGINE_ONEDNN_H

#include "engine/plan.h"

/* ---------------------------------------------------------------- layouts */

/* NULL when out of memory, with the message set. */
layout *layout_copy(const layout *layout);
/* Accepts NULL. */
void layout_free(layout *layout);

/* NULL is equal to NULL and to nothing else. */
bool layout_equal(const layout *a, const layout *b);
/* The memory that a tensor takes in this layout, padding included. */
size_t layout_bytes(const layout *layout);
/* Row-major without padding, of this shape. True for NULL. */
bool layout_is_plain(const layout *layout, size_t rank, const int64_t *shape);

/* A layout as a row-major tensor of more dimensions, outermost first: `of` is the dimension of the
 * tensor that each stems from. nChw16c of [2,20,7,7] is [2,2,7,7,16] of [0,1,2,3,1]. The product
 * of the extents is layout_bytes() / 4; where it exceeds the tensor's elements there is padding,
 * which holds zeros. */
#define LAYOUT_MAX_PHYSICAL 16
typedef struct layout_physical {
    size_t rank;
    int64_t extent[LAYOUT_MAX_PHYSICAL];
    size_t of[LAYOUT_MAX_PHYSICAL];
} layout_physical;

/* False for layouts that are no such thing (gaps between rows). NULL as layout: row-major. */
bool layout_describe(const layout *layout, size_t rank, const int64_t *shape, layout_physical *out);

/* The layout that blocks and orders dimensions as `like` does, for another shape of its rank. A
 * dimension of extent 1 is not padded to a block: what broadcasts along `like` stays small. NULL
 * in *out if that is row-major. */
pal_status layout_like(const layout *like, size_t rank, const int64_t *shape, layout **out);

/* Zeros the padding of a layout with one block, that of channels innermost. */
void layout_clear_padding(const layout *layout, float *data);

/* ---------------------------------------------------------------- reorders */

/* Copies the elements of a float buffer into another layout (NULL: row-major). A layout may have
 * another shape than the buffer, of as many elements: a row-major buffer is then taken in the
 * layout's (weights [O,C/g,3,3] as [g,O/g,C/g,3,3]). The state is freed with onednn_reorder_free,
 * which suits step.release. */
pal_status onednn_reorder_new(const buffer *from, const layout *to, void **state);
pal_status onednn_reorder_run(void *state, const buffer *from, const buffer *to);
void onednn_reorder_free(void *state);

/* ---------------------------------------------------------------- primitives */

/* Post-operations: the graph's, and two that a kernel may put before them. */
#define ONEDNN_MAX_POSTS (GRAPH_MAX_POSTS + 2)

/* What a primitive reads and writes. */
typedef enum onednn_role {
    ONEDNN_BEFORE, /* what ONEDNN_SUM adds, in the result's layout */
    ONEDNN_SRC,
    ONEDNN_WEIGHTS,
    ONEDNN_BIAS,
    ONEDNN_MEAN,
    ONEDNN_VARIANCE,
    ONEDNN_SCALE,
    ONEDNN_SHIFT,
    ONEDNN_OPERAND, /* of the first post-operation, of the second, ... */
    ONEDNN_DST = ONEDNN_OPERAND + ONEDNN_MAX_POSTS,
    ONEDNN_SCRATCH,
    ONEDNN_ROLE_COUNT
} onednn_role;

/* A primitive of oneDNN with the layouts that it chose. */
typedef struct onednn_primitive onednn_primitive;

/* What to apply to a result before it is stored. */
typedef struct onednn_post {
    enum {
        ONEDNN_UNARY,
        ONEDNN_SUM, /* adds ONEDNN_BEFORE, whose memory the result may take over */
        ONEDNN_ADD, /* adds an operand of the result's rank, extents equal to its or 1 */
    } kind;
    unary_kind unary;
    float alpha, beta;
    int64_t shape[PAL_MAX_RANK]; /* ONEDNN_ADD */
} onednn_post;

typedef struct onednn_posts {
    size_t count;
    onednn_post list[ONEDNN_MAX_POSTS];
} onednn_posts;

/* Whether oneDNN has the function. */
bool onednn_has_unary(unary_kind kind, float alpha, float beta);

void onednn_primitive_free(void *primitive);
/* NULL: row-major (in the shape that the primitive was made with), or nothing in this role. */
const layout *onednn_layout(const onednn_primitive *primitive, onednn_role role);
/* 0 where the primitive has nothing in this role. */
size_t onednn_bytes(const onednn_primitive *primitive, onednn_role role);
/* The name of oneDNN's implementation, for profiles: "jit:avx512_core", "ref:any". */
const char *onednn_implementation(const onednn_primitive *primitive);
bool onednn_is_reference(const onednn_primitive *primitive);
/* For a primitive that sees a row-major tensor in another shape: onednn_layout() is NULL in this
 * role from now on. */
void onednn_call_row_major(onednn_primitive *primitive, onednn_role role);

/* Appends the step that runs a primitive, which the plan then owns, also if this fails. `roles`
 * holds a buffer for each role that the primitive has, but for ONEDNN_SCRATCH, which is added here;
 * *added (may be NULL) is the step. */
pal_status onednn_add_step(plan *plan, const graph_node *node, const char *what,
                           onednn_primitive *primitive, buffer *const roles[ONEDNN_ROLE_COUNT],
                           step **added);

/* A tensor as a primitive is to take it. */
typedef struct onednn_tensor {
    size_t rank;
    int64_t shape[PAL_MAX_RANK];
    enum {
        ONEDNN_PLAIN,   /* row-major */
        ONEDNN_ANY,     /* whatever is fastest */
        ONEDNN_STRIDED, /* as `strides` say */
        ONEDNN_LAYOUT,  /* as `layout` says; NULL: row-major */
    } form;
    int64_t strides[PAL_MAX_RANK];
    const layout *layout;
} onednn_tensor;

/* Any form but ONEDNN_ANY, as a layout of the caller's; NULL if it is row-major. */
pal_status layout_new_tensor(const onednn_tensor *tensor, layout **out);

/* Convolutions: weights [O,C,...], or [G,O/G,C/G,...] with groups; for transposed ones as well.
 * Dilation counts from 1. bias may be NULL. */
typedef struct onednn_convolution {
    const onednn_tensor *src, *weights, *bias, *dst;
    size_t spatial;
    int64_t stride[GRAPH_MAX_SPATIAL], dilation[GRAPH_MAX_SPATIAL];
    int64_t pad_begin[GRAPH_MAX_SPATIAL], pad_end[GRAPH_MAX_SPATIAL];
    bool transposed, training;
} onednn_convolution;

/* All of these give PAL_ERROR_UNSUPPORTED if oneDNN has no implementation. posts may be NULL. */
pal_status onednn_convolution_new(const onednn_convolution *description, const onednn_posts *posts,
                                  onednn_primitive **out);

/* The way back: gradients take the roles of what they are gradients of. By the source: reads
 * ONEDNN_DST and ONEDNN_WEIGHTS, gives ONEDNN_SRC. By the weights: reads ONEDNN_SRC and ONEDNN_DST,
 * gives ONEDNN_WEIGHTS and, if there is a bias, ONEDNN_BIAS. */
pal_status onednn_convolution_back_to_source(const onednn_convolution *description,
                                             onednn_primitive **out);
pal_status onednn_convolution_back_to_weights(const onednn_convolution *description,
                                              onednn_primitive **out);

/* Runs a primitive at once on this memory, for steps that run one several times. */
pal_status onednn_execute(onednn_primitive *primitive, void *const data[ONEDNN_ROLE_COUNT]);

/* [...,M,K] times [...,K,N]; leading dimensions equal or 1. bias may be NULL. */
pal_status onednn_matmul_new(const onednn_tensor *a, const onednn_tensor *b,
                             const onednn_tensor *bias, const onednn_tensor *c,
                             const onednn_posts *posts, onednn_primitive **out);

/* [M,K] times [K,N] as a convolution of M pixels by windows of one pixel. It takes the right
 * operand in blocks, as the tensor [N,K,1,1], and so suits one that is constant; all else is
 * row-major. PAL_ERROR_UNSUPPORTED where oneDNN has nothing fast for it. */
pal_status onednn_product_new(int64_t m, int64_t k, int64_t n, bool bias, const onednn_posts *posts,
                              onednn_primitive **out);
bool onednn_is_product(const onednn_primitive *primitive);

typedef struct onednn_pool {
    const onednn_tensor *src, *dst;
    enum { ONEDNN_MAX, ONEDNN_AVERAGE, ONEDNN_AVERAGE_WITH_PADS } kind;
    size_t spatial;
    int64_t kernel[GRAPH_MAX_SPATIAL], stride[GRAPH_MAX_SPATIAL], dilation[GRAPH_MAX_SPATIAL];
    int64_t pad_begin[GRAPH_MAX_SPATIAL], pad_end[GRAPH_MAX_SPATIAL];
} onednn_pool;

pal_status onednn_pool_new(const onednn_pool *description, onednn_primitive **out);

/* Of the same shape and layout on both sides. */
pal_status onednn_unary_new(const onednn_tensor *x, unary_kind kind, float alpha, float beta,
                            onednn_primitive **out);

pal_status onednn_softmax_new(const onednn_tensor *x, size_t axis, bool logarithm,
                              onednn_primitive **out);

/* With the given mean and variance. */
pal_status onednn_batch_norm_new(const onednn_tensor *x, float epsilon, onednn_primitive **out);

/* C = alpha op(A) op(B) + beta C, row-major, in the thread that calls if it is one of several. */
pal_status onednn_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                       float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                       float beta, float *c, int64_t ldc);

#endif
