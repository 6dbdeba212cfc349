#include "engine/gradient.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/engine.h"
#include "engine/fuse.h"
#include "engine/onednn.h"
#include "graph/infer.h"

struct gradients {
    graph *graph;
    plan *plan;
    bool *wanted; /* by value of the graph */
    bool apart;
    gradient_variable *variables;
    size_t variable_count;
};

void gradients_free(gradients *gradients)
{
    if (!gradients)
        return;
    plan_free(gradients->plan);
    graph_free(gradients->graph);
    free(gradients->wanted);
    free(gradients->variables);
    free(gradients);
}

const graph *gradients_graph(const gradients *gradients)
{
    return gradients->graph;
}

plan *gradients_plan(const gradients *gradients)
{
    return gradients->plan;
}

bool gradients_apart(const gradients *gradients)
{
    return gradients->apart;
}

size_t gradients_variable_count(const gradients *gradients)
{
    return gradients->variable_count;
}

const gradient_variable *gradients_variable(const gradients *gradients, size_t i)
{
    return &gradients->variables[i];
}

static pal_status make_plan(gradients *it, const gradient_options *options, size_t samples)
{
    plan_free(it->plan);
    it->plan = NULL;
    return plan_new(it->graph,
                    &(plan_options){.threads = options->threads,
                                    .wanted = it->wanted,
                                    .samples = samples,
                                    .training = options->training,
                                    .fixed_statistics = options->fixed_statistics,
                                    .seed = options->seed,
                                    .weights_change = options->weights_change,
                                    .recompute = options->recompute},
                    &it->plan);
}

/* ---------------------------------------------------------------- variables */

static void replace(graph *graph, size_t value, size_t by)
{
    for (size_t i = 0; i < graph->main.node_count; i++)
        for (size_t k = 0; k < graph->main.nodes[i].input_count; k++)
            if (graph->main.nodes[i].inputs[k] == value)
                graph->main.nodes[i].inputs[k] = by;
}

/* Several values that are the same weight become one, so that they go on being the same. */
static pal_status join_tied(gradients *it, const size_t *value_of, size_t v)
{
    const graph_value *value = &it->graph->values[v], *first = &it->graph->values[*value_of];
    if (value->rank != first->rank ||
        memcmp(value->shape, first->shape, value->rank * sizeof *value->shape) != 0)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "weight '%s' is used in two shapes: it cannot be trained", value->name);
    replace(it->graph, v, *value_of);
    it->wanted[v] = false;
    return PAL_OK;
}

static pal_status join_all_tied(gradients *it, const gradient_options *options)
{
    size_t *value_of = mem_array(options->weight_count, sizeof *value_of); /* by weight */
    pal_status status = value_of ? PAL_OK : fail_memory("gradients");
    for (size_t w = 0; !status && w < options->weight_count; w++)
        value_of[w] = GRAPH_NONE;
    for (size_t v = 0; !status && v < it->graph->value_count; v++) {
        if (!it->wanted[v])
            continue;
        size_t *first = &value_of[it->graph->values[v].weight];
        if (*first == GRAPH_NONE)
            *first = v;
        else
            status = join_tied(it, first, v);
    }
    free(value_of);
    return status;
}

static int by_weight(const void *a, const void *b)
{
    const gradient_variable *x = a, *y = b;
    return x->weight < y->weight ? -1 : x->weight > y->weight;
}

static pal_status list_variables(gradients *it)
{
    it->variables = mem_array(it->graph->value_count, sizeof *it->variables);
    if (!it->variables)
        return fail_memory("gradients");
    for (size_t v = 0; v < it->graph->value_count; v++) {
        float *values = plan_variable(it->plan, v);
        if (!values)
            continue;
        const buffer *gradient = plan_weight_gradient(it->plan, v);
        it->variables[it->variable_count++] = (gradient_variable){
            .weight = it->graph->values[v].weight,
            .value = v,
            .elements = graph_elements(&it->graph->values[v]),
            .values = values,
            .gradient = gradient ? gradient->data : NULL,
        };
    }
    qsort(it->variables, it->variable_count, sizeof *it->variables, by_weight);
    return PAL_OK;
}

pal_status gradients_new(const graph *source, const gradient_options *options, gradients **out)
{
    gradients *it = mem_zeroed(1, sizeof *it);
    if (!it)
        return fail_memory("gradients");
    const specialise_options static_options = {.shapes = options->shapes,
                                               .keep_weights = true,
                                               .keep_dropout = options->training,
                                               .evaluate = engine_evaluate};
    pal_status status = graph_specialise(source, &static_options, &it->graph, NULL);
    if (!status)
        status = graph_fuse_training(it->graph);
    if (!status) {
        it->wanted = mem_zeroed(it->graph->value_count, sizeof *it->wanted);
        status = it->wanted ? PAL_OK : fail_memory("gradients");
    }
    for (size_t v = 0; !status && v < it->graph->value_count; v++) {
        const size_t weight = it->graph->values[v].weight;
        it->wanted[v] = it->graph->values[v].constant && weight < options->weight_count &&
                        options->weights[weight];
    }
    if (!status && options->weights_change)
        status = join_all_tied(it, options);
    if (!status)
        status = make_plan(it, options, options->apart ? (size_t)options->shapes[0][0] : 0);
    if (!status && options->apart) {
        it->apart = plan_keeps_samples_apart(it->plan);
        if (!it->apart)
            status = make_plan(it, options, 0);
    }
    if (!status && options->weights_change)
        status = list_variables(it);
    if (status) {
        gradients_free(it);
        return status;
    }
    *out = it;
    return PAL_OK;
}

/* A gradient in row-major order: in place, or in fresh memory that comes back in *owned. */
static pal_status row_major(const buffer *from, const float **values, float **owned)
{
    void *state;
    *owned = NULL;
    *values = from->data;
    if (!from->layout)
        return PAL_OK;
    *owned = mem_array((size_t)from->elements, sizeof **owned);
    if (!*owned)
        return fail_memory("gradients");
    buffer to = *from;
    to.layout = NULL;
    to.data = *owned;
    pal_status status = onednn_reorder_new(from, NULL, &state);
    if (!status) {
        status = onednn_reorder_run(state, from, &to);
        onednn_reorder_free(state);
    }
    *values = *owned;
    return status;
}

void gradients_clear(const gradients *gradients)
{
    for (size_t v = 0; gradients->apart && v < gradients->graph->value_count; v++) {
        const buffer *squares =
            gradients->wanted[v] ? plan_weight_gradient(gradients->plan, v) : NULL;
        if (squares)
            memset(squares->data, 0, squares->bytes);
    }
}

pal_status gradients_add(const gradients *gradients, size_t weight, bool square, float *to)
{
    const graph *graph = gradients->graph;
    float *sum = NULL;
    uint64_t elements = 0;
    pal_status status = PAL_OK;
    for (size_t v = 0; !status && v < graph->value_count; v++) {
        if (!gradients->wanted[v] || graph->values[v].weight != weight)
            continue;
        const buffer *gradient = plan_weight_gradient(gradients->plan, v);
        const float *values;
        float *owned;
        if (!gradient)
            continue;
        status = row_major(gradient, &values, &owned);
        if (!status && !sum) {
            elements = gradient->elements;
            sum = mem_zeroed((size_t)elements, sizeof *sum);
            status = sum ? PAL_OK : fail_memory("gradients");
        }
        for (uint64_t e = 0; !status && e < elements; e++)
            sum[e] += values[e];
        free(owned);
    }
    for (uint64_t e = 0; !status && sum && e < elements; e++)
        to[e] += square ? sum[e] * sum[e] : sum[e];
    free(sum);
    return status;
}
