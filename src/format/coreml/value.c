#include <string.h>

#include "format/coreml/coreml.h"
#include "palette/pack.h"

/* ---------------------------------------------------------------- reading */

/* Bytes that a tensor's values take; false on overflow. */
static bool tensor_size(tensor *t)
{
    t->elements = 1;
    for (size_t d = 0; d < t->rank; d++)
        if (!mem_multiply(t->elements, t->shape[d], &t->elements))
            return false;
    if (t->elements > UINT64_MAX / 64)
        return false;
    t->bytes = (t->elements * pal_dtype_bits(t->dtype) + 7) / 8;
    return true;
}

pal_status value_type_read(const Coreml__ValueType *type, tensor *out, bool *known)
{
    *out = (tensor){0};
    *known = false;
    if (!type || type->type_case != COREML__VALUE_TYPE__TYPE_TENSOR_TYPE || !type->tensor_type)
        return PAL_OK;
    const Coreml__TensorType *t = type->tensor_type;
    if (t->n_dimensions > PAL_MAX_RANK || t->rank < 0 || (uint64_t)t->rank != t->n_dimensions)
        return PAL_OK;
    out->dtype = mil_to_dtype(t->data_type);
    out->rank = t->n_dimensions;
    for (size_t d = 0; d < out->rank; d++) {
        const Coreml__Dimension *dimension = t->dimensions[d];
        if (dimension->dimension_case != COREML__DIMENSION__DIMENSION_CONSTANT ||
            !dimension->constant)
            return PAL_OK;
        out->shape[d] = dimension->constant->size;
    }
    if (!tensor_size(out))
        return fail(PAL_ERROR_FORMAT, "a shape whose size overflows");
    *known = out->dtype != PAL_DTYPE_OTHER;
    return PAL_OK;
}

static pal_status read_blob_value(coreml *state, const Coreml__BlobFileValue *reference,
                                  tensor *out)
{
    if (reference->offset >= PENDING) {
        const pending_blob *pending = &state->pending[reference->offset - PENDING];
        out->data = pending->data;
        return PAL_OK;
    }
    weight_file *file;
    blob blob;
    pal_status status = coreml_weight_file(state, reference->file_name, &file);
    if (!status)
        status = blob_read(file->path, &file->map, reference->offset, &blob);
    if (status)
        return status;
    if (blob.dtype != out->dtype || blob.bytes != out->bytes)
        return fail(PAL_ERROR_FORMAT,
                    "the model declares %llu bytes of %s, %s has %llu of %s at offset %llu",
                    (unsigned long long)out->bytes, pal_dtype_name(out->dtype), file->path,
                    (unsigned long long)blob.bytes, pal_dtype_name(blob.dtype),
                    (unsigned long long)reference->offset);
    out->data = blob.data;
    out->in_file = true;
    return PAL_OK;
}

static pal_status read_immediate_value(const Coreml__ImmediateValue *immediate, tensor *out)
{
    const Coreml__TensorValue *t =
        immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_TENSOR ? immediate->tensor : NULL;
    uint64_t bytes = 0;
    if (t && t->value_case == COREML__TENSOR_VALUE__VALUE_FLOATS && t->floats &&
        out->dtype == PAL_FLOAT32) {
        out->data = t->floats->values;
        bytes = t->floats->n_values * sizeof(float);
    } else if (t && t->value_case == COREML__TENSOR_VALUE__VALUE_INTS && t->ints &&
               (out->dtype == PAL_INT32 || out->dtype == PAL_UINT32)) {
        out->data = t->ints->values;
        bytes = t->ints->n_values * sizeof(int32_t);
    } else if (t && t->value_case == COREML__TENSOR_VALUE__VALUE_BYTES && t->bytes) {
        out->data = t->bytes->values.data;
        bytes = t->bytes->values.len;
    } else {
        out->data = NULL; /* stored in a way that holds no numbers for us */
        return PAL_OK;
    }
    if (bytes != out->bytes)
        return fail(PAL_ERROR_FORMAT, "the model declares %llu bytes and holds %llu",
                    (unsigned long long)out->bytes, (unsigned long long)bytes);
    return PAL_OK;
}

pal_status value_read(coreml *state, const Coreml__Value *value, const char *what, tensor *out)
{
    bool known;
    pal_status status = value_type_read(value->type, out, &known);
    if (!status && known) {
        if (value->value_case == COREML__VALUE__VALUE_BLOB_FILE_VALUE && value->blob_file_value)
            status = read_blob_value(state, value->blob_file_value, out);
        else if (value->value_case == COREML__VALUE__VALUE_IMMEDIATE_VALUE &&
                 value->immediate_value)
            status = read_immediate_value(value->immediate_value, out);
    }
    return status ? fail_context(status, "%s: %s", state->model_path, what) : PAL_OK;
}

/* ---------------------------------------------------------------- making */

#define NEW(state, descriptor) protobuf_new(&(state)->edits, &descriptor)

Coreml__ValueType *value_type_make(coreml *state, const tensor *tensor)
{
    Coreml__ValueType *type = NEW(state, coreml__value_type__descriptor);
    Coreml__TensorType *t = NEW(state, coreml__tensor_type__descriptor);
    Coreml__Dimension **dimensions =
        arena_zeroed(&state->edits, (tensor->rank + 1) * sizeof *dimensions);
    if (!type || !t || !dimensions)
        return NULL;
    type->type_case = COREML__VALUE_TYPE__TYPE_TENSOR_TYPE;
    type->tensor_type = t;
    t->has_data_type = true;
    t->data_type = mil_from_dtype(tensor->dtype);
    t->has_rank = tensor->rank > 0; /* an absent rank is 0 */
    t->rank = (int64_t)tensor->rank;
    t->n_dimensions = tensor->rank;
    t->dimensions = dimensions;
    for (size_t d = 0; d < tensor->rank; d++) {
        Coreml__Dimension *dimension = NEW(state, coreml__dimension__descriptor);
        Coreml__ConstantDimension *constant = NEW(state, coreml__constant_dimension__descriptor);
        if (!dimension || !constant)
            return NULL;
        constant->has_size = true;
        constant->size = tensor->shape[d];
        dimension->dimension_case = COREML__DIMENSION__DIMENSION_CONSTANT;
        dimension->constant = constant;
        dimensions[d] = dimension;
    }
    return type;
}

/* The pending blob for these data: weights that share a palette share its blobs. */
static bool pending_find_or_add(coreml *state, const tensor *tensor, size_t *index)
{
    for (*index = 0; *index < state->pending_count; ++*index)
        if (state->pending[*index].data == tensor->data &&
            state->pending[*index].dtype == tensor->dtype)
            return true;
    if (!mem_grow((void **)&state->pending, &state->pending_capacity, state->pending_count + 1,
                  sizeof *state->pending))
        return false;
    state->pending[state->pending_count++] = (pending_blob){
        .dtype = tensor->dtype,
        .data = tensor->data,
        .bytes = tensor->bytes,
        .elements = tensor->elements,
    };
    return true;
}

static Coreml__BlobFileValue *blob_make(coreml *state, const weight_file *file,
                                        const tensor *tensor)
{
    size_t index;
    Coreml__BlobFileValue *reference = NEW(state, coreml__blob_file_value__descriptor);
    char *name = arena_copy(&state->edits, file->name, strlen(file->name));
    if (!reference || !name || !pending_find_or_add(state, tensor, &index))
        return NULL;
    reference->has_file_name = true;
    reference->file_name = (ProtobufCBinaryData){strlen(name), (uint8_t *)name};
    reference->has_offset = true;
    reference->offset = PENDING + index;
    return reference;
}

static Coreml__ImmediateValue *immediate_make(coreml *state, const tensor *tensor)
{
    Coreml__ImmediateValue *immediate = NEW(state, coreml__immediate_value__descriptor);
    Coreml__TensorValue *t = NEW(state, coreml__tensor_value__descriptor);
    if (!immediate || !t)
        return NULL;
    immediate->value_case = COREML__IMMEDIATE_VALUE__VALUE_TENSOR;
    immediate->tensor = t;
    if (tensor->dtype == PAL_FLOAT32) {
        Coreml__RepeatedFloats *floats = NEW(state, coreml__repeated_floats__descriptor);
        if (!floats)
            return NULL;
        floats->n_values = tensor->elements;
        floats->values = (float *)tensor->data;
        t->value_case = COREML__TENSOR_VALUE__VALUE_FLOATS;
        t->floats = floats;
    } else if (tensor->dtype == PAL_INT32) {
        Coreml__RepeatedInts *ints = NEW(state, coreml__repeated_ints__descriptor);
        if (!ints)
            return NULL;
        ints->n_values = tensor->elements;
        ints->values = (int32_t *)tensor->data;
        t->value_case = COREML__TENSOR_VALUE__VALUE_INTS;
        t->ints = ints;
    } else {
        Coreml__RepeatedBytes *bytes = NEW(state, coreml__repeated_bytes__descriptor);
        if (!bytes)
            return NULL;
        bytes->has_values = true;
        bytes->values = (ProtobufCBinaryData){tensor->bytes, (uint8_t *)tensor->data};
        t->value_case = COREML__TENSOR_VALUE__VALUE_BYTES;
        t->bytes = bytes;
    }
    return immediate;
}

Coreml__Value *value_make(coreml *state, const weight_file *file, const tensor *tensor)
{
    enum { LEAST_IN_FILE = 10 }; /* elements, as coremltools has it */
    Coreml__Value *value = NEW(state, coreml__value__descriptor);
    if (!value)
        return NULL;
    value->type = value_type_make(state, tensor);
    if (file && tensor->elements >= LEAST_IN_FILE && blob_type_from_dtype(tensor->dtype)) {
        value->value_case = COREML__VALUE__VALUE_BLOB_FILE_VALUE;
        value->blob_file_value = blob_make(state, file, tensor);
        return value->type && value->blob_file_value ? value : NULL;
    }
    value->value_case = COREML__VALUE__VALUE_IMMEDIATE_VALUE;
    value->immediate_value = immediate_make(state, tensor);
    return value->type && value->immediate_value ? value : NULL;
}

/* ---------------------------------------------------------------- finding */

Coreml__Value *operation_attribute(const Coreml__Operation *operation, const char *key)
{
    for (size_t i = 0; i < operation->n_attributes; i++)
        if (protobuf_equal(operation->attributes[i]->key, key))
            return operation->attributes[i]->value;
    return NULL;
}

Coreml__Binding *operation_input(const Coreml__Operation *operation, const char *key)
{
    for (size_t i = 0; i < operation->n_inputs; i++) {
        const Coreml__Argument *argument = operation->inputs[i]->value;
        if (protobuf_equal(operation->inputs[i]->key, key))
            return argument && argument->n_arguments == 1 ? argument->arguments[0] : NULL;
    }
    return NULL;
}

Coreml__Value *operation_parameter(const Coreml__Operation *operation, const char *key)
{
    Coreml__Binding *binding = operation_input(operation, key);
    if (binding)
        return binding->binding_case == COREML__BINDING__BINDING_VALUE ? binding->value : NULL;
    return operation_attribute(operation, key);
}

text_span operation_text(const Coreml__Operation *operation, const char *key)
{
    const Coreml__Value *value = operation_attribute(operation, key);
    const Coreml__ImmediateValue *immediate =
        value && value->value_case == COREML__VALUE__VALUE_IMMEDIATE_VALUE ? value->immediate_value
                                                                           : NULL;
    const Coreml__TensorValue *t =
        immediate && immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_TENSOR
            ? immediate->tensor
            : NULL;
    if (!t || t->value_case != COREML__TENSOR_VALUE__VALUE_STRINGS || !t->strings ||
        t->strings->n_values == 0)
        return (text_span){"", 0};
    return (text_span){t->strings->values[0].data, t->strings->values[0].len};
}

text_span operation_name(const Coreml__Operation *operation)
{
    text_span name = operation_text(operation, "name");
    if (name.length == 0 && operation->n_outputs)
        name = (text_span){operation->outputs[0]->name.data, operation->outputs[0]->name.len};
    return name;
}
