#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/onnx/onnx.h"

/* TensorProto.DataType. */
static const struct {
    int32_t onnx;
    pal_dtype dtype;
} types[] = {
    {1, PAL_FLOAT32},       {2, PAL_UINT8},       {3, PAL_INT8},    {4, PAL_UINT16},
    {5, PAL_INT16},         {6, PAL_INT32},       {7, PAL_INT64},   {10, PAL_FLOAT16},
    {11, PAL_FLOAT64},      {12, PAL_UINT32},     {13, PAL_UINT64}, {16, PAL_BFLOAT16},
    {17, PAL_FLOAT8E4M3FN}, {19, PAL_FLOAT8E5M2}, {21, PAL_UINT4},  {22, PAL_INT4},
};

enum { TYPES = sizeof types / sizeof *types };

pal_dtype onnx_to_dtype(int32_t type)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].onnx == type)
            return types[i].dtype;
    return PAL_DTYPE_OTHER;
}

int32_t onnx_from_dtype(pal_dtype dtype)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype == dtype)
            return types[i].onnx;
    return 0;
}

/* ---------------------------------------------------------------- reading */

static pal_status fail_tensor(const onnx *state, const Onnx__Tensor *message, const char *why)
{
    return fail(PAL_ERROR_FORMAT, "%s: tensor %.*s: %s", state->path,
                (int)(message->name.len < 200 ? message->name.len : 200),
                message->name.data ? (const char *)message->name.data : "", why);
}

pal_status tensor_type_read(const onnx *state, const Onnx__Tensor *message, tensor *out,
                            bool *known)
{
    *out = (tensor){.dtype = onnx_to_dtype(message->data_type), .elements = 1};
    *known = out->dtype != PAL_DTYPE_OTHER && message->n_dims <= PAL_MAX_RANK;
    for (size_t d = 0; d < message->n_dims; d++) {
        if (message->dims[d] < 0)
            return fail_tensor(state, message, "a negative dimension");
        if (!mem_multiply(out->elements, (uint64_t)message->dims[d], &out->elements))
            return fail_tensor(state, message, "a shape whose size overflows");
        if (*known)
            out->shape[d] = (uint64_t)message->dims[d];
    }
    if (out->elements > UINT64_MAX / 64)
        return fail_tensor(state, message, "a shape whose size overflows");
    out->rank = *known ? message->n_dims : 0;
    out->bytes = (out->elements * pal_dtype_bits(out->dtype) + 7) / 8;
    return PAL_OK;
}

/* A number in decimal, or false. */
static bool read_number(ProtobufCBinaryData text, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || !mem_multiply(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(text.data[i] - '0'), number))
            return false;
    }
    return text.len > 0;
}

/* Where external data lie, in fresh memory; NULL when out of memory. Of a model that is reached
 * through a link, data may be linked beside it, as download caches have them; what saving writes
 * lies beside the model itself. */
static char *external_path(const char *model, const char *location)
{
    char *path = path_beside(model, location);
    if (!path || access(path, F_OK) == 0)
        return path;
    char *final = path_final(model), *other = final ? path_beside(final, location) : NULL;
    free(final);
    if (other && access(other, F_OK) < 0) {
        free(other);
        return path;
    }
    free(path);
    return other;
}

/* The file of that name beside the model, mapped once. */
static pal_status open_external(onnx *state, ProtobufCBinaryData location,
                                const external_file **out)
{
    for (size_t i = 0; i < state->file_count; i++) {
        if (protobuf_equal(location, state->files[i].location)) {
            *out = &state->files[i];
            return PAL_OK;
        }
    }
    if (location.len == 0 || memchr(location.data, 0, location.len))
        return fail(PAL_ERROR_FORMAT, "%s: external data without a file name", state->path);
    external_file file = {.location = strndup((const char *)location.data, location.len)};
    pal_status status = PAL_OK;
    if (file.location && !path_is_inside(file.location))
        status =
            fail(PAL_ERROR_FORMAT, "%s: external data outside of the model's directory: %.200s",
                 state->path, file.location);
    else if (!file.location || !(file.path = external_path(state->path, file.location)) ||
             !mem_grow((void **)&state->files, &state->file_capacity, state->file_count + 1,
                       sizeof *state->files))
        status = fail_memory("opening external data");
    else
        status = file_map_open(file.path, &file.map);
    if (status) {
        free(file.location);
        free(file.path);
        return status;
    }
    state->external_bytes += file.map.size;
    state->files[state->file_count] = file;
    *out = &state->files[state->file_count++];
    return PAL_OK;
}

pal_status tensor_external(onnx *state, const Onnx__Tensor *message, const file_map **map,
                           const uint8_t **data, uint64_t *length)
{
    ProtobufCBinaryData location = {0, NULL};
    uint64_t offset = 0, given = 0;
    bool has_length = false, sound = true;
    for (size_t i = 0; i < message->n_external_data; i++) {
        const Onnx__Entry *entry = message->external_data[i];
        if (protobuf_equal(entry->key, "location"))
            location = entry->value;
        else if (protobuf_equal(entry->key, "offset"))
            sound = sound && read_number(entry->value, &offset);
        else if (protobuf_equal(entry->key, "length"))
            sound = sound && (has_length = read_number(entry->value, &given));
    }
    if (!sound)
        return fail_tensor(state, message, "its external data have no readable place");
    const external_file *file = NULL;
    pal_status status = open_external(state, location, &file);
    if (status)
        return status;
    if (offset > file->map.size || (has_length && given > file->map.size - offset))
        return fail(PAL_ERROR_FORMAT, "%s: %s should have %llu bytes at %llu; it has %zu in all",
                    state->path, file->path, (unsigned long long)given, (unsigned long long)offset,
                    file->map.size);
    if (!has_length) { /* what the shape takes, if there is so much; else all that is there */
        tensor t;
        bool known;
        status = tensor_type_read(state, message, &t, &known);
        given = file->map.size - offset;
        if (!status && known && t.bytes < given)
            given = t.bytes;
    }
    *map = &file->map;
    *data = file->map.data ? file->map.data + offset : NULL;
    *length = given;
    return status;
}

pal_status tensor_read(onnx *state, const Onnx__Tensor *message, tensor *out)
{
    const uint8_t *data = NULL;
    uint64_t length = 0;
    if (message->data_location == LOCATION_EXTERNAL) {
        const file_map *map;
        pal_status status = tensor_external(state, message, &map, &data, &length);
        if (status)
            return status;
    } else if (message->n_place == 1 &&
               (message->place[0]->field == WIRE_RAW_DATA || out->dtype == PAL_FLOAT32)) {
        data = (const uint8_t *)(uintptr_t)message->place[0]->address;
        length = message->place[0]->length;
    } else {
        return PAL_OK; /* in typed fields or in pieces */
    }
    if (length != out->bytes)
        return fail_tensor(state, message, "its data are not as long as its shape says");
    out->data = data;
    return PAL_OK;
}

/* ---------------------------------------------------------------- visiting */

pal_status tensor_visit_all(ProtobufCMessage *message, tensor_visit visit, void *user)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    pal_status status = PAL_OK;
    if (descriptor == &onnx__tensor__descriptor)
        return visit(user, (Onnx__Tensor *)message);
    for (unsigned i = 0; !status && i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        const char *at = (const char *)message;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(const size_t *)(at + field->quantifier_offset);
            ProtobufCMessage *const *list = *(ProtobufCMessage *const *const *)(at + field->offset);
            for (size_t j = 0; !status && j < count; j++)
                status = tensor_visit_all(list[j], visit, user);
        } else {
            ProtobufCMessage *one = *(ProtobufCMessage *const *)(at + field->offset);
            if (one)
                status = tensor_visit_all(one, visit, user);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- making */

Onnx__Tensor *tensor_make(mem_arena *arena, const tensor *tensor, const char *name)
{
    Onnx__Tensor *message = protobuf_new(arena, &onnx__tensor__descriptor);
    Onnx__Place *place = protobuf_new(arena, &onnx__place__descriptor);
    Onnx__Place **places = arena_alloc(arena, sizeof *places);
    int64_t *dims = arena_alloc(arena, (tensor->rank + 1) * sizeof *dims);
    if (!message || !place || !places || !dims)
        return NULL;
    for (size_t d = 0; d < tensor->rank; d++)
        dims[d] = (int64_t)tensor->shape[d];
    message->n_dims = tensor->rank;
    message->dims = dims;
    message->has_data_type = true;
    message->data_type = onnx_from_dtype(tensor->dtype);
    message->has_name = true;
    message->name = (ProtobufCBinaryData){strlen(name), (uint8_t *)name};
    place->has_field = place->has_address = place->has_length = true;
    place->field = WIRE_RAW_DATA;
    place->address = (uintptr_t)tensor->data;
    place->length = tensor->bytes - tensor->zeros;
    place->has_zeros = tensor->zeros > 0;
    place->zeros = tensor->zeros;
    places[0] = place;
    message->n_place = 1;
    message->place = places;
    return message;
}

const void *tensor_align(onnx *state, const tensor *tensor)
{
    const size_t alignment = pal_dtype_bits(tensor->dtype) / 8;
    if (alignment < 2 || (uintptr_t)tensor->data % alignment == 0)
        return tensor->data;
    void *copy = scratch_zeroed(tensor->bytes, 1);
    if (!copy || !holdings_reserve(&state->held, 1)) {
        scratch_free(copy);
        return NULL;
    }
    memcpy(copy, tensor->data, tensor->bytes);
    scratch_release(copy);
    holdings_keep_buffer(&state->held, copy);
    file_map_discard(&state->map, tensor->data, tensor->bytes);
    return copy;
}

/* ---------------------------------------------------------------- nodes */

const Onnx__Attribute *node_attribute(const Onnx__Node *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++)
        if (protobuf_equal(node->attribute[i]->name, name))
            return node->attribute[i];
    return NULL;
}

Onnx__Tensor *node_constant(const Onnx__Node *node)
{
    const Onnx__Attribute *value = node_is(node, "Constant") ? node_attribute(node, "value") : NULL;
    return value && node->n_output == 1 && node->output[0].len ? value->t : NULL;
}
