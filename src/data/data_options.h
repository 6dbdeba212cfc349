/* How samples become the values that a model takes. The table in data_options.c declares each
 * option once, for the command line and its help. */
#ifndef PAL_DATA_DATA_OPTIONS_H
#define PAL_DATA_DATA_OPTIONS_H

#include "base/status.h"

enum {
    DATA_CHANNELS = 3,
    DATA_SPLIT_SIZE = 256,
};

typedef enum data_layout {
    LAYOUT_NCHW,
    LAYOUT_NHWC,
} data_layout;

/* The channels that the model takes. */
typedef enum data_colour {
    COLOUR_AUTO, /* RGB where the model takes three channels, luminance where it takes one */
    COLOUR_RGB,
    COLOUR_BGR,
    COLOUR_GRAY,
} data_colour;

/* The first line is of use for all kinds of data, the rest is for images: a pixel p of channel c
 * becomes (p * scale - mean[c]) / std[c]. */
typedef struct data_options {
    char split[DATA_SPLIT_SIZE]; /* "": none was asked for */
    uint64_t limit;              /* 0: all samples */
    bool shuffle;
    uint64_t seed;

    double scale;
    size_t mean_count, std_count; /* 0, 1 (for all channels) or the model's number of channels */
    double mean[DATA_CHANNELS], std[DATA_CHANNELS];
    size_t resize_short;                /* the length that the shorter side gets, or 0 */
    size_t resize_width, resize_height; /* else the size of the whole, or 0 */
    size_t crop_width, crop_height;     /* 0: no crop */
    data_layout layout;
    data_colour colour;
    bool for_images; /* an option was set that has a meaning for images only */
} data_options;

/* What a user sees of an option. */
typedef struct data_option {
    const char *name;          /* "shuffle_seed"; on the command line --shuffle-seed */
    const char *argument;      /* placeholder in usage lines: "N" */
    const char *default_value; /* NULL: unset by default */
    const char *help;
} data_option;

/* The i-th option, or NULL past the last. */
const data_option *data_option_get(size_t i);

void data_options_default(data_options *options);
/* Sets an option from text, as a user would write it. A dash in `name` counts as an underscore.
 * PAL_ERROR_ARGUMENT names the option and what it takes. */
pal_status data_options_set(data_options *options, const char *name, const char *value);
/* Whether the options agree with each other; for those that were filled in by a program, too. */
pal_status data_options_check(const data_options *options);

#endif
