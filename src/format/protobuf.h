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

static inline bool protobuf_equal(ProtobufCBinaryData text, const char *expected)
{
    size_t n = __builtin_strlen(expected);
    return text.len == n &&
           __builtin_memcmp(text.data ? text.data : (const uint8_t *)"", expected, n) == 0;
}

#endif
