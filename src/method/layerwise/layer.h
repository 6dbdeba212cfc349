/* A node that multiplies what it reads by a weight, seen as a matrix: rows give the output
 * channels, columns belong to what comes in. Convolutions have a column for each input channel and
 * place in the kernel; those with groups have a block of rows for each group, with inputs of its
 * own. */
#ifndef PAL_METHOD_LAYERWISE_LAYER_H
#define PAL_METHOD_LAYERWISE_LAYER_H

#include "graph/graph.h"
#include "graph/infer.h"

typedef struct layer {
    const graph_node *node;
    size_t x, y, weight, bias; /* values; bias GRAPH_NONE if there is none */
    size_t rows, columns, blocks;
    bool windowed, transposed; /* a convolution, a transposed one */
    window_geometry window;    /* if windowed */
    size_t in_channels;        /* windowed: of a block */
    size_t axis;               /* of output channels in y */
    /* Element [r, c] of the matrix lies at row_offset[r] + column_offset[c] of the weight. */
    size_t *row_offset, *column_offset;
} layer;

/* Whether a node is one, by its kind and the place of its constant weight. */
bool layer_of(const graph *graph, const graph_node *node);
pal_status layer_init(const graph *graph, const graph_node *node, layer *layer);
void layer_free(layer *layer);

#endif
