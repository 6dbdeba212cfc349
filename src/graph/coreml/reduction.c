/* Reductions, and what else runs along an axis: argmax, cumsum, topk, sorting. */
#include "graph/coreml/lowering.h"

static void lower_reduce(lowering *low, int kind)
{
    const size_t x = mil_need(low, "x"), axes = mil_want(low, "axes");
    /* No axes at all is not the same as all of them. */
    const op_attributes attributes = {
        .reduce = {.kind = (reduce_kind)kind,
                   .keep_dims = mil_param_bool(low, "keep_dims", false),
                   .empty_is_none = mil_is_given(low, "axes")}};
    mil_give(low, 0, mil_emit(low, OP_REDUCE, &attributes, VALUES(x, axes)));
}

static void lower_argmax(lowering *low, int minimum)
{
    const size_t x = mil_need(low, "x");
    const op_attributes attributes = {
        .argmax = {.axis = mil_param_int(low, "axis", -1),
                   .minimum = minimum != 0,
                   .keep_dims = mil_param_bool(low, "keep_dims", false)}};
    mil_give(low, 0, mil_emit(low, OP_ARGMAX, &attributes, VALUES(x)));
}

static void lower_cumsum(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), axis = mil_const_int(low, mil_param_int(low, "axis", 0));
    const op_attributes attributes = {
        .cumsum = {.exclusive = mil_param_bool(low, "exclusive", false),
                   .reverse = mil_param_bool(low, "reverse", false)}};
    mil_give(low, 0, mil_emit(low, OP_CUMSUM, &attributes, VALUES(x, axis)));
}

/* ---------------------------------------------------------------- sorting */

/* All elements along the axis, as OP_TOPK counts them. */
static size_t extent_of(lowering *low, size_t x, size_t axis)
{
    return mil_emit_shape(low, x, (int64_t)axis, (int64_t)axis + 1);
}

static void lower_topk(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"),
                 axis = mil_param_axis(low, "axis", -1, mil_type_of(low, "x").rank);
    const int64_t k = mil_param_int(low, "k", 1);
    const size_t count = k == -1 ? extent_of(low, x, axis) : mil_const_ints(low, &k, 1);
    const op_attributes attributes = {.topk = {.axis = (int64_t)axis,
                                               .smallest = mil_param_bool(low, "ascending", false),
                                               .unsorted = !mil_param_bool(low, "sort", true)}};
    size_t results[2];
    mil_emit_all(low, OP_TOPK, &attributes, VALUES(x, count), results, 2);
    mil_give(low, 0, results[0]);
    if (mil_param_bool(low, "return_indices", true))
        mil_give(low, 1, results[1]);
}

static void lower_argsort(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"),
                 axis = mil_param_axis(low, "axis", -1, mil_type_of(low, "x").rank);
    const op_attributes attributes = {
        .topk = {.axis = (int64_t)axis, .smallest = mil_param_bool(low, "ascending", false)}};
    size_t results[2];
    mil_emit_all(low, OP_TOPK, &attributes, VALUES(x, extent_of(low, x, axis)), results, 2);
    mil_give(low, 0, results[1]);
}

const mil_operator mil_reduction_operators[] = {
    {"reduce_l1_norm", lower_reduce, REDUCE_L1},
    {"reduce_l2_norm", lower_reduce, REDUCE_L2},
    {"reduce_log_sum", lower_reduce, REDUCE_LOG_SUM},
    {"reduce_log_sum_exp", lower_reduce, REDUCE_LOG_SUM_EXP},
    {"reduce_max", lower_reduce, REDUCE_MAX},
    {"reduce_mean", lower_reduce, REDUCE_MEAN},
    {"reduce_min", lower_reduce, REDUCE_MIN},
    {"reduce_prod", lower_reduce, REDUCE_PRODUCT},
    {"reduce_sum", lower_reduce, REDUCE_SUM},
    {"reduce_sum_square", lower_reduce, REDUCE_SUM_SQUARE},
    {"reduce_argmax", lower_argmax, 0},
    {"reduce_argmin", lower_argmax, 1},
    {"cumsum", lower_cumsum, 0},
    {"topk", lower_topk, 0},
    {"argsort", lower_argsort, 0},
    {NULL, NULL, 0},
};
