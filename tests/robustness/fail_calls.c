/* A library for LD_PRELOAD that makes one of the system calls that change files fail, or kills the
 * process at it.
 *
 *     FAIL_AT=n         the n-th such call after main() begins; 0: none
 *     FAIL_ERRNO=e      it fails with this errno
 *     FAIL_KILL=1       instead, SIGKILL before the call; 2: after the call
 *     FAIL_COUNT_FILE=f at the end, the number of such calls is written to f */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload.h"

static atomic_bool armed;
static atomic_ulong count;
static unsigned long fail_at, kill_when;
static int fail_errno;

static bool hit(void)
{
    return atomic_load(&armed) && atomic_fetch_add(&count, 1) + 1 == fail_at;
}

/* Runs `call` unless it is its turn to fail. */
#define PASS(type, failure, call)                                                                  \
    do {                                                                                           \
        bool mine = hit();                                                                         \
        if (mine && kill_when == 1)                                                                \
            raise(SIGKILL);                                                                        \
        if (mine && !kill_when) {                                                                  \
            errno = fail_errno;                                                                    \
            return failure;                                                                        \
        }                                                                                          \
        type result = call;                                                                        \
        if (mine && kill_when == 2)                                                                \
            raise(SIGKILL);                                                                        \
        return result;                                                                             \
    } while (0)

#define REAL(name, type, parameters)                                                               \
    static type(*real) parameters;                                                                 \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & O_CREAT ? (mode_t)va_arg(arguments, int) : 0;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...);                                                    \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        REAL(name, int, (const char *, int, ...));                                                 \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_of(flags, arguments);                                                   \
        va_end(arguments);                                                                         \
        if ((flags & O_ACCMODE) == O_RDONLY)                                                       \
            return real(path, flags, mode);                                                        \
        PASS(int, -1, real(path, flags, mode));                                                    \
    }

OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write, ssize_t, (int, const void *, size_t));
    PASS(ssize_t, -1, real(fd, data, size));
}

#define PWRITE(name)                                                                               \
    ssize_t name(int fd, const void *data, size_t size, off64_t at);                               \
    ssize_t name(int fd, const void *data, size_t size, off64_t at)                                \
    {                                                                                              \
        REAL(name, ssize_t, (int, const void *, size_t, off64_t));                                 \
        PASS(ssize_t, -1, real(fd, data, size, at));                                               \
    }

PWRITE(pwrite)
PWRITE(pwrite64)

int fsync(int fd)
{
    REAL(fsync, int, (int));
    PASS(int, -1, real(fd));
}

int rename(const char *from, const char *to)
{
    REAL(rename, int, (const char *, const char *));
    PASS(int, -1, real(from, to));
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    REAL(renameat2, int, (int, const char *, int, const char *, unsigned));
    PASS(int, -1, real(from_fd, from, to_fd, to, flags));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir, int, (const char *, mode_t));
    PASS(int, -1, real(path, mode));
}

/* Not made to fail, because nothing could be done about it, but a moment to be killed at. */
#define REMOVE(name)                                                                               \
    int name(const char *path)                                                                     \
    {                                                                                              \
        REAL(name, int, (const char *));                                                           \
        if (!kill_when)                                                                            \
            return real(path);                                                                     \
        PASS(int, -1, real(path));                                                                 \
    }

REMOVE(unlink)
REMOVE(rmdir)

void preload_begin(void)
{
    fail_at = preload_number("FAIL_AT");
    kill_when = preload_number("FAIL_KILL");
    fail_errno = (int)preload_number("FAIL_ERRNO");
    atomic_store(&armed, true);
}

void preload_end(void)
{
    atomic_store(&armed, false);
    preload_report(atomic_load(&count));
}
