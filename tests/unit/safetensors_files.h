/* A scratch folder, and safetensors files in it made from a header and data. */
#ifndef PAL_TESTS_SAFETENSORS_FILES_H
#define PAL_TESTS_SAFETENSORS_FILES_H

#include "testing.h"

#include "base/file.h"

static char directory[] = "/tmp/palettize-test-XXXXXX";

static inline int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static inline int remove_directory(void **state)
{
    (void)state;
    path_remove(directory);
    return 0;
}

/* "directory/name"; the text lives until four more calls. */
static inline const char *in(const char *name)
{
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof *paths, "%s/%s", directory, name);
    return path;
}

static inline void write_bytes(const char *path, const void *data, size_t size)
{
    file_writer writer;
    assert_ok(writer_open(&writer, path));
    writer_write(&writer, data, size);
    assert_ok(writer_close(&writer));
}

/* A safetensors file of this header, its length padded to a multiple of `pad`, and this data. */
static inline void write_file(const char *path, const char *header, size_t pad, const void *data,
                              size_t size)
{
    const size_t length = strlen(header), padded = (length + pad - 1) / pad * pad;
    unsigned char *all = malloc(8 + padded + size);
    for (int i = 0; i < 8; i++)
        all[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    memset(all + 8, ' ', padded);
    memcpy(all + 8, header, length);
    if (size)
        memcpy(all + 8 + padded, data, size);
    write_bytes(path, all, 8 + padded + size);
    free(all);
}

#endif
