#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/scratch.h"
#include "graph/graph.h"

/* No graph is larger: a file asks for values and nodes by writing them out. */
#define ARENA_LIMIT ((size_t)1 << 34)

pal_status graph_new(graph **out)
{
    graph *graph = mem_zeroed(1, sizeof *graph);
    if (!graph)
        return fail_memory("a graph");
    arena_init(&graph->arena, ARENA_LIMIT);
    *out = graph;
    return PAL_OK;
}

static void branch_free(graph_branch *branch)
{
    for (size_t i = 0; i < branch->node_count; i++)
        if (branch->nodes[i].branches)
            for (int b = 0; b < 2; b++)
                branch_free(&branch->nodes[i].branches[b]);
    free(branch->nodes);
}

void graph_free(graph *graph)
{
    if (!graph)
        return;
    for (size_t i = 0; i < graph->tensor_count; i++)
        scratch_free(graph->tensors[i]->owned);
    branch_free(&graph->main);
    free(graph->tensors);
    free(graph->values);
    free(graph->inputs);
    arena_free(&graph->arena);
    free(graph);
}

size_t graph_add_value(graph *graph, const char *name, graph_type type)
{
    if (!mem_grow((void **)&graph->values, &graph->value_capacity, graph->value_count + 1,
                  sizeof *graph->values)) {
        fail_memory("a graph's values");
        return GRAPH_NONE;
    }
    const char *copy = name && *name ? arena_copy(&graph->arena, name, strlen(name)) : "";
    if (!copy) {
        fail_memory("a graph's values");
        return GRAPH_NONE;
    }
    graph->values[graph->value_count] =
        (graph_value){.name = copy, .type = type, .weight = GRAPH_NONE};
    return graph->value_count++;
}

static graph_tensor *new_tensor(graph *graph, graph_type type, size_t rank, const int64_t *shape)
{
    if (rank > PAL_MAX_RANK) {
        fail(PAL_ERROR_UNSUPPORTED, "a tensor of %zu dimensions", rank);
        return NULL;
    }
    uint64_t elements = 1;
    for (size_t i = 0; i < rank; i++)
        if (shape[i] < 0 || !mem_multiply(elements, (uint64_t)shape[i], &elements)) {
            fail(PAL_ERROR_FORMAT, "a tensor with an impossible shape");
            return NULL;
        }
    graph_tensor *tensor = arena_zeroed(&graph->arena, sizeof *tensor);
    if (!tensor || !mem_grow((void **)&graph->tensors, &graph->tensor_capacity,
                             graph->tensor_count + 1, sizeof *graph->tensors)) {
        fail_memory("a graph's tensors");
        return NULL;
    }
    tensor->type = type;
    tensor->rank = rank;
    if (rank)
        memcpy(tensor->shape, shape, rank * sizeof *shape);
    tensor->elements = elements;
    graph->tensors[graph->tensor_count++] = tensor;
    return tensor;
}

graph_tensor *graph_add_tensor(graph *graph, graph_type type, size_t rank, const int64_t *shape)
{
    graph_tensor *tensor = new_tensor(graph, type, rank, shape);
    if (!tensor)
        return NULL;
    tensor->owned = scratch_zeroed(tensor->elements, graph_type_size(type));
    if (!tensor->owned) {
        fail_memory("a graph's constants");
        return NULL;
    }
    tensor->data = tensor->owned;
    return tensor;
}

graph_tensor *graph_add_view(graph *graph, graph_type type, size_t rank, const int64_t *shape,
                             const void *data)
{
    graph_tensor *tensor = new_tensor(graph, type, rank, shape);
    if (tensor)
        tensor->data = data;
    return tensor;
}

void graph_set_constant(graph *graph, size_t value, const graph_tensor *tensor)
{
    graph_value *it = &graph->values[value];
    it->constant = tensor;
    it->type = tensor->type;
    it->rank = tensor->rank;
    memcpy(it->shape, tensor->shape, sizeof it->shape);
}

void graph_tensor_release(const graph_tensor *tensor)
{
    if (tensor->owned)
        scratch_release(tensor->owned);
    else
        file_pages_release(tensor->data, tensor->elements * graph_type_size(tensor->type));
}

size_t graph_add_constant(graph *graph, const char *name, const graph_tensor *tensor)
{
    if (!tensor)
        return GRAPH_NONE;
    const size_t value = graph_add_value(graph, name, tensor->type);
    if (value != GRAPH_NONE)
        graph_set_constant(graph, value, tensor);
    return value;
}

size_t graph_add_ints(graph *graph, const int64_t *numbers, size_t count)
{
    const int64_t extent = (int64_t)count;
    graph_tensor *tensor = graph_add_tensor(graph, GRAPH_INT, 1, &extent);
    if (tensor && count)
        memcpy(tensor->owned, numbers, count * sizeof *numbers);
    return graph_add_constant(graph, "", tensor);
}

size_t graph_add_int(graph *graph, int64_t number)
{
    graph_tensor *tensor = graph_add_tensor(graph, GRAPH_INT, 0, NULL);
    if (tensor)
        memcpy(tensor->owned, &number, sizeof number);
    return graph_add_constant(graph, "", tensor);
}

size_t graph_add_float(graph *graph, float number)
{
    graph_tensor *tensor = graph_add_tensor(graph, GRAPH_FLOAT, 0, NULL);
    if (tensor)
        memcpy(tensor->owned, &number, sizeof number);
    return graph_add_constant(graph, "", tensor);
}

static size_t *indices(graph *graph, size_t count)
{
    size_t *list = arena_alloc(&graph->arena, (count ? count : 1) * sizeof *list);
    for (size_t i = 0; list && i < count; i++)
        list[i] = GRAPH_NONE;
    return list;
}

graph_node *graph_add_node(graph *graph, graph_branch *branch, graph_op op, const char *name,
                           const char *type, size_t input_count, size_t output_count)
{
    graph_node node = {.op = op,
                       .name = arena_copy(&graph->arena, name, strlen(name)),
                       .type = arena_copy(&graph->arena, type, strlen(type)),
                       .inputs = indices(graph, input_count),
                       .outputs = indices(graph, output_count),
                       .input_count = input_count,
                       .output_count = output_count};
    if (!node.name || !node.type || !node.inputs || !node.outputs ||
        !mem_grow((void **)&branch->nodes, &branch->node_capacity, branch->node_count + 1,
                  sizeof *branch->nodes)) {
        fail_memory("a graph's nodes");
        return NULL;
    }
    branch->nodes[branch->node_count] = node;
    return &branch->nodes[branch->node_count++];
}

pal_status graph_add_input(graph *graph, const char *name, pal_dtype dtype, graph_type type,
                           size_t rank, const int64_t *shape, size_t *value)
{
    size_t capacity = graph->input_count; /* few: grown one at a time */
    if (rank > PAL_MAX_RANK)
        return fail(PAL_ERROR_UNSUPPORTED, "input '%s' has %zu dimensions", name, rank);
    if (!mem_grow((void **)&graph->inputs, &capacity, graph->input_count + 1,
                  sizeof *graph->inputs))
        return fail_memory("a graph's inputs");
    const size_t added = graph_add_value(graph, name, type);
    if (added == GRAPH_NONE)
        return PAL_ERROR_MEMORY;
    graph_input *input = &graph->inputs[graph->input_count++];
    *input = (graph_input){.value = added, .dtype = dtype, .rank = rank};
    if (rank)
        memcpy(input->shape, shape, rank * sizeof *shape);
    *value = added;
    return PAL_OK;
}

pal_status graph_node_failed(const graph_node *node, pal_status status)
{
    return fail_context(status, "node '%s' (%s)", node->name, node->type);
}
