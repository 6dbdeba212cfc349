/* Palettizing with what calibration samples show. */
#ifndef PAL_METHOD_LAYERWISE_METHOD_H
#define PAL_METHOD_LAYERWISE_METHOD_H

#include "method/method_options.h"

#include "method/compression.h"

/* Whether statistics and biases are to follow what the samples show. */
static inline bool method_corrects(const method_settings *settings, const pal_data *data)
{
    return settings->correct == CORRECT_ON || (settings->correct == CORRECT_AUTO && data);
}

/* Goes along the network of a compression that is clustered: with method layerwise every layer is
 * reconstructed; unless `correct` is off statistics and biases follow. */
pal_status layerwise_calibrate(compression *all, const method_settings *settings,
                               const pal_data *data);

/* All of it, from clusters by the weights alone. */
pal_status layerwise_compress(pal_model *model, const pal_options *options,
                              const method_settings *settings, const pal_data *data,
                              pal_progress progress, void *user, pal_report **report);

#endif
