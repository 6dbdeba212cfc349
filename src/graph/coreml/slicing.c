/* Parts of tensors: slices, and the order of elements turned around. */
#include <string.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- slice_by_index */

typedef struct masks {
    bool begin[PAL_MAX_RANK], end[PAL_MAX_RANK], squeeze[PAL_MAX_RANK];
    int64_t stride[PAL_MAX_RANK];
    size_t rank;
} masks;

static void read_flags(lowering *low, const char *key, size_t rank, bool *flags)
{
    int64_t numbers[PAL_MAX_RANK];
    const size_t count = mil_param_ints(low, key, numbers, PAL_MAX_RANK);
    if (count && count != rank)
        mil_fail(low, PAL_ERROR_FORMAT, "its %s are %zu for %zu dimensions", key, count, rank);
    for (size_t i = 0; i < rank; i++)
        flags[i] = i < count && numbers[i];
}

static void read_masks(lowering *low, size_t rank, masks *out)
{
    *out = (masks){.rank = rank};
    read_flags(low, "begin_mask", rank, out->begin);
    read_flags(low, "end_mask", rank, out->end);
    read_flags(low, "squeeze_mask", rank, out->squeeze);
    const size_t count = mil_param_ints(low, "stride", out->stride, PAL_MAX_RANK);
    if (count && count != rank)
        mil_fail(low, PAL_ERROR_FORMAT, "its stride is %zu numbers for %zu dimensions", count,
                 rank);
    for (size_t i = 0; i < rank; i++)
        if (!count || out->squeeze[i])
            out->stride[i] = 1;
}

/* Numbers that stand for the ends of an axis, whichever way a slice goes. */
static int64_t far_begin(int64_t stride)
{
    return stride < 0 ? INT64_MAX : 0;
}

static int64_t far_end(int64_t stride)
{
    return stride < 0 ? INT64_MIN : INT64_MAX;
}

static size_t const_flags(lowering *low, const bool *flags, size_t count)
{
    const int64_t extent = (int64_t)count;
    graph_tensor *tensor =
        low->status ? NULL : graph_add_tensor(low->graph, GRAPH_BOOL, 1, &extent);
    for (size_t i = 0; tensor && i < count; i++)
        ((uint8_t *)tensor->owned)[i] = flags[i];
    const size_t value = graph_add_constant(low->graph, "", tensor);
    if (value == GRAPH_NONE)
        mil_failed(low, PAL_ERROR_MEMORY);
    return value;
}

/* Where the flag is set the number, elsewhere the value. */
static size_t replace(lowering *low, const bool *flags, const int64_t *numbers, size_t value,
                      size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any = any || flags[i];
    if (!any)
        return value;
    return mil_emit(
        low, OP_SELECT, NULL,
        VALUES(const_flags(low, flags, count), mil_const_ints(low, numbers, count), value));
}

/* Starts and ends that the program computes. An index of its own ends behind itself: the end of
 * the axis for -1. */
static void computed_bounds(lowering *low, const masks *m, size_t *starts, size_t *ends)
{
    int64_t begins[PAL_MAX_RANK], stops[PAL_MAX_RANK];
    for (size_t i = 0; i < m->rank; i++) {
        begins[i] = far_begin(m->stride[i]);
        stops[i] = far_end(m->stride[i]);
    }
    *starts = replace(low, m->begin, begins, mil_need(low, "begin"), m->rank);
    *ends = replace(low, m->end, stops, mil_need(low, "end"), m->rank);
    bool any = false;
    for (size_t i = 0; i < m->rank; i++)
        any = any || m->squeeze[i];
    if (!any)
        return;
    const size_t next = mil_emit_binary(low, BINARY_ADD, *starts, mil_const_int(low, 1));
    const size_t wraps = mil_emit_binary(low, BINARY_EQUAL, next, mil_const_int(low, 0));
    const size_t behind =
        mil_emit(low, OP_SELECT, NULL, VALUES(wraps, mil_const_int(low, INT64_MAX), next));
    *ends = mil_emit(low, OP_SELECT, NULL,
                     VALUES(const_flags(low, m->squeeze, m->rank), behind, *ends));
}

static void constant_bounds(lowering *low, const masks *m, size_t *starts, size_t *ends)
{
    int64_t begins[PAL_MAX_RANK], stops[PAL_MAX_RANK];
    const size_t counts[2] = {mil_param_ints(low, "begin", begins, PAL_MAX_RANK),
                              mil_param_ints(low, "end", stops, PAL_MAX_RANK)};
    if (counts[0] != m->rank || counts[1] != m->rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "%zu and %zu bounds for %zu dimensions", counts[0],
                 counts[1], m->rank);
        return;
    }
    for (size_t i = 0; i < m->rank; i++) {
        if (m->begin[i])
            begins[i] = far_begin(m->stride[i]);
        if (m->end[i])
            stops[i] = far_end(m->stride[i]);
        if (m->squeeze[i])
            stops[i] = begins[i] == -1 ? INT64_MAX : begins[i] + 1;
    }
    *starts = mil_const_ints(low, begins, m->rank);
    *ends = mil_const_ints(low, stops, m->rank);
}

size_t mil_emit_slice_by_index(lowering *low, size_t x, size_t rank, bool squeeze)
{
    masks m;
    size_t starts = GRAPH_NONE, ends = GRAPH_NONE, count = 0;
    int64_t axes[PAL_MAX_RANK], squeezed[PAL_MAX_RANK];
    read_masks(low, rank, &m);
    if (mil_is_constant(low, "begin") && mil_is_constant(low, "end"))
        constant_bounds(low, &m, &starts, &ends);
    else
        computed_bounds(low, &m, &starts, &ends);
    for (size_t i = 0; i < rank; i++) {
        axes[i] = (int64_t)i;
        if (m.squeeze[i])
            squeezed[count++] = (int64_t)i;
    }
    const size_t slice = mil_emit(low, OP_SLICE, NULL,
                                  VALUES(x, starts, ends, mil_const_ints(low, axes, rank),
                                         mil_const_ints(low, m.stride, rank)));
    return squeeze && count ? mil_emit(low, OP_SQUEEZE, NULL,
                                       VALUES(slice, mil_const_ints(low, squeezed, count)))
                            : slice;
}

static void lower_slice_by_index(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), rank = mil_type_of(low, "x").rank;
    mil_give(low, 0, rank ? mil_emit_slice_by_index(low, x, rank, true) : x);
}

/* ---------------------------------------------------------------- slice_by_size */

/* A size of -1 is all that is left; so is one that reaches the end from a start that counts from
 * there. */
static size_t computed_ends(lowering *low)
{
    const size_t begin = mil_need(low, "begin"), size = mil_need(low, "size"),
                 zero = mil_const_int(low, 0);
    const size_t end = mil_emit_binary(low, BINARY_ADD, begin, size);
    const size_t all = mil_emit_binary(low, BINARY_EQUAL, size, mil_const_int(low, -1));
    const size_t from_end = mil_emit_binary(low, BINARY_LESS, begin, zero);
    const size_t reaches = mil_emit_binary(low, BINARY_GREATER_EQUAL, end, zero);
    const size_t open =
        mil_emit_binary(low, BINARY_OR, all, mil_emit_binary(low, BINARY_AND, from_end, reaches));
    return mil_emit(low, OP_SELECT, NULL, VALUES(open, mil_const_int(low, INT64_MAX), end));
}

static size_t constant_ends(lowering *low, size_t rank)
{
    int64_t begins[PAL_MAX_RANK], sizes[PAL_MAX_RANK];
    const size_t counts[2] = {mil_param_ints(low, "begin", begins, PAL_MAX_RANK),
                              mil_param_ints(low, "size", sizes, PAL_MAX_RANK)};
    if (counts[0] != rank || counts[1] != rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "%zu and %zu bounds for %zu dimensions", counts[0],
                 counts[1], rank);
        return GRAPH_NONE;
    }
    for (size_t i = 0; i < rank; i++) {
        const int64_t end = begins[i] + sizes[i];
        sizes[i] = sizes[i] == -1 || (begins[i] < 0 && end >= 0) ? INT64_MAX : end;
    }
    return mil_const_ints(low, sizes, rank);
}

static void lower_slice_by_size(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), begin = mil_need(low, "begin");
    const size_t rank = mil_type_of(low, "x").rank;
    const bool constant = mil_is_constant(low, "begin") && mil_is_constant(low, "size");
    mil_give(low, 0,
             mil_emit(low, OP_SLICE, NULL,
                      VALUES(x, begin, constant ? constant_ends(low, rank) : computed_ends(low))));
}

/* ---------------------------------------------------------------- turning around */

static void lower_reverse(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), rank = mil_type_of(low, "x").rank;
    int64_t axes[PAL_MAX_RANK], starts[PAL_MAX_RANK], ends[PAL_MAX_RANK], steps[PAL_MAX_RANK];
    size_t count = mil_param_ints(low, "axes", axes, PAL_MAX_RANK);
    if (!mil_is_given(low, "axes"))
        for (; count < rank; count++)
            axes[count] = (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        starts[i] = INT64_MAX;
        ends[i] = INT64_MIN;
        steps[i] = -1;
    }
    mil_give(low, 0, count ? mil_emit_slice(low, x, starts, ends, axes, steps, count) : x);
}

static void lower_reverse_sequence(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), lengths = mil_need(low, "lengths");
    const size_t rank = mil_type_of(low, "x").rank;
    const op_attributes attributes = {
        .sequence = {.batch_axis = (int64_t)mil_param_axis(low, "batch_axis", 0, rank),
                     .time_axis = (int64_t)mil_param_axis(low, "seq_axis", 0, rank)}};
    mil_give(low, 0, mil_emit(low, OP_REVERSE_SEQUENCE, &attributes, VALUES(x, lengths)));
}

const mil_operator mil_slicing_operators[] = {
    {"slice_by_index", lower_slice_by_index, 0},
    {"slice_by_size", lower_slice_by_size, 0},
    {"reverse", lower_reverse, 0},
    {"reverse_sequence", lower_reverse_sequence, 0},
    {NULL, NULL, 0},
};
