#include "data/gzip.h"

#include <limits.h>
#include <stdlib.h>

#include <zlib.h>

#include "base/memory.h"

enum {
    DEFLATE_RATIO = 1032, /* what deflate reaches at best */
    GZIP_WRAPPER = 16,    /* zlib: added to the bits of the window for gzip's header and checksum */
};

struct gzip_reader {
    z_stream stream;
    const unsigned char *end; /* of the input */
    bool over;
};

bool is_gzip(const file_map *map)
{
    return map->size >= 2 && map->data[0] == 0x1f && map->data[1] == 0x8b;
}

uint64_t gzip_limit(size_t size)
{
    uint64_t limit;
    return mem_multiply(size, DEFLATE_RATIO, &limit) ? limit : UINT64_MAX;
}

pal_status gzip_open(const file_map *map, gzip_reader **out)
{
    gzip_reader *reader = mem_zeroed(1, sizeof *reader);
    if (!reader || inflateInit2(&reader->stream, MAX_WBITS + GZIP_WRAPPER) != Z_OK) {
        free(reader);
        return fail_memory("opening a gzip file");
    }
    reader->stream.next_in = (unsigned char *)map->data;
    reader->end = map->data + map->size;
    *out = reader;
    return PAL_OK;
}

void gzip_close(gzip_reader *reader)
{
    if (reader)
        inflateEnd(&reader->stream);
    free(reader);
}

static uInt at_most(size_t size)
{
    return size < UINT_MAX ? (uInt)size : UINT_MAX;
}

/* After a member: another one, or padding with zeros, or the end. */
static pal_status next_member(gzip_reader *reader)
{
    z_stream *stream = &reader->stream;
    const unsigned char *at = stream->next_in;
    while (at < reader->end && !*at)
        at++;
    if (at == reader->end) {
        reader->over = true;
        return PAL_OK;
    }
    return inflateReset(stream) == Z_OK ? PAL_OK : fail_memory("opening a gzip file");
}

pal_status gzip_read(gzip_reader *reader, void *out, size_t capacity, size_t *done)
{
    z_stream *stream = &reader->stream;
    *done = 0;
    while (!reader->over && *done < capacity) {
        const uInt room = at_most(capacity - *done);
        stream->avail_in = at_most((size_t)(reader->end - stream->next_in));
        stream->next_out = (unsigned char *)out + *done;
        stream->avail_out = room;
        const int code = inflate(stream, Z_NO_FLUSH);
        *done += room - stream->avail_out;
        pal_status status = PAL_OK;
        if (code == Z_STREAM_END)
            status = next_member(reader);
        else if (code == Z_MEM_ERROR)
            status = fail_memory("unpacking a gzip file");
        else if (code == Z_BUF_ERROR ||
                 (code == Z_OK && stream->next_in == reader->end && stream->avail_out))
            status = fail(PAL_ERROR_FORMAT, "its gzip data is cut off");
        else if (code != Z_OK)
            status = fail(PAL_ERROR_FORMAT, "its gzip data is damaged: %s",
                          stream->msg ? stream->msg : "unknown form");
        if (status)
            return status;
    }
    return PAL_OK;
}
