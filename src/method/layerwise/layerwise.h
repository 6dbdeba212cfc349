/* Compressing along the network: layer-wise reconstruction, and statistics that follow.
 *
 *   layerwise.c   the walk: what is done at which node
 *   solve.c       one layer: from moments to a palette
 *   statistics.c  batch norms and biases that make up for what compression shifts and scales
 *   walk.c        activations of both networks
 *   moments.c     second moments of what a layer reads and gives
 *   layer.c       nodes as matrices */
#ifndef PAL_METHOD_LAYERWISE_LAYERWISE_H
#define PAL_METHOD_LAYERWISE_LAYERWISE_H

#include "method/compression.h"
#include "method/layerwise/moments.h"
#include "method/method_options.h"

typedef struct calibration {
    compression *compression;
    const method_settings *settings;
    walk walk;
    bool reconstruct, correct;
    size_t *consumer; /* by value: the only node that reads it, GRAPH_NONE if none or several */
    bool *several;    /* by weight of the model: several values or nodes use it */
    bool *done;       /* by weight: reconstructed */
    size_t layers;    /* reconstructed */
} calibration;

/* ---------------------------------------------------------------- solve.c */

/* Finds the layer's palette; *solved tells whether it could (the weight's remark says why not). */
pal_status layer_solve(calibration *c, const layer *layer, bool *solved);

/* ---------------------------------------------------------------- statistics.c */

/* Whether a batch norm's running mean and variance can be replaced. */
bool statistics_adjustable(const calibration *c, const graph_node *node);
/* Whether a value is a constant of the model that can be replaced, used here alone. */
bool constant_adjustable(const calibration *c, size_t value);
/* Before a batch norm runs: its statistics follow what the compressed network shows. */
pal_status statistics_correct(calibration *c, const graph_node *node);
/* After a layer ran: its bias makes the means of what it gives those of the float network. */
pal_status bias_correct(calibration *c, size_t bias, size_t value, size_t axis);

#endif
