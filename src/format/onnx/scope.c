#include <stdlib.h>

#include "format/onnx/onnx.h"

enum { BUCKETS = sizeof((scope *)0)->buckets / sizeof(size_t) };

void scope_init(scope *scope)
{
    scope->definitions = NULL;
    scope->count = scope->capacity = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        scope->buckets[i] = NONE;
}

void scope_free(scope *scope)
{
    free(scope->definitions);
}

bool scope_push(scope *scope, const definition *definition)
{
    if (!mem_grow((void **)&scope->definitions, &scope->capacity, scope->count + 1,
                  sizeof *scope->definitions))
        return false;
    struct definition *added = &scope->definitions[scope->count];
    *added = *definition;
    added->hash = protobuf_hash(added->name);
    added->below = scope->buckets[added->hash % BUCKETS];
    scope->buckets[added->hash % BUCKETS] = scope->count++;
    return true;
}

void scope_pop(scope *scope, size_t count)
{
    while (scope->count > count) {
        const definition *top = &scope->definitions[--scope->count];
        scope->buckets[top->hash % BUCKETS] = top->below;
    }
}

definition *scope_find(const scope *scope, ProtobufCBinaryData name)
{
    uint32_t hash = protobuf_hash(name);
    for (size_t i = scope->buckets[hash % BUCKETS]; i != NONE; i = scope->definitions[i].below)
        if (scope->definitions[i].hash == hash && same_bytes(scope->definitions[i].name, name))
            return &scope->definitions[i];
    return NULL;
}
