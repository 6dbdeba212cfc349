#include "method/train/fixed.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/scratch.h"

void fixed_free(fixed *it)
{
    for (size_t w = 0; it->values && w < it->count; w++)
        scratch_free(it->values[w]);
    free(it->values);
    *it = (fixed){0};
}

/* As a reader of the file will see them. */
static pal_status decode(const target *t, uint64_t elements, float *to)
{
    void *dense = scratch_zeroed(elements, grid_size(t->grid));
    pal_status status = dense ? palette_decode(t->palette, dense) : fail_memory("training");
    for (uint64_t e = 0; !status && e < elements; e++)
        to[e] = grid_get(t->grid, dense, e);
    scratch_free(dense);
    return status;
}

pal_status fixed_take(fixed *it, const compression *c, size_t weight)
{
    const target *t = &c->targets[weight], *source = &c->targets[t->source];
    const uint64_t elements = c->model->weights[weight].info.elements;
    const bool palettized = t->wanted && source->wanted;
    if (!palettized && !t->dense)
        return PAL_OK;
    if (!it->values) {
        it->count = c->model->weight_count;
        it->values = mem_zeroed(it->count, sizeof *it->values);
    }
    float *values = it->values ? scratch_zeroed(elements, sizeof *values) : NULL;
    if (!values)
        return fail_memory("training");
    it->values[weight] = values;
    it->any = true;
    if (palettized)
        return decode(source, elements, values);
    compression_adjusted(c, weight, values);
    return PAL_OK;
}

pal_status fixed_set_weight(graph *graph, size_t weight, const float *values)
{
    for (size_t v = 0; v < graph->value_count; v++) {
        const graph_tensor *old = graph->values[v].constant;
        if (graph->values[v].weight != weight || !old)
            continue;
        const graph_tensor *tensor =
            graph_add_view(graph, GRAPH_FLOAT, old->rank, old->shape, values);
        if (!tensor)
            return PAL_ERROR_MEMORY;
        graph_set_constant(graph, v, tensor);
    }
    return PAL_OK;
}

pal_status fixed_show(const fixed *it, graph *graph)
{
    pal_status status = PAL_OK;
    for (size_t w = 0; !status && it->any && w < it->count; w++)
        if (it->values[w])
            status = fixed_set_weight(graph, w, it->values[w]);
    return status;
}
