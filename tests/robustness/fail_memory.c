/* A library for LD_PRELOAD that makes one allocation fail.
 *
 *     FAIL_AT=n         the n-th allocation after main() begins returns NULL; 0: none
 *     FAIL_EXCEPT=s     not if the function s of a shared library is on the stack: for libraries
 * that do not survive it themselves FAIL_COUNT_FILE=f at the end, the number of allocations that
 * were asked for is written to f
 *
 * What the C library allocates for itself is counted where it goes through malloc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "preload.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool armed;
static atomic_ulong count;
static unsigned long fail_at;
static const char *except;

static bool is_excepted(void)
{
    enum { DEPTH = 40 };
    void *frames[DEPTH];
    Dl_info info;
    int depth = except ? backtrace(frames, DEPTH) : 0;
    for (int i = 0; i < depth; i++)
        if (dladdr(frames[i], &info) && info.dli_sname && strcmp(info.dli_sname, except) == 0)
            return true;
    return false;
}

static bool fails(void)
{
    if (!atomic_load(&armed) || atomic_fetch_add(&count, 1) + 1 != fail_at)
        return false;
    atomic_store(&armed, false);
    bool excepted = is_excepted();
    atomic_store(&armed, true);
    if (excepted)
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
    void *frame;
    fail_at = preload_number("FAIL_AT");
    except = getenv("FAIL_EXCEPT");
    backtrace(&frame, 1); /* the first call loads a library */
    atomic_store(&armed, true);
}

void preload_end(void)
{
    atomic_store(&armed, false);
    preload_report(atomic_load(&count));
}
