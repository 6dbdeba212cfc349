/* Tensors put together, taken apart, repeated and padded. */
#include <stdlib.h>
#include <string.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- concat, stack */

/* Values of the graph for the input `values`; the caller frees them. NULL after a failure. */
static size_t *read_values(lowering *low, size_t *count)
{
    *count = mil_count(low, "values");
    size_t *values = mem_array(*count, sizeof *values);
    if (!values)
        mil_failed(low, fail_memory("a graph's nodes"));
    else if (*count == 0)
        mil_fail(low, PAL_ERROR_FORMAT, "it has no values");
    for (size_t i = 0; !low->status && i < *count; i++)
        values[i] = mil_use(low, mil_input_at(low, "values", i));
    if (low->status) {
        free(values);
        return NULL;
    }
    return values;
}

static size_t stack(lowering *low, size_t *values, size_t count, int64_t axis)
{
    for (size_t i = 0; i < count; i++)
        values[i] = mil_emit_unsqueeze(low, values[i], &axis, 1);
    return mil_emit_concat(low, values, count, axis);
}

/* Element i of each before element i + 1 of any: stacked behind the axis, and the two made one. */
static size_t interleave(lowering *low, size_t *values, size_t count, size_t axis)
{
    const size_t first = values[0];
    const size_t stacked = stack(low, values, count, (int64_t)axis + 1);
    const size_t parts[] = {mil_emit_shape(low, first, 0, (int64_t)axis),
                            mil_const_ints(low, INTS(-1)),
                            mil_emit_shape(low, first, (int64_t)axis + 1, INT64_MAX)};
    return mil_emit(low, OP_RESHAPE, NULL, VALUES(stacked, mil_emit_concat(low, parts, 3, 0)));
}

static void lower_concat(lowering *low, int kind)
{
    (void)kind;
    size_t count, rank = mil_type_of(low, "values").rank;
    size_t *values = read_values(low, &count);
    if (!values)
        return;
    if (rank == 0) /* numbers make a vector */
        mil_give(low, 0, stack(low, values, count, 0));
    else if (mil_param_bool(low, "interleave", false))
        mil_give(low, 0, interleave(low, values, count, mil_param_axis(low, "axis", 0, rank)));
    else
        mil_give(
            low, 0,
            mil_emit_concat(low, values, count, (int64_t)mil_param_axis(low, "axis", 0, rank)));
    free(values);
}

static void lower_stack(lowering *low, int kind)
{
    (void)kind;
    size_t count, rank = mil_type_of(low, "values").rank;
    size_t *values = read_values(low, &count);
    if (!values)
        return;
    mil_give(low, 0, stack(low, values, count, (int64_t)mil_param_axis(low, "axis", 0, rank + 1)));
    free(values);
}

/* ---------------------------------------------------------------- split */

static void lower_split(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), sizes = mil_want(low, "split_sizes");
    const size_t count = low->operation->n_outputs;
    const op_attributes attributes = {
        .split = {(int64_t)mil_param_axis(low, "axis", 0, mil_type_of(low, "x").rank)}};
    size_t results[GRAPH_MAX_OUTPUTS];
    if (count == 0 || count > GRAPH_MAX_OUTPUTS) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "%zu parts", count);
        return;
    }
    mil_emit_all(low, OP_SPLIT, &attributes, VALUES(x, sizes), results, count);
    for (size_t i = 0; i < count; i++)
        mil_give(low, i, results[i]);
}

/* ---------------------------------------------------------------- tile, pad */

static void lower_tile(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    mil_give(low, 0, mil_emit(low, OP_TILE, NULL, VALUES(x, mil_need(low, "reps"))));
}

/* MIL has the pads of one dimension side by side, for the last dimensions; the graph all those at
 * beginnings first. */
static size_t constant_pads(lowering *low, size_t rank, size_t *axes)
{
    int64_t given[2 * PAL_MAX_RANK], pads[2 * PAL_MAX_RANK], which[PAL_MAX_RANK];
    const size_t count = mil_param_ints(low, "pad", given, 2 * PAL_MAX_RANK), n = count / 2;
    if (count % 2 || n > rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "%zu pads for %zu dimensions", count, rank);
        return GRAPH_NONE;
    }
    for (size_t i = 0; i < n; i++) {
        pads[i] = given[2 * i];
        pads[n + i] = given[2 * i + 1];
        which[i] = (int64_t)(rank - n + i);
    }
    *axes = mil_const_ints(low, which, n);
    return mil_const_ints(low, pads, count);
}

static size_t computed_pads(lowering *low)
{
    const size_t pairs = mil_emit_reshape(low, mil_need(low, "pad"), INTS(-1, 2));
    return mil_emit_reshape(low, mil_emit_transpose(low, pairs, INTS(1, 0)), INTS(-1));
}

static void lower_pad(lowering *low, int kind)
{
    static const char *const modes[] = {"constant", "reflect", "replicate", NULL};
    (void)kind;
    const size_t x = mil_need(low, "x"), rank = mil_type_of(low, "x").rank;
    size_t value = mil_want(low, "constant_val"), axes = GRAPH_NONE;
    op_attributes attributes = {0};
    switch (mil_param_choice(low, "mode", 0, modes)) {
    case 1: attributes.pad.mode = PAD_REFLECT; break;
    case 2: attributes.pad.mode = PAD_EDGE; break;
    default: attributes.pad.mode = PAD_CONSTANT; break;
    }
    if (value != GRAPH_NONE && mil_value_type(low, value) != mil_value_type(low, x))
        value = mil_const_like(low, x, (double)mil_param_float(low, "constant_val", 0));
    const size_t pads =
        mil_is_constant(low, "pad") ? constant_pads(low, rank, &axes) : computed_pads(low);
    mil_give(low, 0, mil_emit(low, OP_PAD, &attributes, VALUES(x, pads, value, axes)));
}

const mil_operator mil_joining_operators[] = {
    {"concat", lower_concat, 0}, {"stack", lower_stack, 0}, {"split", lower_split, 0},
    {"tile", lower_tile, 0},     {"pad", lower_pad, 0},     {NULL, NULL, 0},
};
