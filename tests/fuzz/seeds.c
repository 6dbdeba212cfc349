/* Seeds of the fuzzer: packages in memory, each with a copy in the scratch folder. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

void bytes_replace(bytes *b, size_t at, size_t removed, const void *with, size_t n)
{
    if (at > b->size || removed > b->size - at || b->size - removed + n > MAX_FILE)
        return;
    size_t size = b->size - removed + n;
    if (size > b->capacity) {
        size_t capacity = size + size / 2 + 64;
        unsigned char *larger = realloc(b->data, capacity);
        if (!larger)
            abort();
        b->data = larger;
        b->capacity = capacity;
    }
    if (b->size > at + removed)
        memmove(b->data + at + n, b->data + at + removed, b->size - at - removed);
    if (n)
        memcpy(b->data + at, with, n);
    b->size = size;
}

void bytes_copy(bytes *to, const bytes *from)
{
    bytes_replace(to, 0, to->size, from->data, from->size);
}

char *join(const char *directory, const char *name)
{
    size_t room = strlen(directory) + strlen(name) + 2;
    char *path = malloc(room);
    if (!path)
        abort();
    snprintf(path, room, "%s/%s", directory, name);
    return path;
}

/* ---------------------------------------------------------------- files */

static bool read_whole(const char *path, bytes *out)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, &info) == 0 && info.st_size <= MAX_FILE;
    if (ok) {
        size_t size = (size_t)info.st_size;
        out->data = malloc(size + 1);
        out->capacity = size;
        ok = out->data && read(fd, out->data, size) == (ssize_t)size;
        out->size = size;
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

/* In one write where it may: the file is not truncated first if it keeps its size. */
static bool write_whole(const char *path, const bytes *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && (b->size == 0 || write(fd, b->data, b->size) == (ssize_t)b->size) &&
              ftruncate(fd, (off_t)b->size) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok)
        fprintf(stderr, "fuzz_packages: %s: %s\n", path, strerror(errno));
    return ok;
}

void remove_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info) < 0)
        return;
    if (!S_ISDIR(info.st_mode)) {
        unlink(path);
        return;
    }
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *below = join(path, entry->d_name);
        remove_tree(below);
        free(below);
    }
    if (directory)
        closedir(directory);
    rmdir(path);
}

bool copy_tree(const char *from, const char *to)
{
    struct stat info;
    bool ok = stat(from, &info) == 0;
    if (ok && S_ISREG(info.st_mode)) {
        bytes content = {0};
        ok = read_whole(from, &content) && write_whole(to, &content);
        free(content.data);
    } else if (ok && S_ISDIR(info.st_mode)) {
        DIR *directory = opendir(from);
        ok = directory && (mkdir(to, 0777) == 0 || errno == EEXIST);
        for (struct dirent *entry; ok && (entry = readdir(directory));) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            char *source = join(from, entry->d_name), *target = join(to, entry->d_name);
            ok = copy_tree(source, target);
            free(source);
            free(target);
        }
        if (directory)
            closedir(directory);
    }
    return ok;
}

/* ---------------------------------------------------------------- one seed */

static bool has_suffix(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* Reads the files below `relative` of the package at `from`. */
static bool load_files(seed *seed, const char *from, const char *relative)
{
    char *path = *relative ? join(from, relative) : strdup(from);
    DIR *directory = opendir(path);
    bool ok = directory != NULL;
    for (struct dirent *entry; ok && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        struct stat info;
        char *below = *relative ? join(relative, entry->d_name) : strdup(entry->d_name);
        char *source = join(from, below);
        ok = stat(source, &info) == 0;
        if (ok && S_ISDIR(info.st_mode)) {
            ok = load_files(seed, from, below);
        } else if (ok && seed->file_count < MAX_SEED_FILES) {
            seed_file *file = &seed->files[seed->file_count++];
            *file = (seed_file){.relative = strdup(below), .path = join(seed->path, below)};
            file->kind = has_suffix(below, "Manifest.json") ? FILE_MANIFEST
                         : has_suffix(below, ".mlmodel")    ? FILE_MODEL
                                                            : FILE_WEIGHTS;
            ok = info.st_size <= LARGEST_SEED && read_whole(source, &file->original);
            seed->bytes += file->original.size;
        }
        free(below);
        free(source);
    }
    if (directory)
        closedir(directory);
    free(path);
    return ok;
}

static void seed_free(seed *seed)
{
    for (size_t i = 0; i < seed->file_count; i++) {
        free(seed->files[i].relative);
        free(seed->files[i].path);
        free(seed->files[i].original.data);
        free(seed->files[i].mutated.data);
    }
    free(seed->name);
    free(seed->path);
}

static bool add_package(corpus *corpus, const char *path, const char *scratch)
{
    char folder[32];
    const char *slash = strrchr(path, '/');
    seed seed = {.name = strdup(slash ? slash + 1 : path)};
    snprintf(folder, sizeof folder, "seed-%zu.mlpackage", corpus->count);
    seed.path = join(scratch, folder);
    if (!load_files(&seed, path, "") || seed.bytes > LARGEST_SEED) {
        fprintf(stderr, "fuzz_packages: %s: left out: unreadable or too large\n", path);
        seed_free(&seed);
        return true;
    }
    corpus->seeds = realloc(corpus->seeds, (corpus->count + 1) * sizeof *corpus->seeds);
    if (!corpus->seeds)
        abort();
    corpus->seeds[corpus->count++] = seed;
    return copy_tree(path, seed.path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool corpus_add(corpus *corpus, const char *path, const char *scratch)
{
    char *manifest = join(path, "Manifest.json");
    bool is_package = access(manifest, R_OK) == 0;
    free(manifest);
    if (is_package)
        return add_package(corpus, path, scratch);
    char *names[256];
    size_t count = 0;
    DIR *directory = opendir(path);
    if (!directory) {
        fprintf(stderr, "fuzz_packages: %s: %s\n", path, strerror(errno));
        return false;
    }
    for (struct dirent *entry; count < 256 && (entry = readdir(directory));)
        if (has_suffix(entry->d_name, ".mlpackage"))
            names[count++] = join(path, entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        ok = ok && add_package(corpus, names[i], scratch);
        free(names[i]);
    }
    return ok;
}

static int small_first(const void *a, const void *b)
{
    const seed *x = a, *y = b;
    bool large_x = x->bytes > SMALL_SEED, large_y = y->bytes > SMALL_SEED;
    return large_x != large_y ? large_x - large_y : strcmp(x->name, y->name);
}

void corpus_sort(corpus *corpus)
{
    if (corpus->count)
        qsort(corpus->seeds, corpus->count, sizeof *corpus->seeds, small_first);
    for (size_t i = 0; i < corpus->count; i++)
        corpus->small += corpus->seeds[i].bytes <= SMALL_SEED;
}

void corpus_free(corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        seed_free(&corpus->seeds[i]);
    free(corpus->seeds);
}

const seed_file *seed_file_of(const seed *seed, enum file_kind kind)
{
    for (size_t i = 0; i < seed->file_count; i++)
        if (seed->files[i].kind == kind)
            return &seed->files[i];
    return NULL;
}

bool seed_write(seed *seed)
{
    bool ok = true;
    for (size_t i = 0; ok && i < seed->file_count; i++) {
        if (seed->files[i].removed)
            ok = unlink(seed->files[i].path) == 0;
        else if (seed->files[i].changed)
            ok = write_whole(seed->files[i].path, &seed->files[i].mutated);
    }
    return ok;
}

bool seed_restore(seed *seed)
{
    bool ok = true;
    for (size_t i = 0; ok && i < seed->file_count; i++) {
        seed_file *file = &seed->files[i];
        if (file->removed || file->changed)
            ok = write_whole(file->path, &file->original);
        file->removed = file->changed = false;
    }
    return ok;
}

size_t seed_size(const seed *seed)
{
    size_t size = 0;
    for (size_t i = 0; i < seed->file_count; i++)
        size += seed->files[i].changed ? seed->files[i].mutated.size : seed->files[i].original.size;
    return size;
}
