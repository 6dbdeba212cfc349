/* Operators that make constants. */
#include <stdlib.h>
#include <string.h>

#include "graph/onnx/lowering.h"

/* A tensor of numbers that attributes hold. */
static size_t of_numbers(lowering *low, graph_type type, size_t rank, size_t count,
                         const void *numbers)
{
    const int64_t extent = (int64_t)count;
    graph_tensor *tensor = graph_add_tensor(low->graph, type, rank, &extent);
    if (tensor && count)
        memcpy(tensor->owned, numbers, count * graph_type_size(type));
    const size_t value = graph_add_constant(low->graph, "", tensor);
    if (value == GRAPH_NONE)
        low_failed(low, PAL_ERROR_MEMORY);
    return value;
}

static void lower_constant(lowering *low, int kind)
{
    (void)kind;
    const Onnx__Attribute *value = attribute(low, "value");
    const Onnx__Attribute *floats = attribute(low, "value_floats"),
                          *ints = attribute(low, "value_ints");
    const float number = attribute_float(low, "value_float", 0);
    const int64_t whole = attribute_int(low, "value_int", 0);
    if (low->status)
        return;
    if (value && value->t)
        give(low, 0, constant_value(low, value->t, low->node->output[0]));
    else if (floats)
        give(low, 0, of_numbers(low, GRAPH_FLOAT, 1, floats->n_floats, floats->floats));
    else if (ints)
        give(low, 0, of_numbers(low, GRAPH_INT, 1, ints->n_ints, ints->ints));
    else if (attribute(low, "value_float"))
        give(low, 0, of_numbers(low, GRAPH_FLOAT, 0, 1, &number));
    else if (attribute(low, "value_int"))
        give(low, 0, of_numbers(low, GRAPH_INT, 0, 1, &whole));
    else
        low_fail(low, PAL_ERROR_UNSUPPORTED, "a constant of text, or sparse");
}

static void lower_constant_of_shape(lowering *low, int kind)
{
    (void)kind;
    const Onnx__Attribute *value = attribute(low, "value");
    const ProtobufCBinaryData unnamed = {0, NULL};
    const size_t fill =
        value && value->t ? constant_value(low, value->t, unnamed) : const_float(low, 0);
    give(low, 0, emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(need(low, 0), fill)));
}

static void lower_range(lowering *low, int kind)
{
    (void)kind;
    give(low, 0, emit(low, OP_RANGE, NULL, VALUES(need(low, 0), need(low, 1), need(low, 2))));
}

/* Ones on one diagonal: what is left of a matrix of ones between two triangles. */
static void lower_eye_like(lowering *low, int kind)
{
    (void)kind;
    enum { FLOAT_TYPE = 1 };
    const size_t x = need(low, 0), k = const_int(low, attribute_int(low, "k", 0));
    const Onnx__Attribute *asked = attribute(low, "dtype");
    graph_type type = value_type(low, x);
    pal_dtype dtype = value_dtype(low, x);
    if (low->status)
        return;
    if (asked && !type_of_dtype((int32_t)asked->i, &type, &dtype))
        low_fail(low, PAL_ERROR_UNSUPPORTED, "its type %d", (int)asked->i);
    const op_attributes upper = {.trilu = {true}}, lower = {.trilu = {false}};
    const size_t one = type == GRAPH_FLOAT ? const_float(low, 1) : const_int(low, 1);
    const size_t ones =
        emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(emit_shape(low, x, 0, INT64_MAX), one));
    size_t eye = emit(low, OP_TRILU, &upper, VALUES(ones, k));
    eye = emit(low, OP_TRILU, &lower, VALUES(eye, k));
    if (type == GRAPH_BOOL)
        eye = emit_binary(low, BINARY_NOT_EQUAL, eye, const_int(low, 0));
    set_dtype(low, eye, dtype);
    give(low, 0, eye);
}

static void lower_if(lowering *low, int kind)
{
    (void)kind;
    const Onnx__Attribute *branches[2] = {attribute(low, "then_branch"),
                                          attribute(low, "else_branch")};
    const size_t condition = need(low, 0), count = low->node->n_output;
    if (low->status)
        return;
    if (!branches[0] || !branches[0]->g || !branches[1] || !branches[1]->g) {
        low_fail(low, PAL_ERROR_FORMAT, "a branch is missing");
        return;
    }
    graph_branch *lowered = arena_zeroed(&low->graph->arena, 2 * sizeof *lowered);
    if (!lowered) {
        low_failed(low, fail_memory("a graph's nodes"));
        return;
    }
    for (int b = 0; b < 2; b++)
        lower_branch(low, branches[b]->g, &lowered[b], count);
    /* A node takes the branches over even after a failure, so that they are freed. */
    graph_node *node =
        graph_add_node(low->graph, low->branch, OP_IF, low->name, low->type, 1, count);
    if (!node) {
        for (int b = 0; b < 2; b++)
            free(lowered[b].nodes);
        low_failed(low, PAL_ERROR_MEMORY);
        return;
    }
    node->branches = lowered;
    node->inputs[0] = condition;
    for (size_t i = 0; !low->status && i < count; i++) {
        const size_t like = lowered[0].outputs[i];
        const size_t value = graph_add_value(low->graph, "", value_type(low, like));
        if (value == GRAPH_NONE) {
            low_failed(low, PAL_ERROR_MEMORY);
            return;
        }
        set_dtype(low, value, value_dtype(low, like));
        low->branch->nodes[low->branch->node_count - 1].outputs[i] = value;
        give(low, i, value);
    }
}

const onnx_operator constant_operators[] = {
    {"Constant", lower_constant, 0},
    {"ConstantOfShape", lower_constant_of_shape, 0},
    {"Range", lower_range, 0},
    {"EyeLike", lower_eye_like, 0},
    {"If", lower_if, 0},
    {0},
};
