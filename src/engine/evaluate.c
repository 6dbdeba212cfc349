#include <string.h>

#include "engine/engine.h"

/* A graph of the one node, whose inputs are all constant. */
static pal_status graph_of(const graph_node *node, const graph_value *const *inputs,
                           graph_tensor *const *outputs, graph *graph)
{
    graph_node *copy = graph_add_node(graph, &graph->main, node->op, node->name, node->type,
                                      node->input_count, node->output_count);
    graph->main.outputs = arena_alloc(&graph->arena, (node->output_count + 1) * sizeof(size_t));
    if (!copy || !graph->main.outputs)
        return fail_memory("a constant");
    copy->attributes = node->attributes;
    for (size_t i = 0; i < node->input_count; i++) {
        if (!inputs[i])
            continue;
        copy->inputs[i] = graph_add_constant(graph, "", inputs[i]->constant);
        if (copy->inputs[i] == GRAPH_NONE)
            return PAL_ERROR_MEMORY;
    }
    for (size_t i = 0; i < node->output_count; i++) {
        if (!outputs[i])
            continue;
        const size_t value = graph_add_value(graph, "", outputs[i]->type);
        if (value == GRAPH_NONE)
            return PAL_ERROR_MEMORY;
        graph->values[value].rank = outputs[i]->rank;
        memcpy(graph->values[value].shape, outputs[i]->shape, sizeof outputs[i]->shape);
        copy->outputs[i] = value;
        graph->main.outputs[graph->output_count++] = value;
    }
    return PAL_OK;
}

pal_status engine_evaluate(void *user, const graph_node *node, const graph_value *const *inputs,
                           graph_tensor *const *outputs)
{
    (void)user;
    graph *graph;
    plan *plan = NULL;
    pal_status status = graph_new(&graph);
    if (status)
        return status;
    status = graph_of(node, inputs, outputs, graph);
    if (!status)
        status = plan_new(graph, &(plan_options){.threads = 1}, &plan);
    if (!status)
        status = plan_run(plan, NULL);
    for (size_t i = 0, given = 0; !status && i < node->output_count; i++)
        if (outputs[i]) {
            const buffer *result = plan_model_output(plan, given++);
            if (result->elements)
                memcpy(outputs[i]->owned, result->data,
                       result->elements * graph_type_size(result->type));
        }
    plan_free(plan);
    graph_free(graph);
    return status;
}
