#include "graph/onnx/lowering.h"

static uint32_t hash_of(ProtobufCBinaryData name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ name.data[i]) * 16777619u;
    return hash;
}

void names_start(lowering *low)
{
    for (size_t i = 0; i < NAME_BUCKETS; i++)
        low->buckets[i] = NONE;
}

void names_add(lowering *low, ProtobufCBinaryData name, size_t value)
{
    if (low->status || name.len == 0 || value == GRAPH_NONE)
        return;
    if (!mem_grow((void **)&low->names, &low->name_capacity, low->name_count + 1,
                  sizeof *low->names)) {
        low->status = fail_memory("a graph's names");
        return;
    }
    const uint32_t hash = hash_of(name);
    size_t *bucket = &low->buckets[hash % NAME_BUCKETS];
    low->names[low->name_count] = (onnx_name){name, hash, *bucket, value};
    *bucket = low->name_count++;
}

size_t names_find(const lowering *low, ProtobufCBinaryData name)
{
    const uint32_t hash = hash_of(name);
    for (size_t i = low->buckets[hash % NAME_BUCKETS]; i != NONE && i >= low->first_name;
         i = low->names[i].below)
        if (low->names[i].hash == hash && same_bytes(low->names[i].name, name))
            return low->names[i].value;
    return GRAPH_NONE;
}

void names_leave(lowering *low, size_t count)
{
    while (low->name_count > count) {
        const onnx_name *last = &low->names[--low->name_count];
        low->buckets[last->hash % NAME_BUCKETS] = last->below;
    }
}
