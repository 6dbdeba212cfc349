/* Images in a folder or a tar: which of the files are samples, and of which class. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/file_list.h"
#include "data/source.h"

/* A part of the sorted list of files: those whose names begin with `prefix`. */
typedef struct files {
    const char *path; /* for messages */
    file_entry *entries;
    size_t count;
    size_t prefix;      /* its length; it is "" or ends in "/" */
    const char *folder; /* a name that begins with it; NULL where it is "" */
} files;

typedef struct image_source {
    source base;
    char *path;
    bool tar;
    file_list list;
    files files; /* the samples, nothing else */
} image_source;

/* ---------------------------------------------------------------- names */

/* What other programs would take for a sample as well. */
static bool is_foreign_image(const char *name)
{
    static const char *const ends[] = {"bmp",  "gif",  "ppm",  "pgm",  "tif",
                                       "tiff", "webp", "avif", "heic", "jp2"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
        if (strcasecmp(dot + 1, ends[i]) == 0)
            return true;
    return false;
}

/* By bytes, "/" before all others: then what lies in a folder follows it directly, and folders come
 * in the order of their names. Of equal names the later entry of an archive comes later. */
static int by_name(const void *a, const void *b)
{
    const file_entry *first = a, *second = b;
    const unsigned char *x = (const unsigned char *)first->name;
    const unsigned char *y = (const unsigned char *)second->name;
    while (*x && *x == *y)
        x++, y++;
    if (*x == *y)
        return first->order < second->order ? -1 : 1;
    const int p = *x == '/' ? 1 : *x ? *x + 1 : 0, q = *y == '/' ? 1 : *y ? *y + 1 : 0;
    return p - q;
}

/* The name below the prefix. */
static const char *relative(const files *files, size_t i)
{
    return files->entries[i].name + files->prefix;
}

/* The length of the folder that entry i lies in or is, directly below the prefix; 0 for a file that
 * lies in none. */
static size_t top_length(const files *files, size_t i)
{
    const char *name = relative(files, i);
    const size_t length = strcspn(name, "/");
    return name[length] || files->entries[i].directory ? length : 0;
}

/* The end of the entries from `begin` on that lie in the same top folder. */
static size_t top_end(const files *files, size_t begin)
{
    const char *name = relative(files, begin);
    const size_t length = top_length(files, begin);
    size_t end = begin + 1;
    while (end < files->count && top_length(files, end) == length &&
           memcmp(relative(files, end), name, length) == 0)
        end++;
    return end;
}

static size_t count_images(const files *files, size_t begin, size_t end)
{
    size_t count = 0;
    for (size_t i = begin; i < end; i++)
        count += !files->entries[i].directory && is_image_name(files->entries[i].name);
    return count;
}

/* ---------------------------------------------------------------- splits */

static bool is_split_name(const char *name, size_t length)
{
    static const char *const names[] = {"train", "training", "test",       "testing",
                                        "val",   "valid",    "validation", "dev"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && strncasecmp(name, names[i], length) == 0)
            return true;
    return false;
}

static void list_folders(const files *files, char *out, size_t size)
{
    size_t used = 0;
    *out = 0;
    for (size_t i = 0, end; i < files->count && used < size; i = end) {
        end = top_end(files, i);
        const size_t length = top_length(files, i);
        if (length)
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? ", " : "",
                                     (int)length, relative(files, i));
    }
    if (used >= size && size > 4)
        memcpy(out + size - 4, "...", 4);
}

/* Narrows the files to those in one top folder, begin .. end. */
static void enter(files *files, size_t begin, size_t end)
{
    files->folder = files->entries[begin].name;
    files->prefix += top_length(files, begin) + 1;
    files->entries += begin;
    files->count = end - begin;
    if (files->entries[0].directory && strlen(files->entries[0].name) < files->prefix) {
        files->entries++; /* the folder itself */
        files->count--;
    }
}

static pal_status choose_split(files *files, const char *split)
{
    char folders[256];
    if (*split) {
        for (size_t i = 0, end; i < files->count; i = end) {
            end = top_end(files, i);
            if (top_length(files, i) == strlen(split) &&
                memcmp(relative(files, i), split, strlen(split)) == 0) {
                enter(files, i, end);
                return PAL_OK;
            }
        }
        list_folders(files, folders, sizeof folders);
        return fail(PAL_ERROR_ARGUMENT, "%s: no split %s; there are %s", files->path, split,
                    *folders ? folders : "no folders");
    }
    size_t splits = 0;
    for (size_t i = 0, end; i < files->count; i = end) {
        end = top_end(files, i);
        const size_t length = top_length(files, i);
        if (!is_split_name(relative(files, i), length) && (length || count_images(files, i, end)))
            return PAL_OK; /* a class, or an image */
        splits += length > 0;
    }
    if (!splits)
        return PAL_OK;
    list_folders(files, folders, sizeof folders);
    return fail(PAL_ERROR_ARGUMENT, "%s: say with --split which to take of %s", files->path,
                folders);
}

/* A tar of a folder holds the folder, rather than what is in it. */
static void skip_wrapper(files *files, const char *split)
{
    while (files->count && top_end(files, 0) == files->count) {
        const size_t length = top_length(files, 0);
        if (!length || is_split_name(relative(files, 0), length) ||
            (length == strlen(split) && memcmp(relative(files, 0), split, length) == 0))
            return;
        struct files inside = *files;
        enter(&inside, 0, files->count);
        if (!inside.count)
            return;
        *files = inside;
    }
}

/* ---------------------------------------------------------------- classes */

static pal_status refuse_foreign(const files *files)
{
    for (size_t i = 0; i < files->count; i++)
        if (!files->entries[i].directory && is_foreign_image(files->entries[i].name))
            return fail(PAL_ERROR_UNSUPPORTED, "%s: %s: only JPEG and PNG images are read",
                        files->path, files->entries[i].name);
    return PAL_OK;
}

static pal_status add_class(source *source, size_t *capacity, const char *name, size_t length)
{
    if (!mem_grow((void **)&source->class_names, capacity, source->class_count + 1,
                  sizeof *source->class_names) ||
        !(source->class_names[source->class_count] = strndup(name, length)))
        return fail_memory("listing classes");
    source->class_count++;
    return PAL_OK;
}

/* Gives each top folder's images the next class, and drops what is no image. */
static pal_status label_folders(files *files, source *source)
{
    size_t capacity = 0;
    uint64_t kept = 0;
    for (size_t i = 0, end; i < files->count; i = end) {
        end = top_end(files, i);
        const char *name = relative(files, i);
        const size_t length = top_length(files, i);
        if (!length)
            continue; /* a file that is no image */
        if (!count_images(files, i, end))
            return fail(PAL_ERROR_FORMAT, "%s: class folder %.*s holds no JPEG or PNG image",
                        files->path, (int)(files->prefix + length), files->entries[i].name);
        const int64_t label = (int64_t)source->class_count;
        pal_status status = add_class(source, &capacity, name, length);
        if (status)
            return status;
        for (; i < end; i++)
            if (!files->entries[i].directory && is_image_name(files->entries[i].name)) {
                files->entries[kept] = files->entries[i];
                source->labels[kept++] = label;
            }
    }
    files->count = kept;
    return PAL_OK;
}

static void keep_images(files *files)
{
    size_t kept = 0;
    for (size_t i = 0; i < files->count; i++)
        if (!files->entries[i].directory && is_image_name(files->entries[i].name))
            files->entries[kept++] = files->entries[i];
    files->count = kept;
}

static pal_status find_samples(files *files, source *source)
{
    const size_t images = count_images(files, 0, files->count);
    const file_entry *loose = NULL;
    size_t loose_count = 0;
    for (size_t i = 0; i < files->count; i++)
        if (!files->entries[i].directory && !top_length(files, i) &&
            is_image_name(files->entries[i].name)) {
            loose = loose ? loose : &files->entries[i];
            loose_count++;
        }
    pal_status status = refuse_foreign(files);
    if (status)
        return status;
    if (!images)
        return files->folder
                   ? fail(PAL_ERROR_FORMAT, "%s: no JPEG or PNG image in %.*s", files->path,
                          (int)files->prefix - 1, files->folder)
                   : fail(PAL_ERROR_FORMAT, "%s: no JPEG or PNG image in it", files->path);
    if (loose && loose_count < images)
        return fail(PAL_ERROR_FORMAT, "%s: an image beside folders of classes: %s", files->path,
                    loose->name);
    source->count = images;
    if (loose) {
        keep_images(files);
        return PAL_OK;
    }
    source->labels = mem_array(images, sizeof *source->labels);
    return source->labels ? label_folders(files, source) : fail_memory("listing classes");
}

/* ---------------------------------------------------------------- the source */

static pal_status file_image(const source *source, uint64_t i, image *out)
{
    const image_source *images = (const image_source *)source;
    const file_entry *entry = &images->files.entries[i];
    file_map map = {0};
    const void *data = entry->data;
    size_t size = entry->size;
    pal_status status = PAL_OK;
    if (!images->tar) {
        char *path = path_join(images->path, entry->name);
        status = path ? file_map_open(path, &map) : fail_memory("reading an image");
        free(path);
        if (status)
            return status;
        data = map.data;
        size = map.size;
    }
    status = image_decode(data, size, out);
    file_map_discard_around(&images->list.map, data, size);
    file_map_close(&map);
    return status ? source_fail(source, i, status) : PAL_OK;
}

static void file_name(const source *source, uint64_t i, char *out, size_t size)
{
    const image_source *images = (const image_source *)source;
    const size_t n = strlen(images->path);
    const char *separator = images->tar ? ": " : n && images->path[n - 1] == '/' ? "" : "/";
    snprintf(out, size, "%s%s%s", images->path, separator, images->files.entries[i].name);
}

static void file_close(source *source)
{
    image_source *images = (image_source *)source;
    file_list_free(&images->list);
    free(images->path);
}

static const source_kind image_kind = {.image = file_image, .name = file_name, .close = file_close};

/* Whether an archive's file may be a sample: an image, somewhere in the split. */
static bool is_wanted(void *user, const char *name)
{
    const char *split = user;
    if (!is_image_name(name))
        return false;
    if (!*split)
        return true;
    for (const char *part = name; *part;) {
        const size_t length = strcspn(part, "/");
        if (length == strlen(split) && memcmp(part, split, length) == 0)
            return true;
        part += length;
        part += *part == '/';
    }
    return false;
}

/* Sorts; of entries with the same name the last remains, as unpacking would leave it. */
static void sort(file_list *list)
{
    if (!list->count)
        return;
    qsort(list->entries, list->count, sizeof *list->entries, by_name);
    size_t kept = 0;
    for (size_t i = 1; i < list->count; i++) {
        kept += strcmp(list->entries[kept].name, list->entries[i].name) != 0;
        list->entries[kept] = list->entries[i];
    }
    list->count = kept + 1;
}

static pal_status open_images(image_source *images, const char *split)
{
    pal_status status = images->tar ? list_archive(images->path, ARCHIVE_TAR, is_wanted,
                                                   (void *)split, &images->list)
                                    : list_folder(images->path, &images->list);
    if (status)
        return status;
    sort(&images->list);
    files *files = &images->files;
    *files = (struct files){images->path, images->list.entries, images->list.count, 0, NULL};
    if (images->tar)
        skip_wrapper(files, split);
    status = choose_split(files, split);
    return status ? status : find_samples(files, &images->base);
}

static pal_status open_path(const char *path, const char *split, bool tar, source **out)
{
    image_source *images = mem_zeroed(1, sizeof *images);
    if (!images)
        return fail_memory("opening images");
    images->base = (source){.kind = &image_kind, .channels = 3};
    images->tar = tar;
    images->path = strdup(path);
    pal_status status = images->path ? open_images(images, split) : fail_memory("opening images");
    if (status)
        source_free(&images->base);
    else
        *out = &images->base;
    return status;
}

pal_status image_folder_open(const char *path, const char *split, source **out)
{
    return open_path(path, split, false, out);
}

pal_status image_tar_open(const char *path, const char *split, source **out)
{
    return open_path(path, split, true, out);
}
