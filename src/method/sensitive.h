/* Sensitive k-means of a whole model; docs/sensitive.md tells why it goes the way it does. */
#ifndef PAL_METHOD_SENSITIVE_H
#define PAL_METHOD_SENSITIVE_H

#include "method/method_options.h"

/* data may be NULL where sensitivities are loaded. */
pal_status compress_sensitive(pal_model *model, const pal_options *options,
                              const pal_method_options *method, const pal_data *data,
                              pal_progress progress, void *user, pal_report **report);

#endif
