/* Large buffers that outlive the work on them: palettes and dense values that wait to be saved.
 *
 * What is large lies in a mapped temporary file without a name, so that memory in use does not grow
 * with the model: the system can write its pages out, and scratch_release() lets them go at once.
 * The file is in $TMPDIR, else /var/tmp, else /tmp, with its space reserved beforehand. Where there
 * is no room for it, and for small buffers, this is plain memory. */
#ifndef PAL_BASE_SCRATCH_H
#define PAL_BASE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

/* `count` zeroed elements of `size` bytes, aligned for any type; NULL on overflow or failure. Never
 * NULL for a count of zero. */
void *scratch_zeroed(uint64_t count, size_t size);
/* Accepts NULL. */
void scratch_free(void *memory);
/* A hint that the content is not needed soon. It stays readable and writable. Accepts NULL. */
void scratch_release(void *memory);

#endif
