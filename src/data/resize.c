#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Weights are integers with this many bits after the point: with 8 bits of a pixel and the sum of
 * weights at one, 32 bits hold the sum with room for a sign. */
enum { PRECISION = 22 };

/* For each pixel of the output: the pixels of the input that it is made of, and their weights. */
typedef struct filter {
    size_t *first, *count;
    int32_t *weights; /* `taps` for each */
    size_t taps;
} filter;

static void filter_free(filter *filter)
{
    free(filter->first);
    free(filter->count);
    free(filter->weights);
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Output pixel i is centred on (i + 1/2) * scale in the input. */
static pal_status filter_make(size_t from, size_t to, filter *out)
{
    const double scale = (double)from / (double)to;
    const double support = scale < 1 ? 1 : scale;
    const double inverse = 1 / support;
    filter made = {.taps = (size_t)ceil(support) * 2 + 1};
    made.first = mem_array(to, sizeof *made.first);
    made.count = mem_array(to, sizeof *made.count);
    made.weights = to <= SIZE_MAX / made.taps ? mem_array(to * made.taps, sizeof *made.weights) : 0;
    double *exact = mem_array(made.taps, sizeof *exact);
    if (!made.first || !made.count || !made.weights || !exact) {
        filter_free(&made);
        free(exact);
        return fail_memory("resizing an image");
    }
    for (size_t i = 0; i < to; i++) {
        const double centre = ((double)i + 0.5) * scale;
        const double low = centre - support + 0.5, high = centre + support + 0.5;
        const size_t first = low < 0 ? 0 : (size_t)low;
        const size_t end = high > (double)from ? from : (size_t)high;
        const size_t count = end - first;
        double sum = 0;
        for (size_t j = 0; j < count; j++) {
            exact[j] = triangle(((double)(j + first) - centre + 0.5) * inverse);
            sum += exact[j];
        }
        const double unit = sum != 0 ? 1 / sum : 1;
        for (size_t j = 0; j < count; j++)
            made.weights[i * made.taps + j] = (int32_t)(0.5 + exact[j] * unit * (1 << PRECISION));
        made.first[i] = first;
        made.count[i] = count;
    }
    free(exact);
    *out = made;
    return PAL_OK;
}

static inline unsigned char rounded(int32_t sum)
{
    sum >>= PRECISION;
    return (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resize_row(const filter *filter, const unsigned char *from, unsigned char *to,
                       size_t width, size_t channels)
{
    for (size_t x = 0; x < width; x++) {
        const int32_t *weights = filter->weights + x * filter->taps;
        const unsigned char *pixel = from + filter->first[x] * channels;
        const size_t count = filter->count[x];
        if (channels == 3) {
            int32_t r = 1 << (PRECISION - 1), g = r, b = r;
            for (size_t j = 0; j < count; j++, pixel += 3) {
                r += pixel[0] * weights[j];
                g += pixel[1] * weights[j];
                b += pixel[2] * weights[j];
            }
            to[3 * x] = rounded(r);
            to[3 * x + 1] = rounded(g);
            to[3 * x + 2] = rounded(b);
        } else {
            int32_t v = 1 << (PRECISION - 1);
            for (size_t j = 0; j < count; j++)
                v += pixel[j] * weights[j];
            to[x] = rounded(v);
        }
    }
}

static pal_status resize_width(image *image, size_t width)
{
    filter filter;
    struct image wider;
    pal_status status = filter_make(image->width, width, &filter);
    if (status)
        return status;
    status = image_allocate(&wider, width, image->height, image->channels);
    if (!status) {
        for (size_t y = 0; y < image->height; y++)
            resize_row(&filter, image->pixels + y * image->width * image->channels,
                       wider.pixels + y * width * image->channels, width, image->channels);
        image_free(image);
        *image = wider;
    }
    filter_free(&filter);
    return status;
}

/* Adds rows up in a row of sums, so that memory is read in its order. */
static pal_status resize_height(image *image, size_t height)
{
    const size_t stride = image->width * image->channels;
    filter filter;
    struct image higher;
    pal_status status = filter_make(image->height, height, &filter);
    if (status)
        return status;
    int32_t *sums = mem_array(stride, sizeof *sums);
    status = sums ? image_allocate(&higher, image->width, height, image->channels)
                  : fail_memory("resizing an image");
    if (!status) {
        for (size_t y = 0; y < height; y++) {
            for (size_t x = 0; x < stride; x++)
                sums[x] = 1 << (PRECISION - 1);
            for (size_t j = 0; j < filter.count[y]; j++) {
                const int32_t weight = filter.weights[y * filter.taps + j];
                const unsigned char *row = image->pixels + (filter.first[y] + j) * stride;
                for (size_t x = 0; x < stride; x++)
                    sums[x] += row[x] * weight;
            }
            for (size_t x = 0; x < stride; x++)
                higher.pixels[y * stride + x] = rounded(sums[x]);
        }
        image_free(image);
        *image = higher;
    }
    free(sums);
    filter_free(&filter);
    return status;
}

pal_status image_resize(image *image, size_t width, size_t height)
{
    pal_status status = PAL_OK;
    if (width != image->width)
        status = resize_width(image, width);
    if (!status && height != image->height)
        status = resize_height(image, height);
    return status;
}

void resize_shorter(size_t length, size_t *width, size_t *height)
{
    size_t *shorter = *width <= *height ? width : height;
    size_t *longer = shorter == width ? height : width;
    *longer = (size_t)((uint64_t)length * *longer / *shorter);
    *shorter = length;
}

/* (all - kept) / 2, rounded half to even. */
static size_t margin(size_t all, size_t kept)
{
    size_t rest = all - kept, half = rest / 2;
    return half + (rest % 2 && half % 2);
}

void image_crop(image *image, size_t width, size_t height)
{
    const size_t left = margin(image->width, width), top = margin(image->height, height);
    const size_t n = image->channels;
    for (size_t y = 0; y < height; y++)
        memmove(image->pixels + y * width * n,
                image->pixels + ((top + y) * image->width + left) * n, width * n);
    image->width = width;
    image->height = height;
}
