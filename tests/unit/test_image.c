/* Decoding, resizing and cropping images. */
#include "data_files.h"

#include <png.h>

#include "data/image.h"
#include "data/resize.h"

enum { WIDTH = 21, HEIGHT = 13 };

/* ---------------------------------------------------------------- PNG */

/* A channel of `depth` bits at pixel x of a packed row, brought to 8 bits. */
static unsigned sample(const unsigned char *row, size_t i, int depth)
{
    if (depth == 16)
        return row[2 * i];
    if (depth == 8)
        return row[i];
    const unsigned bit = (unsigned)i * (unsigned)depth;
    return row[bit / 8] >> (8 - (unsigned)depth - bit % 8) & ((1u << depth) - 1);
}

static void expect_png(png_form form)
{
    static const size_t channels_of[] = {1, 0, 3, 1, 2, 0, 4};
    const size_t channels = channels_of[form.type];
    const size_t stride = (WIDTH * channels * (size_t)form.depth + 7) / 8;
    const unsigned char *rows = random_pixels(stride * HEIGHT, (uint64_t)form.type);
    const bytes png = make_png(WIDTH, HEIGHT, form, rows);
    image image;
    assert_ok(image_decode(png.data, png.size, &image));
    assert_int_equal(image.width, WIDTH);
    assert_int_equal(image.height, HEIGHT);
    assert_int_equal(image.channels, channels < 3 && form.type != PNG_COLOR_TYPE_PALETTE ? 1 : 3);
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < WIDTH; x++)
            for (size_t c = 0; c < image.channels; c++) {
                unsigned value = sample(rows + y * stride, x * channels + c % channels, form.depth);
                if (form.type == PNG_COLOR_TYPE_PALETTE) {
                    value = sample(rows + y * stride, x, form.depth);
                    value = (c == 0 ? value : c == 1 ? 255 - value : 7 * value) & 255;
                } else if (form.depth < 8) {
                    value = value * 255 / ((1u << form.depth) - 1);
                }
                assert_int_equal(image.pixels[(y * WIDTH + x) * image.channels + c], value);
            }
    image_free(&image);
}

static void all_kinds_of_png(void **state)
{
    (void)state;
    static const png_form forms[] = {
        {PNG_COLOR_TYPE_GRAY, 1, false, false},        {PNG_COLOR_TYPE_GRAY, 2, false, false},
        {PNG_COLOR_TYPE_GRAY, 4, false, false},        {PNG_COLOR_TYPE_GRAY, 8, false, false},
        {PNG_COLOR_TYPE_GRAY, 16, false, false},       {PNG_COLOR_TYPE_RGB, 8, false, false},
        {PNG_COLOR_TYPE_RGB, 16, false, false},        {PNG_COLOR_TYPE_PALETTE, 1, false, false},
        {PNG_COLOR_TYPE_PALETTE, 4, false, true},      {PNG_COLOR_TYPE_PALETTE, 8, false, false},
        {PNG_COLOR_TYPE_PALETTE, 8, false, true},      {PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, false},
        {PNG_COLOR_TYPE_GRAY_ALPHA, 16, false, false}, {PNG_COLOR_TYPE_RGB_ALPHA, 8, false, false},
        {PNG_COLOR_TYPE_RGB_ALPHA, 16, false, false},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        png_form form = forms[i];
        expect_png(form);
        form.interlaced = true;
        expect_png(form);
    }
}

static void damaged_png(void **state)
{
    (void)state;
    const bytes png = make_png(WIDTH, HEIGHT, (png_form){PNG_COLOR_TYPE_RGB, 8, false, false},
                               random_pixels(WIDTH * HEIGHT * 3, 1));
    image image;
    for (size_t size = 0; size < png.size; size++)
        assert_int_equal(image_decode(png.data, size, &image), PAL_ERROR_FORMAT);
    png.data[png.size / 2] ^= 1; /* a checksum tells */
    assert_fails(image_decode(png.data, png.size, &image), PAL_ERROR_FORMAT, "PNG: ");
}

/* ---------------------------------------------------------------- JPEG */

/* Slow waves, which compression hardly changes. */
static unsigned char *waves(size_t width, size_t height, size_t channels)
{
    unsigned char *pixels = keep_memory(width * height * channels);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < channels; c++)
                pixels[(y * width + x) * channels + c] =
                    (unsigned char)(128 +
                                    90 * sin(0.03 * (double)x + (double)c) * cos(0.04 * (double)y));
    return pixels;
}

static void expect_near(const image *image, const unsigned char *pixels, int tolerance)
{
    for (size_t i = 0; i < image->width * image->height * image->channels; i++)
        assert_in_range(image->pixels[i] + 100, pixels[i] + 100 - tolerance,
                        pixels[i] + 100 + tolerance);
}

static void all_kinds_of_jpeg(void **state)
{
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2)
        for (int progressive = 0; progressive < 2; progressive++) {
            const unsigned char *pixels = waves(61, 47, (size_t)channels);
            const bytes jpeg = make_jpeg(61, 47, channels, 97, progressive, pixels);
            image image;
            assert_ok(image_decode(jpeg.data, jpeg.size, &image));
            assert_int_equal(image.width, 61);
            assert_int_equal(image.height, 47);
            assert_int_equal(image.channels, channels);
            expect_near(&image, pixels, 6);
            image_free(&image);
        }
}

/* Stored inverted: 255 is no ink. */
static void cmyk(void **state)
{
    (void)state;
    unsigned char *pixels = waves(40, 33, 4), *rgb = keep_memory(40 * 33 * 3);
    for (size_t i = 0; i < 40 * 33; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = (unsigned char)(pixels[4 * i + c] * pixels[4 * i + 3] / 255);
    const bytes jpeg = make_jpeg(40, 33, 4, 98, false, pixels);
    image image;
    assert_ok(image_decode(jpeg.data, jpeg.size, &image));
    assert_int_equal(image.channels, 3);
    assert_int_equal(image.height, 33);
    expect_near(&image, rgb, 5);
    image_free(&image);
}

static void damaged_jpeg(void **state)
{
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        const bytes jpeg =
            make_jpeg(WIDTH, HEIGHT, 3, 90, progressive, random_pixels(WIDTH * HEIGHT * 3, 1));
        image image;
        for (size_t size = 0; size + 2 < jpeg.size; size++)
            assert_int_equal(image_decode(jpeg.data, size, &image), PAL_ERROR_FORMAT);
        assert_fails(image_decode(jpeg.data, jpeg.size / 2, &image), PAL_ERROR_FORMAT, "JPEG: ");
    }
    image image;
    assert_fails(image_decode("GIF89a", 6, &image), PAL_ERROR_FORMAT, "neither");
    assert_fails(image_decode("", 0, &image), PAL_ERROR_FORMAT, "empty");
}

/* A few bytes that claim to hold billions of pixels. */
static void incredible_sizes(void **state)
{
    (void)state;
    bytes jpeg = make_gray_jpeg(8, 8, 7);
    for (size_t i = 0; i + 9 < jpeg.size; i++)
        if (jpeg.data[i] == 0xff && jpeg.data[i + 1] == 0xc0)
            memcpy(jpeg.data + i + 5, "\x70\x00\x70\x00", 4);
    image image;
    assert_int_equal(image_decode(jpeg.data, jpeg.size, &image), PAL_ERROR_UNSUPPORTED);
    assert_int_equal(image_check_size(10000, 10000, 5000), PAL_ERROR_FORMAT);
    assert_int_equal(image_check_size(UINT64_MAX, 3, SIZE_MAX), PAL_ERROR_UNSUPPORTED);
    assert_int_equal(image_check_size(0, 3, 100), PAL_ERROR_FORMAT);
    assert_ok(image_check_size(10000, 10000, 50000));
}

/* ---------------------------------------------------------------- sizes */

/* A second form of the filter: for each output pixel the triangle's weight of every input pixel,
 * both dimensions at once, without rounding between. */
static double filtered(const unsigned char *pixels, size_t width, size_t height, size_t channels,
                       size_t to_width, size_t to_height, size_t x, size_t y, size_t c)
{
    const double sx = (double)width / (double)to_width, sy = (double)height / (double)to_height;
    double sum = 0, total = 0;
    for (size_t j = 0; j < height; j++) {
        const double dy = fabs((double)j + 0.5 - ((double)y + 0.5) * sy) / (sy > 1 ? sy : 1);
        for (size_t i = 0; dy < 1 && i < width; i++) {
            const double dx = fabs((double)i + 0.5 - ((double)x + 0.5) * sx) / (sx > 1 ? sx : 1);
            if (dx < 1) {
                sum += (1 - dx) * (1 - dy) * pixels[(j * width + i) * channels + c];
                total += (1 - dx) * (1 - dy);
            }
        }
    }
    return sum / total;
}

static void resized(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {{7, 5}, {40, 13}, {21, 30}, {63, 2}, {1, 1}, {21, 13}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t n = 1; n <= 3; n += 2) {
            const unsigned char *pixels = random_pixels(WIDTH * HEIGHT * n, s);
            const size_t width = sizes[s][0], height = sizes[s][1];
            image image;
            assert_ok(image_allocate(&image, WIDTH, HEIGHT, n));
            memcpy(image.pixels, pixels, WIDTH * HEIGHT * n);
            assert_ok(image_resize(&image, width, height));
            assert_int_equal(image.width, width);
            assert_int_equal(image.height, height);
            for (size_t i = 0; i < width * height * n; i++) {
                const double exact = filtered(pixels, WIDTH, HEIGHT, n, width, height,
                                              i / n % width, i / n / width, i % n);
                assert_true(fabs(image.pixels[i] - exact) <= 1.001);
            }
            image_free(&image);
        }
}

static void shorter_sides(void **state)
{
    (void)state;
    static const size_t cases[][5] = {
        /* length, size, resized */
        {256, 500, 375, 341, 256}, {256, 375, 500, 256, 341}, {256, 256, 256, 256, 256},
        {10, 3, 7, 10, 23},        {224, 640, 480, 298, 224},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t width = cases[i][1], height = cases[i][2];
        resize_shorter(cases[i][0], &width, &height);
        assert_int_equal(width, cases[i][3]);
        assert_int_equal(height, cases[i][4]);
    }
}

/* Margins of 1/2, 3/2, 5/2 and 7/2 become 0, 2, 2 and 4, as Python's round() does. */
static void cropped(void **state)
{
    (void)state;
    static const size_t cases[][2] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 2}, {6, 3}, {7, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        image image;
        assert_ok(image_allocate(&image, 10, 9, 3));
        for (size_t p = 0; p < 90; p++)
            memset(image.pixels + 3 * p, (int)p, 3);
        const size_t width = 10 - cases[i][0];
        image_crop(&image, width, 7);
        assert_int_equal(image.width, width);
        assert_int_equal(image.height, 7);
        for (size_t p = 0; p < width * 7; p++)
            for (size_t c = 0; c < 3; c++)
                assert_int_equal(image.pixels[3 * p + c],
                                 (p / width + 1) * 10 + p % width + cases[i][1]);
        image_free(&image);
    }
}

static void gray(void **state)
{
    (void)state;
    static const unsigned char rgb[][4] = {
        {0, 0, 0, 0}, {255, 255, 255, 255}, {255, 0, 0, 76}, {0, 255, 0, 150}, {0, 0, 255, 29}};
    image image;
    assert_ok(image_allocate(&image, 5, 1, 3));
    for (size_t i = 0; i < 5; i++)
        memcpy(image.pixels + 3 * i, rgb[i], 3);
    image_to_gray(&image);
    assert_int_equal(image.channels, 1);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(image.pixels[i], rgb[i][3]);
    image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_of_png),  cmocka_unit_test(damaged_png),
        cmocka_unit_test(all_kinds_of_jpeg), cmocka_unit_test(cmyk),
        cmocka_unit_test(damaged_jpeg),      cmocka_unit_test(incredible_sizes),
        cmocka_unit_test(resized),           cmocka_unit_test(shorter_sides),
        cmocka_unit_test(cropped),           cmocka_unit_test(gray),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
