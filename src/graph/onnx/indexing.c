/* Operators that take or put elements by index. */
#include "graph/onnx/lowering.h"

static void lower_gather(lowering *low, int kind)
{
    const op_attributes attributes = {
        .gather = {attribute_int(low, "axis", 0), attribute_int(low, "batch_dims", 0)}};
    give(low, 0, emit(low, (graph_op)kind, &attributes, VALUES(need(low, 0), need(low, 1))));
}

static void lower_scatter(lowering *low, int kind)
{
    static const char *const reductions[] = {"none", "add", "mul", "min", "max", NULL};
    op_attributes attributes = {.scatter = {.axis = attribute_int(low, "axis", 0)}};
    attributes.scatter.reduction = attribute_choice(low, "reduction", 0, reductions);
    give(low, 0,
         emit(low, (graph_op)kind, &attributes, VALUES(need(low, 0), need(low, 1), need(low, 2))));
}

static void lower_one_hot(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.one_hot = {attribute_int(low, "axis", -1)}};
    give(low, 0,
         emit(low, OP_ONE_HOT, &attributes, VALUES(need(low, 0), need(low, 1), need(low, 2))));
}

static void lower_non_zero(lowering *low, int kind)
{
    (void)kind;
    give(low, 0, emit(low, OP_NON_ZERO, NULL, VALUES(need(low, 0))));
}

const onnx_operator indexing_operators[] = {
    {"Gather", lower_gather, OP_GATHER},
    {"GatherElements", lower_gather, OP_GATHER_ELEMENTS},
    {"GatherND", lower_gather, OP_GATHER_ND},
    {"Scatter", lower_scatter, OP_SCATTER_ELEMENTS},
    {"ScatterElements", lower_scatter, OP_SCATTER_ELEMENTS},
    {"ScatterND", lower_scatter, OP_SCATTER_ND},
    {"OneHot", lower_one_hot, 0},
    {"NonZero", lower_non_zero, 0},
    {0},
};
