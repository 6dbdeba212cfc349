/* Palettizing by any method: which of them does the work. */
#include <stdlib.h>
#include <string.h>

#include "method/feed.h"
#include "method/method_options.h"
#include "method/options.h"
#include "method/sensitive.h"

pal_status pal_method_data_open(const char *path, const pal_data_options *data_options,
                                const pal_method_options *method, pal_data **out)
{
    return data_open_sampled(path, data_options, method->settings.samples, method->settings.seed,
                             out);
}

pal_status pal_compress_method(pal_model *model, const pal_options *options,
                               const pal_method_options *method, const pal_data *data,
                               pal_progress progress, void *user, pal_report **report)
{
    pal_status status = pal_options_check(options);
    if (status)
        return status;
    switch (method ? method->settings.method : METHOD_KMEANS) {
    case METHOD_KMEANS: break;
    case METHOD_SENSITIVE:
        return compress_sensitive(model, options, method, data, progress, user, report);
    }
    return pal_compress(model, options, progress, user, report);
}
