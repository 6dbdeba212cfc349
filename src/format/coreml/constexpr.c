/* Putting the operations of a palettized weight, or a plain constant, in the place of others. */
#include <stdlib.h>
#include <string.h>

#include "format/coreml/coreml.h"

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
    if (form->integers) {
        needed = OPSET_IOS18;
        option = "lut_dtype";
    }
    if (form->scaled) {
        needed = OPSET_IOS18;
        option = "enable_per_channel_scale";
    }
    /* A constexpr is a dense look-up or a sparse tensor, not the sum of both; and what joins them
     * has to be a constant, too, where weights are. */
    if (form->outliers)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "%s: outliers cannot be expressed in a Core ML package, which has no constant "
                    "that is a look-up with exceptions",
                    model->path);
    if (form->integers && form->scaled)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "%s: lut_dtype and enable_per_channel_scale exclude each other in a Core ML "
                    "package",
                    model->path);
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

/* What replaces one weight. */
typedef struct change {
    lut_chain old; /* operations that made it */
    emitted made;
    Coreml__Operation *
        *grown;      /* the first change of a block with more operations than before: its */
    size_t capacity; /* list with room for those of all changes */
} change;

/* The file for new values of a weight: where its old ones are, or the package's first. */
static pal_status file_of(coreml *state, const change *change, const weight_file **out)
{
    static const char *const parameters[] = {"val",          "indices", "lut",
                                             "nonzero_data", "data",    "indices_nonzero_data"};
    const Coreml__Operation *const operations[] = {change->old.result, change->old.look_up};
    *out = state->file_count ? &state->files[0] : NULL;
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        for (size_t o = 0; o < 2; o++) {
            const Coreml__Value *value =
                operations[o] ? operation_parameter(operations[o], parameters[i]) : NULL;
            if (!value || value->value_case != COREML__VALUE__VALUE_BLOB_FILE_VALUE ||
                !value->blob_file_value)
                continue;
            weight_file *file;
            pal_status status = coreml_weight_file(state, value->blob_file_value->file_name, &file);
            *out = file;
            return status;
        }
    }
    return PAL_OK;
}

static pal_status make_operations(pal_model *model, const replacement *r, change *change)
{
    coreml *state = model->state;
    const weight_place *place = &state->places[r->weight];
    const weight_file *file;
    change->old = place->chain;
    pal_status status = file_of(state, change, &file);
    if (status)
        return status;
    return r->palette ? coreml_emit_palette(state, change->old.result, place->opset, file,
                                            r->palette, &change->made)
                      : coreml_emit_dense(state, change->old.result, file,
                                          &model->weights[r->weight].info, r->dense, &change->made);
}

/* Makes room in every block for the operations that come in addition. */
static pal_status make_room(coreml *state, const replacement *list, size_t count, change *changes)
{
    for (size_t i = 0; i < count; i++) {
        const Coreml__Block *block = state->places[list[i].weight].block;
        const size_t more = changes[i].made.count - 1;
        size_t first = 0;
        while (first < i &&
               (!changes[first].capacity || state->places[list[first].weight].block != block))
            first++;
        if (more)
            changes[first].capacity += more + (first == i ? block->n_operations : 0);
    }
    for (size_t i = 0; i < count; i++) {
        const Coreml__Block *block = state->places[list[i].weight].block;
        if (!changes[i].capacity)
            continue;
        changes[i].grown =
            arena_alloc(&state->edits, changes[i].capacity * sizeof *changes[i].grown);
        if (!changes[i].grown)
            return fail_memory("replacing weights");
        memcpy(changes[i].grown, block->operations, block->n_operations * sizeof *changes[i].grown);
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- removing */

/* Weights of the block that are defined after `index` move by this many operations. */
static void shift_places(const pal_model *model, const Coreml__Block *block, size_t index,
                         ptrdiff_t by)
{
    coreml *state = model->state;
    for (size_t i = 0; i < model->weight_count; i++)
        if (state->places[i].block == block && state->places[i].operation > index)
            state->places[i].operation = (size_t)((ptrdiff_t)state->places[i].operation + by);
}

static bool block_uses(const Coreml__Block *block, ProtobufCBinaryData name)
{
    for (size_t i = 0; i < block->n_outputs; i++)
        if (same_bytes(block->outputs[i], name))
            return true;
    for (size_t i = 0; i < block->n_operations; i++) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t j = 0; j < operation->n_inputs; j++) {
            const Coreml__Argument *argument = operation->inputs[j]->value;
            for (size_t k = 0; argument && k < argument->n_arguments; k++)
                if (argument->arguments[k]->binding_case == COREML__BINDING__BINDING_NAME &&
                    same_bytes(argument->arguments[k]->name, name))
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
    if (!operation)
        return;
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
    shift_places(model, block, index, -1);
}

/* ---------------------------------------------------------------- replacing */

/* Puts the new operations in their place. */
static void insert(pal_model *model, const replacement *r, const change *change)
{
    coreml *state = model->state;
    weight_place *place = &state->places[r->weight];
    Coreml__Block *block = place->block;
    const size_t more = change->made.count - 1, at = place->operation;
    if (more) {
        memmove(block->operations + at + 1 + more, block->operations + at + 1,
                (block->n_operations - at - 1) * sizeof *block->operations);
        block->n_operations += more;
        shift_places(model, block, at, (ptrdiff_t)more);
        place->operation += more;
    }
    memcpy(block->operations + at, change->made.operation,
           change->made.count * sizeof *block->operations);
    place->chain = change->made.chain;
}

/* From here on nothing fails. */
static void commit(pal_model *model, const replacement *list, size_t count, change *changes)
{
    coreml *state = model->state;
    for (size_t i = 0; i < count; i++)
        if (changes[i].grown)
            state->places[list[i].weight].block->operations = changes[i].grown;
    for (size_t i = 0; i < count; i++) {
        insert(model, &list[i], &changes[i]);
        weight_replaced(model, &state->held, &list[i]);
    }
    for (size_t i = 0; i < count; i++) {
        const lut_chain *old = &changes[i].old;
        Coreml__Block *block = state->places[list[i].weight].block;
        if (old->look_up && old->look_up != old->result)
            remove_unused(model, block, old->look_up);
        remove_unused(model, block, old->table_scale);
    }
    for (size_t i = 0; i < count; i++) { /* a table may be stored more than once */
        const weight_place *place = &state->places[list[i].weight];
        pal_weight *info = &model->weights[list[i].weight].info;
        if (list[i].palette)
            coreml_describe_constexpr(state, &place->chain, info);
    }
}

pal_status coreml_replace(pal_model *model, const replacement *list, size_t count)
{
    coreml *state = model->state;
    const size_t pending = state->pending_count;
    change *changes = mem_zeroed(count, sizeof *changes);
    pal_status status = PAL_OK;
    if (!changes || !holdings_reserve(&state->held, count))
        status = fail_memory("replacing weights");
    for (size_t i = 0; !status && i < count; i++)
        status = make_operations(model, &list[i], &changes[i]);
    if (!status)
        status = make_room(state, list, count, changes);
    if (status)
        state->pending_count = pending;
    else
        commit(model, list, count, changes);
    free(changes);
    return status;
}
