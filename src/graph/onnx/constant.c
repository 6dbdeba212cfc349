#include <string.h>

#include "base/half.h"
#include "base/scratch.h"
#include "graph/onnx/lowering.h"
#include "palette/palette.h"

/* TensorProto fields that hold numbers one by one; protobuf-c keeps them as they stand. */
enum { INT32_DATA = 5, INT64_DATA = 7, DOUBLE_DATA = 10, UINT64_DATA = 11 };

enum { BOOL_TYPE = 9 };

bool type_of_dtype(int32_t onnx_type, graph_type *type, pal_dtype *dtype)
{
    *dtype = onnx_to_dtype(onnx_type);
    switch (*dtype) {
    case PAL_FLOAT16:
    case PAL_FLOAT32:
    case PAL_BFLOAT16:
    case PAL_FLOAT64: *type = GRAPH_FLOAT; return true;
    case PAL_INT4:
    case PAL_INT8:
    case PAL_INT16:
    case PAL_INT32:
    case PAL_INT64:
    case PAL_UINT4:
    case PAL_UINT8:
    case PAL_UINT16:
    case PAL_UINT32:
    case PAL_UINT64: *type = GRAPH_INT; return true;
    default: *type = GRAPH_BOOL; return onnx_type == BOOL_TYPE;
    }
}

/* ---------------------------------------------------------------- numbers */

typedef struct number {
    double real;
    int64_t integer;
} number;

static number of_integer(int64_t integer)
{
    return (number){(double)integer, integer};
}

#define READ(type)                                                                                 \
    {                                                                                              \
        type value;                                                                                \
        memcpy(&value, data + i * sizeof value, sizeof value);                                     \
        return of_integer((int64_t)value);                                                         \
    }

/* Element i of values as raw_data holds them. */
static number read_raw(const uint8_t *data, pal_dtype dtype, uint64_t i)
{
    uint16_t half;
    switch (dtype) {
    case PAL_FLOAT16:
    case PAL_BFLOAT16:
        memcpy(&half, data + 2 * i, sizeof half);
        return (number){dtype == PAL_FLOAT16 ? f16_to_float(half) : bf16_to_float(half), 0};
    case PAL_FLOAT32: {
        float value;
        memcpy(&value, data + 4 * i, sizeof value);
        return (number){value, 0};
    }
    case PAL_FLOAT64: {
        double value;
        memcpy(&value, data + 8 * i, sizeof value);
        return (number){value, 0};
    }
    case PAL_INT4: return of_integer(((data[i / 2] >> 4 * (i % 2) & 15) ^ 8) - 8);
    case PAL_UINT4: return of_integer(data[i / 2] >> 4 * (i % 2) & 15);
    case PAL_INT8: READ(int8_t)
    case PAL_INT16: READ(int16_t)
    case PAL_UINT16: READ(uint16_t)
    case PAL_INT32: READ(int32_t)
    case PAL_UINT32: READ(uint32_t)
    case PAL_INT64: READ(int64_t)
    case PAL_UINT64: READ(uint64_t)
    default: READ(uint8_t)
    }
}

static void store(graph_tensor *to, uint64_t i, number value)
{
    if (to->type == GRAPH_FLOAT)
        ((float *)to->owned)[i] = (float)value.real;
    else if (to->type == GRAPH_INT)
        ((int64_t *)to->owned)[i] = value.integer;
    else
        ((uint8_t *)to->owned)[i] = value.integer != 0;
}

/* ---------------------------------------------------------------- typed fields */

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        const uint8_t byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* A number of int32_data is one of several types: the bits of a half, or the integer. */
static number of_field(pal_dtype dtype, uint64_t bits, bool is_double)
{
    if (is_double) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return (number){value, 0};
    }
    if (dtype == PAL_FLOAT16)
        return (number){f16_to_float((uint16_t)bits), 0};
    if (dtype == PAL_BFLOAT16)
        return (number){bf16_to_float((uint16_t)bits), 0};
    return of_integer((int64_t)bits);
}

/* Numbers of one field as it stands: packed, or one. Returns how many more there are now. */
static bool read_numbers(const uint8_t *at, const uint8_t *end, bool is_double, pal_dtype dtype,
                         graph_tensor *to, uint64_t *done)
{
    const bool nibbles = dtype == PAL_INT4 || dtype == PAL_UINT4;
    while (at < end) {
        uint64_t bits = 0;
        if (is_double && end - at >= 8) {
            memcpy(&bits, at, 8);
            at += 8;
        } else if (is_double || !read_varint(&at, end, &bits)) {
            return false;
        }
        for (int n = 0; n < (nibbles ? 2 : 1) && (!nibbles || *done < to->elements); n++) {
            if (*done == to->elements)
                return false;
            const uint8_t byte[8] = {(uint8_t)bits};
            store(to, *done,
                  nibbles ? read_raw(byte, dtype, (uint64_t)n) : of_field(dtype, bits, is_double));
            (*done)++;
        }
    }
    return true;
}

/* Numbers in fields of their type, which are part of what protobuf-c does not know. */
static void read_fields(lowering *low, const Onnx__Tensor *message, pal_dtype dtype,
                        graph_tensor *to)
{
    uint64_t done = 0;
    bool sound = true;
    for (size_t i = 0; i < message->base.n_unknown_fields && sound; i++) {
        const ProtobufCMessageUnknownField *field = &message->base.unknown_fields[i];
        const bool is_double = field->tag == DOUBLE_DATA;
        if (!is_double && field->tag != INT32_DATA && field->tag != INT64_DATA &&
            field->tag != UINT64_DATA)
            continue;
        const uint8_t *at = field->data, *end = field->data + field->len;
        uint64_t length;
        if (field->wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
            sound = read_varint(&at, end, &length) && length == (uint64_t)(end - at);
        sound = sound && read_numbers(at, end, is_double, dtype, to, &done);
    }
    /* float_data in several pieces. */
    for (size_t i = 0; i < message->n_place && sound; i++) {
        const Onnx__Place *place = message->place[i];
        const uint8_t *data = (const uint8_t *)(uintptr_t)place->address;
        for (uint64_t n = 0; sound && place->field == WIRE_FLOAT_DATA && n < place->length / 4;
             n++) {
            sound = done < to->elements;
            if (sound)
                store(to, done++, read_raw(data, PAL_FLOAT32, n));
        }
    }
    if (!sound || done != to->elements)
        low_fail(low, PAL_ERROR_FORMAT, "tensor %.*s: its data are not as long as its shape says",
                 (int)(message->name.len < 200 ? message->name.len : 200),
                 message->name.data ? (const char *)message->name.data : "");
}

/* ---------------------------------------------------------------- tensors */

static char *copy_name(lowering *low, ProtobufCBinaryData name)
{
    char *copy = arena_copy(&low->graph->arena, name.data, name.len);
    if (!copy)
        low_failed(low, fail_memory("a graph's names"));
    return copy;
}

size_t constant_value(lowering *low, const Onnx__Tensor *message, ProtobufCBinaryData name)
{
    graph_type type;
    pal_dtype dtype;
    tensor t;
    bool known;
    int64_t shape[PAL_MAX_RANK];
    char *copy = low->status ? NULL : copy_name(low, name);
    if (!copy)
        return GRAPH_NONE;
    if (!type_of_dtype(message->data_type, &type, &dtype)) {
        low_fail(low, PAL_ERROR_UNSUPPORTED,
                 "constant '%s' is of type %d, which is not computed with", copy,
                 message->data_type);
        return GRAPH_NONE;
    }
    pal_status status = tensor_type_read(low->state, message, &t, &known);
    if (!status && type == GRAPH_BOOL) { /* which pal_dtype has no name for: bytes */
        Onnx__Tensor bytes = *message;
        bytes.data_type = onnx_from_dtype(PAL_UINT8);
        status = tensor_type_read(low->state, &bytes, &t, &known);
    }
    if (!status && !known)
        status = fail(PAL_ERROR_UNSUPPORTED, "constant '%s' has too many dimensions", copy);
    if (!status)
        status = tensor_read(low->state, message, &t);
    /* Numbers that are not in the file take no room there: one byte for each must be. */
    if (status) {
        low_failed(low, status);
        return GRAPH_NONE;
    }
    for (size_t d = 0; d < t.rank; d++)
        shape[d] = (int64_t)t.shape[d];
    if (!t.data && t.elements) {
        uint64_t held = 0;
        for (size_t i = 0; i < message->base.n_unknown_fields; i++)
            held += message->base.unknown_fields[i].len;
        for (size_t i = 0; i < message->n_place; i++)
            held += message->place[i]->length;
        if (t.elements / 2 > held) {
            low_fail(low, PAL_ERROR_FORMAT,
                     "constant '%s': its data are not as long as its shape says", copy);
            return GRAPH_NONE;
        }
    }
    graph_tensor *to = NULL;
    if (t.data && dtype == PAL_FLOAT32) {
        const void *data = tensor_align(low->state, &t);
        if (!data)
            low_failed(low, fail_memory("a constant"));
        else
            to = graph_add_view(low->graph, type, t.rank, shape, data);
    } else {
        to = graph_add_tensor(low->graph, type, t.rank, shape);
        for (uint64_t i = 0; to && t.data && i < t.elements; i++)
            store(to, i, read_raw(t.data, t.dtype, i));
        if (to && !t.data)
            read_fields(low, message, dtype, to);
    }
    const size_t value = to ? graph_add_constant(low->graph, copy, to) : GRAPH_NONE;
    if (value == GRAPH_NONE)
        low_failed(low, PAL_ERROR_MEMORY);
    set_dtype(low, value, dtype);
    return value;
}

/* ---------------------------------------------------------------- weights */

size_t weight_named(const lowering *low, const Onnx__Graph *graph, ProtobufCBinaryData name)
{
    for (size_t i = 0; i < low->model->weight_count; i++) {
        const weight_place *place = &low->state->places[i];
        if (low->state->graphs[place->graph].message == graph && same_bytes(place->name, name))
            return i;
    }
    return NONE;
}

/* Values of a weight's type, `elements` of them, as floats. */
static void to_floats(const void *from, pal_dtype dtype, uint64_t elements, float *to)
{
    for (uint64_t i = 0; i < elements; i++)
        to[i] = (float)read_raw(from, dtype, i).real;
}

static graph_tensor *palettized(lowering *low, size_t weight, const int64_t *shape)
{
    const pal_weight *info = &low->model->weights[weight].info;
    palette *palette = NULL;
    graph_tensor *to = graph_add_tensor(low->graph, GRAPH_FLOAT, info->rank, shape);
    if (!to)
        return NULL;
    pal_status status = low->model->format->read_palette(low->model, weight, &palette);
    void *dense = to->owned;
    if (!status && info->dtype != PAL_FLOAT32) {
        dense = scratch_zeroed(info->elements, pal_dtype_bits(info->dtype) / 8);
        status = dense ? PAL_OK : fail_memory("a constant");
    }
    if (!status)
        status = palette_decode(palette, dense);
    if (!status && dense != to->owned)
        to_floats(dense, info->dtype, info->elements, to->owned);
    if (dense != to->owned)
        scratch_free(dense);
    palette_free(palette);
    if (status)
        low_failed(low, status);
    return status ? NULL : to;
}

size_t weight_value(lowering *low, size_t weight)
{
    const model_weight *from = &low->model->weights[weight];
    const pal_weight *info = &from->info;
    int64_t shape[PAL_MAX_RANK];
    graph_tensor *to;
    graph_type type;
    pal_dtype dtype;
    if (low->status)
        return GRAPH_NONE;
    for (size_t d = 0; d < info->rank; d++)
        shape[d] = (int64_t)info->shape[d];
    if (!type_of_dtype(onnx_from_dtype(info->dtype), &type, &dtype)) {
        low_fail(low, PAL_ERROR_UNSUPPORTED,
                 "weight '%s' is of type %s, which is not computed with", info->name,
                 pal_dtype_name(info->dtype));
        return GRAPH_NONE;
    }
    if (info->storage == PAL_STORAGE_PALETTIZED) {
        to = palettized(low, weight, shape);
    } else if (!from->dense) {
        return GRAPH_NONE;
    } else if (info->dtype == PAL_FLOAT32) {
        to = graph_add_view(low->graph, GRAPH_FLOAT, info->rank, shape, from->dense);
    } else {
        to = graph_add_tensor(low->graph, GRAPH_FLOAT, info->rank, shape);
        if (to)
            to_floats(from->dense, info->dtype, info->elements, to->owned);
        low->model->format->release(low->model, weight);
    }
    const size_t value = to ? graph_add_constant(low->graph, info->name, to) : GRAPH_NONE;
    if (value == GRAPH_NONE) {
        low_failed(low, PAL_ERROR_MEMORY);
        return GRAPH_NONE;
    }
    low->graph->values[value].weight = weight;
    set_dtype(low, value, info->dtype);
    return value;
}
