/* What follows a product becomes one of its post-operations. */
#include "engine/fuse/fusing.h"
#include "engine/onednn.h"

/* The product that gives a value, used nowhere else, with room for one post-operation more. */
static graph_node *open_product(const fusing *f, size_t value)
{
    graph_node *node = only_maker_of(f, value, OP_CONV);
    if (!node)
        node = only_maker_of(f, value, OP_CONV_TRANSPOSE);
    if (!node)
        node = only_maker_of(f, value, OP_MATMUL);
    return node && node->post_count < GRAPH_MAX_POSTS ? node : NULL;
}

/* conv - relu, and all functions that oneDNN has */
bool fuse_activation(fusing *f, graph_node *node)
{
    const unary_kind kind = node->attributes.unary.kind;
    const float alpha = node->attributes.unary.alpha, beta = node->attributes.unary.beta;
    graph_node *product = open_product(f, node->inputs[0]);
    if (!product || node->post_count || !onednn_has_unary(kind, alpha, beta))
        return false;
    product->posts[product->post_count++] =
        (graph_post){.kind = POST_UNARY, .unary = kind, .alpha = alpha, .beta = beta};
    move_node(product, node);
    return true;
}

static bool has_sum(const graph_node *node)
{
    for (size_t i = 0; i < node->post_count; i++)
        if (node->posts[i].kind == POST_ADD)
            return true;
    return false;
}

/*  conv   x
 *     \  /
 *     add      x of the same shape */
bool fuse_sum(fusing *f, graph_node *node)
{
    if (node->attributes.binary.kind != BINARY_ADD || node->post_count ||
        node->inputs[0] == node->inputs[1])
        return false;
    for (size_t i = 2; i-- > 0;) {
        graph_node *product = open_product(f, node->inputs[i]);
        const size_t other = node->inputs[1 - i];
        if (!product || has_sum(product) || !same_shape(f, node->inputs[i], other) ||
            !same_shape(f, node->inputs[i], node->outputs[0]))
            continue;
        product->posts[product->post_count++] = (graph_post){.kind = POST_ADD, .value = other};
        move_node(product, node);
        return true;
    }
    return false;
}
