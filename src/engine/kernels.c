#include "engine/kernels.h"

#include "engine/ops/compute.h"
#include "engine/ops/ops.h"

static const op_kernel none = {NULL, NULL};

static const op_kernel *const kernels[GRAPH_OP_COUNT] = {
    [OP_CONV] = &kernel_conv,
    [OP_CONV_TRANSPOSE] = &kernel_conv_transpose,
    [OP_MATMUL] = &kernel_matmul,
    [OP_EINSUM] = &kernel_einsum,
    [OP_ATTENTION] = &kernel_attention,
    [OP_LSTM] = &kernel_lstm,
    [OP_GRU] = &kernel_gru,
    [OP_RNN] = &kernel_rnn,
    [OP_BATCH_NORM] = &kernel_batch_norm,
    [OP_INSTANCE_NORM] = &kernel_instance_norm,
    [OP_GROUP_NORM] = &kernel_group_norm,
    [OP_LAYER_NORM] = &kernel_layer_norm,
    [OP_RMS_NORM] = &kernel_rms_norm,
    [OP_LP_NORM] = &kernel_lp_norm,
    [OP_LRN] = &kernel_lrn,
    [OP_UNARY] = &kernel_unary,
    [OP_BINARY] = &kernel_binary,
    [OP_CLIP] = &kernel_clip,
    [OP_PRELU] = &kernel_prelu,
    [OP_SELECT] = &kernel_select,
    [OP_CAST] = &kernel_cast,
    [OP_DROPOUT] = &kernel_dropout,
    [OP_SOFTMAX] = &kernel_softmax,
    [OP_REDUCE] = &kernel_reduce,
    [OP_ARGMAX] = &kernel_argmax,
    [OP_CUMSUM] = &kernel_cumsum,
    [OP_TOPK] = &kernel_topk,
    [OP_POOL] = &kernel_pool,
    [OP_RESIZE] = &kernel_resize,
    [OP_ONE_HOT] = &kernel_one_hot,
    [OP_NON_ZERO] = &kernel_non_zero,
    [OP_RESHAPE] = &kernel_view,
    [OP_SQUEEZE] = &kernel_view,
    [OP_UNSQUEEZE] = &kernel_view,
    [OP_FLATTEN] = &kernel_view,
    [OP_TRANSPOSE] = &kernel_transpose,
    [OP_EXPAND] = &kernel_expand,
    [OP_TILE] = &kernel_tile,
    [OP_CONCAT] = &kernel_concat,
    [OP_SPLIT] = &kernel_split,
    [OP_SLICE] = &kernel_slice,
    [OP_PAD] = &kernel_pad,
    [OP_GATHER] = &kernel_gather,
    [OP_GATHER_ELEMENTS] = &kernel_gather_elements,
    [OP_GATHER_ND] = &kernel_gather_nd,
    [OP_SCATTER_ELEMENTS] = &kernel_scatter_elements,
    [OP_SCATTER_ND] = &kernel_scatter_nd,
    [OP_DEPTH_TO_SPACE] = &kernel_depth_to_space,
    [OP_SPACE_TO_DEPTH] = &kernel_space_to_depth,
    [OP_TRILU] = &kernel_trilu,
    [OP_REVERSE_SEQUENCE] = &kernel_reverse_sequence,
    [OP_IDENTITY] = &kernel_view,
    [OP_CONSTANT_OF_SHAPE] = &kernel_constant_of_shape,
    [OP_RANGE] = &kernel_range,
};

const op_kernel *kernel_of(graph_op op)
{
    return op < GRAPH_OP_COUNT && kernels[op] ? kernels[op] : &none;
}
