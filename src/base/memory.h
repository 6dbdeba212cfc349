/* Memory: checked array allocation, an arena, and a growing text buffer.
 *
 * Sizes that come from a file go through mem_array()/mem_zeroed(), which refuse a product that
 * overflows. */
#ifndef PAL_BASE_MEMORY_H
#define PAL_BASE_MEMORY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* An array of `count` elements of `size` bytes; NULL on overflow or failure. Never NULL for a count
 * of zero. Freed with free(). */
void *mem_array(size_t count, size_t size) __attribute__((malloc));
void *mem_zeroed(size_t count, size_t size) __attribute__((malloc));

/* Makes room for at least `needed` elements, growing geometrically. On failure returns false and
 * leaves the array as it was. */
bool mem_grow(void **array, size_t *capacity, size_t needed, size_t size);

/* a * b, or false if it does not fit. */
static inline bool mem_multiply(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* An arena: many small allocations, freed all at once, with a limit on their sum so that a hostile
 * file cannot ask for more than its size justifies. */
typedef struct mem_arena {
    struct arena_block *blocks;
    size_t used, limit;
    bool failed; /* an allocation was refused, by the limit or by the system */
} mem_arena;

void arena_init(mem_arena *arena, size_t limit);
void arena_free(mem_arena *arena);
/* Uninitialised memory aligned for any type, or NULL: past the limit or out of memory. */
void *arena_alloc(mem_arena *arena, size_t size);
void *arena_zeroed(mem_arena *arena, size_t size);
char *arena_copy(mem_arena *arena, const void *data, size_t size); /* adds a terminating 0 */
char *arena_printf(mem_arena *arena, const char *format, ...) PAL_PRINTF(2, 3);

#endif
