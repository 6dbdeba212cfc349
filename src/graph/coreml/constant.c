/* Constants of a program as tensors of the graph. They are made when something first uses them:
 * most are parameters that nobody needs as a tensor. */
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "graph/coreml/lowering.h"
#include "palette/pack.h"

/* ---------------------------------------------------------------- elements */

static uint8_t packed_element(const tensor *t, uint64_t i)
{
    uint8_t element;
    unpack_indices(t->data, i, 1, pal_dtype_bits(t->dtype), &element);
    return element;
}

static int64_t sign_extend(uint8_t nibble)
{
    return nibble >= 8 ? (int64_t)nibble - 16 : nibble;
}

int64_t mil_tensor_int(const tensor *t, uint64_t i)
{
    switch (t->dtype) {
    case PAL_INT4: return sign_extend(packed_element(t, i));
    case PAL_INT8: return ((const int8_t *)t->data)[i];
    case PAL_INT16: return ((const int16_t *)t->data)[i];
    case PAL_INT32: return ((const int32_t *)t->data)[i];
    case PAL_INT64: return ((const int64_t *)t->data)[i];
    case PAL_UINT1:
    case PAL_UINT2:
    case PAL_UINT3:
    case PAL_UINT4:
    case PAL_UINT6: return packed_element(t, i);
    case PAL_UINT8: return ((const uint8_t *)t->data)[i];
    case PAL_UINT16: return ((const uint16_t *)t->data)[i];
    case PAL_UINT32: return ((const uint32_t *)t->data)[i];
    case PAL_UINT64: return (int64_t)((const uint64_t *)t->data)[i];
    default: return 0;
    }
}

float mil_tensor_float(const tensor *t, uint64_t i)
{
    switch (t->dtype) {
    case PAL_FLOAT16: return f16_to_float(((const uint16_t *)t->data)[i]);
    case PAL_BFLOAT16: return bf16_to_float(((const uint16_t *)t->data)[i]);
    case PAL_FLOAT32: return ((const float *)t->data)[i];
    case PAL_FLOAT64: return (float)((const double *)t->data)[i];
    default: return (float)mil_tensor_int(t, i);
    }
}

/* ---------------------------------------------------------------- reading */

static const Coreml__TensorValue *immediate_tensor(const Coreml__Value *value)
{
    return value->value_case == COREML__VALUE__VALUE_IMMEDIATE_VALUE && value->immediate_value &&
                   value->immediate_value->value_case == COREML__IMMEDIATE_VALUE__VALUE_TENSOR
               ? value->immediate_value->tensor
               : NULL;
}

/* Types that format/coreml has no use for: booleans, wide numbers, and short ones that stand as
 * 32-bit numbers (coremltools writes uint16 so). */
static bool read_wide(const Coreml__TensorValue *t, const mil_type *type, tensor *out,
                      uint64_t *held)
{
    _Static_assert(sizeof(protobuf_c_boolean) == sizeof(int), "read as such below");
    if (type->is_bool && t->value_case == COREML__TENSOR_VALUE__VALUE_BOOLS && t->bools) {
        out->dtype = PAL_INT32;
        out->data = t->bools->values;
        *held = t->bools->n_values;
    } else if (type->dtype == PAL_INT64 && t->value_case == COREML__TENSOR_VALUE__VALUE_LONG_INTS &&
               t->long_ints) {
        out->data = t->long_ints->values;
        *held = t->long_ints->n_values;
    } else if (type->type == GRAPH_INT && t->value_case == COREML__TENSOR_VALUE__VALUE_INTS &&
               t->ints) {
        out->dtype = PAL_INT32;
        out->data = t->ints->values;
        *held = t->ints->n_values;
    } else if (type->dtype == PAL_FLOAT64 && t->value_case == COREML__TENSOR_VALUE__VALUE_DOUBLES &&
               t->doubles) {
        out->data = t->doubles->values;
        *held = t->doubles->n_values;
    } else {
        return false;
    }
    return true;
}

static void read_literal(lowering *low, const mil_value *value, tensor *out)
{
    static const char no_data[8];
    const mil_type *type = &value->type;
    const Coreml__TensorValue *t = immediate_tensor(value->literal);
    uint64_t held;
    pal_status status = value_read(low->state, value->literal, "a constant", out);
    if (status) {
        mil_failed(low, status);
        return;
    }
    if (t && read_wide(t, type, out, &held)) {
        out->rank = type->rank;
        out->elements = 1;
        for (size_t d = 0; d < type->rank; d++) {
            out->shape[d] = (uint64_t)type->shape[d];
            if (type->shape[d] < 0 || !mem_multiply(out->elements, out->shape[d], &out->elements))
                out->elements = UINT64_MAX;
        }
        if (out->elements != held)
            mil_fail(low, PAL_ERROR_FORMAT, "the constant '%.*s' holds %llu numbers, not %llu",
                     (int)value->name.len, (const char *)value->name.data, (unsigned long long)held,
                     (unsigned long long)out->elements);
    }
    if (!out->data && out->dtype != PAL_DTYPE_OTHER && out->elements == 0)
        out->data = no_data;
    if (!low->status && !out->data)
        mil_fail(low, PAL_ERROR_UNSUPPORTED,
                 "the constant '%.*s' is stored in a form that this version does not read",
                 (int)value->name.len, (const char *)value->name.data);
}

void mil_constant_read(lowering *low, const mil_value *value, tensor *out, void **owned)
{
    *out = (tensor){0};
    *owned = NULL;
    if (low->status)
        return;
    if (value->constexpr)
        mil_constexpr_read(low, value->constexpr, value->output, out, owned, 0);
    else if (value->literal)
        read_literal(low, value, out);
    else
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "'%.*s' is not constant", (int)value->name.len,
                 (const char *)value->name.data);
    /* What follows reads numbers where they lie. */
    if (!low->status && (uintptr_t)out->data % 8 && pal_dtype_bits(out->dtype) > 8)
        mil_fail(low, PAL_ERROR_FORMAT, "the constant '%.*s' is not aligned", (int)value->name.len,
                 (const char *)value->name.data);
}

/* ---------------------------------------------------------------- tensors of the graph */

static void fill_floats(const tensor *t, float *to)
{
    if (t->dtype == PAL_FLOAT16)
        for (uint64_t i = 0; i < t->elements; i++)
            to[i] = f16_to_float(((const uint16_t *)t->data)[i]);
    else
        for (uint64_t i = 0; i < t->elements; i++)
            to[i] = mil_tensor_float(t, i);
}

static const graph_tensor *make_tensor(lowering *low, const mil_type *type, const tensor *t)
{
    int64_t shape[PAL_MAX_RANK];
    if (t->rank != type->rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "a constant of %zu dimensions, declared with %zu", t->rank,
                 type->rank);
        return NULL;
    }
    for (size_t d = 0; d < t->rank; d++) {
        shape[d] = (int64_t)t->shape[d];
        if (shape[d] != type->shape[d]) {
            mil_fail(low, PAL_ERROR_FORMAT, "a constant's shape is not the one declared");
            return NULL;
        }
    }
    graph_tensor *made = t->dtype == PAL_FLOAT32 && t->in_file
                             ? graph_add_view(low->graph, GRAPH_FLOAT, t->rank, shape, t->data)
                             : graph_add_tensor(low->graph, type->type, t->rank, shape);
    if (!made)
        mil_failed(low, PAL_ERROR_MEMORY);
    else if (!made->owned)
        return made;
    else if (type->type == GRAPH_FLOAT)
        fill_floats(t, made->owned);
    else if (type->type == GRAPH_INT)
        for (uint64_t i = 0; i < t->elements; i++)
            ((int64_t *)made->owned)[i] = mil_tensor_int(t, i);
    else
        for (uint64_t i = 0; i < t->elements; i++)
            ((uint8_t *)made->owned)[i] = mil_tensor_int(t, i) != 0;
    return made;
}

/* A compressed weight through its palette; any other constant as it stands. */
static void read_value(lowering *low, const mil_value *value, tensor *t, void **owned)
{
    if (value->weight == GRAPH_NONE || !value->constexpr ||
        !mil_constexpr_read_weight(low, value->weight, t, owned))
        mil_constant_read(low, value, t, owned);
}

static char *value_name(lowering *low, const mil_value *value)
{
    char *name = arena_copy(&low->arena, value->name.data, value->name.len);
    if (!name)
        mil_failed(low, fail_memory("reading a program"));
    return name;
}

size_t mil_use(lowering *low, mil_value *value)
{
    if (low->status || !value)
        return GRAPH_NONE;
    if (value->value != GRAPH_NONE)
        return value->value;
    if (!value->type.is_tensor || (!value->literal && !value->constexpr)) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "'%.*s' is no tensor", (int)value->name.len,
                 (const char *)value->name.data);
        return GRAPH_NONE;
    }
    tensor t;
    void *owned;
    read_value(low, value, &t, &owned);
    const graph_tensor *made = low->status ? NULL : make_tensor(low, &value->type, &t);
    scratch_free(owned);
    const char *name = value_name(low, value);
    if (!made || !name)
        return GRAPH_NONE;
    value->value = graph_add_constant(low->graph, name, made);
    if (value->value == GRAPH_NONE)
        mil_failed(low, PAL_ERROR_MEMORY);
    else
        low->graph->values[value->value].weight = value->weight;
    return value->value;
}

/* ---------------------------------------------------------------- the model's weights */

typedef struct weight_entry {
    const Coreml__Operation *operation;
    size_t weight;
} weight_entry;

static int compare_entries(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t)((const weight_entry *)a)->operation;
    const uintptr_t y = (uintptr_t)((const weight_entry *)b)->operation;
    return x < y ? -1 : x > y;
}

pal_status mil_weights_index(lowering *low)
{
    const pal_model *model = low->model;
    low->weights = mem_array(model->weight_count, sizeof *low->weights);
    if (!low->weights)
        return fail_memory("reading a program");
    for (size_t i = 0; i < model->weight_count; i++) {
        const weight_place *place = &low->state->places[i];
        low->weights[i] = (weight_entry){place->block->operations[place->operation], i};
    }
    qsort(low->weights, model->weight_count, sizeof *low->weights, compare_entries);
    return PAL_OK;
}

size_t mil_weight_of(const lowering *low, const Coreml__Operation *operation)
{
    const weight_entry key = {operation, 0};
    const weight_entry *found =
        low->model->weight_count
            ? bsearch(&key, low->weights, low->model->weight_count, sizeof key, compare_entries)
            : NULL;
    return found ? found->weight : GRAPH_NONE;
}
