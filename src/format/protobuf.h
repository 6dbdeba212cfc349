/* Parsing protobuf from untrusted files with protobuf-c.
 *
 * protobuf-c recurses once for each level of nesting and allocates a structure for each submessage,
 * however empty; so a message is first walked for its depth, and parsed into an arena that is
 * limited in proportion to its size. */
#ifndef PAL_FORMAT_PROTOBUF_H
#define PAL_FORMAT_PROTOBUF_H

#include <protobuf-c/protobuf-c.h>

#include "base/memory.h"
#include "base/status.h"

/* Parses `size` bytes. The message lives in the arena and is never freed by itself. The arena must
 * be fresh: its limit is set here. `path` is for messages. */
pal_status protobuf_parse(const char *path, const ProtobufCMessageDescriptor *descriptor,
                          const uint8_t *data, size_t size, mem_arena *arena,
                          ProtobufCMessage **out);

/* A new message of the given type in the arena, with nothing set; NULL when out of memory. */
void *protobuf_new(mem_arena *arena, const ProtobufCMessageDescriptor *descriptor);

/* Bytes that are still to be read. */
typedef struct protobuf_reader {
    const uint8_t *at, *end;
} protobuf_reader;

/* False if there is none, or it does not end. */
static inline bool protobuf_read_varint(protobuf_reader *r, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static inline bool protobuf_equal(ProtobufCBinaryData text, const char *expected)
{
    size_t n = __builtin_strlen(expected);
    return text.len == n &&
           __builtin_memcmp(text.data ? text.data : (const uint8_t *)"", expected, n) == 0;
}

static inline bool same_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (a.len == 0 || __builtin_memcmp(a.data, b.data, a.len) == 0);
}

/* For tables of names. */
static inline uint32_t protobuf_hash(ProtobufCBinaryData text)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ text.data[i]) * 16777619u;
    return hash;
}

#endif
