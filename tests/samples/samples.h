/* Small models made by code: what unit tests compress, what the fuzzer mutates, and what the
 * robustness tests interrupt.
 *
 *   buffer.c         bytes that grow, and writing them to a file
 *   palettes.c       random palettes of every form
 *   checkpoints.c    safetensors files and indices
 *   models.c         ONNX models
 *   make_samples.c   the program that writes them all into a folder
 *
 * Everything here ends the process with a message if it cannot do its work. */
#ifndef PAL_TESTS_SAMPLES_H
#define PAL_TESTS_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "palette/palette.h"
#include "random.h"

/* ---------------------------------------------------------------- buffer.c */

typedef struct buffer {
    unsigned char *data;
    size_t size, capacity;
} buffer;

void buffer_add(buffer *b, const void *data, size_t size);
void buffer_print(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_free(buffer *b);
/* Writes a file as a whole. */
void sample_write(const char *path, const void *data, size_t size);
/* Says what went wrong and exits, if `ok` is false. */
void sample_need(bool ok, const char *what);

/* Bytes of one value of that type; 0 for one that is not made here. */
size_t sample_width(pal_dtype dtype);
/* Adds normally distributed values of that type, or, with `distinct`, values of which there are so
 * many at the most. Integers are random. */
void sample_values(buffer *b, pal_dtype dtype, uint64_t count, unsigned distinct, uint64_t *seed);

/* ---------------------------------------------------------------- palettes.c */

typedef struct sample_form {
    unsigned nbits;
    uint64_t blocks[4]; /* 0 counts as 1 */
    size_t vector_size, vector_axis;
    pal_dtype lut_dtype; /* PAL_DTYPE_OTHER: that of the weight */
    bool offset;         /* of an integer table */
    bool scale;          /* one for each index of dimension 0 */
    uint64_t outliers;
} sample_form;

/* A palette of this form with random content. */
palette *sample_palette(const sample_form *form, pal_dtype dtype, size_t rank,
                        const uint64_t *shape, uint64_t *seed);

/* ---------------------------------------------------------------- checkpoints.c */

typedef struct sample_tensor {
    const char *name;
    pal_dtype dtype;
    uint64_t rows, columns; /* columns 0: a vector */
} sample_tensor;

/* Writes a safetensors file in the form in which the reference implementation would, its header
 * padded to a multiple of `pad`; returns the bytes of its tensors. */
uint64_t sample_checkpoint(const char *path, const sample_tensor *tensors, size_t count,
                           unsigned distinct, size_t pad, uint64_t seed);
/* The same with a header and data at hand. */
void sample_safetensors(const char *path, const char *header, size_t pad, const void *data,
                        size_t size);
/* Writes the index of a folder: the first `split` tensors are in files[0], the others in files[1].
 */
void sample_index(const char *path, const sample_tensor *tensors, size_t count, size_t split,
                  const char *const files[2], uint64_t total);

/* ---------------------------------------------------------------- models.c */

typedef enum sample_storage {
    STORED_RAW,
    STORED_FLOATS,    /* float_data; float32 only */
    STORED_CONSTANTS, /* raw, in Constant nodes */
    STORED_EXTERNAL,  /* in a file beside the model */
} sample_storage;

typedef struct sample_model {
    int opset, ir_version;
    pal_dtype dtype;
    sample_storage storage;
    bool branches;         /* an If whose bodies hold a weight each */
    unsigned distinct;     /* 0: normally distributed */
    const char *undefined; /* a name that an operator uses and nothing defines; NULL: none */
} sample_model;

/* Writes FOLDER/model.onnx and what belongs to it. */
void sample_onnx(const char *folder, const sample_model *model);

#endif
