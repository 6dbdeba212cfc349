/* The walk over an ML Program: the function that a model runs, its inputs, operations and outputs.
 *
 * A model with several functions runs the one that its description names, or "main"; the others
 * are variants of it, or adapters that a program would call by name. The models of a pipeline run
 * one after the other: an output feeds the inputs of the same name of those that follow.
 *
 * Images are inputs like any other: N x 3 x H x W (or N x 1 x H x W) numbers from 0 to 255. What
 * the model subtracts or scales is part of its program. */
#include <stdlib.h>
#include <string.h>

#include "graph/coreml/lowering.h"
#include "graph/lower.h"

enum { MAX_DEPTH = 32 };

/* ---------------------------------------------------------------- operations */

static const char *copy_text(lowering *low, ProtobufCBinaryData text)
{
    const char *copy = arena_copy(&low->arena, text.data, text.len);
    if (!copy)
        mil_failed(low, fail_memory("reading a program"));
    return copy ? copy : "";
}

static bool is_constexpr(ProtobufCBinaryData type)
{
    static const char prefix[] = "constexpr_";
    return type.len >= sizeof prefix - 1 && memcmp(type.data, prefix, sizeof prefix - 1) == 0;
}

static void define_constant(lowering *low)
{
    const Coreml__Operation *operation = low->operation;
    const bool compressed = is_constexpr(operation->type);
    const Coreml__Value *literal = compressed ? NULL : operation_attribute(operation, "val");
    if (!compressed && !literal)
        literal = operation_parameter(operation, "val");
    if (!compressed && !literal)
        mil_fail(low, PAL_ERROR_FORMAT, "a constant without a value");
    for (size_t i = 0; i < operation->n_outputs; i++) {
        mil_value *value =
            mil_scope_add(low, operation->outputs[i]->name, operation->outputs[i]->type);
        if (!value)
            return;
        value->literal = literal;
        value->constexpr = compressed ? operation : NULL;
        value->output = i;
        value->weight = operation->n_outputs == 1 ? mil_weight_of(low, operation) : GRAPH_NONE;
    }
}

static void lower_operation(lowering *low, const Coreml__Operation *operation)
{
    low->operation = operation;
    low->name =
        copy_text(low, operation->n_outputs ? operation->outputs[0]->name : operation->type);
    low->type = copy_text(low, operation->type);
    if (protobuf_equal(operation->type, "const") || is_constexpr(operation->type)) {
        define_constant(low);
        return;
    }
    const mil_operator *known = mil_operator_find(operation->type);
    if (!known)
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "an unknown operator");
    else if (!low->status)
        known->lower(low, known->kind);
    /* An output that nobody asked for may have no place in the graph. */
}

static void lower_operations(lowering *low, const Coreml__Block *block)
{
    for (size_t i = 0; !low->status && i < block->n_operations; i++)
        lower_operation(low, block->operations[i]);
    low->operation = NULL;
}

/* The values of a block's outputs. Of a classifier's two the label is left out. */
static size_t *block_outputs(lowering *low, const Coreml__Block *block, size_t *count)
{
    size_t *outputs = arena_alloc(&low->graph->arena, (block->n_outputs + 1) * sizeof *outputs);
    *count = 0;
    if (!outputs) {
        mil_failed(low, fail_memory("a graph's outputs"));
        return NULL;
    }
    for (size_t i = 0; !low->status && i < block->n_outputs; i++) {
        const ProtobufCBinaryData name = block->outputs[i];
        mil_value *value = mil_scope_find(low, name);
        if (!value)
            mil_fail(low, PAL_ERROR_FORMAT, "nothing defines the output '%.*s'", (int)name.len,
                     (const char *)name.data);
        else if (value->type.is_tensor || value->value != GRAPH_NONE)
            outputs[(*count)++] = mil_use(low, value);
    }
    return outputs;
}

void mil_lower_branch(lowering *low, const Coreml__Block *block, graph_branch *branch,
                      size_t outputs)
{
    const Coreml__Operation *const operation = low->operation;
    const char *const name = low->name, *const type = low->type;
    graph_branch *const outer = low->branch;
    mil_value *const mark = low->newest;
    size_t count = 0;
    if (low->status)
        return;
    if (low->depth == MAX_DEPTH) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "conditions nested deeper than %d", MAX_DEPTH);
        return;
    }
    low->depth++;
    low->branch = branch;
    lower_operations(low, block);
    low->operation = operation;
    low->name = name;
    low->type = type;
    if (!low->status)
        branch->outputs = block_outputs(low, block, &count);
    if (!low->status && count != outputs)
        mil_fail(low, PAL_ERROR_FORMAT, "a branch gives %zu values, not %zu", count, outputs);
    mil_scope_leave(low, mark);
    low->branch = outer;
    low->depth--;
}

/* ---------------------------------------------------------------- functions */

/* A function to run, and its block for the opset that it names. */
typedef struct entry_point {
    const Coreml__Function *function;
    const Coreml__Block *block;
} entry_point;

static bool same_text(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static const Coreml__Function *find_function(const Coreml__Program *program,
                                             ProtobufCBinaryData name)
{
    for (size_t i = 0; i < program->n_functions; i++)
        if (same_text(program->functions[i]->key, name))
            return program->functions[i]->value;
    return NULL;
}

static pal_status find_entry(const lowering *low, const Coreml__Model *model, entry_point *out)
{
    static const char main_name[] = "main";
    const Coreml__Program *program =
        model->type_case == COREML__MODEL__TYPE_ML_PROGRAM ? model->ml_program : NULL;
    if (!program)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "%s: a model of the pipeline is no ML Program: it cannot be run",
                    low->state->model_path);
    const ProtobufCBinaryData wanted = {sizeof main_name - 1, (uint8_t *)main_name};
    const Coreml__Function *function = NULL;
    if (model->description && model->description->default_function_name.len)
        function = find_function(program, model->description->default_function_name);
    if (!function)
        function = find_function(program, wanted);
    if (!function && program->n_functions == 1)
        function = program->functions[0]->value;
    *out = (entry_point){.function = function};
    for (size_t i = 0; function && i < function->n_block_specializations; i++)
        if (!out->block || same_text(function->block_specializations[i]->key, function->opset))
            out->block = function->block_specializations[i]->value;
    if (!out->block)
        return fail(PAL_ERROR_FORMAT, "%s: the model has no function 'main'",
                    low->state->model_path);
    return PAL_OK;
}

/* An input that no earlier model of the pipeline gives is one of the graph. */
static void add_input(lowering *low, const Coreml__NamedType *input)
{
    const mil_value *given = mil_scope_find(low, input->name);
    mil_value *value = mil_scope_add(low, input->name, input->type);
    if (!value)
        return;
    if (given) {
        value->value = given->value;
        return;
    }
    const char *name = copy_text(low, input->name);
    if (!value->type.is_tensor) {
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "the input '%s' is no tensor, but a state or a list",
                 name);
        return;
    }
    pal_status status = graph_add_input(low->graph, name, value->type.dtype, value->type.type,
                                        value->type.rank, value->type.shape, &value->value);
    if (status)
        mil_failed(low, status);
}

/* Lowers one model; its outputs come into scope for those that follow. */
static void lower_model(lowering *low, const entry_point *entry, graph_branch *result,
                        size_t *output_count)
{
    const Coreml__Function *function = entry->function;
    for (size_t i = 0; i < function->n_inputs; i++)
        add_input(low, function->inputs[i]);
    mil_value *const mark = low->newest;
    low->opset = opset_number(function->opset);
    lower_operations(low, entry->block);
    if (!low->status)
        result->outputs = block_outputs(low, entry->block, output_count);
    mil_scope_leave(low, mark);
}

/* ---------------------------------------------------------------- pipelines */

static const Coreml__Pipeline *pipeline_of(const Coreml__Model *model)
{
    switch (model->type_case) {
    case COREML__MODEL__TYPE_PIPELINE: return model->pipeline;
    case COREML__MODEL__TYPE_PIPELINE_CLASSIFIER:
        return model->pipeline_classifier ? model->pipeline_classifier->pipeline : NULL;
    case COREML__MODEL__TYPE_PIPELINE_REGRESSOR:
        return model->pipeline_regressor ? model->pipeline_regressor->pipeline : NULL;
    default: return NULL;
    }
}

/* Makes a model's outputs known to those that follow, by their names. */
static void publish(lowering *low, const entry_point *entry, const graph_branch *result,
                    size_t count)
{
    for (size_t i = 0, k = 0; !low->status && i < entry->block->n_outputs && k < count; i++) {
        const ProtobufCBinaryData name = entry->block->outputs[i];
        const char *own = low->graph->values[result->outputs[k]].name;
        if (strlen(own) != name.len || memcmp(own, name.data, name.len) != 0)
            continue; /* a classifier's label */
        mil_value *value = mil_scope_add(low, name, NULL);
        if (!value)
            return;
        value->type =
            (mil_type){.is_tensor = true, .type = mil_value_type(low, result->outputs[k])};
        value->value = result->outputs[k++];
    }
}

static void lower_pipeline(lowering *low, const entry_point *entries, size_t count)
{
    const Coreml__Model *root = low->state->root;
    graph_branch result = {0};
    size_t outputs = 0;
    for (size_t i = 0; !low->status && i < count; i++) {
        lower_model(low, &entries[i], &result, &outputs);
        if (!low->status)
            publish(low, &entries[i], &result, outputs);
    }
    if (low->status)
        return;
    if (!outputs) {
        mil_fail(low, PAL_ERROR_FORMAT, "the model has no outputs");
        return;
    }
    low->graph->main.outputs = result.outputs;
    low->graph->output_count = outputs;
    /* The pipeline's own description says which of all outputs are its. */
    const Coreml__ModelDescription *description = root->description;
    if (count < 2 || !description || !description->n_output)
        return;
    size_t *chosen = arena_alloc(&low->graph->arena, description->n_output * sizeof *chosen);
    if (!chosen) {
        mil_failed(low, fail_memory("a graph's outputs"));
        return;
    }
    size_t chosen_count = 0;
    for (size_t i = 0; i < description->n_output; i++) {
        const mil_value *value = mil_scope_find(low, description->output[i]->name);
        if (value && value->value != GRAPH_NONE)
            chosen[chosen_count++] = value->value;
    }
    if (chosen_count) {
        low->graph->main.outputs = chosen;
        low->graph->output_count = chosen_count;
    }
}

/* ---------------------------------------------------------------- the whole */

static pal_status lower_all(lowering *low, entry_point *entries, const Coreml__Block **blocks,
                            const Coreml__Pipeline *pipeline, size_t count)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < count; i++) {
        const Coreml__Model *model = pipeline ? pipeline->models[i] : low->state->root;
        status = find_entry(low, model, &entries[i]);
        blocks[i] = entries[i].block;
    }
    if (!status)
        status = mil_operators_check(low, blocks, count);
    if (!status)
        status = mil_weights_index(low);
    if (status)
        return status;
    lower_pipeline(low, entries, count);
    return low->status;
}

pal_status graph_lower_coreml(pal_model *model, graph *graph)
{
    lowering *low = mem_zeroed(1, sizeof *low);
    if (!low)
        return fail_memory("reading a program");
    low->model = model;
    low->state = model->state;
    low->graph = graph;
    low->branch = &graph->main;
    low->name = low->type = "";
    arena_init(&low->arena, SIZE_MAX);
    const Coreml__Pipeline *pipeline = pipeline_of(low->state->root);
    const size_t count = pipeline ? pipeline->n_models : 1;
    entry_point *entries = mem_zeroed(count, sizeof *entries);
    const Coreml__Block **blocks = mem_zeroed(count, sizeof *blocks);
    pal_status status = entries && blocks ? lower_all(low, entries, blocks, pipeline, count)
                                          : fail_memory("reading a program");
    free(entries);
    free(blocks);
    free(low->weights);
    arena_free(&low->arena);
    free(low);
    return status;
}
