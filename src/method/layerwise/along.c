/* The walk: segments between layers and batch norms run as they are; a layer is reconstructed from
 * what the compressed network gives it, and what it gives is corrected, before anything behind it
 * runs. */
#include "method/layerwise/layerwise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

/* ---------------------------------------------------------------- what is where */

static pal_status find_uses(calibration *c)
{
    const graph *graph = c->walk.graph;
    const size_t weights = c->compression->model->weight_count;
    const target *targets = c->compression->targets;
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
                uses[targets[graph->values[v].weight].source]++;
        }
    for (size_t i = 0; i < weights; i++)
        c->several[i] = uses[targets[i].source] > 1;
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

static pal_status visit_layer(calibration *c, size_t i)
{
    walk *w = &c->walk;
    const graph_node *node = &w->graph->main.nodes[i];
    const size_t weight = w->graph->values[node->inputs[1]].weight;
    layer l;
    bool solved = false;
    pal_status status = layer_init(w->graph, node, &l);
    if (!status)
        status = walk_run(w, i, 1, RUN_FLOAT, false);
    const bool own = is_palettized(c, weight) && !c->several[weight];
    bool scaled = false;
    if (!status && own && c->settings->correct == CORRECT_SCALE && !layer_norm(c, &l))
        status = layer_add_scales(c, &l, &scaled);
    if (!status && own && c->reconstruct)
        status = layer_solve(c, &l, &solved);
    if (!status && solved) {
        c->done[c->compression->targets[weight].source] = true;
        c->layers++;
        status = use_palette(c, weight);
    }
    if (!status)
        status = walk_run(w, i, 1, RUN_COMPRESSED, true);
    if (!status && c->correct && !layer_norm(c, &l))
        status = layer_correct(c, &l);
    layer_free(&l);
    return status;
}

static pal_status walk_along(calibration *c)
{
    walk *w = &c->walk;
    const graph *graph = w->graph;
    const size_t nodes = graph->main.node_count;
    size_t from = 0; /* the first node that has not run */
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < nodes; i++) {
        const graph_node *node = &graph->main.nodes[i];
        const bool layer = layer_of(graph, node) && (c->reconstruct || c->correct);
        const bool norm = c->correct && statistics_adjustable(c, node);
        if (!layer && !norm)
            continue;
        status = walk_run(w, from, i - from, RUN_BOTH, true);
        from = i;
        if (!status && norm)
            status = statistics_correct(c, node);
        if (!status && layer) {
            status = visit_layer(c, i);
            from = i + 1;
        }
        if (!status && c->compression->progress &&
            !c->compression->progress(c->compression->user, i, nodes, node->name))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    }
    return status ? status : walk_run(w, from, nodes - from, RUN_BOTH, true);
}

/* Why palettes that nobody could solve are those of K-Means; others have their remark. */
static void remark_others(calibration *c)
{
    const compression *all = c->compression;
    for (size_t i = 0; i < all->model->weight_count; i++) {
        target *t = &all->targets[i];
        if (is_palettized(c, i) && t->source == i && !c->done[i] && !*t->remark)
            snprintf(t->remark, sizeof t->remark, "K-Means: %s",
                     c->several[i] ? "used more than once"
                                   : "no weight of a convolution or matrix product that is "
                                     "reconstructed");
    }
}

pal_status calibrate(calibration *c, score *score)
{
    compression *all = c->compression;
    pal_status status =
        walk_open(all->model, c->data, c->samples, c->held_back, all->thread_count, &c->walk);
    if (status)
        return status;
    status = find_uses(c);
    for (size_t i = 0; !status && i < all->model->weight_count; i++)
        if (is_palettized(c, i))
            status = use_palette(c, i);
    if (!status)
        status = walk_along(c);
    if (!status && c->reconstruct)
        remark_others(c);
    if (!status)
        status = score_outputs(c, score);
    walk_close(&c->walk);
    free(c->consumer);
    free(c->several);
    free(c->done);
    c->consumer = NULL;
    c->several = c->done = NULL;
    return status;
}
