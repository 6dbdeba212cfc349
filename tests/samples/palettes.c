#include <stdlib.h>
#include <string.h>

#include "palette/pack.h"
#include "samples.h"

/* Random values in memory of the palette's own. */
static void *allocate(palette *p, pal_dtype dtype, uint64_t count, uint64_t *seed)
{
    buffer values = {0};
    void *memory = palette_allocate(p, count, sample_width(dtype));
    sample_need(memory != NULL, "out of memory");
    sample_values(&values, dtype, count, 0, seed);
    memcpy(memory, values.data, values.size);
    buffer_free(&values);
    return memory;
}

static void *random_indices(palette *p, uint64_t *seed)
{
    const uint64_t count = palette_index_count(p);
    uint8_t *indices = malloc(count), *packed = palette_allocate(p, palette_index_bytes(p), 1);
    sample_need(indices && packed, "out of memory");
    for (uint64_t i = 0; i < count; i++)
        indices[i] = (uint8_t)random_below(seed, 1u << p->nbits);
    pack_indices(indices, count, p->nbits, packed);
    free(indices);
    return packed;
}

/* At random places, as many as are asked for and the tensor has room for. */
static void random_outliers(palette *p, uint64_t count, uint64_t *seed)
{
    uint64_t elements = 1;
    for (size_t d = 0; d < p->rank; d++)
        elements *= p->shape[d];
    p->outliers = count < elements ? count : elements;
    uint32_t *places = palette_allocate(p, p->outliers, sizeof *places);
    sample_need(places != NULL, "out of memory");
    const uint64_t step = elements / p->outliers;
    for (uint64_t i = 0; i < p->outliers; i++)
        places[i] = (uint32_t)(i * step + random_below(seed, (unsigned)step));
    p->outlier_places = places;
    p->outlier_values = allocate(p, p->dtype, p->outliers, seed);
}

palette *sample_palette(const sample_form *form, pal_dtype dtype, size_t rank,
                        const uint64_t *shape, uint64_t *seed)
{
    palette *p = calloc(1, sizeof *p);
    sample_need(p != NULL, "out of memory");
    p->nbits = form->nbits;
    p->dtype = dtype;
    p->lut_dtype = form->lut_dtype ? form->lut_dtype : dtype;
    p->rank = rank;
    p->vector_size = form->vector_size;
    p->vector_axis = form->vector_axis;
    for (size_t d = 0; d < rank; d++) {
        p->shape[d] = shape[d];
        p->blocks[d] = d < 4 && form->blocks[d] ? form->blocks[d] : 1;
        p->scale_shape[d] = form->scale && d == 0 ? shape[0] : form->scale;
    }
    p->indices = random_indices(p, seed);
    p->lut = allocate(p, p->lut_dtype, palette_lut_elements(p), seed);
    if (p->lut_dtype != dtype)
        p->lut_scale = allocate(p, dtype, palette_num_luts(p), seed);
    if (form->offset)
        p->lut_offset = allocate(p, p->lut_dtype, palette_num_luts(p), seed);
    if (form->scale)
        p->scale = allocate(p, dtype, shape[0], seed);
    if (form->outliers)
        random_outliers(p, form->outliers, seed);
    return p;
}
