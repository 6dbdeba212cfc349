/* Finds and describes the operations that together make a palettized weight. */
#include <string.h>

#include "format/coreml/coreml.h"

const char LUT_TO_DENSE[] = "constexpr_lut_to_dense";
const char LUT_TO_SPARSE[] = "constexpr_lut_to_sparse";
const char SPARSE_TO_DENSE[] = "constexpr_sparse_to_dense";
const char SHIFT_SCALE[] = "constexpr_blockwise_shift_scale";

/* The operation of this type whose output number `output` is an input of another; none if the input
 * is given in place or computed in another way. */
static value_definition input_definition(const Coreml__Operation *operation, const char *input,
                                         const char *type, size_t output, find_definition find,
                                         const void *user)
{
    const Coreml__Binding *binding = operation_input(operation, input);
    value_definition found = {0};
    if (binding && binding->binding_case == COREML__BINDING__BINDING_NAME && binding->name.len)
        found = find(user, binding->name);
    return found.operation && found.output == output && protobuf_equal(found.operation->type, type)
               ? found
               : (value_definition){0};
}

const Coreml__Operation *coreml_table_scale(const Coreml__Operation *operation,
                                            find_definition find, const void *user)
{
    const bool looks_up = protobuf_equal(operation->type, LUT_TO_DENSE) ||
                          protobuf_equal(operation->type, LUT_TO_SPARSE);
    return looks_up ? input_definition(operation, "lut", SHIFT_SCALE, 0, find, user).operation
                    : NULL;
}

lut_chain coreml_find_chain(const Coreml__Operation *operation, find_definition find,
                            const void *user)
{
    lut_chain chain = {.result = operation};
    value_definition look_up = {0};
    if (protobuf_equal(operation->type, LUT_TO_DENSE)) {
        look_up.operation = operation;
        look_up.table_scale = coreml_table_scale(operation, find, user);
    } else if (protobuf_equal(operation->type, SHIFT_SCALE)) {
        look_up = input_definition(operation, "data", LUT_TO_DENSE, 0, find, user);
    } else if (protobuf_equal(operation->type, SPARSE_TO_DENSE)) {
        look_up = input_definition(operation, "nonzero_data", LUT_TO_SPARSE, 1, find, user);
        const value_definition mask =
            input_definition(operation, "mask", LUT_TO_SPARSE, 0, find, user);
        if (mask.operation != look_up.operation)
            return chain;
    }
    if (!look_up.operation)
        return chain;
    chain.look_up = look_up.operation;
    chain.table_scale = look_up.table_scale;
    chain.scale = protobuf_equal(operation->type, SHIFT_SCALE) ? operation : NULL;
    chain.sparse = protobuf_equal(operation->type, SPARSE_TO_DENSE);
    return chain;
}

pal_storage coreml_storage(const lut_chain *chain)
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
    ProtobufCBinaryData type = chain->result->type;
    if (protobuf_equal(type, "const"))
        return PAL_STORAGE_DENSE;
    if (chain->look_up)
        return chain->sparse ? PAL_STORAGE_PALETTIZED_SPARSE : PAL_STORAGE_PALETTIZED;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t n = strlen(kinds[i].begin);
        if (type.len >= n && memcmp(type.data, kinds[i].begin, n) == 0)
            return kinds[i].storage;
    }
    return PAL_STORAGE_OTHER;
}

/* ---------------------------------------------------------------- describing */

unsigned coreml_table_bits(uint64_t entries)
{
    unsigned bits = 0;
    while (entries > 1 && entries % 2 == 0) {
        entries /= 2;
        bits++;
    }
    return entries == 1 ? bits : 0;
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
    info->nbits = coreml_table_bits(t.rank > 2 ? t.shape[t.rank - 2] : t.elements);
    return PAL_OK;
}

pal_status coreml_describe_constexpr(const coreml *state, const lut_chain *chain, pal_weight *info)
{
    info->bytes = 0;
    info->num_luts = 0;
    pal_status status = describe_parameters(chain->result, info);
    if (!status && chain->look_up) {
        if (chain->look_up != chain->result)
            status = describe_parameters(chain->look_up, info);
        if (!status && chain->table_scale)
            status = describe_parameters(chain->table_scale, info);
        if (!status)
            status = describe_table(chain, info);
    }
    return status ? fail_context(status, "%s: %s", state->model_path, info->name) : PAL_OK;
}
