#include "graph/rebatch.h"

#include <stdio.h>
#include <string.h>

#include "graph/infer.h"

#define NO_AXIS SIZE_MAX

/* ---------------------------------------------------------------- the factor */

static pal_status wrong_shape(const graph *source, size_t i, const int64_t *shape)
{
    const graph_input *input = &source->inputs[i];
    char texts[2][PAL_MAX_RANK * 21 + 8];
    const int64_t *shapes[2] = {input->shape, shape};
    for (int t = 0; t < 2; t++) {
        size_t used = 0;
        texts[t][0] = 0;
        for (size_t d = 0; d < input->rank; d++) {
            const char *by = d ? "x" : "";
            int n = shapes[t][d] == GRAPH_FREE
                        ? snprintf(texts[t] + used, sizeof texts[t] - used, "%s?", by)
                        : snprintf(texts[t] + used, sizeof texts[t] - used, "%s%lld", by,
                                   (long long)shapes[t][d]);
            used += (size_t)n;
        }
    }
    return fail(PAL_ERROR_ARGUMENT, "input '%s' is %s in the model, not %s",
                source->values[input->value].name, texts[0], texts[1]);
}

pal_status rebatch_factor(const graph *source, const int64_t (*shapes)[PAL_MAX_RANK],
                          int64_t *factor)
{
    *factor = 1;
    for (size_t i = 0; i < source->input_count; i++) {
        const graph_input *input = &source->inputs[i];
        for (size_t d = 0; d < input->rank; d++) {
            const int64_t own = input->shape[d], given = shapes[i][d];
            if (given < 0 || (own == 0 && given != 0))
                return wrong_shape(source, i, shapes[i]);
            if (own == GRAPH_FREE || own == given)
                continue;
            if (d != 0 || given % own || given == 0 || (*factor != 1 && given / own != *factor))
                return wrong_shape(source, i, shapes[i]);
            *factor = given / own;
        }
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- one value */

/* The value of the base for an input or output of a source node; NULL where left out. */
static const graph_value *in_base(const rebatch *it, size_t value)
{
    return value == GRAPH_NONE || it->base_map[value] == GRAPH_NONE
               ? NULL
               : &it->base->values[it->base_map[value]];
}

/* The axis along which a value has grown. */
static size_t batch_axis(const rebatch *it, const graph_value *base, const graph_value *now)
{
    if (!base || !now || base->rank != now->rank)
        return NO_AXIS;
    for (size_t d = 0; d < base->rank; d++)
        if (now->shape[d] != base->shape[d])
            return now->shape[d] == base->shape[d] * it->factor ? d : NO_AXIS;
    return NO_AXIS;
}

static int64_t prefix(const int64_t *shape, size_t axis)
{
    int64_t product = 1;
    for (size_t d = 0; d < axis; d++)
        product *= shape[d];
    return product;
}

/* Whether a constant is the file's word, not computed from a shape that has grown meanwhile. */
static bool same_constant(const graph_value *base, const graph_value *now)
{
    return base && now && base->constant && now->constant && base->type == GRAPH_INT &&
           now->type == GRAPH_INT && base->constant->elements == now->constant->elements &&
           memcmp(base->constant->data, now->constant->data,
                  base->constant->elements * sizeof(int64_t)) == 0;
}

static pal_status put_ints(graph *out, const int64_t *numbers, size_t count, size_t *input)
{
    *input = graph_add_ints(out, numbers, count);
    return *input == GRAPH_NONE ? PAL_ERROR_MEMORY : PAL_OK;
}

/* ---------------------------------------------------------------- shapes that the file spells out
 */

/* The axis of a shape in which the batch lies that has `outer` elements of the base before it: the
 * one that begins there, or goes on there. Gives how much of the axis lies before the batch. */
static size_t axis_at(const graph_value *value, int64_t outer, int64_t *within)
{
    for (size_t d = 0; d < value->rank; d++) {
        const int64_t before = prefix(value->shape, d);
        if (before == outer || (before < outer && outer < before * value->shape[d])) {
            *within = outer / before;
            return outer % before || value->shape[d] % *within ? NO_AXIS : d;
        }
    }
    return NO_AXIS;
}

/* Whether an extent is that of axes from this one on, joined. */
static bool joins(const graph_value *x, size_t axis, int64_t extent)
{
    int64_t product = 1;
    for (size_t d = axis; d < x->rank && product < extent; d++)
        product *= x->shape[d];
    return product == extent;
}

/* The same where the batch had an axis of its own, of extent 1. If the result has none there, it
 * goes to the axis behind where what was behind is cut, as features are into heads, [197,1,768] to
 * [197,12,64]; else to the axis before, as for rows of a matrix, [197,1,12,64] to [197,768]. */
static size_t axis_lost(const graph_value *x, size_t axis, const graph_value *result, int64_t outer,
                        int64_t *within)
{
    for (size_t d = 0; d < result->rank; d++) {
        const int64_t extent = result->shape[d];
        const int64_t behind = d + 1 < result->rank ? result->shape[d + 1] : 1;
        if (extent == 1 || prefix(result->shape, d) * extent != outer)
            continue;
        if (d + 1 == result->rank || (behind > 1 && joins(x, axis + 1, behind))) {
            *within = extent;
            return d;
        }
    }
    return axis_at(result, outer, within);
}

/* How much of the base's axis lies before the batch. */
static int64_t within_axis(const rebatch *it, size_t value, int64_t extent)
{
    const int64_t within = it->within[value];
    return within > 1 && extent % within == 0 ? within : 1;
}

/* Reshape: as many of the base's elements lie before the batch as did. */
static pal_status reshape(const rebatch *it, graph *out, const graph_node *node, size_t *inputs,
                          size_t axis, const graph_value *x)
{
    const graph_value *result = in_base(it, node->outputs[0]);
    if (!result || !same_constant(in_base(it, node->inputs[1]), &out->values[inputs[1]]))
        return PAL_OK;
    int64_t within = within_axis(it, node->inputs[0], x->shape[axis]);
    const int64_t outer = prefix(x->shape, axis) * within;
    const size_t at = within == x->shape[axis] ? axis_lost(x, axis, result, outer, &within)
                                               : axis_at(result, outer, &within);
    if (at == NO_AXIS)
        return graph_node_failed(node, fail(PAL_ERROR_UNSUPPORTED, "it mixes samples of a batch"));
    int64_t shape[PAL_MAX_RANK];
    memcpy(shape, result->shape, sizeof shape);
    shape[at] *= it->factor;
    it->within[node->outputs[0]] = within;
    return put_ints(out, shape, result->rank, &inputs[1]);
}

/* Expand, and Resize by sizes: the result's shape, grown where the input has grown. */
static pal_status grown_shape(const rebatch *it, graph *out, const graph_node *node, size_t *inputs,
                              size_t which, size_t axis, const graph_value *x)
{
    const graph_value *result = in_base(it, node->outputs[0]);
    if (which >= node->input_count || inputs[which] == GRAPH_NONE || !result ||
        !same_constant(in_base(it, node->inputs[which]), &out->values[inputs[which]]))
        return PAL_OK;
    int64_t shape[PAL_MAX_RANK];
    memcpy(shape, result->shape, sizeof shape);
    const size_t at = axis + result->rank - x->rank;
    /* Where the result was longer than its input the axis was broadcast, not a batch. */
    if (shape[at] != x->shape[axis] ||
        out->values[inputs[which]].constant->elements != result->rank)
        return PAL_OK;
    shape[at] *= it->factor;
    return put_ints(out, shape, result->rank, &inputs[which]);
}

/* A slice that took the whole of the batch's axis takes it all again. */
static pal_status slice(const rebatch *it, graph *out, const graph_node *node, size_t *inputs,
                        size_t axis, const graph_value *x)
{
    const graph_value *values[5] = {0};
    for (size_t i = 0; i < node->input_count && i < 5; i++)
        values[i] = in_base(it, node->inputs[i]);
    slice_geometry geometry;
    pal_status status = resolve_slice(node, values, &geometry);
    if (status)
        return status;
    if (geometry.step[axis] != 1 || geometry.start[axis] != 0 ||
        geometry.count[axis] != x->shape[axis])
        return graph_node_failed(node, fail(PAL_ERROR_UNSUPPORTED, "it mixes samples of a batch"));
    const graph_value *ends = &out->values[inputs[2]];
    int64_t numbers[PAL_MAX_RANK];
    const size_t count = (size_t)ends->constant->elements;
    if (!same_constant(values[2], ends) || count > PAL_MAX_RANK)
        return PAL_OK;
    memcpy(numbers, ends->constant->data, count * sizeof *numbers);
    for (size_t i = 0; i < count; i++) {
        size_t sliced = i;
        if (values[3]) {
            int64_t named;
            memcpy(&named, (const int64_t *)values[3]->constant->data + i, sizeof named);
            sliced = (size_t)(named < 0 ? named + (int64_t)x->rank : named);
        }
        if (sliced == axis) {
            numbers[i] = INT64_MAX;
            return put_ints(out, numbers, count, &inputs[2]);
        }
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- operands that lack the batch */

/* Repeats an input along an axis. */
static pal_status repeat(const rebatch *it, graph *out, const graph_node *node, size_t *input,
                         size_t axis)
{
    const graph_value from = out->values[*input];
    int64_t repeats[PAL_MAX_RANK];
    for (size_t d = 0; d < from.rank; d++)
        repeats[d] = d == axis ? it->factor : 1;
    const size_t count = graph_add_ints(out, repeats, from.rank);
    graph_node *tile = graph_add_node(out, &out->main, OP_TILE, node->name, node->type, 2, 1);
    const size_t result = graph_add_value(out, "", from.type);
    if (count == GRAPH_NONE || !tile || result == GRAPH_NONE)
        return PAL_ERROR_MEMORY;
    tile->inputs[0] = *input;
    tile->inputs[1] = count;
    tile->outputs[0] = result;
    graph_value *grown = &out->values[result];
    grown->rank = from.rank;
    memcpy(grown->shape, from.shape, sizeof grown->shape);
    grown->shape[axis] *= it->factor;
    *input = result;
    return PAL_OK;
}

/* Operands of one shape, aligned from the right: where one has grown along an axis, others that
 * have the same extent there, and not 1 to be broadcast, are repeated. `always`: also those of 1.
 * Axes counted from the right below `inner` are no batch. */
static pal_status align(const rebatch *it, graph *out, const graph_node *node, size_t *inputs,
                        size_t count, bool always, size_t inner)
{
    size_t from_right = NO_AXIS;
    int64_t extent = 0;
    for (size_t i = 0; i < count; i++) {
        if (inputs[i] == GRAPH_NONE)
            continue;
        const graph_value *base = in_base(it, node->inputs[i]);
        const size_t axis = batch_axis(it, base, &out->values[inputs[i]]);
        if (axis != NO_AXIS) {
            from_right = base->rank - 1 - axis;
            extent = base->shape[axis];
        }
    }
    if (from_right == NO_AXIS || from_right < inner)
        return PAL_OK;
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < count; i++) {
        if (inputs[i] == GRAPH_NONE)
            continue;
        const graph_value *now = &out->values[inputs[i]];
        if (now->rank <= from_right)
            continue;
        const size_t axis = now->rank - 1 - from_right;
        if (now->shape[axis] == extent && (extent > 1 || always))
            status = repeat(it, out, node, &inputs[i], axis);
    }
    return status;
}

/* Initial states [directions, N, hidden] and lengths [N] of a recurrent operator. */
static pal_status recurrent(const rebatch *it, graph *out, const graph_node *node, size_t *inputs,
                            size_t axis)
{
    pal_status status = PAL_OK;
    for (size_t i = 4; !status && i < node->input_count && i < 7; i++) {
        const size_t at = i == 4 || node->attributes.recurrent.batch_first ? 0 : 1;
        if (axis > 1 || inputs[i] == GRAPH_NONE || out->values[inputs[i]].rank <= at ||
            batch_axis(it, in_base(it, node->inputs[i]), &out->values[inputs[i]]) != NO_AXIS)
            continue;
        status = repeat(it, out, node, &inputs[i], at);
    }
    return status;
}

pal_status rebatch_node(const rebatch *it, graph *out, const graph_node *node, size_t *inputs)
{
    const graph_value *x = node->input_count ? in_base(it, node->inputs[0]) : NULL;
    const size_t axis =
        x && inputs[0] != GRAPH_NONE ? batch_axis(it, x, &out->values[inputs[0]]) : NO_AXIS;
    for (size_t o = 0; o < node->output_count; o++)
        for (size_t i = 0; node->outputs[o] != GRAPH_NONE && i < node->input_count; i++)
            if (node->inputs[i] != GRAPH_NONE &&
                it->within[node->inputs[i]] > it->within[node->outputs[o]])
                it->within[node->outputs[o]] = it->within[node->inputs[i]];
    switch (node->op) {
    case OP_RESHAPE: return axis == NO_AXIS ? PAL_OK : reshape(it, out, node, inputs, axis, x);
    case OP_EXPAND:
        return axis == NO_AXIS ? PAL_OK : grown_shape(it, out, node, inputs, 1, axis, x);
    case OP_RESIZE:
        return axis == NO_AXIS || node->attributes.resize.axis_count
                   ? PAL_OK
                   : grown_shape(it, out, node, inputs, 3, axis, x);
    case OP_SLICE: return axis == NO_AXIS ? PAL_OK : slice(it, out, node, inputs, axis, x);
    case OP_CONCAT: return align(it, out, node, inputs, node->input_count, true, 0);
    case OP_BINARY: return align(it, out, node, inputs, 2, false, 0);
    case OP_SELECT: return align(it, out, node, inputs, 3, false, 0);
    case OP_MATMUL: return align(it, out, node, inputs, 2, false, 2);
    case OP_ATTENTION: return align(it, out, node, inputs, node->input_count, false, 2);
    case OP_LSTM:
    case OP_GRU:
    case OP_RNN: return axis == NO_AXIS ? PAL_OK : recurrent(it, out, node, inputs, axis);
    default: return PAL_OK;
    }
}

pal_status rebatch_check(const rebatch *it, const graph *out)
{
    for (size_t i = 0; i < out->output_count; i++)
        if (batch_axis(it, &it->base->values[it->base->main.outputs[i]],
                       &out->values[out->main.outputs[i]]) != 0)
            return fail(PAL_ERROR_UNSUPPORTED, "output '%s' does not grow with the batch",
                        out->values[out->main.outputs[i]].name);
    return PAL_OK;
}
