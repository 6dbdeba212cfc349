/* Functions that were written out in products, sums and simpler functions. */
#include <math.h>

#include "base/half.h"
#include "engine/fuse/fusing.h"

/* A constant that the file may hold as float16: half the distance to the next is 4.9e-4. */
static bool close_to(float a, double b)
{
    return fabs((double)a - b) <= 5e-4 * fabs(b);
}

/* A parameter as float32 or float16 holds it; one that is merely near is another function. */
static bool is_parameter(float a, double b)
{
    return fabs((double)a - b) <= 1e-5 * fabs(b) || a == f16_to_float(f16_from_double(b));
}

/* A product of up to three values and a number, however it was nested. */
typedef struct factors {
    size_t list[3], count;
    float number;
} factors;

static bool collect_value(const fusing *f, size_t value, size_t rank, factors *out);

static bool collect_node(const fusing *f, const graph_node *node, size_t rank, factors *out)
{
    const binary_kind kind = node->attributes.binary.kind;
    float divisor;
    if (kind == BINARY_MUL)
        return collect_value(f, node->inputs[0], rank, out) &&
               collect_value(f, node->inputs[1], rank, out);
    if (kind == BINARY_DIV && scalar_constant(f, node->inputs[1], rank, &divisor)) {
        out->number /= divisor;
        return collect_value(f, node->inputs[0], rank, out);
    }
    return false;
}

static bool collect_value(const fusing *f, size_t value, size_t rank, factors *out)
{
    float number;
    if (scalar_constant(f, value, rank, &number)) {
        out->number *= number;
        return true;
    }
    const graph_node *node = only_maker_of(f, value, OP_BINARY);
    if (node && !node->post_count) {
        const factors before = *out;
        if (collect_node(f, node, rank, out))
            return true;
        *out = before;
    }
    if (out->count == 3)
        return false;
    out->list[out->count++] = value;
    return true;
}

static bool collect(const fusing *f, const graph_node *node, factors *out)
{
    *out = (factors){.number = 1};
    return !node->post_count && collect_node(f, node, value_at(f, node->outputs[0])->rank, out);
}

/* value = x * number */
static bool is_multiple(const fusing *f, size_t value, size_t x, float *number)
{
    *number = 1;
    if (value == x)
        return true;
    const graph_node *node = only_maker_of(f, value, OP_BINARY);
    factors product;
    if (!node || !collect(f, node, &product) || product.count != 1 || product.list[0] != x)
        return false;
    *number = product.number;
    return true;
}

/* value = other + number; GRAPH_NONE if it is no such sum. */
static size_t without_number(const fusing *f, size_t value, double number)
{
    const graph_node *sum = binary_maker(f, value, BINARY_ADD);
    float found;
    for (size_t i = 0; sum && i < 2; i++)
        if (scalar_constant(f, sum->inputs[i], value_at(f, value)->rank, &found) &&
            close_to(found, number))
            return sum->inputs[1 - i];
    return GRAPH_NONE;
}

/* 1 + erf(x / sqrt(2)) */
static bool is_gelu(const fusing *f, size_t x, size_t gate)
{
    const size_t value = without_number(f, gate, 1);
    const graph_node *erf = value == GRAPH_NONE ? NULL : unary_maker(f, value, UNARY_ERF);
    float number;
    return erf && is_multiple(f, erf->inputs[0], x, &number) && close_to(number, 0.70710678);
}

/* x^3 */
static bool is_cube(const fusing *f, size_t value, size_t x)
{
    const graph_node *power = binary_maker(f, value, BINARY_POW);
    float exponent;
    if (power)
        return power->inputs[0] == x && scalar_constant(f, power->inputs[1], 1, &exponent) &&
               exponent == 3;
    const graph_node *product = binary_maker(f, value, BINARY_MUL);
    factors cube;
    if (!product || !collect(f, product, &cube) || cube.number != 1)
        return false;
    if (cube.count == 3)
        return cube.list[0] == x && cube.list[1] == x && cube.list[2] == x;
    for (size_t i = 0; cube.count == 2 && i < 2; i++) {
        const graph_node *square = unary_maker(f, cube.list[i], UNARY_SQUARE);
        if (square && square->inputs[0] == x && cube.list[1 - i] == x)
            return true;
    }
    return false;
}

/* 0.044715 x^3 */
static bool is_cubic_term(const fusing *f, size_t value, size_t x)
{
    const graph_node *node = binary_maker(f, value, BINARY_MUL);
    factors product;
    if (!node || !collect(f, node, &product) || !close_to(product.number, 0.044715))
        return false;
    if (product.count == 1)
        return is_cube(f, product.list[0], x);
    return product.count == 3 && product.list[0] == x && product.list[1] == x &&
           product.list[2] == x;
}

/* 1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)) */
static bool is_gelu_tanh(const fusing *f, size_t x, size_t gate)
{
    const size_t value = without_number(f, gate, 1);
    const graph_node *tanh = value == GRAPH_NONE ? NULL : unary_maker(f, value, UNARY_TANH);
    const graph_node *scaled = tanh ? only_maker_of(f, tanh->inputs[0], OP_BINARY) : NULL;
    factors product;
    if (!scaled || !collect(f, scaled, &product) || product.count != 1 ||
        !close_to(product.number, 0.79788456))
        return false;
    const graph_node *sum = binary_maker(f, product.list[0], BINARY_ADD);
    return sum && (sum->inputs[0] == x || sum->inputs[1] == x) &&
           is_cubic_term(f, other_input(sum, x), x);
}

/* sigmoid(alpha x) */
static bool is_sigmoid(const fusing *f, size_t x, size_t gate, float *alpha)
{
    const graph_node *sigmoid = unary_maker(f, gate, UNARY_SIGMOID);
    return sigmoid && is_multiple(f, sigmoid->inputs[0], x, alpha);
}

/* clip(x + 3, 0, 6) / 6, which is the hard sigmoid of slope 1/6 */
static bool is_hard_sigmoid(const fusing *f, size_t x, size_t gate, float number)
{
    const graph_node *hard = unary_maker(f, gate, UNARY_HARD_SIGMOID);
    if (hard)
        return hard->inputs[0] == x && number == 1 &&
               is_parameter(hard->attributes.unary.alpha, 1.0 / 6) &&
               is_parameter(hard->attributes.unary.beta, 0.5);
    const graph_node *clip = unary_maker(f, gate, UNARY_CLIP);
    return clip && clip->attributes.unary.alpha == 0 && clip->attributes.unary.beta == 6 &&
           close_to(number, 1.0 / 6) && without_number(f, clip->inputs[0], 3) == x;
}

/* tanh(softplus(x)) */
static bool is_mish(const fusing *f, size_t x, size_t gate)
{
    const graph_node *tanh = unary_maker(f, gate, UNARY_TANH);
    const graph_node *plus = tanh ? unary_maker(f, tanh->inputs[0], UNARY_SOFTPLUS) : NULL;
    return plus && plus->inputs[0] == x;
}

static bool find_function(const fusing *f, size_t x, size_t gate, float number, unary_kind *kind,
                          float *alpha)
{
    *alpha = 0;
    if (close_to(number, 0.5) && is_gelu(f, x, gate))
        *kind = UNARY_GELU;
    else if (close_to(number, 0.5) && is_gelu_tanh(f, x, gate))
        *kind = UNARY_GELU_TANH;
    else if (number == 1 && is_sigmoid(f, x, gate, alpha))
        *kind = UNARY_SWISH;
    else if (is_hard_sigmoid(f, x, gate, number))
        *kind = UNARY_HARD_SWISH;
    else if (number == 1 && is_mish(f, x, gate))
        *kind = UNARY_MISH;
    else
        return false;
    return true;
}

/*   x      x
 *   |      |
 *   |    gate    0.5 (1 + erf(x / sqrt(2))), sigmoid(x), ...
 *    \    /
 *     mul        gelu, swish, hard swish, mish */
bool fuse_function(fusing *f, graph_node *node)
{
    factors product;
    if (value_at(f, node->outputs[0])->type != GRAPH_FLOAT || !collect(f, node, &product) ||
        product.count != 2)
        return false;
    for (size_t i = 0; i < 2; i++) {
        const size_t x = product.list[i];
        unary_kind kind;
        float alpha;
        if (!find_function(f, x, product.list[1 - i], product.number, &kind, &alpha))
            continue;
        if (!set_inputs(f, node, 1, &x))
            return false;
        node->op = OP_UNARY;
        node->attributes.unary.kind = kind;
        node->attributes.unary.alpha = alpha;
        node->attributes.unary.beta = 0;
        return true;
    }
    return false;
}

/* hard swish(x > -3 ? x : 0), as coremltools writes it, is hard swish(x): zero up to -3. */
bool fuse_threshold(fusing *f, graph_node *node)
{
    if (node->attributes.unary.kind != UNARY_HARD_SWISH)
        return false;
    const graph_node *before = maker_of(f, node->inputs[0], OP_UNARY);
    return before && !before->post_count &&
           before->attributes.unary.kind == UNARY_THRESHOLDED_RELU &&
           before->attributes.unary.alpha <= -3 && set_inputs(f, node, 1, before->inputs);
}

/* Constant bounds are parameters of a function. */
bool fuse_clip(fusing *f, graph_node *node)
{
    const size_t x = node->inputs[0];
    const size_t low = input_at(node, 1), high = input_at(node, 2);
    float bottom = -INFINITY, top = INFINITY;
    if (value_at(f, x)->type != GRAPH_FLOAT ||
        (low != GRAPH_NONE && !scalar_constant(f, low, 1, &bottom)) ||
        (high != GRAPH_NONE && !scalar_constant(f, high, 1, &top)) || !set_inputs(f, node, 1, &x))
        return false;
    node->op = OP_UNARY;
    node->attributes.unary.kind = bottom == 0 && top == INFINITY ? UNARY_RELU : UNARY_CLIP;
    node->attributes.unary.alpha = bottom;
    node->attributes.unary.beta = top;
    return true;
}
