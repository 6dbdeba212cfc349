/* Where training begins: palettes that another method finds, and weights that belong to them. */
#ifndef PAL_METHOD_TRAIN_START_H
#define PAL_METHOD_TRAIN_START_H

#include "method/compression.h"
#include "method/method_options.h"
#include "method/train/parameters.h"
#include "method/train/statistics.h"
#include "method/train/trainable.h"

/* Begins the compression, and gives each weight that is to be palettized the palette that the
 * recipe's start finds, on a few samples of the training data where it needs any. Layer-wise
 * reconstruction also leaves other biases and statistics of batch norms with the compression.
 * After success compression_end() or compression_abandon() must follow. */
pal_status start_compression(compression *c, const method_settings *settings,
                             const pal_data *training);

/* Takes the adjustments of constants back that training takes for fixed, so that the network that
 * is trained is the one that is written. */
void start_drop_fixed(compression *c, const weight_role *roles, const statistics *statistics);

/* The layer's centroids, and what its weights begin with: `values` are as the file has them. After
 * layer-wise reconstruction each is moved into the cell of the centroid that it was given, such
 * that a centroid is the mean of its weights; else they stay as they are. */
pal_status start_layer(const target *t, start_kind start, dkm *layer, float *values);

#endif
