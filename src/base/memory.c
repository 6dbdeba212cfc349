#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *mem_array(size_t count, size_t size)
{
    uint64_t bytes;
    if (!mem_multiply(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    return malloc(bytes ? (size_t)bytes : 1);
}

void *mem_zeroed(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

bool mem_grow(void **array, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity)
        return true;
    size_t grown = *capacity < 8 ? 8 : *capacity + *capacity / 2;
    if (grown < needed)
        grown = needed;
    if (size && grown > SIZE_MAX / 2 / size)
        return false;
    void *moved = realloc(*array, grown * size);
    if (!moved)
        return false;
    *array = moved;
    *capacity = grown;
    return true;
}

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    _Alignas(max_align_t) unsigned char data[];
};

enum { ARENA_BLOCK = 16 * 1024 };

void arena_init(mem_arena *arena, size_t limit)
{
    *arena = (mem_arena){.limit = limit};
}

void arena_free(mem_arena *arena)
{
    for (struct arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    arena->blocks = NULL;
    arena->used = 0;
}

static void *arena_refuse(mem_arena *arena)
{
    arena->failed = true;
    return NULL;
}

void *arena_alloc(mem_arena *arena, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX / 4)
        return arena_refuse(arena);
    size = (size + align - 1) / align * align;
    if (size > arena->limit - arena->used)
        return arena_refuse(arena);
    struct arena_block *block = arena->blocks;
    if (!block || block->size - block->used < size) {
        size_t room = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        struct arena_block *fresh = malloc(sizeof *fresh + room);
        if (!fresh)
            return arena_refuse(arena);
        fresh->size = room;
        fresh->used = 0;
        /* A large allocation gets a block of its own, behind the one that still has room. */
        if (block && size > ARENA_BLOCK) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            arena->blocks = fresh;
        }
        block = fresh;
    }
    void *memory = block->data + block->used;
    block->used += size;
    arena->used += size;
    return memory;
}

void *arena_zeroed(mem_arena *arena, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

char *arena_copy(mem_arena *arena, const void *data, size_t size)
{
    char *copy = arena_alloc(arena, size + 1);
    if (copy) {
        if (size)
            memcpy(copy, data, size);
        copy[size] = 0;
    }
    return copy;
}

char *arena_printf(mem_arena *arena, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = n < 0 ? NULL : arena_alloc(arena, (size_t)n + 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}
