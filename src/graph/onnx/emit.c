#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/infer.h"
#include "graph/onnx/lowering.h"

void low_failed(lowering *low, pal_status status)
{
    if (low->status)
        return;
    low->status = low->node ? fail_context(status, "node '%s' (%s)", low->name, low->type) : status;
}

void low_fail(lowering *low, pal_status status, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (low->status)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    low_failed(low, fail(status, "%s", text));
}

/* ---------------------------------------------------------------- inputs and outputs */

size_t input_count(const lowering *low)
{
    return low->node->n_input;
}

size_t want(const lowering *low, size_t i)
{
    if (low->status || i >= low->node->n_input || !low->node->input[i].len)
        return GRAPH_NONE;
    return names_find(low, low->node->input[i]);
}

size_t need(lowering *low, size_t i)
{
    const size_t value = want(low, i);
    if (value == GRAPH_NONE)
        low_fail(low, PAL_ERROR_FORMAT, "its input %zu is missing", i + 1);
    return value;
}

bool has_output(const lowering *low, size_t i)
{
    return i < low->node->n_output && low->node->output[i].len;
}

void give(lowering *low, size_t i, size_t value)
{
    if (low->status || !has_output(low, i) || value == GRAPH_NONE)
        return;
    const ProtobufCBinaryData name = low->node->output[i];
    graph_value *it = &low->graph->values[value];
    if (!it->name[0] && !low->call) { /* names of a function's insides are no names of the model */
        it->name = arena_copy(&low->graph->arena, name.data, name.len);
        if (!it->name) {
            it->name = "";
            low_failed(low, fail_memory("a graph's names"));
        }
    }
    names_add(low, name, value);
}

/* ---------------------------------------------------------------- types */

graph_type value_type(const lowering *low, size_t value)
{
    return value == GRAPH_NONE ? GRAPH_FLOAT : low->graph->values[value].type;
}

pal_dtype value_dtype(const lowering *low, size_t value)
{
    if (value < low->dtype_capacity && low->dtypes[value] != PAL_DTYPE_OTHER)
        return low->dtypes[value];
    switch (value_type(low, value)) {
    case GRAPH_FLOAT: return PAL_FLOAT32;
    case GRAPH_INT: return PAL_INT64;
    default: return PAL_UINT8;
    }
}

void set_dtype(lowering *low, size_t value, pal_dtype dtype)
{
    if (value == GRAPH_NONE || low->status)
        return;
    const size_t before = low->dtype_capacity;
    if (!mem_grow((void **)&low->dtypes, &low->dtype_capacity, value + 1, sizeof *low->dtypes)) {
        low_failed(low, fail_memory("a graph's types"));
        return;
    }
    for (size_t i = before; i < low->dtype_capacity; i++)
        low->dtypes[i] = PAL_DTYPE_OTHER;
    low->dtypes[value] = dtype;
}

/* The type that the file has for a result: that of the first input of its kind, unless the
 * operator's results have one of their own. Extents and places are of 64 bits. */
static pal_dtype result_dtype(const lowering *low, graph_op op, const size_t *inputs, size_t count,
                              const size_t *results, size_t i)
{
    const graph_type type = value_type(low, results[i]);
    size_t first = 0;
    switch (op) {
    case OP_SHAPE:
    case OP_SIZE:
    case OP_ARGMAX:
    case OP_NON_ZERO: return PAL_DTYPE_OTHER;
    case OP_TOPK:
    case OP_POOL:
        if (i > 0)
            return PAL_DTYPE_OTHER;
        break;
    case OP_CONSTANT_OF_SHAPE: first = 1; break;
    case OP_ONE_HOT: first = 2; break;
    default: break;
    }
    for (size_t k = first; k < count; k++)
        if (inputs[k] != GRAPH_NONE && value_type(low, inputs[k]) == type)
            return value_dtype(low, inputs[k]);
    return PAL_DTYPE_OTHER;
}

/* ---------------------------------------------------------------- nodes */

void emit_all(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
              size_t count, size_t *results, size_t result_count)
{
    for (size_t i = 0; i < result_count; i++)
        results[i] = GRAPH_NONE;
    if (low->status)
        return;
    while (count && inputs[count - 1] == GRAPH_NONE)
        count--;
    graph_node *node =
        graph_add_node(low->graph, low->branch, op, low->name, low->type, count, result_count);
    const graph_value **values = mem_zeroed(count, sizeof *values);
    graph_value *outputs = mem_zeroed(result_count, sizeof *outputs);
    pal_status status = node && values && outputs ? PAL_OK : fail_memory("a graph's nodes");
    if (!status && attributes)
        node->attributes = *attributes;
    for (size_t i = 0; !status && i < count; i++) {
        node->inputs[i] = inputs[i];
        if (inputs[i] != GRAPH_NONE)
            values[i] = &low->graph->values[inputs[i]];
    }
    for (size_t i = 0; !status && i < result_count; i++)
        node->outputs[i] = 0; /* asked for: types are wanted */
    if (!status)
        status = graph_infer_types(node, values, outputs);
    for (size_t i = 0; !status && i < result_count; i++) {
        results[i] = graph_add_value(low->graph, "", outputs[i].type);
        node->outputs[i] = results[i];
        if (results[i] == GRAPH_NONE)
            status = PAL_ERROR_MEMORY;
        const pal_dtype dtype =
            status ? PAL_DTYPE_OTHER : result_dtype(low, op, inputs, count, results, i);
        if (dtype != PAL_DTYPE_OTHER)
            set_dtype(low, results[i], dtype);
    }
    free(values);
    free(outputs);
    if (status) {
        /* graph_infer_types() names the node itself. */
        low->status = low->status ? low->status : status;
        for (size_t i = 0; i < result_count; i++)
            results[i] = GRAPH_NONE;
    }
}

size_t emit(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
            size_t count)
{
    size_t result;
    emit_all(low, op, attributes, inputs, count, &result, 1);
    return result;
}

/* ---------------------------------------------------------------- constants */

static size_t made(lowering *low, size_t value)
{
    if (value == GRAPH_NONE)
        low_failed(low, PAL_ERROR_MEMORY);
    return value;
}

size_t const_int(lowering *low, int64_t number)
{
    return low->status ? GRAPH_NONE : made(low, graph_add_int(low->graph, number));
}

size_t const_ints(lowering *low, const int64_t *numbers, size_t count)
{
    return low->status ? GRAPH_NONE : made(low, graph_add_ints(low->graph, numbers, count));
}

size_t const_float(lowering *low, float number)
{
    return low->status ? GRAPH_NONE : made(low, graph_add_float(low->graph, number));
}

size_t const_like(lowering *low, size_t value, double number)
{
    return value_type(low, value) == GRAPH_FLOAT ? const_float(low, (float)number)
                                                 : const_int(low, (int64_t)number);
}

/* ---------------------------------------------------------------- short forms */

size_t emit_unary(lowering *low, unary_kind kind, float alpha, float beta, size_t x)
{
    const op_attributes attributes = {.unary = {kind, alpha, beta}};
    return emit(low, OP_UNARY, &attributes, VALUES(x));
}

size_t emit_binary(lowering *low, binary_kind kind, size_t a, size_t b)
{
    const op_attributes attributes = {.binary = {kind}};
    return emit(low, OP_BINARY, &attributes, VALUES(a, b));
}

size_t emit_cast(lowering *low, size_t x, pal_dtype to)
{
    const op_attributes attributes = {.cast = {to}};
    const size_t result = emit(low, OP_CAST, &attributes, VALUES(x));
    set_dtype(low, result, to);
    return result;
}

size_t emit_wrapped(lowering *low, size_t x)
{
    const pal_dtype dtype = value_dtype(low, x);
    return low->status || value_type(low, x) != GRAPH_INT || pal_dtype_bits(dtype) >= 64
               ? x
               : emit_cast(low, x, dtype);
}

size_t emit_reduce(lowering *low, reduce_kind kind, size_t x, size_t axes, bool keep)
{
    const op_attributes attributes = {.reduce = {.kind = kind, .keep_dims = keep}};
    return emit(low, OP_REDUCE, &attributes, VALUES(x, axes));
}

size_t emit_reshape(lowering *low, size_t x, size_t shape)
{
    return emit(low, OP_RESHAPE, NULL, VALUES(x, shape));
}

size_t emit_unsqueeze(lowering *low, size_t x, int64_t axis)
{
    return emit(low, OP_UNSQUEEZE, NULL, VALUES(x, const_ints(low, &axis, 1)));
}

size_t emit_shape(lowering *low, size_t x, int64_t start, int64_t end)
{
    const op_attributes attributes = {.shape = {start, end}};
    return emit(low, OP_SHAPE, &attributes, VALUES(x));
}

size_t emit_extent(lowering *low, size_t x, int64_t axis)
{
    return emit_shape(low, x, axis, axis == -1 ? INT64_MAX : axis + 1);
}

size_t emit_length(lowering *low, size_t x, int64_t axis)
{
    return emit(low, OP_SQUEEZE, NULL, VALUES(emit_extent(low, x, axis)));
}

static size_t rank_of(lowering *low, size_t x)
{
    return emit_shape(low, emit_shape(low, x, 0, INT64_MAX), 0, INT64_MAX);
}

size_t emit_from_axis(lowering *low, size_t x, size_t to, int64_t axis)
{
    const size_t behind = emit_binary(low, BINARY_SUB, rank_of(low, to), const_ints(low, &axis, 1));
    const size_t count = emit_binary(low, BINARY_SUB, behind, rank_of(low, x));
    const size_t ones = emit_filled(low, count, const_int(low, 1));
    return emit_reshape(low, x, emit_join(low, VALUES(emit_shape(low, x, 0, INT64_MAX), ones)));
}

size_t emit_count(lowering *low, size_t end)
{
    return emit(low, OP_RANGE, NULL, VALUES(const_int(low, 0), end, const_int(low, 1)));
}

size_t emit_join(lowering *low, const size_t *vectors, size_t count)
{
    const op_attributes attributes = {.concat = {0}};
    return emit(low, OP_CONCAT, &attributes, vectors, count);
}

size_t emit_filled(lowering *low, size_t shape, size_t number)
{
    return emit(low, OP_CONSTANT_OF_SHAPE, NULL, VALUES(shape, number));
}

size_t emit_select(lowering *low, size_t condition, size_t a, size_t b)
{
    return emit(low, OP_SELECT, NULL, VALUES(condition, a, b));
}

size_t emit_gather(lowering *low, size_t x, size_t indices, int64_t axis)
{
    const op_attributes attributes = {.gather = {axis, 0}};
    return emit(low, OP_GATHER, &attributes, VALUES(x, indices));
}

size_t emit_slice(lowering *low, size_t x, size_t start, size_t end, int64_t axis)
{
    return emit(low, OP_SLICE, NULL, VALUES(x, start, end, const_ints(low, &axis, 1)));
}

size_t emit_transpose(lowering *low, size_t x, const int64_t *perm, size_t count)
{
    op_attributes attributes = {.transpose = {.count = count}};
    for (size_t i = 0; i < count; i++)
        attributes.transpose.perm[i] = perm[i];
    return emit(low, OP_TRANSPOSE, &attributes, VALUES(x));
}

size_t emit_matmul(lowering *low, size_t a, size_t b, bool transpose_b)
{
    const op_attributes attributes = {.matmul = {false, transpose_b, 1}};
    return emit(low, OP_MATMUL, &attributes, VALUES(a, b));
}
