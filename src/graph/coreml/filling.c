/* Tensors from shapes and numbers: fill, range_1d, one_hot, shape; and parts set to 0. */
#include "graph/coreml/lowering.h"

/* The number to fill with: 0.0 where it is not given. */
static size_t filler(lowering *low)
{
    const size_t value = mil_want(low, "value");
    return value != GRAPH_NONE || low->status ? value : mil_const_like(low, GRAPH_NONE, 0);
}

static void lower_fill(lowering *low, int kind)
{
    (void)kind;
    const size_t shape = mil_need(low, "shape");
    mil_give(low, 0, mil_emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(shape, filler(low))));
}

static void lower_fill_like(lowering *low, int kind)
{
    (void)kind;
    const size_t shape = mil_emit_shape(low, mil_need(low, "ref_tensor"), 0, INT64_MAX);
    mil_give(low, 0, mil_emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(shape, filler(low))));
}

static void lower_range(lowering *low, int kind)
{
    (void)kind;
    size_t start = mil_need(low, "start"), end = mil_need(low, "end"), step = mil_need(low, "step");
    mil_bring_together(low, &start, &end);
    mil_bring_together(low, &start, &step);
    mil_bring_together(low, &start, &end);
    mil_give(low, 0, mil_emit(low, OP_RANGE, NULL, VALUES(start, end, step)));
}

static void lower_shape(lowering *low, int kind)
{
    (void)kind;
    mil_give(low, 0, mil_emit_shape(low, mil_need(low, "x"), 0, INT64_MAX));
}

static size_t as_vector(lowering *low, size_t value)
{
    return mil_emit_reshape(low, value, INTS(1));
}

static void lower_one_hot(lowering *low, int kind)
{
    (void)kind;
    const size_t indices = mil_need(low, "indices"), depth = mil_need(low, "one_hot_vector_size");
    size_t on = mil_want(low, "on_value"), off = mil_want(low, "off_value");
    if (on == GRAPH_NONE)
        on = off == GRAPH_NONE ? mil_const_int(low, 1) : mil_const_like(low, off, 1);
    if (off == GRAPH_NONE)
        off = mil_const_like(low, on, 0);
    const size_t values[2] = {as_vector(low, off), as_vector(low, on)};
    const op_attributes attributes = {.one_hot = {mil_param_int(low, "axis", -1)}};
    mil_give(low, 0,
             mil_emit(low, OP_ONE_HOT, &attributes,
                      VALUES(indices, depth, mil_emit_concat(low, values, 2, 0))));
}

/* What lies further than so many diagonals below or above the main one is 0. */
static void lower_band_part(lowering *low, int kind)
{
    (void)kind;
    size_t x = mil_need(low, "x");
    const int64_t lower = mil_param_int(low, "lower", -1), upper = mil_param_int(low, "upper", -1);
    if (lower >= 0)
        x = mil_emit(low, OP_TRILU, &(op_attributes){.trilu = {.upper = true}},
                     VALUES(x, mil_const_int(low, -lower)));
    if (upper >= 0)
        x = mil_emit(low, OP_TRILU, &(op_attributes){.trilu = {.upper = false}},
                     VALUES(x, mil_const_int(low, upper)));
    mil_give(low, 0, x);
}

const mil_operator mil_filling_operators[] = {
    {"fill", lower_fill, 0},   {"fill_like", lower_fill_like, 0}, {"range_1d", lower_range, 0},
    {"shape", lower_shape, 0}, {"one_hot", lower_one_hot, 0},     {"band_part", lower_band_part, 0},
    {NULL, NULL, 0},
};
