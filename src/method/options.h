/* Options, declared once: the table in options.c serves the library, the command line and the
 * manual. */
#ifndef PAL_METHOD_OPTIONS_H
#define PAL_METHOD_OPTIONS_H

#include "base/status.h"

typedef enum mode {
    MODE_KMEANS,
    MODE_UNIFORM,
    MODE_UNIQUE,
} mode;

typedef enum granularity {
    GRANULARITY_PER_TENSOR,
    GRANULARITY_PER_GROUPED_CHANNEL,
} granularity;

/* The options as numbers, after pal_options_check(). */
typedef struct settings {
    unsigned nbits; /* 0: unset */
    mode mode;
    granularity granularity;
    uint64_t group_size;
    bool has_channel_axis;
    int channel_axis;
    size_t cluster_dim;
    uint64_t weight_threshold;
    bool palettize_embeddings;
    int threads; /* 0: as many as there are processors */
} settings;

/* NULL gives the defaults. */
pal_status options_read(const pal_options *options, settings *out);

#endif
