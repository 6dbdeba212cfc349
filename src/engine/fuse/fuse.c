#include "engine/fuse.h"

#include <stdlib.h>
#include <string.h>

#include "engine/fuse/fusing.h"

/* First what was written out in small operators becomes large ones; then those take up what stands
 * around them. */
typedef struct rule {
    graph_op op; /* at which the pattern ends */
    rewrite rewrite;
} rule;

/* clang-format off */
static const rule recognising[] = {
    {OP_TRANSPOSE, fuse_transposes},
    {OP_RESHAPE, fuse_flat_softmax},
    {OP_CLIP, fuse_clip},
    {OP_BINARY, fuse_function},
    {OP_UNARY, fuse_threshold},
    {OP_BINARY, fuse_layer_norm},
    {OP_BINARY, fuse_rms_norm},
    {OP_BINARY, fuse_norm_scale},
    {OP_BINARY, fuse_norm_shift},
    {OP_MATMUL, fuse_transposed_operand},
    {OP_MATMUL, fuse_attention},
    {OP_TRANSPOSE, fuse_heads},
};

static const rule joining[] = {
    {OP_CONV, fuse_pad},
    {OP_BATCH_NORM, fuse_batch_norm},
    {OP_BINARY, fuse_scale},
    {OP_BINARY, fuse_bias},
    {OP_BINARY, fuse_sum},
    {OP_UNARY, fuse_activation},
};

/* What changes no weight, and can go backward. */
static const rule training[] = {
    {OP_TRANSPOSE, fuse_transposes},
    {OP_CLIP, fuse_clip},
    {OP_BINARY, fuse_function},
    {OP_UNARY, fuse_threshold},
    {OP_BINARY, fuse_layer_norm},
    {OP_BINARY, fuse_rms_norm},
    {OP_BINARY, fuse_norm_scale},
    {OP_BINARY, fuse_norm_shift},
    {OP_MATMUL, fuse_transposed_operand},
};

static const rule joining_training[] = {
    {OP_BINARY, fuse_addition},
    {OP_UNARY, fuse_bounds},
};
/* clang-format on */

static void use(fusing *f, size_t value, size_t node)
{
    if (value == GRAPH_NONE)
        return;
    f->uses[value]++;
    f->consumer[value] = node;
}

static bool is_alive(const fusing *f, const graph_node *node)
{
    for (size_t i = 0; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE && f->uses[node->outputs[i]])
            return true;
    return false;
}

/* Counts what nodes that lead to an output use, from the last node to the first. */
static pal_status count_uses(fusing *f)
{
    const graph *graph = f->graph;
    if (f->value_count < graph->value_count) {
        free(f->uses);
        free(f->producer);
        free(f->consumer);
        f->uses = mem_array(graph->value_count, sizeof *f->uses);
        f->producer = mem_array(graph->value_count, sizeof *f->producer);
        f->consumer = mem_array(graph->value_count, sizeof *f->consumer);
        f->value_count = graph->value_count;
        if (!f->uses || !f->producer || !f->consumer)
            return fail_memory("fusing operators");
    }
    for (size_t v = 0; v < graph->value_count; v++) {
        f->uses[v] = 0;
        f->producer[v] = f->consumer[v] = GRAPH_NONE;
    }
    for (size_t i = 0; i < graph->output_count; i++)
        use(f, graph->main.outputs[i], GRAPH_NONE);
    for (size_t i = graph->main.node_count; i-- > 0;) {
        const graph_node *node = &graph->main.nodes[i];
        if (!is_alive(f, node))
            continue;
        for (size_t k = 0; k < node->input_count; k++)
            use(f, node->inputs[k], i);
        for (size_t k = 0; k < node->post_count; k++)
            if (node->posts[k].kind == POST_ADD)
                use(f, node->posts[k].value, i);
        for (size_t k = 0; k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                f->producer[node->outputs[k]] = i;
    }
    return PAL_OK;
}

/* Applies the rules at a node while one of them fits. */
static pal_status rewrite_node(fusing *f, const rule *rules, size_t count, size_t at, bool *changed)
{
    for (size_t i = 0; i < count; i++) {
        graph_node *node = &f->graph->main.nodes[at];
        if (node->op != rules[i].op || !is_alive(f, node) || !rules[i].rewrite(f, node)) {
            if (f->failed)
                return f->failed;
            continue;
        }
        *changed = true;
        pal_status status = count_uses(f);
        if (status)
            return status;
        i = SIZE_MAX; /* from the first rule again */
    }
    return PAL_OK;
}

static pal_status rewrite_all(fusing *f, const rule *rules, size_t count)
{
    bool changed = true;
    pal_status status = PAL_OK;
    while (!status && changed) {
        changed = false;
        for (size_t i = 0; !status && i < f->graph->main.node_count; i++)
            status = rewrite_node(f, rules, count, i, &changed);
    }
    return status;
}

static pal_status rewrite_twice(graph *graph, const rule *first, size_t first_count,
                                const rule *second, size_t second_count)
{
    fusing f = {.graph = graph};
    pal_status status = count_uses(&f);
    if (!status)
        status = rewrite_all(&f, first, first_count);
    if (!status)
        status = rewrite_all(&f, second, second_count);
    if (!status)
        status = graph_drop_dead(graph);
    free(f.uses);
    free(f.producer);
    free(f.consumer);
    return status;
}

#define COUNT(rules) (sizeof(rules) / sizeof *(rules))

pal_status graph_fuse(graph *graph)
{
    return rewrite_twice(graph, recognising, COUNT(recognising), joining, COUNT(joining));
}

pal_status graph_fuse_training(graph *graph)
{
    return rewrite_twice(graph, training, COUNT(training), joining_training,
                         COUNT(joining_training));
}
