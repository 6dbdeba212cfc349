/* Compressing along the network: layer-wise reconstruction, and statistics that follow.
 *
 *   layerwise.c   the steps, and what they gave on samples held back
 *   along.c       the walk: what is done at which node
 *   score.c       how near the compressed network's outputs are to the float one's
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

/* How near the compressed network comes, on samples held back (if there are any; else on those that
 * it was calibrated with). */
typedef struct score {
    bool held_back, labelled;
    uint64_t samples;
    double error; /* of the outputs, relative: sqrt(sum of squares / that of the float's) */
    double top1, float_top1; /* percent, where labelled */
    double distance; /* of scores of classes the Kullback-Leibler divergence, in nats; of others the
                        error again */
} score;

typedef struct calibration {
    compression *compression;
    const method_settings *settings;
    const pal_data *data;
    uint64_t samples;   /* to calibrate with */
    uint64_t held_back; /* behind them, only looked at */
    walk walk;
    bool reconstruct, correct;
    size_t *consumer; /* by value: the only node that reads it, GRAPH_NONE if none or several */
    bool *several;    /* by weight of the model: several values or nodes use it, or one palette is
                         for it and others that are used */
    bool *done;       /* by the source of a weight's palette: reconstructed */
    size_t layers;    /* reconstructed */
} calibration;

/* ---------------------------------------------------------------- along.c, score.c */

/* Goes through the network once, with the palettes that there are: reconstructs layers and corrects
 * statistics as c says, and scores the result. */
pal_status calibrate(calibration *c, score *score);
/* At the end of a walk. */
pal_status score_outputs(const calibration *c, score *score);

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
/* The layer's batch norm whose statistics follow, or NULL. */
const graph_node *layer_norm(const calibration *c, const layer *layer);
/* After a layer without such ran: its bias makes the means of what it gives those of the float
 * network, and scales of its output channels (if its palette has them) the variances. */
pal_status layer_correct(calibration *c, const layer *layer);
/* Whether the layer's palette can have scales for its output channels; it has them afterwards. */
pal_status layer_add_scales(calibration *c, const layer *layer, bool *added);

#endif
