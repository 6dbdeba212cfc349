/* Files of every kind that datasets are read from, made by the libraries that others make them
 * with, in a scratch folder. All memory lives until the folder is removed. */
#ifndef PAL_TESTS_DATA_FILES_H
#define PAL_TESTS_DATA_FILES_H

#include "testing.h"

#include "data/dataset.h"

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

void write_bytes(const char *path, bytes content);

/* Random pixels, the same for the same seed. */
unsigned char *random_pixels(size_t count, uint64_t seed);

typedef struct png_form {
    int type, depth; /* PNG_COLOR_TYPE_..., bits of a channel */
    bool interlaced, transparent /* a palette's colours */;
} png_form;

/* Rows as the file holds them, 16 bits big-endian. The palette's colour i is (i, 255 - i, 7 i). */
bytes make_png(size_t width, size_t height, png_form form, const unsigned char *rows);
/* 1, 3 or 4 (CMYK as it is stored) interleaved channels. */
bytes make_jpeg(size_t width, size_t height, int channels, int quality, bool progressive,
                const unsigned char *pixels);
/* A small JPEG, all of one gray. */
bytes make_gray_jpeg(size_t width, size_t height, unsigned char gray);

typedef struct member {
    const char *name; /* a folder where it ends in "/" */
    bytes content;
} member;

typedef enum packing {
    TAR,
    TAR_GZ,
    ZIP_STORED,
    ZIP_DEFLATED,
} packing;

void make_archive(const char *path, packing packing, const member *members, size_t count);

/* header: "'descr': '<f4', 'shape': (2, 3)" */
bytes make_npy(const char *header, const void *values, size_t size);
/* An IDX file of bytes with these extents. */
bytes make_idx(size_t rank, const unsigned *shape, const unsigned char *values);
bytes gzip(bytes content);

static inline data_options default_options(void)
{
    data_options options;
    data_options_default(&options);
    return options;
}

/* An input for images, of any extents where they are 0. */
static inline data_input image_input(uint64_t a, uint64_t b, uint64_t c)
{
    return (data_input){"image", PAL_FLOAT32, 3, {a, b, c}};
}

#endif
