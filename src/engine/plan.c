#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/kernels.h"
#include "engine/onednn.h"
#include "engine/plan_state.h"
#include "graph/infer.h"

#define ALIGNMENT 64

const plan_options *plan_get_options(const plan *plan)
{
    return &plan->options;
}

const graph *plan_graph(const plan *plan)
{
    return plan->graph;
}

static const graph_value *value_of(const plan *plan, const size_t *list, size_t count, size_t i)
{
    return i < count && list[i] != GRAPH_NONE ? &plan->graph->values[list[i]] : NULL;
}

const graph_value *plan_input(const plan *plan, const graph_node *node, size_t i)
{
    return value_of(plan, node->inputs, node->input_count, i);
}

const graph_value *plan_output(const plan *plan, const graph_node *node, size_t i)
{
    return value_of(plan, node->outputs, node->output_count, i);
}

void *plan_alloc(plan *plan, size_t size)
{
    void *memory = arena_zeroed(&plan->arena, size ? size : 1);
    if (!memory)
        fail_memory("a plan");
    return memory;
}

/* ---------------------------------------------------------------- buffers */

buffer *buffer_root(buffer *buffer)
{
    while (buffer->base)
        buffer = buffer->base;
    return buffer;
}

static buffer *add_buffer(plan *plan, graph_type type, size_t rank, const int64_t *shape,
                          const layout *layout, size_t bytes)
{
    buffer *added = plan_alloc(plan, sizeof *added);
    if (!added)
        return NULL;
    if (!mem_grow((void **)&plan->buffers, &plan->buffer_capacity, plan->buffer_count + 1,
                  sizeof *plan->buffers)) {
        fail_memory("a plan");
        return NULL;
    }
    added->type = type;
    added->rank = rank;
    if (rank)
        memcpy(added->shape, shape, rank * sizeof *shape);
    added->elements = 1;
    for (size_t d = 0; d < rank; d++)
        added->elements *= (uint64_t)shape[d];
    added->layout = layout;
    added->bytes = bytes    ? bytes
                   : layout ? layout_bytes(layout)
                            : (size_t)added->elements * graph_type_size(type);
    added->first = SIZE_MAX;
    added->number = plan->buffer_count;
    plan->buffers[plan->buffer_count++] = added;
    return added;
}

static pal_status keep(plan *plan, size_t value, buffer *buffer)
{
    value_buffers *buffers = &plan->values[value];
    if (!mem_grow((void **)&buffers->list, &buffers->capacity, buffers->count + 1,
                  sizeof *buffers->list))
        return fail_memory("a plan");
    buffers->list[buffers->count++] = buffer;
    return PAL_OK;
}

pal_status plan_new_buffer(plan *plan, size_t value, const layout *layout, buffer **out)
{
    const graph_value *of = &plan->graph->values[value];
    buffer *added = add_buffer(plan, of->type, of->rank, of->shape, layout, 0);
    if (!added)
        return PAL_ERROR_MEMORY;
    *out = added;
    return keep(plan, value, added);
}

pal_status plan_new_view(plan *plan, size_t value, buffer *of)
{
    buffer *view;
    pal_status status = plan_new_buffer(plan, value, NULL, &view);
    if (status)
        return status;
    view->base = of;
    view->constant = of->constant;
    view->data = of->data;
    return PAL_OK;
}

pal_status plan_new_temporary(plan *plan, graph_type type, size_t rank, const int64_t *shape,
                              const layout *layout, size_t bytes, buffer **out)
{
    *out = add_buffer(plan, type, rank, shape, layout, bytes);
    return *out ? PAL_OK : PAL_ERROR_MEMORY;
}

pal_status plan_buffer(plan *plan, size_t value, buffer **out)
{
    if (!plan->values[value].count) {
        const graph_value *of = &plan->graph->values[value];
        if (!of->constant)
            return fail(PAL_ERROR_FORMAT, "value '%s' is used before it is computed", of->name);
        buffer *constant;
        pal_status status = plan_new_buffer(plan, value, NULL, &constant);
        if (status)
            return status;
        constant->constant = !(plan->options.weights_change && plan_is_weight(plan, value));
        if (constant->constant)
            constant->data = (void *)(uintptr_t)of->constant->data; /* never written */
        else
            constant->pinned = true;
    }
    *out = plan->values[value].list[0];
    return PAL_OK;
}

/* A constant in another layout, made now. The original's pages can go: few need both. */
static pal_status reorder_constant(plan *plan, size_t value, void *state, const buffer *from,
                                   buffer *to)
{
    size_t bytes = (to->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    to->owned = aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
    if (!to->owned)
        return fail_memory("a constant");
    to->data = to->owned;
    to->constant = true;
    plan->constant_bytes += bytes;
    pal_status status = onednn_reorder_run(state, from, to);
    if (plan->graph->values[value].constant)
        graph_tensor_release(plan->graph->values[value].constant);
    return status;
}

/* Takes over the state of a reorder: for a constant runs it at once, else adds the step. */
static pal_status do_reorder(plan *plan, size_t value, void *state, buffer *from, buffer *to)
{
    if (!from->constant)
        return plan_add_reorder(plan, state, from, to);
    pal_status status = reorder_constant(plan, value, state, from, to);
    onednn_reorder_free(state);
    return status;
}

pal_status plan_buffer_in(plan *plan, size_t value, const layout *layout, buffer **out)
{
    buffer *from;
    pal_status status = plan_buffer(plan, value, &from);
    if (status)
        return status;
    const value_buffers *known = &plan->values[value];
    for (size_t i = 0; i < known->count; i++)
        if (layout_equal(known->list[i]->layout, layout)) {
            *out = known->list[i];
            return PAL_OK;
        }
    void *state;
    status = onednn_reorder_new(from, layout, &state);
    if (status)
        return status;
    status = plan_new_buffer(plan, value, layout, out);
    if (status) {
        onednn_reorder_free(state);
        return status;
    }
    return do_reorder(plan, value, state, from, *out);
}

pal_status plan_buffer_as(plan *plan, size_t value, const layout *stored, const layout *layout,
                          buffer **out)
{
    if (!stored)
        return plan_buffer_in(plan, value, layout, out);
    buffer *from;
    pal_status status = plan_buffer_in(plan, value, NULL, &from);
    if (status || layout_equal(stored, layout)) {
        *out = from;
        return status;
    }
    void *state;
    buffer described = *from;
    described.layout = stored;
    status = onednn_reorder_new(&described, layout, &state);
    if (status)
        return status;
    status = plan_new_temporary(plan, from->type, from->rank, from->shape, layout, 0, out);
    if (status) {
        onednn_reorder_free(state);
        return status;
    }
    return do_reorder(plan, value, state, from, *out);
}

/* ---------------------------------------------------------------- steps */

step *plan_add_step(plan *plan, const graph_node *node, const char *what,
                    pal_status (*run)(const step *), void *state, void (*release)(void *))
{
    if (!mem_grow((void **)&plan->steps, &plan->step_capacity, plan->step_count + 1,
                  sizeof *plan->steps)) {
        if (release)
            release(state);
        fail_memory("a plan");
        return NULL;
    }
    step *added = &plan->steps[plan->step_count++];
    *added = (step){.what = what, .node = node, .run = run, .state = state, .release = release};
    return added;
}

step *plan_last_step(plan *plan)
{
    return &plan->steps[plan->step_count - 1];
}

static pal_status run_reorder(const step *step)
{
    return onednn_reorder_run(step->state, step->reads[0], step->writes[0]);
}

pal_status plan_add_reorder(plan *plan, void *state, buffer *from, buffer *to)
{
    step *step =
        plan_add_step(plan, plan->node, "reorder", run_reorder, state, onednn_reorder_free);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->writes[0] = to;
    return PAL_OK;
}

pal_status plan_simple(plan *plan, const graph_node *node, const char *what,
                       pal_status (*run)(const step *), void *state, void (*release)(void *))
{
    step step = {0};
    pal_status status = PAL_OK;
    if (node->output_count > STEP_MAX_BUFFERS)
        status = fail(PAL_ERROR_UNSUPPORTED, "more than %d outputs", STEP_MAX_BUFFERS);
    if (!status && node->input_count > STEP_MAX_BUFFERS) {
        step.more_count = node->input_count - STEP_MAX_BUFFERS;
        step.more = plan_alloc(plan, step.more_count * sizeof *step.more);
        status = step.more ? PAL_OK : PAL_ERROR_MEMORY;
    }
    for (size_t i = 0; !status && i < node->input_count; i++)
        if (node->inputs[i] != GRAPH_NONE)
            status = plan_buffer_in(plan, node->inputs[i], NULL,
                                    i < STEP_MAX_BUFFERS ? &step.reads[i]
                                                         : &step.more[i - STEP_MAX_BUFFERS]);
    for (size_t i = 0; !status && i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE)
            status = plan_new_buffer(plan, node->outputs[i], NULL, &step.writes[i]);
    if (status) {
        if (release)
            release(state);
        return status;
    }
    struct step *added = plan_add_step(plan, node, what, run, state, release);
    if (!added)
        return PAL_ERROR_MEMORY;
    memcpy(added->reads, step.reads, sizeof step.reads);
    memcpy(added->writes, step.writes, sizeof step.writes);
    added->more = step.more;
    added->more_count = step.more_count;
    return PAL_OK;
}

/* ---------------------------------------------------------------- making one */

static pal_status add_inputs(plan *plan)
{
    const graph *graph = plan->graph;
    plan->inputs = plan_alloc(plan, graph->input_count * sizeof *plan->inputs);
    pal_status status = plan->inputs ? PAL_OK : PAL_ERROR_MEMORY;
    for (size_t i = 0; !status && i < graph->input_count; i++) {
        status = plan_new_buffer(plan, graph->inputs[i].value, NULL, &plan->inputs[i]);
        if (!status)
            plan->inputs[i]->pinned = true;
    }
    return status;
}

static pal_status add_outputs(plan *plan)
{
    const graph *graph = plan->graph;
    plan->node = NULL;
    plan->outputs = plan_alloc(plan, graph->output_count * sizeof *plan->outputs);
    pal_status status = plan->outputs ? PAL_OK : PAL_ERROR_MEMORY;
    for (size_t i = 0; !status && i < graph->output_count; i++) {
        status = plan_buffer_in(plan, graph->main.outputs[i], NULL, &plan->outputs[i]);
        if (!status && !plan->outputs[i]->constant)
            buffer_root(plan->outputs[i])->pinned = true;
    }
    return status;
}

/* Variables begin with the values of the file. */
static void set_variables(plan *plan)
{
    for (size_t v = 0; plan->options.weights_change && v < plan->graph->value_count; v++) {
        float *to = plan_variable(plan, v);
        if (to && plan->graph->values[v].constant->elements)
            memcpy(to, plan->graph->values[v].constant->data,
                   (size_t)plan->graph->values[v].constant->elements * sizeof *to);
    }
}

float *plan_variable(const plan *plan, size_t value)
{
    const bool is =
        plan->options.weights_change && plan_is_weight(plan, value) && plan->values[value].count;
    return is ? plan->values[value].list[0]->data : NULL;
}

pal_status plan_new(const graph *graph, const plan_options *options, plan **out)
{
    plan *plan = mem_zeroed(1, sizeof *plan);
    if (!plan)
        return fail_memory("a plan");
    plan->options = *options; /* but for `wanted`, which is only looked at now */
    plan->graph = graph;
    arena_init(&plan->arena, SIZE_MAX / 4);
    plan->values = mem_zeroed(graph->value_count, sizeof *plan->values);
    pal_status status = plan->values ? add_inputs(plan) : fail_memory("a plan");
    if (!status && options->wanted)
        status = plan_find_wants(plan);
    if (!status && options->wanted)
        status = plan_find_samples(plan);
    for (size_t i = 0; !status && i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        const op_kernel *kernel = kernel_of(node->op);
        plan->node = node;
        status = kernel->forward ? kernel->forward(plan, node)
                                 : fail(PAL_ERROR_UNSUPPORTED, "%s is computed on constants only",
                                        graph_op_name(node->op));
        if (status)
            status = graph_node_failed(node, status);
    }
    if (!status)
        status = add_outputs(plan);
    plan->forward_count = plan->step_count;
    if (!status && options->wanted)
        status = plan_make_backward(plan);
    if (!status && options->wanted && options->recompute)
        status = plan_recompute(plan);
    if (!status)
        status = plan_lay_out(plan);
    if (!status)
        set_variables(plan);
    if (status) {
        plan_free(plan);
        return status;
    }
    *out = plan;
    return PAL_OK;
}

void plan_free(plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].release)
            plan->steps[i].release(plan->steps[i].state);
    for (size_t i = 0; i < plan->buffer_count; i++)
        free(plan->buffers[i]->owned);
    for (size_t i = 0; plan->values && i < plan->graph->value_count; i++)
        free(plan->values[i].list);
    plan_free_gradients(plan);
    free(plan->statistics);
    free(plan->values);
    free(plan->buffers);
    free(plan->steps);
    free(plan->memory);
    arena_free(&plan->arena);
    free(plan);
}

/* ---------------------------------------------------------------- running */

const buffer *plan_model_input(const plan *plan, size_t i)
{
    return plan->inputs[i];
}

const buffer *plan_model_output(const plan *plan, size_t i)
{
    return plan->outputs[i];
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static pal_status run_steps(const plan *plan, size_t begin, size_t end, double *seconds)
{
    double last = seconds ? now() : 0;
    for (size_t i = begin; i < end; i++) {
        const step *step = &plan->steps[i];
        pal_status status = step->run(step);
        if (status)
            return step->node ? graph_node_failed(step->node, status) : status;
        if (seconds) {
            const double time = now();
            seconds[i] = time - last;
            last = time;
        }
    }
    return PAL_OK;
}

pal_status plan_run(const plan *plan, double *seconds)
{
    return run_steps(plan, 0, plan->forward_count, seconds);
}

pal_status plan_run_part(const plan *plan, size_t begin, size_t end)
{
    return run_steps(plan, begin, end < plan->forward_count ? end : plan->forward_count, NULL);
}

pal_status plan_run_backward(const plan *plan, double *seconds)
{
    return run_steps(plan, plan->forward_count, plan->step_count, seconds);
}

size_t plan_step_count(const plan *plan)
{
    return plan->step_count;
}

const step *plan_step_get(const plan *plan, size_t i)
{
    return &plan->steps[i];
}

size_t plan_activation_bytes(const plan *plan)
{
    return plan->memory_bytes;
}

size_t plan_constant_bytes(const plan *plan)
{
    return plan->constant_bytes;
}
