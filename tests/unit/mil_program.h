/* ML Programs made in memory, for tests of their lowering. */
#ifndef PAL_TESTS_MIL_PROGRAM_H
#define PAL_TESTS_MIL_PROGRAM_H

#include "format/coreml/coreml.h"

enum { MOST_OPERATIONS = 64, MIL_FLOAT = 11 };

typedef struct mil_program {
    pal_model model;
    coreml state;
    Coreml__Function *function;
    Coreml__Block *block; /* that operations are added to */
} mil_program;

static inline void *mil_new(mil_program *p, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = protobuf_new(&p->state.parsed, descriptor);
    assert_non_null(message);
    return message;
}

static inline void *mil_memory(mil_program *p, size_t size)
{
    void *memory = arena_zeroed(&p->state.parsed, size);
    assert_non_null(memory);
    return memory;
}

static inline ProtobufCBinaryData mil_text(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

/* rank: -1 for a shape that is unknown altogether. A dimension of -1 is open. */
static inline Coreml__ValueType *mil_type_new(mil_program *p, int32_t type, int rank,
                                              const int64_t *shape)
{
    Coreml__ValueType *made = mil_new(p, &coreml__value_type__descriptor);
    Coreml__TensorType *t = mil_new(p, &coreml__tensor_type__descriptor);
    made->type_case = COREML__VALUE_TYPE__TYPE_TENSOR_TYPE;
    made->tensor_type = t;
    t->has_data_type = t->has_rank = true;
    t->data_type = type;
    t->rank = rank;
    t->n_dimensions = rank < 0 ? 0 : (size_t)rank;
    t->dimensions = mil_memory(p, (t->n_dimensions + 1) * sizeof *t->dimensions);
    for (size_t d = 0; d < t->n_dimensions; d++) {
        t->dimensions[d] = mil_new(p, &coreml__dimension__descriptor);
        if (shape[d] < 0)
            continue;
        Coreml__ConstantDimension *constant = mil_new(p, &coreml__constant_dimension__descriptor);
        constant->has_size = true;
        constant->size = (uint64_t)shape[d];
        t->dimensions[d]->dimension_case = COREML__DIMENSION__DIMENSION_CONSTANT;
        t->dimensions[d]->constant = constant;
    }
    return made;
}

static inline Coreml__NamedType *mil_named(mil_program *p, const char *name,
                                           Coreml__ValueType *type)
{
    Coreml__NamedType *named = mil_new(p, &coreml__named_type__descriptor);
    named->has_name = true;
    named->name = mil_text(name);
    named->type = type;
    return named;
}

static inline Coreml__Block *mil_block(mil_program *p)
{
    Coreml__Block *block = mil_new(p, &coreml__block__descriptor);
    block->operations = mil_memory(p, MOST_OPERATIONS * sizeof *block->operations);
    block->outputs = mil_memory(p, MOST_OPERATIONS * sizeof *block->outputs);
    return block;
}

/* A model of one function, "main", in the given opset ("CoreML6"). */
static inline Coreml__Model *mil_model(mil_program *p, const char *opset)
{
    Coreml__Model *root = mil_new(p, &coreml__model__descriptor);
    Coreml__Program *program = mil_new(p, &coreml__program__descriptor);
    Coreml__FunctionEntry *function = mil_new(p, &coreml__function_entry__descriptor);
    Coreml__BlockEntry *block = mil_new(p, &coreml__block_entry__descriptor);
    root->type_case = COREML__MODEL__TYPE_ML_PROGRAM;
    root->ml_program = program;
    program->n_functions = 1;
    program->functions = mil_memory(p, sizeof *program->functions);
    program->functions[0] = function;
    function->key = mil_text("main");
    function->value = p->function = mil_new(p, &coreml__function__descriptor);
    p->function->opset = mil_text(opset);
    p->function->inputs = mil_memory(p, MOST_OPERATIONS * sizeof *p->function->inputs);
    p->function->n_block_specializations = 1;
    p->function->block_specializations = mil_memory(p, sizeof block);
    p->function->block_specializations[0] = block;
    block->key = mil_text(opset);
    block->value = p->block = mil_block(p);
    return root;
}

static inline void mil_start(mil_program *p, const char *opset)
{
    *p = (mil_program){0};
    arena_init(&p->state.parsed, SIZE_MAX);
    arena_init(&p->state.edits, SIZE_MAX);
    p->state.model_path = (char *)"made.mlmodel";
    p->model.format = &format_coreml;
    p->model.state = &p->state;
    p->state.root = mil_model(p, opset);
}

static inline void mil_end(mil_program *p)
{
    arena_free(&p->state.parsed);
    arena_free(&p->state.edits);
}

static inline void mil_input_new(mil_program *p, const char *name, int rank, const int64_t *shape)
{
    p->function->inputs[p->function->n_inputs++] =
        mil_named(p, name, mil_type_new(p, MIL_FLOAT, rank, shape));
}

static inline void mil_output(mil_program *p, const char *name)
{
    p->block->outputs[p->block->n_outputs++] = mil_text(name);
}

static inline Coreml__Operation *mil_operation(mil_program *p, const char *type, const char *output,
                                               int32_t output_type, int rank, const int64_t *shape)
{
    Coreml__Operation *made = mil_new(p, &coreml__operation__descriptor);
    made->has_type = true;
    made->type = mil_text(type);
    made->inputs = mil_memory(p, 16 * sizeof *made->inputs);
    made->outputs = mil_memory(p, 8 * sizeof *made->outputs);
    made->attributes = mil_memory(p, 4 * sizeof *made->attributes);
    made->blocks = mil_memory(p, 2 * sizeof *made->blocks);
    made->n_outputs = 1;
    made->outputs[0] = mil_named(p, output, mil_type_new(p, output_type, rank, shape));
    assert_true(p->block->n_operations < MOST_OPERATIONS);
    p->block->operations[p->block->n_operations++] = made;
    return made;
}

/* Binds an input to a name; another call with the same key makes it several. */
static inline void mil_bind(mil_program *p, Coreml__Operation *operation, const char *key,
                            const char *name)
{
    Coreml__Binding *binding = mil_new(p, &coreml__binding__descriptor);
    binding->binding_case = COREML__BINDING__BINDING_NAME;
    binding->name = mil_text(name);
    Coreml__ArgumentEntry *entry = NULL;
    for (size_t i = 0; i < operation->n_inputs; i++)
        if (protobuf_equal(operation->inputs[i]->key, key))
            entry = operation->inputs[i];
    if (!entry) {
        entry = mil_new(p, &coreml__argument_entry__descriptor);
        entry->key = mil_text(key);
        entry->value = mil_new(p, &coreml__argument__descriptor);
        entry->value->arguments = mil_memory(p, 8 * sizeof *entry->value->arguments);
        operation->inputs[operation->n_inputs++] = entry;
    }
    entry->value->arguments[entry->value->n_arguments++] = binding;
}

static inline Coreml__TensorValue *mil_constant(mil_program *p, const char *name, int32_t type,
                                                int rank, const int64_t *shape)
{
    Coreml__Operation *operation = mil_operation(p, "const", name, type, rank, shape);
    Coreml__ValueEntry *entry = mil_new(p, &coreml__value_entry__descriptor);
    Coreml__Value *value = mil_new(p, &coreml__value__descriptor);
    Coreml__ImmediateValue *immediate = mil_new(p, &coreml__immediate_value__descriptor);
    Coreml__TensorValue *tensor = mil_new(p, &coreml__tensor_value__descriptor);
    entry->key = mil_text("val");
    entry->value = value;
    operation->attributes[operation->n_attributes++] = entry;
    value->type = operation->outputs[0]->type;
    value->value_case = COREML__VALUE__VALUE_IMMEDIATE_VALUE;
    value->immediate_value = immediate;
    immediate->value_case = COREML__IMMEDIATE_VALUE__VALUE_TENSOR;
    immediate->tensor = tensor;
    return tensor;
}

/* Integers: a vector, or a single number (count 0). */
static inline void mil_ints(mil_program *p, const char *name, const int32_t *numbers, size_t count)
{
    const int64_t extent = (int64_t)count;
    Coreml__TensorValue *tensor = mil_constant(p, name, MIL_INT32, count ? 1 : 0, &extent);
    tensor->value_case = COREML__TENSOR_VALUE__VALUE_INTS;
    tensor->ints = mil_new(p, &coreml__repeated_ints__descriptor);
    tensor->ints->n_values = count ? count : 1;
    tensor->ints->values = mil_memory(p, (count + 1) * sizeof *numbers);
    memcpy(tensor->ints->values, numbers, tensor->ints->n_values * sizeof *numbers);
}

static inline void mil_floats(mil_program *p, const char *name, const float *numbers, int rank,
                              const int64_t *shape)
{
    Coreml__TensorValue *tensor = mil_constant(p, name, MIL_FLOAT, rank, shape);
    size_t count = 1;
    for (int d = 0; d < rank; d++)
        count *= (size_t)shape[d];
    tensor->value_case = COREML__TENSOR_VALUE__VALUE_FLOATS;
    tensor->floats = mil_new(p, &coreml__repeated_floats__descriptor);
    tensor->floats->n_values = count;
    tensor->floats->values = mil_memory(p, (count + 1) * sizeof *numbers);
    memcpy(tensor->floats->values, numbers, count * sizeof *numbers);
}

static inline void mil_bool(mil_program *p, const char *name, bool truth)
{
    Coreml__TensorValue *tensor = mil_constant(p, name, MIL_BOOL, 0, NULL);
    tensor->value_case = COREML__TENSOR_VALUE__VALUE_BOOLS;
    tensor->bools = mil_new(p, &coreml__repeated_bools__descriptor);
    tensor->bools->n_values = 1;
    tensor->bools->values = mil_memory(p, sizeof *tensor->bools->values);
    tensor->bools->values[0] = truth;
}

static inline void mil_string(mil_program *p, const char *name, const char *text)
{
    Coreml__TensorValue *tensor = mil_constant(p, name, MIL_STRING, 0, NULL);
    tensor->value_case = COREML__TENSOR_VALUE__VALUE_STRINGS;
    tensor->strings = mil_new(p, &coreml__repeated_strings__descriptor);
    tensor->strings->n_values = 1;
    tensor->strings->values = mil_memory(p, sizeof *tensor->strings->values);
    tensor->strings->values[0] = mil_text(text);
}

#endif
