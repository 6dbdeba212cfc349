/* Reading palettized weights.
 *
 * Before iOS18 constexpr_lut_to_dense takes attributes: lut [2^nbits], indices uint8 [bytes]
 * packed, and shape. From iOS18 on it takes inputs: indices of type uint<nbits> in the tensor's own
 * shape, and lut [tables along each dimension..., 2^nbits, vector size]. constexpr_lut_to_sparse
 * has indices for the elements alone that its mask sets. */
#include <string.h>

#include "base/half.h"
#include "format/coreml/coreml.h"
#include "palette/pack.h"

static pal_status malformed(const char *why)
{
    return fail(PAL_ERROR_FORMAT, "%s: %s", LUT_TO_DENSE, why);
}

static pal_status contradiction(void)
{
    return malformed("the shapes of its LUT, indices and output contradict each other");
}

/* ---------------------------------------------------------------- the three forms */

/* Before iOS18. */
static pal_status read_packed(const tensor *lut, const tensor *indices, palette *p)
{
    uint64_t elements = 1;
    p->nbits = coreml_table_bits(lut->elements);
    p->vector_size = 1;
    for (size_t d = 0; d < p->rank; d++) {
        p->blocks[d] = 1;
        elements *= p->shape[d];
    }
    if (!pack_width_is_valid(p->nbits))
        return malformed("its LUT does not have 2^nbits entries");
    if (indices->dtype != PAL_UINT8 || indices->bytes != pack_bytes(elements, p->nbits))
        return malformed("its indices do not fit its shape");
    return PAL_OK;
}

static pal_status read_vector_axis(coreml *state, const Coreml__Operation *operation, palette *p)
{
    Coreml__Value *value = operation_parameter(operation, "vector_axis");
    tensor axis;
    int32_t number;
    if (!value)
        return malformed("it has vectors but no vector_axis");
    pal_status status = value_read(state, value, "vector_axis", &axis);
    if (status)
        return status;
    if (axis.dtype != PAL_INT32 || axis.elements != 1 || !axis.data)
        return malformed("its vector_axis is not an integer");
    memcpy(&number, axis.data, sizeof number);
    if (number < 0)
        number += (int32_t)p->rank;
    if (number < 0 || (size_t)number >= p->rank)
        return malformed("its vector_axis is out of range");
    p->vector_axis = (size_t)number;
    return PAL_OK;
}

/* What the table of iOS18 and later says: tables, entries, vectors. */
static pal_status read_table_shape(coreml *state, const Coreml__Operation *operation,
                                   const tensor *lut, pal_dtype indices, palette *p)
{
    if (lut->rank != p->rank + 2)
        return malformed("its LUT's rank is not that of its output plus two");
    p->nbits = pal_dtype_bits(indices);
    p->vector_size = lut->shape[p->rank + 1];
    if (indices < PAL_UINT1 || indices > PAL_UINT8 ||
        lut->shape[p->rank] != UINT64_C(1) << p->nbits || p->vector_size == 0)
        return malformed("its LUT does not have 2^nbits entries");
    pal_status status = p->vector_size > 1 ? read_vector_axis(state, operation, p) : PAL_OK;
    for (size_t d = 0; !status && d < p->rank; d++) {
        const uint64_t vector = p->vector_size > 1 && d == p->vector_axis ? p->vector_size : 1;
        p->blocks[d] = lut->shape[d];
        if (p->blocks[d] == 0 || p->shape[d] % vector || p->shape[d] / vector % p->blocks[d])
            return contradiction();
    }
    return status;
}

/* From iOS18 on. */
static pal_status read_blocks(const tensor *indices, const palette *p)
{
    if (indices->rank != p->rank)
        return contradiction();
    for (size_t d = 0; d < p->rank; d++)
        if (indices->shape[d] != palette_index_dimension(p, d))
            return contradiction();
    return PAL_OK;
}

static pal_status read_sparse(coreml *state, const Coreml__Operation *operation, const char *what,
                              const tensor *indices, palette *p)
{
    Coreml__Value *value = operation_parameter(operation, "indices_mask");
    tensor mask;
    if (!value || p->vector_size > 1)
        return fail(PAL_ERROR_UNSUPPORTED, "it is sparse in a way that this version does not read");
    pal_status status = value_read(state, value, what, &mask);
    if (status)
        return status;
    if (mask.dtype != PAL_UINT1 || !mask.data || mask.rank != p->rank || indices->rank != 1 ||
        memcmp(mask.shape, p->shape, p->rank * sizeof *p->shape) != 0)
        return contradiction();
    if (pack_count_bits(mask.data, 0, mask.elements) != indices->elements)
        return malformed("its mask sets another number of elements than it has indices");
    p->mask = mask.data;
    p->stored = indices->elements;
    return PAL_OK;
}

/* ---------------------------------------------------------------- scaled tables */

static float number_at(const tensor *t, uint64_t i)
{
    switch (t->dtype) {
    case PAL_FLOAT16: return f16_to_float(((const uint16_t *)t->data)[i]);
    case PAL_FLOAT32: return ((const float *)t->data)[i];
    case PAL_INT8: return ((const int8_t *)t->data)[i];
    default: return ((const uint8_t *)t->data)[i];
    }
}

/* The element of a tensor that goes with element i of one of the shape of `all`, which its own
 * dimensions divide. */
static float number_for(const tensor *t, const tensor *all, uint64_t i)
{
    uint64_t at = 0, stride = 1;
    for (size_t d = all->rank; d-- > 0;) {
        at += i % all->shape[d] / (all->shape[d] / t->shape[d]) * stride;
        i /= all->shape[d];
        stride *= t->shape[d];
    }
    return number_at(t, at);
}

/* What constexpr_blockwise_shift_scale takes beside its data. */
typedef struct shift_scale {
    tensor scale, offset; /* offset.data is NULL if there is none */
} shift_scale;

static pal_status read_shift_scale(coreml *state, const Coreml__Operation *operation,
                                   const char *what, shift_scale *out)
{
    Coreml__Value *scale = operation_parameter(operation, "scale");
    Coreml__Value *offset = operation_parameter(operation, "offset");
    *out = (shift_scale){0};
    pal_status status = scale ? value_read(state, scale, what, &out->scale) : PAL_OK;
    if (!status && offset)
        status = value_read(state, offset, what, &out->offset);
    if (status)
        return status;
    if (!out->scale.data || (offset && !out->offset.data) ||
        (out->scale.dtype != PAL_FLOAT16 && out->scale.dtype != PAL_FLOAT32))
        return fail(PAL_ERROR_UNSUPPORTED, "its scale is stored in an unknown form");
    if (offset && (out->offset.rank != out->scale.rank ||
                   memcmp(out->offset.shape, out->scale.shape, sizeof out->scale.shape) != 0))
        return fail(PAL_ERROR_FORMAT, "%s: the shapes of its scale and offset differ", SHIFT_SCALE);
    return PAL_OK;
}

/* The shape of the tables if each scale is to have one of its own. */
static pal_status common_shape(const tensor *lut, const tensor *scale, tensor *all)
{
    *all = *lut;
    all->elements = 1;
    bool ok = scale->rank == lut->rank;
    for (size_t d = 0; ok && d < lut->rank; d++) {
        const uint64_t a = lut->shape[d], b = scale->shape[d];
        all->shape[d] = a > b ? a : b;
        ok = a && b && all->shape[d] % a == 0 && all->shape[d] % b == 0 &&
             (d + 2 < lut->rank || b <= a) &&
             mem_multiply(all->elements, all->shape[d], &all->elements);
    }
    return ok ? PAL_OK
              : fail(PAL_ERROR_FORMAT,
                     "%s: the shapes of its data, scale and offset contradict "
                     "each other",
                     SHIFT_SCALE);
}

/* Makes of `lut` tables of (entry - offset) * scale, in float32, rounded once to the type of scale:
 * as many as scales or tables, whichever are more. `most` is a limit on their values: what is
 * repeated must not grow beyond all proportion to the file. The memory is *owned, which is freed.
 */
static pal_status scale_tables(const shift_scale *by, uint64_t most, tensor *lut, void **owned)
{
    tensor all;
    const bool types_ok = lut->data &&
                          (lut->dtype == PAL_INT8 || lut->dtype == PAL_UINT8 ||
                           lut->dtype == PAL_FLOAT16 || lut->dtype == PAL_FLOAT32) &&
                          (!by->offset.data || by->offset.dtype == lut->dtype);
    if (!types_ok)
        return fail(PAL_ERROR_UNSUPPORTED, "its look-up table is stored as %s",
                    pal_dtype_name(lut->dtype));
    pal_status status = common_shape(lut, &by->scale, &all);
    if (status)
        return status;
    if (all.elements > lut->elements && all.elements > most)
        return fail(PAL_ERROR_UNSUPPORTED, "its scales ask for too many look-up tables");
    all.dtype = by->scale.dtype;
    all.bytes = all.elements * pal_dtype_bits(all.dtype) / 8;
    void *computed = scratch_zeroed(all.elements, pal_dtype_bits(all.dtype) / 8);
    if (!computed)
        return fail_memory("reading a look-up table");
    for (uint64_t i = 0; i < all.elements; i++) {
        float number = number_for(lut, &all, i);
        if (by->offset.data)
            number -= number_for(&by->offset, &all, i);
        number *= number_for(&by->scale, &all, i);
        if (all.dtype == PAL_FLOAT16)
            ((uint16_t *)computed)[i] = f16_from_double((double)number);
        else
            ((float *)computed)[i] = number;
    }
    *lut = all;
    lut->data = computed;
    scratch_free(*owned);
    *owned = computed;
    return PAL_OK;
}

/* A scale of what is looked up is one of its tables: dimension by dimension, with two more. */
static pal_status raise_rank(tensor *t, const palette *p)
{
    if (t->rank != p->rank || t->rank + 2 > PAL_MAX_RANK)
        return fail(PAL_ERROR_UNSUPPORTED, "its scale has not the rank of its values");
    t->shape[t->rank++] = 1;
    t->shape[t->rank++] = 1;
    return PAL_OK;
}

/* Whether a palette can have the scale as it is. */
static bool scale_fits(const shift_scale *by, const tensor *lut, const palette *p)
{
    bool fits = !by->offset.data && by->scale.dtype == lut->dtype && by->scale.rank == p->rank;
    for (size_t d = 0; fits && d < p->rank; d++)
        fits = by->scale.shape[d] == 1 || by->scale.shape[d] == p->shape[d];
    return fits;
}

/* Applies the operation that scales what is looked up. */
static pal_status read_scale(coreml *state, const lut_chain *chain, const char *what, tensor *lut,
                             void **owned, palette *p)
{
    shift_scale by;
    pal_status status = read_shift_scale(state, chain->scale, what, &by);
    if (status)
        return status;
    if (scale_fits(&by, lut, p)) {
        p->scale = by.scale.data;
        memcpy(p->scale_shape, by.scale.shape, sizeof p->scale_shape);
        return PAL_OK;
    }
    enum { FEW = 65536, TIMES = 16 };
    uint64_t most = TIMES;
    for (size_t d = 0; d < p->rank; d++) /* it fits: a shape has at most 2^64 / 64 elements */
        most *= p->shape[d];
    most += FEW;
    status = raise_rank(&by.scale, p);
    if (!status && by.offset.data)
        status = raise_rank(&by.offset, p);
    return status ? status : scale_tables(&by, most, lut, owned);
}

/* ---------------------------------------------------------------- whole palettes */

/* Reads the LUT, given in place or computed; *owned then is its memory. */
static pal_status read_lut(coreml *state, const lut_chain *chain, const char *what, tensor *lut,
                           void **owned)
{
    shift_scale by;
    const Coreml__Operation *holder = chain->table_scale ? chain->table_scale : chain->look_up;
    Coreml__Value *value = operation_parameter(holder, chain->table_scale ? "data" : "lut");
    if (!value)
        return fail(PAL_ERROR_UNSUPPORTED, "its look-up table is itself computed from others");
    pal_status status = value_read(state, value, what, lut);
    if (status || !chain->table_scale)
        return status;
    status = read_shift_scale(state, chain->table_scale, what, &by);
    return status ? status : scale_tables(&by, 0, lut, owned);
}

static pal_status read_parts(coreml *state, const lut_chain *chain, const pal_weight *info,
                             palette *p)
{
    tensor lut, indices;
    Coreml__Value *value =
        operation_parameter(chain->look_up, chain->sparse ? "indices_nonzero_data" : "indices");
    if (!value)
        return fail(PAL_ERROR_UNSUPPORTED, "its indices are stored in an unknown form");
    pal_status status = value_read(state, value, info->name, &indices);
    if (!status)
        status = read_lut(state, chain, info->name, &lut, &p->owned[0]);
    if (!status && (!lut.data || !indices.data || info->elements == 0))
        status = fail(PAL_ERROR_UNSUPPORTED, "its values are stored in an unknown form");
    if (!status && chain->scale)
        status = read_scale(state, chain, info->name, &lut, &p->owned[0], p);
    if (status)
        return status;
    p->lut = lut.data;
    p->indices = indices.data;
    if (lut.dtype != info->dtype || pal_dtype_bits(lut.dtype) > 32)
        return malformed("its LUT is not of the type of its output");
    if (lut.rank == 1)
        return chain->sparse ? contradiction() : read_packed(&lut, &indices, p);
    status = read_table_shape(state, chain->look_up, &lut, indices.dtype, p);
    if (status)
        return status;
    return chain->sparse ? read_sparse(state, chain->look_up, info->name, &indices, p)
                         : read_blocks(&indices, p);
}

pal_status coreml_read_palette(const pal_model *model, size_t weight, palette **out)
{
    coreml *state = model->state;
    const weight_place *place = &state->places[weight];
    const pal_weight *info = &model->weights[weight].info;
    if (!place->chain.look_up)
        return fail(PAL_ERROR_UNSUPPORTED, "it is palettized in an unknown way");
    palette *p = mem_zeroed(1, sizeof *p);
    if (!p)
        return fail_memory("reading a palette");
    p->dtype = p->lut_dtype = info->dtype;
    p->rank = info->rank;
    memcpy(p->shape, info->shape, sizeof p->shape);
    pal_status status = read_parts(state, &place->chain, info, p);
    if (status) {
        palette_free(p);
        return status == PAL_ERROR_UNSUPPORTED
                   ? status
                   : fail_context(status, "%s: %s", state->model_path, info->name);
    }
    *out = p;
    return PAL_OK;
}
