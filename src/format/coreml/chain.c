/* Finds and describes the operations that together make a palettized weight. */
#include <string.h>

#include "format/coreml/coreml.h"

const char LUT_TO_DENSE[] = "constexpr_lut_to_dense";
const char LUT_TO_SPARSE[] = "constexpr_lut_to_sparse";
const char SPARSE_TO_DENSE[] = "constexpr_sparse_to_dense";
const char SHIFT_SCALE[] = "constexpr_blockwise_shift_scale";

/* The operation before `before` that last defines the name, if it is of this type and the name is
 * that of output number `output`. */
static const Coreml__Operation *definition(const Coreml__Block *block, size_t *before,
                                           ProtobufCBinaryData name, const char *type,
                                           size_t output)
{
    for (size_t i = *before; i-- > 0;) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t j = 0; j < operation->n_outputs; j++) {
            const ProtobufCBinaryData *defined = &operation->outputs[j]->name;
            if (defined->len != name.len || memcmp(defined->data, name.data, name.len) != 0)
                continue;
            *before = i;
            return j == output && protobuf_equal(operation->type, type) ? operation : NULL;
        }
    }
    return NULL;
}

/* The operation of this type that computes an input of the operation at *index, which becomes its
 * own; NULL if the input is given in place or computed in another way. */
static const Coreml__Operation *input_definition(const Coreml__Block *block, size_t *index,
                                                 const char *input, const char *type, size_t output)
{
    const Coreml__Binding *binding = operation_input(block->operations[*index], input);
    if (!binding || binding->binding_case != COREML__BINDING__BINDING_NAME || !binding->name.len)
        return NULL;
    return definition(block, index, binding->name, type, output);
}

bool coreml_find_chain(const Coreml__Block *block, size_t index, lut_chain *out)
{
    size_t at = index, mask_at = index;
    const Coreml__Operation *operation = block->operations[index];
    *out = (lut_chain){.result = operation};
    if (protobuf_equal(operation->type, LUT_TO_DENSE)) {
        out->look_up = operation;
    } else if (protobuf_equal(operation->type, SHIFT_SCALE)) {
        out->look_up = input_definition(block, &at, "data", LUT_TO_DENSE, 0);
        out->scale = operation;
    } else if (protobuf_equal(operation->type, SPARSE_TO_DENSE)) {
        const Coreml__Operation *mask = input_definition(block, &mask_at, "mask", LUT_TO_SPARSE, 0);
        out->look_up = input_definition(block, &at, "nonzero_data", LUT_TO_SPARSE, 1);
        out->sparse = true;
        if (mask != out->look_up)
            return false;
    }
    if (!out->look_up)
        return false;
    out->table_scale = input_definition(block, &at, "lut", SHIFT_SCALE, 0);
    return true;
}

pal_storage coreml_storage(const Coreml__Block *block, size_t index)
{
    static const struct {
        const char *begin;
        pal_storage storage;
    } kinds[] = {
        {"constexpr_lut_to_", PAL_STORAGE_PALETTIZED},
        {"constexpr_sparse", PAL_STORAGE_SPARSE},
        {"constexpr_affine", PAL_STORAGE_QUANTIZED},
        {"constexpr_blockwise", PAL_STORAGE_QUANTIZED},
    };
    lut_chain chain;
    ProtobufCBinaryData type = block->operations[index]->type;
    if (protobuf_equal(type, "const"))
        return PAL_STORAGE_DENSE;
    if (coreml_find_chain(block, index, &chain))
        return chain.sparse ? PAL_STORAGE_PALETTIZED_SPARSE : PAL_STORAGE_PALETTIZED;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t n = strlen(kinds[i].begin);
        if (type.len >= n && memcmp(type.data, kinds[i].begin, n) == 0)
            return kinds[i].storage;
    }
    return PAL_STORAGE_OTHER;
}

/* ---------------------------------------------------------------- describing */

static unsigned log2_exact(uint64_t n)
{
    unsigned bits = 0;
    while (n > 1 && n % 2 == 0) {
        n /= 2;
        bits++;
    }
    return n == 1 ? bits : 0;
}

/* Adds what one parameter of a compressed weight takes. */
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
    if (protobuf_equal(key, "quantized_data") || protobuf_equal(key, "data"))
        info->nbits = pal_dtype_bits(t.dtype);
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

/* nbits and num_luts from the shape of the table. */
static pal_status describe_table(const lut_chain *chain, pal_weight *info)
{
    tensor t;
    bool known = false;
    const Coreml__Value *value = chain->table_scale
                                     ? operation_parameter(chain->table_scale, "data")
                                     : operation_parameter(chain->look_up, "lut");
    info->nbits = 0;
    pal_status status = value ? value_type_read(value->type, &t, &known) : PAL_OK;
    if (status || !known)
        return status;
    info->num_luts = 1;
    for (size_t d = 0; d + 2 < t.rank; d++)
        if (!mem_multiply(info->num_luts, t.shape[d], &info->num_luts))
            return fail(PAL_ERROR_FORMAT, "a look-up table whose size overflows");
    info->nbits = log2_exact(t.rank > 2 ? t.shape[t.rank - 2] : t.elements);
    return PAL_OK;
}

pal_status coreml_describe_constexpr(const coreml *state, const Coreml__Block *block, size_t index,
                                     pal_weight *info)
{
    lut_chain chain;
    info->bytes = 0;
    info->num_luts = 0;
    pal_status status = describe_parameters(block->operations[index], info);
    if (!status && coreml_find_chain(block, index, &chain)) {
        if (chain.look_up != chain.result)
            status = describe_parameters(chain.look_up, info);
        if (!status && chain.table_scale)
            status = describe_parameters(chain.table_scale, info);
        if (!status)
            status = describe_table(&chain, info);
    }
    return status ? fail_context(status, "%s: %s", state->model_path, info->name) : PAL_OK;
}
