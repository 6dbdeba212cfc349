#include "engine/kernels.h"

#include "engine/ops/compute.h"

static const op_kernel *const kernels[GRAPH_OP_COUNT] = {
    [OP_CONV] = &kernel_conv,
    [OP_CONV_TRANSPOSE] = &kernel_conv_transpose,
    [OP_MATMUL] = &kernel_matmul,
    [OP_ATTENTION] = &kernel_attention,
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
    [OP_SOFTMAX] = &kernel_softmax,
    [OP_POOL] = &kernel_pool,
};

const op_kernel *kernel_of(graph_op op)
{
    static const op_kernel none = {0};
    return (unsigned)op < GRAPH_OP_COUNT && kernels[op] ? kernels[op] : &none;
}
