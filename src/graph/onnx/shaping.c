/* Operators that reshape, cut, join and pad. */
#include "graph/onnx/lowering.h"

/* The numbers of an attribute as a constant, or the i-th input: what is an attribute in old opsets
 * became an input. */
static size_t numbers(lowering *low, const char *name, size_t i)
{
    int64_t list[2 * PAL_MAX_RANK];
    const size_t count = attribute_ints(low, name, list, 2 * PAL_MAX_RANK);
    return count != NONE ? const_ints(low, list, count) : want(low, i);
}

static void lower_reshape(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.reshape = {attribute_int(low, "allowzero", 0) != 0}};
    const size_t shape = numbers(low, "shape", 1);
    give(low, 0, emit(low, OP_RESHAPE, &attributes, VALUES(need(low, 0), shape)));
}

static void lower_axes(lowering *low, int kind)
{
    const size_t axes = numbers(low, "axes", 1);
    give(low, 0, emit(low, (graph_op)kind, NULL, VALUES(need(low, 0), axes)));
}

static void lower_flatten(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.flatten = {attribute_int(low, "axis", 1)}};
    give(low, 0, emit(low, OP_FLATTEN, &attributes, VALUES(need(low, 0))));
}

static void lower_transpose(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {0};
    const size_t count = attribute_ints(low, "perm", attributes.transpose.perm, PAL_MAX_RANK);
    attributes.transpose.count = count == NONE ? 0 : count;
    give(low, 0, emit(low, OP_TRANSPOSE, &attributes, VALUES(need(low, 0))));
}

static void lower_with_shape(lowering *low, int kind)
{
    give(low, 0, emit(low, (graph_op)kind, NULL, VALUES(need(low, 0), need(low, 1))));
}

static void lower_concat(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.concat = {attribute_int(low, "axis", 1)}};
    const size_t count = input_count(low);
    size_t *inputs = arena_alloc(&low->graph->arena, (count + 1) * sizeof *inputs);
    if (!inputs) {
        low_failed(low, fail_memory("a graph's nodes"));
        return;
    }
    for (size_t i = 0; i < count; i++)
        inputs[i] = need(low, i);
    give(low, 0, emit(low, OP_CONCAT, &attributes, inputs, count));
}

static void lower_split(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.split = {attribute_int(low, "axis", 0)}};
    const size_t sizes = numbers(low, "split", 1), count = low->node->n_output;
    size_t *results = arena_alloc(&low->graph->arena, (count + 1) * sizeof *results);
    if (!results) {
        low_failed(low, fail_memory("a graph's nodes"));
        return;
    }
    emit_all(low, OP_SPLIT, &attributes, VALUES(need(low, 0), sizes), results, count);
    for (size_t i = 0; i < count; i++)
        give(low, i, results[i]);
}

static void lower_slice(lowering *low, int kind)
{
    (void)kind;
    const size_t starts = numbers(low, "starts", 1), ends = numbers(low, "ends", 2);
    const size_t axes = numbers(low, "axes", 3), steps = want(low, 4);
    give(low, 0, emit(low, OP_SLICE, NULL, VALUES(need(low, 0), starts, ends, axes, steps)));
}

static void lower_pad(lowering *low, int kind)
{
    (void)kind;
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap", NULL};
    op_attributes attributes = {0};
    attributes.pad.mode = attribute_choice(low, "mode", 0, modes);
    const size_t x = need(low, 0), pads = numbers(low, "pads", 1);
    const float value = attribute_float(low, "value", 0);
    const size_t fill = low->opset >= 11 ? want(low, 2) : const_like(low, x, value);
    give(low, 0,
         emit(low, OP_PAD, &attributes,
              VALUES(x, pads, fill, low->opset >= 18 ? want(low, 3) : GRAPH_NONE)));
}

static void lower_blocks(lowering *low, int kind)
{
    const op_attributes attributes = {
        .blocks = {attribute_int(low, "blocksize", 1), attribute_is(low, "mode", "CRD")}};
    give(low, 0, emit(low, (graph_op)kind, &attributes, VALUES(need(low, 0))));
}

static void lower_trilu(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.trilu = {attribute_int(low, "upper", 1) != 0}};
    give(low, 0, emit(low, OP_TRILU, &attributes, VALUES(need(low, 0), want(low, 1))));
}

static void lower_reverse(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {
        .sequence = {attribute_int(low, "batch_axis", 1), attribute_int(low, "time_axis", 0)}};
    give(low, 0, emit(low, OP_REVERSE_SEQUENCE, &attributes, VALUES(need(low, 0), need(low, 1))));
}

static void lower_shape(lowering *low, int kind)
{
    (void)kind;
    give(low, 0,
         emit_shape(low, need(low, 0), attribute_int(low, "start", 0),
                    attribute_int(low, "end", INT64_MAX)));
}

static void lower_size(lowering *low, int kind)
{
    (void)kind;
    give(low, 0, emit(low, OP_SIZE, NULL, VALUES(need(low, 0))));
}

const onnx_operator shaping_operators[] = {
    {"Reshape", lower_reshape, 0},
    {"Squeeze", lower_axes, OP_SQUEEZE},
    {"Unsqueeze", lower_axes, OP_UNSQUEEZE},
    {"Flatten", lower_flatten, 0},
    {"Transpose", lower_transpose, 0},
    {"Expand", lower_with_shape, OP_EXPAND},
    {"Tile", lower_with_shape, OP_TILE},
    {"Concat", lower_concat, 0},
    {"Split", lower_split, 0},
    {"Slice", lower_slice, 0},
    {"Pad", lower_pad, 0},
    {"DepthToSpace", lower_blocks, OP_DEPTH_TO_SPACE},
    {"SpaceToDepth", lower_blocks, OP_SPACE_TO_DEPTH},
    {"Trilu", lower_trilu, 0},
    {"ReverseSequence", lower_reverse, 0},
    {"Shape", lower_shape, 0},
    {"Size", lower_size, 0},
    {0},
};
