/* Nodes of the graph. All nodes of one operation bear its name. */
#include <string.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- any node */

graph_type mil_value_type(const lowering *low, size_t value)
{
    return value == GRAPH_NONE ? GRAPH_FLOAT : low->graph->values[value].type;
}

/* The type of a node's result: inference will say the same, with shapes. */
static graph_type result_type(const lowering *low, graph_op op, const op_attributes *attributes,
                              const size_t *inputs, size_t count, size_t output)
{
    switch (op) {
    case OP_SHAPE:
    case OP_SIZE:
    case OP_ARGMAX:
    case OP_NON_ZERO: return GRAPH_INT;
    case OP_TOPK: return output ? GRAPH_INT : mil_value_type(low, inputs[0]);
    case OP_CAST: return dtype_is_float(attributes->cast.to) ? GRAPH_FLOAT : GRAPH_INT;
    case OP_SELECT:
    case OP_CONSTANT_OF_SHAPE: return mil_value_type(low, inputs[1]);
    case OP_ONE_HOT: return mil_value_type(low, inputs[2]);
    case OP_BINARY:
        return attributes->binary.kind >= BINARY_EQUAL ? GRAPH_BOOL
                                                       : mil_value_type(low, inputs[0]);
    default: return count ? mil_value_type(low, inputs[0]) : GRAPH_FLOAT;
    }
}

void mil_emit_all(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
                  size_t count, size_t *results, size_t result_count)
{
    for (size_t i = 0; i < result_count; i++)
        results[i] = GRAPH_NONE;
    if (low->status)
        return;
    graph_node *node =
        graph_add_node(low->graph, low->branch, op, low->name, low->type, count, result_count);
    if (!node) {
        mil_failed(low, PAL_ERROR_MEMORY);
        return;
    }
    if (count)
        memcpy(node->inputs, inputs, count * sizeof *inputs);
    if (attributes)
        node->attributes = *attributes;
    for (size_t i = 0; i < result_count; i++) {
        results[i] =
            graph_add_value(low->graph, "", result_type(low, op, attributes, inputs, count, i));
        node->outputs[i] = results[i];
        if (results[i] == GRAPH_NONE)
            mil_failed(low, PAL_ERROR_MEMORY);
    }
}

size_t mil_emit(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
                size_t count)
{
    size_t result;
    mil_emit_all(low, op, attributes, inputs, count, &result, 1);
    return result;
}

/* A value keeps the first name that it gets: an operation that hands its input on, or a constant,
 * becomes an identity, so that a model's outputs have their names. */
void mil_give(lowering *low, size_t i, size_t value)
{
    if (low->status)
        return;
    if (i >= low->operation->n_outputs) {
        mil_fail(low, PAL_ERROR_FORMAT, "its output %zu is missing", i);
        return;
    }
    if (value == GRAPH_NONE) {
        mil_fail(low, PAL_ERROR_FORMAT, "its output %zu has no value", i);
        return;
    }
    const Coreml__NamedType *output = low->operation->outputs[i];
    if (*low->graph->values[value].name || low->graph->values[value].constant)
        value = mil_emit(low, OP_IDENTITY, NULL, VALUES(value));
    mil_value *named = mil_scope_add(low, output->name, output->type);
    if (low->status)
        return;
    named->value = value;
    const char *name = arena_copy(&low->graph->arena, output->name.data, output->name.len);
    if (!name)
        mil_failed(low, fail_memory("a graph's values"));
    else
        low->graph->values[value].name = name;
}

/* ---------------------------------------------------------------- constants */

static size_t made(lowering *low, size_t value)
{
    if (value == GRAPH_NONE)
        mil_failed(low, PAL_ERROR_MEMORY);
    return value;
}

size_t mil_const_int(lowering *low, int64_t number)
{
    return low->status ? GRAPH_NONE : made(low, graph_add_int(low->graph, number));
}

size_t mil_const_ints(lowering *low, const int64_t *numbers, size_t count)
{
    return low->status ? GRAPH_NONE : made(low, graph_add_ints(low->graph, numbers, count));
}

size_t mil_const_like(lowering *low, size_t value, double number)
{
    if (low->status)
        return GRAPH_NONE;
    if (mil_value_type(low, value) == GRAPH_INT)
        return mil_const_int(low, (int64_t)number);
    if (mil_value_type(low, value) == GRAPH_FLOAT)
        return made(low, graph_add_float(low->graph, (float)number));
    graph_tensor *tensor = graph_add_tensor(low->graph, GRAPH_BOOL, 0, NULL);
    if (tensor)
        *(uint8_t *)tensor->owned = number != 0;
    return made(low, graph_add_constant(low->graph, "", tensor));
}

/* ---------------------------------------------------------------- the usual ones */

size_t mil_emit_unary(lowering *low, unary_kind kind, float alpha, float beta, size_t x)
{
    return mil_emit(low, OP_UNARY, &(op_attributes){.unary = {kind, alpha, beta}}, VALUES(x));
}

size_t mil_emit_cast(lowering *low, size_t x, pal_dtype to)
{
    return mil_emit(low, OP_CAST, &(op_attributes){.cast = {to}}, VALUES(x));
}

void mil_bring_together(lowering *low, size_t *a, size_t *b)
{
    const graph_type types[2] = {mil_value_type(low, *a), mil_value_type(low, *b)};
    if (low->status || types[0] == types[1])
        return;
    const pal_dtype to =
        types[0] == GRAPH_FLOAT || types[1] == GRAPH_FLOAT ? PAL_FLOAT32 : PAL_INT64;
    const graph_type wanted = to == PAL_FLOAT32 ? GRAPH_FLOAT : GRAPH_INT;
    if (types[0] != wanted)
        *a = mil_emit_cast(low, *a, to);
    if (types[1] != wanted)
        *b = mil_emit_cast(low, *b, to);
}

size_t mil_emit_binary(lowering *low, binary_kind kind, size_t a, size_t b)
{
    mil_bring_together(low, &a, &b);
    return mil_emit(low, OP_BINARY, &(op_attributes){.binary = {kind}}, VALUES(a, b));
}

size_t mil_emit_reshape(lowering *low, size_t x, const int64_t *shape, size_t count)
{
    return mil_emit(low, OP_RESHAPE, NULL, VALUES(x, mil_const_ints(low, shape, count)));
}

size_t mil_emit_transpose(lowering *low, size_t x, const int64_t *perm, size_t count)
{
    op_attributes attributes = {.transpose = {.count = count}};
    memcpy(attributes.transpose.perm, perm, count * sizeof *perm);
    return mil_emit(low, OP_TRANSPOSE, &attributes, VALUES(x));
}

size_t mil_emit_unsqueeze(lowering *low, size_t x, const int64_t *axes, size_t count)
{
    return mil_emit(low, OP_UNSQUEEZE, NULL, VALUES(x, mil_const_ints(low, axes, count)));
}

size_t mil_emit_concat(lowering *low, const size_t *values, size_t count, int64_t axis)
{
    return mil_emit(low, OP_CONCAT, &(op_attributes){.concat = {axis}}, values, count);
}

size_t mil_emit_slice(lowering *low, size_t x, const int64_t *starts, const int64_t *ends,
                      const int64_t *axes, const int64_t *steps, size_t count)
{
    return mil_emit(low, OP_SLICE, NULL,
                    VALUES(x, mil_const_ints(low, starts, count), mil_const_ints(low, ends, count),
                           mil_const_ints(low, axes, count),
                           steps ? mil_const_ints(low, steps, count) : GRAPH_NONE));
}

size_t mil_emit_gather(lowering *low, size_t x, size_t indices, int64_t axis)
{
    return mil_emit(low, OP_GATHER, &(op_attributes){.gather = {.axis = axis}}, VALUES(x, indices));
}

size_t mil_emit_shape(lowering *low, size_t x, int64_t start, int64_t end)
{
    return mil_emit(low, OP_SHAPE, &(op_attributes){.shape = {start, end}}, VALUES(x));
}

size_t mil_emit_filled(lowering *low, size_t shape, float number)
{
    return mil_emit(low, OP_CONSTANT_OF_SHAPE, NULL,
                    VALUES(shape, mil_const_like(low, GRAPH_NONE, (double)number)));
}

size_t mil_emit_range(lowering *low, size_t count)
{
    return mil_emit(low, OP_RANGE, NULL,
                    VALUES(mil_const_int(low, 0), count, mil_const_int(low, 1)));
}
