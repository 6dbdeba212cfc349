/* The walk through a model: its graph, the bodies of conditions, and functions, which are inlined.
 */
#include <stdlib.h>
#include <string.h>

#include "graph/lower.h"
#include "graph/onnx/lowering.h"

enum { MAX_DEPTH = 64, FIRST_OPSET_COMPUTED = 1 };

static void lower_nodes(lowering *low, Onnx__Node *const *nodes, size_t count, const bool *dropped,
                        const Onnx__Graph *graph);

/* ---------------------------------------------------------------- messages */

/* What messages call a node: its name, or that of its first output. */
static const char *name_of(lowering *low, const Onnx__Node *node)
{
    static const char *const unnamed = "";
    const ProtobufCBinaryData name = node->name.len   ? node->name
                                     : node->n_output ? node->output[0]
                                                      : (ProtobufCBinaryData){0, NULL};
    const char *copy = name.len ? arena_copy(&low->graph->arena, name.data, name.len) : unnamed;
    if (!copy)
        low->status = fail_memory("a graph's nodes");
    return copy ? copy : unnamed;
}

static const char *type_of(lowering *low, const Onnx__Node *node)
{
    const char *copy = arena_copy(&low->graph->arena, node->op_type.data, node->op_type.len);
    if (!copy)
        low->status = fail_memory("a graph's nodes");
    return copy ? copy : "";
}

/* ---------------------------------------------------------------- functions */

static int64_t opset_of(Onnx__OperatorSet *const *list, size_t count, int64_t otherwise)
{
    for (size_t i = 0; i < count; i++)
        if (list[i]->domain.len == 0 || protobuf_equal(list[i]->domain, "ai.onnx"))
            return list[i]->version;
    return otherwise;
}

/* Its nodes see its inputs and nothing else of the model. */
static void inline_function(lowering *low, const Onnx__Node *node, const Onnx__Function *function)
{
    const call call = {node, function, low->call};
    const struct call *outer = low->call;
    const size_t first = low->first_name, count = low->name_count;
    const int64_t opset = low->opset;
    size_t *inputs = mem_array(function->n_input, sizeof *inputs);
    size_t *outputs = mem_array(function->n_output, sizeof *outputs);
    if (!inputs || !outputs)
        low_failed(low, fail_memory("a graph's functions"));
    else if (low->depth >= MAX_DEPTH)
        low_fail(low, PAL_ERROR_FORMAT, "functions call each other more than %d deep", MAX_DEPTH);
    for (size_t i = 0; !low->status && i < function->n_input; i++)
        inputs[i] = want(low, i);
    if (!low->status) {
        low->depth++;
        low->call = &call;
        low->first_name = count;
        low->opset = opset_of(function->opset_import, function->n_opset_import, opset);
        for (size_t i = 0; i < function->n_input; i++)
            names_add(low, function->input[i], inputs[i]);
        lower_nodes(low, function->node, function->n_node, NULL, NULL);
        for (size_t i = 0; !low->status && i < function->n_output; i++)
            outputs[i] = names_find(low, function->output[i]);
        names_leave(low, count);
        low->first_name = first;
        low->call = outer;
        low->opset = opset;
        low->depth--;
    }
    low->node = node;
    for (size_t i = 0; !low->status && i < function->n_output; i++) {
        if (outputs[i] == GRAPH_NONE && has_output(low, i))
            low_fail(low, PAL_ERROR_FORMAT, "its function gives no output %zu", i + 1);
        give(low, i, outputs[i]);
    }
    free(inputs);
    free(outputs);
}

/* ---------------------------------------------------------------- nodes */

/* The weight that the node gives: a Constant, or the last operator of a palette. */
static bool gives_weight(lowering *low, const Onnx__Node *node, const Onnx__Graph *graph)
{
    if (!graph || !node->n_output)
        return false;
    const size_t weight = weight_named(low, graph, node->output[0]);
    const size_t value = weight == NONE ? GRAPH_NONE : weight_value(low, weight);
    if (value == GRAPH_NONE)
        return false;
    names_add(low, node->output[0], value);
    return true;
}

/* A value that no name stands for is an error of the file, or of the order of its nodes. */
static void check_inputs(lowering *low, Onnx__Node *const *nodes, size_t count, size_t at)
{
    const Onnx__Node *node = nodes[at];
    for (size_t i = 0; !low->status && i < node->n_input; i++) {
        const ProtobufCBinaryData name = node->input[i];
        const int length = (int)(name.len < 200 ? name.len : 200);
        if (!name.len || names_find(low, name) != GRAPH_NONE)
            continue;
        for (size_t n = at; !low->status && n < count; n++)
            for (size_t o = 0; !low->status && o < nodes[n]->n_output; o++)
                if (same_bytes(nodes[n]->output[o], name))
                    low_fail(low, PAL_ERROR_FORMAT,
                             "its input '%.*s' is computed only after it: a cycle, or nodes that "
                             "are not in order",
                             length, (const char *)name.data);
        low_fail(low, PAL_ERROR_FORMAT, "nothing gives its input '%.*s'", length,
                 (const char *)name.data);
    }
}

static void lower_nodes(lowering *low, Onnx__Node *const *nodes, size_t count, const bool *dropped,
                        const Onnx__Graph *graph)
{
    for (size_t i = 0; !low->status && i < count; i++) {
        const Onnx__Node *node = nodes[i];
        if (node->n_output == 0) /* it gives nothing */
            continue;
        /* The operators of a palette are dropped; the last of them has the name of the weight. */
        if (gives_weight(low, node, graph) || (dropped && dropped[i]) || low->status)
            continue;
        low->node = node;
        low->name = name_of(low, node);
        low->type = type_of(low, node);
        check_inputs(low, nodes, count, i);
        const onnx_operator *known = operator_find(node);
        const Onnx__Function *function = known ? NULL : function_find(low, node);
        if (low->status)
            break;
        if (known)
            known->lower(low, known->kind);
        else if (function)
            inline_function(low, node, function);
        else
            low_fail(low, PAL_ERROR_UNSUPPORTED, "it cannot be computed");
        low->node = NULL;
    }
}

/* ---------------------------------------------------------------- graphs */

static const onnx_graph *known_graph(const lowering *low, const Onnx__Graph *message)
{
    for (size_t i = 0; i < low->state->graph_count; i++)
        if (low->state->graphs[i].message == message)
            return &low->state->graphs[i];
    return NULL;
}

static void add_initializers(lowering *low, const Onnx__Graph *message, const onnx_graph *known)
{
    for (size_t i = 0; !low->status && i < message->n_initializer; i++) {
        const Onnx__Tensor *tensor = message->initializer[i];
        if (known && known->tensor_dropped[i])
            continue;
        const size_t weight = weight_named(low, message, tensor->name);
        size_t value = weight == NONE ? GRAPH_NONE : weight_value(low, weight);
        if (value == GRAPH_NONE && !low->status)
            value = constant_value(low, tensor, tensor->name);
        names_add(low, tensor->name, value);
    }
    for (size_t i = 0; !low->status && i < message->n_sparse_initializer; i++)
        low->status = fail(PAL_ERROR_UNSUPPORTED, "a sparse initializer");
}

/* The declared type and shape of an input. */
static void add_input(lowering *low, const Onnx__ValueInfo *info)
{
    const Onnx__TensorType *tensor = info->type ? info->type->tensor_type : NULL;
    const int length = (int)(info->name.len < 200 ? info->name.len : 200);
    const char *text = info->name.len ? (const char *)info->name.data : "";
    graph_type type;
    pal_dtype dtype;
    int64_t shape[PAL_MAX_RANK];
    size_t value;
    if (!tensor || !tensor->shape) {
        low->status =
            fail(PAL_ERROR_UNSUPPORTED, "input '%.*s' is no tensor of known rank", length, text);
        return;
    }
    if (!type_of_dtype(tensor->elem_type, &type, &dtype) || tensor->shape->n_dim > PAL_MAX_RANK) {
        low->status = fail(PAL_ERROR_UNSUPPORTED,
                           "input '%.*s' is of a type or rank that is not "
                           "computed with",
                           length, text);
        return;
    }
    for (size_t d = 0; d < tensor->shape->n_dim; d++) {
        const Onnx__Dimension *dimension = tensor->shape->dim[d];
        shape[d] = dimension->has_dim_value && dimension->dim_value >= 0 ? dimension->dim_value
                                                                         : GRAPH_FREE;
    }
    char *name = arena_copy(&low->graph->arena, info->name.data, info->name.len);
    low->status =
        !name ? fail_memory("a graph's inputs")
              : graph_add_input(low->graph, name, dtype, type, tensor->shape->n_dim, shape, &value);
    if (low->status)
        return;
    set_dtype(low, value, dtype);
    names_add(low, info->name, value);
}

static void take_outputs(lowering *low, const Onnx__Graph *message, graph_branch *branch)
{
    branch->outputs = arena_alloc(&low->graph->arena, (message->n_output + 1) * sizeof(size_t));
    if (!branch->outputs && !low->status)
        low->status = fail_memory("a graph's outputs");
    for (size_t i = 0; !low->status && i < message->n_output; i++) {
        const ProtobufCBinaryData name = message->output[i]->name;
        branch->outputs[i] = names_find(low, name);
        if (branch->outputs[i] == GRAPH_NONE)
            low->status = fail(PAL_ERROR_FORMAT, "nothing gives the graph's output '%.*s'",
                               (int)(name.len < 200 ? name.len : 200),
                               name.len ? (const char *)name.data : "");
    }
}

void lower_branch(lowering *low, const Onnx__Graph *message, graph_branch *branch, size_t outputs)
{
    graph_branch *outer = low->branch;
    const Onnx__Node *node = low->node;
    const char *name = low->name, *type = low->type;
    const size_t count = low->name_count;
    const onnx_graph *known = known_graph(low, message);
    if (low->status)
        return;
    if (low->depth >= MAX_DEPTH || message->n_output != outputs || message->n_input) {
        low_fail(low, PAL_ERROR_FORMAT, "a branch is too deep, or has other inputs or outputs");
        return;
    }
    low->depth++;
    low->branch = branch;
    low->node = NULL;
    add_initializers(low, message, known);
    lower_nodes(low, message->node, message->n_node, known ? known->node_dropped : NULL, message);
    take_outputs(low, message, branch);
    names_leave(low, count);
    low->depth--;
    low->branch = outer;
    low->node = node;
    low->name = name;
    low->type = type;
}

static void lower_main(lowering *low)
{
    const Onnx__Graph *message = low->state->root->graph;
    const onnx_graph *known = known_graph(low, message);
    low->branch = &low->graph->main;
    add_initializers(low, message, known);
    for (size_t i = 0; !low->status && i < message->n_input; i++)
        if (names_find(low, message->input[i]->name) == GRAPH_NONE) /* else it has a default */
            add_input(low, message->input[i]);
    lower_nodes(low, message->node, message->n_node, known ? known->node_dropped : NULL, message);
    take_outputs(low, message, &low->graph->main);
    low->graph->output_count = low->status ? 0 : message->n_output;
    /* Outputs are called as the file calls them, even where they are another value's. */
    for (size_t i = 0; !low->status && i < message->n_output; i++) {
        graph_value *value = &low->graph->values[low->graph->main.outputs[i]];
        const ProtobufCBinaryData name = message->output[i]->name;
        if (value->name[0])
            continue;
        value->name = arena_copy(&low->graph->arena, name.data, name.len);
        if (!value->name) {
            value->name = "";
            low->status = fail_memory("a graph's outputs");
        }
    }
}

pal_status graph_lower_onnx(pal_model *model, graph *graph)
{
    onnx *state = model->state;
    lowering *low = mem_zeroed(1, sizeof *low);
    if (!low)
        return fail_memory("a graph");
    *low = (lowering){.model = model, .state = state, .graph = graph, .opset = state->opset};
    names_start(low);
    if (!state->root->graph)
        low->status = fail(PAL_ERROR_FORMAT, "the model has no graph");
    else if (state->opset < FIRST_OPSET_COMPUTED)
        low->status =
            fail(PAL_ERROR_UNSUPPORTED, "opset %lld: models are computed from opset %d on",
                 (long long)state->opset, FIRST_OPSET_COMPUTED);
    else
        low->status = operators_check(low);
    if (!low->status)
        lower_main(low);
    const pal_status status = low->status;
    free(low->names);
    free(low->dtypes);
    free(low);
    return status;
}
