/* Seeds of the fuzzer: inputs in memory, each with a copy in the scratch folder. */
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
        fprintf(stderr, "fuzz: %s: %s\n", path, strerror(errno));
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

static enum file_kind kind_of(const char *name)
{
    static const struct {
        const char *suffix;
        enum file_kind kind;
    } kinds[] = {
        {"Manifest.json", FILE_MANIFEST},
        {".mlmodel", FILE_MLMODEL},
        {".onnx", FILE_ONNX},
        {".data", FILE_DATA},
        {".safetensors", FILE_SAFETENSORS},
        {".json", FILE_JSON},
        {".yaml", FILE_CONFIG},
        {".npy", FILE_ARRAY},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (has_suffix(name, kinds[i].suffix))
            return kinds[i].kind;
    return FILE_WEIGHTS;
}

/* Reads one file of the seed, which lies at `source`. */
static bool load_file(seed *seed, const char *source, const char *relative)
{
    struct stat info;
    seed_file *file = &seed->files[seed->file_count++];
    *file = (seed_file){.relative = strdup(relative), .path = join(seed->folder, relative)};
    file->kind = kind_of(relative);
    bool ok = stat(source, &info) == 0 && info.st_size <= LARGEST_SEED &&
              read_whole(source, &file->original);
    seed->bytes += file->original.size;
    return ok;
}

/* Reads the files below `relative` of the folder at `from`. */
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
            ok = load_file(seed, source, below);
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
    free(seed->folder);
    free(seed->path);
}

/* What makes a folder an input, and what of it the library is given; NULL: all. */
static const char *const marks[][2] = {
    {"Manifest.json", NULL},      {"model.safetensors.index.json", NULL},
    {"model.safetensors", NULL},  {"single.safetensors", "single.safetensors"},
    {"model.onnx", "model.onnx"}, {"config.yaml", "config.yaml"},
    {"array.npy", "array.npy"},
};

enum { MARKS = sizeof marks / sizeof *marks };

static size_t find_mark(const char *folder)
{
    for (size_t i = 0; i < MARKS; i++) {
        char *path = join(folder, marks[i][0]);
        bool found = access(path, R_OK) == 0;
        free(path);
        if (found)
            return i;
    }
    return MARKS;
}

/* Adds the file at `path`, or the folder, of which `opened` is what the library is given. */
static bool add_seed(corpus *corpus, const char *path, bool is_folder, const char *opened,
                     const char *scratch)
{
    char folder[300];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(folder, sizeof folder, "seed-%zu-%.250s", corpus->count, name);
    seed seed = {.name = strdup(name), .folder = join(scratch, folder)};
    if (!is_folder)
        opened = name;
    seed.path = opened ? join(seed.folder, opened) : strdup(seed.folder);
    bool ok = is_folder ? load_files(&seed, path, "") : load_file(&seed, path, name);
    if (!ok || seed.bytes > LARGEST_SEED) {
        fprintf(stderr, "fuzz: %s: left out: unreadable or too large\n", path);
        seed_free(&seed);
        return true;
    }
    corpus->seeds = realloc(corpus->seeds, (corpus->count + 1) * sizeof *corpus->seeds);
    if (!corpus->seeds)
        abort();
    corpus->seeds[corpus->count++] = seed;
    if (is_folder)
        return copy_tree(path, seed.folder);
    return mkdir(seed.folder, 0777) == 0 && copy_tree(path, seed.path);
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

bool corpus_add(corpus *corpus, const char *path, const char *scratch)
{
    struct stat info;
    struct dirent **entries;
    if (stat(path, &info) < 0) {
        fprintf(stderr, "fuzz: %s: %s\n", path, strerror(errno));
        return false;
    }
    if (!S_ISDIR(info.st_mode))
        return add_seed(corpus, path, false, NULL, scratch);
    const size_t mark = find_mark(path);
    if (mark < MARKS)
        return add_seed(corpus, path, true, marks[mark][1], scratch);
    int count = scandir(path, &entries, not_hidden, alphasort);
    bool ok = count >= 0;
    for (int i = 0; i < count; i++) {
        char *below = join(path, entries[i]->d_name);
        if (ok && stat(below, &info) == 0 && (S_ISDIR(info.st_mode) || kind_of(below) == FILE_ONNX))
            ok = corpus_add(corpus, below, scratch);
        free(below);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
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
