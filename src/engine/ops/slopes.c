/* Derivatives of the functions of one and of two operands. */
#include "engine/ops/slopes.h"

#include <math.h>

#include "engine/ops/back.h"
#include "engine/ops/compute.h"
#include "engine/ops/walk.h"
#include "engine/ops/wide.h"

#define PARALLEL_ELEMENTS 16384
/* Elements that a thread looks at before it takes others. */
#define PART 4096

/* ---------------------------------------------------------------- one operand */

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static float gelu_tanh_slope(float x)
{
    const float c = 0.7978845608F, t = tanhf(c * (x + 0.044715F * x * x * x));
    return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * c * (1 + 3 * 0.044715F * x * x);
}

static float swish_slope(float x, float alpha)
{
    const float s = sigmoid(alpha * x);
    return s + alpha * x * s * (1 - s);
}

static float mish_slope(float x)
{
    const float soft = x > 20 ? x : log1pf(expf(x)), t = tanhf(soft);
    return t + x * (1 - t * t) * sigmoid(x);
}

float unary_slope(unary_kind kind, float a, float b, float x)
{
    switch (kind) {
    case UNARY_RELU: return x > 0;
    case UNARY_LEAKY_RELU: return x < 0 ? a : 1;
    case UNARY_ELU: return x < 0 ? a * expf(x) : 1;
    case UNARY_SELU: return x < 0 ? b * a * expf(x) : b;
    case UNARY_CELU: return x < 0 ? expf(x / a) : 1;
    case UNARY_CLIP: return x >= a && x <= b;
    case UNARY_THRESHOLDED_RELU: return x > a;
    case UNARY_SIGMOID: return sigmoid(x) * (1 - sigmoid(x));
    case UNARY_HARD_SIGMOID: {
        const float y = a * x + b;
        return y > 0 && y < 1 ? a : 0;
    }
    case UNARY_TANH: return 1 - tanhf(x) * tanhf(x);
    case UNARY_SCALED_TANH: return a * b * (1 - tanhf(b * x) * tanhf(b * x));
    case UNARY_SOFTPLUS: return sigmoid(x);
    case UNARY_SOFTSIGN: return 1 / ((1 + fabsf(x)) * (1 + fabsf(x)));
    case UNARY_HARD_SWISH: return x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5F;
    case UNARY_SWISH: return swish_slope(x, a);
    case UNARY_MISH: return mish_slope(x);
    case UNARY_GELU:
        return 0.5F * (1 + erff(x * 0.70710678F)) + x * 0.3989422804F * expf(-0.5F * x * x);
    case UNARY_GELU_TANH: return gelu_tanh_slope(x);
    case UNARY_GELU_SIGMOID: return swish_slope(x, 1.702F);
    case UNARY_HARDMAX_SHRINK: return x < -a || x > a;
    case UNARY_LINEAR: return a;
    case UNARY_ABS: return (float)((x > 0) - (x < 0));
    case UNARY_NEG: return -1;
    case UNARY_EXP: return expf(x);
    case UNARY_EXPM1: return expf(x);
    case UNARY_LOG: return 1 / (x + a);
    case UNARY_SQRT: return 0.5F / sqrtf(x);
    case UNARY_RSQRT: return -0.5F / ((x + a) * sqrtf(x + a));
    case UNARY_RECIPROCAL: return -1 / ((x + a) * (x + a));
    case UNARY_SQUARE: return 2 * x;
    case UNARY_ERF: return 1.1283791671F * expf(-x * x);
    case UNARY_SIN: return cosf(x);
    case UNARY_COS: return -sinf(x);
    case UNARY_TAN: return 1 / (cosf(x) * cosf(x));
    case UNARY_ASIN: return 1 / sqrtf(1 - x * x);
    case UNARY_ACOS: return -1 / sqrtf(1 - x * x);
    case UNARY_ATAN: return 1 / (1 + x * x);
    case UNARY_SINH: return coshf(x);
    case UNARY_COSH: return sinhf(x);
    case UNARY_ASINH: return 1 / sqrtf(x * x + 1);
    case UNARY_ACOSH: return 1 / sqrtf(x * x - 1);
    case UNARY_ATANH: return 1 / (1 - x * x);
    /* Steps: flat wherever they are smooth. */
    case UNARY_SIGN:
    case UNARY_FLOOR:
    case UNARY_CEIL:
    case UNARY_ROUND:
    case UNARY_NOT:
    case UNARY_IS_NAN:
    case UNARY_IS_INF:
    case UNARY_KIND_COUNT: break;
    }
    return 0;
}

typedef struct slope {
    unary_kind kind;
    float alpha, beta;
} slope;

/* The kinds that most networks have are written out, so that their loops are vectors. */
WIDE static void slope_of_part(const slope *it, int64_t count, const float *dy, const float *x,
                               float *dx)
{
    const float alpha = it->alpha, beta = it->beta;
    switch (it->kind) {
    case UNARY_RELU:
        INDEPENDENT
        for (int64_t i = 0; i < count; i++)
            dx[i] = x[i] > 0 ? dy[i] : 0;
        break;
    case UNARY_CLIP:
        INDEPENDENT
        for (int64_t i = 0; i < count; i++)
            dx[i] = x[i] >= alpha && x[i] <= beta ? dy[i] : 0;
        break;
    case UNARY_HARD_SWISH:
        INDEPENDENT
        for (int64_t i = 0; i < count; i++)
            dx[i] = dy[i] * (x[i] <= -3 ? 0 : x[i] >= 3 ? 1 : x[i] / 3 + 0.5F);
        break;
    default:
        for (int64_t i = 0; i < count; i++)
            dx[i] = dy[i] * unary_slope(it->kind, alpha, beta, x[i]);
    }
}

static pal_status run_slope(const step *step)
{
    const float *dy = step->reads[0]->data, *x = step->reads[1]->data;
    float *dx = step->writes[0]->data;
    const int64_t count = (int64_t)(step->writes[0]->bytes / sizeof *dx);
#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; i += PART) {
        const int64_t length = count - i < PART ? count - i : PART;
        slope_of_part(step->state, length, dy + i, x + i, dx + i);
    }
    /* Where the slope at 0 is infinite, that of padding is not a number. */
    clear_padding(step->writes[0]);
    return PAL_OK;
}

pal_status back_unary(plan *plan, const graph_node *node, unary_kind kind, float alpha, float beta)
{
    buffer *x, *gradient, *share;
    slope *it = plan_alloc(plan, sizeof *it);
    pal_status status = it ? keepable_input(plan, node->inputs[0], &x) : PAL_ERROR_MEMORY;
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], x->layout, &gradient);
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, x->rank, x->shape, x->layout, 0, &share);
    if (status)
        return status;
    *it = (slope){kind, alpha, beta};
    step *step = plan_add_step(plan, node, "slope", run_slope, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = gradient;
    step->reads[1] = x;
    step->writes[0] = share;
    step->in_place = true;
    return plan_add_gradient(plan, node->inputs[0], share);
}

/* ---------------------------------------------------------------- what was fused to an operator */

static pal_status run_bounds(const step *step)
{
    const slope *it = step->state;
    const float *dy = step->reads[0]->data, *y = step->reads[1]->data;
    const float low = it->kind == UNARY_RELU ? 0 : it->alpha;
    const float high = it->kind == UNARY_RELU ? INFINITY : it->beta;
    float *to = step->writes[0]->data;
    const int64_t count = (int64_t)(step->writes[0]->bytes / sizeof *to);
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; i++)
        to[i] = y[i] > low && y[i] < high ? dy[i] : 0;
    return PAL_OK;
}

static pal_status back_bounds(plan *plan, const graph_node *node, const graph_post *post)
{
    buffer *y, *gradient, *own;
    slope *it = plan_alloc(plan, sizeof *it);
    pal_status status = it ? plan_buffer(plan, node->outputs[0], &y) : PAL_ERROR_MEMORY;
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], y->layout, &gradient);
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, y->rank, y->shape, y->layout, 0, &own);
    if (status)
        return status;
    *it = (slope){post->unary, post->alpha, post->beta};
    step *step = plan_add_step(plan, node, "bounds", run_bounds, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = gradient;
    step->reads[1] = y;
    step->writes[0] = own;
    step->in_place = true;
    plan_replace_gradient(plan, node->outputs[0], own);
    return PAL_OK;
}

pal_status back_posts(plan *plan, const graph_node *node)
{
    pal_status status = PAL_OK;
    buffer *gradient;
    for (size_t i = node->post_count; !status && i-- > 0;) {
        const graph_post *post = &node->posts[i];
        if (post->kind == POST_UNARY) {
            if (post->unary != UNARY_RELU && post->unary != UNARY_CLIP)
                return fail(PAL_ERROR_UNSUPPORTED, "what is fused to it has no gradient");
            status = back_bounds(plan, node, post);
            continue;
        }
        if (!plan_wants_gradient(plan, post->value))
            continue;
        status = plan_gradient(plan, node->outputs[0], &gradient);
        if (!status)
            status = plan_add_gradient(plan, post->value, gradient);
    }
    return status;
}

/* ---------------------------------------------------------------- two operands */

typedef struct pair_slope {
    binary_kind kind;
    bool second; /* by b, otherwise by a */
    size_t rank;
    int64_t extent[PAL_MAX_RANK], a[PAL_MAX_RANK], b[PAL_MAX_RANK];
} pair_slope;

static float pair_slope_at(binary_kind kind, bool second, float a, float b)
{
    switch (kind) {
    case BINARY_SUB: return second ? -1 : 1;
    case BINARY_MUL: return second ? a : b;
    case BINARY_DIV: return second ? -a / (b * b) : 1 / b;
    case BINARY_POW:
        if (!second)
            return b == 0 ? 0 : b * powf(a, b - 1);
        return a > 0 ? powf(a, b) * logf(a) : 0;
    case BINARY_MIN: return a == b ? 0.5F : (second ? b < a : a < b);
    case BINARY_MAX: return a == b ? 0.5F : (second ? b > a : a > b);
    case BINARY_MOD: return second ? -floorf(a / b) : 1;
    case BINARY_FMOD: return second ? -truncf(a / b) : 1;
    case BINARY_FLOOR_DIV: return 0;
    case BINARY_KIND_COUNT: /* BINARY_PRELU */ return a < 0 ? (second ? a : b) : !second;
    default: return 1;
    }
}

static pal_status run_pair(const step *step)
{
    const pair_slope *it = step->state;
    const float *dy = step->reads[0]->data, *a = step->reads[1]->data, *b = step->reads[2]->data;
    float *to = step->writes[0]->data;
    const size_t last = it->rank - 1;
    const int64_t length = it->extent[last], a_step = it->a[last], b_step = it->b[last];
    int64_t rows = 1;
    for (size_t d = 0; d < last; d++)
        rows *= it->extent[d];
#pragma omp parallel for schedule(static) if (rows * length > PARALLEL_ELEMENTS)
    for (int64_t r = 0; r < rows; r++) {
        int64_t at_a = 0, at_b = 0, rest = r;
        for (size_t d = last; d-- > 0;) {
            at_a += rest % it->extent[d] * it->a[d];
            at_b += rest % it->extent[d] * it->b[d];
            rest /= it->extent[d];
        }
        const float *x = a + at_a, *y = b + at_b, *g = dy + r * length;
        float *out = to + r * length;
        if (it->kind == BINARY_MUL) {
            const float *other = it->second ? x : y;
            const int64_t other_step = it->second ? a_step : b_step;
            for (int64_t i = 0; i < length; i++)
                out[i] = g[i] * other[i * other_step];
            continue;
        }
        for (int64_t i = 0; i < length; i++)
            out[i] = g[i] * pair_slope_at(it->kind, it->second, x[i * a_step], y[i * b_step]);
    }
    return PAL_OK;
}

static void strides_in(const graph_value *value, const graph_value *result, int64_t *strides)
{
    int64_t own[PAL_MAX_RANK];
    const size_t more = result->rank - value->rank;
    row_major_strides(value->rank, value->shape, own);
    for (size_t d = 0; d < result->rank; d++)
        strides[d] = d < more || value->shape[d - more] == 1 ? 0 : own[d - more];
}

static bool same_shape(const graph_value *a, const graph_value *b)
{
    return a->rank == b->rank &&
           __builtin_memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

/* Gradients by a, then by b. */
pal_status back_binary(plan *plan, const graph_node *node, binary_kind kind)
{
    const graph_value *y = plan_output(plan, node, 0);
    const graph_value *a = plan_input(plan, node, 0), *b = plan_input(plan, node, 1);
    pal_status status = PAL_OK;
    for (int second = 0; !status && second < 2; second++) {
        const size_t value = node->inputs[second];
        buffer *gradient, *operands[3], *share;
        if (!plan_wants_gradient(plan, value))
            continue;
        /* A sum hands its gradient on as it is. */
        if (kind == BINARY_ADD && same_shape(second ? b : a, y)) {
            status = plan_gradient(plan, node->outputs[0], &gradient);
            if (!status)
                status = plan_add_gradient(plan, value, gradient);
            continue;
        }
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
        if (!status && kind == BINARY_ADD) {
            status = back_reduced(plan, node, value, 0, gradient);
            continue;
        }
        operands[0] = gradient;
        if (!status)
            status = plan_buffer_in(plan, node->inputs[0], NULL, &operands[1]);
        if (!status)
            status = plan_buffer_in(plan, node->inputs[1], NULL, &operands[2]);
        pair_slope *it = plan_alloc(plan, sizeof *it);
        if (!it)
            return PAL_ERROR_MEMORY;
        *it = (pair_slope){.kind = kind, .second = second, .rank = y->rank};
        if (!y->rank) {
            it->rank = 1;
            it->extent[0] = 1;
        } else {
            __builtin_memcpy(it->extent, y->shape, sizeof it->extent);
            strides_in(a, y, it->a);
            strides_in(b, y, it->b);
        }
        if (!status)
            status =
                back_step(plan, node, "slope of pairs", run_pair, it, NULL, y, operands, 3, &share);
        if (!status)
            status = back_reduced(plan, node, value, 0, share);
    }
    return status;
}

/* ---------------------------------------------------------------- select */

typedef struct chosen {
    bool first;
    walk condition;
} chosen;

static pal_status run_chosen(const step *step)
{
    const chosen *it = step->state;
    const float *dy = step->reads[0]->data;
    unsigned char *condition = step->scratch->data;
    float *to = step->writes[0]->data;
    const int64_t count = (int64_t)step->writes[0]->elements;
    if (!count)
        return PAL_OK;
    walk_copy(&it->condition, 1, step->reads[1]->data, condition);
    for (int64_t i = 0; i < count; i++)
        to[i] = (condition[i] != 0) == it->first ? dy[i] : 0;
    return PAL_OK;
}

/* To each of the two the gradient where it was chosen. */
pal_status back_select(plan *plan, const graph_node *node)
{
    const graph_value *y = plan_output(plan, node, 0), *condition = plan_input(plan, node, 0);
    pal_status status = PAL_OK;
    int64_t strides[PAL_MAX_RANK];
    strides_in(condition, y, strides);
    for (size_t i = 1; !status && i < 3; i++) {
        buffer *reads[2], *share;
        if (!plan_wants_gradient(plan, node->inputs[i]))
            continue;
        chosen *it = plan_alloc(plan, sizeof *it);
        if (!it)
            return PAL_ERROR_MEMORY;
        *it = (chosen){i == 1, walk_new(y->rank, y->shape, strides, 0)};
        status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[0]);
        if (!status)
            status = plan_buffer_in(plan, node->inputs[0], NULL, &reads[1]);
        if (!status)
            status =
                back_step(plan, node, "where chosen", run_chosen, it, NULL, y, reads, 2, &share);
        if (!status)
            status = plan_new_temporary(plan, GRAPH_BOOL, y->rank, y->shape, NULL, 0,
                                        &plan_last_step(plan)->scratch);
        if (!status)
            status = back_reduced(plan, node, node->inputs[i], 0, share);
    }
    return status;
}
