#include "method/layerwise/layerwise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "method/layerwise/method.h"

/* ---------------------------------------------------------------- what is where */

static pal_status find_uses(calibration *c)
{
    const graph *graph = c->walk.graph;
    const size_t weights = c->compression->model->weight_count;
    size_t *uses = mem_zeroed(weights, sizeof *uses);
    c->consumer = mem_array(graph->value_count, sizeof *c->consumer);
    c->several = mem_zeroed(weights, sizeof *c->several);
    c->done = mem_zeroed(weights, sizeof *c->done);
    if (!uses || !c->consumer || !c->several || !c->done) {
        free(uses);
        return fail_memory("calibration");
    }
    for (size_t v = 0; v < graph->value_count; v++)
        c->consumer[v] = GRAPH_NONE;
    for (size_t i = 0; i < graph->main.node_count; i++)
        for (size_t k = 0; k < graph->main.nodes[i].input_count; k++) {
            const size_t v = graph->main.nodes[i].inputs[k];
            if (v == GRAPH_NONE)
                continue;
            if (c->walk.uses[v] == 1)
                c->consumer[v] = i;
            if (graph->values[v].weight != GRAPH_NONE)
                uses[graph->values[v].weight]++;
        }
    for (size_t i = 0; i < weights; i++)
        c->several[i] = uses[i] > 1;
    free(uses);
    return PAL_OK;
}

/* The compressed network computes with the palette that a weight has now. */
static pal_status use_palette(calibration *c, size_t weight)
{
    const compression *all = c->compression;
    const target *t = &all->targets[all->targets[weight].source];
    const graph *graph = c->walk.graph;
    void *dense = NULL;
    pal_status status = PAL_OK;
    for (size_t v = 0; !status && v < graph->value_count; v++) {
        float *values;
        if (graph->values[v].weight != weight || !graph->values[v].constant)
            continue;
        const uint64_t elements = graph->values[v].constant->elements;
        if (!dense) {
            dense = mem_array((size_t)elements, grid_size(t->grid));
            status = dense ? palette_decode(t->palette, dense) : fail_memory("calibration");
        }
        if (!status)
            status = walk_replace(&c->walk, v, &values);
        for (uint64_t e = 0; !status && e < elements; e++)
            values[e] = grid_get(t->grid, dense, e);
    }
    free(dense);
    return status;
}

static bool is_palettized(const calibration *c, size_t weight)
{
    const compression *all = c->compression;
    if (weight == GRAPH_NONE || !all->targets[weight].wanted)
        return false;
    const target *t = &all->targets[all->targets[weight].source];
    double error = 0;
    for (uint64_t g = 0; g < t->plan.groups; g++)
        error += t->group_error[g];
    return t->wanted && error == error; /* NaN: it will be left as it is */
}

/* ---------------------------------------------------------------- layers */

static pal_status visit_layer(calibration *c, size_t i, const char **reason)
{
    walk *w = &c->walk;
    const graph_node *node = &w->graph->main.nodes[i];
    const size_t weight = w->graph->values[node->inputs[1]].weight;
    layer l;
    bool solved = false;
    (void)reason;
    pal_status status = layer_init(w->graph, node, &l);
    if (!status)
        status = walk_run(w, i, 1, RUN_FLOAT, false);
    if (!status && c->reconstruct && is_palettized(c, weight) && !c->several[weight] &&
        !c->done[weight])
        status = layer_solve(c, &l, &solved);
    if (!status && solved) {
        c->done[weight] = true;
        c->layers++;
        status = use_palette(c, weight);
    }
    if (!status)
        status = walk_run(w, i, 1, RUN_COMPRESSED, true);
    const size_t next = c->consumer[l.y];
    const bool normed =
        next != GRAPH_NONE && c->correct && statistics_adjustable(c, &w->graph->main.nodes[next]);
    if (!status && c->correct && !normed && constant_adjustable(c, l.bias) &&
        w->graph->values[l.bias].constant->elements == l.rows)
        status = bias_correct(c, l.bias, l.y, l.axis);
    layer_free(&l);
    return status;
}

static pal_status walk_along(calibration *c)
{
    walk *w = &c->walk;
    const graph *graph = w->graph;
    const size_t nodes = graph->main.node_count;
    const char *reason;
    size_t from = 0; /* the first node that has not run */
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < nodes; i++) {
        const graph_node *node = &graph->main.nodes[i];
        const bool layer = layer_of(graph, node, &reason);
        const bool norm = c->correct && statistics_adjustable(c, node);
        if (!layer && !norm)
            continue;
        status = walk_run(w, from, i - from, RUN_BOTH, true);
        from = i;
        if (!status && norm)
            status = statistics_correct(c, node);
        if (!status && layer) {
            status = visit_layer(c, i, &reason);
            from = i + 1;
        }
        if (!status && c->compression->progress &&
            !c->compression->progress(c->compression->user, i, nodes, node->name))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    }
    return status ? status : walk_run(w, from, nodes - from, RUN_BOTH, true);
}

static pal_status go_along(calibration *c, const pal_data *data)
{
    compression *all = c->compression;
    pal_status status =
        walk_open(all->model, data, pal_data_count(data), all->thread_count, &c->walk);
    if (status)
        return status;
    status = find_uses(c);
    for (size_t i = 0; !status && i < all->model->weight_count; i++)
        if (is_palettized(c, i))
            status = use_palette(c, i);
    if (!status)
        status = walk_along(c);
    walk_close(&c->walk);
    free(c->consumer);
    free(c->several);
    free(c->done);
    return status;
}

pal_status layerwise_calibrate(compression *all, const method_settings *settings,
                               const pal_data *data)
{
    calibration c = {.compression = all,
                     .settings = settings,
                     .reconstruct = settings->method == METHOD_LAYERWISE,
                     .correct = settings->correct != CORRECT_OFF};
    return go_along(&c, data);
}

pal_status layerwise_compress(pal_model *model, const pal_options *options,
                              const method_settings *settings, const pal_data *data,
                              pal_progress progress, void *user, pal_report **report)
{
    compression all = {.model = model, .options = options, .progress = progress, .user = user};
    pal_status status = compression_begin(&all);
    if (status)
        return status;
    status = compression_cluster(&all);
    if (!status)
        status = layerwise_calibrate(&all, settings, data);
    if (!status)
        return compression_end(&all, report);
    compression_abandon(&all);
    return status;
}
