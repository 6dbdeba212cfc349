/* What only moves elements becomes part of what computes. */
#include <string.h>

#include "engine/fuse/fusing.h"
#include "graph/infer.h"

void read_perm(const fusing *f, const graph_node *node, size_t perm[PAL_MAX_RANK])
{
    const size_t rank = value_at(f, node->inputs[0])->rank;
    for (size_t i = 0; i < rank; i++)
        perm[i] = node->attributes.transpose.count ? (size_t)node->attributes.transpose.perm[i]
                                                   : rank - 1 - i;
}

/* transpose - transpose */
bool fuse_transposes(fusing *f, graph_node *node)
{
    const graph_node *before = maker_of(f, node->inputs[0], OP_TRANSPOSE);
    size_t first[PAL_MAX_RANK], second[PAL_MAX_RANK];
    const size_t rank = value_at(f, node->outputs[0])->rank;
    if (!before)
        return false;
    read_perm(f, before, first);
    read_perm(f, node, second);
    if (!set_inputs(f, node, 1, before->inputs))
        return false;
    bool same = true;
    node->attributes.transpose.count = rank;
    for (size_t i = 0; i < rank; i++) {
        node->attributes.transpose.perm[i] = (int64_t)first[second[i]];
        same = same && first[second[i]] == i;
    }
    if (same)
        node->op = OP_IDENTITY;
    return true;
}

/* matmul of a transpose of the last two dimensions */
bool fuse_transposed_operand(fusing *f, graph_node *node)
{
    for (size_t i = 0; i < 2; i++) {
        const graph_node *turn = maker_of(f, node->inputs[i], OP_TRANSPOSE);
        if (!turn)
            continue;
        const size_t rank = value_at(f, node->inputs[i])->rank;
        size_t perm[PAL_MAX_RANK];
        read_perm(f, turn, perm);
        bool swaps = rank >= 2 && perm[rank - 1] == rank - 2 && perm[rank - 2] == rank - 1;
        for (size_t d = 0; swaps && d + 2 < rank; d++)
            swaps = perm[d] == d;
        if (!swaps)
            continue;
        bool *flag =
            i ? &node->attributes.matmul.transpose_b : &node->attributes.matmul.transpose_a;
        *flag = !*flag;
        node->inputs[i] = turn->inputs[0];
        return true;
    }
    return false;
}

static const graph_node *only_view(const fusing *f, size_t value)
{
    static const graph_op views[] = {OP_RESHAPE, OP_FLATTEN, OP_SQUEEZE, OP_UNSQUEEZE};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        const graph_node *node = only_maker_of(f, value, views[i]);
        if (node)
            return node;
    }
    return NULL;
}

/* reshape - softmax along the last dimension - reshape back */
bool fuse_flat_softmax(fusing *f, graph_node *node)
{
    graph_node *softmax = only_maker_of(f, node->inputs[0], OP_SOFTMAX);
    const graph_node *flat = softmax ? only_view(f, softmax->inputs[0]) : NULL;
    if (!flat || !same_shape(f, flat->inputs[0], node->outputs[0]))
        return false;
    const graph_value *x = value_at(f, flat->inputs[0]), *y = value_at(f, softmax->inputs[0]);
    const int64_t axis = softmax->attributes.softmax.axis;
    if (!x->rank || !y->rank || (axis != -1 && axis != (int64_t)y->rank - 1) ||
        x->shape[x->rank - 1] != y->shape[y->rank - 1])
        return false;
    softmax->inputs[0] = flat->inputs[0];
    softmax->attributes.softmax.axis = -1;
    move_node(softmax, node);
    return true;
}

/* pad with zeros - conv */
bool fuse_pad(fusing *f, graph_node *node)
{
    const graph_node *pad = only_maker_of(f, node->inputs[0], OP_PAD);
    window *w = &node->attributes.window;
    if (!pad || pad->attributes.pad.mode != PAD_CONSTANT ||
        (w->rule != PAD_EXPLICIT && w->rule != PAD_VALID))
        return false;
    const graph_value *x = value_at(f, pad->inputs[0]);
    const size_t number = input_at(pad, 2);
    float with = 0;
    if (number != GRAPH_NONE && (!scalar_constant(f, number, 1, &with) || with != 0))
        return false;
    int64_t begin[PAL_MAX_RANK], end[PAL_MAX_RANK];
    const graph_value *inputs[4];
    for (size_t i = 0; i < 4; i++)
        inputs[i] = input_at(pad, i) == GRAPH_NONE ? NULL : value_at(f, input_at(pad, i));
    if (resolve_pads(pad, inputs, begin, end))
        return false;
    for (size_t i = 0; i < x->rank; i++)
        if (begin[i] < 0 || end[i] < 0 || (i < 2 && (begin[i] || end[i])))
            return false;
    for (size_t i = 2; i < x->rank; i++) {
        const bool valid = w->rule == PAD_VALID;
        w->pad_begin[i - 2] = (valid ? 0 : w->pad_begin[i - 2]) + begin[i];
        w->pad_end[i - 2] = (valid ? 0 : w->pad_end[i - 2]) + end[i];
    }
    w->rule = PAD_EXPLICIT;
    node->inputs[0] = pad->inputs[0];
    return true;
}
