/* Elements put to their indices: scatter, scatter_along_axis, scatter_nd, slice_update. */
#include "graph/coreml/lowering.h"

/* How updates meet what is there, after they were changed for it: subtracting adds the negative. */
static op_attributes read_mode(lowering *low, int64_t axis, size_t *updates)
{
    static const char *const modes[] = {"update", "add", "sub", "mul", "div", "max", "min", NULL};
    op_attributes attributes = {.scatter = {.axis = axis}};
    switch (mil_param_choice(low, "mode", 1, modes)) {
    case 0: attributes.scatter.reduction = SCATTER_REPLACE; break;
    case 2:
        *updates = mil_emit_unary(low, UNARY_NEG, 0, 0, *updates);
        attributes.scatter.reduction = SCATTER_ADD;
        break;
    case 3: attributes.scatter.reduction = SCATTER_MUL; break;
    case 4:
        if (mil_value_type(low, *updates) != GRAPH_FLOAT)
            mil_fail(low, PAL_ERROR_UNSUPPORTED, "a division of integers");
        *updates = mil_emit_unary(low, UNARY_RECIPROCAL, 0, 0, *updates);
        attributes.scatter.reduction = SCATTER_MUL;
        break;
    case 5: attributes.scatter.reduction = SCATTER_MAX; break;
    case 6: attributes.scatter.reduction = SCATTER_MIN; break;
    default: attributes.scatter.reduction = SCATTER_ADD; break;
    }
    return attributes;
}

/* Whole slices: a vector of indices along the axis, repeated over the other dimensions. */
static void lower_scatter(lowering *low, int kind)
{
    (void)kind;
    const size_t data = mil_need(low, "data"), rank = mil_type_of(low, "data").rank;
    const size_t axis = mil_param_axis(low, "axis", 0, rank);
    size_t indices = mil_need(low, "indices"), updates = mil_need(low, "updates");
    int64_t behind[PAL_MAX_RANK];
    size_t count = 0;
    if (mil_type_of(low, "indices").rank != 1)
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "indices that are no vector");
    for (size_t d = axis + 1; d < rank; d++, count++)
        behind[count] = (int64_t)count + 1;
    if (count)
        indices = mil_emit_unsqueeze(low, indices, behind, count);
    indices =
        mil_emit(low, OP_EXPAND, NULL, VALUES(indices, mil_emit_shape(low, updates, 0, INT64_MAX)));
    const op_attributes attributes = read_mode(low, (int64_t)axis, &updates);
    mil_give(low, 0,
             mil_emit(low, OP_SCATTER_ELEMENTS, &attributes, VALUES(data, indices, updates)));
}

static void lower_scatter_along_axis(lowering *low, int kind)
{
    (void)kind;
    const size_t data = mil_need(low, "data"), indices = mil_need(low, "indices");
    size_t updates = mil_need(low, "updates");
    const op_attributes attributes = read_mode(low, mil_param_int(low, "axis", 0), &updates);
    mil_give(low, 0,
             mil_emit(low, OP_SCATTER_ELEMENTS, &attributes, VALUES(data, indices, updates)));
}

static void lower_scatter_nd(lowering *low, int kind)
{
    (void)kind;
    const size_t data = mil_need(low, "data"), indices = mil_need(low, "indices");
    size_t updates = mil_need(low, "updates");
    const op_attributes attributes = read_mode(low, 0, &updates);
    mil_give(low, 0, mil_emit(low, OP_SCATTER_ND, &attributes, VALUES(data, indices, updates)));
}

/* The slice of x's element numbers says where the update goes. */
static void lower_slice_update(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), update = mil_need(low, "update");
    const size_t rank = mil_type_of(low, "x").rank;
    if (rank == 0) {
        mil_fail(low, PAL_ERROR_FORMAT, "an update of a single number");
        return;
    }
    const size_t shape = mil_emit_shape(low, x, 0, INT64_MAX),
                 size = mil_emit(low, OP_SIZE, NULL, VALUES(x));
    const size_t numbers =
        mil_emit(low, OP_RANGE, NULL, VALUES(mil_const_int(low, 0), size, mil_const_int(low, 1)));
    const size_t places = mil_emit(low, OP_RESHAPE, NULL, VALUES(numbers, shape));
    const size_t taken = mil_emit_slice_by_index(low, places, rank, false);
    const op_attributes attributes = {.scatter = {.reduction = SCATTER_REPLACE}};
    const size_t flat =
        mil_emit(low, OP_SCATTER_ELEMENTS, &attributes,
                 VALUES(mil_emit_reshape(low, x, INTS(-1)), mil_emit_reshape(low, taken, INTS(-1)),
                        mil_emit_reshape(low, update, INTS(-1))));
    mil_give(low, 0, mil_emit(low, OP_RESHAPE, NULL, VALUES(flat, shape)));
}

const mil_operator mil_scattering_operators[] = {
    {"scatter", lower_scatter, 0},
    {"scatter_along_axis", lower_scatter_along_axis, 0},
    {"scatter_nd", lower_scatter_nd, 0},
    {"slice_update", lower_slice_update, 0},
    {NULL, NULL, 0},
};
