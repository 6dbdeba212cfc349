/* JPEG by libjpeg. Its accurate integer DCT and smooth upsampling of colour, the defaults, are what
 * Pillow uses. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "data/image.h"

enum {
    ROWS = 16,        /* asked for at once */
    SCANS_MAX = 1000, /* a small file can ask for many passes over a large image */
};

typedef struct reader {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    pal_status status;
    image out;
} reader;

/* ---------------------------------------------------------------- what libjpeg calls */

static void on_error(j_common_ptr info)
{
    reader *in = info->client_data;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    if (info->err->msg_code == JERR_OUT_OF_MEMORY)
        in->status = fail_memory("decoding an image");
    else
        in->status = fail(PAL_ERROR_FORMAT, "JPEG: %s", text);
    longjmp(in->escape, 1);
}

/* Warnings after which all pixels are there. After the others libjpeg makes some up. */
static bool is_harmless(int code)
{
    return code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR || code == JWRN_EXTRANEOUS_DATA ||
           code == JWRN_NOT_SEQUENTIAL || code == JWRN_TOO_MUCH_DATA;
}

static void on_message(j_common_ptr info, int level)
{
    if (level < 0 && !is_harmless(info->err->msg_code))
        on_error(info);
}

static void on_progress(j_common_ptr info)
{
    reader *in = info->client_data;
    if (in->info.input_scan_number > SCANS_MAX) {
        in->status = fail(PAL_ERROR_FORMAT, "JPEG: more than %d scans", SCANS_MAX);
        longjmp(in->escape, 1);
    }
}

/* ---------------------------------------------------------------- reading */

/* A row of CMYK, inverted as Adobe writes it, to RGB in its own place. */
static void cmyk_to_rgb(unsigned char *row, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        const unsigned char *from = row + 4 * i;
        const unsigned key = from[3]; /* 255: no black */
        unsigned char rgb[3];
        for (int c = 0; c < 3; c++) {
            /* key - (255 - ink) * key / 255, the division rounded as Pillow does */
            unsigned product = (255u - from[c]) * key + 128;
            rgb[c] = (unsigned char)(key - (((product >> 8) + product) >> 8));
        }
        memcpy(row + 3 * i, rgb, 3);
    }
}

static pal_status choose_colours(struct jpeg_decompress_struct *info)
{
    switch (info->num_components) {
    case 1: info->out_color_space = JCS_GRAYSCALE; return PAL_OK;
    case 3: info->out_color_space = JCS_RGB; return PAL_OK;
    case 4: info->out_color_space = JCS_CMYK; return PAL_OK;
    default:
        return fail(PAL_ERROR_UNSUPPORTED, "JPEG: an image of %d colour channels",
                    info->num_components);
    }
}

static pal_status read_gray_or_rgb(reader *in)
{
    struct jpeg_decompress_struct *info = &in->info;
    pal_status status = image_allocate(&in->out, info->output_width, info->output_height,
                                       (size_t)info->output_components);
    if (status)
        return status;
    const size_t stride = in->out.width * in->out.channels;
    while (info->output_scanline < info->output_height) {
        JSAMPROW rows[ROWS];
        JDIMENSION count = info->output_height - info->output_scanline;
        if (count > ROWS)
            count = ROWS;
        for (JDIMENSION i = 0; i < count; i++)
            rows[i] = in->out.pixels + (info->output_scanline + i) * stride;
        jpeg_read_scanlines(info, rows, count);
    }
    return PAL_OK;
}

static pal_status read_cmyk(reader *in)
{
    struct jpeg_decompress_struct *info = &in->info;
    /* The last row is written with 4 bytes a pixel before it shrinks to 3, hence one row more. */
    pal_status status =
        image_allocate(&in->out, info->output_width, (size_t)info->output_height + 1, 3);
    if (status)
        return status;
    in->out.height = info->output_height;
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = in->out.pixels + (size_t)info->output_scanline * in->out.width * 3;
        jpeg_read_scanlines(info, &row, 1);
        cmyk_to_rgb(row, in->out.width);
    }
    return PAL_OK;
}

/* All that may jump; what must survive a jump is in *in. */
static pal_status read_image(reader *in, const void *bytes, size_t size)
{
    struct jpeg_decompress_struct *info = &in->info;
    if (setjmp(in->escape))
        return in->status;
    jpeg_create_decompress(info);
    info->client_data = in;
    info->progress = &in->progress;
    jpeg_mem_src(info, bytes, size);
    jpeg_read_header(info, TRUE);
    pal_status status = image_check_size(info->image_width, info->image_height, size);
    if (!status)
        status = choose_colours(info);
    if (status)
        return status;
    jpeg_start_decompress(info);
    status = info->out_color_space == JCS_CMYK ? read_cmyk(in) : read_gray_or_rgb(in);
    if (!status)
        jpeg_finish_decompress(info);
    return status;
}

pal_status jpeg_decode(const void *bytes, size_t size, image *out)
{
    reader in = {.status = PAL_OK};
    in.info.err = jpeg_std_error(&in.errors);
    in.info.client_data = &in;
    in.errors.error_exit = on_error;
    in.errors.emit_message = on_message;
    in.progress.progress_monitor = on_progress;
    pal_status status = read_image(&in, bytes, size);
    jpeg_destroy_decompress(&in.info); /* harmless where it was not made */
    if (status)
        image_free(&in.out);
    else
        *out = in.out;
    return status;
}
