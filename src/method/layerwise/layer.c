#include "method/layerwise/layer.h"

#include <stdlib.h>

#include "base/memory.h"

static bool is_weight(const graph *graph, const graph_node *node, size_t i)
{
    return i < node->input_count && node->inputs[i] != GRAPH_NONE &&
           graph->values[node->inputs[i]].weight != GRAPH_NONE;
}

bool layer_of(const graph *graph, const graph_node *node)
{
    if (node->op == OP_CONV || node->op == OP_CONV_TRANSPOSE) {
        const graph_value *x = &graph->values[node->inputs[0]];
        return is_weight(graph, node, 1) && !x->constant;
    }
    if (node->op == OP_MATMUL) {
        const graph_value *a = &graph->values[node->inputs[0]];
        const graph_value *b = &graph->values[node->inputs[1]];
        return is_weight(graph, node, 1) && !a->constant && b->rank == 2 && a->rank >= 2 &&
               !node->attributes.matmul.transpose_a && node->attributes.matmul.alpha == 1;
    }
    return false;
}

static size_t product(const int64_t *extents, size_t count)
{
    size_t all = 1;
    for (size_t i = 0; i < count; i++)
        all *= (size_t)extents[i];
    return all;
}

static pal_status init_matmul(const graph *graph, layer *l)
{
    const graph_value *w = &graph->values[l->weight];
    const bool by_rows = l->node->attributes.matmul.transpose_b; /* stored [rows, columns] */
    l->rows = (size_t)w->shape[by_rows ? 0 : 1];
    l->columns = (size_t)w->shape[by_rows ? 1 : 0];
    l->blocks = 1;
    l->axis = graph->values[l->y].rank - 1;
    l->row_offset = mem_array(l->rows, sizeof *l->row_offset);
    l->column_offset = mem_array(l->columns, sizeof *l->column_offset);
    if (!l->row_offset || !l->column_offset)
        return fail_memory("calibration");
    for (size_t r = 0; r < l->rows; r++)
        l->row_offset[r] = by_rows ? r * l->columns : r;
    for (size_t c = 0; c < l->columns; c++)
        l->column_offset[c] = by_rows ? c : c * l->rows;
    return PAL_OK;
}

static pal_status init_convolution(const graph *graph, layer *l)
{
    const graph_value *w = &graph->values[l->weight], *x = &graph->values[l->x];
    const size_t places = product(w->shape + 2, w->rank - 2);
    l->windowed = true;
    l->transposed = l->node->op == OP_CONV_TRANSPOSE;
    l->blocks = (size_t)l->node->attributes.window.groups;
    l->in_channels = (size_t)x->shape[1] / l->blocks;
    l->rows = l->transposed ? (size_t)w->shape[1] * l->blocks : (size_t)w->shape[0];
    l->columns = l->in_channels * places;
    l->axis = 1;
    pal_status status = resolve_window(l->node, x, w, &l->window);
    if (status)
        return status;
    l->row_offset = mem_array(l->rows, sizeof *l->row_offset);
    l->column_offset = mem_array(l->columns, sizeof *l->column_offset);
    if (!l->row_offset || !l->column_offset)
        return fail_memory("calibration");
    const size_t out = l->rows / l->blocks; /* of a block */
    for (size_t r = 0; r < l->rows; r++)
        l->row_offset[r] = l->transposed
                               ? r / out * l->in_channels * out * places + r % out * places
                               : r * l->columns;
    for (size_t c = 0; c < l->columns; c++)
        l->column_offset[c] = l->transposed ? c / places * out * places + c % places : c;
    return PAL_OK;
}

pal_status layer_init(const graph *graph, const graph_node *node, layer *l)
{
    *l = (layer){.node = node,
                 .x = node->inputs[0],
                 .y = node->outputs[0],
                 .weight = node->inputs[1],
                 .bias = node->input_count > 2 ? node->inputs[2] : GRAPH_NONE};
    pal_status status = node->op == OP_MATMUL ? init_matmul(graph, l) : init_convolution(graph, l);
    if (status)
        layer_free(l);
    return status;
}

void layer_free(layer *l)
{
    free(l->row_offset);
    free(l->column_offset);
    l->row_offset = l->column_offset = NULL;
}
