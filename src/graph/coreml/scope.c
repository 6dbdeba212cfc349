/* Names of a program and their types. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- types */

static graph_type type_of_dtype(pal_dtype dtype)
{
    return dtype_is_float(dtype) ? GRAPH_FLOAT : GRAPH_INT;
}

pal_status mil_type_read(const Coreml__ValueType *type, mil_type *out)
{
    *out = (mil_type){0};
    if (!type || type->type_case != COREML__VALUE_TYPE__TYPE_TENSOR_TYPE || !type->tensor_type)
        return PAL_OK;
    const Coreml__TensorType *t = type->tensor_type;
    out->dtype = mil_to_dtype(t->data_type);
    out->is_bool = t->data_type == MIL_BOOL;
    if (out->dtype == PAL_DTYPE_OTHER && !out->is_bool)
        return PAL_OK; /* text */
    if (t->n_dimensions > PAL_MAX_RANK || t->rank < 0 || (uint64_t)t->rank != t->n_dimensions)
        return fail(PAL_ERROR_UNSUPPORTED, "a tensor of %lld dimensions", (long long)t->rank);
    out->is_tensor = true;
    out->type = out->is_bool ? GRAPH_BOOL : type_of_dtype(out->dtype);
    out->rank = t->n_dimensions;
    for (size_t d = 0; d < out->rank; d++) {
        const Coreml__Dimension *dimension = t->dimensions[d];
        const bool fixed = dimension->dimension_case == COREML__DIMENSION__DIMENSION_CONSTANT &&
                           dimension->constant;
        if (fixed && dimension->constant->size > INT32_MAX)
            return fail(PAL_ERROR_FORMAT, "a dimension of %llu",
                        (unsigned long long)dimension->constant->size);
        out->shape[d] = fixed ? (int64_t)dimension->constant->size : GRAPH_FREE;
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- names */

static uint32_t hash_name(ProtobufCBinaryData name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ name.data[i]) * 16777619u;
    return hash;
}

mil_value *mil_scope_find(lowering *low, ProtobufCBinaryData name)
{
    const uint32_t hash = hash_name(name);
    mil_value *value = low->buckets[hash % SCOPE_BUCKETS];
    while (value && (value->hash != hash || value->name.len != name.len ||
                     (name.len && memcmp(value->name.data, name.data, name.len) != 0)))
        value = value->below;
    return value;
}

mil_value *mil_scope_add(lowering *low, ProtobufCBinaryData name, const Coreml__ValueType *type)
{
    mil_type read;
    if (low->status)
        return NULL;
    pal_status status = mil_type_read(type, &read);
    mil_value *value = arena_zeroed(&low->arena, sizeof *value);
    if (status) {
        mil_failed(low, fail_context(status, "'%.*s'", (int)name.len, (const char *)name.data));
        return NULL;
    }
    if (!value) {
        mil_failed(low, fail_memory("reading a program"));
        return NULL;
    }
    const uint32_t hash = hash_name(name);
    mil_value **bucket = &low->buckets[hash % SCOPE_BUCKETS];
    *value = (mil_value){.name = name,
                         .hash = hash,
                         .below = *bucket,
                         .previous = low->newest,
                         .type = read,
                         .value = GRAPH_NONE,
                         .weight = GRAPH_NONE};
    return *bucket = low->newest = value;
}

void mil_scope_leave(lowering *low, mil_value *mark)
{
    for (; low->newest != mark; low->newest = low->newest->previous)
        low->buckets[low->newest->hash % SCOPE_BUCKETS] = low->newest->below;
}

/* ---------------------------------------------------------------- failures */

void mil_failed(lowering *low, pal_status status)
{
    if (low->status)
        return;
    low->status = low->operation ? fail_context(status, "%s: operation '%s' (%s)",
                                                low->state->model_path, low->name, low->type)
                                 : fail_context(status, "%s", low->state->model_path);
}

void mil_fail(lowering *low, pal_status status, const char *format, ...)
{
    char text[512];
    if (low->status)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    mil_failed(low, fail(status, "%s", text));
}
