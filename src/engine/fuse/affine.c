/* What is constant for each channel goes into the weights and the bias of the product before. */
#include <math.h>
#include <string.h>

#include "engine/fuse/fusing.h"
#include "graph/infer.h"

/* A product whose weights are constant: which of its result's axes are channels, and how the
 * weights hold them. */
typedef struct product {
    graph_node *node;
    size_t axis, rank;
    int64_t channels;
} product;

/* The product that gives a value, used nowhere else and not followed by anything yet. One of
 * weights without elements has nothing to take up a constant. */
static bool find_product(const fusing *f, size_t value, product *out)
{
    *out = (product){0};
    if (value == GRAPH_NONE)
        return false;
    const graph_value *result = value_at(f, value);
    if ((out->node = only_maker_of(f, value, OP_CONV)) ||
        (out->node = only_maker_of(f, value, OP_CONV_TRANSPOSE))) {
        out->axis = 1;
    } else if ((out->node = only_maker_of(f, value, OP_MATMUL))) {
        /* Vectors as operands lack the axis. */
        if (value_at(f, out->node->inputs[1])->rank < 2 || result->rank < 1)
            return false;
        out->axis = result->rank - 1;
    } else {
        return false;
    }
    out->rank = result->rank;
    out->channels = result->shape[out->axis];
    return out->node->post_count == 0 && graph_elements(value_at(f, out->node->inputs[1])) > 0;
}

static bool constant_weights(const fusing *f, const product *p)
{
    const graph_value *w = value_at(f, p->node->inputs[1]);
    const size_t bias = input_at(p->node, 2);
    int64_t count;
    return w->constant && (p->node->op != OP_MATMUL || w->rank == 2) &&
           (bias == GRAPH_NONE ||
            axis_constant(f, bias, p->node->op == OP_MATMUL ? p->rank : 1,
                          p->node->op == OP_MATMUL ? p->axis : 0, p->channels, &count));
}

/* The channel of the result that each element of the weights belongs to: runs of `run` elements
 * share one, and there are `channels` runs before it starts over, `groups` times apart. */
static void scale_weights(const fusing *f, const product *p, const float *factors,
                          const float *from, float *to)
{
    const graph_value *w = value_at(f, p->node->inputs[1]);
    const int64_t elements = (int64_t)graph_elements(w);
    if (p->node->op == OP_CONV_TRANSPOSE) {
        /* [C, O/g, ...] */
        const int64_t groups = p->node->attributes.window.groups, out = w->shape[1];
        const int64_t window = elements / (w->shape[0] * out);
        for (int64_t i = 0; i < elements; i++) {
            const int64_t group = i / (window * out) / (w->shape[0] / groups);
            to[i] = from[i] * factors[group * out + i / window % out];
        }
        return;
    }
    const bool columns = p->node->op == OP_MATMUL && !p->node->attributes.matmul.transpose_b;
    const int64_t run = columns ? 1 : elements / p->channels;
    for (int64_t i = 0; i < elements; i++)
        to[i] = from[i] * factors[i / run % p->channels];
}

/* Makes the product give y * factor + shift for each channel. Either may be NULL. */
static bool apply(fusing *f, product *p, const float *factors, const float *shifts)
{
    size_t inputs[3] = {p->node->inputs[0], p->node->inputs[1], input_at(p->node, 2)};
    if (factors) {
        const graph_value *w = value_at(f, inputs[1]);
        const size_t rank = w->rank;
        int64_t shape[PAL_MAX_RANK];
        memcpy(shape, w->shape, sizeof shape);
        float *weights = new_constant(f, rank, shape, &inputs[1]);
        if (!weights)
            return false;
        const graph_tensor *before = value_at(f, p->node->inputs[1])->constant;
        scale_weights(f, p, factors, before->data, weights);
        graph_tensor_release(before);
    }
    if (shifts || inputs[2] != GRAPH_NONE) {
        const size_t before = inputs[2];
        float *bias = new_constant(f, 1, &p->channels, &inputs[2]);
        if (!bias)
            return false;
        const float *old = before == GRAPH_NONE ? NULL : value_at(f, before)->constant->data;
        const bool single = old && graph_elements(value_at(f, before)) == 1;
        for (int64_t c = 0; c < p->channels; c++)
            bias[c] = (old ? old[single ? 0 : c] : 0) * (factors ? factors[c] : 1) +
                      (shifts ? shifts[c] : 0);
    }
    return set_inputs(f, p->node, 3, inputs);
}

/* Room for a number for each channel. */
static float *channel_room(fusing *f, int64_t channels)
{
    float *room = arena_alloc(&f->graph->arena, (size_t)channels * sizeof *room);
    if (!room)
        f->failed = fail_memory("fusing operators");
    return room;
}

/* conv - batch norm */
bool fuse_batch_norm(fusing *f, graph_node *node)
{
    product p;
    int64_t count;
    const float *parameter[4];
    if (!find_product(f, node->inputs[0], &p) || p.axis != 1 || !constant_weights(f, &p))
        return false;
    for (size_t i = 0; i < 4; i++) {
        parameter[i] = axis_constant(f, node->inputs[1 + i], 1, 0, p.channels, &count);
        if (!parameter[i] || count != p.channels)
            return false;
    }
    float *factors = channel_room(f, p.channels), *shifts = channel_room(f, p.channels);
    if (!factors || !shifts)
        return false;
    for (int64_t c = 0; c < p.channels; c++) {
        const double factor =
            parameter[0][c] / sqrt((double)parameter[3][c] + (double)node->attributes.norm.epsilon);
        factors[c] = (float)factor;
        shifts[c] = (float)(parameter[1][c] - parameter[2][c] * factor);
    }
    if (!apply(f, &p, factors, shifts))
        return false;
    move_node(p.node, node);
    return true;
}

/* The operand of a function of two that is a product, and the constant that is the other. The
 * product comes first unless the function commutes. */
static bool product_and_constant(fusing *f, const graph_node *node, bool commutes, product *p,
                                 const float **numbers, int64_t *count)
{
    for (size_t i = 0; i < (commutes ? 2u : 1u); i++)
        if (find_product(f, node->inputs[i], p) && p->rank == value_at(f, node->outputs[0])->rank) {
            *numbers = axis_constant(f, node->inputs[1 - i], p->rank, p->axis, p->channels, count);
            if (*numbers)
                return true;
        }
    return false;
}

/* conv - times or divided by a constant */
bool fuse_scale(fusing *f, graph_node *node)
{
    const binary_kind kind = node->attributes.binary.kind;
    product p;
    const float *numbers;
    int64_t count;
    if ((kind != BINARY_MUL && kind != BINARY_DIV) ||
        !product_and_constant(f, node, kind == BINARY_MUL, &p, &numbers, &count))
        return false;
    if (!constant_weights(f, &p)) {
        /* A factor of its own is all that a product of two computed matrices has room for. */
        if (p.node->op != OP_MATMUL || count != 1 || input_at(p.node, 2) != GRAPH_NONE)
            return false;
        p.node->attributes.matmul.alpha *= kind == BINARY_MUL ? numbers[0] : 1 / numbers[0];
        move_node(p.node, node);
        return true;
    }
    float *factors = channel_room(f, p.channels);
    if (!factors)
        return false;
    for (int64_t c = 0; c < p.channels; c++) {
        const float number = numbers[count == 1 ? 0 : c];
        factors[c] = kind == BINARY_MUL ? number : 1 / number;
    }
    if (!apply(f, &p, factors, NULL))
        return false;
    move_node(p.node, node);
    return true;
}

/* conv - plus or minus a constant */
bool fuse_bias(fusing *f, graph_node *node)
{
    const binary_kind kind = node->attributes.binary.kind;
    product p;
    const float *numbers;
    int64_t count;
    if ((kind != BINARY_ADD && kind != BINARY_SUB) ||
        !product_and_constant(f, node, kind == BINARY_ADD, &p, &numbers, &count))
        return false;
    const size_t bias = input_at(p.node, 2);
    if (bias != GRAPH_NONE && !constant_weights(f, &p))
        return false;
    float *shifts = channel_room(f, p.channels);
    if (!shifts)
        return false;
    for (int64_t c = 0; c < p.channels; c++)
        shifts[c] = (kind == BINARY_ADD ? 1.0f : -1.0f) * numbers[count == 1 ? 0 : c];
    if (!apply(f, &p, NULL, shifts))
        return false;
    move_node(p.node, node);
    return true;
}
