/* Compressed constants, decoded: the constexpr_... operators of iOS16 and iOS18. One may be an
 * input of another (sparse, then palettized, with a quantized look-up table). Parameters are
 * attributes before iOS18 and inputs from then on.
 *
 * Where the runtime computes in a type of 16 bits, the result here is computed in float32 and
 * rounded once. */
#include <string.h>

#include "base/half.h"
#include "graph/coreml/lowering.h"
#include "palette/pack.h"

enum { MAX_CHAIN = 4 };

/* ---------------------------------------------------------------- tensors */

/* A tensor, and the scratch memory that it may lie in. */
typedef struct part {
    tensor t;
    void *owned;
} part;

/* Elements of less than a byte get one each. */
static pal_dtype widened(pal_dtype dtype)
{
    if (dtype == PAL_INT4)
        return PAL_INT8;
    return dtype >= PAL_UINT1 && dtype < PAL_UINT8 ? PAL_UINT8 : dtype;
}

static bool make(lowering *low, pal_dtype dtype, size_t rank, const uint64_t *shape, part *out)
{
    *out = (part){.t = {.dtype = widened(dtype), .rank = rank, .elements = 1}};
    const unsigned bits = pal_dtype_bits(out->t.dtype);
    bool fits = !low->status && bits % 8 == 0 && bits != 0 && rank <= PAL_MAX_RANK;
    for (size_t d = 0; fits && d < rank; d++) {
        out->t.shape[d] = shape[d];
        fits = mem_multiply(out->t.elements, shape[d], &out->t.elements);
    }
    if (!fits || out->t.elements > UINT64_MAX / 8) {
        mil_fail(low, PAL_ERROR_FORMAT, "a constant of impossible size");
        return false;
    }
    out->t.bytes = out->t.elements * (bits / 8);
    out->t.data = out->owned = scratch_zeroed(out->t.elements, bits / 8);
    if (!out->owned)
        mil_failed(low, fail_memory("decoding a constant"));
    return out->owned != NULL;
}

static void put(const part *out, uint64_t i, float value)
{
    switch (out->t.dtype) {
    case PAL_FLOAT16: ((uint16_t *)out->owned)[i] = f16_from_double((double)value); break;
    case PAL_BFLOAT16: ((uint16_t *)out->owned)[i] = bf16_from_double((double)value); break;
    case PAL_FLOAT32: ((float *)out->owned)[i] = value; break;
    case PAL_INT8: ((int8_t *)out->owned)[i] = (int8_t)value; break;
    case PAL_UINT8: ((uint8_t *)out->owned)[i] = (uint8_t)value; break;
    default: break;
    }
}

static bool is_storable(pal_dtype dtype)
{
    const pal_dtype wide = widened(dtype);
    return wide == PAL_FLOAT16 || wide == PAL_BFLOAT16 || wide == PAL_FLOAT32 || wide == PAL_INT8 ||
           wide == PAL_UINT8;
}

/* ---------------------------------------------------------------- parameters */

static bool has_part(const Coreml__Operation *operation, const char *key)
{
    return operation_input(operation, key) || operation_attribute(operation, key);
}

/* A parameter given in place, or the result of a const or another constexpr operation. */
static void read_part(lowering *low, const Coreml__Operation *operation, const char *key, int depth,
                      part *out)
{
    *out = (part){0};
    if (low->status)
        return;
    const Coreml__Value *value = operation_parameter(operation, key);
    const Coreml__Binding *binding = operation_input(operation, key);
    const mil_value *named = NULL;
    if (value) {
        mil_value literal = {.literal = value};
        pal_status status = mil_type_read(value->type, &literal.type);
        if (status)
            mil_failed(low, status);
        mil_constant_read(low, &literal, &out->t, &out->owned);
        return;
    }
    if (binding && binding->binding_case == COREML__BINDING__BINDING_NAME)
        named = mil_scope_find(low, binding->name);
    if (!named)
        mil_fail(low, PAL_ERROR_FORMAT, "a compressed constant lacks its %s", key);
    else if (named->constexpr)
        mil_constexpr_read(low, named->constexpr, named->output, &out->t, &out->owned, depth + 1);
    else
        mil_constant_read(low, named, &out->t, &out->owned);
}

/* The shape that iOS16's forms spell out. */
static size_t read_shape(lowering *low, const Coreml__Operation *operation, uint64_t *shape)
{
    part p;
    read_part(low, operation, "shape", 0, &p);
    if (!low->status && (p.t.rank != 1 || p.t.elements > PAL_MAX_RANK))
        mil_fail(low, PAL_ERROR_FORMAT, "a compressed constant's shape is no vector");
    for (uint64_t d = 0; !low->status && d < p.t.elements; d++)
        shape[d] = (uint64_t)mil_tensor_int(&p.t, d);
    const size_t rank = low->status ? 0 : (size_t)p.t.elements;
    scratch_free(p.owned);
    return rank;
}

static int64_t read_axis(lowering *low, const Coreml__Operation *operation, const char *key,
                         size_t rank)
{
    part p;
    read_part(low, operation, key, 0, &p);
    int64_t axis = low->status || p.t.elements != 1 ? (int64_t)rank : mil_tensor_int(&p.t, 0);
    scratch_free(p.owned);
    return (int64_t)mil_make_axis(low, axis, rank);
}

/* ---------------------------------------------------------------- grids */

/* Which element of a smaller tensor goes with each of a larger one: along each dimension blocks of
 * some length share one. Rows are those of the last dimension. */
typedef struct grid {
    size_t rank;
    uint64_t shape[PAL_MAX_RANK], block[PAL_MAX_RANK], stride[PAL_MAX_RANK];
    uint64_t row, rows;
} grid;

/* False where the small shape does not divide the large one. */
static bool grid_make(const tensor *large, const uint64_t *small, grid *out)
{
    uint64_t stride = 1;
    *out = (grid){.rank = large->rank, .rows = 1};
    if (large->rank == 0)
        return false;
    for (size_t d = large->rank; d-- > 0;) {
        if (small[d] == 0 || large->shape[d] % small[d])
            return false;
        out->shape[d] = large->shape[d];
        out->block[d] = large->shape[d] / small[d];
        out->stride[d] = stride;
        stride *= small[d];
    }
    out->row = large->shape[large->rank - 1];
    out->rows = out->row ? large->elements / out->row : 0;
    return true;
}

static uint64_t grid_row(const grid *g, uint64_t row)
{
    uint64_t at = 0;
    for (size_t d = g->rank - 1; d-- > 0;) {
        at += row % g->shape[d] / g->block[d] * g->stride[d];
        row /= g->shape[d];
    }
    return at;
}

/* The coordinate of a row along an axis before the last. */
static uint64_t grid_coordinate(const grid *g, uint64_t row, size_t axis)
{
    for (size_t d = g->rank - 1; d-- > axis + 1;)
        row /= g->shape[d];
    return row % g->shape[axis];
}

/* ---------------------------------------------------------------- sparse tensors */

/* Elements where the mask (one bit each, packed) is set come from `nonzero`, in order; the others
 * are 0. */
static void scatter_mask(lowering *low, const tensor *mask, const tensor *nonzero, const part *out)
{
    uint64_t used = 0;
    for (uint64_t i = 0; i < out->t.elements; i++) {
        if (!(((const uint8_t *)mask->data)[i / 8] >> i % 8 & 1))
            continue;
        if (used == nonzero->elements)
            break;
        put(out, i, mil_tensor_float(nonzero, used++));
    }
    uint64_t set = 0;
    for (uint64_t i = 0; i < out->t.elements; i++)
        set += ((const uint8_t *)mask->data)[i / 8] >> i % 8 & 1;
    if (set != nonzero->elements)
        mil_fail(low, PAL_ERROR_FORMAT, "a mask has %llu elements, its constant %llu",
                 (unsigned long long)set, (unsigned long long)nonzero->elements);
}

/* The elements of `dense` where the mask is set. */
static void gather_mask(lowering *low, const tensor *mask, const tensor *dense, uint64_t count,
                        part *out)
{
    uint64_t used = 0;
    if (!make(low, dense->dtype, 1, &count, out))
        return;
    for (uint64_t i = 0; i < dense->elements && used < count; i++)
        if (((const uint8_t *)mask->data)[i / 8] >> i % 8 & 1)
            put(out, used++, mil_tensor_float(dense, i));
}

/* A mask and values that belong together, made dense; the mask stays with the caller. */
static void read_sparse(lowering *low, const Coreml__Operation *operation, const char *mask_key,
                        const char *values_key, int depth, part *mask, part *nonzero, part *dense)
{
    *dense = (part){0};
    read_part(low, operation, mask_key, depth, mask);
    read_part(low, operation, values_key, depth, nonzero);
    if (low->status)
        return;
    uint64_t shape[PAL_MAX_RANK];
    size_t rank = mask->t.rank;
    if (has_part(operation, "shape"))
        rank = read_shape(low, operation, shape);
    else
        memcpy(shape, mask->t.shape, sizeof shape);
    if (!low->status && !is_storable(nonzero->t.dtype))
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "sparse values of type %s",
                 pal_dtype_name(nonzero->t.dtype));
    /* Before memory is asked for: the mask is what the file has to say of so many elements. */
    bool fits = mask->t.dtype == PAL_UINT1 || mask->t.dtype == PAL_UINT8;
    uint64_t elements = 1;
    for (size_t d = 0; fits && !low->status && d < rank; d++)
        fits = mem_multiply(elements, shape[d], &elements);
    if (!low->status && (!fits || mask->t.bytes != elements / 8 + (elements % 8 != 0)))
        mil_fail(low, PAL_ERROR_FORMAT, "a mask does not fit its constant");
    if (!low->status && make(low, nonzero->t.dtype, rank, shape, dense))
        scatter_mask(low, &mask->t, &nonzero->t, dense);
}

static void sparse_to_dense(lowering *low, const Coreml__Operation *operation, int depth, part *out)
{
    part mask = {0}, nonzero = {0};
    read_sparse(low, operation, "mask", "nonzero_data", depth, &mask, &nonzero, out);
    scratch_free(mask.owned);
    scratch_free(nonzero.owned);
}

/* ---------------------------------------------------------------- scale and offset */

/* (data - offset) scale, in the type of scale. Both grids come from their tensors' shapes. */
static void shift_scale(lowering *low, const tensor *data, const tensor *scale,
                        const uint64_t *scale_shape, const tensor *offset,
                        const uint64_t *offset_shape, part *out)
{
    grid scales, offsets;
    if (low->status)
        return;
    if (!grid_make(data, scale_shape, &scales) ||
        (offset && !grid_make(data, offset_shape, &offsets))) {
        mil_fail(low, PAL_ERROR_FORMAT,
                 "the shapes of data, scale and offset contradict each other");
        return;
    }
    if (!dtype_is_float(scale->dtype) || !is_storable(scale->dtype)) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "a scale of type %s", pal_dtype_name(scale->dtype));
        return;
    }
    if (!make(low, scale->dtype, data->rank, data->shape, out))
        return;
    const size_t last = data->rank - 1;
    for (uint64_t row = 0, i = 0; row < scales.rows; row++) {
        const uint64_t s = grid_row(&scales, row), o = offset ? grid_row(&offsets, row) : 0;
        for (uint64_t j = 0; j < scales.row; j++, i++) {
            float value = mil_tensor_float(data, i);
            if (offset)
                value -=
                    mil_tensor_float(offset, o + j / offsets.block[last] * offsets.stride[last]);
            put(out, i,
                value * mil_tensor_float(scale, s + j / scales.block[last] * scales.stride[last]));
        }
    }
}

static void affine_dequantize(lowering *low, const Coreml__Operation *operation, int depth,
                              part *out)
{
    part data = {0}, scale = {0}, zero = {0};
    uint64_t shapes[2][PAL_MAX_RANK];
    read_part(low, operation, "quantized_data", depth, &data);
    read_part(low, operation, "scale", depth, &scale);
    read_part(low, operation, "zero_point", depth, &zero);
    const size_t axis = low->status ? 0 : (size_t)read_axis(low, operation, "axis", data.t.rank);
    const part *parts[2] = {&scale, &zero};
    for (int p = 0; !low->status && p < 2; p++) {
        for (size_t d = 0; d < data.t.rank; d++)
            shapes[p][d] = 1;
        if (parts[p]->t.rank == 1)
            shapes[p][axis] = parts[p]->t.elements;
        else if (parts[p]->t.elements != 1)
            mil_fail(low, PAL_ERROR_FORMAT, "a scale that is neither a number nor a vector");
    }
    if (!low->status)
        shift_scale(low, &data.t, &scale.t, shapes[0], &zero.t, shapes[1], out);
    scratch_free(data.owned);
    scratch_free(scale.owned);
    scratch_free(zero.owned);
}

/* With a mask: of sparse data, dense in between. */
static void blockwise(lowering *low, const Coreml__Operation *operation, size_t output, int depth,
                      bool sparse, part *out)
{
    part data = {0}, scale = {0}, offset = {0}, mask = {0}, nonzero = {0}, dense = {0};
    if (sparse)
        read_sparse(low, operation, "data_mask", "nonzero_data", depth, &mask, &nonzero, &data);
    else
        read_part(low, operation, "data", depth, &data);
    read_part(low, operation, "scale", depth, &scale);
    const bool shifted = has_part(operation, "offset");
    if (shifted)
        read_part(low, operation, "offset", depth, &offset);
    if (!low->status && (scale.t.rank != data.t.rank || (shifted && offset.t.rank != data.t.rank)))
        mil_fail(low, PAL_ERROR_FORMAT, "data, scale and offset differ in rank");
    if (!low->status && sparse && output == 0) {
        *out = mask; /* handed on */
        mask = (part){0};
    } else if (!low->status) {
        shift_scale(low, &data.t, &scale.t, scale.t.shape, shifted ? &offset.t : NULL,
                    offset.t.shape, sparse ? &dense : out);
        if (!low->status && sparse)
            gather_mask(low, &mask.t, &dense.t, nonzero.t.elements, out);
    }
    part *const parts[] = {&data, &scale, &offset, &mask, &nonzero, &dense};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        scratch_free(parts[i]->owned);
}

/* ---------------------------------------------------------------- look-up tables */

static unsigned log2_exact(uint64_t n)
{
    unsigned bits = 0;
    for (; n > 1 && n % 2 == 0; n /= 2)
        bits++;
    return n == 1 ? bits : 0;
}

/* Indices as bytes. */
static void unpack(lowering *low, const tensor *packed, part *out)
{
    const unsigned nbits = pal_dtype_bits(packed->dtype);
    if (packed->dtype < PAL_UINT1 || packed->dtype > PAL_UINT8)
        mil_fail(low, PAL_ERROR_FORMAT, "indices of type %s", pal_dtype_name(packed->dtype));
    else if (make(low, PAL_UINT8, packed->rank, packed->shape, out))
        unpack_indices(packed->data, 0, (size_t)packed->elements, nbits, out->owned);
}

/* Looks every index up. lut: tables along each dimension, entries, values of an entry, which lie
 * along `axis` of the result. */
static void look_up(lowering *low, const tensor *indices, const tensor *lut, size_t axis, part *out)
{
    const size_t rank = indices->rank;
    grid tables, places;
    uint64_t shape[PAL_MAX_RANK];
    if (lut->rank != rank + 2 || rank == 0 || lut->elements == 0) {
        mil_fail(low, PAL_ERROR_FORMAT, "a look-up table's rank is not that of its indices plus 2");
        return;
    }
    const uint64_t entries = lut->shape[rank], vector = lut->shape[rank + 1];
    bool fits = true;
    for (size_t d = 0; d < rank; d++)
        fits = fits && lut->shape[d] && indices->shape[d] % lut->shape[d] == 0;
    memcpy(shape, indices->shape, sizeof shape);
    if (!fits || !mem_multiply(shape[axis], vector, &shape[axis]) || !is_storable(lut->dtype) ||
        !make(low, lut->dtype, rank, shape, out) || !grid_make(&out->t, lut->shape, &tables) ||
        !grid_make(&out->t, indices->shape, &places)) {
        mil_fail(low, PAL_ERROR_FORMAT,
                 "the shapes of indices and look-up table contradict each other");
        return;
    }
    const uint8_t *index = indices->data;
    const size_t last = rank - 1;
    for (uint64_t row = 0, i = 0; row < places.rows; row++) {
        const uint64_t t = grid_row(&tables, row), p = grid_row(&places, row);
        const uint64_t lane = axis == last ? 0 : grid_coordinate(&places, row, axis) % vector;
        for (uint64_t j = 0; j < places.row; j++, i++) {
            const uint64_t table = t + j / tables.block[last] * tables.stride[last];
            const uint64_t entry = index[p + j / places.block[last] * places.stride[last]];
            const uint64_t k = axis == last ? j % vector : lane;
            if (entry >= entries) {
                mil_fail(low, PAL_ERROR_FORMAT, "an index beyond its look-up table");
                return;
            }
            put(out, i, mil_tensor_float(lut, (table * entries + entry) * vector + k));
        }
    }
}

/* iOS16's form: one table, and the indices as bytes that hold them packed. */
static void packed_form(lowering *low, const Coreml__Operation *operation, part *indices, part *lut)
{
    static const pal_dtype by_width[9] = {
        [1] = PAL_UINT1, [2] = PAL_UINT2, [3] = PAL_UINT3,
        [4] = PAL_UINT4, [6] = PAL_UINT6, [8] = PAL_UINT8,
    };
    const unsigned nbits = log2_exact(lut->t.elements);
    tensor *t = &indices->t;
    t->rank = read_shape(low, operation, t->shape);
    t->elements = 1;
    bool fits = !low->status && pack_width_is_valid(nbits) && t->dtype == PAL_UINT8 &&
                t->rank > 0 && t->rank + 2 <= PAL_MAX_RANK;
    for (size_t d = 0; fits && d < t->rank; d++)
        fits = mem_multiply(t->elements, t->shape[d], &t->elements);
    if (!fits || t->elements > UINT64_MAX / 8 || t->bytes != pack_bytes(t->elements, nbits)) {
        mil_fail(low, PAL_ERROR_FORMAT, "packed indices that fit neither their table nor shape");
        return;
    }
    t->dtype = by_width[nbits];
    lut->t.shape[t->rank] = lut->t.elements;
    for (size_t d = 0; d < t->rank; d++)
        lut->t.shape[d] = 1;
    lut->t.shape[t->rank + 1] = 1;
    lut->t.rank = t->rank + 2;
}

static size_t vector_axis(lowering *low, const Coreml__Operation *operation, size_t rank)
{
    return has_part(operation, "vector_axis")
               ? (size_t)read_axis(low, operation, "vector_axis", rank)
               : rank - 1;
}

static void lut_to_dense(lowering *low, const Coreml__Operation *operation, int depth, part *out)
{
    part indices = {0}, lut = {0}, bytes = {0};
    read_part(low, operation, "indices", depth, &indices);
    read_part(low, operation, "lut", depth, &lut);
    if (!low->status && has_part(operation, "shape"))
        packed_form(low, operation, &indices, &lut);
    if (!low->status)
        unpack(low, &indices.t, &bytes);
    const size_t axis = low->status ? 0 : vector_axis(low, operation, bytes.t.rank);
    if (!low->status)
        look_up(low, &bytes.t, &lut.t, axis, out);
    scratch_free(indices.owned);
    scratch_free(lut.owned);
    scratch_free(bytes.owned);
}

/* A mask of indices as the mask of what they stand for: repeated along the vectors' axis. */
static void expand_mask(lowering *low, const tensor *mask, const tensor *dense, part *out)
{
    grid places;
    const uint64_t bytes = (dense->elements + 7) / 8;
    if (!make(low, PAL_UINT8, 1, &bytes, out) || !grid_make(dense, mask->shape, &places))
        return;
    const size_t last = dense->rank - 1;
    for (uint64_t row = 0, i = 0; row < places.rows; row++) {
        const uint64_t p = grid_row(&places, row);
        for (uint64_t j = 0; j < places.row; j++, i++) {
            const uint64_t at = p + j / places.block[last] * places.stride[last];
            if (((const uint8_t *)mask->data)[at / 8] >> at % 8 & 1)
                ((uint8_t *)out->owned)[i / 8] |= (uint8_t)(1u << i % 8);
        }
    }
    out->t.dtype = PAL_UINT1;
    out->t.rank = dense->rank;
    out->t.elements = dense->elements;
    memcpy(out->t.shape, dense->shape, sizeof out->t.shape);
}

static void lut_to_sparse(lowering *low, const Coreml__Operation *operation, size_t output,
                          int depth, part *out)
{
    part mask = {0}, nonzero = {0}, indices = {0}, lut = {0}, dense = {0}, wide = {0};
    read_sparse(low, operation, "indices_mask", "indices_nonzero_data", depth, &mask, &nonzero,
                &indices);
    read_part(low, operation, "lut", depth, &lut);
    const size_t axis =
        low->status || !indices.t.rank ? 0 : vector_axis(low, operation, indices.t.rank);
    if (!low->status && (indices.t.dtype != PAL_UINT8 || mask.t.dtype != PAL_UINT1))
        mil_fail(low, PAL_ERROR_FORMAT, "sparse indices of an impossible type");
    if (!low->status)
        look_up(low, &indices.t, &lut.t, axis, &dense);
    if (!low->status)
        expand_mask(low, &mask.t, &dense.t, &wide);
    if (!low->status && output == 0) {
        *out = wide;
        wide = (part){0};
    } else if (!low->status) {
        /* No overflow: the dense tensor, which is larger, was made. */
        gather_mask(low, &wide.t, &dense.t, nonzero.t.elements * lut.t.shape[lut.t.rank - 1], out);
    }
    part *const parts[] = {&mask, &nonzero, &indices, &lut, &dense, &wide};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        scratch_free(parts[i]->owned);
}

/* ---------------------------------------------------------------- all of them */

static void cast(lowering *low, const Coreml__Operation *operation, int depth, part *out)
{
    part source;
    mil_type type = {0};
    read_part(low, operation, "source_val", depth, &source);
    pal_status status =
        operation->n_outputs ? mil_type_read(operation->outputs[0]->type, &type) : PAL_OK;
    if (status)
        mil_failed(low, status);
    if (!low->status && (!is_storable(source.t.dtype) || !is_storable(type.dtype)))
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "a constant of type %s, cast to %s",
                 pal_dtype_name(source.t.dtype), pal_dtype_name(type.dtype));
    if (!low->status && make(low, type.dtype, source.t.rank, source.t.shape, out))
        for (uint64_t i = 0; i < source.t.elements; i++)
            put(out, i, mil_tensor_float(&source.t, i));
    scratch_free(source.owned);
}

void mil_constexpr_read(lowering *low, const Coreml__Operation *operation, size_t output,
                        tensor *out, void **owned, int depth)
{
    const ProtobufCBinaryData type = operation->type;
    part result = {0};
    if (depth > MAX_CHAIN)
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "compressed constants nested deeper than %d",
                 MAX_CHAIN);
    else if (protobuf_equal(type, "constexpr_lut_to_dense"))
        lut_to_dense(low, operation, depth, &result);
    else if (protobuf_equal(type, "constexpr_affine_dequantize"))
        affine_dequantize(low, operation, depth, &result);
    else if (protobuf_equal(type, "constexpr_blockwise_shift_scale"))
        blockwise(low, operation, output, depth, false, &result);
    else if (protobuf_equal(type, "constexpr_sparse_to_dense"))
        sparse_to_dense(low, operation, depth, &result);
    else if (protobuf_equal(type, "constexpr_lut_to_sparse"))
        lut_to_sparse(low, operation, output, depth, &result);
    else if (protobuf_equal(type, "constexpr_sparse_blockwise_shift_scale"))
        blockwise(low, operation, output, depth, true, &result);
    else if (protobuf_equal(type, "constexpr_cast"))
        cast(low, operation, depth, &result);
    else
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "a constant compressed by %.*s", (int)type.len,
                 (const char *)type.data);
    *out = result.t;
    *owned = result.owned;
}

bool mil_constexpr_read_weight(lowering *low, size_t weight, tensor *out, void **owned)
{
    const pal_weight *info = &low->model->weights[weight].info;
    palette *palette = NULL;
    *out = (tensor){0};
    *owned = NULL;
    if (low->status || info->storage != PAL_STORAGE_PALETTIZED)
        return false;
    pal_status status = low->model->format->read_palette(low->model, weight, &palette);
    if (status) {
        if (status != PAL_ERROR_UNSUPPORTED)
            mil_failed(low, status);
        return false;
    }
    part decoded;
    if (make(low, info->dtype, info->rank, info->shape, &decoded)) {
        status = palette_decode(palette, decoded.owned);
        if (status)
            mil_failed(low, status);
        *out = decoded.t;
        *owned = decoded.owned;
    }
    palette_free(palette);
    return true;
}
