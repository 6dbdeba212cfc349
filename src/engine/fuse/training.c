/* What may follow an operator as a part of it while gradients are taken: sums and bounds, whose way
 * back needs the result alone. So the operator's own result need not be kept. */
#include "engine/fuse/fusing.h"

static bool takes_posts(graph_op op)
{
    return op == OP_BATCH_NORM || op == OP_CONV || op == OP_CONV_TRANSPOSE || op == OP_MATMUL;
}

/* The node that gives a value, used nowhere else, if it takes up what follows. */
static graph_node *open_node(const fusing *f, size_t value)
{
    if (value >= f->value_count || f->producer[value] == GRAPH_NONE)
        return NULL;
    graph_node *node = &f->graph->main.nodes[f->producer[value]];
    return takes_posts(node->op) ? only_maker_of(f, value, node->op) : NULL;
}

static bool is_bounded(const graph_node *node)
{
    return node->post_count && node->posts[node->post_count - 1].kind == POST_UNARY;
}

/* batch norm - relu, convolution - sum - clip, ... */
bool fuse_bounds(fusing *f, graph_node *node)
{
    const unary_kind kind = node->attributes.unary.kind;
    graph_node *before = open_node(f, node->inputs[0]);
    if ((kind != UNARY_RELU && kind != UNARY_CLIP) || !before || is_bounded(before))
        return false;
    before->posts[before->post_count++] = (graph_post){.kind = POST_UNARY,
                                                       .unary = kind,
                                                       .alpha = node->attributes.unary.alpha,
                                                       .beta = node->attributes.unary.beta};
    move_node(before, node);
    return true;
}

/* batch norm   x
 *          \  /
 *          add      x of the same shape */
bool fuse_addition(fusing *f, graph_node *node)
{
    if (node->attributes.binary.kind != BINARY_ADD || node->inputs[0] == node->inputs[1] ||
        !same_shape(f, node->inputs[0], node->inputs[1]))
        return false;
    for (size_t i = 2; i-- > 0;) {
        graph_node *before = open_node(f, node->inputs[i]);
        const size_t other = node->inputs[1 - i];
        if (!before || before->post_count || value_at(f, other)->constant)
            continue;
        before->posts[before->post_count++] = (graph_post){.kind = POST_ADD, .value = other};
        move_node(before, node);
        return true;
    }
    return false;
}
