#define _GNU_SOURCE /* mkostemp, madvise */
#define _DARWIN_C_SOURCE
#include "base/scratch.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { LARGE = 1 << 20 };

/* Lies before the memory that the caller sees. */
typedef struct header {
    size_t size; /* of all, this included */
    bool mapped;
} header;

enum { HEADER = 64 };
_Static_assert(sizeof(header) <= HEADER, "the header must leave the memory aligned");

static header *header_of(void *memory)
{
    return (header *)((unsigned char *)memory - HEADER);
}

/* A file without a name, with `size` bytes of zeros that are sure to be there; -1 on failure. */
static int nameless_file(const char *directory, size_t size)
{
#ifdef __APPLE__
    (void)directory, (void)size; /* cannot reserve space portably */
    return -1;
#else
    char *path = path_join(directory, "palettize-XXXXXX");
    int fd = path ? mkostemp(path, O_CLOEXEC) : -1;
    if (fd >= 0) {
        unlink(path);
        if (posix_fallocate(fd, 0, (off_t)size)) {
            close(fd);
            fd = -1;
        }
    }
    free(path);
    return fd;
#endif
}

static header *map_file(size_t size)
{
    const char *directories[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
    int fd = -1;
    for (size_t i = 0; fd < 0 && i < sizeof directories / sizeof *directories; i++)
        if (directories[i] && *directories[i])
            fd = nameless_file(directories[i], size);
    if (fd < 0)
        return NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

void *scratch_zeroed(uint64_t count, size_t size)
{
    uint64_t bytes;
    if (!mem_multiply(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    const size_t all = (size_t)bytes + HEADER;
    header *memory = bytes >= LARGE ? map_file(all) : NULL;
    const bool mapped = memory != NULL;
    if (!mapped && !(memory = mem_zeroed(all, 1)))
        return NULL;
    *memory = (header){all, mapped};
    return (unsigned char *)memory + HEADER;
}

void scratch_free(void *memory)
{
    if (!memory)
        return;
    header *header = header_of(memory);
    if (header->mapped)
        munmap(header, header->size);
    else
        free(header);
}

void scratch_release(void *memory)
{
#ifdef MADV_DONTNEED
    if (memory && header_of(memory)->mapped)
        madvise(header_of(memory), header_of(memory)->size, MADV_DONTNEED);
#else
    (void)memory;
#endif
}
