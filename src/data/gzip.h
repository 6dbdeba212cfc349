/* gzip (RFC 1952), by zlib: unlike libarchive it checks the checksums. */
#ifndef PAL_DATA_GZIP_H
#define PAL_DATA_GZIP_H

#include "base/file.h"

typedef struct gzip_reader gzip_reader;

/* Whether a file begins as gzip does. */
bool is_gzip(const file_map *map);
/* The most bytes that a file of this size can hold. */
uint64_t gzip_limit(size_t size);

/* Reads a file of gzip, which may have several members. The map must outlive the reader; messages
 * do not name the file. */
pal_status gzip_open(const file_map *map, gzip_reader **out);
/* The next bytes; *done is less than `capacity` only at the end, where all checksums were right. */
pal_status gzip_read(gzip_reader *reader, void *out, size_t capacity, size_t *done);
/* Accepts NULL. */
void gzip_close(gzip_reader *reader);

#endif
