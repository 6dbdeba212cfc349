/* The way back: gradients of values as sums of what their consumers give, and of weights, for the
 * batch or for each of its samples. */
#include <stdlib.h>
#include <string.h>

#include "engine/kernels.h"
#include "engine/onednn.h"
#include "engine/plan_state.h"

bool plan_has_gradients(const plan *plan)
{
    return plan->wants != NULL;
}

bool plan_wants_gradient(const plan *plan, size_t value)
{
    return plan->wants && value != GRAPH_NONE && plan->wants[value];
}

bool plan_reaches(const plan *plan, size_t value)
{
    return plan->gradients[value].count > 0;
}

bool plan_is_weight(const plan *plan, size_t value)
{
    return plan_wants_gradient(plan, value) && plan->graph->values[value].constant;
}

pal_status plan_find_wants(plan *plan)
{
    const graph *graph = plan->graph;
    plan->wants = mem_zeroed(graph->value_count, sizeof *plan->wants);
    plan->gradients = mem_zeroed(graph->value_count, sizeof *plan->gradients);
    if (!plan->wants || !plan->gradients)
        return fail_memory("gradients");
    for (size_t v = 0; v < graph->value_count; v++)
        plan->wants[v] = plan->options.wanted[v] && graph->values[v].constant;
    for (size_t i = 0; i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        bool wants = false;
        for (size_t k = 0; k < node->input_count; k++)
            wants = wants || plan_wants_gradient(plan, node->inputs[k]);
        for (size_t k = 0; k < node->post_count; k++)
            wants = wants || (node->posts[k].kind == POST_ADD &&
                              plan_wants_gradient(plan, node->posts[k].value));
        for (size_t k = 0; wants && k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                plan->wants[node->outputs[k]] = graph->values[node->outputs[k]].type == GRAPH_FLOAT;
    }
    return PAL_OK;
}

void plan_free_gradients(plan *plan)
{
    for (size_t v = 0; plan->gradients && v < plan->graph->value_count; v++) {
        free(plan->gradients[v].shares);
        free(plan->gradients[v].forms.list);
    }
    free(plan->gradients);
    free(plan->wants);
    free(plan->batch_axes);
}

/* ---------------------------------------------------------------- sums */

static pal_status run_add(const step *step)
{
    const float *a = step->reads[0]->data, *b = step->reads[1]->data;
    float *to = step->writes[0]->data;
    const int64_t count = (int64_t)(step->writes[0]->bytes / sizeof *to);
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (int64_t i = 0; i < count; i++)
        to[i] = a[i] + b[i];
    return PAL_OK;
}

/* A buffer with the elements of another, in this layout. */
static pal_status in_layout(plan *plan, buffer *from, const layout *layout, buffer **out)
{
    void *state;
    *out = from;
    if (layout_equal(from->layout, layout))
        return PAL_OK;
    pal_status status = onednn_reorder_new(from, layout, &state);
    if (status)
        return status;
    status = plan_new_temporary(plan, from->type, from->rank, from->shape, layout, 0, out);
    if (status) {
        onednn_reorder_free(state);
        return status;
    }
    return plan_add_reorder(plan, state, from, *out);
}

static pal_status add_shares(plan *plan, buffer *a, buffer *b, buffer **out)
{
    buffer *other;
    pal_status status = in_layout(plan, b, a->layout, &other);
    if (!status)
        status = plan_new_temporary(plan, a->type, a->rank, a->shape, a->layout, a->bytes, out);
    if (status)
        return status;
    step *step = plan_add_step(plan, plan->node, "sum of gradients", run_add, NULL, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = a;
    step->reads[1] = other;
    step->writes[0] = *out;
    step->in_place = true;
    return PAL_OK;
}

pal_status plan_gradient(plan *plan, size_t value, buffer **out)
{
    value_gradient *gradient = &plan->gradients[value];
    pal_status status = PAL_OK;
    *out = gradient->sum;
    if (gradient->sum || !gradient->count)
        return PAL_OK;
    buffer *sum = gradient->shares[0];
    for (size_t i = 1; !status && i < gradient->count; i++)
        status = add_shares(plan, sum, gradient->shares[i], &sum);
    gradient->sum = *out = sum;
    return status;
}

pal_status plan_gradient_in(plan *plan, size_t value, const layout *layout, buffer **out)
{
    buffer *sum;
    pal_status status = plan_gradient(plan, value, &sum);
    *out = sum;
    if (status || !sum || layout_equal(sum->layout, layout))
        return status;
    value_buffers *forms = &plan->gradients[value].forms;
    for (size_t i = 0; i < forms->count; i++)
        if (layout_equal(forms->list[i]->layout, layout)) {
            *out = forms->list[i];
            return PAL_OK;
        }
    if (!mem_grow((void **)&forms->list, &forms->capacity, forms->count + 1, sizeof *forms->list))
        return fail_memory("gradients");
    status = in_layout(plan, sum, layout, out);
    if (!status)
        forms->list[forms->count++] = *out;
    return status;
}

void plan_replace_gradient(plan *plan, size_t value, buffer *by)
{
    plan->gradients[value].sum = by;
    plan->gradients[value].forms.count = 0;
}

pal_status plan_add_gradient(plan *plan, size_t value, buffer *share)
{
    value_gradient *gradient = &plan->gradients[value];
    if (!mem_grow((void **)&gradient->shares, &gradient->capacity, gradient->count + 1,
                  sizeof *gradient->shares))
        return fail_memory("gradients");
    gradient->shares[gradient->count++] = share;
    return PAL_OK;
}

pal_status plan_add_gradient_view(plan *plan, size_t value, buffer *of)
{
    const graph_value *shape = &plan->graph->values[value];
    buffer *view;
    pal_status status =
        plan_new_temporary(plan, shape->type, shape->rank, shape->shape, NULL, 0, &view);
    if (status)
        return status;
    view->base = of;
    return plan_add_gradient(plan, value, view);
}

/* ---------------------------------------------------------------- weights, sample by sample */

typedef struct pass_state {
    weight_pass pass;
    void *state;
    void (*release)(void *);
    size_t samples;
} pass_state;

static void release_pass(void *state)
{
    const pass_state *it = state;
    if (it->release)
        it->release(it->state);
}

/* The kernel's step, as it made it, with its own state. */
static step kernel_step(const step *step)
{
    const pass_state *it = step->state;
    struct step own = *step;
    own.state = it->state;
    return own;
}

static pal_status run_whole(const step *step)
{
    const pass_state *it = step->state;
    const struct step own = kernel_step(step);
    return it->pass(&own, PLAN_ALL);
}

/* writes[0] receives one sample's gradient after the other, writes[1] the sum of their squares. */
static pal_status run_apart(const step *step)
{
    const pass_state *it = step->state;
    const struct step own = kernel_step(step);
    const float *gradient = step->writes[0]->data;
    float *squares = step->writes[1]->data;
    const int64_t count = (int64_t)(step->writes[0]->bytes / sizeof *gradient);
    for (size_t s = 0; s < it->samples; s++) {
        pal_status status = it->pass(&own, s);
        if (status)
            return status;
#pragma omp parallel for simd schedule(static) if (count > 16384)
        for (int64_t i = 0; i < count; i++)
            squares[i] += gradient[i] * gradient[i];
    }
    return PAL_OK;
}

pal_status plan_add_weight_pass(plan *plan, const graph_node *node, size_t value,
                                const weight_share *share)
{
    const graph_value *weight = &plan->graph->values[value];
    value_gradient *gradient = &plan->gradients[value];
    /* What is computed of a weight hands its gradient on, which is the whole batch's. */
    const bool apart = plan->options.samples && share->apart && plan_is_weight(plan, value);
    buffer *result, *squares = NULL;
    pass_state *it = plan_alloc(plan, sizeof *it);
    pal_status status = it ? PAL_OK : PAL_ERROR_MEMORY;
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, weight->rank, weight->shape, share->layout,
                                    0, &result);
    if (!status && apart)
        status = plan_new_temporary(plan, GRAPH_FLOAT, weight->rank, weight->shape, share->layout,
                                    0, &squares);
    if (status) {
        if (share->release)
            share->release(share->state);
        return status;
    }
    *it = (pass_state){share->pass, share->state, share->release, plan->options.samples};
    step *step =
        plan_add_step(plan, node, share->what, apart ? run_apart : run_whole, it, release_pass);
    if (!step)
        return PAL_ERROR_MEMORY;
    for (size_t i = 0; i < sizeof share->reads / sizeof *share->reads; i++)
        step->reads[i] = share->reads[i];
    step->scratch = share->scratch;
    step->writes[0] = result;
    step->writes[1] = squares;
    if (!apart)
        return plan_add_gradient(plan, value, result);
    squares->pinned = true;
    gradient->squares = squares;
    gradient->passes++;
    return PAL_OK;
}

/* ---------------------------------------------------------------- the way back */

static pal_status add_output_gradients(plan *plan)
{
    const graph *graph = plan->graph;
    plan->output_gradients = plan_alloc(plan, graph->output_count * sizeof *plan->output_gradients);
    pal_status status = plan->output_gradients ? PAL_OK : PAL_ERROR_MEMORY;
    for (size_t i = 0; !status && i < graph->output_count; i++) {
        const size_t value = graph->main.outputs[i];
        const graph_value *of = &graph->values[value];
        if (!plan_wants_gradient(plan, value) || of->constant)
            continue;
        status = plan_new_temporary(plan, GRAPH_FLOAT, of->rank, of->shape, NULL, 0,
                                    &plan->output_gradients[i]);
        if (!status) {
            plan->output_gradients[i]->pinned = true;
            status = plan_add_gradient(plan, value, plan->output_gradients[i]);
        }
    }
    return status;
}

/* Whether a node stands between the loss and a weight. */
static bool takes_part(const plan *plan, const graph_node *node)
{
    bool reached = false, wants = false;
    for (size_t i = 0; i < node->output_count; i++)
        reached = reached ||
                  (node->outputs[i] != GRAPH_NONE && (plan->gradients[node->outputs[i]].count > 0));
    for (size_t i = 0; !wants && i < node->output_count; i++)
        wants = plan_wants_gradient(plan, node->outputs[i]);
    return reached && wants;
}

pal_status plan_make_backward(plan *plan)
{
    const graph *graph = plan->graph;
    pal_status status = add_output_gradients(plan);
    for (size_t i = graph->main.node_count; !status && i-- > 0;) {
        const graph_node *node = &graph->main.nodes[i];
        if (!takes_part(plan, node))
            continue;
        const op_kernel *kernel = kernel_of(node->op);
        plan->node = node;
        status = kernel->backward
                     ? kernel->backward(plan, node)
                     : fail(PAL_ERROR_UNSUPPORTED, "%s has no gradient", graph_op_name(node->op));
        if (status)
            status = graph_node_failed(node, status);
    }
    plan->node = NULL;
    for (size_t v = 0; !status && v < graph->value_count; v++) {
        buffer *sum;
        if (!plan_is_weight(plan, v))
            continue;
        status = plan->options.weights_change ? plan_gradient_in(plan, v, NULL, &sum)
                                              : plan_gradient(plan, v, &sum);
        if (!status && sum)
            buffer_root(sum)->pinned = true;
        plan->gradients[v].sum = sum;
    }
    return status;
}

const buffer *plan_output_gradient(const plan *plan, size_t i)
{
    return plan->output_gradients[i];
}

const buffer *plan_weight_gradient(const plan *plan, size_t value)
{
    const value_gradient *gradient = &plan->gradients[value];
    return gradient->squares ? gradient->squares : gradient->sum;
}

bool plan_keeps_samples_apart(const plan *plan)
{
    for (size_t v = 0; v < plan->graph->value_count; v++) {
        const value_gradient *gradient = &plan->gradients[v];
        if (plan_is_weight(plan, v) && (gradient->count || gradient->passes > 1))
            return false;
    }
    return true;
}
