/* A palettized tensor: look-up tables, packed indices, and which table serves which part. */
#ifndef PAL_PALETTE_PALETTE_H
#define PAL_PALETTE_PALETTE_H

#include <stdbool.h>

#include "base/status.h"

typedef struct palette {
    unsigned nbits;
    pal_dtype dtype; /* of the LUT's entries and of the dense tensor */
    size_t rank;
    uint64_t shape[PAL_MAX_RANK];  /* of the dense tensor */
    uint64_t blocks[PAL_MAX_RANK]; /* tables along each dimension; each divides index_shape */
    size_t vector_size;            /* values in one entry; 1: scalar */
    size_t vector_axis;            /* the dimension along which a vector lies */
    const void *lut;               /* blocks (row-major) x 2^nbits x vector_size values */
    const uint8_t *indices;        /* packed, row-major over the index shape */
    void *owned_lut;               /* memory of lut and indices, NULL where they are in a file */
    uint8_t *owned_indices;
} palette;

/* A palette of scalars, with `groups` tables along `axis` (1: one table), its memory allocated and
 * zeroed. groups must divide shape[axis]. */
pal_status palette_new(unsigned nbits, pal_dtype dtype, size_t rank, const uint64_t *shape,
                       size_t axis, uint64_t groups, palette **out);
void palette_free(palette *palette);

/* Indices along one dimension: shape, divided by vector_size on vector_axis. */
uint64_t palette_index_dimension(const palette *palette, size_t dimension);
uint64_t palette_index_count(const palette *palette);
uint64_t palette_index_bytes(const palette *palette);
uint64_t palette_num_luts(const palette *palette);
uint64_t palette_lut_elements(const palette *palette);

/* The dense tensor, pal_dtype_bits(dtype)/8 bytes for each element, row-major. */
pal_status palette_decode(const palette *palette, void *dense);

#endif
