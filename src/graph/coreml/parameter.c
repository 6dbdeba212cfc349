/* The inputs of the operation at hand: values of the graph, and parameters that are constant. */
#include <string.h>
#include <strings.h>

#include "graph/coreml/lowering.h"

/* ---------------------------------------------------------------- values */

static const Coreml__Argument *argument(const lowering *low, const char *key)
{
    const Coreml__Operation *operation = low->operation;
    for (size_t i = 0; i < operation->n_inputs; i++)
        if (protobuf_equal(operation->inputs[i]->key, key))
            return operation->inputs[i]->value;
    return NULL;
}

static mil_value *literal(lowering *low, const Coreml__Value *value)
{
    mil_value *made = arena_zeroed(&low->arena, sizeof *made);
    if (!made) {
        mil_failed(low, fail_memory("reading a program"));
        return NULL;
    }
    *made = (mil_value){.literal = value, .value = GRAPH_NONE, .weight = GRAPH_NONE};
    pal_status status = mil_type_read(value->type, &made->type);
    if (status) {
        mil_failed(low, status);
        return NULL;
    }
    return made;
}

static mil_value *bound(lowering *low, const Coreml__Binding *binding)
{
    if (binding->binding_case == COREML__BINDING__BINDING_VALUE && binding->value)
        return literal(low, binding->value);
    mil_value *found = binding->binding_case == COREML__BINDING__BINDING_NAME
                           ? mil_scope_find(low, binding->name)
                           : NULL;
    if (!found)
        mil_fail(low, PAL_ERROR_FORMAT, "nothing defines its input '%.*s'",
                 binding->binding_case == COREML__BINDING__BINDING_NAME ? (int)binding->name.len
                                                                        : 0,
                 (const char *)binding->name.data);
    return found;
}

size_t mil_count(lowering *low, const char *key)
{
    const Coreml__Argument *found = low->status ? NULL : argument(low, key);
    return found ? found->n_arguments : 0;
}

mil_value *mil_input_at(lowering *low, const char *key, size_t i)
{
    const Coreml__Argument *found = low->status ? NULL : argument(low, key);
    return found && i < found->n_arguments ? bound(low, found->arguments[i]) : NULL;
}

mil_value *mil_input(lowering *low, const char *key)
{
    if (low->status)
        return NULL;
    if (mil_count(low, key) > 1)
        mil_fail(low, PAL_ERROR_FORMAT, "its input %s is several", key);
    mil_value *value = mil_input_at(low, key, 0);
    const Coreml__Value *attribute =
        value || low->status ? NULL : operation_attribute(low->operation, key);
    return attribute ? literal(low, attribute) : value;
}

size_t mil_want(lowering *low, const char *key)
{
    return mil_use(low, mil_input(low, key));
}

size_t mil_need(lowering *low, const char *key)
{
    mil_value *value = mil_input(low, key);
    if (!value)
        mil_fail(low, PAL_ERROR_FORMAT, "its input %s is missing", key);
    return mil_use(low, value);
}

/* ---------------------------------------------------------------- types */

mil_type mil_type_of(lowering *low, const char *key)
{
    const mil_value *value = mil_input_at(low, key, 0);
    return value ? value->type : (mil_type){0};
}

mil_type mil_type_of_output(lowering *low, size_t i)
{
    mil_type type = {0};
    if (low->status)
        return type;
    if (i >= low->operation->n_outputs)
        mil_fail(low, PAL_ERROR_FORMAT, "its output %zu is missing", i);
    else if (mil_type_read(low->operation->outputs[i]->type, &type))
        mil_failed(low, PAL_ERROR_UNSUPPORTED);
    return type;
}

int64_t mil_dimension_of(lowering *low, const mil_type *type, int64_t axis)
{
    const size_t at = mil_make_axis(low, axis, type->rank);
    if (low->status)
        return 1;
    if (type->shape[at] < 1)
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "an input of an open or empty extent in dimension %zu",
                 at);
    return low->status ? 1 : type->shape[at];
}

size_t mil_make_axis(lowering *low, int64_t axis, size_t rank)
{
    if (low->status)
        return 0;
    const int64_t counted = axis < 0 ? axis + (int64_t)rank : axis;
    if (counted < 0 || counted >= (int64_t)rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "axis %lld of %zu dimensions", (long long)axis, rank);
        return 0;
    }
    return (size_t)counted;
}

/* ---------------------------------------------------------------- parameters */

bool mil_is_given(lowering *low, const char *key)
{
    return mil_input(low, key) != NULL;
}

bool mil_is_constant(lowering *low, const char *key)
{
    const mil_value *value = mil_input(low, key);
    return value && (value->literal || value->constexpr);
}

/* An integer of the 32 bits that MIL has: sums and products of a few of them do not overflow. */
static int64_t integer(lowering *low, const char *key, const tensor *t, uint64_t i)
{
    const int64_t number = dtype_is_float(t->dtype) ? INT64_MAX : mil_tensor_int(t, i);
    if (number >= -INT64_C(0x80000000) && number <= INT64_C(0xffffffff))
        return number;
    mil_fail(low, PAL_ERROR_FORMAT, "its %s is no integer, or too large", key);
    return 0;
}

/* False where it is not given, or something failed. */
static bool read(lowering *low, const char *key, tensor *t, void **owned)
{
    const mil_value *value = mil_input(low, key);
    *owned = NULL;
    if (!value)
        return false;
    mil_constant_read(low, value, t, owned);
    if (low->status) {
        scratch_free(*owned);
        *owned = NULL;
    }
    return !low->status;
}

static bool read_one(lowering *low, const char *key, tensor *t, void **owned)
{
    if (!read(low, key, t, owned))
        return false;
    if (t->elements == 1)
        return true;
    mil_fail(low, PAL_ERROR_FORMAT, "its %s is no single number", key);
    scratch_free(*owned);
    return false;
}

int64_t mil_param_int(lowering *low, const char *key, int64_t otherwise)
{
    tensor t;
    void *owned;
    if (!read_one(low, key, &t, &owned))
        return otherwise;
    const int64_t number = integer(low, key, &t, 0);
    scratch_free(owned);
    return number;
}

float mil_param_float(lowering *low, const char *key, float otherwise)
{
    tensor t;
    void *owned;
    if (!read_one(low, key, &t, &owned))
        return otherwise;
    const float number = mil_tensor_float(&t, 0);
    scratch_free(owned);
    return number;
}

bool mil_param_bool(lowering *low, const char *key, bool otherwise)
{
    return mil_param_int(low, key, otherwise) != 0;
}

size_t mil_param_ints(lowering *low, const char *key, int64_t *numbers, size_t most)
{
    tensor t;
    void *owned;
    if (!read(low, key, &t, &owned))
        return 0;
    size_t count = 0;
    if (t.elements > most)
        mil_fail(low, PAL_ERROR_FORMAT, "its %s are %llu numbers, more than %zu", key,
                 (unsigned long long)t.elements, most);
    else
        for (; count < t.elements; count++)
            numbers[count] = integer(low, key, &t, count);
    scratch_free(owned);
    return count;
}

size_t mil_param_axis(lowering *low, const char *key, int64_t otherwise, size_t rank)
{
    return mil_make_axis(low, mil_param_int(low, key, otherwise), rank);
}

/* ---------------------------------------------------------------- texts */

const char *mil_param_text(lowering *low, const char *key, const char *otherwise)
{
    const mil_value *value = mil_input(low, key);
    const Coreml__ImmediateValue *immediate =
        value && value->literal &&
                value->literal->value_case == COREML__VALUE__VALUE_IMMEDIATE_VALUE
            ? value->literal->immediate_value
            : NULL;
    const Coreml__TensorValue *t =
        immediate && immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_TENSOR
            ? immediate->tensor
            : NULL;
    if (!value)
        return otherwise;
    if (!t || t->value_case != COREML__TENSOR_VALUE__VALUE_STRINGS || !t->strings ||
        t->strings->n_values != 1) {
        mil_fail(low, PAL_ERROR_FORMAT, "its %s is no text", key);
        return otherwise;
    }
    const char *text =
        arena_copy(&low->arena, t->strings->values[0].data, t->strings->values[0].len);
    if (!text)
        mil_failed(low, fail_memory("reading a program"));
    return text ? text : otherwise;
}

int mil_param_choice(lowering *low, const char *key, int otherwise, const char *const *choices)
{
    const char *text = mil_param_text(low, key, NULL);
    if (!text)
        return otherwise;
    for (int i = 0; choices[i]; i++)
        if (strcasecmp(text, choices[i]) == 0)
            return i;
    mil_fail(low, PAL_ERROR_UNSUPPORTED, "its %s is '%.64s'", key, text);
    return otherwise;
}
