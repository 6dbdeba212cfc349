/* Attention that was written out. */
#include <math.h>
#include <string.h>

#include "engine/fuse/fusing.h"

/* q k^T with the factors that stand before the softmax. */
typedef struct scores {
    const graph_node *product;
    size_t mask; /* GRAPH_NONE: none */
    float scale;
} scores;

/* Multiplications and divisions by numbers: the value before them. */
static size_t strip_scale(const fusing *f, size_t value, float *scale)
{
    for (;;) {
        const graph_node *node = only_maker_of(f, value, OP_BINARY);
        const size_t rank = value_at(f, value)->rank;
        float number;
        if (!node || node->post_count)
            return value;
        if (node->attributes.binary.kind == BINARY_DIV &&
            scalar_constant(f, node->inputs[1], rank, &number)) {
            *scale /= number;
            value = node->inputs[0];
        } else if (node->attributes.binary.kind == BINARY_MUL &&
                   scalar_constant(f, node->inputs[1], rank, &number)) {
            *scale *= number;
            value = node->inputs[0];
        } else if (node->attributes.binary.kind == BINARY_MUL &&
                   scalar_constant(f, node->inputs[0], rank, &number)) {
            *scale *= number;
            value = node->inputs[1];
        } else {
            return value;
        }
    }
}

static bool find_product(const fusing *f, size_t value, scores *out)
{
    out->scale = 1;
    value = strip_scale(f, value, &out->scale);
    out->product = only_maker_of(f, value, OP_MATMUL);
    return out->product && !out->product->post_count && out->product->input_count >= 2 &&
           input_at(out->product, 2) == GRAPH_NONE;
}

static bool find_scores(const fusing *f, size_t value, scores *out)
{
    out->mask = GRAPH_NONE;
    if (find_product(f, value, out))
        return true;
    const graph_node *sum = binary_maker(f, value, BINARY_ADD);
    /* A mask may be smaller than the scores, not larger: that would repeat them. */
    for (size_t i = 0; sum && i < 2; i++)
        if (find_product(f, sum->inputs[i], out) && same_shape(f, sum->inputs[i], value)) {
            out->mask = sum->inputs[1 - i];
            return true;
        }
    return false;
}

/* k, whose rows the product q k^T takes as columns: it was transposed there, or before. */
static size_t keys_of(fusing *f, const graph_node *product)
{
    const size_t b = product->inputs[1];
    if (product->attributes.matmul.transpose_b)
        return b;
    graph_node *turn = only_maker_of(f, b, OP_TRANSPOSE);
    const size_t rank = value_at(f, b)->rank;
    size_t perm[PAL_MAX_RANK];
    if (!turn || rank < 2)
        return GRAPH_NONE;
    /* The same transposition without the last swap gives the keys as rows. */
    read_perm(f, turn, perm);
    const graph_value before = *value_at(f, b);
    const size_t keys = graph_add_value(f->graph, "", GRAPH_FLOAT);
    if (keys == GRAPH_NONE) {
        f->failed = PAL_ERROR_MEMORY;
        return GRAPH_NONE;
    }
    graph_value *value = value_at(f, keys);
    value->rank = rank;
    memcpy(value->shape, before.shape, sizeof before.shape);
    value->shape[rank - 2] = before.shape[rank - 1];
    value->shape[rank - 1] = before.shape[rank - 2];
    turn->attributes.transpose.count = rank;
    for (size_t i = 0; i < rank; i++)
        turn->attributes.transpose.perm[i] = (int64_t)perm[i];
    turn->attributes.transpose.perm[rank - 2] = (int64_t)perm[rank - 1];
    turn->attributes.transpose.perm[rank - 1] = (int64_t)perm[rank - 2];
    turn->outputs[0] = keys;
    return keys;
}

/*  q   k^T
 *   \  /
 *  matmul - times a number - plus a mask - softmax   v
 *                                              \     /
 *                                              matmul  */
bool fuse_attention(fusing *f, graph_node *node)
{
    if (node->post_count || node->attributes.matmul.transpose_a ||
        node->attributes.matmul.transpose_b || node->attributes.matmul.alpha != 1 ||
        input_at(node, 2) != GRAPH_NONE)
        return false;
    const graph_node *softmax = only_maker_of(f, node->inputs[0], OP_SOFTMAX);
    const size_t rank = value_at(f, node->outputs[0])->rank;
    scores scores;
    if (!softmax || rank < 2 || softmax->attributes.softmax.logarithm)
        return false;
    const int64_t axis = softmax->attributes.softmax.axis;
    const size_t input = softmax->inputs[0];
    if ((axis != -1 && axis != (int64_t)value_at(f, input)->rank - 1) ||
        !find_scores(f, input, &scores) || scores.product->attributes.matmul.transpose_a)
        return false;
    const size_t q = scores.product->inputs[0];
    const graph_value *values = value_at(f, node->inputs[1]);
    if (value_at(f, q)->rank != rank || values->rank != rank ||
        value_at(f, scores.product->inputs[1])->rank != rank ||
        value_at(f, node->inputs[0])->rank != rank ||
        (scores.mask != GRAPH_NONE && value_at(f, scores.mask)->rank > rank))
        return false;
    const float scale = scores.scale * scores.product->attributes.matmul.alpha;
    /* A scale of 0 would mean another one; keys_of() comes last, because it changes the graph. */
    const size_t keys = scale == 0 ? GRAPH_NONE : keys_of(f, scores.product);
    if (keys == GRAPH_NONE)
        return false;
    const size_t inputs[4] = {q, keys, node->inputs[1], scores.mask};
    if (!set_inputs(f, node, 4, inputs))
        return false;
    node->op = OP_ATTENTION;
    node->attributes.attention.scale = scale;
    node->attributes.attention.causal = false;
    node->attributes.attention.heads_inside = false;
    return true;
}

/* [B,L,H,E] to [B,H,L,E] and back. */
static bool swaps_heads(const fusing *f, const graph_node *node)
{
    static const size_t wanted[4] = {0, 2, 1, 3};
    size_t perm[PAL_MAX_RANK];
    if (!node || value_at(f, node->inputs[0])->rank != 4)
        return false;
    read_perm(f, node, perm);
    return memcmp(perm, wanted, sizeof wanted) == 0;
}

/* transposes of q, k and v - attention - transpose back */
bool fuse_heads(fusing *f, graph_node *node)
{
    graph_node *attention = only_maker_of(f, node->inputs[0], OP_ATTENTION);
    if (!attention || attention->attributes.attention.heads_inside || !swaps_heads(f, node))
        return false;
    size_t before[3];
    for (size_t i = 0; i < 3; i++) {
        const graph_node *turn = maker_of(f, attention->inputs[i], OP_TRANSPOSE);
        if (!swaps_heads(f, turn))
            return false;
        before[i] = turn->inputs[0];
    }
    memcpy(attention->inputs, before, sizeof before);
    attention->attributes.attention.heads_inside = true;
    move_node(attention, node);
    return true;
}
