/* Reading constexpr_lut_to_dense.
 *
 * Before iOS18 the operator takes attributes: lut [2^nbits], indices uint8 [bytes] packed, and
 * shape. From iOS18 on it takes inputs: indices of type uint<nbits> in the tensor's own shape, and
 * lut [tables along each dimension..., 2^nbits, vector size]. There the LUT may be the result of
 * constexpr_blockwise_shift_scale: an integer LUT, or one scaled for each channel. */
#include <string.h>

#include "base/half.h"
#include "format/coreml/coreml.h"
#include "palette/pack.h"

static const char LUT_TO_DENSE[] = "constexpr_lut_to_dense";

static pal_status malformed(const char *why)
{
    return fail(PAL_ERROR_FORMAT, "%s: %s", LUT_TO_DENSE, why);
}

static unsigned log2_exact(uint64_t n)
{
    unsigned bits = 0;
    while (n > 1 && n % 2 == 0) {
        n /= 2;
        bits++;
    }
    return n == 1 ? bits : 0;
}

/* The form before iOS18. */
static pal_status read_packed(const tensor *lut, const tensor *indices, palette *p)
{
    uint64_t elements = 1;
    p->nbits = log2_exact(lut->elements);
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

/* The form of iOS18 and later. */
static pal_status read_blocks(coreml *state, const Coreml__Operation *operation, const tensor *lut,
                              const tensor *indices, palette *p)
{
    if (lut->rank != indices->rank + 2 || indices->rank != p->rank)
        return malformed("its LUT's rank is not that of the indices plus two");
    p->nbits = pal_dtype_bits(indices->dtype);
    p->vector_size = lut->shape[p->rank + 1];
    if (indices->dtype < PAL_UINT1 || indices->dtype > PAL_UINT8 ||
        lut->shape[p->rank] != UINT64_C(1) << p->nbits || p->vector_size == 0)
        return malformed("its LUT does not have 2^nbits entries");
    if (p->vector_size > 1) {
        Coreml__Value *value = operation_parameter(operation, "vector_axis");
        tensor axis;
        if (!value)
            return malformed("it has vectors but no vector_axis");
        pal_status status = value_read(state, value, "vector_axis", &axis);
        if (status)
            return status;
        if (axis.dtype != PAL_INT32 || axis.elements != 1 || !axis.data)
            return malformed("its vector_axis is not an integer");
        int32_t number;
        memcpy(&number, axis.data, sizeof number);
        if (number < 0)
            number += (int32_t)p->rank;
        if (number < 0 || (size_t)number >= p->rank)
            return malformed("its vector_axis is out of range");
        p->vector_axis = (size_t)number;
    }
    for (size_t d = 0; d < p->rank; d++) {
        uint64_t vector = p->vector_size > 1 && d == p->vector_axis ? p->vector_size : 1;
        p->blocks[d] = lut->shape[d];
        if (p->blocks[d] == 0 || indices->shape[d] % p->blocks[d] != 0 ||
            p->shape[d] % vector != 0 || p->shape[d] / vector != indices->shape[d])
            return malformed("the shapes of its LUT, indices and output contradict each other");
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- a LUT that is computed */

static const char SHIFT_SCALE[] = "constexpr_blockwise_shift_scale";

/* The last operation before `before` that defines the name; SIZE_MAX if none does. */
static size_t block_definition(const Coreml__Block *block, size_t before, ProtobufCBinaryData name)
{
    for (size_t i = before; i-- > 0;) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t j = 0; j < operation->n_outputs; j++)
            if (operation->outputs[j]->name.len == name.len &&
                memcmp(operation->outputs[j]->name.data, name.data, name.len) == 0)
                return i;
    }
    return SIZE_MAX;
}

size_t coreml_lut_definition(const Coreml__Block *block, size_t index)
{
    const Coreml__Binding *binding = operation_input(block->operations[index], "lut");
    if (!binding || binding->binding_case != COREML__BINDING__BINDING_NAME)
        return SIZE_MAX;
    size_t i = block_definition(block, index, binding->name);
    return i != SIZE_MAX && protobuf_equal(block->operations[i]->type, SHIFT_SCALE) ? i : SIZE_MAX;
}

static float number_at(const tensor *t, uint64_t i)
{
    switch (t->dtype) {
    case PAL_FLOAT16: return f16_to_float(((const uint16_t *)t->data)[i]);
    case PAL_FLOAT32: return ((const float *)t->data)[i];
    case PAL_INT8: return ((const int8_t *)t->data)[i];
    default: return ((const uint8_t *)t->data)[i];
    }
}

/* The element of a tensor of the same rank, whose dimensions divide those of `data`, that goes with
 * element i of data. */
static float number_for(const tensor *t, const tensor *data, uint64_t i)
{
    uint64_t at = 0, stride = 1;
    for (size_t d = data->rank; d-- > 0;) {
        at += i % data->shape[d] / (data->shape[d] / t->shape[d]) * stride;
        i /= data->shape[d];
        stride *= t->shape[d];
    }
    return number_at(t, at);
}

static bool divides(const tensor *t, const tensor *data)
{
    bool ok = t->rank == data->rank && t->data;
    for (size_t d = 0; ok && d < t->rank; d++)
        ok = t->shape[d] && data->shape[d] % t->shape[d] == 0;
    return ok;
}

/* (data - offset) * scale, in float32, rounded once to the type of scale: an integer LUT, or one
 * with a scale for each channel. The values are scratch memory in `lut->data`. */
static pal_status read_scaled(coreml *state, const Coreml__Operation *operation, const char *what,
                              tensor *lut)
{
    tensor data, scale, offset = {0};
    Coreml__Value *values[3] = {operation_parameter(operation, "data"),
                                operation_parameter(operation, "scale"),
                                operation_parameter(operation, "offset")};
    if (!values[0] || !values[1])
        return fail(PAL_ERROR_UNSUPPORTED, "its look-up table is itself computed from others");
    pal_status status = value_read(state, values[0], what, &data);
    if (!status)
        status = value_read(state, values[1], what, &scale);
    if (!status && values[2])
        status = value_read(state, values[2], what, &offset);
    if (status)
        return status;
    const bool types_ok = (data.dtype == PAL_INT8 || data.dtype == PAL_UINT8 ||
                           data.dtype == PAL_FLOAT16 || data.dtype == PAL_FLOAT32) &&
                          (scale.dtype == PAL_FLOAT16 || scale.dtype == PAL_FLOAT32) &&
                          (!values[2] || offset.dtype == data.dtype);
    if (!types_ok || !data.data)
        return fail(PAL_ERROR_UNSUPPORTED, "its look-up table is stored as %s",
                    pal_dtype_name(data.dtype));
    if (!divides(&scale, &data) || (values[2] && !divides(&offset, &data)))
        return fail(PAL_ERROR_FORMAT,
                    "%s: %s: the shapes of its data, scale and offset contradict "
                    "each other",
                    what, SHIFT_SCALE);
    *lut = data;
    lut->dtype = scale.dtype;
    lut->bytes = data.elements * pal_dtype_bits(scale.dtype) / 8;
    void *computed = scratch_zeroed(data.elements, pal_dtype_bits(scale.dtype) / 8);
    if (!computed)
        return fail_memory("reading a look-up table");
    for (uint64_t i = 0; i < data.elements; i++) {
        float number = number_at(&data, i);
        if (values[2])
            number -= number_for(&offset, &data, i);
        number *= number_for(&scale, &data, i);
        if (scale.dtype == PAL_FLOAT16)
            ((uint16_t *)computed)[i] = f16_from_double((double)number);
        else
            ((float *)computed)[i] = number;
    }
    lut->data = computed;
    return PAL_OK;
}

/* ---------------------------------------------------------------- whole palettes */

/* Reads the LUT, given in place or computed; *computed then owns its memory. */
static pal_status read_lut(coreml *state, const weight_place *place, const char *what, tensor *lut,
                           void **computed)
{
    const Coreml__Operation *operation = place->block->operations[place->operation];
    Coreml__Value *value = operation_parameter(operation, "lut");
    *computed = NULL;
    if (value)
        return value_read(state, value, what, lut);
    size_t definition = coreml_lut_definition(place->block, place->operation);
    if (definition == SIZE_MAX)
        return fail(PAL_ERROR_UNSUPPORTED, "its look-up table is itself computed from others");
    pal_status status = read_scaled(state, place->block->operations[definition], what, lut);
    if (!status)
        *computed = (void *)lut->data;
    return status;
}

pal_status coreml_read_palette(const pal_model *model, size_t weight, palette **out)
{
    coreml *state = model->state;
    const weight_place *place = &state->places[weight];
    const Coreml__Operation *operation = place->block->operations[place->operation];
    const pal_weight *info = &model->weights[weight].info;
    Coreml__Value *indices_value = operation_parameter(operation, "indices");
    tensor lut, indices;
    void *computed;
    if (!protobuf_equal(operation->type, LUT_TO_DENSE) || !indices_value)
        return fail(PAL_ERROR_UNSUPPORTED, "it is sparse as well as palettized");
    pal_status status = value_read(state, indices_value, info->name, &indices);
    if (!status)
        status = read_lut(state, place, info->name, &lut, &computed);
    if (status)
        return status;
    palette *p = mem_zeroed(1, sizeof *p);
    if (!p) {
        scratch_free(computed);
        return fail_memory("reading a palette");
    }
    p->owned[0] = computed;
    p->dtype = p->lut_dtype = lut.dtype;
    p->rank = info->rank;
    memcpy(p->shape, info->shape, sizeof p->shape);
    p->lut = lut.data;
    p->indices = indices.data;
    if (!lut.data || !indices.data || info->elements == 0)
        status = fail(PAL_ERROR_UNSUPPORTED, "its values are stored in an unknown form");
    else if (lut.dtype != info->dtype || pal_dtype_bits(lut.dtype) > 32)
        status = malformed("its LUT is not of the type of its output");
    else
        status = lut.rank == 1 ? read_packed(&lut, &indices, p)
                               : read_blocks(state, operation, &lut, &indices, p);
    if (status) {
        palette_free(p);
        return status == PAL_ERROR_UNSUPPORTED
                   ? status
                   : fail_context(status, "%s: %s", state->model_path, info->name);
    }
    *out = p;
    return PAL_OK;
}

/* ---------------------------------------------------------------- describing */

/* Adds what one parameter of a compressed weight takes, and learns nbits and num_luts from it. */
static pal_status describe_parameter(ProtobufCBinaryData key, const Coreml__Value *value,
                                     pal_weight *info)
{
    tensor t;
    bool known;
    static const char *const no_values[] = {"name", "shape", "axis", "vector_axis"};
    for (size_t i = 0; i < sizeof no_values / sizeof *no_values; i++)
        if (!value || protobuf_equal(key, no_values[i]))
            return PAL_OK;
    pal_status status = value_type_read(value->type, &t, &known);
    if (status || !known)
        return status;
    info->bytes += t.bytes;
    if (protobuf_equal(key, "lut") && info->storage == PAL_STORAGE_PALETTIZED) {
        info->num_luts = 1;
        for (size_t d = 0; d + 2 < t.rank; d++)
            if (!mem_multiply(info->num_luts, t.shape[d], &info->num_luts))
                return malformed("a LUT whose size overflows");
        info->nbits = log2_exact(t.rank > 2 ? t.shape[t.rank - 2] : t.elements);
    } else if (protobuf_equal(key, "indices") && info->num_luts == 0) {
        info->nbits = pal_dtype_bits(t.dtype);
    } else if (protobuf_equal(key, "quantized_data") || protobuf_equal(key, "data")) {
        info->nbits = pal_dtype_bits(t.dtype);
    }
    return PAL_OK;
}

/* All parameters of an operation that are given in place. */
static pal_status describe_parameters(const Coreml__Operation *operation, pal_weight *info)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < operation->n_attributes; i++)
        status = describe_parameter(operation->attributes[i]->key, operation->attributes[i]->value,
                                    info);
    for (size_t i = 0; !status && i < operation->n_inputs; i++) {
        const Coreml__Argument *argument = operation->inputs[i]->value;
        for (size_t j = 0; !status && argument && j < argument->n_arguments; j++)
            if (argument->arguments[j]->binding_case == COREML__BINDING__BINDING_VALUE)
                status = describe_parameter(operation->inputs[i]->key,
                                            argument->arguments[j]->value, info);
    }
    return status;
}

pal_status coreml_describe_constexpr(coreml *state, const Coreml__Block *block, size_t index,
                                     pal_weight *info)
{
    info->bytes = 0;
    pal_status status = describe_parameters(block->operations[index], info);
    size_t definition = coreml_lut_definition(block, index);
    if (!status && definition != SIZE_MAX) {
        const Coreml__Operation *scaled = block->operations[definition];
        const unsigned nbits = info->nbits;
        tensor data;
        bool known = false;
        status = describe_parameters(scaled, info); /* for its bytes */
        info->nbits = nbits;
        if (!status && operation_parameter(scaled, "data"))
            status = value_type_read(operation_parameter(scaled, "data")->type, &data, &known);
        info->num_luts = 1;
        for (size_t d = 0; !status && known && d + 2 < data.rank; d++)
            info->num_luts *= data.shape[d]; /* no more than the elements */
    }
    return status ? fail_context(status, "%s: %s", state->model_path, info->name) : PAL_OK;
}
