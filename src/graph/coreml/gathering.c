/* Elements by their indices: gather, gather_along_axis, gather_nd, non_zero, sliding_windows. */
#include "graph/coreml/lowering.h"

/* The axis of a gather moved to where the batch ends, and the rows of indices that stand there
 * moved back behind what was before them. */
static size_t batched_gather(lowering *low, size_t x, size_t indices, size_t axis, size_t batch)
{
    const size_t x_rank = mil_type_of(low, "x").rank,
                 rows = mil_type_of(low, "indices").rank - batch;
    const size_t between = axis - batch, rank = x_rank - 1 + rows;
    int64_t forth[PAL_MAX_RANK], back[PAL_MAX_RANK];
    if (rank > PAL_MAX_RANK) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "a result of %zu dimensions", rank);
        return GRAPH_NONE;
    }
    for (size_t d = 0; d < x_rank; d++)
        forth[d] = (int64_t)(d == batch ? axis : d > batch && d <= axis ? d - 1 : d);
    for (size_t d = 0; d < rank; d++) {
        if (d < batch || d >= axis + rows)
            back[d] = (int64_t)d;
        else if (d < axis)
            back[d] = (int64_t)(d + rows);
        else
            back[d] = (int64_t)(d - between);
    }
    if (between)
        x = mil_emit_transpose(low, x, forth, x_rank);
    const int64_t last = -1;
    const size_t found =
        mil_emit(low, OP_GATHER_ND, &(op_attributes){.gather = {.batch_dims = (int64_t)batch}},
                 VALUES(x, mil_emit_unsqueeze(low, indices, &last, 1)));
    return between ? mil_emit_transpose(low, found, back, rank) : found;
}

static void lower_gather(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), indices = mil_need(low, "indices");
    const size_t rank = mil_type_of(low, "x").rank, axis = mil_param_axis(low, "axis", 0, rank);
    const int64_t batch = mil_param_int(low, "batch_dims", 0);
    if (batch < 0 || batch > (int64_t)axis || batch > (int64_t)mil_type_of(low, "indices").rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "%lld dimensions of a batch", (long long)batch);
        return;
    }
    mil_give(low, 0,
             batch ? batched_gather(low, x, indices, axis, (size_t)batch)
                   : mil_emit_gather(low, x, indices, (int64_t)axis));
}

static void lower_gather_along_axis(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), indices = mil_need(low, "indices");
    const op_attributes attributes = {.gather = {.axis = mil_param_int(low, "axis", 0)}};
    mil_give(low, 0, mil_emit(low, OP_GATHER_ELEMENTS, &attributes, VALUES(x, indices)));
}

static void lower_gather_nd(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), indices = mil_need(low, "indices");
    const op_attributes attributes = {
        .gather = {.batch_dims = mil_param_int(low, "batch_dims", 0)}};
    mil_give(low, 0, mil_emit(low, OP_GATHER_ND, &attributes, VALUES(x, indices)));
}

/* A row for each element, where the graph has a column. */
static void lower_non_zero(lowering *low, int kind)
{
    (void)kind;
    const size_t columns = mil_emit(low, OP_NON_ZERO, NULL, VALUES(mil_need(low, "x")));
    mil_give(low, 0, mil_emit_transpose(low, columns, INTS(1, 0)));
}

/* Window i along the axis is x[i stride] to x[i stride + size - 1]. */
static void lower_sliding_windows(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const mil_type type = mil_type_of(low, "x");
    const size_t axis = mil_param_axis(low, "axis", 0, type.rank);
    const int64_t size = mil_param_int(low, "size", 0), stride = mil_param_int(low, "stride", 1);
    const int64_t extent = mil_dimension_of(low, &type, (int64_t)axis), last = 1;
    if (size < 1 || stride < 1 || size > extent) {
        mil_fail(low, PAL_ERROR_FORMAT, "windows of %lld by %lld along %lld elements",
                 (long long)size, (long long)stride, (long long)extent);
        return;
    }
    const size_t windows = mil_emit_range(low, mil_const_int(low, (extent - size) / stride + 1));
    const size_t starts = mil_emit_binary(low, BINARY_MUL, windows, mil_const_int(low, stride));
    const size_t within = mil_emit_range(low, mil_const_int(low, size));
    const size_t places =
        mil_emit_binary(low, BINARY_ADD, mil_emit_unsqueeze(low, starts, &last, 1), within);
    mil_give(low, 0, mil_emit_gather(low, x, places, (int64_t)axis));
}

const mil_operator mil_gathering_operators[] = {
    {"gather", lower_gather, 0},
    {"gather_along_axis", lower_gather_along_axis, 0},
    {"gather_nd", lower_gather_nd, 0},
    {"non_zero", lower_non_zero, 0},
    {"sliding_windows", lower_sliding_windows, 0},
    {NULL, NULL, 0},
};
