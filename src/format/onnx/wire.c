#include "format/onnx/wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/protobuf.h"

/* Both directions walk a message by protobuf-c's description of it: a field that it declares as a
 * message is entered, everything else is copied as it stands. */

enum {
    MAX_DEPTH = 100,
    VARINT = 0,
    FIXED64 = 1,
    LENGTH = 2,
    FIXED32 = 5,
    PLACE = 536870911,
    PADDED_LENGTH = 5, /* bytes of a length that is filled in later */
};

/* One field as it stands: `begin` at its tag; of LENGTH, the content from `data` on. */
typedef struct field {
    const uint8_t *begin, *data;
    size_t length;
    uint64_t number;
    unsigned wire_type;
} field;

static bool read_field(protobuf_reader *r, field *f)
{
    uint64_t tag, length = 0;
    f->begin = r->at;
    if (!protobuf_read_varint(r, &tag))
        return false;
    f->number = tag >> 3;
    f->wire_type = (unsigned)(tag & 7);
    switch (f->wire_type) {
    case VARINT:
        if (!protobuf_read_varint(r, &length))
            return false;
        f->data = r->at;
        f->length = 0;
        return true;
    case FIXED64: length = 8; break;
    case FIXED32: length = 4; break;
    case LENGTH:
        if (!protobuf_read_varint(r, &length))
            return false;
        break;
    default: return false;
    }
    if (length > (uint64_t)(r->end - r->at))
        return false;
    f->data = r->at;
    f->length = (size_t)length;
    r->at += length;
    return true;
}

/* The description of the message that the field holds, or NULL if it is none. */
static const ProtobufCMessageDescriptor *submessage(const ProtobufCMessageDescriptor *descriptor,
                                                    const field *f)
{
    if (f->wire_type != LENGTH || f->number > UINT32_MAX)
        return NULL;
    const ProtobufCFieldDescriptor *known =
        protobuf_c_message_descriptor_get_field(descriptor, (unsigned)f->number);
    return known && known->type == PROTOBUF_C_TYPE_MESSAGE ? known->descriptor : NULL;
}

/* ---------------------------------------------------------------- buffers */

static void append(wire_buffer *buffer, const void *data, size_t size)
{
    if (buffer->failed ||
        !mem_grow((void **)&buffer->data, &buffer->capacity, buffer->size + size, 1)) {
        buffer->failed = true;
        return;
    }
    if (size)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static size_t put_varint(uint8_t *to, uint64_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        to[n++] = (uint8_t)(value | 0x80);
    to[n++] = (uint8_t)value;
    return n;
}

static void append_varint(wire_buffer *buffer, uint64_t value)
{
    uint8_t bytes[10];
    append(buffer, bytes, put_varint(bytes, value));
}

static size_t varint_size(uint64_t value)
{
    uint8_t bytes[10];
    return put_varint(bytes, value);
}

/* ---------------------------------------------------------------- collapsing */

static void append_place(wire_buffer *out, const field *f)
{
    Onnx__Place place = ONNX__PLACE__INIT;
    uint8_t bytes[64];
    place.has_field = place.has_address = place.has_length = true;
    place.field = (uint32_t)f->number;
    place.address = (uintptr_t)f->data;
    place.length = f->length;
    size_t size = protobuf_c_message_pack(&place.base, bytes);
    append_varint(out, (uint64_t)PLACE << 3 | LENGTH);
    append_varint(out, size);
    append(out, bytes, size);
}

static bool collapse(const ProtobufCMessageDescriptor *descriptor, protobuf_reader r,
                     wire_buffer *out, int depth)
{
    const bool is_tensor = descriptor == &onnx__tensor__descriptor;
    field f;
    if (depth > MAX_DEPTH)
        return false;
    while (r.at < r.end) {
        if (!read_field(&r, &f) || (is_tensor && f.number == PLACE))
            return false;
        const ProtobufCMessageDescriptor *inner = submessage(descriptor, &f);
        if (is_tensor && f.wire_type == LENGTH &&
            (f.number == WIRE_RAW_DATA || f.number == WIRE_FLOAT_DATA)) {
            append_place(out, &f);
        } else if (inner) {
            append_varint(out, f.number << 3 | LENGTH);
            const size_t at = out->size;
            append(out, (uint8_t[PADDED_LENGTH]){0}, PADDED_LENGTH);
            if (!collapse(inner, (protobuf_reader){f.data, f.data + f.length}, out, depth + 1))
                return false;
            size_t length = out->failed ? 0 : out->size - at - PADDED_LENGTH;
            for (int i = 0; i < PADDED_LENGTH && !out->failed; i++, length >>= 7)
                out->data[at + i] = (uint8_t)((length & 0x7f) | (i + 1 < PADDED_LENGTH ? 0x80 : 0));
        } else {
            append(out, f.begin, (size_t)(r.at - f.begin));
        }
    }
    return true;
}

pal_status wire_collapse(const char *path, const uint8_t *data, size_t size, wire_buffer *skeleton)
{
    *skeleton = (wire_buffer){0};
    if (!collapse(&onnx__model__descriptor, (protobuf_reader){data, data + size}, skeleton, 0))
        return fail(PAL_ERROR_FORMAT, "%s: damaged, or not an ONNX model", path);
    if (skeleton->failed)
        return fail_memory("reading a model");
    if (skeleton->size > INT32_MAX)
        return fail(PAL_ERROR_FORMAT, "%s: more than 2 GiB without its weights", path);
    return PAL_OK;
}

/* ---------------------------------------------------------------- expanding */

/* The skeletons from here on were made by protobuf-c from our own messages, so they are sound. */

static Onnx__Place read_place(const field *f)
{
    Onnx__Place place = ONNX__PLACE__INIT;
    protobuf_reader r = {f->data, f->data + f->length};
    field part;
    while (r.at < r.end && read_field(&r, &part)) {
        protobuf_reader value = {part.begin, r.end};
        uint64_t number = 0;
        protobuf_read_varint(&value, &number);
        if (part.wire_type == FIXED64)
            memcpy(&number, part.data, sizeof number);
        else
            protobuf_read_varint(&value, &number);
        switch (part.number) {
        case 1: place.field = (uint32_t)number; break;
        case 2: place.address = number; break;
        case 3: place.length = number; break;
        default: place.zeros = (uint32_t)number; break;
        }
    }
    return place;
}

static bool is_place(const ProtobufCMessageDescriptor *descriptor, const field *f)
{
    return descriptor == &onnx__tensor__descriptor && f->number == PLACE;
}

/* Size of the final message; remembers those of its submessages in the order in which write_message
 * comes to them. */
static uint64_t measure(const ProtobufCMessageDescriptor *descriptor, protobuf_reader r,
                        wire_output *output)
{
    uint64_t size = 0;
    field f;
    while (r.at < r.end && read_field(&r, &f)) {
        const ProtobufCMessageDescriptor *inner = submessage(descriptor, &f);
        uint64_t content = f.length, number = f.number;
        if (is_place(descriptor, &f)) {
            Onnx__Place place = read_place(&f);
            content = place.length + place.zeros;
            number = place.field;
        } else if (inner) {
            const size_t slot = output->size_count++;
            if (!mem_grow((void **)&output->sizes, &output->size_capacity, output->size_count,
                          sizeof *output->sizes)) {
                output->skeleton.failed = true;
                return 0;
            }
            content = measure(inner, (protobuf_reader){f.data, f.data + f.length}, output);
            if (output->skeleton.failed)
                return 0;
            output->sizes[slot] = content;
        } else {
            size += (uint64_t)(r.at - f.begin);
            continue;
        }
        size += varint_size(number << 3 | LENGTH) + varint_size(content) + content;
    }
    return size;
}

static void write_varint(file_writer *writer, uint64_t value)
{
    uint8_t bytes[10];
    writer_write(writer, bytes, put_varint(bytes, value));
}

static void write_place(const Onnx__Place *place, file_writer *writer, wire_written written,
                        void *user)
{
    enum { CHUNK = 1 << 22 };
    static const uint8_t zeros[64];
    const uint8_t *data = (const uint8_t *)(uintptr_t)place->address;
    write_varint(writer, (uint64_t)place->field << 3 | LENGTH);
    write_varint(writer, place->length + place->zeros);
    for (uint64_t done = 0; done < place->length;) {
        size_t n = place->length - done < CHUNK ? (size_t)(place->length - done) : CHUNK;
        writer_write(writer, data + done, n);
        written(user, data + done, n);
        done += n;
    }
    for (uint32_t done = 0; done < place->zeros; done += sizeof zeros)
        writer_write(writer, zeros,
                     place->zeros - done < sizeof zeros ? place->zeros - done : sizeof zeros);
}

typedef struct expansion {
    wire_output *output;
    file_writer *writer;
    wire_written written;
    void *user;
} expansion;

static void write_message(const ProtobufCMessageDescriptor *descriptor, protobuf_reader r,
                          const expansion *e)
{
    field f;
    while (r.at < r.end && read_field(&r, &f)) {
        const ProtobufCMessageDescriptor *inner = submessage(descriptor, &f);
        if (is_place(descriptor, &f)) {
            Onnx__Place place = read_place(&f);
            write_place(&place, e->writer, e->written, e->user);
        } else if (inner) {
            write_varint(e->writer, f.number << 3 | LENGTH);
            write_varint(e->writer, e->output->sizes[e->output->next++]);
            write_message(inner, (protobuf_reader){f.data, f.data + f.length}, e);
        } else {
            writer_write(e->writer, f.begin, (size_t)(r.at - f.begin));
        }
    }
}

/* protobuf-c's sink, on a buffer. */
typedef struct buffer_sink {
    ProtobufCBuffer base;
    wire_buffer *buffer;
} buffer_sink;

static void sink_append(ProtobufCBuffer *sink, size_t size, const uint8_t *data)
{
    append(((buffer_sink *)sink)->buffer, data, size);
}

pal_status wire_prepare(const Onnx__Model *model, wire_output *output)
{
    *output = (wire_output){0};
    buffer_sink sink = {{sink_append}, &output->skeleton};
    protobuf_c_message_pack_to_buffer(&model->base, &sink.base);
    if (!output->skeleton.failed)
        output->size = measure(
            &onnx__model__descriptor,
            (protobuf_reader){output->skeleton.data, output->skeleton.data + output->skeleton.size},
            output);
    return output->skeleton.failed ? fail_memory("writing a model") : PAL_OK;
}

void wire_write(wire_output *output, file_writer *writer, wire_written written, void *user)
{
    const expansion e = {output, writer, written, user};
    const wire_buffer *skeleton = &output->skeleton;
    output->next = 0;
    write_message(&onnx__model__descriptor,
                  (protobuf_reader){skeleton->data, skeleton->data + skeleton->size}, &e);
}

void wire_output_free(wire_output *output)
{
    free(output->skeleton.data);
    free(output->sizes);
    *output = (wire_output){0};
}
