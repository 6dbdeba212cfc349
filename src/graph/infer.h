/* Types and shapes of what an operator gives, and the parameters that follow from shapes: shared by
 * inference and by the code that computes. */
#ifndef PAL_GRAPH_INFER_H
#define PAL_GRAPH_INFER_H

#include "graph/graph.h"

/* Fills type, rank and shape of the node's outputs (output_count of them) from its inputs
 * (input_count, NULL where left out), whose type, rank and shape are known. Inputs that decide
 * shapes (a shape, axes, pads) must be constant; PAL_ERROR_UNSUPPORTED if they are not.
 * PAL_ERROR_FORMAT if the inputs contradict each other or the attributes. Messages name the node.
 */
pal_status graph_infer(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs);

/* The same for types alone: shapes need not be known. It checks how many inputs there are and that
 * their types agree. Of OP_IF it knows nothing. */
pal_status graph_infer_types(const graph_node *node, const graph_value *const *inputs,
                             graph_value *outputs);

uint64_t graph_elements(const graph_value *value);

/* An axis that may count from the end, as an index below `rank`. */
pal_status resolve_axis(const graph_node *node, int64_t axis, size_t rank, size_t *out);

/* Axes given by a constant of integers (NULL or empty: none) as flags. */
pal_status resolve_axes(const graph_node *node, const graph_value *axes, size_t rank,
                        bool flags[PAL_MAX_RANK]);

/* The axes of a layer, RMS or Lp normalisation of a value of this rank. */
pal_status resolve_norm_axes(const graph_node *node, size_t rank, bool flags[PAL_MAX_RANK]);

/* The shape that both broadcast to. */
pal_status resolve_broadcast(const graph_node *node, const graph_value *a, const graph_value *b,
                             size_t *rank, int64_t shape[PAL_MAX_RANK]);

/* A convolution's or a pool's window on an input: every number explicit. For transposed
 * convolutions pad_begin and pad_end are what is cut from the result, and `output` its extents:
 * (input - 1) stride + (kernel - 1) dilation + 1 - pad_begin - pad_end. There pad_end includes the
 * output padding and may be negative: zeros follow. */
typedef struct window_geometry {
    size_t spatial;
    int64_t kernel[GRAPH_MAX_SPATIAL], stride[GRAPH_MAX_SPATIAL], dilation[GRAPH_MAX_SPATIAL];
    int64_t pad_begin[GRAPH_MAX_SPATIAL], pad_end[GRAPH_MAX_SPATIAL];
    int64_t input[GRAPH_MAX_SPATIAL], output[GRAPH_MAX_SPATIAL];
} window_geometry;

/* `weight` is NULL for pools. */
pal_status resolve_window(const graph_node *node, const graph_value *x, const graph_value *weight,
                          window_geometry *out);

/* A slice: for each axis of the input where it starts, its step, and how many it takes. */
typedef struct slice_geometry {
    int64_t start[PAL_MAX_RANK], step[PAL_MAX_RANK], count[PAL_MAX_RANK];
} slice_geometry;

pal_status resolve_slice(const graph_node *node, const graph_value *const *inputs,
                         slice_geometry *out);

/* Padding at both ends of each axis; negative numbers crop. */
pal_status resolve_pads(const graph_node *node, const graph_value *const *inputs,
                        int64_t begin[PAL_MAX_RANK], int64_t end[PAL_MAX_RANK]);

/* Extents of the parts of a split. */
pal_status resolve_split(const graph_node *node, const graph_value *const *inputs, int64_t *sizes);

/* A resize: for each axis the output's extent, the scale that coordinates use, and the region of
 * interest (tf_crop_and_resize; 0 and 1 elsewhere). */
typedef struct resize_geometry {
    int64_t extent[PAL_MAX_RANK];
    float scale[PAL_MAX_RANK], roi_begin[PAL_MAX_RANK], roi_end[PAL_MAX_RANK];
} resize_geometry;

pal_status resolve_resize(const graph_node *node, const graph_value *const *inputs,
                          resize_geometry *out);

/* An einsum: its equation with each letter, and each dimension that an ellipsis stands for, as a
 * number below label_count. An operand's extent is the label's, or 1: broadcast. A label may occur
 * twice in an operand (a diagonal). */
enum { EINSUM_MAX_LABELS = 52 + PAL_MAX_RANK, EINSUM_MAX_OPERANDS = 16 };

typedef struct einsum_geometry {
    size_t label_count, output_rank;
    int64_t extent[EINSUM_MAX_LABELS];
    uint8_t output[PAL_MAX_RANK];
    uint8_t operands[EINSUM_MAX_OPERANDS][PAL_MAX_RANK];
} einsum_geometry;

pal_status resolve_einsum(const graph_node *node, const graph_value *const *inputs,
                          einsum_geometry *out);

#endif
