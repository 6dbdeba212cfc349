/* Where in a network an error arises: two models run side by side on the same samples, with what
 * their layers give as additional outputs.
 *
 * The second model's graph gets, beside each layer, a copy of it with the first model's weights:
 * what that gives differs from the layer's own result by this layer's error alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/session.h"
#include "format/format.h"
#include "graph/graph.h"
#include "method/feed.h"

#define DEFAULT_BATCH 8

typedef struct layer {
    pal_layer_error shown;
    double error, own_error, energy, peak; /* sums of squares; largest magnitude */
    uint64_t elements;
    size_t output_a, output_b, output_own; /* numbers of outputs of the sessions */
} layer;

struct pal_comparison {
    layer *layers;
    size_t count, capacity;
    mem_arena names;
};

size_t pal_comparison_count(const pal_comparison *comparison)
{
    return comparison->count;
}

const pal_layer_error *pal_comparison_get(const pal_comparison *comparison, size_t i)
{
    return i < comparison->count ? &comparison->layers[i].shown : NULL;
}

void pal_comparison_free(pal_comparison *comparison)
{
    if (!comparison)
        return;
    free(comparison->layers);
    arena_free(&comparison->names);
    free(comparison);
}

/* ---------------------------------------------------------------- layers of both models */

static bool has_weights(const graph *graph, const graph_node *node)
{
    switch (node->op) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_MATMUL:
    case OP_EINSUM:
    case OP_GATHER:
    case OP_LSTM:
    case OP_GRU:
    case OP_RNN: break;
    default: return false;
    }
    for (size_t i = 0; i < node->input_count; i++)
        if (node->inputs[i] != GRAPH_NONE && graph->values[node->inputs[i]].weight != GRAPH_NONE)
            return true;
    return false;
}

static const graph_node *find_layer(const graph *graph, const char *name, graph_op op)
{
    for (size_t i = 0; i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        if (node->op == op && node->output_count && node->outputs[0] != GRAPH_NONE &&
            strcmp(graph->values[node->outputs[0]].name, name) == 0)
            return node;
    }
    return NULL;
}

/* Outputs are appended behind the model's own, as many as are asked for. */
static pal_status widen_outputs(graph *graph, size_t more)
{
    size_t *outputs =
        arena_alloc(&graph->arena, (graph->output_count + more + 1) * sizeof *outputs);
    if (!outputs)
        return fail_memory("a comparison");
    if (graph->output_count)
        memcpy(outputs, graph->main.outputs, graph->output_count * sizeof *outputs);
    graph->main.outputs = outputs;
    return PAL_OK;
}

static size_t add_output(graph *graph, size_t value)
{
    graph->main.outputs[graph->output_count] = value;
    return graph->output_count++;
}

/* The layer of b again, with the constants of its twin in a. */
static pal_status add_twin(graph *b, size_t node, const graph *a, const graph_node *twin,
                           size_t *output)
{
    const graph_node *from = &b->main.nodes[node];
    if (from->input_count != twin->input_count)
        return fail(PAL_ERROR_ARGUMENT, "layer '%s' differs in its inputs", from->name);
    graph_node *copy = graph_add_node(b, &b->main, from->op, from->name, from->type,
                                      from->input_count, from->output_count);
    from = &b->main.nodes[node]; /* nodes may have moved */
    if (!copy)
        return PAL_ERROR_MEMORY;
    copy->attributes = from->attributes;
    for (size_t i = 0; i < from->input_count; i++) {
        copy->inputs[i] = from->inputs[i];
        const graph_value *of = twin->inputs[i] == GRAPH_NONE ? NULL : &a->values[twin->inputs[i]];
        if (!of || !of->constant)
            continue;
        copy->inputs[i] = graph_add_constant(b, "", of->constant);
        if (copy->inputs[i] == GRAPH_NONE)
            return PAL_ERROR_MEMORY;
    }
    copy->outputs[0] = graph_add_value(b, "", b->values[from->outputs[0]].type);
    if (copy->outputs[0] == GRAPH_NONE)
        return PAL_ERROR_MEMORY;
    *output = add_output(b, copy->outputs[0]);
    return PAL_OK;
}

static pal_status add_layer(pal_comparison *comparison, graph *a, graph *b, size_t node)
{
    const graph_node *layer_b = &b->main.nodes[node];
    const char *name = b->values[layer_b->outputs[0]].name, *type = layer_b->type;
    const graph_node *layer_a = *name ? find_layer(a, name, layer_b->op) : NULL;
    if (!layer_a)
        return PAL_OK;
    if (!mem_grow((void **)&comparison->layers, &comparison->capacity, comparison->count + 1,
                  sizeof *comparison->layers))
        return fail_memory("a comparison");
    layer *added = &comparison->layers[comparison->count];
    *added = (layer){.shown = {.name = arena_copy(&comparison->names, name, strlen(name)),
                               .op = arena_copy(&comparison->names, type, strlen(type))},
                     .output_a = add_output(a, layer_a->outputs[0]),
                     .output_b = add_output(b, layer_b->outputs[0])};
    if (!added->shown.name || !added->shown.op)
        return fail_memory("a comparison");
    comparison->count++;
    return add_twin(b, node, a, layer_a, &added->output_own);
}

static pal_status find_layers(pal_comparison *comparison, graph *a, graph *b)
{
    const size_t nodes = b->main.node_count; /* before twins are added */
    size_t weighted = 0;
    for (size_t i = 0; i < nodes; i++)
        weighted += has_weights(b, &b->main.nodes[i]);
    pal_status status = widen_outputs(a, weighted);
    if (!status)
        status = widen_outputs(b, 2 * weighted);
    for (size_t i = 0; !status && i < nodes; i++)
        if (has_weights(b, &b->main.nodes[i]))
            status = add_layer(comparison, a, b, i);
    if (!status && !comparison->count)
        status = fail(PAL_ERROR_ARGUMENT, "the models have no layer with weights in common: values "
                                          "of the same name are compared");
    return status;
}

/* ---------------------------------------------------------------- sums */

static pal_status add_sums(layer *layer, const pal_session *a, const pal_session *b,
                           const feed_batch *batch)
{
    const pal_tensor *x = pal_session_output(a, layer->output_a);
    const pal_tensor *y = pal_session_output(b, layer->output_b);
    const pal_tensor *own = pal_session_output(b, layer->output_own);
    uint64_t elements = 1;
    if (x->dtype != PAL_FLOAT32 || y->dtype != PAL_FLOAT32)
        return PAL_OK;
    if (x->rank != y->rank || memcmp(x->shape, y->shape, x->rank * sizeof *x->shape) != 0)
        return fail(PAL_ERROR_ARGUMENT, "layer '%s' gives different shapes", layer->shown.name);
    for (size_t d = 0; d < y->rank; d++)
        elements *= (uint64_t)y->shape[d];
    /* The last batch repeats its last sample where the first dimension is the batch's. */
    if (y->rank && y->shape[0] == batch->inputs[0].shape[0])
        elements = elements / (uint64_t)y->shape[0] * batch->count;
    const float *p = x->data, *q = y->data, *r = own->data;
    for (uint64_t i = 0; i < elements; i++) {
        const double value = q[i]; /* infinities may be equal */
        const double error = p[i] == q[i] ? 0 : p[i] - value;
        const double alone = r[i] == q[i] ? 0 : r[i] - value;
        layer->error += error * error;
        layer->own_error += alone * alone;
        layer->energy += value * value;
        layer->peak = fmax(layer->peak, fabs(value));
    }
    layer->elements += elements;
    return PAL_OK;
}

static double ratio(double error, double energy)
{
    return error == 0 ? 0 : energy == 0 ? INFINITY : sqrt(error / energy);
}

static void finish(pal_comparison *comparison)
{
    for (size_t i = 0; i < comparison->count; i++) {
        layer *layer = &comparison->layers[i];
        const double mse = layer->elements ? layer->error / (double)layer->elements : 0;
        layer->shown.relative = ratio(layer->error, layer->energy);
        layer->shown.own = ratio(layer->own_error, layer->energy);
        layer->shown.snr = -20 * log10(layer->shown.relative);
        layer->shown.psnr = mse == 0 ? INFINITY : 10 * log10(layer->peak * layer->peak / mse);
    }
}

/* ---------------------------------------------------------------- the run */

static pal_status run_all(pal_comparison *comparison, pal_session *a, pal_session *b, feed *feed,
                          uint64_t samples, pal_progress progress, void *user)
{
    feed_batch batch;
    uint64_t done = 0;
    for (;;) {
        pal_status status = feed_next(feed, &batch);
        if (status || !batch.count)
            return status;
        status = pal_session_run(a, batch.inputs, batch.input_count);
        if (!status)
            status = pal_session_run(b, batch.inputs, batch.input_count);
        for (size_t i = 0; !status && i < comparison->count; i++)
            status = add_sums(&comparison->layers[i], a, b, &batch);
        done += batch.count;
        if (!status && progress && !progress(user, done, samples, "samples"))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
        if (status)
            return status;
    }
}

static pal_status lower(pal_model *model, graph **out)
{
    pal_status status = graph_lower(model, out);
    return status ? fail_context(status, "%s", model->path) : PAL_OK;
}

pal_status pal_compare(pal_model *a, pal_model *b, const pal_data *data,
                       const pal_score_options *options, pal_progress progress, void *user,
                       pal_comparison **out)
{
    const pal_score_options defaults = {0}, *chosen = options ? options : &defaults;
    const int threads = chosen->threads > 0 ? chosen->threads : parallel_processors();
    pal_session *session_a = NULL, *session_b = NULL;
    graph *graph_a = NULL, *graph_b = NULL;
    feed *feed = NULL;
    pal_comparison *comparison = mem_zeroed(1, sizeof *comparison);
    if (!comparison)
        return fail_memory("a comparison");
    arena_init(&comparison->names, SIZE_MAX / 4);
    pal_status status = lower(a, &graph_a);
    if (!status)
        status = lower(b, &graph_b);
    if (!status)
        status = find_layers(comparison, graph_a, graph_b);
    if (!status) {
        status = session_new(a, graph_a, threads, &session_a);
        graph_a = NULL;
    }
    if (!status) {
        status = session_new(b, graph_b, threads, &session_b);
        graph_b = NULL;
    }
    if (!status)
        status = feed_open(data, session_b, chosen->batch ? chosen->batch : DEFAULT_BATCH, threads,
                           &feed);
    if (!status)
        status =
            run_all(comparison, session_a, session_b, feed, pal_data_count(data), progress, user);
    feed_close(feed);
    pal_session_free(session_b); /* points into the first one's graph */
    pal_session_free(session_a);
    graph_free(graph_b);
    graph_free(graph_a);
    if (status) {
        pal_comparison_free(comparison);
        return status;
    }
    finish(comparison);
    *out = comparison;
    return PAL_OK;
}
