#include "method/train/trainable.h"

#include <stdlib.h>

/* What input i of a node is to training. */
static weight_role role_of_input(const graph *graph, const graph_node *node, size_t i)
{
    switch (node->op) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE: return i == 1 ? ROLE_FACTOR : ROLE_OTHER;
    case OP_MATMUL: return i < 2 ? ROLE_FACTOR : ROLE_OTHER;
    case OP_EINSUM: return ROLE_FACTOR;
    case OP_LSTM:
    case OP_GRU:
    case OP_RNN: return i == 1 || i == 2 ? ROLE_FACTOR : i == 3 ? ROLE_OTHER : ROLE_FIXED;
    case OP_GATHER: return i == 0 ? ROLE_FACTOR : ROLE_FIXED;
    case OP_BATCH_NORM:
    case OP_INSTANCE_NORM:
    case OP_GROUP_NORM:
    case OP_LAYER_NORM:
    case OP_RMS_NORM: return i == 1 || i == 2 ? ROLE_OTHER : ROLE_FIXED;
    case OP_PRELU: return i == 1 ? ROLE_OTHER : ROLE_FIXED;
    case OP_BINARY: break;
    default: return ROLE_FIXED;
    }
    /* A bias that is added to a product. */
    if (node->attributes.binary.kind != BINARY_ADD || node->input_count != 2)
        return ROLE_FIXED;
    const size_t other = node->inputs[1 - i];
    for (size_t n = 0; n < graph->main.node_count; n++) {
        const graph_node *before = &graph->main.nodes[n];
        if (before->outputs[0] == other)
            return before->op == OP_MATMUL || before->op == OP_CONV || before->op == OP_EINSUM ||
                           before->op == OP_CONV_TRANSPOSE
                       ? ROLE_OTHER
                       : ROLE_FIXED;
    }
    return ROLE_FIXED;
}

/* Operators that only show their input in another form. */
static bool is_form(graph_op op)
{
    return op == OP_IDENTITY || op == OP_CAST || op == OP_TRANSPOSE || op == OP_RESHAPE ||
           op == OP_SQUEEZE || op == OP_UNSQUEEZE || op == OP_FLATTEN || op == OP_EXPAND;
}

static bool replaceable(const model_weight *weight)
{
    const pal_dtype dtype = weight->info.dtype;
    return !weight->locked && weight->dense && weight->info.elements > 1 &&
           (dtype == PAL_FLOAT16 || dtype == PAL_BFLOAT16 || dtype == PAL_FLOAT32);
}

pal_status trainable_roles(const pal_model *model, const graph *graph, weight_role *roles)
{
    size_t *weight_of = mem_array(graph->value_count, sizeof *weight_of);
    if (!weight_of)
        return fail_memory("training");
    for (size_t w = 0; w < model->weight_count; w++)
        roles[w] = ROLE_FIXED;
    for (size_t v = 0; v < graph->value_count; v++)
        weight_of[v] = graph->values[v].weight;
    for (size_t n = 0; n < graph->main.node_count; n++) {
        const graph_node *node = &graph->main.nodes[n];
        for (size_t i = 0; i < node->input_count; i++) {
            const size_t value = node->inputs[i];
            const size_t w = value == GRAPH_NONE ? GRAPH_NONE : weight_of[value];
            if (w >= model->weight_count || graph->values[value].type != GRAPH_FLOAT ||
                !replaceable(&model->weights[w]))
                continue;
            if (is_form(node->op) && i == 0)
                weight_of[node->outputs[0]] = w;
            const weight_role role = role_of_input(graph, node, i);
            if (role == ROLE_FACTOR || roles[w] == ROLE_FIXED)
                roles[w] = role;
        }
    }
    free(weight_of);
    return PAL_OK;
}
