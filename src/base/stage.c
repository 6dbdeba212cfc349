#define _GNU_SOURCE /* renameat2 */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { VARIED = 6 }; /* characters of a temporary's name that vary */

/* The directory that holds `path`, in fresh memory. */
static char *path_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

char *path_final(const char *path)
{
    struct stat info;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    char *final = strndup(path, length);
    if (final && lstat(final, &info) == 0 && S_ISLNK(info.st_mode)) {
        char *target = realpath(final, NULL);
        if (target) {
            free(final);
            final = target;
        }
    }
    return final;
}

/* Puts six characters in the place of the X at the end of `name`, others at every call. Nobody need
 * be unable to guess them, since what is there already is not opened. */
static void vary_name(char *name)
{
    static const char characters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    static atomic_uint calls;
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t bits = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    bits = (bits ^ (uint64_t)getpid() << 32) + atomic_fetch_add(&calls, 1);
    bits *= 0x9e3779b97f4a7c15u;
    bits ^= bits >> 29;
    for (char *at = name + strlen(name) - VARIED; *at; at++, bits /= sizeof characters - 1)
        *at = characters[bits % (sizeof characters - 1)];
}

/* Creates an empty file or directory with the permissions that the process gives to what it makes.
 * (mkstemp and mkdtemp give fewer, and the mask that is to be applied to more cannot be asked for
 * without changing it for a moment, in all threads.) False with errno set if that is not possible.
 */
static bool create_temporary(char *name, bool directory)
{
    enum { ATTEMPTS = 100 };
    for (int i = 0; i < ATTEMPTS; i++) {
        vary_name(name);
        int made = directory ? mkdir(name, 0777)
                             : open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (made >= 0) {
            if (!directory)
                close(made);
            return true;
        }
        if (errno != EEXIST)
            return false;
    }
    return false;
}

static pal_status stage_begin(staged_output *stage, const char *final, bool directory)
{
    *stage = (staged_output){.final = path_final(final)};
    char *parent = stage->final ? path_parent(stage->final) : NULL;
    if (parent) {
        const char *slash = strrchr(stage->final, '/');
        const char *name = slash ? slash + 1 : stage->final;
        size_t room = strlen(parent) + strlen(name) + 16;
        stage->temporary = mem_array(room, 1);
        if (stage->temporary)
            snprintf(stage->temporary, room, "%s/.%s.%.*s", parent, name, VARIED, "XXXXXX");
    }
    free(parent);
    if (!stage->temporary) {
        free(stage->final);
        *stage = (staged_output){0};
        return fail_memory("preparing the output");
    }
    if (!create_temporary(stage->temporary, directory)) {
        pal_status status = fail(PAL_ERROR_IO, "%s: cannot create: %s", final, strerror(errno));
        free(stage->final);
        free(stage->temporary);
        *stage = (staged_output){0};
        return status;
    }
    return PAL_OK;
}

pal_status stage_directory(staged_output *stage, const char *final)
{
    return stage_begin(stage, final, true);
}

pal_status stage_file(staged_output *stage, const char *final)
{
    struct stat info;
    *stage = (staged_output){0};
    if (stat(final, &info) == 0 && !S_ISREG(info.st_mode))
        return fail(PAL_ERROR_IO, "%s: exists and is not a file; not replaced", final);
    return stage_begin(stage, final, false);
}

pal_status stage_check_file(const char *final)
{
    staged_output stage;
    pal_status status = stage_file(&stage, final);
    if (!status)
        stage_abandon(&stage);
    return status;
}

pal_status stage_refuse_inside(const char *source, const char *path)
{
    char *final = path_final(path), *parent = final ? path_parent(final) : NULL;
    char *outer = realpath(source, NULL), *inner = parent ? realpath(parent, NULL) : NULL;
    const bool known = final && parent;
    const size_t n = outer ? strlen(outer) : 0;
    const bool inside =
        outer && inner && strncmp(inner, outer, n) == 0 && (inner[n] == '/' || inner[n] == 0);
    free(final);
    free(parent);
    free(outer);
    free(inner);
    if (!known)
        return fail_memory("preparing the output");
    return inside ? fail(PAL_ERROR_ARGUMENT, "%s: lies inside the input %s", path, source) : PAL_OK;
}

static pal_status sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(path, "cannot open");
    pal_status status = PAL_OK;
    if (fsync(fd) < 0 && errno != EINVAL && errno != EROFS)
        status = fail_errno(path, "cannot flush");
    close(fd);
    return status;
}

static pal_status sync_tree(const char *path);

static pal_status sync_entry(void *user, const char *name)
{
    char *path = path_join(user, name);
    if (!path)
        return fail_memory("flushing the output");
    pal_status status = sync_tree(path);
    free(path);
    return status;
}

/* Files were flushed when they were written; their directory entries are flushed here. */
static pal_status sync_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info) < 0)
        return fail_errno(path, "cannot read");
    if (!S_ISDIR(info.st_mode))
        return PAL_OK;
    pal_status status = directory_walk(path, sync_entry, (void *)path);
    return status ? status : sync_directory(path);
}

/* Atomically swaps two paths; false with errno ENOSYS or EINVAL where the system cannot. */
static bool path_exchange(const char *a, const char *b)
{
#if defined(__linux__) && defined(RENAME_EXCHANGE)
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
#elif defined(__APPLE__) && defined(RENAME_SWAP)
    return renamex_np(a, b, RENAME_SWAP) == 0;
#else
    (void)a, (void)b;
    errno = ENOSYS;
    return false;
#endif
}

/* Puts the temporary in the final place and removes what was there. A directory cannot be renamed
 * over a full one: the two are swapped, or, where the file system cannot swap, the old one steps
 * aside first, so that for an instant there is none. */
static pal_status replace(const char *temporary, const char *final)
{
    if (rename(temporary, final) == 0)
        return PAL_OK;
    if (errno != ENOTEMPTY && errno != EEXIST && errno != EISDIR && errno != ENOTDIR)
        return fail_errno(final, "cannot replace");
    if (path_exchange(temporary, final)) {
        path_remove(temporary);
        return PAL_OK;
    }
    size_t room = strlen(temporary) + 5;
    char *aside = mem_array(room, 1);
    if (!aside)
        return fail_memory("replacing the output");
    snprintf(aside, room, "%s.old", temporary);
    pal_status status = PAL_OK;
    if (rename(final, aside) < 0) {
        status = fail_errno(final, "cannot replace");
    } else if (rename(temporary, final) < 0) {
        status = fail_errno(final, "cannot replace");
        if (rename(aside, final) < 0)
            status = fail_errno(aside, "the previous output is here; cannot put it back");
    } else {
        path_remove(aside);
    }
    free(aside);
    return status;
}

pal_status stage_commit(staged_output *stage)
{
    pal_status status = sync_tree(stage->temporary);
    if (!status)
        status = replace(stage->temporary, stage->final);
    if (!status) {
        char *parent = path_parent(stage->final);
        if (parent)
            (void)sync_directory(parent); /* the rename is done; only its durability is at stake */
        free(parent);
        free(stage->temporary);
        stage->temporary = NULL;
    }
    stage_abandon(stage);
    return status;
}

void stage_abandon(staged_output *stage)
{
    if (stage->temporary)
        path_remove(stage->temporary);
    free(stage->temporary);
    free(stage->final);
    *stage = (staged_output){0};
}
