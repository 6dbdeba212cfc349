/* Putting constexpr_lut_to_dense, or a plain constant, in the place of another operation. The
 * operator's two forms are described in lut.c. */
#include <stdlib.h>
#include <string.h>

#include "format/coreml/coreml.h"

static const char LUT_TO_DENSE[] = "constexpr_lut_to_dense";

/* ---------------------------------------------------------------- what a version can express */

pal_status coreml_can_express(const pal_model *model, size_t weight, const palette_form *form)
{
    const coreml *state = model->state;
    const weight_place *place = &state->places[weight];
    int needed = OPSET_IOS16;
    const char *option = "palettization";
    if (form->nbits == 3) {
        needed = OPSET_IOS18;
        option = "nbits 3";
    }
    if (form->grouped) {
        needed = OPSET_IOS18;
        option = "granularity per_grouped_channel";
    }
    if (form->vectors) {
        needed = OPSET_IOS18;
        option = "cluster_dim above 1";
    }
    if (place->opset >= needed)
        return PAL_OK;
    char needs[32], has[32];
    return fail(PAL_ERROR_UNSUPPORTED,
                "%s: %s needs opset %s; function %s has %s: convert the model with a newer "
                "minimum_deployment_target",
                model->path, option, opset_name(needed, needs), place->function,
                place->opset ? opset_name(place->opset, has) : "one of unknown version");
}

/* ---------------------------------------------------------------- making operations */

static Coreml__ValueEntry *attribute_make(coreml *state, const char *key, Coreml__Value *value)
{
    Coreml__ValueEntry *entry = protobuf_new(&state->edits, &coreml__value_entry__descriptor);
    if (!entry || !value)
        return NULL;
    entry->has_key = true;
    entry->key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
    entry->value = value;
    return entry;
}

static Coreml__ArgumentEntry *input_make(coreml *state, const char *key, Coreml__Value *value)
{
    Coreml__ArgumentEntry *entry = protobuf_new(&state->edits, &coreml__argument_entry__descriptor);
    Coreml__Argument *argument = protobuf_new(&state->edits, &coreml__argument__descriptor);
    Coreml__Binding *binding = protobuf_new(&state->edits, &coreml__binding__descriptor);
    Coreml__Binding **list = arena_alloc(&state->edits, sizeof *list);
    if (!entry || !argument || !binding || !list || !value)
        return NULL;
    binding->binding_case = COREML__BINDING__BINDING_VALUE;
    binding->value = value;
    *list = binding;
    argument->n_arguments = 1;
    argument->arguments = list;
    entry->has_key = true;
    entry->key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
    entry->value = argument;
    return entry;
}

/* A copy of `old` of another type, without its inputs and without the attributes that `old`'s type
 * had for its values; room for `room` more attributes. */
static Coreml__Operation *operation_make(coreml *state, const Coreml__Operation *old,
                                         const char *type, size_t room)
{
    static const char *const values[] = {"val", "lut", "indices", "shape"};
    Coreml__Operation *operation = arena_alloc(&state->edits, sizeof *operation);
    Coreml__ValueEntry **attributes =
        arena_alloc(&state->edits, (old->n_attributes + room + 1) * sizeof *attributes);
    if (!operation || !attributes)
        return NULL;
    *operation = *old;
    operation->has_type = true;
    operation->type = (ProtobufCBinaryData){strlen(type), (uint8_t *)type};
    operation->n_inputs = 0;
    operation->inputs = NULL;
    operation->attributes = attributes;
    operation->n_attributes = 0;
    for (size_t i = 0; i < old->n_attributes; i++) {
        bool keep = true;
        for (size_t j = 0; j < sizeof values / sizeof *values; j++)
            keep = keep && !protobuf_equal(old->attributes[i]->key, values[j]);
        if (keep)
            attributes[operation->n_attributes++] = old->attributes[i];
    }
    return operation;
}

static Coreml__Operation *make_packed(coreml *state, const Coreml__Operation *old,
                                      const weight_file *file, const palette *p)
{
    uint32_t *shape = arena_alloc(&state->edits, (p->rank + 1) * sizeof *shape);
    Coreml__Operation *operation = operation_make(state, old, LUT_TO_DENSE, 3);
    if (!operation || !shape)
        return NULL;
    for (size_t d = 0; d < p->rank; d++)
        shape[d] = (uint32_t)p->shape[d];
    tensor indices = {
        PAL_UINT8,  1,    {palette_index_bytes(p)}, palette_index_bytes(p), palette_index_bytes(p),
        p->indices, false};
    uint64_t entries = palette_lut_elements(p);
    tensor lut = {p->dtype, 1,    {entries}, entries, entries * pal_dtype_bits(p->dtype) / 8,
                  p->lut,   false};
    tensor dimensions = {PAL_UINT32, 1, {p->rank}, p->rank, p->rank * sizeof *shape, shape, false};
    Coreml__ValueEntry *entries_made[3] = {
        attribute_make(state, "indices", value_make(state, file, &indices)),
        attribute_make(state, "lut", value_make(state, file, &lut)),
        attribute_make(state, "shape", value_make(state, NULL, &dimensions)),
    };
    for (int i = 0; i < 3; i++) {
        if (!entries_made[i])
            return NULL;
        operation->attributes[operation->n_attributes++] = entries_made[i];
    }
    return operation;
}

static pal_dtype index_dtype(unsigned nbits)
{
    switch (nbits) {
    case 1: return PAL_UINT1;
    case 2: return PAL_UINT2;
    case 3: return PAL_UINT3;
    case 4: return PAL_UINT4;
    case 6: return PAL_UINT6;
    default: return PAL_UINT8;
    }
}

static Coreml__Operation *make_blocks(coreml *state, const Coreml__Operation *old,
                                      const weight_file *file, const palette *p)
{
    Coreml__Operation *operation = operation_make(state, old, LUT_TO_DENSE, 0);
    Coreml__ArgumentEntry **inputs = arena_alloc(&state->edits, 3 * sizeof *inputs);
    int32_t *axis = arena_alloc(&state->edits, sizeof *axis);
    if (!operation || !inputs || !axis)
        return NULL;
    tensor indices = {.dtype = index_dtype(p->nbits), .rank = p->rank, .data = p->indices};
    indices.elements = palette_index_count(p);
    indices.bytes = palette_index_bytes(p);
    for (size_t d = 0; d < p->rank; d++)
        indices.shape[d] = palette_index_dimension(p, d);
    tensor lut = {.dtype = p->dtype, .rank = p->rank + 2, .data = p->lut};
    lut.elements = palette_lut_elements(p);
    lut.bytes = lut.elements * pal_dtype_bits(p->dtype) / 8;
    memcpy(lut.shape, p->blocks, p->rank * sizeof *p->blocks);
    lut.shape[p->rank] = UINT64_C(1) << p->nbits;
    lut.shape[p->rank + 1] = p->vector_size;
    inputs[0] = input_make(state, "indices", value_make(state, file, &indices));
    inputs[1] = input_make(state, "lut", value_make(state, file, &lut));
    operation->inputs = inputs;
    operation->n_inputs = 2;
    if (p->vector_size > 1) {
        *axis = (int32_t)p->vector_axis;
        tensor scalar = {.dtype = PAL_INT32, .elements = 1, .bytes = sizeof *axis, .data = axis};
        inputs[operation->n_inputs++] =
            input_make(state, "vector_axis", value_make(state, NULL, &scalar));
    }
    for (size_t i = 0; i < operation->n_inputs; i++)
        if (!inputs[i])
            return NULL;
    return operation;
}

static Coreml__Operation *make_const(coreml *state, const Coreml__Operation *old,
                                     const weight_file *file, const pal_weight *info,
                                     const void *dense)
{
    Coreml__Operation *operation = operation_make(state, old, "const", 1);
    tensor t = {.dtype = info->dtype, .rank = info->rank, .data = dense};
    t.elements = info->elements;
    t.bytes = info->elements * pal_dtype_bits(info->dtype) / 8;
    memcpy(t.shape, info->shape, sizeof t.shape);
    Coreml__ValueEntry *entry = attribute_make(state, "val", value_make(state, file, &t));
    if (!operation || !entry)
        return NULL;
    operation->attributes[operation->n_attributes++] = entry;
    return operation;
}

/* The file for new values of a weight: where its old ones are, or the package's first. */
static pal_status file_of(coreml *state, const Coreml__Operation *operation,
                          const weight_file **out)
{
    static const char *const parameters[] = {"val", "indices", "lut"};
    *out = state->file_count ? &state->files[0] : NULL;
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        const Coreml__Value *value = operation_parameter(operation, parameters[i]);
        if (value && value->value_case == COREML__VALUE__VALUE_BLOB_FILE_VALUE &&
            value->blob_file_value) {
            weight_file *file;
            pal_status status = coreml_weight_file(state, value->blob_file_value->file_name, &file);
            *out = file;
            return status;
        }
    }
    return PAL_OK;
}

static pal_status make_operation(pal_model *model, const replacement *r, Coreml__Operation **out)
{
    coreml *state = model->state;
    const weight_place *place = &state->places[r->weight];
    const Coreml__Operation *old = place->block->operations[place->operation];
    const weight_file *file;
    pal_status status = file_of(state, old, &file);
    if (status)
        return status;
    if (r->palette)
        *out = place->opset >= OPSET_IOS18 ? make_blocks(state, old, file, r->palette)
                                           : make_packed(state, old, file, r->palette);
    else
        *out = make_const(state, old, file, &model->weights[r->weight].info, r->dense);
    return *out ? PAL_OK : fail_memory("replacing a weight");
}

/* ---------------------------------------------------------------- removing */

static bool same_name(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool block_uses(const Coreml__Block *block, ProtobufCBinaryData name)
{
    for (size_t i = 0; i < block->n_outputs; i++)
        if (same_name(block->outputs[i], name))
            return true;
    for (size_t i = 0; i < block->n_operations; i++) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t j = 0; j < operation->n_inputs; j++) {
            const Coreml__Argument *argument = operation->inputs[j]->value;
            for (size_t k = 0; argument && k < argument->n_arguments; k++)
                if (argument->arguments[k]->binding_case == COREML__BINDING__BINDING_NAME &&
                    same_name(argument->arguments[k]->name, name))
                    return true;
        }
        for (size_t j = 0; j < operation->n_blocks; j++)
            if (block_uses(operation->blocks[j], name))
                return true;
    }
    return false;
}

/* Takes an operation out of its block, if it is still there, nothing uses its results and it is no
 * weight in its own right. */
static void remove_unused(const pal_model *model, Coreml__Block *block,
                          const Coreml__Operation *operation)
{
    coreml *state = model->state;
    size_t index = 0;
    while (index < block->n_operations && block->operations[index] != operation)
        index++;
    if (index == block->n_operations)
        return;
    for (size_t i = 0; i < model->weight_count; i++)
        if (state->places[i].block == block && state->places[i].operation == index)
            return;
    for (size_t j = 0; j < operation->n_outputs; j++)
        if (block_uses(block, operation->outputs[j]->name))
            return;
    block->n_operations--;
    memmove(block->operations + index, block->operations + index + 1,
            (block->n_operations - index) * sizeof *block->operations);
    for (size_t i = 0; i < model->weight_count; i++)
        if (state->places[i].block == block && state->places[i].operation > index)
            state->places[i].operation--;
}

/* ---------------------------------------------------------------- replacing */

static void commit(pal_model *model, const replacement *r, Coreml__Operation *operation)
{
    coreml *state = model->state;
    const weight_place *place = &state->places[r->weight];
    place->block->operations[place->operation] = operation;
    weight_replaced(model, &state->held, r);
}

pal_status coreml_replace(pal_model *model, const replacement *list, size_t count)
{
    coreml *state = model->state;
    const size_t pending = state->pending_count;
    Coreml__Operation **made = mem_array(count, sizeof *made);
    const Coreml__Operation **scaled = mem_zeroed(count, sizeof *scaled); /* that made their LUTs */
    pal_status status = PAL_OK;
    if (!made || !scaled || !holdings_reserve(&state->held, count))
        status = fail_memory("replacing weights");
    for (size_t i = 0; !status && i < count; i++) {
        const weight_place *place = &state->places[list[i].weight];
        size_t definition = coreml_lut_definition(place->block, place->operation);
        scaled[i] = definition == SIZE_MAX ? NULL : place->block->operations[definition];
        status = make_operation(model, &list[i], &made[i]);
    }
    if (status)
        state->pending_count = pending;
    else
        for (size_t i = 0; i < count; i++)
            commit(model, &list[i], made[i]);
    for (size_t i = 0; !status && i < count; i++)
        if (scaled[i])
            remove_unused(model, state->places[list[i].weight].block, scaled[i]);
    free(made);
    free(scaled);
    return status;
}
