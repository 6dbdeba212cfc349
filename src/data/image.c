#include "data/image.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum {
    PIXELS_MAX = 1 << 28,
    /* Deflate makes at most 1032 bytes of one, which hold 8 pixels each; JPEG is below that. */
    PIXELS_A_BYTE = 8 * 1032,
};

bool is_image_name(const char *path)
{
    static const char *const ends[] = {".jpg", ".jpeg", ".jpe", ".jfif", ".png"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
        if (strcasecmp(dot, ends[i]) == 0)
            return true;
    return false;
}

pal_status image_check_size(uint64_t width, uint64_t height, size_t file_bytes)
{
    uint64_t pixels;
    if (!width || !height)
        return fail(PAL_ERROR_FORMAT, "an image without pixels");
    if (!mem_multiply(width, height, &pixels) || pixels > PIXELS_MAX)
        return fail(PAL_ERROR_UNSUPPORTED, "an image of %llux%llu pixels, more than %d in all",
                    (unsigned long long)width, (unsigned long long)height, PIXELS_MAX);
    if (pixels / PIXELS_A_BYTE > file_bytes)
        return fail(PAL_ERROR_FORMAT, "%llux%llu pixels cannot be in %zu bytes",
                    (unsigned long long)width, (unsigned long long)height, file_bytes);
    return PAL_OK;
}

pal_status image_allocate(image *out, size_t width, size_t height, size_t channels)
{
    uint64_t pixels;
    unsigned char *memory = NULL;
    if (mem_multiply(width, height, &pixels) && pixels <= SIZE_MAX)
        memory = mem_array((size_t)pixels, channels);
    if (!memory)
        return fail_memory("decoding an image");
    *out = (image){width, height, channels, memory};
    return PAL_OK;
}

void image_free(image *image)
{
    free(image->pixels);
    image->pixels = NULL;
}

pal_status image_decode(const void *bytes, size_t size, image *out)
{
    static const unsigned char jpeg[] = {0xff, 0xd8}, png[] = {0x89, 'P', 'N', 'G'};
    if (size >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        return jpeg_decode(bytes, size, out);
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return png_decode(bytes, size, out);
    if (!size)
        return fail(PAL_ERROR_FORMAT, "the file is empty");
    return fail(PAL_ERROR_FORMAT, "neither a JPEG nor a PNG file");
}

void image_to_gray(image *image)
{
    if (image->channels == 1)
        return;
    const size_t count = image->width * image->height;
    const unsigned char *rgb = image->pixels;
    /* ITU-R 601 weights in 16 bits, rounded: the formula of Pillow. In place: it reads ahead of
     * where it writes. */
    for (size_t i = 0; i < count; i++, rgb += 3)
        image->pixels[i] =
            (unsigned char)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000) >> 16);
    image->channels = 1;
}
