/* Moves the external data of a model into one file. */
#include <stdlib.h>
#include <string.h>

#include "format/onnx/onnx.h"

enum {
    LEAST_EXTERNAL = 1024, /* bytes of new data that are worth it */
    ALIGNMENT = 64,
};

typedef struct mover {
    onnx *state;
    emission *emission;
    ProtobufCBinaryData location;
} mover;

/* ---------------------------------------------------------------- pieces */

static size_t slot_of(const emission *e, const void *data, uint64_t length)
{
    size_t at = ((uintptr_t)data / 16 * 2654435761u + length) % e->slot_count;
    while (e->piece_of[at] && (e->pieces[e->piece_of[at] - 1].data != data ||
                               e->pieces[e->piece_of[at] - 1].length != length))
        at = (at + 1) % e->slot_count;
    return at;
}

static bool grow_slots(emission *e)
{
    if (2 * (e->piece_count + 1) <= e->slot_count)
        return true;
    size_t count = e->slot_count ? 2 * e->slot_count : 256;
    size_t *slots = mem_zeroed(count, sizeof *slots);
    if (!slots)
        return false;
    free(e->piece_of);
    e->piece_of = slots;
    e->slot_count = count;
    for (size_t i = 0; i < e->piece_count; i++)
        e->piece_of[slot_of(e, e->pieces[i].data, e->pieces[i].length)] = i + 1;
    return true;
}

/* The place in the file of these data, which are written once however many tensors hold them. */
static bool find_or_add(emission *e, const void *data, uint64_t length, uint32_t zeros,
                        const external_piece **out)
{
    if (!grow_slots(e) ||
        !mem_grow((void **)&e->pieces, &e->piece_capacity, e->piece_count + 1, sizeof *e->pieces))
        return false;
    const size_t slot = slot_of(e, data, length);
    if (!e->piece_of[slot]) {
        const uint64_t offset = (e->external_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        e->pieces[e->piece_count] = (external_piece){data, length, offset, zeros};
        e->external_bytes = offset + length + zeros;
        e->piece_of[slot] = ++e->piece_count;
    }
    *out = &e->pieces[e->piece_of[slot] - 1];
    return true;
}

/* ---------------------------------------------------------------- tensors */

static Onnx__Entry *make_entry(mem_arena *arena, const char *key, ProtobufCBinaryData value)
{
    Onnx__Entry *entry = protobuf_new(arena, &onnx__entry__descriptor);
    if (!entry)
        return NULL;
    entry->has_key = entry->has_value = true;
    entry->key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
    entry->value = value;
    return entry;
}

static Onnx__Entry *make_number(mem_arena *arena, const char *key, uint64_t number)
{
    char *text = arena_printf(arena, "%llu", (unsigned long long)number);
    return text ? make_entry(arena, key, (ProtobufCBinaryData){strlen(text), (uint8_t *)text})
                : NULL;
}

static pal_status point_to(const mover *m, Onnx__Tensor *tensor, const external_piece *piece)
{
    emission *e = m->emission;
    Onnx__Entry **entries = arena_alloc(&e->arena, 3 * sizeof *entries);
    if (!entries || !mem_grow((void **)&e->tensors, &e->tensor_capacity, e->tensor_count + 1,
                              sizeof *e->tensors))
        return fail_memory("writing external data");
    entries[0] = make_entry(&e->arena, "location", m->location);
    entries[1] = make_number(&e->arena, "offset", piece->offset);
    entries[2] = make_number(&e->arena, "length", piece->length + piece->zeros);
    if (!entries[0] || !entries[1] || !entries[2])
        return fail_memory("writing external data");
    e->tensors[e->tensor_count++] = (kept_tensor){tensor, *tensor};
    tensor->n_place = 0;
    tensor->n_external_data = 3;
    tensor->external_data = entries;
    tensor->has_data_location = true;
    tensor->data_location = LOCATION_EXTERNAL;
    return PAL_OK;
}

static bool is_in_model(const onnx *state, const void *data)
{
    uintptr_t at = (uintptr_t)data, begin = (uintptr_t)state->map.data;
    return at >= begin && at - begin < state->map.size;
}

static pal_status move_tensor(void *user, Onnx__Tensor *message)
{
    const mover *m = user;
    const file_map *map;
    const uint8_t *data;
    uint64_t length;
    uint32_t zeros = 0;
    if (message->data_location == LOCATION_EXTERNAL) {
        tensor t;
        bool known;
        pal_status status = tensor_external(m->state, message, &map, &data, &length);
        if (!status)
            status = tensor_type_read(m->state, message, &t, &known);
        if (status)
            return status;
        if (known && length > t.bytes)
            length = t.bytes;
    } else if (message->n_place == 1 && message->place[0]->field == WIRE_RAW_DATA) {
        const Onnx__Place *place = message->place[0];
        data = (const uint8_t *)(uintptr_t)place->address;
        length = place->length;
        zeros = place->zeros;
        if (length < LEAST_EXTERNAL || is_in_model(m->state, data))
            return PAL_OK;
    } else {
        return PAL_OK;
    }
    const external_piece *piece;
    if (!find_or_add(m->emission, data, length, zeros, &piece))
        return fail_memory("writing external data");
    return point_to(m, message, piece);
}

pal_status onnx_emit_external(onnx *state, emission *emission, ProtobufCBinaryData location)
{
    mover m = {state, emission, location};
    return tensor_visit_all(&state->root->base, move_tensor, &m);
}
