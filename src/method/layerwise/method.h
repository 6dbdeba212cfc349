/* Palettizing with what calibration samples show. */
#ifndef PAL_METHOD_LAYERWISE_METHOD_H
#define PAL_METHOD_LAYERWISE_METHOD_H

#include "method/compression.h"
#include "method/method_options.h"

/* Whether statistics and biases are to follow what the samples show. */
static inline bool method_corrects(const method_settings *settings, const pal_data *data)
{
    return settings->correct == CORRECT_AUTO ? data != NULL : settings->correct != CORRECT_OFF;
}

/* Finds palettes by layer-wise reconstruction, and statistics and biases that follow, for a
 * compression that is clustered; it is as clustered as before where that is better. */
pal_status layerwise_find(compression *all, const method_settings *settings, const pal_data *data);

/* Whether the file can hold what is asked for; for a compression that has begun. */
pal_status layerwise_check(const compression *all, const method_settings *settings);

/* Goes along the network of a compression that is clustered: with method layerwise every layer is
 * reconstructed; unless `correct` is off statistics and biases follow. Then hands it over to the
 * model, as compression_end() does; the report also tells what each step gave. Frees what `all`
 * holds, also on failure. */
pal_status layerwise_finish(compression *all, const method_settings *settings, const pal_data *data,
                            pal_report **report);

/* All of it, from clusters by the weights alone. */
pal_status layerwise_compress(pal_model *model, const pal_options *options,
                              const method_settings *settings, const pal_data *data,
                              pal_progress progress, void *user, pal_report **report);

#endif
