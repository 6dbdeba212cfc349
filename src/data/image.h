/* Images as decoded: 8 bits for each channel, gray or RGB, rows from the top.
 *
 * Decoding agrees with Pillow's convert("RGB"), bit for bit: alpha is dropped, CMYK is taken for
 * inverted as Adobe stores it, and the orientation that EXIF may name is ignored, as torchvision's
 * loader does. Of 16-bit PNG the high bytes are taken. */
#ifndef PAL_DATA_IMAGE_H
#define PAL_DATA_IMAGE_H

#include "base/status.h"

typedef struct image {
    size_t width, height;
    size_t channels;       /* 1 or 3, interleaved */
    unsigned char *pixels; /* from malloc */
} image;

/* Decodes a file that is at hand; what it is, its first bytes tell. Messages do not name it: the
 * caller puts its name before them. */
pal_status image_decode(const void *bytes, size_t size, image *out);
/* Accepts one that was zeroed. */
void image_free(image *image);

/* Whether a file of this name is an image that can be decoded. Asks no file: a million images would
 * each cost a call. */
bool is_image_name(const char *path);

/* Gives `out` its size and pixels, uninitialised. */
pal_status image_allocate(image *out, size_t width, size_t height, size_t channels);

/* Luminance, as Pillow's convert("L"); leaves a gray image alone. */
void image_to_gray(image *image);

/* ---------------------------------------------------------------- for the decoders */

/* Refuses sizes that an image file of so many bytes cannot have. */
pal_status image_check_size(uint64_t width, uint64_t height, size_t file_bytes);

pal_status jpeg_decode(const void *bytes, size_t size, image *out);
pal_status png_decode(const void *bytes, size_t size, image *out);

#endif
