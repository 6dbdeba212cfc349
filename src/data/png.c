/* PNG by libpng, every type of it brought to 8-bit gray or RGB. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "base/memory.h"
#include "data/image.h"

typedef struct reader {
    png_structp png;
    png_infop info;
    jmp_buf escape;
    pal_status status;
    const unsigned char *at;
    size_t left;
    image out;
    unsigned char **rows;
} reader;

/* ---------------------------------------------------------------- what libpng calls */

static void on_error(png_structp png, png_const_charp text)
{
    reader *in = png_get_error_ptr(png);
    if (strstr(text, "emory"))
        in->status = fail_memory("decoding an image");
    else
        in->status = fail(PAL_ERROR_FORMAT, "PNG: %s", text);
    longjmp(in->escape, 1);
}

/* libpng warns of what does not touch the pixels: colour profiles, texts, times. */
static void on_warning(png_structp png, png_const_charp text)
{
    (void)png, (void)text;
}

static void on_read(png_structp png, png_bytep to, size_t size)
{
    reader *in = png_get_io_ptr(png);
    if (size > in->left)
        png_error(png, "the file is cut off");
    memcpy(to, in->at, size);
    in->at += size;
    in->left -= size;
}

/* ---------------------------------------------------------------- reading */

static void choose_transformations(reader *in)
{
    const int type = png_get_color_type(in->png, in->info);
    if (png_get_bit_depth(in->png, in->info) == 16)
        png_set_strip_16(in->png);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(in->png);
    else if (type == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(in->png);
    png_set_strip_alpha(in->png); /* also what the palette's transparency expands to */
    png_set_interlace_handling(in->png);
    png_read_update_info(in->png, in->info);
}

/* All that may jump; what must survive a jump is in *in. */
static pal_status read_image(reader *in)
{
    const size_t size = in->left;
    if (setjmp(in->escape))
        return in->status;
    in->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, in, on_error, on_warning);
    in->info = in->png ? png_create_info_struct(in->png) : NULL;
    if (!in->info)
        return fail_memory("decoding an image");
    png_set_read_fn(in->png, in, on_read);
    png_read_info(in->png, in->info);
    const uint64_t width = png_get_image_width(in->png, in->info);
    const uint64_t height = png_get_image_height(in->png, in->info);
    pal_status status = image_check_size(width, height, size);
    if (status)
        return status;
    choose_transformations(in);
    const size_t channels = png_get_channels(in->png, in->info);
    if ((channels != 1 && channels != 3) || png_get_rowbytes(in->png, in->info) != width * channels)
        return fail(PAL_ERROR_UNSUPPORTED, "PNG: an unknown kind of pixels");
    status = image_allocate(&in->out, (size_t)width, (size_t)height, channels);
    if (status)
        return status;
    in->rows = mem_array((size_t)height, sizeof *in->rows);
    if (!in->rows)
        return fail_memory("decoding an image");
    for (size_t y = 0; y < height; y++)
        in->rows[y] = in->out.pixels + y * (size_t)width * channels;
    png_read_image(in->png, in->rows);
    png_read_end(in->png, NULL);
    return PAL_OK;
}

pal_status png_decode(const void *bytes, size_t size, image *out)
{
    reader in = {.status = PAL_OK, .at = bytes, .left = size};
    pal_status status = read_image(&in);
    if (in.png)
        png_destroy_read_struct(&in.png, &in.info, NULL);
    free(in.rows);
    if (status)
        image_free(&in.out);
    else
        *out = in.out;
    return status;
}
