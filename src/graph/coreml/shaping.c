/* Other shapes for the same elements: reshape, transpose, expand_dims, squeeze, flatten2d. */
#include <string.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- reshape */

/* From iOS17 on a 0 stands for the dimension of x that is as far from the end; where x has none,
 * for 1. The graph's operator counts from the beginning: the same thing for equal ranks only. */
static size_t shape_from_the_end(lowering *low, size_t x, size_t rank, const int64_t *shape,
                                 size_t count)
{
    size_t parts[PAL_MAX_RANK];
    for (size_t i = 0; i < count; i++) {
        const size_t from_end = count - i;
        if (shape[i] != 0)
            parts[i] = mil_const_ints(low, &shape[i], 1);
        else if (from_end > rank)
            parts[i] = mil_const_ints(low, INTS(1));
        else
            parts[i] =
                mil_emit_shape(low, x, (int64_t)(rank - from_end), (int64_t)(rank - from_end) + 1);
    }
    return mil_emit_concat(low, parts, count, 0);
}

static void lower_reshape(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), rank = mil_type_of(low, "x").rank;
    int64_t shape[PAL_MAX_RANK];
    const size_t count =
        mil_is_constant(low, "shape") ? mil_param_ints(low, "shape", shape, PAL_MAX_RANK) : 0;
    bool zeros = false;
    for (size_t i = 0; i < count; i++)
        zeros = zeros || shape[i] == 0;
    const size_t wanted = zeros && count != rank && low->opset >= OPSET_IOS17
                              ? shape_from_the_end(low, x, rank, shape, count)
                              : mil_need(low, "shape");
    mil_give(low, 0, mil_emit(low, OP_RESHAPE, NULL, VALUES(x, wanted)));
}

static int64_t part_int(lowering *low, const char *key, size_t i)
{
    const mil_value *value = mil_input_at(low, key, i);
    tensor t;
    void *owned;
    int64_t number = 0;
    if (!value) {
        mil_fail(low, PAL_ERROR_FORMAT, "its %s are too few", key);
        return 0;
    }
    mil_constant_read(low, value, &t, &owned);
    if (!low->status && t.elements != 1)
        mil_fail(low, PAL_ERROR_FORMAT, "its %s are no numbers", key);
    if (!low->status)
        number = mil_tensor_int(&t, 0);
    scratch_free(owned);
    return number;
}

/* To parts of the shapes of other tensors. */
static void lower_reshape_like(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), count = mil_count(low, "ref_tensors");
    size_t parts[PAL_MAX_RANK];
    if (count == 0 || count > PAL_MAX_RANK) {
        mil_fail(low, PAL_ERROR_FORMAT, "the shapes of %zu tensors", count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const int64_t begin = part_int(low, "begins", i), end = part_int(low, "ends", i);
        const bool to_end = part_int(low, "end_masks", i) != 0;
        const size_t like = mil_use(low, mil_input_at(low, "ref_tensors", i));
        parts[i] = mil_emit_shape(low, like, begin, to_end ? INT64_MAX : end);
    }
    const size_t shape = count == 1 ? parts[0] : mil_emit_concat(low, parts, count, 0);
    mil_give(low, 0, mil_emit(low, OP_RESHAPE, NULL, VALUES(x, shape)));
}

static void lower_flatten2d(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const op_attributes attributes = {.flatten = {mil_param_int(low, "axis", 1)}};
    mil_give(low, 0, mil_emit(low, OP_FLATTEN, &attributes, VALUES(x)));
}

/* ---------------------------------------------------------------- axes */

static void lower_transpose(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x"), rank = mil_type_of(low, "x").rank;
    int64_t perm[PAL_MAX_RANK];
    const size_t count = mil_param_ints(low, "perm", perm, PAL_MAX_RANK);
    if (count != rank)
        mil_fail(low, PAL_ERROR_FORMAT, "%zu axes for %zu dimensions", count, rank);
    for (size_t i = 0; i < count; i++)
        perm[i] = (int64_t)mil_make_axis(low, perm[i], rank);
    mil_give(low, 0, rank ? mil_emit_transpose(low, x, perm, count) : x);
}

static void lower_expand_dims(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    mil_give(low, 0, mil_emit(low, OP_UNSQUEEZE, NULL, VALUES(x, mil_need(low, "axes"))));
}

/* Axes that are not 1 stay: MIL ignores them, and knows which by the declared shape. */
static void lower_squeeze(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const mil_type type = mil_type_of(low, "x");
    int64_t axes[PAL_MAX_RANK];
    bool flags[PAL_MAX_RANK] = {0};
    size_t count = mil_param_ints(low, "axes", axes, PAL_MAX_RANK);
    const bool all = !mil_is_given(low, "axes");
    for (size_t i = 0; i < count; i++)
        flags[mil_make_axis(low, axes[i], type.rank)] = true;
    count = 0;
    for (size_t d = 0; d < type.rank; d++)
        if ((all || flags[d]) && type.shape[d] == 1)
            axes[count++] = (int64_t)d;
    mil_give(low, 0,
             count ? mil_emit(low, OP_SQUEEZE, NULL, VALUES(x, mil_const_ints(low, axes, count)))
                   : x);
}

const mil_operator mil_shaping_operators[] = {
    {"reshape", lower_reshape, 0},
    {"reshape_like", lower_reshape_like, 0},
    {"flatten2d", lower_flatten2d, 0},
    {"transpose", lower_transpose, 0},
    {"expand_dims", lower_expand_dims, 0},
    {"squeeze", lower_squeeze, 0},
    {NULL, NULL, 0},
};
