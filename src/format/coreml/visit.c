/* Walks over the programs of a model, a pipeline holding several, and over all their Values. */
#include "format/coreml/coreml.h"

typedef struct visitor {
    value_visit visit;
    void *user;
} visitor;

static pal_status visit_value(const visitor *v, Coreml__Value *value)
{
    if (!value)
        return PAL_OK;
    pal_status status = v->visit(v->user, value);
    if (status || value->value_case != COREML__VALUE__VALUE_IMMEDIATE_VALUE ||
        !value->immediate_value)
        return status;
    const Coreml__ImmediateValue *immediate = value->immediate_value;
    const Coreml__ValueList *list = NULL;
    if (immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_LIST)
        list = immediate->list;
    else if (immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_TUPLE)
        list = immediate->tuple;
    for (size_t i = 0; list && !status && i < list->n_values; i++)
        status = visit_value(v, list->values[i]);
    if (immediate->value_case == COREML__IMMEDIATE_VALUE__VALUE_DICTIONARY) {
        const Coreml__DictionaryValue *dictionary = immediate->dictionary;
        for (size_t i = 0; dictionary && !status && i < dictionary->n_values; i++) {
            status = visit_value(v, dictionary->values[i]->key);
            if (!status)
                status = visit_value(v, dictionary->values[i]->value);
        }
    }
    return status;
}

static pal_status visit_entries(const visitor *v, Coreml__ValueEntry **entries, size_t count)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < count; i++)
        status = visit_value(v, entries[i]->value);
    return status;
}

static pal_status visit_block(const visitor *v, const Coreml__Block *block)
{
    pal_status status = visit_entries(v, block->attributes, block->n_attributes);
    for (size_t i = 0; !status && i < block->n_operations; i++) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t j = 0; !status && j < operation->n_inputs; j++) {
            const Coreml__Argument *argument = operation->inputs[j]->value;
            for (size_t k = 0; argument && !status && k < argument->n_arguments; k++)
                if (argument->arguments[k]->binding_case == COREML__BINDING__BINDING_VALUE)
                    status = visit_value(v, argument->arguments[k]->value);
        }
        if (!status)
            status = visit_entries(v, operation->attributes, operation->n_attributes);
        for (size_t j = 0; !status && j < operation->n_blocks; j++)
            status = visit_block(v, operation->blocks[j]);
    }
    return status;
}

static pal_status visit_program(void *user, Coreml__Program *program)
{
    const visitor *v = user;
    pal_status status = visit_entries(v, program->attributes, program->n_attributes);
    for (size_t f = 0; !status && f < program->n_functions; f++) {
        const Coreml__Function *function = program->functions[f]->value;
        if (!function)
            continue;
        status = visit_entries(v, function->attributes, function->n_attributes);
        for (size_t b = 0; !status && b < function->n_block_specializations; b++)
            if (function->block_specializations[b]->value)
                status = visit_block(v, function->block_specializations[b]->value);
    }
    return status;
}

pal_status coreml_visit_programs(Coreml__Model *model, program_visit visit, void *user)
{
    const Coreml__Pipeline *pipeline = NULL;
    switch (model->type_case) {
    case COREML__MODEL__TYPE_ML_PROGRAM:
        return model->ml_program ? visit(user, model->ml_program) : PAL_OK;
    case COREML__MODEL__TYPE_PIPELINE: pipeline = model->pipeline; break;
    case COREML__MODEL__TYPE_PIPELINE_CLASSIFIER:
        pipeline = model->pipeline_classifier ? model->pipeline_classifier->pipeline : NULL;
        break;
    case COREML__MODEL__TYPE_PIPELINE_REGRESSOR:
        pipeline = model->pipeline_regressor ? model->pipeline_regressor->pipeline : NULL;
        break;
    default: break;
    }
    pal_status status = PAL_OK;
    for (size_t i = 0; pipeline && !status && i < pipeline->n_models; i++)
        status = coreml_visit_programs(pipeline->models[i], visit, user);
    return status;
}

pal_status coreml_visit_values(Coreml__Model *model, value_visit visit, void *user)
{
    visitor v = {visit, user};
    return coreml_visit_programs(model, visit_program, &v);
}
