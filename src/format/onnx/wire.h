/* ONNX files in protobuf's wire format, with the numbers of tensors left where they are.
 *
 * wire_collapse() turns a mapped file into a skeleton: the same message, in which each tensor's
 * raw_data and float_data are replaced by a note of their place in memory (message Place of
 * onnx.proto). The skeleton is small enough to be parsed by protobuf-c. wire_write() goes the other
 * way: it packs a message and copies the numbers from their places into the file. */
#ifndef PAL_FORMAT_ONNX_WIRE_H
#define PAL_FORMAT_ONNX_WIRE_H

#include "base/file.h"
#include "onnx.pb-c.h"

/* Fields of a tensor that hold numbers in one piece. */
enum {
    WIRE_FLOAT_DATA = 4,
    WIRE_RAW_DATA = 9,
};

typedef struct wire_buffer {
    uint8_t *data;
    size_t size, capacity;
    bool failed; /* out of memory */
} wire_buffer;

/* The skeleton of an ONNX model, in fresh memory (free skeleton->data in any case). `path` is for
 * messages. */
pal_status wire_collapse(const char *path, const uint8_t *data, size_t size, wire_buffer *skeleton);

/* The file of a message whose numbers are in places; *size receives how long it will be. */
typedef struct wire_output {
    wire_buffer skeleton;
    uint64_t *sizes; /* of the submessages of the final file, in the order of the skeleton */
    size_t size_count, size_capacity, next;
    uint64_t size;
} wire_output;

/* Packs the message and measures the file. wire_output_free() in any case. */
pal_status wire_prepare(const Onnx__Model *model, wire_output *output);
/* Writes the file. `written` is called after each piece of numbers, so that the caller can let go
 * of their memory. */
typedef void (*wire_written)(void *user, const void *data, size_t size);
void wire_write(wire_output *output, file_writer *writer, wire_written written, void *user);
void wire_output_free(wire_output *output);

#endif
