#include <string.h>

#include "format/coreml/coreml.h"

/* The file starts with a header, {uint32 count; uint32 version = 2; 56 reserved bytes}. Each blob
 * is 64 bytes of metadata and then its data, both at multiples of 64:
 *     uint32 sentinel; uint32 type; uint64 bytes; uint64 offset of the data; uint64 unused bits at
 *     the end, for types of less than a byte; 32 reserved bytes. */
enum {
    ALIGNMENT = 64,
    VERSION = 2,
};

static const uint32_t SENTINEL = 0xDEADBEEF;

typedef struct metadata {
    uint32_t sentinel, type;
    uint64_t bytes, offset, padding_bits, reserved[4];
} metadata;

typedef struct header {
    uint32_t count, version;
    uint64_t reserved[7];
} header;

_Static_assert(sizeof(metadata) == ALIGNMENT && sizeof(header) == ALIGNMENT, "file layout");

static pal_dtype dtype_of_blob(uint32_t type)
{
    for (int dtype = PAL_FLOAT16; dtype <= PAL_UINT64; dtype++)
        if (type != 0 && (uint32_t)blob_type_from_dtype((pal_dtype)dtype) == type)
            return (pal_dtype)dtype;
    return PAL_DTYPE_OTHER;
}

pal_status blob_read(const char *path, const file_map *map, uint64_t offset, blob *out)
{
    header header;
    metadata entry;
    if (map->size < sizeof header)
        return fail(PAL_ERROR_FORMAT, "%s: too short for a weight file", path);
    memcpy(&header, map->data, sizeof header);
    if (header.version != VERSION)
        return fail(PAL_ERROR_FORMAT, "%s: weight file of version %u; this program reads %d", path,
                    header.version, VERSION);
    if (offset > map->size - sizeof entry || offset % 8)
        return fail(PAL_ERROR_FORMAT, "%s: no blob at offset %llu: the file has %zu bytes", path,
                    (unsigned long long)offset, map->size);
    memcpy(&entry, map->data + offset, sizeof entry);
    if (entry.sentinel != SENTINEL)
        return fail(PAL_ERROR_FORMAT, "%s: no blob at offset %llu: its marker is missing", path,
                    (unsigned long long)offset);
    if (entry.offset > map->size || entry.bytes > map->size - entry.offset || entry.offset % 8)
        return fail(PAL_ERROR_FORMAT,
                    "%s: the blob at offset %llu claims %llu bytes at %llu; the file has %zu", path,
                    (unsigned long long)offset, (unsigned long long)entry.bytes,
                    (unsigned long long)entry.offset, map->size);
    out->dtype = dtype_of_blob(entry.type);
    out->data = map->data + entry.offset;
    out->bytes = entry.bytes;
    return PAL_OK;
}

void blob_file_begin(file_writer *writer)
{
    writer_write(writer, &(header){.version = VERSION}, sizeof(header));
}

uint64_t blob_file_append(file_writer *writer, pal_dtype dtype, const void *data, uint64_t bytes,
                          uint64_t elements)
{
    const unsigned bits = pal_dtype_bits(dtype);
    writer_align(writer, ALIGNMENT);
    uint64_t offset = writer->position;
    metadata entry = {
        .sentinel = SENTINEL,
        .type = (uint32_t)blob_type_from_dtype(dtype),
        .bytes = bytes,
        .offset = offset + sizeof entry,
        .padding_bits = bits < 8 ? (8 - elements % 8 * bits % 8) % 8 : 0,
    };
    writer_write(writer, &entry, sizeof entry);
    writer_write(writer, data, bytes);
    return offset;
}

uint64_t blob_file_copy(file_writer *writer, const file_map *map, uint64_t old, const blob *blob)
{
    metadata entry; /* kept but for the place of the data */
    memcpy(&entry, map->data + old, sizeof entry);
    writer_align(writer, ALIGNMENT);
    uint64_t offset = writer->position;
    entry.offset = offset + sizeof entry;
    writer_write(writer, &entry, sizeof entry);
    for (uint64_t done = 0; done < blob->bytes;) {
        enum { CHUNK = 1 << 22 };
        size_t n = blob->bytes - done < CHUNK ? (size_t)(blob->bytes - done) : CHUNK;
        writer_write(writer, blob->data + done, n);
        file_map_discard(map, blob->data + done, n);
        done += n;
    }
    return offset;
}

void blob_file_end(file_writer *writer, uint32_t count)
{
    writer_patch(writer, 0, &(header){.count = count, .version = VERSION}, sizeof(header));
}
