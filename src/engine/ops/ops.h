/* The kernels, by operator; one file for each family. */
#ifndef PAL_ENGINE_OPS_OPS_H
#define PAL_ENGINE_OPS_OPS_H

#include "engine/kernels.h"

/* views.c: other shapes of the same elements */
extern const op_kernel kernel_view;
/* transpose.c */
extern const op_kernel kernel_transpose;
/* join.c */
extern const op_kernel kernel_concat, kernel_split;
/* region.c: parts of a tensor, or a tensor as part of a larger one */
extern const op_kernel kernel_slice, kernel_pad, kernel_expand, kernel_tile;
/* gather.c */
extern const op_kernel kernel_gather, kernel_gather_elements, kernel_gather_nd;
/* scatter.c */
extern const op_kernel kernel_scatter_elements, kernel_scatter_nd;
/* blocks.c */
extern const op_kernel kernel_depth_to_space, kernel_space_to_depth;
/* triangle.c */
extern const op_kernel kernel_trilu;
/* sequence.c */
extern const op_kernel kernel_reverse_sequence;
/* fill.c */
extern const op_kernel kernel_constant_of_shape, kernel_range, kernel_one_hot, kernel_non_zero;
/* cast.c */
extern const op_kernel kernel_cast;
/* reduce.c */
extern const op_kernel kernel_reduce, kernel_argmax;
/* scan.c */
extern const op_kernel kernel_cumsum;
/* topk.c */
extern const op_kernel kernel_topk;
/* resize.c */
extern const op_kernel kernel_resize;
/* einsum.c */
extern const op_kernel kernel_einsum;
/* recurrent.c */
extern const op_kernel kernel_lstm, kernel_gru, kernel_rnn;

#endif
