/* A palettized tensor: look-up tables, packed indices, and which table serves which part. */
#ifndef PAL_PALETTE_PALETTE_H
#define PAL_PALETTE_PALETTE_H

#include <stdbool.h>

#include "base/status.h"

typedef struct palette {
    unsigned nbits;
    pal_dtype dtype; /* of the dense tensor */
    size_t rank;
    uint64_t shape[PAL_MAX_RANK];  /* of the dense tensor */
    uint64_t blocks[PAL_MAX_RANK]; /* tables along each dimension; each divides index_shape */
    size_t vector_size;            /* values in one entry; 1: scalar */
    size_t vector_axis;            /* the dimension along which a vector lies */
    pal_dtype lut_dtype;           /* of the entries as stored: dtype, or PAL_INT8 or PAL_UINT8 */
    const void *lut;               /* blocks (row-major) x 2^nbits x vector_size values */
    const void *lut_scale;         /* integer entries: what one unit is worth, in dtype, for each */
    const void *lut_offset;        /* table; the entry that means 0, for each table; NULL: 0 */
    const uint8_t *indices;        /* packed, row-major over the index shape */
    const void *scale;             /* in dtype: what the looked-up values are multiplied by; NULL */
    uint64_t scale_shape[PAL_MAX_RANK]; /* of scale: each 1 or that of shape */
    const uint8_t
        *mask;       /* pruned tensors: a bit for each element, packed like indices; there are */
    uint64_t stored; /* indices for the set ones alone, so many, in their order; scalars only */
    /* Elements that are kept exactly, whatever their index says. */
    uint64_t outliers;
    const uint32_t *outlier_places; /* which elements, row-major; ascending */
    const void *outlier_values;     /* in dtype */
    void *owned[8];                 /* the scratch memory of the above that is its own */
    /* The tables, each as often as a file's form of the palette needs it; made by who first does.
     */
    const void *repeated_lut;
} palette;

/* What kind of palette a file would have to hold. */
typedef struct palette_form {
    unsigned nbits;
    bool grouped;  /* several tables */
    bool vectors;  /* vector_size > 1 */
    bool integers; /* the entries are of an integer type */
    bool scaled;   /* the values looked up are multiplied by a scale */
    bool outliers; /* some elements are kept exactly */
} palette_form;

/* What palette_new() makes. */
typedef struct palette_spec {
    unsigned nbits;
    pal_dtype dtype;     /* of the tensor */
    pal_dtype lut_dtype; /* the same, or PAL_INT8, or PAL_UINT8 (then with offsets) */
    size_t rank;
    const uint64_t *shape;
    size_t axis;         /* of channels: groups, vectors and the scale go by it */
    uint64_t groups;     /* tables along it; 1: one table */
    size_t vector_size;  /* 1: scalars; groups * vector_size must divide shape[axis] */
    bool scaled;         /* a scale for each position in all dimensions but the axis */
    bool channel_scaled; /* a scale for each position along the axis; not both */
    const uint8_t *mask; /* see above; it must outlive the palette */
    uint64_t stored;
    uint64_t outliers; /* only of tensors with at most PALETTE_MAX_PLACE elements */
} palette_spec;

/* What the number of an outlier can count to, also where it is an int32. */
#define PALETTE_MAX_PLACE INT32_MAX

/* Tables, indices, scales and outliers are allocated and zeroed. */
pal_status palette_new(const palette_spec *spec, palette **out);
void palette_free(palette *palette);
/* A hint that its content is not needed soon. */
void palette_release(palette *palette);

/* Indices along one dimension: shape, divided by vector_size on vector_axis. */
uint64_t palette_index_dimension(const palette *palette, size_t dimension);
uint64_t palette_index_count(const palette *palette); /* those that are stored */
uint64_t palette_index_bytes(const palette *palette);
uint64_t palette_num_luts(const palette *palette);
uint64_t palette_lut_elements(const palette *palette);
uint64_t palette_lut_bytes(const palette *palette);
uint64_t palette_scale_elements(const palette *palette); /* 0 without scale */
/* All that a file has to store for it: indices, tables, scales, outliers. */
uint64_t palette_bytes(const palette *palette);

/* Scratch memory of the given size, zeroed, that is freed with the palette; NULL when there is
 * none. */
void *palette_allocate(palette *palette, uint64_t count, size_t size);

/* The entries of all tables as the values that they stand for, in dtype: (entry - offset) * scale,
 * computed in float32 and rounded once. */
pal_status palette_lut_values(const palette *palette, void *values);

/* Whether places of outliers, which come from a file, ascend and lie in the tensor. */
bool palette_places_ok(const palette *palette);

/* The dense tensor, pal_dtype_bits(dtype)/8 bytes for each element, row-major. */
pal_status palette_decode(const palette *palette, void *dense);

#endif
