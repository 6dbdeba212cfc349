#include "palette/palette.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "palette/pack.h"

pal_status palette_new(unsigned nbits, pal_dtype dtype, size_t rank, const uint64_t *shape,
                       size_t axis, uint64_t groups, palette **out)
{
    palette *p = mem_zeroed(1, sizeof *p);
    if (!p)
        return fail_memory("making a palette");
    p->nbits = nbits;
    p->dtype = dtype;
    p->rank = rank;
    p->vector_size = 1;
    for (size_t d = 0; d < rank; d++) {
        p->shape[d] = shape[d];
        p->blocks[d] = d == axis ? groups : 1;
    }
    p->lut = p->owned_lut = mem_zeroed(palette_lut_elements(p), pal_dtype_bits(dtype) / 8);
    p->indices = p->owned_indices = mem_zeroed(palette_index_bytes(p), 1);
    if (!p->lut || !p->indices) {
        palette_free(p);
        return fail_memory("making a palette");
    }
    *out = p;
    return PAL_OK;
}

void palette_free(palette *palette)
{
    if (!palette)
        return;
    free(palette->owned_lut);
    free(palette->owned_indices);
    free(palette);
}

uint64_t palette_index_dimension(const palette *palette, size_t dimension)
{
    uint64_t size = palette->shape[dimension];
    return palette->vector_size > 1 && dimension == palette->vector_axis
               ? size / palette->vector_size
               : size;
}

uint64_t palette_index_count(const palette *palette)
{
    uint64_t count = 1;
    for (size_t d = 0; d < palette->rank; d++)
        count *= palette_index_dimension(palette, d);
    return count;
}

uint64_t palette_index_bytes(const palette *palette)
{
    return pack_bytes(palette_index_count(palette), palette->nbits);
}

uint64_t palette_num_luts(const palette *palette)
{
    uint64_t count = 1;
    for (size_t d = 0; d < palette->rank; d++)
        count *= palette->blocks[d];
    return count;
}

uint64_t palette_lut_elements(const palette *palette)
{
    return palette_num_luts(palette) * palette->vector_size << palette->nbits;
}

/* Copies n entries of one table to the places of the dense tensor, `stride` elements apart for the
 * values of a vector. */
static void decode_run(const palette *p, const uint8_t *indices, size_t n, uint64_t table,
                       uint64_t stride, uint64_t at, void *dense)
{
    const uint64_t entries = table * p->vector_size << p->nbits;
    for (size_t v = 0; v < p->vector_size; v++) {
        const uint64_t place = at + v * stride, step = stride == 1 ? p->vector_size : 1;
        switch (pal_dtype_bits(p->dtype)) {
        case 8: {
            const uint8_t *lut = (const uint8_t *)p->lut + entries;
            uint8_t *out = (uint8_t *)dense + place;
            for (size_t i = 0; i < n; i++)
                out[i * step] = lut[indices[i] * p->vector_size + v];
            break;
        }
        case 16: {
            const uint16_t *lut = (const uint16_t *)p->lut + entries;
            uint16_t *out = (uint16_t *)dense + place;
            for (size_t i = 0; i < n; i++)
                out[i * step] = lut[indices[i] * p->vector_size + v];
            break;
        }
        default: {
            const uint32_t *lut = (const uint32_t *)p->lut + entries;
            uint32_t *out = (uint32_t *)dense + place;
            for (size_t i = 0; i < n; i++)
                out[i * step] = lut[indices[i] * p->vector_size + v];
            break;
        }
        }
    }
}

/* Walks the index tensor in runs in which the table stays the same. A row is what follows
 * contiguously from dimension `inner` on: of scalars, everything inside the last dimension that has
 * several tables; of vectors, the last dimension. */
pal_status palette_decode(const palette *p, void *dense)
{
    enum { CHUNK = 4096 };
    uint8_t indices[CHUNK];
    if (p->rank == 0 || p->rank > PAL_MAX_RANK)
        return fail(PAL_ERROR_UNSUPPORTED, "a palettized tensor of rank %zu", p->rank);
    const bool vectors = p->vector_size > 1;
    size_t inner = p->rank - 1;
    while (!vectors && inner > 0 && p->blocks[inner] == 1)
        inner--;

    uint64_t coordinate[PAL_MAX_RANK] = {0}, stride[PAL_MAX_RANK], table_stride[PAL_MAX_RANK];
    uint64_t elements = 1, tables = 1, row = 1;
    for (size_t d = p->rank; d-- > 0;) {
        stride[d] = elements;
        table_stride[d] = tables;
        elements *= p->shape[d];
        tables *= p->blocks[d];
        if (d >= inner)
            row *= palette_index_dimension(p, d);
    }
    const uint64_t count = palette_index_count(p);
    const uint64_t block = row / p->blocks[inner];
    const bool along_row = vectors && p->vector_axis == inner;
    for (uint64_t first = 0; first < count; first += row) {
        uint64_t table = 0, at = 0;
        for (size_t d = 0; d < inner; d++) {
            table += coordinate[d] / (palette_index_dimension(p, d) / p->blocks[d]) *
                     table_stride[d];
            at += coordinate[d] * stride[d] * (vectors && d == p->vector_axis ? p->vector_size : 1);
        }
        for (uint64_t i = 0, n; i < row; i += n) {
            n = block - i % block < CHUNK ? block - i % block : CHUNK;
            unpack_indices(p->indices, first + i, n, p->nbits, indices);
            decode_run(p, indices, n, table + i / block, stride[p->vector_axis],
                       at + (along_row ? i * p->vector_size : i), dense);
        }
        for (size_t d = inner; d-- > 0;) {
            if (++coordinate[d] < palette_index_dimension(p, d))
                break;
            coordinate[d] = 0;
        }
    }
    return PAL_OK;
}
