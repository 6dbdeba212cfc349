#include "engine/gradient.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/engine.h"
#include "engine/onednn.h"

struct gradients {
    graph *graph;
    plan *plan;
    bool *wanted; /* by value of the graph */
    bool apart;
};

void gradients_free(gradients *gradients)
{
    if (!gradients)
        return;
    plan_free(gradients->plan);
    graph_free(gradients->graph);
    free(gradients->wanted);
    free(gradients);
}

const graph *gradients_graph(const gradients *gradients)
{
    return gradients->graph;
}

const plan *gradients_plan(const gradients *gradients)
{
    return gradients->plan;
}

bool gradients_apart(const gradients *gradients)
{
    return gradients->apart;
}

static pal_status make_plan(gradients *it, const gradient_options *options, size_t samples)
{
    plan_free(it->plan);
    it->plan = NULL;
    return plan_new(
        it->graph,
        &(plan_options){.threads = options->threads, .wanted = it->wanted, .samples = samples},
        &it->plan);
}

pal_status gradients_new(const graph *source, const gradient_options *options, gradients **out)
{
    gradients *it = mem_zeroed(1, sizeof *it);
    if (!it)
        return fail_memory("gradients");
    const specialise_options static_options = {
        .shapes = options->shapes, .keep_weights = true, .evaluate = engine_evaluate};
    pal_status status = graph_specialise(source, &static_options, &it->graph, NULL);
    if (!status) {
        it->wanted = mem_zeroed(it->graph->value_count, sizeof *it->wanted);
        status = it->wanted ? PAL_OK : fail_memory("gradients");
    }
    for (size_t v = 0; !status && v < it->graph->value_count; v++) {
        const size_t weight = it->graph->values[v].weight;
        it->wanted[v] = weight < options->weight_count && options->weights[weight];
    }
    if (!status)
        status = make_plan(it, options, options->apart ? (size_t)options->shapes[0][0] : 0);
    if (!status && options->apart) {
        it->apart = plan_keeps_samples_apart(it->plan);
        if (!it->apart)
            status = make_plan(it, options, 0);
    }
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
