/* Normalisation that was written out. */
#include <string.h>

#include "engine/fuse/fusing.h"
#include "graph/infer.h"

/* The mean over axes that stay as extents of 1, as the axes of a normalisation. */
static bool is_mean(const fusing *f, const graph_node *node, size_t rank, op_attributes *out)
{
    if (!node || node->attributes.reduce.kind != REDUCE_MEAN || node->post_count ||
        !node->attributes.reduce.keep_dims)
        return false;
    const size_t axes = input_at(node, 1);
    bool flags[PAL_MAX_RANK];
    if (axes == GRAPH_NONE || !value_at(f, axes)->constant ||
        resolve_axes(node, value_at(f, axes), rank, flags))
        return false;
    out->norm.axis_count = 0;
    for (size_t i = 0; i < rank; i++)
        if (flags[i])
            out->norm.axes[out->norm.axis_count++] = (int64_t)i;
    return out->norm.axis_count > 0;
}

static bool same_axes(const op_attributes *a, const op_attributes *b)
{
    return a->norm.axis_count == b->norm.axis_count &&
           memcmp(a->norm.axes, b->norm.axes, a->norm.axis_count * sizeof *a->norm.axes) == 0;
}

/* value = x^2; GRAPH_NONE if it is no square. */
static size_t square_root(const fusing *f, size_t value)
{
    const graph_node *node = maker_of(f, value, OP_UNARY);
    if (node && node->attributes.unary.kind == UNARY_SQUARE && !node->post_count)
        return node->inputs[0];
    node = maker_of(f, value, OP_BINARY);
    float exponent;
    if (!node || node->post_count)
        return GRAPH_NONE;
    if (node->attributes.binary.kind == BINARY_MUL && node->inputs[0] == node->inputs[1])
        return node->inputs[0];
    if (node->attributes.binary.kind == BINARY_POW &&
        scalar_constant(f, node->inputs[1], value_at(f, value)->rank, &exponent) && exponent == 2)
        return node->inputs[0];
    return GRAPH_NONE;
}

/* value = sqrt(mean(y^2) + epsilon), or what multiplies instead of dividing; gives y. */
static size_t deviation_of(const fusing *f, size_t value, size_t rank, bool inverse,
                           op_attributes *out)
{
    const graph_node *root = maker_of(f, value, OP_UNARY);
    float shift = 0;
    size_t inside;
    if (!root || root->post_count)
        return GRAPH_NONE;
    if (inverse && root->attributes.unary.kind == UNARY_RECIPROCAL) {
        if (root->attributes.unary.alpha != 0)
            return GRAPH_NONE;
        return deviation_of(f, root->inputs[0], rank, false, out);
    }
    if (root->attributes.unary.kind != (inverse ? UNARY_RSQRT : UNARY_SQRT))
        return GRAPH_NONE;
    inside = root->inputs[0];
    if (inverse)
        shift = root->attributes.unary.alpha;
    const graph_node *sum = maker_of(f, inside, OP_BINARY);
    if (sum) {
        float number;
        const bool second = scalar_constant(f, sum->inputs[1], rank, &number);
        if (sum->attributes.binary.kind != BINARY_ADD || sum->post_count ||
            (!second && !scalar_constant(f, sum->inputs[0], rank, &number)))
            return GRAPH_NONE;
        shift += number;
        inside = sum->inputs[second ? 0 : 1];
    }
    const graph_node *mean = maker_of(f, inside, OP_REDUCE);
    if (!is_mean(f, mean, rank, out))
        return GRAPH_NONE;
    out->norm.epsilon = shift;
    return square_root(f, mean->inputs[0]);
}

/* node = y / deviation(y), or y times its inverse; gives y. */
static size_t normalised(const fusing *f, const graph_node *node, op_attributes *out)
{
    const size_t rank = value_at(f, node->outputs[0])->rank;
    if (node->post_count || value_at(f, node->outputs[0])->type != GRAPH_FLOAT)
        return GRAPH_NONE;
    /* A deviation of more dimensions, by an epsilon that has them, gives them to the result. */
    if (node->attributes.binary.kind == BINARY_DIV) {
        const size_t y = node->inputs[0];
        return value_at(f, y)->rank == rank &&
                       deviation_of(f, node->inputs[1], rank, false, out) == y
                   ? y
                   : GRAPH_NONE;
    }
    for (size_t i = 0; node->attributes.binary.kind == BINARY_MUL && i < 2; i++) {
        const size_t y = node->inputs[1 - i];
        if (value_at(f, y)->rank == rank && deviation_of(f, node->inputs[i], rank, true, out) == y)
            return y;
    }
    return GRAPH_NONE;
}

static bool become_norm(fusing *f, graph_node *node, graph_op op, size_t x,
                        const op_attributes *attributes)
{
    const size_t inputs[3] = {x, GRAPH_NONE, GRAPH_NONE};
    if (!set_inputs(f, node, op == OP_LAYER_NORM ? 3 : 2, inputs))
        return false;
    node->op = op;
    node->attributes = *attributes;
    return true;
}

/*      x
 *     / \
 *    |  mean
 *     \ /
 *     sub - square - mean - add epsilon - sqrt
 *       \_____________________________ div */
bool fuse_layer_norm(fusing *f, graph_node *node)
{
    op_attributes norm = {0}, centre = {0};
    const size_t y = normalised(f, node, &norm);
    const graph_node *sub = y == GRAPH_NONE ? NULL : maker_of(f, y, OP_BINARY);
    if (!sub || sub->attributes.binary.kind != BINARY_SUB || sub->post_count)
        return false;
    const graph_node *mean = maker_of(f, sub->inputs[1], OP_REDUCE);
    const size_t x = sub->inputs[0];
    if (!mean || mean->inputs[0] != x || !same_shape(f, x, y) ||
        !is_mean(f, mean, value_at(f, x)->rank, &centre) || !same_axes(&norm, &centre))
        return false;
    return become_norm(f, node, OP_LAYER_NORM, x, &norm);
}

/* x - square - mean - add epsilon - sqrt
 *  \________________________________ div */
bool fuse_rms_norm(fusing *f, graph_node *node)
{
    op_attributes norm = {0};
    const size_t x = normalised(f, node, &norm);
    if (x == GRAPH_NONE)
        return false;
    /* With a centred x this is a layer norm, unless that was tried in vain. */
    return become_norm(f, node, OP_RMS_NORM, x, &norm);
}

/* A constant whose shape is that of the last dimensions that are normalised. */
static bool suits_norm(const fusing *f, const graph_node *norm, size_t value)
{
    const graph_value *v = value_at(f, value), *x = value_at(f, norm->inputs[0]);
    const size_t count = norm->attributes.norm.axis_count;
    if (!v->constant || v->type != GRAPH_FLOAT || v->rank != count || count > x->rank)
        return false;
    for (size_t i = 0; i < count; i++)
        if (norm->attributes.norm.axes[i] != (int64_t)(x->rank - count + i) ||
            v->shape[i] != x->shape[x->rank - count + i])
            return false;
    return true;
}

static bool join_norm(fusing *f, graph_node *node, binary_kind kind, graph_op op, size_t input)
{
    if (node->attributes.binary.kind != kind || node->post_count)
        return false;
    for (size_t i = 0; i < 2; i++) {
        graph_node *norm = only_maker_of(f, node->inputs[i], op);
        /* What scales comes before what shifts. */
        if (!norm || norm->input_count <= input || norm->inputs[input] != GRAPH_NONE ||
            input_at(norm, 2) != GRAPH_NONE || !norm->attributes.norm.axis_count ||
            !suits_norm(f, norm, node->inputs[1 - i]))
            continue;
        norm->inputs[input] = node->inputs[1 - i];
        move_node(norm, node);
        return true;
    }
    return false;
}

/* layer norm - mul by a constant */
bool fuse_norm_scale(fusing *f, graph_node *node)
{
    return join_norm(f, node, BINARY_MUL, OP_LAYER_NORM, 1) ||
           join_norm(f, node, BINARY_MUL, OP_RMS_NORM, 1);
}

/* layer norm - add a constant */
bool fuse_norm_shift(fusing *f, graph_node *node)
{
    return join_norm(f, node, BINARY_ADD, OP_LAYER_NORM, 2);
}
