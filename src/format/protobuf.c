#include "format/protobuf.h"

#include <string.h>

enum {
    MAX_DEPTH = 100,      /* as in Google's parsers */
    MEMORY_PER_BYTE = 64, /* real files need about 10 */
    MEMORY_BASE = 256 * 1024,
};

static bool skip_bytes(protobuf_reader *r, uint64_t n)
{
    if (n > (uint64_t)(r->end - r->at))
        return false;
    r->at += n;
    return true;
}

/* Whether the message is well formed at the level of tags and no submessage that would be parsed
 * lies deeper than MAX_DEPTH. */
static bool check_depth(const ProtobufCMessageDescriptor *descriptor, protobuf_reader r, int depth)
{
    if (depth > MAX_DEPTH)
        return false;
    while (r.at < r.end) {
        uint64_t tag, length;
        /* protobuf-c would let some bad tags pass, and write what it cannot read again. */
        if (!protobuf_read_varint(&r, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
            return false;
        switch (tag & 7) {
        case 0:
            if (!protobuf_read_varint(&r, &length))
                return false;
            break;
        case 1:
            if (!skip_bytes(&r, 8))
                return false;
            break;
        case 5:
            if (!skip_bytes(&r, 4))
                return false;
            break;
        case 2: {
            if (!protobuf_read_varint(&r, &length) || length > (uint64_t)(r.end - r.at))
                return false;
            const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3));
            if (field && field->type == PROTOBUF_C_TYPE_MESSAGE &&
                !check_depth(field->descriptor, (protobuf_reader){r.at, r.at + length}, depth + 1))
                return false;
            r.at += length;
            break;
        }
        default: return false;
        }
    }
    return true;
}

static void *arena_allocate(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void arena_ignore(void *arena, void *memory)
{
    (void)arena, (void)memory;
}

pal_status protobuf_parse(const char *path, const ProtobufCMessageDescriptor *descriptor,
                          const uint8_t *data, size_t size, mem_arena *arena,
                          ProtobufCMessage **out)
{
    if (!check_depth(descriptor, (protobuf_reader){data, data + size}, 0))
        return fail(PAL_ERROR_FORMAT, "%s: damaged, or not a %s message", path,
                    descriptor->short_name);
    arena_init(arena, size > (SIZE_MAX - MEMORY_BASE) / MEMORY_PER_BYTE
                          ? SIZE_MAX
                          : size * MEMORY_PER_BYTE + MEMORY_BASE);
    ProtobufCAllocator allocator = {arena_allocate, arena_ignore, arena};
    *out = protobuf_c_message_unpack(descriptor, &allocator, size, data);
    if (*out)
        return PAL_OK;
    if (arena->failed && arena->limit - arena->used < arena->limit / 2)
        return fail(PAL_ERROR_FORMAT, "%s: takes more memory to read than its size justifies",
                    path);
    if (arena->failed)
        return fail_memory("reading a model");
    return fail(PAL_ERROR_FORMAT, "%s: damaged: cannot be read as a %s message", path,
                descriptor->short_name);
}

void *protobuf_new(mem_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = arena_zeroed(arena, descriptor->sizeof_message);
    if (message)
        protobuf_c_message_init(descriptor, message);
    return message;
}
