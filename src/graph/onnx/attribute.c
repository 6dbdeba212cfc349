#include <string.h>

#include "graph/onnx/lowering.h"

static const Onnx__Attribute *find_name(Onnx__Attribute *const *list, size_t count,
                                        ProtobufCBinaryData name)
{
    for (size_t i = 0; i < count; i++)
        if (same_bytes(list[i]->name, name))
            return list[i];
    return NULL;
}

const Onnx__Attribute *attribute(const lowering *low, const char *name)
{
    const Onnx__Attribute *found = low->node ? node_attribute(low->node, name) : NULL;
    /* Within a function an attribute may stand for one of the call, or for the function's default.
     */
    for (const call *call = low->call; found && found->ref_attr_name.len; call = call->outer) {
        if (!call)
            return NULL;
        const Onnx__Attribute *given =
            find_name(call->node->attribute, call->node->n_attribute, found->ref_attr_name);
        if (!given)
            return find_name(call->function->attribute_proto, call->function->n_attribute_proto,
                             found->ref_attr_name);
        found = given;
    }
    return found;
}

int64_t attribute_int(const lowering *low, const char *name, int64_t otherwise)
{
    const Onnx__Attribute *found = attribute(low, name);
    return found && found->has_i ? found->i : otherwise;
}

float attribute_float(const lowering *low, const char *name, float otherwise)
{
    const Onnx__Attribute *found = attribute(low, name);
    return found && found->has_f ? found->f : otherwise;
}

size_t attribute_ints(lowering *low, const char *name, int64_t *numbers, size_t most)
{
    const Onnx__Attribute *found = attribute(low, name);
    if (!found || low->status)
        return NONE;
    if (found->n_ints > most) {
        low_fail(low, PAL_ERROR_UNSUPPORTED, "its attribute %s has %zu numbers", name,
                 found->n_ints);
        return NONE;
    }
    if (found->n_ints)
        memcpy(numbers, found->ints, found->n_ints * sizeof *numbers);
    return found->n_ints;
}

size_t attribute_floats(lowering *low, const char *name, float *numbers, size_t most)
{
    const Onnx__Attribute *found = attribute(low, name);
    if (!found || low->status)
        return NONE;
    if (found->n_floats > most) {
        low_fail(low, PAL_ERROR_UNSUPPORTED, "its attribute %s has %zu numbers", name,
                 found->n_floats);
        return NONE;
    }
    if (found->n_floats)
        memcpy(numbers, found->floats, found->n_floats * sizeof *numbers);
    return found->n_floats;
}

bool attribute_is(const lowering *low, const char *name, const char *text)
{
    const Onnx__Attribute *found = attribute(low, name);
    return found && found->has_s && protobuf_equal(found->s, text);
}

int attribute_choice(lowering *low, const char *name, int otherwise, const char *const *choices)
{
    const Onnx__Attribute *found = attribute(low, name);
    if (!found || !found->has_s)
        return otherwise;
    for (int i = 0; choices[i]; i++)
        if (protobuf_equal(found->s, choices[i]))
            return i;
    low_fail(low, PAL_ERROR_UNSUPPORTED, "its attribute %s is '%.*s'", name,
             (int)(found->s.len < 64 ? found->s.len : 64),
             found->s.data ? (const char *)found->s.data : "");
    return otherwise;
}
