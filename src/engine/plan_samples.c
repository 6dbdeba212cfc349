/* Where the samples of a batch lie: the axis of each value along which they follow each other.
 *
 * A kernel can tell the samples' gradients of a weight apart only if it knows which part of its
 * operands is whose, and extents do not say: a table of 8 rows is no batch of 8, and the outermost
 * axis of [time, batch, features] is not the batch. So the axis is followed from the model's
 * inputs, whose first it is. An operator that is not known here mixes samples, which costs time
 * (they then run one by one) but is right. */
#include <string.h>

#include "engine/plan_state.h"
#include "graph/infer.h"

/* In the place of an axis: the same for all samples, or none of which a part is one sample's. */
#define SHARED SIZE_MAX
#define MIXED  (SIZE_MAX - 1)

static bool is_axis(size_t axis)
{
    return axis != SHARED && axis != MIXED;
}

static size_t axis_of(const plan *plan, size_t value)
{
    return value == GRAPH_NONE ? SHARED : plan->batch_axes[value];
}

/* What two operands agree on. */
static size_t joined(size_t a, size_t b)
{
    return a == SHARED ? b : b == SHARED || a == b ? a : MIXED;
}

/* How many axes lie behind the batch's: operands that broadcast are aligned from the right. */
static size_t behind(const plan *plan, size_t value)
{
    const size_t axis = axis_of(plan, value);
    return is_axis(axis) ? plan->graph->values[value].rank - 1 - axis : axis;
}

static size_t axis_before(const graph_value *result, size_t axes)
{
    return !is_axis(axes) ? axes : axes < result->rank ? result->rank - 1 - axes : MIXED;
}

static size_t all_behind(const plan *plan, const graph_node *node)
{
    size_t axes = SHARED;
    for (size_t i = 0; i < node->input_count; i++)
        axes = joined(axes, behind(plan, node->inputs[i]));
    return axes;
}

/* The axis of the first input where the others are the same for all samples. */
static size_t first_alone(const plan *plan, const graph_node *node)
{
    for (size_t i = 1; i < node->input_count; i++)
        if (axis_of(plan, node->inputs[i]) != SHARED)
            return MIXED;
    return axis_of(plan, node->inputs[0]);
}

/* ---------------------------------------------------------------- by operators */

static int64_t elements_before(const graph_value *value, size_t axis)
{
    int64_t product = 1;
    for (size_t d = 0; d < axis; d++)
        product *= value->shape[d];
    return product;
}

/* The same elements under another shape: an axis that begins where the batch's did. */
static size_t of_view(const plan *plan, const graph_node *node, const graph_value *result)
{
    const size_t axis = first_alone(plan, node);
    if (!is_axis(axis))
        return axis;
    const int64_t outer = elements_before(plan_input(plan, node, 0), axis);
    for (size_t d = 0; d < result->rank; d++)
        if (elements_before(result, d) == outer &&
            result->shape[d] % (int64_t)plan->options.samples == 0)
            return d;
    return MIXED;
}

/* An operand's part in how many axes lie behind the result's batch. */
static size_t of_factor(const plan *plan, size_t value, bool transposed, bool left)
{
    const size_t axes = behind(plan, value);
    if (!is_axis(axes) || axes >= 2)
        return axes;
    if (plan->graph->values[value].rank == 1)
        return MIXED;
    const bool rows = (axes == 1) != transposed;
    return rows != left ? MIXED : left ? 1 : 0; /* otherwise it is summed over */
}

static size_t of_matmul(const plan *plan, const graph_node *node, const graph_value *result)
{
    const graph_value *a = plan_input(plan, node, 0), *b = plan_input(plan, node, 1);
    if (a->rank == 1 || b->rank == 1)
        return MIXED;
    size_t axes =
        joined(of_factor(plan, node->inputs[0], node->attributes.matmul.transpose_a, true),
               of_factor(plan, node->inputs[1], node->attributes.matmul.transpose_b, false));
    if (node->input_count > 2)
        axes = joined(axes, behind(plan, node->inputs[2]));
    return axis_before(result, axes);
}

static size_t of_attention(const plan *plan, const graph_node *node, const graph_value *result)
{
    const size_t axes = all_behind(plan, node);
    if (axes < 2 || (node->attributes.attention.heads_inside && axes + 1 != result->rank))
        return MIXED;
    return axis_before(result, axes);
}

static pal_status of_einsum(const plan *plan, const graph_node *node, size_t *out)
{
    const graph_value *inputs[EINSUM_MAX_OPERANDS];
    einsum_geometry geometry;
    size_t label = SHARED;
    *out = MIXED;
    if (node->input_count > EINSUM_MAX_OPERANDS)
        return PAL_OK;
    for (size_t i = 0; i < node->input_count; i++)
        inputs[i] = plan_input(plan, node, i);
    pal_status status = resolve_einsum(node, inputs, &geometry);
    for (size_t i = 0; !status && i < node->input_count; i++) {
        const uint8_t *labels = geometry.operands[i];
        const size_t axis = axis_of(plan, node->inputs[i]);
        if (!is_axis(axis))
            continue;
        for (size_t d = 0; d < inputs[i]->rank; d++)
            if (d != axis && labels[d] == labels[axis]) /* a diagonal */
                label = MIXED;
        label = joined(label, labels[axis]);
    }
    for (size_t d = 0; !status && d < geometry.output_rank; d++)
        if (geometry.output[d] == label)
            *out = d;
    return status;
}

static size_t of_recurrent(const plan *plan, const graph_node *node, size_t output)
{
    const bool first = node->attributes.recurrent.batch_first;
    for (size_t i = 0; i < node->input_count; i++) {
        const size_t axis = axis_of(plan, node->inputs[i]);
        const bool has_batch = i == 0 || (i >= 4 && i <= 6);
        if (axis != SHARED && (!has_batch || axis != (first || i == 4 ? 0 : 1)))
            return MIXED;
    }
    return first ? 0 : output == 0 ? 2 : 1;
}

static size_t of_gather(const plan *plan, const graph_node *node, size_t axis)
{
    const size_t x = axis_of(plan, node->inputs[0]), indices = axis_of(plan, node->inputs[1]);
    if (x == SHARED)
        return axis + indices;
    if (indices != SHARED || x == axis)
        return MIXED;
    return x < axis ? x : x + plan_input(plan, node, 1)->rank - 1;
}

static size_t of_gather_nd(const plan *plan, const graph_node *node)
{
    const size_t x = axis_of(plan, node->inputs[0]), indices = axis_of(plan, node->inputs[1]);
    if (x == SHARED)
        return indices + 1 < plan_input(plan, node, 1)->rank ? indices : MIXED;
    return x < (size_t)node->attributes.gather.batch_dims ? joined(x, indices) : MIXED;
}

/* Places along one axis are taken or filled; along the batch's, all of its extent. */
static size_t of_elements(const plan *plan, const graph_node *node, size_t axis)
{
    const graph_value *x = plan_input(plan, node, 0), *indices = plan_input(plan, node, 1);
    const size_t batch = axis_before(x, all_behind(plan, node));
    return batch != axis && batch < x->rank && x->shape[batch] == indices->shape[batch] ? batch
                                                                                        : MIXED;
}

static pal_status of_reduce(const plan *plan, const graph_node *node, size_t *out)
{
    const size_t axis = first_alone(plan, node), rank = plan_input(plan, node, 0)->rank;
    bool flags[PAL_MAX_RANK] = {0}, any = false;
    size_t gone = 0;
    pal_status status = resolve_axes(node, plan_input(plan, node, 1), rank, flags);
    for (size_t d = 0; d < rank; d++)
        any = any || flags[d];
    for (size_t d = 0; is_axis(axis) && d < axis; d++)
        gone += flags[d] && !node->attributes.reduce.keep_dims;
    const bool all = !any && !node->attributes.reduce.empty_is_none;
    *out = is_axis(axis) && (all || flags[axis]) ? MIXED : axis - gone;
    return status;
}

static pal_status of_norm(const plan *plan, const graph_node *node, size_t *out)
{
    const graph_value *x = plan_input(plan, node, 0);
    bool flags[PAL_MAX_RANK] = {0};
    pal_status status = resolve_norm_axes(node, x->rank, flags);
    *out = axis_before(x, all_behind(plan, node));
    if (is_axis(*out) && flags[*out])
        *out = MIXED;
    return status;
}

/* A slice or padding that leaves the batch whole. */
static pal_status of_region(const plan *plan, const graph_node *node, size_t *out)
{
    const graph_value *inputs[5] = {0}, *x = plan_input(plan, node, 0);
    slice_geometry slice;
    int64_t begin[PAL_MAX_RANK], end[PAL_MAX_RANK];
    pal_status status;
    for (size_t i = 0; i < node->input_count && i < 5; i++)
        inputs[i] = plan_input(plan, node, i);
    const size_t axis = *out = first_alone(plan, node);
    if (!is_axis(axis))
        return PAL_OK;
    if (node->op == OP_SLICE) {
        status = resolve_slice(node, inputs, &slice);
        if (!status && (slice.step[axis] != 1 || slice.count[axis] != x->shape[axis]))
            *out = MIXED;
    } else {
        status = resolve_pads(node, inputs, begin, end);
        if (!status && (begin[axis] || end[axis]))
            *out = MIXED;
    }
    return status;
}

/* Operators that work along an axis of their own. */
static pal_status along_axis(const plan *plan, const graph_node *node, size_t *out)
{
    const graph_value *x = plan_input(plan, node, 0), *other = plan_input(plan, node, 1);
    const op_attributes *a = &node->attributes;
    const size_t alone = first_alone(plan, node);
    int64_t named;
    size_t axis;
    switch (node->op) {
    case OP_SOFTMAX: named = a->softmax.axis; break;
    case OP_ARGMAX: named = a->argmax.axis; break;
    case OP_TOPK: named = a->topk.axis; break;
    case OP_CONCAT: named = a->concat.axis; break;
    case OP_SPLIT: named = a->split.axis; break;
    case OP_SCATTER_ELEMENTS: named = a->scatter.axis; break;
    case OP_REVERSE_SEQUENCE: named = a->sequence.time_axis; break;
    case OP_CUMSUM:
        if (!other || !other->constant || other->constant->elements != 1)
            return PAL_OK;
        named = *(const int64_t *)other->constant->data;
        break;
    default: named = a->gather.axis;
    }
    pal_status status = resolve_axis(node, named, x->rank, &axis);
    if (status)
        return status;
    switch (node->op) {
    case OP_GATHER: *out = of_gather(plan, node, axis); return PAL_OK;
    case OP_GATHER_ELEMENTS:
    case OP_SCATTER_ELEMENTS: *out = of_elements(plan, node, axis); return PAL_OK;
    case OP_CONCAT: *out = axis_before(x, all_behind(plan, node)); break;
    case OP_REVERSE_SEQUENCE: /* lengths [batch] may be each sample's own */
        *out = axis_of(plan, node->inputs[0]);
        if (alone == MIXED)
            *out = joined(*out, (size_t)a->sequence.batch_axis);
        break;
    default: *out = alone;
    }
    if (*out == axis)
        *out = MIXED;
    else if (node->op == OP_ARGMAX && is_axis(*out) && *out > axis && !a->argmax.keep_dims)
        --*out;
    return PAL_OK;
}

static size_t of_one_hot(const plan *plan, const graph_node *node, const graph_value *result)
{
    const int64_t axis = node->attributes.one_hot.axis;
    const size_t of = first_alone(plan, node);
    const size_t at = (size_t)(axis < 0 ? axis + (int64_t)result->rank : axis);
    return is_axis(of) && of >= at ? of + 1 : of;
}

/* The axis in an output of a node of which an input has one, and none is mixed. */
static pal_status follow(const plan *plan, const graph_node *node, size_t output, size_t *out)
{
    const graph_value *result = &plan->graph->values[node->outputs[output]];
    const size_t alone = first_alone(plan, node);
    *out = MIXED;
    switch (node->op) {
    case OP_BATCH_NORM:
        if (plan->options.training && !plan->options.fixed_statistics)
            return PAL_OK; /* of the batch's statistics */
        *out = alone == 0 ? 0 : MIXED;
        return PAL_OK;
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_INSTANCE_NORM:
    case OP_GROUP_NORM:
    case OP_LRN:
    case OP_POOL:
    case OP_DEPTH_TO_SPACE:
    case OP_SPACE_TO_DEPTH: *out = alone == 0 ? 0 : MIXED; return PAL_OK;
    case OP_RESIZE:
    case OP_TILE:
        if (is_axis(alone) && plan_input(plan, node, 0)->shape[alone] == result->shape[alone])
            *out = alone;
        return PAL_OK;
    case OP_TRILU: *out = is_axis(alone) && alone + 2 < result->rank ? alone : MIXED; return PAL_OK;
    case OP_UNARY:
    case OP_CAST:
    case OP_CLIP:
    case OP_DROPOUT:
    case OP_IDENTITY: *out = alone; return PAL_OK;
    case OP_BINARY:
    case OP_SELECT:
    case OP_PRELU:
    case OP_EXPAND: *out = axis_before(result, all_behind(plan, node)); return PAL_OK;
    case OP_RESHAPE:
    case OP_SQUEEZE:
    case OP_UNSQUEEZE:
    case OP_FLATTEN: *out = of_view(plan, node, result); return PAL_OK;
    case OP_TRANSPOSE:
        for (size_t d = 0; d < result->rank; d++)
            if (alone == (node->attributes.transpose.count
                              ? (size_t)node->attributes.transpose.perm[d]
                              : result->rank - 1 - d))
                *out = d;
        return PAL_OK;
    case OP_MATMUL: *out = of_matmul(plan, node, result); return PAL_OK;
    case OP_ATTENTION: *out = of_attention(plan, node, result); return PAL_OK;
    case OP_EINSUM: return of_einsum(plan, node, out);
    case OP_LSTM:
    case OP_GRU:
    case OP_RNN: *out = of_recurrent(plan, node, output); return PAL_OK;
    case OP_LAYER_NORM:
    case OP_RMS_NORM:
    case OP_LP_NORM: return of_norm(plan, node, out);
    case OP_REDUCE: return of_reduce(plan, node, out);
    case OP_SLICE:
    case OP_PAD: return of_region(plan, node, out);
    case OP_ONE_HOT: *out = of_one_hot(plan, node, result); return PAL_OK;
    case OP_GATHER_ND: *out = of_gather_nd(plan, node); return PAL_OK;
    case OP_SOFTMAX:
    case OP_ARGMAX:
    case OP_TOPK:
    case OP_CUMSUM:
    case OP_CONCAT:
    case OP_SPLIT:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_SCATTER_ELEMENTS:
    case OP_REVERSE_SEQUENCE: return along_axis(plan, node, out);
    default: return PAL_OK;
    }
}

/* ---------------------------------------------------------------- all of them */

static pal_status follow_node(const plan *plan, const graph_node *node)
{
    bool mixed = false, batched = false;
    pal_status status = PAL_OK;
    for (size_t i = 0; i < node->input_count; i++) {
        mixed = mixed || axis_of(plan, node->inputs[i]) == MIXED;
        batched = batched || is_axis(axis_of(plan, node->inputs[i]));
    }
    for (size_t o = 0; !status && o < node->output_count; o++) {
        if (node->outputs[o] == GRAPH_NONE)
            continue;
        const graph_value *result = &plan->graph->values[node->outputs[o]];
        size_t axis = mixed ? MIXED : SHARED;
        if (batched && !mixed)
            status = follow(plan, node, o, &axis);
        for (size_t k = 0; k < node->post_count; k++)
            if (node->posts[k].kind == POST_ADD)
                axis = joined(axis, axis_before(result, behind(plan, node->posts[k].value)));
        if (is_axis(axis) &&
            (axis >= result->rank || result->shape[axis] % (int64_t)plan->options.samples != 0))
            axis = MIXED;
        plan->batch_axes[node->outputs[o]] = axis;
    }
    return status;
}

pal_status plan_find_samples(plan *plan)
{
    const graph *graph = plan->graph;
    const size_t samples = plan->options.samples;
    pal_status status = PAL_OK;
    if (samples < 2)
        return PAL_OK;
    plan->batch_axes = mem_array(graph->value_count, sizeof *plan->batch_axes);
    if (!plan->batch_axes)
        return fail_memory("gradients");
    for (size_t v = 0; v < graph->value_count; v++)
        plan->batch_axes[v] = SHARED;
    for (size_t i = 0; i < graph->input_count; i++) {
        const graph_value *input = &graph->values[graph->inputs[i].value];
        if (input->rank) /* a single number is given once for all */
            plan->batch_axes[graph->inputs[i].value] =
                input->shape[0] % (int64_t)samples == 0 ? 0 : MIXED;
    }
    for (size_t i = 0; !status && i < graph->main.node_count; i++) {
        status = follow_node(plan, &graph->main.nodes[i]);
        if (status)
            status = graph_node_failed(&graph->main.nodes[i], status);
    }
    return status;
}

bool plan_samples_along(const plan *plan, size_t value, size_t axis)
{
    return plan->options.samples == 1 || (plan->batch_axes && plan->batch_axes[value] == axis);
}
