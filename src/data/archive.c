/* Archives, by libarchive. */
#include <archive.h>
#include <archive_entry.h>

#include <stdlib.h>
#include <string.h>

#include "base/scratch.h"
#include "data/file_list.h"
#include "data/gzip.h"

enum {
    BLOCK = 16 << 20,
    UNPACKED = 256 << 10, /* read at once of what gzip packs */
};

static pal_status failure(const char *path, struct archive *in)
{
    const char *why = archive_error_string(in);
    return fail(PAL_ERROR_FORMAT, "%s: %s", path, why ? why : "damaged");
}

/* ---------------------------------------------------------------- content */

static bool is_mapped(const file_list *list, const void *data, size_t size)
{
    const uintptr_t begin = (uintptr_t)list->map.data, at = (uintptr_t)data;
    return at >= begin && at - begin <= list->map.size && size <= list->map.size - (at - begin);
}

/* Room for the content of a file that has to be unpacked, in blocks that many small ones share. */
static unsigned char *make_room(file_list *list, size_t size)
{
    if (size > list->room_size) {
        const size_t fresh = size > BLOCK ? size : BLOCK;
        if (!mem_grow((void **)&list->blocks, &list->block_capacity, list->block_count + 1,
                      sizeof *list->blocks))
            return NULL;
        unsigned char *block = scratch_zeroed(fresh, 1);
        if (!block)
            return NULL;
        list->blocks[list->block_count++] = block;
        if (size > BLOCK) /* its own; the room that was there stays */
            return block;
        list->room = block;
        list->room_size = fresh;
    }
    unsigned char *room = list->room;
    list->room += size;
    list->room_size -= size;
    return room;
}

/* One block that lies in the mapped archive and is all of the file is left there. */
static pal_status take_content(const char *path, struct archive *in, file_list *list, uint64_t size,
                               file_entry *entry)
{
    const void *data;
    size_t length;
    la_int64_t offset;
    uint64_t done = 0;
    unsigned char *copy = NULL;
    int code;
    while ((code = archive_read_data_block(in, &data, &length, &offset)) == ARCHIVE_OK) {
        if (!length)
            continue;
        if (offset < 0 || (uint64_t)offset < done || (uint64_t)offset > size ||
            length > size - (uint64_t)offset)
            return fail(PAL_ERROR_FORMAT, "%s: %s: more content than its size says", path,
                        entry->name);
        if (!copy && !done && length == size && is_mapped(list, data, length)) {
            entry->data = data;
        } else {
            if (!copy) {
                if (size > list->unpacked_max - list->unpacked)
                    return fail(PAL_ERROR_FORMAT, "%s: %s: its size cannot be true", path,
                                entry->name);
                list->unpacked += size;
                copy = make_room(list, (size_t)size);
                if (!copy)
                    return fail_memory("unpacking an archive");
                entry->data = copy;
            }
            memcpy(copy + offset, data, length);
        }
        done = (uint64_t)offset + length;
    }
    if (code != ARCHIVE_EOF)
        return fail_context(failure(entry->name, in), "%s", path);
    if (done != size)
        return fail(PAL_ERROR_FORMAT, "%s: %s: less content than its size says", path, entry->name);
    if (!size)
        entry->data = (const unsigned char *)"";
    entry->size = (size_t)size;
    return PAL_OK;
}

/* ---------------------------------------------------------------- entries */

/* The entry's path in its usual spelling, to be freed: no "./" before it, no "/" at either end.
 * *hidden: a part of it is. */
static pal_status entry_name(const char *path, struct archive_entry *entry, char **out,
                             bool *hidden)
{
    const char *text = archive_entry_pathname(entry);
    if (!text) /* not to be said in this locale */
        text = archive_entry_pathname_utf8(entry);
    if (!text)
        return fail(PAL_ERROR_FORMAT, "%s: an entry without a readable name", path);
    char *name = mem_array(strlen(text) + 1, 1);
    if (!name)
        return fail_memory("listing files");
    char *to = name;
    *hidden = false;
    for (size_t length; *text; text += length) {
        length = strcspn(text, "/");
        if (length == 2 && memcmp(text, "..", 2) == 0) {
            free(name);
            return fail(PAL_ERROR_UNSUPPORTED, "%s: an entry that lies outside: %s", path,
                        archive_entry_pathname(entry));
        }
        if (length && !(length == 1 && *text == '.')) {
            if (to > name)
                *to++ = '/';
            char *part = to;
            memcpy(to, text, length);
            to += length;
            *to = 0;
            *hidden |= file_is_hidden(part);
        }
        text += text[length] == '/';
    }
    *to = 0;
    *out = name;
    return PAL_OK;
}

static pal_status add_entry(const char *path, struct archive *in, struct archive_entry *from,
                            archive_wanted wanted, void *user, file_list *list)
{
    const bool directory = archive_entry_filetype(from) == AE_IFDIR;
    bool hidden = false;
    char *name = NULL;
    pal_status status = entry_name(path, from, &name, &hidden);
    if (status)
        return status;
    if (*name && !hidden)
        status = file_list_add(list, name, directory);
    if (!status && *name && !hidden && !directory && wanted(user, name)) {
        file_entry *entry = &list->entries[list->count - 1];
        if (archive_entry_filetype(from) != AE_IFREG || archive_entry_hardlink(from))
            status = fail(PAL_ERROR_UNSUPPORTED, "%s: %s: a link in an archive", path, name);
        else if (!archive_entry_size_is_set(from) || archive_entry_size(from) < 0)
            status =
                fail(PAL_ERROR_UNSUPPORTED, "%s: %s: its size is not told beforehand", path, name);
        else
            status = take_content(path, in, list, (uint64_t)archive_entry_size(from), entry);
    }
    free(name);
    return status;
}

static pal_status list_entries(const char *path, struct archive *in, archive_wanted wanted,
                               void *user, file_list *list)
{
    for (;;) {
        struct archive_entry *entry;
        int code = archive_read_next_header(in, &entry);
        if (code == ARCHIVE_EOF)
            return PAL_OK;
        if (code != ARCHIVE_OK && code != ARCHIVE_WARN) /* a warning: of owners, times, charsets */
            return failure(path, in);
        pal_status status = add_entry(path, in, entry, wanted, user, list);
        if (status)
            return status;
    }
}

/* ---------------------------------------------------------------- gzip around a tar */

typedef struct unpacker {
    gzip_reader *gzip;
    pal_status status; /* of the last reading */
    unsigned char buffer[UNPACKED];
} unpacker;

/* For libarchive. */
static la_ssize_t unpack(struct archive *in, void *user, const void **data)
{
    unpacker *from = user;
    size_t size;
    from->status = gzip_read(from->gzip, from->buffer, UNPACKED, &size);
    *data = from->buffer;
    if (!from->status)
        return (la_ssize_t)size;
    archive_set_error(in, -1, "%s", pal_error_message());
    return -1;
}

/* A tar ends before its file does; the checksum is at the file's. */
static pal_status unpack_rest(unpacker *from)
{
    size_t size = UNPACKED;
    while (!from->status && size == UNPACKED)
        from->status = gzip_read(from->gzip, from->buffer, UNPACKED, &size);
    return from->status;
}

static pal_status list_packed(const char *path, struct archive *in, archive_wanted wanted,
                              void *user, file_list *list)
{
    unpacker *from = mem_zeroed(1, sizeof *from);
    if (!from)
        return fail_memory("unpacking an archive");
    pal_status status = gzip_open(&list->map, &from->gzip);
    if (!status) {
        status = archive_read_open(in, from, NULL, unpack, NULL) == ARCHIVE_OK
                     ? list_entries(path, in, wanted, user, list)
                     : failure(path, in);
        if (!status && (status = unpack_rest(from)))
            fail_context(status, "%s", path);
        else if (from->status) /* libarchive hands on the message, but not of what kind it is */
            status = from->status;
        archive_read_close(in); /* it must not use `from` from here on */
    }
    gzip_close(from->gzip);
    free(from);
    return status;
}

/* ---------------------------------------------------------------- opening */

/* Blocks of zeros end a tar. libarchive does not ask for them, and so takes one that was cut off
 * between two entries for whole. */
static bool ends_in_zeros(const file_map *map)
{
    static const unsigned char zeros[512];
    return map->size >= sizeof zeros &&
           memcmp((const unsigned char *)map->data + map->size - sizeof zeros, zeros,
                  sizeof zeros) == 0;
}

static pal_status list_plain(const char *path, struct archive *in, archive_kind kind,
                             archive_wanted wanted, void *user, file_list *list)
{
    if (archive_read_open_memory(in, list->map.data, list->map.size) != ARCHIVE_OK)
        return failure(path, in);
    pal_status status = list_entries(path, in, wanted, user, list);
    if (!status && kind == ARCHIVE_TAR && !ends_in_zeros(&list->map))
        status = fail(PAL_ERROR_FORMAT, "%s: its end is missing", path);
    return status;
}

pal_status list_archive(const char *path, archive_kind kind, archive_wanted wanted, void *user,
                        file_list *out)
{
    *out = (file_list){0};
    arena_init(&out->names, SIZE_MAX / 2);
    pal_status status = file_map_open(path, &out->map);
    if (status)
        return status;
    out->unpacked_max = gzip_limit(out->map.size);
    struct archive *in = archive_read_new();
    if (!in) {
        status = fail_memory("opening an archive");
    } else {
        if (kind == ARCHIVE_ZIP)
            archive_read_support_format_zip_seekable(in);
        else
            archive_read_support_format_tar(in);
        status = kind == ARCHIVE_TAR && is_gzip(&out->map)
                     ? list_packed(path, in, wanted, user, out)
                     : list_plain(path, in, kind, wanted, user, out);
        archive_read_free(in);
    }
    file_map_discard(&out->map, out->map.data, out->map.size);
    if (status)
        file_list_free(out);
    return status;
}
