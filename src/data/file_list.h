/* The files of a folder or an archive. */
#ifndef PAL_DATA_FILE_LIST_H
#define PAL_DATA_FILE_LIST_H

#include "base/file.h"
#include "base/memory.h"

typedef struct file_entry {
    const char *name; /* relative to the root, parts separated by "/", none at the end */
    bool directory;
    size_t order; /* in which it was found */
    /* The content, of archives only; NULL where it was not wanted. Not aligned. */
    const unsigned char *data;
    size_t size;
} file_entry;

typedef struct file_list {
    file_entry *entries;
    size_t count, capacity;
    mem_arena names;
    /* Archives: */
    file_map map;  /* what lies there unpacked is used in place */
    void **blocks; /* what was unpacked */
    size_t block_count, block_capacity;
    unsigned char *room; /* what is left of the last block */
    size_t room_size;
    uint64_t unpacked, unpacked_max;
} file_list;

/* Everything below a folder but hidden files (".*") and those of macOS's archives ("__MACOSX"), in
 * no order to rely on. */
pal_status list_folder(const char *path, file_list *out);

typedef enum archive_kind {
    ARCHIVE_TAR, /* gzip is seen through */
    ARCHIVE_ZIP,
} archive_kind;

/* The same for an archive, whose order is kept. Of the files that are `wanted` the content is at
 * hand. What is stored plainly is found in the mapped archive itself, so that opening a large tar
 * reads only its headers. */
typedef bool (*archive_wanted)(void *user, const char *name);
pal_status list_archive(const char *path, archive_kind kind, archive_wanted wanted, void *user,
                        file_list *out);

/* Accepts one that was zeroed. */
void file_list_free(file_list *list);

/* ---------------------------------------------------------------- for the listers */

pal_status file_list_add(file_list *list, const char *name, bool directory);
/* Whether a file of this name, without its folders, is passed over. */
bool file_is_hidden(const char *name);

#endif
