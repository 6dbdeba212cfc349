/* Finds the weights of an ML Program: constants and constexpr operations of floating type, and the
 * operators that use them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/coreml/coreml.h"

static const size_t NONE = SIZE_MAX;

/* A name in scope. Inner blocks see the names of outer ones; a later definition hides an earlier
 * one, and leaving a block removes its names again. */
typedef struct binding_name {
    ProtobufCBinaryData name;
    uint32_t hash;
    size_t below;               /* the definition in the same bucket that this one came on top of */
    const Coreml__Block *block; /* with its operation; NULL for an input */
    value_definition definition;
    size_t weight; /* NONE if it defines no weight */
} binding_name;

static const binding_name an_input = {.weight = SIZE_MAX};

enum { BUCKETS = 4096, MAX_BLOCK_DEPTH = 64 };

typedef struct walk {
    pal_model *model;
    coreml *state;
    size_t programs;
    const char *function;
    const Coreml__Block *block;             /* being walked */
    int opset, least_opset, greatest_opset; /* of the block being walked; of all so far */
    binding_name *names;
    size_t name_count, name_capacity;
    size_t buckets[BUCKETS];
    size_t weight_capacity;
    bool *feeds_constexpr, *feeds_other; /* one for each weight */
    size_t feeds_constexpr_capacity, feeds_other_capacity;
} walk;

static const binding_name *find_name(const walk *w, ProtobufCBinaryData name)
{
    uint32_t hash = protobuf_hash(name);
    for (size_t i = w->buckets[hash % BUCKETS]; i != NONE; i = w->names[i].below)
        if (w->names[i].hash == hash && same_bytes(w->names[i].name, name))
            return &w->names[i];
    return NULL;
}

/* What the name of a value of the block that is being walked stands for. */
static value_definition find_in_block(const void *user, ProtobufCBinaryData name)
{
    const walk *w = user;
    const binding_name *found = find_name(w, name);
    return found && found->block == w->block ? found->definition : (value_definition){0};
}

static pal_status push_name(walk *w, ProtobufCBinaryData name, const binding_name *what)
{
    if (!mem_grow((void **)&w->names, &w->name_capacity, w->name_count + 1, sizeof *w->names))
        return fail_memory("reading a model");
    uint32_t hash = protobuf_hash(name);
    size_t *bucket = &w->buckets[hash % BUCKETS];
    binding_name *added = &w->names[w->name_count];
    *added = *what;
    added->name = name;
    added->hash = hash;
    added->below = *bucket;
    *bucket = w->name_count++;
    return PAL_OK;
}

static void pop_names(walk *w, size_t mark)
{
    while (w->name_count > mark) {
        const binding_name *top = &w->names[--w->name_count];
        w->buckets[top->hash % BUCKETS] = top->below;
    }
}

/* ---------------------------------------------------------------- definitions */

static bool starts_with(ProtobufCBinaryData text, const char *prefix)
{
    size_t n = strlen(prefix);
    return text.len >= n && memcmp(text.data, prefix, n) == 0;
}

static bool weights_reserve(walk *w, size_t count)
{
    coreml *state = w->state;
    return mem_grow((void **)&w->model->weights, &w->weight_capacity, count,
                    sizeof *w->model->weights) &&
           mem_grow((void **)&state->places, &state->place_capacity, count,
                    sizeof *state->places) &&
           mem_grow((void **)&w->feeds_constexpr, &w->feeds_constexpr_capacity, count,
                    sizeof *w->feeds_constexpr) &&
           mem_grow((void **)&w->feeds_other, &w->feeds_other_capacity, count,
                    sizeof *w->feeds_other);
}

/* Reads the values of a dense weight. */
static pal_status read_dense(walk *w, const Coreml__Operation *operation, model_weight *weight)
{
    Coreml__Value *value = operation_attribute(operation, "val");
    if (!value) {
        weight->locked = "it has no value";
        return PAL_OK;
    }
    tensor t;
    pal_status status = value_read(w->state, value, weight->info.name, &t);
    if (status)
        return status;
    if (t.dtype != weight->info.dtype || t.elements != weight->info.elements || !t.data) {
        weight->locked = "its value is stored in a form that this version does not read";
        return PAL_OK;
    }
    weight->dense = t.data;
    weight->info.bytes = t.bytes;
    return PAL_OK;
}

/* Reads the values of a pruned weight: before iOS18 the mask is bytes beside a shape, from then on
 * a tensor of single bits. Both are packed in the same way. */
static pal_status read_pruned(walk *w, const Coreml__Operation *operation, model_weight *weight)
{
    const pal_weight *info = &weight->info;
    Coreml__Value *mask_value = operation_parameter(operation, "mask");
    Coreml__Value *values = operation_parameter(operation, "nonzero_data");
    tensor mask, t;
    if (!protobuf_equal(operation->type, SPARSE_TO_DENSE) || !mask_value || !values)
        return PAL_OK;
    pal_status status = value_read(w->state, mask_value, info->name, &mask);
    if (!status)
        status = value_read(w->state, values, info->name, &t);
    if (status)
        return status;
    const bool bits = mask.dtype == PAL_UINT1 && mask.elements == info->elements;
    const bool bytes = mask.dtype == PAL_UINT8 && mask.elements == (info->elements + 7) / 8;
    if (t.dtype != info->dtype || t.rank != 1 || !t.data || !mask.data || !(bits || bytes))
        return PAL_OK;
    weight->pruned = (pruned_values){mask.data, t.data, t.elements};
    if (w->opset < OPSET_IOS18)
        weight->locked = "it is pruned, and palettizing what is left needs iOS18";
    return PAL_OK;
}

/* Adds the weight that an operation defines, if it is a float tensor of at least one dimension. */
static pal_status add_weight(walk *w, Coreml__Block *block, size_t index, size_t *added)
{
    const Coreml__Operation *operation = block->operations[index];
    bool known;
    tensor t;
    *added = NONE;
    if (operation->n_outputs != 1)
        return PAL_OK; /* constexpr_lut_to_sparse and the like: parts of a weight */
    const Coreml__NamedType *output = operation->outputs[0];
    pal_status status = value_type_read(output->type, &t, &known);
    if (status)
        return fail_context(status, "%s: %.*s", w->state->model_path, (int)output->name.len,
                            (const char *)output->name.data);
    if (!known || !dtype_is_float(t.dtype) || t.rank == 0)
        return PAL_OK;
    size_t i = w->model->weight_count;
    char *name = arena_copy(&w->state->edits, output->name.data, output->name.len);
    if (!name || !weights_reserve(w, i + 1))
        return fail_memory("reading a model");
    const lut_chain chain = coreml_find_chain(operation, find_in_block, w);
    w->state->places[i] = (weight_place){block, index, chain, w->opset, w->function};
    w->feeds_constexpr[i] = w->feeds_other[i] = false;
    model_weight *weight = &w->model->weights[i];
    *weight = (model_weight){.same_as = i};
    weight->info = (pal_weight){
        .name = name,
        .function = w->function,
        .op = "",
        .dtype = t.dtype,
        .rank = t.rank,
        .elements = t.elements,
        .storage = coreml_storage(&chain),
        .nbits = pal_dtype_bits(t.dtype),
    };
    memcpy(weight->info.shape, t.shape, sizeof t.shape);
    status = weight->info.storage == PAL_STORAGE_DENSE
                 ? read_dense(w, operation, weight)
                 : coreml_describe_constexpr(w->state, &chain, &weight->info);
    if (!status && weight->info.storage == PAL_STORAGE_SPARSE)
        status = read_pruned(w, operation, weight);
    w->model->weight_count = i + 1;
    *added = i;
    return status;
}

/* ---------------------------------------------------------------- uses */

/* A small parameter of an operator, given in place or as the name of a constant; NULL if it is
 * neither. */
static const Coreml__TensorValue *parameter(const walk *w, const Coreml__Operation *operation,
                                            const char *key)
{
    const Coreml__Binding *binding = operation_input(operation, key);
    const Coreml__Value *value = NULL;
    if (binding && binding->binding_case == COREML__BINDING__BINDING_NAME) {
        const binding_name *found = find_name(w, binding->name);
        if (found && found->definition.operation)
            value = operation_attribute(found->definition.operation, "val");
    } else if (binding && binding->binding_case == COREML__BINDING__BINDING_VALUE) {
        value = binding->value;
    }
    const Coreml__ImmediateValue *immediate =
        value && value->value_case == COREML__VALUE__VALUE_IMMEDIATE_VALUE ? value->immediate_value
                                                                           : NULL;
    return immediate && immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_TENSOR
               ? immediate->tensor
               : NULL;
}

static bool bool_parameter(const walk *w, const Coreml__Operation *operation, const char *key)
{
    const Coreml__TensorValue *t = parameter(w, operation, key);
    return t && t->value_case == COREML__TENSOR_VALUE__VALUE_BOOLS && t->bools &&
           t->bools->n_values == 1 && t->bools->values[0];
}

/* The groups of a convolution; 1 for other operators. */
static uint64_t op_groups(const walk *w, const Coreml__Operation *operation)
{
    if (!protobuf_equal(operation->type, "conv") &&
        !protobuf_equal(operation->type, "conv_transpose"))
        return 1;
    const Coreml__TensorValue *t = parameter(w, operation, "groups");
    return t && t->value_case == COREML__TENSOR_VALUE__VALUE_INTS && t->ints &&
                   t->ints->n_values == 1 && t->ints->values[0] > 0
               ? (uint64_t)t->ints->values[0]
               : 1;
}

/* The output-channel axis of a weight of this rank as input `key` of the operator; the rules are
 * those of coremltools, so that group_size means the same. */
static int channel_axis(const walk *w, const Coreml__Operation *operation, ProtobufCBinaryData key,
                        size_t rank)
{
    if (protobuf_equal(operation->type, "conv_transpose"))
        return rank > 1 ? 1 : 0;
    if (protobuf_equal(operation->type, "matmul") && rank > 1) {
        bool is_y = protobuf_equal(key, "y");
        bool transposed = bool_parameter(w, operation, is_y ? "transpose_y" : "transpose_x");
        return (int)(is_y != transposed ? rank - 1 : rank - 2);
    }
    return 0;
}

static pal_status use_weight(walk *w, size_t i, const Coreml__Operation *operation,
                             ProtobufCBinaryData key)
{
    pal_weight *info = &w->model->weights[i].info;
    if (starts_with(operation->type, "constexpr_")) {
        w->feeds_constexpr[i] = true; /* it prepares a weight rather than uses one */
        return PAL_OK;
    }
    w->feeds_other[i] = true;
    int axis = channel_axis(w, operation, key, info->rank);
    uint64_t groups = op_groups(w, operation);
    return weight_used(&w->model->weights[i], &w->state->edits,
                       (text_span){operation->type.data, operation->type.len},
                       operation_name(operation), axis, groups);
}

static pal_status use_inputs(walk *w, const Coreml__Operation *operation)
{
    for (size_t i = 0; i < operation->n_inputs; i++) {
        const Coreml__ArgumentEntry *input = operation->inputs[i];
        for (size_t j = 0; input->value && j < input->value->n_arguments; j++) {
            const Coreml__Binding *binding = input->value->arguments[j];
            if (binding->binding_case != COREML__BINDING__BINDING_NAME)
                continue;
            const binding_name *definition = find_name(w, binding->name);
            if (definition && definition->weight != NONE) {
                pal_status status = use_weight(w, definition->weight, operation, input->key);
                if (status)
                    return status;
            }
        }
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- the walk */

static pal_status walk_block(walk *w, Coreml__Block *block, int depth)
{
    pal_status status = PAL_OK;
    const size_t mark = w->name_count;
    const Coreml__Block *outer = w->block;
    if (depth > MAX_BLOCK_DEPTH)
        return fail(PAL_ERROR_FORMAT, "%s: blocks nested too deeply", w->state->model_path);
    w->block = block;
    for (size_t i = 0; !status && i < block->n_inputs; i++)
        status = push_name(w, block->inputs[i]->name, &an_input);
    for (size_t i = 0; !status && i < block->n_operations; i++) {
        Coreml__Operation *operation = block->operations[i];
        binding_name defined = {.block = block, .definition.operation = operation, .weight = NONE};
        status = use_inputs(w, operation);
        for (size_t j = 0; !status && j < operation->n_blocks; j++)
            status = walk_block(w, operation->blocks[j], depth + 1);
        if (!status && (protobuf_equal(operation->type, "const") ||
                        starts_with(operation->type, "constexpr_")))
            status = add_weight(w, block, i, &defined.weight);
        defined.definition.table_scale = coreml_table_scale(operation, find_in_block, w);
        for (size_t j = 0; !status && j < operation->n_outputs; j++) {
            defined.definition.output = j;
            status = push_name(w, operation->outputs[j]->name, &defined);
        }
    }
    pop_names(w, mark);
    w->block = outer;
    return status;
}

static pal_status walk_program(void *user, Coreml__Program *program)
{
    walk *w = user;
    pal_status status = PAL_OK;
    w->programs++;
    for (size_t f = 0; !status && f < program->n_functions; f++) {
        const Coreml__Function *function = program->functions[f]->value;
        ProtobufCBinaryData key = program->functions[f]->key;
        if (!function)
            continue;
        w->function = arena_copy(&w->state->edits, key.data, key.len);
        if (!w->function)
            return fail_memory("reading a model");
        size_t mark = w->name_count;
        for (size_t i = 0; !status && i < function->n_inputs; i++)
            status = push_name(w, function->inputs[i]->name, &an_input);
        for (size_t b = 0; !status && b < function->n_block_specializations; b++) {
            const Coreml__BlockEntry *entry = function->block_specializations[b];
            w->opset = opset_number(entry->key);
            if (w->opset < w->least_opset || !w->least_opset)
                w->least_opset = w->opset;
            if (w->opset > w->greatest_opset)
                w->greatest_opset = w->opset;
            if (entry->value)
                status = walk_block(w, entry->value, 0);
        }
        pop_names(w, mark);
    }
    return status;
}

/* Intermediate results of a chain of constexpr operators are parts of a weight, not weights. */
static void drop_intermediates(walk *w)
{
    pal_model *model = w->model;
    size_t kept = 0;
    for (size_t i = 0; i < model->weight_count; i++) {
        model_weight weight = model->weights[i];
        if (weight.info.storage != PAL_STORAGE_DENSE && w->feeds_constexpr[i] && !w->feeds_other[i])
            continue;
        if (w->feeds_constexpr[i])
            weight.locked = "it is an input of a constexpr operator";
        else if (weight.info.consumers == 0)
            weight.locked = "no operator uses it; it is an output of its block";
        weight.same_as = kept;
        model->weights[kept] = weight;
        w->state->places[kept] = w->state->places[i];
        kept++;
    }
    model->weight_count = kept;
}

/* Constants that refer to one blob, in one function or in several, share their values. */
static const void *dense_values(const pal_model *model, size_t weight)
{
    return model->weights[weight].dense;
}

static void describe(const walk *w)
{
    char least[32], greatest[32];
    int n = snprintf(w->model->description, sizeof w->model->description, "%s, %s",
                     w->programs > 1 ? "pipeline of ML Programs" : "ML Program",
                     w->least_opset ? opset_name(w->least_opset, least) : "unknown opset");
    if (w->greatest_opset > w->least_opset && n > 0 && (size_t)n < sizeof w->model->description)
        snprintf(w->model->description + n, sizeof w->model->description - (size_t)n, " to %s",
                 opset_name(w->greatest_opset, greatest));
}

pal_status coreml_find_weights(pal_model *model)
{
    coreml *state = model->state;
    walk *w = mem_zeroed(1, sizeof *w);
    if (!w)
        return fail_memory("reading a model");
    w->model = model;
    w->state = state;
    for (size_t i = 0; i < BUCKETS; i++)
        w->buckets[i] = NONE;
    pal_status status = coreml_visit_programs(state->root, walk_program, w);
    if (!status && w->programs == 0)
        status = fail(PAL_ERROR_UNSUPPORTED,
                      "%s: holds no ML Program (a neural network of the older kind?); convert it "
                      "for iOS15 or later",
                      state->model_path);
    if (!status) {
        drop_intermediates(w);
        describe(w);
        status = weights_find_shared(model, dense_values);
    }
    free(w->names);
    free(w->feeds_constexpr);
    free(w->feeds_other);
    free(w);
    return status;
}
