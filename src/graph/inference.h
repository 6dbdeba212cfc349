/* What the files of shape inference share. Each of them knows a family of operators; infer.c has
 * the table. */
#ifndef PAL_GRAPH_INFERENCE_H
#define PAL_GRAPH_INFERENCE_H

#include "graph/infer.h"

/* No value is larger: products of extents never overflow. */
#define INFER_MAX_ELEMENTS ((uint64_t)1 << 40)
/* Strides, dilations and pads are smaller than this. */
#define INFER_MAX_EXTENT ((int64_t)1 << 40)

/* Input i, or NULL where it is left out. Types were checked before: required inputs are there. */
static inline const graph_value *infer_input(const graph_node *node,
                                             const graph_value *const *inputs, size_t i)
{
    return i < node->input_count ? inputs[i] : NULL;
}

/* PAL_ERROR_FORMAT with this reason, naming the node. */
pal_status infer_fail(const graph_node *node, const char *format, ...) PAL_PRINTF(2, 3);

/* Gives an output its shape; refuses what is too large. */
pal_status infer_set(const graph_node *node, graph_value *out, size_t rank, const int64_t *shape);
pal_status infer_same(const graph_node *node, graph_value *out, const graph_value *x);

/* Checks that a value has these extents; `what` names it. */
pal_status infer_expect(const graph_node *node, const char *what, const graph_value *value,
                        size_t rank, const int64_t *shape);
/* A vector of `extent` elements, where it is given at all. */
pal_status infer_expect_vector(const graph_node *node, const char *what, const graph_value *value,
                               int64_t extent);

/* The numbers of a constant: at most `most`, of rank 0 or 1. A value of NULL has none. */
pal_status infer_ints(const graph_node *node, const char *what, const graph_value *value,
                      int64_t *numbers, size_t most, size_t *count);
pal_status infer_floats(const graph_node *node, const char *what, const graph_value *value,
                        float *numbers, size_t most, size_t *count);

/* Whether `small` broadcasts to the shape without making it larger. */
bool infer_fits(const graph_value *small, size_t rank, const int64_t *shape);
/* Broadcasts two shapes; false if they do not agree. */
bool infer_broadcast(size_t a_rank, const int64_t *a, size_t b_rank, const int64_t *b, size_t *rank,
                     int64_t *shape);

/* ---------------------------------------------------------------- families */

typedef pal_status (*infer_shapes)(const graph_node *node, const graph_value *const *inputs,
                                   graph_value *outputs);

pal_status infer_conv(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_conv_transpose(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_pool(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_matmul(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_einsum(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_attention(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_recurrent(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_channel_norm(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_axes_norm(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_lrn(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_elementwise(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_clip(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_prelu(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_softmax(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_reduce(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_argmax(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_cumsum(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_topk(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_one_hot(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_non_zero(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_trilu(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_reverse(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_resize(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_reshape(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_squeeze(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_unsqueeze(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_flatten(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_transpose(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_expand(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_tile(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_depth_to_space(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_space_to_depth(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_shape(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_size(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_constant_of_shape(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_range(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_concat(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_split(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_slice(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_pad(const graph_node *, const graph_value *const *, graph_value *);

pal_status infer_gather(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_gather_elements(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_gather_nd(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_scatter_elements(const graph_node *, const graph_value *const *, graph_value *);
pal_status infer_scatter_nd(const graph_node *, const graph_value *const *, graph_value *);

#endif
