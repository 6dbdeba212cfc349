/* Files that the library maps, as memory that ends where they end: what is read beyond a mapped
 * file lies mostly on the same page, where no sanitizer sees it. The linker puts these functions
 * between the library and the system's. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t at);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t at);
int __real_munmap(void *memory, size_t size);
int __wrap_munmap(void *memory, size_t size);
int __wrap_madvise(void *memory, size_t size, int advice);

enum { MOST = 4096 };

static void *copies[MOST]; /* a hash table of what stands for a mapping */

static size_t slot_of(const void *memory)
{
    size_t at = (uintptr_t)memory / 4096 % MOST;
    while (copies[at] && copies[at] != memory)
        at = (at + 1) % MOST;
    return at;
}

/* Forgets a copy; what lies behind it in the table moves up. */
static bool forget(void *memory)
{
    size_t at = slot_of(memory);
    if (!memory || copies[at] != memory)
        return false;
    copies[at] = NULL;
    for (at = (at + 1) % MOST; copies[at]; at = (at + 1) % MOST) {
        void *other = copies[at];
        copies[at] = NULL;
        copies[slot_of(other)] = other;
    }
    return true;
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t at)
{
    void *copy = NULL;
    if (fd < 0 || protection != PROT_READ) {
        /* Not the function, of which the C library has one or two. */
        long memory = syscall(SYS_mmap, address, size, protection, flags, fd, at);
        if (memory != -1)
            limits_count((ptrdiff_t)size);
        return (void *)memory;
    }
    limits_ignore(true); /* the pages of a file are no memory that was asked for */
    if (posix_memalign(&copy, 4096, size) != 0 || pread(fd, copy, size, at) != (ssize_t)size)
        abort();
    limits_ignore(false);
    copies[slot_of(copy)] = copy;
    return copy;
}

/* What mmap() is called where offsets have 64 bits. */
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t at)
{
    return __wrap_mmap(address, size, protection, flags, fd, at);
}

int __wrap_munmap(void *memory, size_t size)
{
    if (forget(memory)) {
        limits_ignore(true);
        free(memory);
        limits_ignore(false);
        return 0;
    }
    limits_count(-(ptrdiff_t)size);
    return __real_munmap(memory, size);
}

/* Only a hint: and one that would empty memory that is no mapping. */
int __wrap_madvise(void *memory, size_t size, int advice)
{
    (void)memory, (void)size, (void)advice;
    return 0;
}
