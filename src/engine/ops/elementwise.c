/* Functions of each element: of one, two or three operands, which broadcast.
 *
 * A result keeps the layout that its operands come in, where one of them has its shape; the others
 * are brought to the same order (layout_like). The padding of blocked layouts is computed with and
 * then zeroed again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops/compute.h"
#include "engine/ops/loops.h"
#include "engine/ops/slopes.h"
#include "graph/infer.h"

static int64_t stored_elements(const buffer *buffer)
{
    return (int64_t)(buffer->bytes / graph_type_size(buffer->type));
}

/* Whether this file's loops can keep a layout: of plain dimensions in some order, or with blocks of
 * channels. */
static bool can_keep(const buffer *buffer)
{
    layout_physical physical;
    return buffer->layout &&
           layout_describe(buffer->layout, buffer->rank, buffer->shape, &physical) &&
           (physical.rank == buffer->rank ||
            (physical.rank == buffer->rank + 1 && physical.of[buffer->rank] == 1));
}

void clear_padding(const buffer *y)
{
    if (y->layout && y->bytes != y->elements * graph_type_size(y->type))
        layout_clear_padding(y->layout, y->data);
}

/* ---------------------------------------------------------------- one operand */

typedef struct unary_state {
    unary_loop loop;
    float alpha, beta;
} unary_state;

static pal_status run_one(const step *step)
{
    const unary_state *s = step->state;
    const buffer *x = step->reads[0], *y = step->writes[0];
    run_unary(s->loop, stored_elements(x), x->data, graph_type_size(x->type), y->data,
              graph_type_size(y->type), s->alpha, s->beta);
    clear_padding(y);
    return PAL_OK;
}

static pal_status own_unary_step(plan *plan, const graph_node *node, unary_kind kind, float alpha,
                                 float beta, buffer *x, buffer *y)
{
    unary_state *state = plan_alloc(plan, sizeof *state);
    if (!state)
        return PAL_ERROR_MEMORY;
    *state = (unary_state){find_unary_loop(kind, x->type, NULL), alpha, beta};
    if (!state->loop)
        return fail(PAL_ERROR_UNSUPPORTED, "the function does not exist for this type");
    step *step = plan_add_step(plan, node, "function", run_one, state, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = x;
    step->writes[0] = y;
    step->in_place = x != y && x->bytes == y->bytes;
    return PAL_OK;
}

pal_status unary_step(plan *plan, const graph_node *node, unary_kind kind, float alpha, float beta,
                      buffer *x, buffer *y)
{
    onednn_primitive *primitive;
    onednn_tensor tensor = {.rank = x->rank, .form = ONEDNN_LAYOUT, .layout = x->layout};
    /* oneDNN has fewer dimensions than a graph; without a layout they do not matter. */
    if (!x->layout) {
        tensor.rank = 1;
        tensor.shape[0] = (int64_t)x->elements;
    }
    if (x->type != GRAPH_FLOAT || y->type != GRAPH_FLOAT || !onednn_has_unary(kind, alpha, beta) ||
        onednn_unary_new(&tensor, kind, alpha, beta, &primitive))
        return own_unary_step(plan, node, kind, alpha, beta, x, y);
    buffer *roles[ONEDNN_ROLE_COUNT] = {[ONEDNN_SRC] = x, [ONEDNN_DST] = y};
    step *step;
    pal_status status = onednn_add_step(plan, node, "function", primitive, roles, &step);
    if (!status)
        step->in_place = x != y;
    return status;
}

pal_status keepable_input(plan *plan, size_t value, buffer **out)
{
    pal_status status = plan_buffer(plan, value, out);
    if (!status && (*out)->layout && !can_keep(*out))
        status = plan_buffer_in(plan, value, NULL, out);
    return status;
}

static pal_status forward_unary_of(plan *plan, const graph_node *node, unary_kind kind, float alpha,
                                   float beta)
{
    buffer *x, *y;
    pal_status status = keepable_input(plan, node->inputs[0], &x);
    /* Only floats have layouts, and only one function turns floats into something else. */
    if (!status && plan_output(plan, node, 0)->type != GRAPH_FLOAT)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &x);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], x->layout, &y);
    if (status || y->elements == 0)
        return status;
    status = unary_step(plan, node, kind, alpha, beta, x, y);
    return status ? status : post_steps(plan, node, node->posts, node->post_count, y);
}

static pal_status forward_unary(plan *plan, const graph_node *node)
{
    return forward_unary_of(plan, node, node->attributes.unary.kind, node->attributes.unary.alpha,
                            node->attributes.unary.beta);
}

/* ---------------------------------------------------------------- two operands */

typedef struct binary_state {
    binary_loop loop;
    broadcast broadcast;
    bool second_first; /* of the step's reads, the second is the first operand */
    layout *made[2];   /* for operands that were brought to the order of the result */
} binary_state;

static void release_binary(void *state)
{
    binary_state *s = state;
    layout_free(s->made[0]);
    layout_free(s->made[1]);
    free(s);
}

static pal_status run_two(const step *step)
{
    const binary_state *s = step->state;
    const buffer *y = step->writes[0];
    const buffer *a = step->reads[s->second_first], *b = step->reads[!s->second_first];
    broadcast_binary(&s->broadcast, s->loop, y->data, graph_type_size(y->type), a->data, b->data,
                     graph_type_size(a->type));
    clear_padding(y);
    return PAL_OK;
}

/* The shape with ones before it. */
static void pad_shape(const graph_value *value, size_t rank, int64_t *shape)
{
    for (size_t i = 0; i < rank; i++)
        shape[i] = i + value->rank < rank ? 1 : value->shape[i + value->rank - rank];
}

/* Strides over the result's extents of an operand that lies as `own` says: 0 in dimensions that are
 * broadcast. A single channel may be the first of a padded block, or have no block. */
static void strides_over(const layout_physical *result, const layout_physical *own, size_t rank,
                         int64_t *strides)
{
    int64_t outer[LAYOUT_MAX_PHYSICAL], stride = 1, block = 0;
    for (size_t i = own->rank; i-- > 0; stride *= own->extent[i]) {
        if (i < rank)
            outer[own->of[i]] = own->extent[i] == 1 ? 0 : stride;
        else
            block = stride;
    }
    for (size_t i = 0; i < result->rank; i++)
        strides[i] = i < rank ? outer[result->of[i]] : block;
}

/* An operand in the order of the result, and its strides there. */
static pal_status take_operand(plan *plan, size_t value, const layout *order,
                               const layout_physical *result, size_t rank, layout **made,
                               int64_t *strides, buffer **out)
{
    int64_t shape[PAL_MAX_RANK];
    layout_physical own;
    const graph_value *v = &plan_graph(plan)->values[value];
    pad_shape(v, rank, shape);
    pal_status status = layout_like(order, rank, shape, made);
    if (!status)
        status = plan_buffer_in(plan, value, *made, out);
    if (!status && !layout_describe(*made, rank, shape, &own))
        status = fail(PAL_ERROR_UNSUPPORTED, "a layout that has no strides");
    if (!status)
        strides_over(result, &own, rank, strides);
    return status;
}

/* The layout of an operand that has the result's shape, if this file can keep it. */
static const layout *order_of(plan *plan, const graph_value *result, const size_t *values,
                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buffer *buffer;
        const graph_value *v = &plan_graph(plan)->values[values[i]];
        if (v->constant || v->rank != result->rank || graph_elements(v) != graph_elements(result) ||
            plan_buffer(plan, values[i], &buffer))
            continue;
        if (can_keep(buffer))
            return buffer->layout;
    }
    return NULL;
}

/* Whether a result may be written over an operand of its layout: where each element lies at the
 * operand's. Bytes alone do not say: 8 floats take as many as 32 booleans. */
static bool fits_over(const buffer *result, const buffer *operand)
{
    return operand->elements == result->elements && operand->bytes == result->bytes;
}

/* y = f(a, b) into y if it is given (which then is a as well), else into a new buffer. */
static pal_status binary_step(plan *plan, const graph_node *node, binary_kind kind,
                              const size_t values[2], buffer *y)
{
    const graph_value *result = plan_output(plan, node, 0);
    const graph_type type = y ? y->type : plan_graph(plan)->values[values[0]].type;
    const bool floats = type == GRAPH_FLOAT && result->type == GRAPH_FLOAT;
    const layout *order = y ? y->layout : floats ? order_of(plan, result, values, 2) : NULL;
    layout_physical physical;
    buffer *a, *b;
    binary_state *s = mem_zeroed(1, sizeof *s);
    if (!s)
        return fail_memory("for a step");
    s->loop = find_binary_loop(kind, type, NULL);
    pal_status status = PAL_OK;
    if (!s->loop || !layout_describe(order, result->rank, result->shape, &physical))
        status = fail(PAL_ERROR_UNSUPPORTED, "the function does not exist for this type");
    if (!status && y) {
        a = y;
        strides_over(&physical, &physical, result->rank, s->broadcast.stride[0]);
    } else if (!status) {
        status = take_operand(plan, values[0], order, &physical, result->rank, &s->made[0],
                              s->broadcast.stride[0], &a);
    }
    if (!status)
        status = take_operand(plan, values[1], order, &physical, result->rank, &s->made[1],
                              s->broadcast.stride[1], &b);
    if (!status && !y)
        status = plan_new_buffer(plan, node->outputs[0], order, &y);
    if (status || y->elements == 0) {
        release_binary(s);
        return status;
    }
    s->broadcast.rank = physical.rank;
    s->broadcast.operands = 2;
    memcpy(s->broadcast.extent, physical.extent, sizeof physical.extent);
    broadcast_simplify(&s->broadcast);
    step *step = plan_add_step(plan, node, "pairs", run_two, s, release_binary);
    if (!step)
        return PAL_ERROR_MEMORY;
    s->second_first = !fits_over(y, a);
    step->reads[s->second_first] = a;
    step->reads[!s->second_first] = b;
    step->writes[0] = y;
    step->in_place = a != y && fits_over(y, step->reads[0]);
    return PAL_OK;
}

pal_status add_step(plan *plan, const graph_node *node, size_t value, buffer *y)
{
    return binary_step(plan, node, BINARY_ADD, (const size_t[2]){GRAPH_NONE, value}, y);
}

static pal_status forward_pair(plan *plan, const graph_node *node, binary_kind kind)
{
    buffer *y;
    pal_status status = binary_step(plan, node, kind, node->inputs, NULL);
    if (status || !node->post_count)
        return status;
    status = plan_buffer(plan, node->outputs[0], &y);
    return status ? status : post_steps(plan, node, node->posts, node->post_count, y);
}

/* A power with a constant exponent for which there is a faster function. */
static bool simple_power(const plan *plan, const graph_node *node, unary_kind *kind)
{
    const graph_value *b = plan_input(plan, node, 1);
    if (node->attributes.binary.kind != BINARY_POW || !b->constant || b->type != GRAPH_FLOAT ||
        graph_elements(b) != 1 || b->rank > plan_input(plan, node, 0)->rank)
        return false;
    const float exponent = *(const float *)b->constant->data;
    *kind = exponent == 2 ? UNARY_SQUARE : UNARY_SQRT;
    return exponent == 2 || exponent == 0.5f;
}

static pal_status forward_binary(plan *plan, const graph_node *node)
{
    unary_kind kind;
    if (simple_power(plan, node, &kind))
        return forward_unary_of(plan, node, kind, 0, 0);
    return forward_pair(plan, node, node->attributes.binary.kind);
}

static pal_status forward_prelu(plan *plan, const graph_node *node)
{
    return forward_pair(plan, node, BINARY_PRELU);
}

/* ---------------------------------------------------------------- clip */

static pal_status run_clip(const step *step)
{
    const buffer *x = step->reads[0], *low = step->reads[1], *high = step->reads[2];
    const int64_t count = (int64_t)x->elements;
    if (x->type == GRAPH_FLOAT) {
        const float bottom = low ? *(const float *)low->data : -INFINITY;
        const float top = high ? *(const float *)high->data : INFINITY;
        run_unary(find_unary_loop(UNARY_CLIP, GRAPH_FLOAT, NULL), count, x->data, 4,
                  step->writes[0]->data, 4, bottom, top);
        return PAL_OK;
    }
    const int64_t bottom = low ? *(const int64_t *)low->data : INT64_MIN;
    const int64_t top = high ? *(const int64_t *)high->data : INT64_MAX;
    const int64_t *from = x->data;
    int64_t *to = step->writes[0]->data;
    for (int64_t i = 0; i < count; i++) {
        const int64_t raised = from[i] < bottom ? bottom : from[i];
        to[i] = raised > top ? top : raised;
    }
    return PAL_OK;
}

static pal_status forward_clip(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    const graph_value *low = plan_input(plan, node, 1), *high = plan_input(plan, node, 2);
    if (x->type == GRAPH_BOOL)
        return fail(PAL_ERROR_UNSUPPORTED, "bounds of booleans");
    const bool known = (!low || low->constant) && (!high || high->constant);
    if (x->type == GRAPH_FLOAT && known)
        return forward_unary_of(plan, node, UNARY_CLIP,
                                low ? *(const float *)low->constant->data : -INFINITY,
                                high ? *(const float *)high->constant->data : INFINITY);
    return plan_simple(plan, node, "clip", run_clip, NULL, NULL);
}

/* ---------------------------------------------------------------- select */

static pal_status run_select(const step *step)
{
    broadcast_select(step->state, step->writes[0]->data, step->reads[0]->data, step->reads[1]->data,
                     step->reads[2]->data, graph_type_size(step->writes[0]->type));
    return PAL_OK;
}

static pal_status forward_select(plan *plan, const graph_node *node)
{
    const graph_value *y = plan_output(plan, node, 0);
    broadcast *b = plan_alloc(plan, sizeof *b);
    if (!b)
        return PAL_ERROR_MEMORY;
    b->rank = y->rank;
    b->operands = 3;
    memcpy(b->extent, y->shape, y->rank * sizeof *y->shape);
    for (size_t o = 0; o < 3; o++) {
        int64_t shape[PAL_MAX_RANK], stride = 1;
        pad_shape(plan_input(plan, node, o), y->rank, shape);
        for (size_t i = y->rank; i-- > 0; stride *= shape[i])
            b->stride[o][i] = shape[i] == 1 ? 0 : stride;
    }
    broadcast_simplify(b);
    return plan_simple(plan, node, "select", run_select, b, NULL);
}

/* ---------------------------------------------------------------- the way back */

static pal_status backward_unary(plan *plan, const graph_node *node)
{
    return back_unary(plan, node, node->attributes.unary.kind, node->attributes.unary.alpha,
                      node->attributes.unary.beta);
}

static pal_status backward_binary(plan *plan, const graph_node *node)
{
    return back_binary(plan, node, node->attributes.binary.kind);
}

static pal_status backward_prelu(plan *plan, const graph_node *node)
{
    return back_binary(plan, node, BINARY_PRELU);
}

static pal_status backward_clip(plan *plan, const graph_node *node)
{
    const graph_value *low = plan_input(plan, node, 1), *high = plan_input(plan, node, 2);
    if ((low && !low->constant) || (high && !high->constant))
        return fail(PAL_ERROR_UNSUPPORTED, "bounds that are computed have no gradient");
    return back_unary(plan, node, UNARY_CLIP, low ? *(const float *)low->constant->data : -INFINITY,
                      high ? *(const float *)high->constant->data : INFINITY);
}

const op_kernel kernel_unary = {forward_unary, backward_unary};
const op_kernel kernel_binary = {forward_binary, backward_binary};
const op_kernel kernel_clip = {forward_clip, backward_clip};
const op_kernel kernel_prelu = {forward_prelu, backward_prelu};
const op_kernel kernel_select = {forward_select, back_select};
