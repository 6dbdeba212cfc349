/* Palettizing with what calibration samples show. */
#ifndef PAL_METHOD_LAYERWISE_METHOD_H
#define PAL_METHOD_LAYERWISE_METHOD_H

#include "method/method_options.h"

/* Clusters the weights, with sensitivities if there are any, and goes along the network: with
 * method layerwise every layer is reconstructed; unless `correct` is off statistics and biases
 * follow. */
pal_status layerwise_compress(pal_model *model, const pal_options *options,
                              const method_settings *settings, const pal_sensitivity *sensitivity,
                              const pal_data *data, pal_progress progress, void *user,
                              pal_report **report);

#endif
