/* Makes the operations of a palettized weight; coreml.h lists the ways. Where a table has to be
 * repeated for each scale, as coremltools does it before iOS26, it can be larger than the indices:
 * a convolution [O, I, h, w] gets I h w tables. */
#include <stdio.h>
#include <string.h>

#include "format/coreml/coreml.h"

typedef struct emitter {
    coreml *state;
    const Coreml__Operation *old;
    const weight_file *file;
    palette *p;
    emitted *out;
    bool failed; /* out of memory */
} emitter;

/* ---------------------------------------------------------------- parts of operations */

static ProtobufCBinaryData text_data(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static Coreml__ValueEntry *attribute_make(coreml *state, const char *key, Coreml__Value *value)
{
    Coreml__ValueEntry *entry = protobuf_new(&state->edits, &coreml__value_entry__descriptor);
    if (!entry || !value)
        return NULL;
    entry->has_key = true;
    entry->key = text_data(key);
    entry->value = value;
    return entry;
}

/* A text, of which the name of an operation consists. */
static Coreml__Value *text_make(coreml *state, ProtobufCBinaryData text)
{
    Coreml__Value *value = protobuf_new(&state->edits, &coreml__value__descriptor);
    Coreml__ImmediateValue *immediate =
        protobuf_new(&state->edits, &coreml__immediate_value__descriptor);
    Coreml__TensorValue *t = protobuf_new(&state->edits, &coreml__tensor_value__descriptor);
    Coreml__RepeatedStrings *strings =
        protobuf_new(&state->edits, &coreml__repeated_strings__descriptor);
    ProtobufCBinaryData *list = arena_alloc(&state->edits, sizeof *list);
    const tensor scalar = {.elements = 1};
    if (!value || !immediate || !t || !strings || !list ||
        !(value->type = value_type_make(state, &scalar)))
        return NULL;
    value->type->tensor_type->data_type = MIL_STRING;
    *list = text;
    strings->n_values = 1;
    strings->values = list;
    t->value_case = COREML__TENSOR_VALUE__VALUE_STRINGS;
    t->strings = strings;
    immediate->value_case = COREML__IMMEDIATE_VALUE__VALUE_TENSOR;
    immediate->tensor = t;
    value->value_case = COREML__VALUE__VALUE_IMMEDIATE_VALUE;
    value->immediate_value = immediate;
    return value;
}

/* Whether any operation of the block, or of those inside it, has such an output. */
static bool block_defines(const Coreml__Block *block, ProtobufCBinaryData name)
{
    for (size_t i = 0; i < block->n_operations; i++) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t j = 0; j < operation->n_outputs; j++)
            if (same_bytes(operation->outputs[j]->name, name))
                return true;
        for (size_t j = 0; j < operation->n_blocks; j++)
            if (block_defines(operation->blocks[j], name))
                return true;
    }
    return false;
}

typedef struct name_search {
    ProtobufCBinaryData name;
    bool found;
} name_search;

static pal_status search_program(void *user, Coreml__Program *program)
{
    name_search *search = user;
    for (size_t f = 0; f < program->n_functions; f++) {
        const Coreml__Function *function = program->functions[f]->value;
        for (size_t b = 0; function && b < function->n_block_specializations; b++)
            if (function->block_specializations[b]->value &&
                block_defines(function->block_specializations[b]->value, search->name))
                search->found = true;
        for (size_t i = 0; function && i < function->n_inputs; i++)
            if (same_bytes(function->inputs[i]->name, search->name))
                search->found = true;
    }
    return PAL_OK;
}

/* "WEIGHT_suffix", or with a number behind it where the model has a value of that name. */
static bool fresh_name(const emitter *e, const char *suffix, ProtobufCBinaryData *out)
{
    const ProtobufCBinaryData *weight = &e->old->outputs[0]->name;
    const int length = weight->len < INT32_MAX ? (int)weight->len : INT32_MAX;
    for (unsigned number = 1;; number++) {
        char tail[32] = "";
        if (number > 1)
            snprintf(tail, sizeof tail, "_%u", number);
        char *text = arena_printf(&e->state->edits, "%.*s_%s%s", length, (const char *)weight->data,
                                  suffix, tail);
        if (!text)
            return false;
        name_search search = {text_data(text), false};
        coreml_visit_programs(e->state->root, search_program, &search);
        *out = search.name;
        if (!search.found)
            return true;
    }
}

/* ---------------------------------------------------------------- operations */

/* One of the operations; those before the last get a name and outputs of their own. */
static Coreml__Operation *add_operation(emitter *e, const char *type, size_t inputs)
{
    coreml *state = e->state;
    Coreml__Operation *operation = protobuf_new(&state->edits, &coreml__operation__descriptor);
    Coreml__ArgumentEntry **list = arena_alloc(&state->edits, (inputs + 1) * sizeof *list);
    if (!operation || !list || e->out->count == MAX_EMITTED) {
        e->failed = true;
        return NULL;
    }
    operation->has_type = true;
    operation->type = text_data(type);
    operation->inputs = list;
    e->out->operation[e->out->count++] = operation;
    return operation;
}

static void add_binding(emitter *e, Coreml__Operation *operation, const char *key,
                        Coreml__Binding *binding)
{
    mem_arena *arena = &e->state->edits;
    Coreml__ArgumentEntry *entry = protobuf_new(arena, &coreml__argument_entry__descriptor);
    Coreml__Argument *argument = protobuf_new(arena, &coreml__argument__descriptor);
    Coreml__Binding **list = arena_alloc(arena, sizeof *list);
    if (!operation || !entry || !argument || !list || !binding) {
        e->failed = true;
        return;
    }
    *list = binding;
    argument->n_arguments = 1;
    argument->arguments = list;
    entry->has_key = true;
    entry->key = text_data(key);
    entry->value = argument;
    operation->inputs[operation->n_inputs++] = entry;
}

/* A tensor as an input; small ones lie in the model, others in the weight file. */
static void add_tensor(emitter *e, Coreml__Operation *operation, const char *key, const tensor *t,
                       bool in_model)
{
    Coreml__Binding *binding = protobuf_new(&e->state->edits, &coreml__binding__descriptor);
    if (binding) {
        binding->binding_case = COREML__BINDING__BINDING_VALUE;
        binding->value = value_make(e->state, in_model ? NULL : e->file, t);
    }
    add_binding(e, operation, key, binding && binding->value ? binding : NULL);
}

/* Another operation's output as an input. */
static void add_name(emitter *e, Coreml__Operation *operation, const char *key,
                     const Coreml__Operation *from, size_t output)
{
    Coreml__Binding *binding = protobuf_new(&e->state->edits, &coreml__binding__descriptor);
    if (binding && from && output < from->n_outputs) {
        binding->binding_case = COREML__BINDING__BINDING_NAME;
        binding->name = from->outputs[output]->name;
        add_binding(e, operation, key, binding);
    } else {
        e->failed = true;
    }
}

/* Gives an operation a name of its own and an output of this type and shape. */
static void add_output(emitter *e, Coreml__Operation *operation, const char *suffix,
                       const tensor *shape)
{
    mem_arena *arena = &e->state->edits;
    Coreml__NamedType *output = protobuf_new(arena, &coreml__named_type__descriptor);
    Coreml__NamedType **outputs = arena_alloc(arena, 2 * sizeof *outputs);
    Coreml__ValueEntry **attributes = arena_alloc(arena, sizeof *attributes);
    ProtobufCBinaryData name;
    if (!operation || !output || !outputs || !attributes || !fresh_name(e, suffix, &name) ||
        !(output->type = value_type_make(e->state, shape))) {
        e->failed = true;
        return;
    }
    output->has_name = true;
    output->name = name;
    if (operation->n_outputs)
        outputs[0] = operation->outputs[0];
    outputs[operation->n_outputs++] = output;
    operation->outputs = outputs;
    if (operation->n_attributes)
        return;
    attributes[0] = attribute_make(e->state, "name", text_make(e->state, name));
    operation->attributes = attributes;
    operation->n_attributes = 1;
    e->failed = e->failed || !attributes[0];
}

/* The last operation takes over the outputs of the old one and its attributes, less those that held
 * the values of its type; there is room for `room` more. */
static void take_place(emitter *e, size_t room)
{
    static const char *const values[] = {"val", "lut", "indices", "shape"};
    Coreml__Operation *operation = e->out->count ? e->out->operation[e->out->count - 1] : NULL;
    Coreml__ValueEntry **attributes =
        arena_alloc(&e->state->edits, (e->old->n_attributes + room + 1) * sizeof *attributes);
    if (!operation || !attributes) {
        e->failed = true;
        return;
    }
    Coreml__ArgumentEntry **inputs = operation->inputs;
    const size_t count = operation->n_inputs;
    const ProtobufCBinaryData type = operation->type;
    *operation = *e->old; /* with the fields that we do not know */
    operation->has_type = true;
    operation->type = type;
    operation->inputs = inputs;
    operation->n_inputs = count;
    operation->attributes = attributes;
    operation->n_attributes = 0;
    for (size_t i = 0; i < e->old->n_attributes; i++) {
        bool keep = true;
        for (size_t j = 0; j < sizeof values / sizeof *values; j++)
            keep = keep && !protobuf_equal(e->old->attributes[i]->key, values[j]);
        if (keep)
            attributes[operation->n_attributes++] = e->old->attributes[i];
    }
}

static void add_attribute(emitter *e, const char *key, const tensor *t, bool in_model)
{
    Coreml__Operation *operation = e->out->operation[e->out->count - 1];
    Coreml__ValueEntry *entry =
        attribute_make(e->state, key, value_make(e->state, in_model ? NULL : e->file, t));
    if (entry)
        operation->attributes[operation->n_attributes++] = entry;
    else
        e->failed = true;
}

/* ---------------------------------------------------------------- tensors of a palette */

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

static void set_size(tensor *t)
{
    t->elements = 1;
    for (size_t d = 0; d < t->rank; d++)
        t->elements *= t->shape[d];
    t->bytes = (t->elements * pal_dtype_bits(t->dtype) + 7) / 8;
}

/* A tensor of the palette's rank and of this shape; `table` adds two dimensions, of 2^nbits entries
 * and vectors, or of 1 and 1. */
static tensor tensor_of(const palette *p, pal_dtype dtype, const uint64_t *shape, const void *data)
{
    tensor t = {.dtype = dtype, .rank = p->rank, .data = data};
    memcpy(t.shape, shape, p->rank * sizeof *shape);
    set_size(&t);
    return t;
}

static void add_dimensions(tensor *t, uint64_t entries, uint64_t values)
{
    t->shape[t->rank++] = entries;
    t->shape[t->rank++] = values;
    set_size(t);
}

static tensor table_of(const palette *p)
{
    tensor t = tensor_of(p, p->lut_dtype, p->blocks, p->lut);
    add_dimensions(&t, UINT64_C(1) << p->nbits, p->vector_size);
    return t;
}

static tensor indices_of(const palette *p)
{
    uint64_t shape[PAL_MAX_RANK];
    for (size_t d = 0; d < p->rank; d++)
        shape[d] = palette_index_dimension(p, d);
    tensor t = tensor_of(p, index_dtype(p->nbits), shape, p->indices);
    if (p->mask) {
        t.rank = 1;
        t.shape[0] = p->stored;
        set_size(&t);
    }
    return t;
}

/* The tables, each repeated for every scale. The palette keeps them, for it may be that of several
 * weights, whose blobs are the same then. */
static bool repeated_table(palette *p, tensor *out)
{
    uint64_t shape[PAL_MAX_RANK];
    for (size_t d = 0; d < p->rank; d++)
        shape[d] = p->scale_shape[d] > p->blocks[d] ? p->scale_shape[d] : p->blocks[d];
    *out = tensor_of(p, p->lut_dtype, shape, NULL);
    const uint64_t tables = out->elements;
    out->data = p->repeated_lut;
    add_dimensions(out, UINT64_C(1) << p->nbits, p->vector_size);
    if (p->repeated_lut)
        return true;
    const size_t bytes = (size_t)(palette_lut_bytes(p) / palette_num_luts(p));
    char *repeated = palette_allocate(p, tables, bytes);
    out->data = p->repeated_lut = repeated;
    for (uint64_t i = 0; repeated && i < tables; i++) {
        uint64_t from = 0, stride = 1, rest = i;
        for (size_t d = p->rank; d-- > 0;) {
            from += rest % shape[d] / (shape[d] / p->blocks[d]) * stride;
            rest /= shape[d];
            stride *= p->blocks[d];
        }
        memcpy(repeated + i * bytes, (const char *)p->lut + from * bytes, bytes);
    }
    return repeated != NULL;
}

/* ---------------------------------------------------------------- whole weights */

/* constexpr_lut_to_dense before iOS18. */
static void emit_packed(emitter *e)
{
    const palette *p = e->p;
    uint32_t *shape = arena_alloc(&e->state->edits, (p->rank + 1) * sizeof *shape);
    const uint64_t bytes = palette_index_bytes(p), entries = palette_lut_elements(p);
    const tensor indices = {PAL_UINT8, 1, {bytes}, bytes, bytes, p->indices, false};
    const tensor lut = {p->dtype, 1, {entries}, entries, palette_lut_bytes(p), p->lut, false};
    const tensor dimensions = {PAL_UINT32, 1,    {p->rank}, p->rank, p->rank * sizeof *shape,
                               shape,      false};
    Coreml__Operation *look_up = add_operation(e, LUT_TO_DENSE, 0);
    e->out->chain = (lut_chain){.result = look_up, .look_up = look_up};
    take_place(e, 3);
    if (!shape || e->failed) {
        e->failed = true;
        return;
    }
    for (size_t d = 0; d < p->rank; d++)
        shape[d] = (uint32_t)p->shape[d];
    add_attribute(e, "indices", &indices, false);
    add_attribute(e, "lut", &lut, false);
    add_attribute(e, "shape", &dimensions, true);
}

/* The inputs that constexpr_lut_to_dense and constexpr_lut_to_sparse have in common; the table is
 * given, or is the output of an operation. */
static void add_look_up(emitter *e, Coreml__Operation *operation, const tensor *table,
                        const Coreml__Operation *computed)
{
    const palette *p = e->p;
    const tensor indices = indices_of(p);
    add_tensor(e, operation, p->mask ? "indices_nonzero_data" : "indices", &indices, false);
    if (computed)
        add_name(e, operation, "lut", computed, 0);
    else
        add_tensor(e, operation, "lut", table, false);
    if (p->vector_size > 1) {
        int32_t *axis = arena_alloc(&e->state->edits, sizeof *axis);
        const tensor scalar = {
            .dtype = PAL_INT32, .elements = 1, .bytes = sizeof *axis, .data = axis};
        if (axis) {
            *axis = (int32_t)p->vector_axis;
            add_tensor(e, operation, "vector_axis", &scalar, true);
        } else {
            e->failed = true;
        }
    }
}

/* The scale of integer tables, and its offset; `dimensions` more than the palette has. */
static void add_table_scale(emitter *e, Coreml__Operation *operation, bool of_tables)
{
    const palette *p = e->p;
    tensor scale = tensor_of(p, p->dtype, p->blocks, p->lut_scale);
    tensor offset = tensor_of(p, p->lut_dtype, p->blocks, p->lut_offset);
    if (of_tables) {
        add_dimensions(&scale, 1, 1);
        add_dimensions(&offset, 1, 1);
    }
    add_tensor(e, operation, "scale", &scale, false);
    if (p->lut_offset)
        add_tensor(e, operation, "offset", &offset, false);
}

/* constexpr_blockwise_shift_scale that makes the table, if it is one of integers or scaled. */
static const Coreml__Operation *emit_table(emitter *e)
{
    palette *p = e->p;
    tensor table = table_of(p);
    if (!p->lut_scale && !p->scale)
        return NULL;
    if (p->scale && !repeated_table(p, &table)) {
        e->failed = true;
        return NULL;
    }
    Coreml__Operation *operation = add_operation(e, SHIFT_SCALE, 3);
    add_tensor(e, operation, "data", &table, false);
    if (p->scale) {
        tensor scale = tensor_of(p, p->dtype, p->scale_shape, p->scale);
        add_dimensions(&scale, 1, 1);
        add_tensor(e, operation, "scale", &scale, false);
    } else {
        add_table_scale(e, operation, true);
    }
    table.dtype = p->dtype;
    add_output(e, operation, "lut", &table);
    return operation;
}

/* Table first, then looking up: before iOS26. */
static void emit_scaled_first(emitter *e)
{
    const Coreml__Operation *computed = emit_table(e);
    const tensor table = table_of(e->p);
    Coreml__Operation *look_up = add_operation(e, LUT_TO_DENSE, 3);
    add_look_up(e, look_up, &table, computed);
    e->out->chain = (lut_chain){.result = look_up, .look_up = look_up, .table_scale = computed};
    take_place(e, 0);
}

/* Looking up, and then the scale: from iOS26 on. */
static void emit_scaled_last(emitter *e)
{
    const palette *p = e->p;
    const tensor table = table_of(p), dense = tensor_of(p, p->lut_dtype, p->shape, NULL);
    Coreml__Operation *look_up = add_operation(e, LUT_TO_DENSE, 3);
    add_look_up(e, look_up, &table, NULL);
    add_output(e, look_up, "palettized", &dense);
    Coreml__Operation *operation = add_operation(e, SHIFT_SCALE, 3);
    add_name(e, operation, "data", look_up, 0);
    if (p->scale) {
        const tensor scale = tensor_of(p, p->dtype, p->scale_shape, p->scale);
        add_tensor(e, operation, "scale", &scale, false);
    } else {
        add_table_scale(e, operation, false);
    }
    e->out->chain = (lut_chain){.result = operation, .look_up = look_up, .scale = operation};
    take_place(e, 0);
}

static void emit_sparse(emitter *e)
{
    const palette *p = e->p;
    const Coreml__Operation *computed = emit_table(e);
    const tensor table = table_of(p), mask = tensor_of(p, PAL_UINT1, p->shape, p->mask);
    const tensor stored = {.dtype = p->dtype, .rank = 1, .shape = {p->stored}};
    Coreml__Operation *look_up = add_operation(e, LUT_TO_SPARSE, 4);
    add_tensor(e, look_up, "indices_mask", &mask, false);
    add_look_up(e, look_up, &table, computed);
    add_output(e, look_up, "palettized_mask", &mask);
    add_output(e, look_up, "palettized", &stored);
    Coreml__Operation *operation = add_operation(e, SPARSE_TO_DENSE, 2);
    add_name(e, operation, "nonzero_data", look_up, 1);
    add_name(e, operation, "mask", look_up, 0);
    e->out->chain = (lut_chain){
        .result = operation, .look_up = look_up, .table_scale = computed, .sparse = true};
    take_place(e, 0);
}

static pal_status emitted_status(const emitter *e)
{
    return e->failed ? fail_memory("replacing a weight") : PAL_OK;
}

pal_status coreml_emit_palette(coreml *state, const Coreml__Operation *old, int opset,
                               const weight_file *file, palette *palette, emitted *out)
{
    emitter e = {state, old, file, palette, out, false};
    out->count = 0;
    if (opset < OPSET_IOS18)
        emit_packed(&e);
    else if (palette->mask)
        emit_sparse(&e);
    else if (opset >= OPSET_IOS26 && (palette->scale || palette->lut_scale))
        emit_scaled_last(&e);
    else
        emit_scaled_first(&e);
    return emitted_status(&e);
}

pal_status coreml_emit_dense(coreml *state, const Coreml__Operation *old, const weight_file *file,
                             const pal_weight *info, const void *dense, emitted *out)
{
    emitter e = {state, old, file, NULL, out, false};
    tensor t = {.dtype = info->dtype, .rank = info->rank, .data = dense};
    memcpy(t.shape, info->shape, sizeof t.shape);
    set_size(&t);
    out->count = 0;
    out->chain = (lut_chain){.result = add_operation(&e, "const", 0)};
    take_place(&e, 1);
    if (!e.failed)
        add_attribute(&e, "val", &t, false);
    return emitted_status(&e);
}
