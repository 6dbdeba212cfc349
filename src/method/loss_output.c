#include "method/loss_output.h"

#include <string.h>

pal_status loss_find_output(const graph *graph, const char *name, size_t *output)
{
    for (size_t i = 0; i < graph->output_count; i++) {
        const graph_value *value = &graph->values[graph->main.outputs[i]];
        if (name ? strcmp(value->name, name) == 0 : value->type == GRAPH_FLOAT) {
            *output = i;
            return PAL_OK;
        }
    }
    return name ? fail(PAL_ERROR_ARGUMENT, "the model has no output '%s'", name)
                : fail(PAL_ERROR_UNSUPPORTED, "the model has no output of numbers");
}

static const graph_node *maker_of(const graph *graph, size_t value)
{
    for (size_t i = 0; i < graph->main.node_count; i++)
        if (graph->main.nodes[i].outputs[0] == value)
            return &graph->main.nodes[i];
    return NULL;
}

/* Whether a node hands on its first input's numbers in their order. */
static bool hands_on(const graph *graph, const graph_node *node)
{
    switch (node->op) {
    case OP_IDENTITY:
    case OP_RESHAPE:
    case OP_SQUEEZE:
    case OP_UNSQUEEZE:
    case OP_FLATTEN: return true;
    case OP_CAST:
        return graph->values[node->inputs[0]].type == GRAPH_FLOAT &&
               graph->values[node->outputs[0]].type == GRAPH_FLOAT;
    default: return false;
    }
}

score_kind loss_scores_of(const graph *graph, size_t value)
{
    const graph_node *node = maker_of(graph, value);
    while (node && hands_on(graph, node))
        node = maker_of(graph, node->inputs[0]);
    const bool logarithm = node && node->op == OP_UNARY && node->attributes.unary.kind == UNARY_LOG;
    if (logarithm)
        node = maker_of(graph, node->inputs[0]);
    if (!node || node->op != OP_SOFTMAX)
        return SCORES_PLAIN;
    if (node->attributes.softmax.logarithm)
        return logarithm ? SCORES_PLAIN : SCORES_LOGARITHMS;
    return logarithm ? SCORES_LOGARITHMS : SCORES_PROBABILITIES;
}

/* The tokens that a language model was given: an input of integers as long as its output. */
static const pal_tensor *tokens_of(const feed_batch *batch, size_t places)
{
    for (size_t i = 0; i < batch->input_count; i++)
        if (batch->inputs[i].dtype == PAL_INT64 && batch->inputs[i].rank == 2 &&
            (size_t)batch->inputs[i].shape[1] == places)
            return &batch->inputs[i];
    return NULL;
}

pal_status loss_targets(const feed_batch *batch, size_t sample, size_t places, size_t classes,
                        int64_t *targets, bool *known)
{
    *known = false;
    if (places == 1) {
        if (!batch->labels)
            return PAL_OK;
        targets[0] = batch->labels[sample];
    } else {
        const pal_tensor *tokens = tokens_of(batch, places);
        if (!tokens)
            return PAL_OK;
        const int64_t *own = (const int64_t *)tokens->data + sample * places;
        for (size_t p = 0; p < places; p++)
            targets[p] = p + 1 < places ? own[p + 1] : -1;
    }
    for (size_t p = 0; p < places; p++)
        if (targets[p] < (places == 1 ? 0 : -1) || targets[p] >= (int64_t)classes)
            return fail(PAL_ERROR_VALUE, "label %lld, but the output has %zu classes",
                        (long long)targets[p], classes);
    *known = true;
    return PAL_OK;
}
