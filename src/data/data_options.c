#include "data/data_options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SIDE_MAX = 1 << 16 };

typedef pal_status (*option_parse)(data_options *options, const char *value);

/* ---------------------------------------------------------------- reading values */

static bool parse_unsigned(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno)
        return false;
    *out = number;
    return true;
}

/* A finite number at *text, which moves past it. */
static bool take_number(const char **text, double *out)
{
    char *end;
    *out = strtod(*text, &end);
    if (end == *text || !isfinite(*out))
        return false;
    *text = end;
    return true;
}

static bool is_separator(char c)
{
    return c == ',' || isspace((unsigned char)c);
}

/* Numbers separated by spaces or commas: one, or one for each channel. */
static bool parse_list(const char *text, double out[DATA_CHANNELS], size_t *count)
{
    size_t n = 0;
    for (;;) {
        while (is_separator(*text))
            text++;
        if (!*text)
            break;
        if (n == DATA_CHANNELS || !take_number(&text, &out[n]) || (*text && !is_separator(*text)))
            return false;
        n++;
    }
    *count = n;
    return n == 1 || n == DATA_CHANNELS;
}

/* A length of 1 .. SIDE_MAX pixels at *text, which moves past it. */
static bool take_side(const char **text, size_t *out)
{
    size_t side = 0;
    const char *at = *text;
    for (; isdigit((unsigned char)*at) && side <= SIDE_MAX; at++)
        side = side * 10 + (size_t)(*at - '0');
    if (at == *text || side < 1 || side > SIDE_MAX)
        return false;
    *text = at;
    *out = side;
    return true;
}

/* "224" or "320x240", width first; then *height is 0 or the second number. */
static bool parse_size(const char *text, size_t *width, size_t *height)
{
    *height = 0;
    if (!take_side(&text, width))
        return false;
    if (*text == 'x' || *text == 'X') {
        text++;
        if (!take_side(&text, height))
            return false;
    }
    return !*text;
}

/* ---------------------------------------------------------------- the options */

static pal_status set_split(data_options *options, const char *value)
{
    if (!*value || strchr(value, '/') || strlen(value) >= DATA_SPLIT_SIZE)
        return fail(PAL_ERROR_ARGUMENT, "split: '%s' is not the name of a folder", value);
    snprintf(options->split, sizeof options->split, "%s", value);
    return PAL_OK;
}

static pal_status set_limit(data_options *options, const char *value)
{
    return parse_unsigned(value, &options->limit)
               ? PAL_OK
               : fail(PAL_ERROR_ARGUMENT, "limit: %s is not a number of samples", value);
}

static pal_status set_seed(data_options *options, const char *value)
{
    options->shuffle = parse_unsigned(value, &options->seed);
    return options->shuffle ? PAL_OK
                            : fail(PAL_ERROR_ARGUMENT,
                                   "shuffle_seed: %s is not an integer from 0 to 2^64 - 1", value);
}

static pal_status set_scale(data_options *options, const char *value)
{
    const char *at = value;
    double number = 0, divisor = 1;
    bool sound = take_number(&at, &number);
    if (sound && *at == '/') {
        at++;
        sound = take_number(&at, &divisor);
    }
    if (!sound || *at || divisor == 0)
        return fail(PAL_ERROR_ARGUMENT, "scale: %s is neither a number nor a fraction like 1/255",
                    value);
    options->scale = number / divisor;
    return PAL_OK;
}

static pal_status set_mean(data_options *options, const char *value)
{
    return parse_list(value, options->mean, &options->mean_count)
               ? PAL_OK
               : fail(PAL_ERROR_ARGUMENT, "mean: '%s' is not one number or three", value);
}

static pal_status set_std(data_options *options, const char *value)
{
    return parse_list(value, options->std, &options->std_count)
               ? PAL_OK
               : fail(PAL_ERROR_ARGUMENT, "std: '%s' is not one number or three", value);
}

static pal_status set_resize(data_options *options, const char *value)
{
    size_t width, height;
    if (!parse_size(value, &width, &height))
        return fail(PAL_ERROR_ARGUMENT,
                    "resize: %s is neither a length like 256 nor a size like 320x240, up to %d",
                    value, SIDE_MAX);
    options->resize_short = height ? 0 : width;
    options->resize_width = height ? width : 0;
    options->resize_height = height;
    return PAL_OK;
}

static pal_status set_crop(data_options *options, const char *value)
{
    size_t width, height;
    if (!parse_size(value, &width, &height))
        return fail(PAL_ERROR_ARGUMENT,
                    "crop: %s is neither a length like 224 nor a size like 320x240, up to %d",
                    value, SIDE_MAX);
    options->crop_width = width;
    options->crop_height = height ? height : width;
    return PAL_OK;
}

static pal_status set_layout(data_options *options, const char *value)
{
    if (strcasecmp(value, "nchw") != 0 && strcasecmp(value, "nhwc") != 0)
        return fail(PAL_ERROR_ARGUMENT, "layout: %s is not one of nchw|nhwc", value);
    options->layout = strcasecmp(value, "nhwc") == 0 ? LAYOUT_NHWC : LAYOUT_NCHW;
    return PAL_OK;
}

static pal_status set_colour(data_options *options, const char *value)
{
    static const char *const words[] = {"auto", "rgb", "bgr", "gray"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(value, words[i]) == 0) {
            options->colour = (data_colour)i;
            return PAL_OK;
        }
    return fail(PAL_ERROR_ARGUMENT, "colour: %s is not one of auto|rgb|bgr|gray", value);
}

static const struct {
    data_option shown;
    option_parse parse;
    bool for_images;
} table[] = {
    {{"split", "NAME", NULL,
      "Which part of the data to take: the name of a subfolder that holds the classes (train, "
      "test, val), or of an MNIST pair of files (train, test)."},
     set_split,
     false},
    {{"limit", "N", "0",
      "Take at most N samples; 0 takes all. They are spread evenly over the sorted samples, so "
      "that every class is there; with shuffle_seed they are the first N of the shuffled ones."},
     set_limit,
     false},
    {{"shuffle_seed", "N", NULL,
      "Shuffle the samples, in an order that depends on N alone. By default they come sorted by "
      "class and name."},
     set_seed,
     false},
    {{"scale", "X", "1/255", "What pixel values, 0 to 255, are multiplied by."}, set_scale, true},
    {{"mean", "LIST", NULL,
      "Subtracted from scaled pixels: one number, or three in the order of the model's channels, "
      "as in \"0.485 0.456 0.406\"."},
     set_mean,
     true},
    {{"std", "LIST", NULL, "What scaled pixels are divided by after mean: one number or three."},
     set_std,
     true},
    {{"resize", "SIZE", NULL,
      "Resize images: 256 gives the shorter side that length, 320x240 (width first) the whole that "
      "size. Bilinear with antialiasing, as Pillow and torchvision do it."},
     set_resize,
     true},
    {{"crop", "SIZE", NULL, "Keep the centre after resizing: 224 or 320x240 (width first)."},
     set_crop,
     true},
    {{"layout", "LAYOUT", "nchw", "The order of the model's dimensions: nchw or nhwc."},
     set_layout,
     true},
    {{"colour", "COLOUR", "auto",
      "The model's channels: rgb, bgr or gray. gray makes colour images gray, also for a model "
      "that takes three channels. auto is rgb for three channels and gray for one."},
     set_colour,
     true},
};

enum { OPTIONS = sizeof table / sizeof *table };

const data_option *data_option_get(size_t i)
{
    return i < OPTIONS ? &table[i].shown : NULL;
}

void data_options_default(data_options *options)
{
    *options = (data_options){.scale = 1.0 / 255};
}

static bool is_name(const char *name, const char *given)
{
    while (*name && (*name == *given || (*name == '_' && *given == '-')))
        name++, given++;
    return !*name && !*given;
}

pal_status data_options_set(data_options *options, const char *name, const char *value)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (!is_name(table[i].shown.name, name))
            continue;
        data_options changed = *options; /* an option that is refused leaves no trace */
        pal_status status = table[i].parse(&changed, value);
        if (status)
            return status;
        changed.for_images |= table[i].for_images;
        *options = changed;
        return PAL_OK;
    }
    return fail(PAL_ERROR_ARGUMENT, "there is no option %s for data", name);
}

/* Whether a list has one number, or one for each channel, or was not given. */
static bool is_channel_count(size_t count)
{
    return count == 0 || count == 1 || count == DATA_CHANNELS;
}

pal_status data_options_check(const data_options *options)
{
    if (!isfinite(options->scale))
        return fail(PAL_ERROR_ARGUMENT, "scale: not a finite number");
    if (!is_channel_count(options->mean_count) || !is_channel_count(options->std_count))
        return fail(PAL_ERROR_ARGUMENT, "mean and std: neither one number nor three");
    if (options->mean_count > 1 && options->std_count > 1 &&
        options->mean_count != options->std_count)
        return fail(PAL_ERROR_ARGUMENT, "mean and std: for different numbers of channels");
    for (size_t i = 0; i < options->mean_count; i++)
        if (!isfinite(options->mean[i]))
            return fail(PAL_ERROR_ARGUMENT, "mean: not a finite number");
    for (size_t i = 0; i < options->std_count; i++)
        if (!(isfinite(options->std[i]) && options->std[i] > 0))
            return fail(PAL_ERROR_ARGUMENT, "std: %g is not greater than 0", options->std[i]);
    size_t width = options->resize_width, height = options->resize_height;
    if (options->resize_short)
        width = height = 0;
    else if (!width != !height)
        return fail(PAL_ERROR_ARGUMENT, "resize: a width without a height");
    if (!options->crop_width != !options->crop_height)
        return fail(PAL_ERROR_ARGUMENT, "crop: a width without a height");
    if (width && (options->crop_width > width || options->crop_height > height))
        return fail(PAL_ERROR_ARGUMENT, "crop: %zux%zu is larger than resize, %zux%zu",
                    options->crop_width, options->crop_height, width, height);
    return PAL_OK;
}
