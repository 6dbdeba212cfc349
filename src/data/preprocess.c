#include "data/preprocess.h"

#include "data/resize.h"

void preprocessing_make(const data_options *options, size_t channels, preprocessing *out)
{
    out->options = *options;
    out->channels = channels;
    for (size_t c = 0; c < DATA_CHANNELS; c++) {
        const double mean = options->mean_count ? options->mean[c % options->mean_count] : 0;
        const double std = options->std_count ? options->std[c % options->std_count] : 1;
        for (int v = 0; v < 256; v++)
            out->table[c][v] = (float)((v * options->scale - mean) / std);
    }
}

/* ---------------------------------------------------------------- shapes */

/* How an input takes an image. */
typedef struct frame {
    size_t channels;
    uint64_t height, width; /* 0: any */
    bool flat;              /* one dimension holds all; height and width are 0 */
} frame;

/* Where the input leaves the number of channels open. */
static size_t usual_channels(const preprocessing *preprocessing)
{
    switch (preprocessing->options.colour) {
    case COLOUR_RGB:
    case COLOUR_BGR: return DATA_CHANNELS;
    case COLOUR_GRAY: return 1;
    default: return preprocessing->channels;
    }
}

static pal_status frame_of(const preprocessing *preprocessing, const data_input *input, frame *out)
{
    const data_options *options = &preprocessing->options;
    const bool nhwc = options->layout == LAYOUT_NHWC;
    const uint64_t *shape = input->shape;
    if (input->dtype != PAL_FLOAT32)
        return fail(PAL_ERROR_ARGUMENT, "input %s takes integers, not images", input->name);
    uint64_t channels = 0;
    *out = (frame){.flat = input->rank == 1};
    if (input->rank == 2) {
        *out = (frame){0, shape[0], shape[1], false};
        channels = 1;
    } else if (input->rank == 3) {
        *out = (frame){0, shape[nhwc ? 0 : 1], shape[nhwc ? 1 : 2], false};
        channels = shape[nhwc ? 2 : 0];
    } else if (input->rank != 1) {
        return fail(PAL_ERROR_ARGUMENT, "input %s has %zu dimensions for a sample; an image has 3",
                    input->name, input->rank);
    }
    out->channels = channels ? (size_t)channels : usual_channels(preprocessing);
    if (out->channels != 1 && out->channels != DATA_CHANNELS)
        return fail(PAL_ERROR_ARGUMENT,
                    "input %s takes %llu channels in layout %s; an image has 1 or %d", input->name,
                    (unsigned long long)channels, nhwc ? "nhwc" : "nchw", DATA_CHANNELS);
    const size_t lists =
        options->mean_count > options->std_count ? options->mean_count : options->std_count;
    if (lists > 1 && lists != out->channels)
        return fail(PAL_ERROR_ARGUMENT, "mean and std are for %zu channels; input %s takes %zu",
                    lists, input->name, out->channels);
    if (out->channels == 1 && (options->colour == COLOUR_RGB || options->colour == COLOUR_BGR))
        return fail(PAL_ERROR_ARGUMENT, "colour: input %s takes one channel, which is gray",
                    input->name);
    return PAL_OK;
}

/* The size that an image has after resizing and before cropping. */
static void resized_size(const data_options *options, const image *image, size_t *width,
                         size_t *height)
{
    *width = image->width;
    *height = image->height;
    if (options->resize_short) {
        resize_shorter(options->resize_short, width, height);
    } else if (options->resize_width) {
        *width = options->resize_width;
        *height = options->resize_height;
    }
}

/* The size that an image has when it meets the model. */
static void final_size(const data_options *options, const image *image, size_t *width,
                       size_t *height)
{
    resized_size(options, image, width, height);
    if (options->crop_width) {
        *width = options->crop_width;
        *height = options->crop_height;
    }
}

pal_status preprocess_shape(const preprocessing *preprocessing, const image *image,
                            data_input *input)
{
    frame frame = {0};
    pal_status status = frame_of(preprocessing, input, &frame);
    if (status)
        return status;
    size_t width, height;
    final_size(&preprocessing->options, image, &width, &height);
    const uint64_t nchw[] = {frame.channels, height, width};
    const uint64_t nhwc[] = {height, width, frame.channels};
    const uint64_t all = (uint64_t)width * height * frame.channels;
    const uint64_t *actual = preprocessing->options.layout == LAYOUT_NHWC ? nhwc : nchw;
    if (input->rank == 2)
        actual = nhwc;
    if (frame.flat)
        actual = &all;
    for (size_t i = 0; i < input->rank; i++)
        if (!input->shape[i])
            input->shape[i] = actual[i];
    return PAL_OK;
}

/* ---------------------------------------------------------------- values */

static pal_status resize_and_crop(const data_options *options, image *image)
{
    size_t width, height;
    resized_size(options, image, &width, &height);
    pal_status status = image_check_size(width, height, SIZE_MAX);
    if (!status)
        status = image_resize(image, width, height);
    if (status || !options->crop_width)
        return status;
    if (options->crop_width > width || options->crop_height > height)
        return fail(PAL_ERROR_ARGUMENT, "crop: %zux%zu is larger than the image, %zux%zu",
                    options->crop_width, options->crop_height, width, height);
    image_crop(image, options->crop_width, options->crop_height);
    return PAL_OK;
}

static pal_status bring_to_size(const data_options *options, const augmentation *how, uint64_t key,
                                image *image)
{
    bool done = false;
    pal_status status = PAL_OK;
    if (how) {
        size_t width, height;
        final_size(options, image, &width, &height);
        status = image_check_size(width, height, SIZE_MAX);
        if (!status)
            status = augment_cut(how, key, width, height, image, &done);
    }
    if (!status && !done)
        status = resize_and_crop(options, image);
    return !status && how ? augment(how, key, image) : status;
}

static pal_status check_fit(const frame *frame, const image *image, const data_input *input)
{
    if (frame->flat && input->shape[0] != image->width * image->height * frame->channels)
        return fail(PAL_ERROR_ARGUMENT,
                    "%zux%zu pixels of %zu channels do not make the %llu values of input %s",
                    image->width, image->height, frame->channels,
                    (unsigned long long)input->shape[0], input->name);
    if (!frame->flat && (frame->width != image->width || frame->height != image->height))
        return fail(PAL_ERROR_ARGUMENT,
                    "%zux%zu pixels, where input %s takes %llux%llu: set resize or crop",
                    image->width, image->height, input->name, (unsigned long long)frame->width,
                    (unsigned long long)frame->height);
    return PAL_OK;
}

pal_status preprocess(const preprocessing *preprocessing, const augmentation *how, uint64_t key,
                      image *image, const data_input *input, float *out)
{
    const data_options *options = &preprocessing->options;
    frame frame = {0};
    pal_status status = frame_of(preprocessing, input, &frame);
    if (status)
        return status;
    if (options->colour == COLOUR_GRAY || frame.channels == 1)
        image_to_gray(image);
    status = bring_to_size(options, how, key, image);
    if (!status)
        status = check_fit(&frame, image, input);
    if (status)
        return status;

    const bool planes = options->layout == LAYOUT_NCHW;
    const size_t pixels = image->width * image->height, step = image->channels;
    for (size_t c = 0; c < frame.channels; c++) {
        /* A gray image gives its only channel to all of the model's. */
        size_t channel = options->colour == COLOUR_BGR ? DATA_CHANNELS - 1 - c : c;
        const unsigned char *from = image->pixels + (step == 1 ? 0 : channel);
        const float *table = preprocessing->table[c];
        float *to = planes ? out + c * pixels : out + c;
        const size_t stride = planes ? 1 : frame.channels;
        for (size_t i = 0; i < pixels; i++)
            to[i * stride] = table[from[i * step]];
    }
    return PAL_OK;
}
