#define _GNU_SOURCE /* madvise */
#define _DARWIN_C_SOURCE
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

enum { WRITER_BUFFER = 256 * 1024, MAX_DEPTH = 32 };

pal_status fail_errno(const char *path, const char *what)
{
    return fail(PAL_ERROR_IO, "%s: %s: %s", path, what, strerror(errno));
}

/* ---------------------------------------------------------------- reading */

pal_status file_map_open(const char *path, file_map *map)
{
    *map = (file_map){0};
    /* Not to wait for whoever writes into a pipe, before it is seen that it is one. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(path, "cannot open");
    pal_status status = PAL_OK;
    struct stat info;
    if (fstat(fd, &info) < 0) {
        status = fail_errno(path, "cannot read");
    } else if (!S_ISREG(info.st_mode)) {
        status = fail(PAL_ERROR_IO, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = fail_errno(path, "cannot map");
        } else {
            map->data = data;
            map->size = (size_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

void file_map_close(file_map *map)
{
    if (map->data)
        munmap((void *)map->data, map->size);
    *map = (file_map){0};
}

void file_map_discard(const file_map *map, const void *begin, size_t size)
{
#ifdef MADV_DONTNEED
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)begin + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)begin + size) / page * page;
    if (map->data && from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
#else
    (void)map, (void)begin, (void)size;
#endif
}

void file_map_discard_around(const file_map *map, const void *begin, size_t size)
{
    enum { AROUND = 1 << 16 }; /* what Linux maps at a fault, aligned to as much */
    const uintptr_t start = (uintptr_t)map->data, end = start + map->size;
    uintptr_t from = (uintptr_t)begin, to = from + size;
    if (!map->data || from < start || to > end)
        return;
    from -= from % AROUND;
    to += AROUND - 1 - (to + AROUND - 1) % AROUND;
    from = from < start ? start : from;
    to = to > end ? end : to;
    file_map_discard(map, (const void *)from, to - from);
}

void file_pages_release(const void *begin, size_t size)
{
#ifdef MADV_PAGEOUT
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)begin + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)begin + size) / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_PAGEOUT);
#else
    (void)begin, (void)size;
#endif
}

/* ---------------------------------------------------------------- paths */

char *path_join(const char *directory, const char *name)
{
    size_t n = strlen(directory), m = strlen(name);
    char *path = mem_array(n + m + 2, 1);
    if (!path)
        return NULL;
    memcpy(path, directory, n);
    if (n && path[n - 1] != '/')
        path[n++] = '/';
    memcpy(path + n, name, m + 1);
    return path;
}

char *path_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("");
    char *beside = directory ? path_join(directory, name) : NULL;
    free(directory);
    return beside;
}

bool path_is_inside(const char *relative)
{
    if (!*relative || *relative == '/')
        return false;
    for (const char *part = relative; *part;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.'))))
            return false;
        part += length;
        part += *part == '/';
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

pal_status directory_walk(const char *path, entry_visit visit, void *user)
{
    char **names = NULL;
    size_t count = 0, capacity = 0;
    pal_status status = PAL_OK;
    DIR *directory = opendir(path);
    if (!directory)
        return fail_errno(path, "cannot read the directory");
    for (struct dirent *entry; !status && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *name = strdup(entry->d_name);
        if (!name || !mem_grow((void **)&names, &capacity, count + 1, sizeof *names)) {
            free(name);
            status = fail_memory("reading a directory");
        } else {
            names[count++] = name;
        }
    }
    closedir(directory);
    if (count)
        qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        if (!status)
            status = visit(user, names[i]);
        free(names[i]);
    }
    free(names);
    return status;
}

bool directory_is_empty(const char *path)
{
    size_t entries = 0;
    DIR *directory = opendir(path);
    if (!directory)
        return false;
    while (entries <= 2 && readdir(directory)) /* "." and ".." are always there */
        entries++;
    closedir(directory);
    return entries <= 2;
}

typedef struct byte_count {
    const char *path;
    uint64_t *bytes;
    int depth;
} byte_count;

static pal_status count_path(const char *path, uint64_t *bytes, int depth);

static pal_status count_entry(void *user, const char *name)
{
    const byte_count *count = user;
    char *path = path_join(count->path, name);
    if (!path)
        return fail_memory("reading a directory");
    pal_status status = count_path(path, count->bytes, count->depth + 1);
    free(path);
    return status;
}

static pal_status count_path(const char *path, uint64_t *bytes, int depth)
{
    struct stat info;
    if (lstat(path, &info) < 0)
        return fail_errno(path, "cannot read");
    const bool link = S_ISLNK(info.st_mode);
    if (link && stat(path, &info) < 0)
        return PAL_OK; /* it leads nowhere */
    if (S_ISREG(info.st_mode))
        *bytes += (uint64_t)info.st_size;
    else if (S_ISDIR(info.st_mode) && depth < MAX_DEPTH && (!link || depth == 0))
        return directory_walk(path, count_entry, &(byte_count){path, bytes, depth});
    return PAL_OK;
}

pal_status path_total_bytes(const char *path, uint64_t *bytes)
{
    *bytes = 0;
    return count_path(path, bytes, 0);
}

/* ---------------------------------------------------------------- writing */

pal_status writer_open(file_writer *writer, const char *path)
{
    *writer = (file_writer){.fd = -1};
    writer->path = strdup(path);
    writer->buffer = mem_array(WRITER_BUFFER, 1);
    if (!writer->path || !writer->buffer) {
        free(writer->path);
        free(writer->buffer);
        return fail_memory("opening an output file");
    }
    writer->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0) {
        pal_status status = fail_errno(path, "cannot create");
        free(writer->path);
        free(writer->buffer);
        return status;
    }
    return PAL_OK;
}

static void write_all(file_writer *writer, const unsigned char *data, size_t size)
{
    while (size && !writer->error) {
        ssize_t n = write(writer->fd, data, size < INT_MAX ? size : INT_MAX);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            writer->error = errno;
        } else if (n == 0) {
            writer->error = ENOSPC;
        }
    }
}

static void writer_flush(file_writer *writer)
{
    write_all(writer, writer->buffer, writer->used);
    writer->used = 0;
}

void writer_write(file_writer *writer, const void *data, size_t size)
{
    writer->position += size;
    if (size > WRITER_BUFFER - writer->used)
        writer_flush(writer);
    if (size > WRITER_BUFFER) {
        write_all(writer, data, size);
    } else if (size) {
        memcpy(writer->buffer + writer->used, data, size);
        writer->used += size;
    }
}

void writer_align(file_writer *writer, size_t alignment)
{
    static const unsigned char zeros[64];
    size_t missing = (alignment - writer->position % alignment) % alignment;
    for (size_t n; missing; missing -= n) {
        n = missing < sizeof zeros ? missing : sizeof zeros;
        writer_write(writer, zeros, n);
    }
}

void writer_patch(file_writer *writer, uint64_t position, const void *data, size_t size)
{
    writer_flush(writer);
    if (!writer->error && pwrite(writer->fd, data, size, (off_t)position) != (ssize_t)size)
        writer->error = errno ? errno : ENOSPC;
}

pal_status writer_close(file_writer *writer)
{
    writer_flush(writer);
    if (!writer->error && fsync(writer->fd) < 0 && errno != EINVAL && errno != EROFS)
        writer->error = errno;
    if (close(writer->fd) < 0 && !writer->error)
        writer->error = errno;
    pal_status status = PAL_OK;
    if (writer->error) {
        errno = writer->error;
        status = fail_errno(writer->path, "cannot write");
    }
    free(writer->path);
    free(writer->buffer);
    *writer = (file_writer){.fd = -1};
    return status;
}

/* ---------------------------------------------------------------- copying and removing */

static pal_status copy_file(const char *from, const char *to)
{
    file_map map;
    pal_status status = file_map_open(from, &map);
    if (status)
        return status;
    file_writer writer;
    status = writer_open(&writer, to);
    if (!status) {
        for (size_t done = 0; done < map.size;) {
            size_t n = map.size - done < (1u << 22) ? map.size - done : (1u << 22);
            writer_write(&writer, map.data + done, n);
            file_map_discard(&map, map.data + done, n);
            done += n;
        }
        status = writer_close(&writer);
    }
    file_map_close(&map);
    return status;
}

static pal_status copy_link(const char *from, const char *to)
{
    char target[PATH_MAX];
    ssize_t n = readlink(from, target, sizeof target - 1);
    if (n < 0)
        return fail_errno(from, "cannot read the link");
    target[n] = 0;
    return symlink(target, to) < 0 ? fail_errno(to, "cannot create") : PAL_OK;
}

typedef struct copy_walk {
    const char *from, *to;
    const char *relative; /* of `from` to the root; "" for the root */
    copy_skip skip;
    void *user;
    int depth;
} copy_walk;

static pal_status copy_path(const copy_walk *walk);

static pal_status copy_entry(void *user, const char *name)
{
    const copy_walk *above = user;
    copy_walk walk = *above;
    char *from = path_join(above->from, name), *to = path_join(above->to, name);
    char *relative = path_join(above->relative, name);
    pal_status status = PAL_OK;
    if (!from || !to || !relative) {
        status = fail_memory("copying a package");
    } else {
        walk.from = from;
        walk.to = to;
        walk.relative = relative;
        walk.depth++;
        status = copy_path(&walk);
    }
    free(from);
    free(to);
    free(relative);
    return status;
}

static pal_status copy_path(const copy_walk *walk)
{
    if (*walk->relative && walk->skip && walk->skip(walk->user, walk->relative))
        return PAL_OK;
    struct stat info, target;
    if (lstat(walk->from, &info) < 0)
        return fail_errno(walk->from, "cannot read");
    if (S_ISLNK(info.st_mode) && *walk->relative) {
        /* A link to a file is followed, because it may not lead there from another place. One to a
         * directory is refused: what is written below it would end up outside of the copy. */
        if (stat(walk->from, &target) < 0 || !(S_ISREG(target.st_mode) || S_ISDIR(target.st_mode)))
            return copy_link(walk->from, walk->to);
        if (S_ISDIR(target.st_mode))
            return fail(PAL_ERROR_UNSUPPORTED, "%s: a link to a directory", walk->from);
        info = target;
    }
    if (S_ISREG(info.st_mode))
        return copy_file(walk->from, walk->to);
    if (!S_ISDIR(info.st_mode) && !S_ISLNK(info.st_mode))
        return fail(PAL_ERROR_UNSUPPORTED, "%s: neither a file nor a directory", walk->from);
    if (walk->depth >= MAX_DEPTH)
        return fail(PAL_ERROR_FORMAT, "%s: directories nested too deeply", walk->from);
    if (mkdir(walk->to, 0777) < 0 && errno != EEXIST)
        return fail_errno(walk->to, "cannot create");
    return directory_walk(walk->from, copy_entry, (void *)walk);
}

pal_status path_copy(const char *from, const char *to, copy_skip skip, void *user)
{
    return copy_path(&(copy_walk){from, to, "", skip, user, 0});
}

/* Allocates as little as it can, because this also runs when memory is short. */
static void remove_at(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0)
        return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    DIR *directory = fdopendir(fd);
    if (directory) {
        for (struct dirent *entry; (entry = readdir(directory));)
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                remove_at(fd, entry->d_name);
        closedir(directory);
    } else {
        close(fd);
    }
    unlinkat(parent, name, AT_REMOVEDIR);
}

void path_remove(const char *path)
{
    remove_at(AT_FDCWD, path);
}
