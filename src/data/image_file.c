/* A single image: one sample without a label. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/source.h"

typedef struct image_file {
    source base;
    char *path;
} image_file;

static pal_status read_image(const source *source, uint64_t i, image *out)
{
    file_map map;
    pal_status status = file_map_open(((const image_file *)source)->path, &map);
    if (status)
        return status;
    status = image_decode(map.data, map.size, out);
    file_map_close(&map);
    return status ? source_fail(source, i, status) : PAL_OK;
}

static void name(const source *source, uint64_t i, char *out, size_t size)
{
    (void)i;
    snprintf(out, size, "%s", ((const image_file *)source)->path);
}

static void close_file(source *source)
{
    free(((image_file *)source)->path);
}

static const source_kind file_kind = {.image = read_image, .name = name, .close = close_file};

pal_status image_file_open(const char *path, const char *split, source **out)
{
    if (*split)
        return fail(PAL_ERROR_ARGUMENT, "%s: a single image has no split '%s'", path, split);
    image_file *file = mem_zeroed(1, sizeof *file);
    if (!file)
        return fail_memory("opening an image");
    file->base = (source){.kind = &file_kind, .count = 1, .channels = 3};
    file->path = strdup(path);
    if (!file->path) {
        source_free(&file->base);
        return fail_memory("opening an image");
    }
    *out = &file->base;
    return PAL_OK;
}
