/* Reductions, and what else goes along an axis. */
#include "graph/onnx/lowering.h"

static void lower_reduce(lowering *low, int kind)
{
    int64_t axes[PAL_MAX_RANK];
    const size_t count = attribute_ints(low, "axes", axes, PAL_MAX_RANK);
    const size_t along = count != NONE ? const_ints(low, axes, count) : want(low, 1);
    const op_attributes attributes = {
        .reduce = {.kind = (reduce_kind)kind,
                   .keep_dims = attribute_int(low, "keepdims", 1) != 0,
                   .empty_is_none = attribute_int(low, "noop_with_empty_axes", 0) != 0}};
    const bool within = kind == REDUCE_MEAN || kind == REDUCE_MAX || kind == REDUCE_MIN;
    const size_t result = emit(low, OP_REDUCE, &attributes, VALUES(need(low, 0), along));
    give(low, 0, within ? result : emit_wrapped(low, result));
}

static void lower_argmax(lowering *low, int kind)
{
    const op_attributes attributes = {
        .argmax = {.axis = attribute_int(low, "axis", 0),
                   .minimum = kind == 1,
                   .keep_dims = attribute_int(low, "keepdims", 1) != 0,
                   .last = attribute_int(low, "select_last_index", 0) != 0}};
    give(low, 0, emit(low, OP_ARGMAX, &attributes, VALUES(need(low, 0))));
}

static void lower_cumsum(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {
        .cumsum = {attribute_int(low, "exclusive", 0) != 0, attribute_int(low, "reverse", 0) != 0}};
    give(low, 0,
         emit_wrapped(low, emit(low, OP_CUMSUM, &attributes, VALUES(need(low, 0), need(low, 1)))));
}

static void lower_topk(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.topk = {.axis = attribute_int(low, "axis", -1),
                                               .smallest = attribute_int(low, "largest", 1) == 0,
                                               .unsorted = attribute_int(low, "sorted", 1) == 0}};
    const int64_t k = attribute_int(low, "k", 1);
    size_t results[2];
    emit_all(low, OP_TOPK, &attributes,
             VALUES(need(low, 0), low->opset < 10 ? const_ints(low, &k, 1) : need(low, 1)), results,
             2);
    give(low, 0, results[0]);
    give(low, 1, results[1]);
}

const onnx_operator reduction_operators[] = {
    {"ReduceSum", lower_reduce, REDUCE_SUM},
    {"ReduceMean", lower_reduce, REDUCE_MEAN},
    {"ReduceMax", lower_reduce, REDUCE_MAX},
    {"ReduceMin", lower_reduce, REDUCE_MIN},
    {"ReduceProd", lower_reduce, REDUCE_PRODUCT},
    {"ReduceL1", lower_reduce, REDUCE_L1},
    {"ReduceL2", lower_reduce, REDUCE_L2},
    {"ReduceSumSquare", lower_reduce, REDUCE_SUM_SQUARE},
    {"ReduceLogSum", lower_reduce, REDUCE_LOG_SUM},
    {"ReduceLogSumExp", lower_reduce, REDUCE_LOG_SUM_EXP},
    {"ArgMax", lower_argmax, 0},
    {"ArgMin", lower_argmax, 1},
    {"CumSum", lower_cumsum, 0},
    {"TopK", lower_topk, 0},
    {0},
};
