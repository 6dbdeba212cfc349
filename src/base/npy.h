/* NumPy's .npy files, as https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 * describes them: a header that is a Python dictionary, then the values. */
#ifndef PAL_BASE_NPY_H
#define PAL_BASE_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct npy_array {
    pal_dtype dtype; /* float16, float32, float64, or an integer; bool counts as uint8 */
    size_t rank;     /* 0: a single value */
    uint64_t shape[PAL_MAX_RANK];
    uint64_t elements;
    const void *values; /* in C order, little-endian, inside the file's bytes, not aligned */
} npy_array;

/* Reads the header of a file whose bytes are at hand; `name` is for messages. Big-endian values,
 * Fortran order (of more than one dimension) and types other than the above are refused as
 * PAL_ERROR_UNSUPPORTED, what is damaged as PAL_ERROR_FORMAT. */
pal_status npy_parse(const char *name, const void *bytes, size_t size, npy_array *out);

/* The i-th value, which must exist, as a double. */
double npy_value(const npy_array *array, uint64_t i);

#endif
