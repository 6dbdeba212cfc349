#include "data_files.h"

#include <archive.h>
#include <archive_entry.h>
#include <jpeglib.h>
#include <png.h>
#include <sys/stat.h>

#include "base/file.h"

static bytes keep_copy(const void *data, size_t size)
{
    bytes copy = {keep_memory(size), size};
    if (size)
        memcpy(copy.data, data, size);
    return copy;
}

void write_bytes(const char *path, bytes content)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content.data, 1, content.size, file), content.size);
    assert_int_equal(fclose(file), 0);
}

unsigned char *random_pixels(size_t count, uint64_t seed)
{
    unsigned char *pixels = keep_memory(count);
    for (size_t i = 0; i < count; i++)
        pixels[i] = (unsigned char)random_bits(&seed);
    return pixels;
}

/* ---------------------------------------------------------------- images */

typedef struct growing {
    unsigned char *data;
    size_t size;
} growing;

static void append(growing *to, const void *data, size_t size)
{
    to->data = realloc(to->data, to->size + size + 1);
    assert_non_null(to->data);
    if (size)
        memcpy(to->data + to->size, data, size);
    to->size += size;
}

static bytes keep_growing(growing *from)
{
    bytes copy = keep_copy(from->data, from->size);
    free(from->data);
    return copy;
}

static void write_png(png_structp png, png_bytep data, size_t size)
{
    append(png_get_io_ptr(png), data, size);
}

static void flush_png(png_structp png)
{
    (void)png;
}

bytes make_png(size_t width, size_t height, png_form form, const unsigned char *rows)
{
    growing out = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(info);
    png_set_write_fn(png, &out, write_png, flush_png);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, form.depth, form.type,
                 form.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    png_color palette[256];
    png_byte alpha[256];
    for (int i = 0; i < 256; i++) {
        palette[i] = (png_color){(png_byte)i, (png_byte)(255 - i), (png_byte)(7 * i)};
        alpha[i] = (png_byte)(3 * i);
    }
    if (form.type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 1 << form.depth);
    if (form.transparent)
        png_set_tRNS(png, info, alpha, 1 << form.depth, NULL);
    png_write_info(png, info);
    const size_t stride = png_get_rowbytes(png, info);
    png_bytep *pointers = malloc(height * sizeof *pointers);
    for (size_t y = 0; y < height; y++)
        pointers[y] = (png_bytep)rows + y * stride;
    png_write_image(png, pointers);
    png_write_end(png, NULL);
    free(pointers);
    png_destroy_write_struct(&png, &info);
    return keep_growing(&out);
}

bytes make_jpeg(size_t width, size_t height, int channels, int quality, bool progressive,
                const unsigned char *pixels)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long size = 0;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &out, &size);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = channels;
    info.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    if (progressive)
        jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < height) {
        JSAMPROW row = (JSAMPROW)pixels + info.next_scanline * width * (size_t)channels;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    bytes made = keep_copy(out, size);
    free(out);
    return made;
}

bytes make_gray_jpeg(size_t width, size_t height, unsigned char gray)
{
    unsigned char *pixels = keep_memory(width * height);
    memset(pixels, gray, width * height);
    return make_jpeg(width, height, 1, 90, false, pixels);
}

/* ---------------------------------------------------------------- archives */

void make_archive(const char *path, packing packing, const member *members, size_t count)
{
    struct archive *out = archive_write_new();
    if (packing == TAR || packing == TAR_GZ) {
        archive_write_set_format_gnutar(out);
        if (packing == TAR_GZ)
            archive_write_add_filter_gzip(out);
    } else {
        archive_write_set_format_zip(out);
        assert_int_equal(archive_write_set_options(out, packing == ZIP_STORED
                                                            ? "compression=store"
                                                            : "compression=deflate"),
                         ARCHIVE_OK);
    }
    assert_int_equal(archive_write_open_filename(out, path), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        const bytes content = members[i].content;
        const size_t length = strlen(members[i].name);
        const bool folder = length && members[i].name[length - 1] == '/';
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, members[i].name);
        archive_entry_set_filetype(entry, folder ? AE_IFDIR : AE_IFREG);
        archive_entry_set_perm(entry, 0755);
        archive_entry_set_size(entry, (la_int64_t)content.size);
        assert_int_equal(archive_write_header(out, entry), ARCHIVE_OK);
        if (content.size)
            assert_int_equal(archive_write_data(out, content.data, content.size), content.size);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(out), ARCHIVE_OK);
    archive_write_free(out);
}

bytes gzip(bytes content)
{
    bytes packed = {keep_memory(content.size + 4096), 0};
    struct archive *out = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_write_set_format_raw(out);
    archive_write_add_filter_gzip(out);
    archive_write_set_bytes_in_last_block(out, 1);
    assert_int_equal(archive_write_open_memory(out, packed.data, content.size + 4096, &packed.size),
                     ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(out, entry), ARCHIVE_OK);
    archive_write_data(out, content.data, content.size);
    archive_entry_free(entry);
    assert_int_equal(archive_write_close(out), ARCHIVE_OK);
    archive_write_free(out);
    return packed;
}

/* ---------------------------------------------------------------- arrays */

bytes make_npy(const char *header, const void *values, size_t size)
{
    char text[512];
    const int n =
        snprintf(text, sizeof text, "{%s, 'fortran_order': False, }%*s\n", header, 16, "");
    bytes made = {keep_memory(10 + (size_t)n + size), 10 + (size_t)n + size};
    memcpy(made.data, "\x93NUMPY\x01\x00", 8);
    made.data[8] = (unsigned char)n;
    made.data[9] = (unsigned char)(n >> 8);
    memcpy(made.data + 10, text, (size_t)n);
    if (size)
        memcpy(made.data + 10 + n, values, size);
    return made;
}

bytes make_idx(size_t rank, const unsigned *shape, const unsigned char *values)
{
    size_t count = 1;
    for (size_t i = 0; i < rank; i++)
        count *= shape[i];
    bytes made = {keep_memory(4 + 4 * rank + count), 4 + 4 * rank + count};
    made.data[2] = 8;
    made.data[3] = (unsigned char)rank;
    for (size_t i = 0; i < rank; i++)
        for (int b = 0; b < 4; b++)
            made.data[4 + 4 * i + (size_t)b] = (unsigned char)(shape[i] >> (24 - 8 * b));
    if (count)
        memcpy(made.data + 4 + 4 * rank, values, count);
    return made;
}
