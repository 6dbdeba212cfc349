/* Files: mapped for reading, buffered for writing, and published as a whole.
 *
 * Output is staged: it is written under a temporary name beside its destination, flushed to disk
 * and renamed. Whoever looks at the destination sees the old file, or none, or the complete new
 * one; a run that is killed leaves at most the hidden temporary behind. */
#ifndef PAL_BASE_FILE_H
#define PAL_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A file mapped read-only. `data` is NULL when size is 0. */
typedef struct file_map {
    const unsigned char *data;
    size_t size;
} file_map;

pal_status file_map_open(const char *path, file_map *map);
void file_map_close(file_map *map);
/* Tells the system that a part of the mapping is not needed soon, so that it stops counting as
 * resident. The content stays readable. */
void file_map_discard(const file_map *map, const void *begin, size_t size);
/* The same for what lies around memory that has been read, as systems map more than was asked for;
 * nothing where the memory is not the map's. */
void file_map_discard_around(const file_map *map, const void *begin, size_t size);
/* The same where it is not known whether the memory is a file's: what else it may be keeps its
 * content. The system may ignore it. */
void file_pages_release(const void *begin, size_t size);

/* "directory/name" in fresh memory; NULL when out of memory. */
char *path_join(const char *directory, const char *name);
/* The same for the directory that holds the file `path`. */
char *path_beside(const char *path, const char *name);
/* Whether a path taken from a file stays inside the directory it is joined to and is the
 * only spelling of its place: relative, without "..", "." or empty parts. */
bool path_is_inside(const char *relative);
/* Size of all regular files at and below path. */
pal_status path_total_bytes(const char *path, uint64_t *bytes);

/* Fails with what the operating system said: "<path>: <what>: <strerror(errno)>". */
pal_status fail_errno(const char *path, const char *what);

/* Calls visit for every entry of a directory in the order of names, so that a walk does not depend
 * on the file system. Stops at the first failure. */
typedef pal_status (*entry_visit)(void *user, const char *name);
pal_status directory_walk(const char *path, entry_visit visit, void *user);
/* Whether it is a directory that can be read and holds nothing. */
bool directory_is_empty(const char *path);

/* A buffered output file. The first failure sticks: later writes do nothing, writer_close() reports
 * it. */
typedef struct file_writer {
    int fd;
    char *path;
    unsigned char *buffer;
    size_t used;
    uint64_t position; /* bytes written so far, buffered ones included */
    int error;         /* errno of the first failure */
} file_writer;

pal_status writer_open(file_writer *writer, const char *path);
void writer_write(file_writer *writer, const void *data, size_t size);
/* Zero bytes up to the next multiple of `alignment`. */
void writer_align(file_writer *writer, size_t alignment);
/* Overwrites bytes already written, at an absolute position. */
void writer_patch(file_writer *writer, uint64_t position, const void *data, size_t size);
/* Flushes to disk and closes. Call it exactly once after a successful writer_open(). */
pal_status writer_close(file_writer *writer);

/* Copies a file, or everything below a directory, following `skip`, which is asked with the path
 * relative to the root and may be NULL. Links to files are followed; links to directories are
 * refused. */
typedef bool (*copy_skip)(void *user, const char *relative);
pal_status path_copy(const char *from, const char *to, copy_skip skip, void *user);

/* Removes a file, or a directory and all below it. Errors are ignored. */
void path_remove(const char *path);

/* ---------------------------------------------------------------- stage.c */

/* An output on its way: write to `temporary` (an existing empty directory or file, with the
 * permissions that the process gives to what it creates), then commit or abandon. */
typedef struct staged_output {
    char *final, *temporary;
} staged_output;

/* Where an output of this path ends up: without slashes at the end; what it points to, if it is a
 * link. In fresh memory; NULL when out of memory. Staging does this by itself. */
char *path_final(const char *path);
/* PAL_ERROR_ARGUMENT if an output of this path would lie inside the directory `source`, which it is
 * made of: it would be part of its own copy. */
pal_status stage_refuse_inside(const char *source, const char *path);

pal_status stage_directory(staged_output *stage, const char *final);
/* Refuses to replace what is no regular file. */
pal_status stage_file(staged_output *stage, const char *final);
/* Whether stage_file() would begin, found out by trying: nothing is left. For outputs of long work,
 * before it. */
pal_status stage_check_file(const char *final);
/* Flushes directories and renames. On failure the destination is as it was and the temporary is
 * removed. Either way the stage is over. */
pal_status stage_commit(staged_output *stage);
void stage_abandon(staged_output *stage);

#endif
