#include "engine/fuse.h"

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

/* Applies the rules at a node while one of them fits. */
static pal_status rewrite_node(fusing *f, const rule *rules, size_t count, size_t at, bool *changed)
{
    for (size_t i = 0; i < count; i++) {
        graph_node *node = &f->graph->main.nodes[at];
        if (node->op != rules[i].op || !is_alive(f, node))
            continue;
        uses_begin(f, at);
        const bool fits = rules[i].rewrite(f, node);
        pal_status status = uses_end(f, fits);
        if (status)
            return status;
        if (!fits)
            continue;
        *changed = true;
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
    pal_status status = uses_count(&f);
    if (!status)
        status = rewrite_all(&f, first, first_count);
    if (!status)
        status = rewrite_all(&f, second, second_count);
    if (!status)
        status = graph_drop_dead(graph);
    uses_free(&f);
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
