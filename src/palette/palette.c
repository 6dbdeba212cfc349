#include "palette/palette.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "palette/pack.h"

enum { OWNED = sizeof((palette *)0)->owned / sizeof(void *) };

/* The scratch memory of a palette whose shapes are known. */
static bool allocate_parts(palette *p, const palette_spec *spec)
{
    const size_t width = pal_dtype_bits(p->dtype) / 8;
    const uint64_t tables = palette_num_luts(p);
    p->lut = palette_allocate(p, palette_lut_elements(p), pal_dtype_bits(p->lut_dtype) / 8);
    p->indices = palette_allocate(p, palette_index_bytes(p), 1);
    bool ok = p->lut && p->indices;
    if (p->lut_dtype != p->dtype)
        ok = ok && (p->lut_scale = palette_allocate(p, tables, width));
    if (p->lut_dtype == PAL_UINT8)
        ok = ok && (p->lut_offset = palette_allocate(p, tables, 1));
    if (spec->scaled || spec->channel_scaled) {
        uint64_t count = 1;
        for (size_t d = 0; d < p->rank; d++) {
            p->scale_shape[d] = (d == spec->axis) == spec->scaled ? 1 : p->shape[d];
            count *= p->scale_shape[d];
        }
        ok = ok && (p->scale = palette_allocate(p, count, width));
    }
    if (p->outliers) {
        p->outlier_places = palette_allocate(p, p->outliers, sizeof *p->outlier_places);
        p->outlier_values = palette_allocate(p, p->outliers, width);
        ok = ok && p->outlier_places && p->outlier_values;
    }
    return ok;
}

pal_status palette_new(const palette_spec *spec, palette **out)
{
    palette *p = mem_zeroed(1, sizeof *p);
    if (!p)
        return fail_memory("making a palette");
    p->nbits = spec->nbits;
    p->dtype = spec->dtype;
    p->rank = spec->rank;
    p->vector_size = spec->vector_size;
    p->vector_axis = spec->axis;
    for (size_t d = 0; d < p->rank; d++) {
        p->shape[d] = spec->shape[d];
        p->blocks[d] = d == spec->axis ? spec->groups : 1;
    }
    p->lut_dtype = spec->lut_dtype;
    p->mask = spec->mask;
    p->stored = spec->stored;
    p->outliers = spec->outliers;
    if (!allocate_parts(p, spec)) {
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
    for (size_t i = 0; i < OWNED; i++)
        scratch_free(palette->owned[i]);
    free(palette);
}

void palette_release(palette *palette)
{
    for (size_t i = 0; i < OWNED; i++)
        scratch_release(palette->owned[i]);
}

void *palette_allocate(palette *palette, uint64_t count, size_t size)
{
    for (size_t i = 0; i < OWNED; i++)
        if (!palette->owned[i])
            return palette->owned[i] = scratch_zeroed(count, size);
    return NULL;
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
    return palette->mask ? palette->stored : count;
}

static uint64_t palette_elements(const palette *palette)
{
    uint64_t count = 1;
    for (size_t d = 0; d < palette->rank; d++)
        count *= palette->shape[d];
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

uint64_t palette_lut_bytes(const palette *palette)
{
    return palette_lut_elements(palette) * pal_dtype_bits(palette->lut_dtype) / 8;
}

uint64_t palette_scale_elements(const palette *palette)
{
    uint64_t count = 1;
    for (size_t d = 0; d < palette->rank; d++)
        count *= palette->scale_shape[d];
    return palette->scale ? count : 0;
}

uint64_t palette_bytes(const palette *palette)
{
    const uint64_t width = pal_dtype_bits(palette->dtype) / 8, tables = palette_num_luts(palette);
    return palette_index_bytes(palette) + palette_lut_bytes(palette) +
           (palette->lut_scale ? tables * width : 0) + (palette->lut_offset ? tables : 0) +
           palette_scale_elements(palette) * width +
           palette->outliers * (sizeof *palette->outlier_places + width) +
           (palette->mask ? pack_bytes(palette_elements(palette), 1) : 0);
}

bool palette_places_ok(const palette *palette)
{
    const uint64_t elements = palette_elements(palette);
    for (uint64_t i = 0; i < palette->outliers; i++)
        if (palette->outlier_places[i] >= elements ||
            (i && palette->outlier_places[i] <= palette->outlier_places[i - 1]))
            return false;
    return true;
}

/* ---------------------------------------------------------------- single values */

static float get_value(const void *values, pal_dtype dtype, uint64_t i)
{
    switch (dtype) {
    case PAL_FLOAT16: return f16_to_float(((const uint16_t *)values)[i]);
    case PAL_BFLOAT16: return bf16_to_float(((const uint16_t *)values)[i]);
    case PAL_INT8: return ((const int8_t *)values)[i];
    case PAL_UINT8: return ((const uint8_t *)values)[i];
    default: return ((const float *)values)[i];
    }
}

static void put_value(void *values, pal_dtype dtype, uint64_t i, float value)
{
    switch (dtype) {
    case PAL_FLOAT16: ((uint16_t *)values)[i] = f16_from_double((double)value); break;
    case PAL_BFLOAT16: ((uint16_t *)values)[i] = bf16_from_double((double)value); break;
    default: ((float *)values)[i] = value; break;
    }
}

pal_status palette_lut_values(const palette *p, void *values)
{
    if (p->lut_dtype == p->dtype) {
        memcpy(values, p->lut, palette_lut_bytes(p));
        return PAL_OK;
    }
    if (!p->lut_scale || (p->lut_dtype != PAL_INT8 && p->lut_dtype != PAL_UINT8))
        return fail(PAL_ERROR_UNSUPPORTED, "a look-up table of %s for values of %s",
                    pal_dtype_name(p->lut_dtype), pal_dtype_name(p->dtype));
    const uint64_t entries = p->vector_size << p->nbits, count = palette_lut_elements(p);
    for (uint64_t i = 0; i < count; i++) {
        float entry = get_value(p->lut, p->lut_dtype, i);
        if (p->lut_offset)
            entry -= get_value(p->lut_offset, p->lut_dtype, i / entries);
        put_value(values, p->dtype, i, entry * get_value(p->lut_scale, p->dtype, i / entries));
    }
    return PAL_OK;
}

/* Multiplies the dense tensor by the broadcast scale. */
static void apply_scale(const palette *p, void *dense)
{
    uint64_t coordinate[PAL_MAX_RANK] = {0};
    const uint64_t elements = palette_elements(p);
    for (uint64_t i = 0; i < elements; i++) {
        uint64_t at = 0;
        for (size_t d = 0; d < p->rank; d++)
            at = at * p->scale_shape[d] + (p->scale_shape[d] > 1 ? coordinate[d] : 0);
        put_value(dense, p->dtype, i,
                  get_value(dense, p->dtype, i) * get_value(p->scale, p->dtype, at));
        for (size_t d = p->rank; d-- > 0;) {
            if (++coordinate[d] < p->shape[d])
                break;
            coordinate[d] = 0;
        }
    }
}

/* ---------------------------------------------------------------- decoding */

/* Copies n entries of one table to the places of the dense tensor, `stride` elements apart for the
 * values of a vector. */
static void decode_run(const palette *p, const void *values, const uint8_t *indices, size_t n,
                       uint64_t table, uint64_t stride, uint64_t at, void *dense)
{
    const uint64_t entries = table * p->vector_size << p->nbits;
    for (size_t v = 0; v < p->vector_size; v++) {
        const uint64_t place = at + v * stride, step = stride == 1 ? p->vector_size : 1;
        switch (pal_dtype_bits(p->dtype)) {
        case 8: {
            const uint8_t *lut = (const uint8_t *)values + entries;
            uint8_t *out = (uint8_t *)dense + place;
            for (size_t i = 0; i < n; i++)
                out[i * step] = lut[indices[i] * p->vector_size + v];
            break;
        }
        case 16: {
            const uint16_t *lut = (const uint16_t *)values + entries;
            uint16_t *out = (uint16_t *)dense + place;
            for (size_t i = 0; i < n; i++)
                out[i * step] = lut[indices[i] * p->vector_size + v];
            break;
        }
        default: {
            const uint32_t *lut = (const uint32_t *)values + entries;
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
static void decode_indices(const palette *p, const void *values, void *dense)
{
    enum { CHUNK = 4096 };
    uint8_t indices[CHUNK];
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
            table +=
                coordinate[d] / (palette_index_dimension(p, d) / p->blocks[d]) * table_stride[d];
            at += coordinate[d] * stride[d] * (vectors && d == p->vector_axis ? p->vector_size : 1);
        }
        for (uint64_t i = 0, n; i < row; i += n) {
            n = block - i % block < CHUNK ? block - i % block : CHUNK;
            unpack_indices(p->indices, first + i, n, p->nbits, indices);
            decode_run(p, values, indices, n, table + i / block, stride[p->vector_axis],
                       at + (along_row ? i * p->vector_size : i), dense);
        }
        for (size_t d = inner; d-- > 0;) {
            if (++coordinate[d] < palette_index_dimension(p, d))
                break;
            coordinate[d] = 0;
        }
    }
}

/* Of a pruned tensor: zeros, and the values of the set elements. */
static void decode_pruned(const palette *p, const void *values, void *dense)
{
    enum { CHUNK = 4096 };
    uint8_t indices[CHUNK];
    const size_t width = pal_dtype_bits(p->dtype) / 8;
    const uint64_t elements = palette_elements(p);
    uint64_t coordinate[PAL_MAX_RANK] = {0}, done = 0;
    memset(dense, 0, elements * width);
    for (uint64_t i = 0; i < elements; i++) {
        if (p->mask[i / 8] >> i % 8 & 1) {
            uint64_t table = 0;
            for (size_t d = 0; d < p->rank; d++)
                table = table * p->blocks[d] + coordinate[d] / (p->shape[d] / p->blocks[d]);
            if (done % CHUNK == 0)
                unpack_indices(p->indices, done,
                               p->stored - done < CHUNK ? (size_t)(p->stored - done) : CHUNK,
                               p->nbits, indices);
            memcpy((char *)dense + i * width,
                   (const char *)values + ((table << p->nbits) + indices[done++ % CHUNK]) * width,
                   width);
        }
        for (size_t d = p->rank; d-- > 0;) {
            if (++coordinate[d] < p->shape[d])
                break;
            coordinate[d] = 0;
        }
    }
}

static void put_outliers(const palette *p, void *dense)
{
    const size_t width = pal_dtype_bits(p->dtype) / 8;
    for (uint64_t i = 0; i < p->outliers; i++)
        memcpy((char *)dense + p->outlier_places[i] * width,
               (const char *)p->outlier_values + i * width, width);
}

pal_status palette_decode(const palette *p, void *dense)
{
    if (p->rank == 0 || p->rank > PAL_MAX_RANK)
        return fail(PAL_ERROR_UNSUPPORTED, "a palettized tensor of rank %zu", p->rank);
    void *values = mem_array(palette_lut_elements(p), pal_dtype_bits(p->dtype) / 8);
    if (!values)
        return fail_memory("decompressing");
    pal_status status = palette_lut_values(p, values);
    if (!status) {
        if (p->mask)
            decode_pruned(p, values, dense);
        else
            decode_indices(p, values, dense);
        if (p->scale)
            apply_scale(p, dense);
        put_outliers(p, dense);
    }
    free(values);
    return status;
}
