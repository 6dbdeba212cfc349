/* A small ONNX model, field by field; numbers are those of the published specification. */
#include <stdio.h>
#include <string.h>

#include "samples.h"

enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER = 2,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_OPERATOR = 4,
    NODE_ATTRIBUTE = 5,
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_I = 3,
    ATTRIBUTE_T = 5,
    ATTRIBUTE_G = 6,
    ATTRIBUTE_TYPE = 20,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION = 14,
};

/* ---------------------------------------------------------------- fields */

static void add_varint(buffer *b, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        buffer_add(b, &byte, 1);
        value >>= 7;
    } while (value);
}

static void add_number(buffer *b, unsigned field, uint64_t value)
{
    add_varint(b, (uint64_t)field << 3);
    add_varint(b, value);
}

static void add_bytes(buffer *b, unsigned field, const void *data, size_t size)
{
    add_varint(b, (uint64_t)field << 3 | 2);
    add_varint(b, size);
    buffer_add(b, data, size);
}

static void add_text(buffer *b, unsigned field, const char *text)
{
    add_bytes(b, field, text, strlen(text));
}

/* Takes the message over. */
static void add_message(buffer *b, unsigned field, buffer message)
{
    add_bytes(b, field, message.data, message.size);
    buffer_free(&message);
}

static void add_entry(buffer *tensor, const char *key, const char *value)
{
    buffer entry = {0};
    add_text(&entry, 1, key);
    add_text(&entry, 2, value);
    add_message(tensor, TENSOR_EXTERNAL, entry);
}

static void add_value(buffer *graph, unsigned field, const char *name)
{
    buffer value = {0};
    add_text(&value, 1, name);
    add_message(graph, field, value);
}

/* ---------------------------------------------------------------- nodes */

static buffer make_node(const char *operator, const char * a, const char *b, const char *output)
{
    buffer node = {0};
    if (a)
        add_text(&node, NODE_INPUT, a);
    if (b)
        add_text(&node, NODE_INPUT, b);
    add_text(&node, NODE_OUTPUT, output);
    add_text(&node, NODE_OPERATOR, operator);
    return node;
}

static void add_attribute(buffer *node, const char *name, int type, unsigned field, buffer content)
{
    buffer attribute = {0};
    add_text(&attribute, ATTRIBUTE_NAME, name);
    add_message(&attribute, field, content);
    add_number(&attribute, ATTRIBUTE_TYPE, (uint64_t)type);
    add_message(node, NODE_ATTRIBUTE, attribute);
}

static void add_integer(buffer *node, const char *name, int64_t value)
{
    buffer attribute = {0};
    add_text(&attribute, ATTRIBUTE_NAME, name);
    add_number(&attribute, ATTRIBUTE_I, (uint64_t)value);
    add_number(&attribute, ATTRIBUTE_TYPE, 2);
    add_message(node, NODE_ATTRIBUTE, attribute);
}

/* ---------------------------------------------------------------- weights */

typedef struct maker {
    const sample_model *model;
    buffer external;
    uint64_t seed;
} maker;

static int tensor_type(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 ? 10 : dtype == PAL_BFLOAT16 ? 16 : 1;
}

static buffer make_tensor(maker *m, const char *name, const uint64_t *shape, size_t rank)
{
    const sample_model *model = m->model;
    buffer tensor = {0}, values = {0};
    uint64_t elements = 1;
    for (size_t d = 0; d < rank; d++) {
        add_number(&tensor, TENSOR_DIMS, shape[d]);
        elements *= shape[d];
    }
    sample_values(&values, model->dtype, elements, model->distinct, &m->seed);
    add_number(&tensor, TENSOR_TYPE, (uint64_t)tensor_type(model->dtype));
    add_text(&tensor, TENSOR_NAME, name);
    if (model->storage == STORED_EXTERNAL) {
        char offset[32], length[32];
        snprintf(offset, sizeof offset, "%zu", m->external.size);
        snprintf(length, sizeof length, "%zu", values.size);
        add_entry(&tensor, "location", "model.data");
        add_entry(&tensor, "offset", offset);
        add_entry(&tensor, "length", length);
        add_number(&tensor, TENSOR_LOCATION, 1);
        buffer_add(&m->external, values.data, values.size);
    } else {
        add_bytes(&tensor, model->storage == STORED_FLOATS ? TENSOR_FLOATS : TENSOR_RAW,
                  values.data, values.size);
    }
    buffer_free(&values);
    return tensor;
}

static void add_weight(maker *m, buffer *graph, const char *name, const uint64_t *shape,
                       size_t rank)
{
    buffer tensor = make_tensor(m, name, shape, rank);
    if (m->model->storage == STORED_CONSTANTS) {
        buffer node = make_node("Constant", NULL, NULL, name);
        add_attribute(&node, "value", 4, ATTRIBUTE_T, tensor);
        add_message(graph, GRAPH_NODE, node);
        return;
    }
    add_message(graph, GRAPH_INITIALIZER, tensor);
    if (m->model->ir_version < 4)
        add_value(graph, GRAPH_INPUT, name);
}

/* ---------------------------------------------------------------- graphs */

/* The body of an If: a matrix of its own. */
static buffer make_branch(maker *m, const char *name)
{
    buffer graph = {0};
    char weight[32], output[32];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(output, sizeof output, "%s.output", name);
    add_text(&graph, GRAPH_NAME, name);
    add_weight(m, &graph, weight, (const uint64_t[]){8, 12}, 2);
    add_message(&graph, GRAPH_NODE, make_node("MatMul", "g", weight, output));
    add_value(&graph, GRAPH_OUTPUT, output);
    return graph;
}

static buffer make_graph(maker *m)
{
    buffer graph = {0};
    add_text(&graph, GRAPH_NAME, "sample");
    add_value(&graph, GRAPH_INPUT, "x");
    add_weight(m, &graph, "conv.weight", (const uint64_t[]){8, 4, 3, 3}, 4);
    add_weight(m, &graph, "up.weight", (const uint64_t[]){8, 6, 2, 2}, 4);
    add_weight(m, &graph, "bias", (const uint64_t[]){6, 1, 1}, 3);
    add_weight(m, &graph, "shared.weight", (const uint64_t[]){16, 24}, 2);
    add_weight(m, &graph, "linear.weight", (const uint64_t[]){8, 24}, 2);
    buffer conv = make_node("Conv", "x", "conv.weight", "a");
    add_integer(&conv, "group", 2);
    add_message(&graph, GRAPH_NODE, conv);
    add_message(&graph, GRAPH_NODE, make_node("ConvTranspose", "a", "up.weight", "b"));
    add_message(&graph, GRAPH_NODE, make_node("Add", "b", "bias", "c"));
    add_message(&graph, GRAPH_NODE, make_node("MatMul", "c", "shared.weight", "d"));
    add_message(&graph, GRAPH_NODE, make_node("MatMul", "shared.weight", "d", "e"));
    buffer linear = make_node("Gemm", "e", "linear.weight", "g");
    add_integer(&linear, "transB", 1);
    add_message(&graph, GRAPH_NODE, linear);
    if (m->model->undefined)
        add_message(&graph, GRAPH_NODE, make_node("Identity", m->model->undefined, NULL, "i"));
    if (m->model->branches) {
        buffer branch = make_node("If", "x", NULL, "h");
        add_attribute(&branch, "then_branch", 5, ATTRIBUTE_G, make_branch(m, "then"));
        add_attribute(&branch, "else_branch", 5, ATTRIBUTE_G, make_branch(m, "else"));
        add_message(&graph, GRAPH_NODE, branch);
    }
    add_value(&graph, GRAPH_OUTPUT, m->model->branches ? "h" : "g");
    return graph;
}

void sample_onnx(const char *folder, const sample_model *model)
{
    char path[512];
    maker m = {.model = model, .seed = 11};
    buffer root = {0}, opset = {0};
    add_number(&root, MODEL_IR_VERSION, (uint64_t)model->ir_version);
    add_text(&root, MODEL_PRODUCER, "samples");
    add_message(&root, MODEL_GRAPH, make_graph(&m));
    add_number(&opset, 2, (uint64_t)model->opset);
    add_message(&root, MODEL_OPSET, opset);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    sample_write(path, root.data, root.size);
    snprintf(path, sizeof path, "%s/model.data", folder);
    if (m.external.size)
        sample_write(path, m.external.data, m.external.size);
    buffer_free(&root);
    buffer_free(&m.external);
}
