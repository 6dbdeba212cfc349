/* A library for LD_PRELOAD that makes one allocation fail.
 *
 *     FAIL_AT=n         the n-th allocation after main() begins returns NULL; 0: none
 *     FAIL_COUNT_FILE=f at the end, the number of allocations that were asked for is written to f
 *
 * What the C library allocates for itself is counted where it goes through malloc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool armed;
static atomic_ulong count;
static unsigned long fail_at;

static bool fails(void)
{
    if (!atomic_load(&armed) || atomic_fetch_add(&count, 1) + 1 != fail_at)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *memory = fails() ? NULL : __libc_memalign(alignment, size);
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

void preload_begin(void)
{
    fail_at = preload_number("FAIL_AT");
    atomic_store(&armed, true);
}

void preload_end(void)
{
    atomic_store(&armed, false);
    preload_report(atomic_load(&count));
}
