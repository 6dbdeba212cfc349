#include "data/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/draw.h"
#include "data/resize.h"

/* What each number that is drawn is for. A cut-out is tried several times, two numbers each. */
enum { DRAW_FLIP, DRAW_X, DRAW_Y, DRAW_BRIGHTNESS, DRAW_CONTRAST, DRAW_SATURATION, DRAW_CUT };
enum { CUT_TRIES = 10 };

/* ---------------------------------------------------------------- what is asked for */

typedef struct word {
    const char *name;
    double usual, least, most; /* of its number; usual 0: it takes none */
} word;

static const word words[] = {
    {"none", 0, 0, 0},         {"flip", 0, 0, 0},
    {"crop", 4, 1, 4096},      {"resized_crop", 0.35, 0.01, 1},
    {"colour", 0.2, 0.001, 1},
};

enum { WORDS = sizeof words / sizeof *words };

/* One word of `length`, with the number behind "=". */
static pal_status parse_word(const char *text, size_t length, augmentation *out)
{
    const size_t name = strcspn(text, "=,");
    for (size_t i = 0; i < WORDS; i++) {
        if (strlen(words[i].name) != name || strncmp(words[i].name, text, name) != 0)
            continue;
        double number = words[i].usual;
        if (name < length) {
            char *end;
            number = strtod(text + name + 1, &end);
            if (words[i].usual == 0 || end != text + length || end == text + name + 1 ||
                !(number >= words[i].least && number <= words[i].most))
                break;
        }
        out->flip |= i == 1;
        if (i == 2)
            out->pad = (size_t)number;
        else if (i == 3)
            out->least_area = number;
        else if (i == 4)
            out->colour = number;
        return PAL_OK;
    }
    return fail(PAL_ERROR_ARGUMENT,
                "augment: '%.*s' is none of none, flip, crop=PIXELS, resized_crop=PART, "
                "colour=PART",
                (int)length, text);
}

pal_status augmentation_parse(const char *text, augmentation *out)
{
    augmentation parsed = {.seed = out->seed};
    for (const char *at = text; *at;) {
        const size_t length = strcspn(at, ",");
        pal_status status = parse_word(at, length, &parsed);
        if (status)
            return status;
        at += length;
        at += *at == ',';
    }
    *out = parsed;
    return PAL_OK;
}

bool augmentation_is_any(const augmentation *it)
{
    return it->flip || it->pad || it->least_area > 0 || it->colour > 0;
}

uint64_t augmentation_key(const augmentation *it, uint64_t epoch, uint64_t sample)
{
    return draw(draw(draw(it->seed, 1), epoch), sample);
}

/* A whole number in [0, count). */
static size_t draw_below(uint64_t key, uint64_t number, size_t count)
{
    const size_t drawn = (size_t)(draw_unit(key, number) * (double)count);
    return drawn < count ? drawn : count - 1;
}

/* ---------------------------------------------------------------- cut-outs */

static void keep_part(image *image, size_t left, size_t top, size_t width, size_t height)
{
    const size_t n = image->channels;
    for (size_t y = 0; y < height; y++)
        memmove(image->pixels + y * width * n,
                image->pixels + ((top + y) * image->width + left) * n, width * n);
    image->width = width;
    image->height = height;
}

pal_status augment_cut(const augmentation *it, uint64_t key, size_t width, size_t height,
                       image *image, bool *done)
{
    *done = it->least_area > 0;
    if (!*done)
        return PAL_OK;
    const double area = (double)image->width * (double)image->height;
    const double range = log(4.0 / 3);
    size_t w = image->width, h = image->height;
    for (uint64_t t = 0; t < CUT_TRIES; t++) {
        const double part =
            it->least_area + (1 - it->least_area) * draw_unit(key, DRAW_CUT + 2 * t);
        const double ratio = exp(range * (2 * draw_unit(key, DRAW_CUT + 2 * t + 1) - 1));
        const double wide = round(sqrt(area * part * ratio));
        const double high = round(sqrt(area * part / ratio));
        if (wide >= 1 && high >= 1 && wide <= (double)image->width &&
            high <= (double)image->height) {
            w = (size_t)wide;
            h = (size_t)high;
            break;
        }
    }
    keep_part(image, draw_below(key, DRAW_X, image->width - w + 1),
              draw_below(key, DRAW_Y, image->height - h + 1), w, h);
    return image_resize(image, width, height);
}

/* ---------------------------------------------------------------- what keeps the size */

static void flip(image *image)
{
    const size_t n = image->channels;
    for (size_t y = 0; y < image->height; y++) {
        unsigned char *left = image->pixels + y * image->width * n;
        unsigned char *right = left + (image->width - 1) * n;
        for (; left < right; left += n, right -= n)
            for (size_t c = 0; c < n; c++) {
                const unsigned char kept = left[c];
                left[c] = right[c];
                right[c] = kept;
            }
    }
}

/* The image moved by up to `pad` pixels each way, black where it leaves. */
static pal_status shift(image *image, size_t pad, uint64_t key)
{
    const size_t n = image->channels, w = image->width, h = image->height;
    const size_t x = draw_below(key, DRAW_X, 2 * pad + 1);
    const size_t y = draw_below(key, DRAW_Y, 2 * pad + 1);
    struct image moved;
    pal_status status = image_allocate(&moved, w, h, n);
    if (status)
        return status;
    memset(moved.pixels, 0, w * h * n);
    /* Row r of the result is row r + y - pad of the image. */
    const size_t skip_x = x > pad ? x - pad : 0, begin_x = x < pad ? pad - x : 0;
    const size_t taken = w > skip_x + begin_x ? w - skip_x - begin_x : 0;
    for (size_t r = 0; taken && r < h; r++)
        if (r + y >= pad && r + y - pad < h)
            memcpy(moved.pixels + (r * w + begin_x) * n,
                   image->pixels + ((r + y - pad) * w + skip_x) * n, taken * n);
    image_free(image);
    *image = moved;
    return PAL_OK;
}

static unsigned char clipped(double value)
{
    return value <= 0 ? 0 : value >= 255 ? 255 : (unsigned char)(value + 0.5);
}

static double luminance(const unsigned char *pixel, size_t channels)
{
    return channels == 1 ? pixel[0] : 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
}

static double factor(const augmentation *it, uint64_t key, uint64_t number)
{
    return 1 + it->colour * (2 * draw_unit(key, number) - 1);
}

/* Brightness and contrast in one step, about the mean luminance; then saturation, about each
 * pixel's. */
static void change_colour(const augmentation *it, uint64_t key, image *image)
{
    const size_t n = image->channels, pixels = image->width * image->height;
    const double brightness = factor(it, key, DRAW_BRIGHTNESS);
    const double contrast = factor(it, key, DRAW_CONTRAST);
    const double saturation = factor(it, key, DRAW_SATURATION);
    double mean = 0;
    for (size_t i = 0; i < pixels; i++)
        mean += luminance(image->pixels + i * n, n);
    mean *= brightness / (double)pixels;
    for (size_t i = 0; i < pixels; i++) {
        unsigned char *pixel = image->pixels + i * n;
        const double gray = luminance(pixel, n);
        for (size_t c = 0; c < n; c++) {
            const double coloured = gray + saturation * (pixel[c] - gray);
            pixel[c] = clipped(mean + contrast * (brightness * coloured - mean));
        }
    }
}

pal_status augment(const augmentation *it, uint64_t key, image *image)
{
    if (it->flip && draw(key, DRAW_FLIP) >> 63)
        flip(image);
    if (it->colour > 0)
        change_colour(it, key, image);
    return it->pad ? shift(image, it->pad, key) : PAL_OK;
}
