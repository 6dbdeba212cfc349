/* The package: a directory with a manifest, the model (protobuf) and weight files. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/coreml/coreml.h"

static const char MANIFEST[] = "Manifest.json";
static const char MODEL_PATH[] = "@model_path/";

/* ---------------------------------------------------------------- opening */

static bool coreml_probe(const char *path)
{
    struct stat info;
    char *manifest = path_join(path, MANIFEST);
    bool found = manifest && stat(path, &info) == 0 && S_ISDIR(info.st_mode) &&
                 stat(manifest, &info) == 0 && S_ISREG(info.st_mode);
    free(manifest);
    return found;
}

/* Finds the item of the root model in the manifest: its path below Data/. */
static pal_status read_manifest(coreml *state)
{
    char *path = path_join(state->package, MANIFEST);
    file_map map;
    if (!path)
        return fail_memory("reading a manifest");
    pal_status status = file_map_open(path, &map);
    if (status) {
        free(path);
        return status;
    }
    json_error_t error;
    json_t *manifest = json_loadb(map.data ? (const char *)map.data : "", map.size, 0, &error);
    const char *root = json_string_value(json_object_get(manifest, "rootModelIdentifier"));
    json_t *item =
        root ? json_object_get(json_object_get(manifest, "itemInfoEntries"), root) : NULL;
    const char *item_path = json_string_value(json_object_get(item, "path"));
    if (!manifest)
        status = fail(PAL_ERROR_FORMAT, "%s:%d: not JSON: %s", path, error.line, error.text);
    else if (!item_path)
        status = fail(PAL_ERROR_FORMAT, "%s: names no root model", path);
    else if (!path_is_inside(item_path))
        status = fail(PAL_ERROR_FORMAT, "%s: the root model's path leaves the package: %s", path,
                      item_path);
    else if (!(state->model_item = path_join("Data", item_path)))
        status = fail_memory("reading a manifest");
    json_decref(manifest);
    file_map_close(&map);
    free(path);
    return status;
}

static pal_status read_model(coreml *state)
{
    file_map map;
    ProtobufCMessage *root = NULL;
    state->model_path = path_join(state->package, state->model_item);
    if (!state->model_path)
        return fail_memory("reading a model");
    pal_status status = file_map_open(state->model_path, &map);
    if (status)
        return status;
    status = protobuf_parse(state->model_path, &coreml__model__descriptor, map.data, map.size,
                            &state->parsed, &root);
    state->root = (Coreml__Model *)root;
    file_map_close(&map);
    return status;
}

/* Offsets from PENDING on stand for data that are not written yet; a file cannot refer to them. */
static pal_status check_reference(void *user, Coreml__Value *value)
{
    const coreml *state = user;
    if (value->value_case != COREML__VALUE__VALUE_BLOB_FILE_VALUE || !value->blob_file_value ||
        value->blob_file_value->offset < PENDING)
        return PAL_OK;
    return fail(PAL_ERROR_FORMAT, "%s: no blob at offset %llu of a weight file", state->model_path,
                (unsigned long long)value->blob_file_value->offset);
}

static pal_status coreml_open(pal_model *model)
{
    coreml *state = mem_zeroed(1, sizeof *state);
    if (!state)
        return fail_memory("opening a model");
    model->state = state;
    state->package = model->path;
    arena_init(&state->edits, SIZE_MAX);
    pal_status status = read_manifest(state);
    if (!status)
        status = read_model(state);
    if (!status)
        status = coreml_visit_values(state->root, check_reference, state);
    if (!status)
        status = coreml_find_weights(model);
    return status;
}

static void coreml_close(pal_model *model)
{
    coreml *state = model->state;
    for (size_t i = 0; i < state->file_count; i++) {
        file_map_close(&state->files[i].map);
        free(state->files[i].name);
        free(state->files[i].path);
    }
    for (size_t i = 0; i < state->palette_count; i++)
        palette_free(state->palettes[i]);
    for (size_t i = 0; i < state->buffer_count; i++)
        free(state->buffers[i]);
    free(state->files);
    free(state->places);
    free(state->pending);
    free(state->palettes);
    free(state->buffers);
    free(state->model_item);
    free(state->model_path);
    arena_free(&state->parsed);
    arena_free(&state->edits);
    free(state);
    model->state = NULL;
}

/* Directory of the model inside the package, with its slash; "" at the top. */
static size_t model_directory_length(const coreml *state)
{
    const char *slash = strrchr(state->model_item, '/');
    return slash ? (size_t)(slash - state->model_item) + 1 : 0;
}

pal_status coreml_weight_file(coreml *state, ProtobufCBinaryData name, weight_file **out)
{
    const size_t prefix = sizeof MODEL_PATH - 1;
    for (size_t i = 0; i < state->file_count; i++) {
        if (protobuf_equal(name, state->files[i].name)) {
            *out = &state->files[i];
            return PAL_OK;
        }
    }
    char text[512];
    if (name.len >= sizeof text || name.len <= prefix || memchr(name.data, 0, name.len) ||
        memcmp(name.data, MODEL_PATH, prefix) != 0)
        return fail(PAL_ERROR_FORMAT, "a weight file with a strange name: %.*s",
                    (int)(name.len < 200 ? name.len : 200), (const char *)name.data);
    memcpy(text, name.data, name.len);
    text[name.len] = 0;
    if (!path_is_inside(text + prefix))
        return fail(PAL_ERROR_FORMAT, "a weight file outside the package: %s", text);
    if (!mem_grow((void **)&state->files, &state->file_capacity, state->file_count + 1,
                  sizeof *state->files))
        return fail_memory("opening a weight file");
    char *directory =
        strndup(state->model_path, strlen(state->model_path) - strlen(state->model_item) +
                                       model_directory_length(state));
    weight_file file = {.name = strdup(text),
                        .path = directory ? path_join(directory, text + prefix) : NULL};
    free(directory);
    pal_status status = file.name && file.path ? file_map_open(file.path, &file.map)
                                               : fail_memory("opening a weight file");
    if (status) {
        free(file.name);
        free(file.path);
        return status;
    }
    state->files[state->file_count] = file;
    *out = &state->files[state->file_count++];
    return PAL_OK;
}

static bool coreml_lut_dtype_ok(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 || dtype == PAL_FLOAT32;
}

static void coreml_release(const pal_model *model, size_t weight)
{
    const coreml *state = model->state;
    const unsigned char *data = model->weights[weight].dense;
    for (size_t i = 0; data && i < state->file_count; i++) {
        const file_map *map = &state->files[i].map;
        if (map->data && data >= map->data && data < map->data + map->size)
            file_map_discard(map, data, model->weights[weight].info.bytes);
    }
}

/* ---------------------------------------------------------------- visiting values */

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

static pal_status visit_program(const visitor *v, const Coreml__Program *program)
{
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

pal_status coreml_visit_values(Coreml__Model *model, value_visit visit, void *user)
{
    const visitor v = {visit, user};
    const Coreml__Pipeline *pipeline = NULL;
    switch (model->type_case) {
    case COREML__MODEL__TYPE_ML_PROGRAM:
        return model->ml_program ? visit_program(&v, model->ml_program) : PAL_OK;
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
        status = coreml_visit_values(pipeline->models[i], visit, user);
    return status;
}

/* ---------------------------------------------------------------- saving */

/* Old offset of a blob -> its new one, for one weight file. Open addressing; `from` 0 is free,
 * because no blob lies at offset 0. */
typedef struct moved_blob {
    uint64_t from, to;
} moved_blob;

typedef struct output_file {
    file_writer writer;
    uint32_t count;
    moved_blob *moved;
    size_t moved_count, moved_capacity;
} output_file;

/* A reference that was changed for the output and is put back afterwards. */
typedef struct old_reference {
    Coreml__BlobFileValue *reference;
    uint64_t offset;
} old_reference;

typedef struct saving {
    coreml *state;
    output_file *outputs; /* one for each weight file */
    size_t opened;
    old_reference *old;
    size_t old_count, old_capacity;
} saving;

/* The slot of an old offset; NULL when out of memory. */
static moved_blob *moved_slot(output_file *output, uint64_t from)
{
    if (2 * (output->moved_count + 1) > output->moved_capacity) {
        size_t capacity = output->moved_capacity ? 2 * output->moved_capacity : 256;
        moved_blob *larger = mem_zeroed(capacity, sizeof *larger);
        if (!larger)
            return NULL;
        for (size_t i = 0; i < output->moved_capacity; i++) {
            if (!output->moved[i].from)
                continue;
            size_t at = output->moved[i].from / 64 % capacity;
            while (larger[at].from)
                at = (at + 1) % capacity;
            larger[at] = output->moved[i];
        }
        free(output->moved);
        output->moved = larger;
        output->moved_capacity = capacity;
    }
    size_t at = from / 64 % output->moved_capacity;
    while (output->moved[at].from && output->moved[at].from != from)
        at = (at + 1) % output->moved_capacity;
    return &output->moved[at];
}

/* Writes the data of one reference, unless that has been done, and points it to the new place. */
static pal_status move_blob(coreml *state, const weight_file *file, output_file *output,
                            uint64_t *offset)
{
    if (*offset >= PENDING) {
        pending_blob *pending = &state->pending[*offset - PENDING];
        if (!pending->written_at) {
            pending->written_at = blob_file_append(&output->writer, pending->dtype, pending->data,
                                                   pending->bytes, pending->elements);
            output->count++;
        }
        *offset = pending->written_at;
        return PAL_OK;
    }
    moved_blob *moved = moved_slot(output, *offset);
    if (!moved)
        return fail_memory("writing weights");
    if (!moved->from) {
        blob blob;
        pal_status status = blob_read(file->path, &file->map, *offset, &blob);
        if (status)
            return status;
        moved->from = *offset;
        moved->to = blob_file_copy(&output->writer, &file->map, *offset, &blob);
        output->moved_count++;
        output->count++;
    }
    *offset = moved->to;
    return PAL_OK;
}

static pal_status save_value(void *user, Coreml__Value *value)
{
    saving *s = user;
    if (value->value_case != COREML__VALUE__VALUE_BLOB_FILE_VALUE || !value->blob_file_value)
        return PAL_OK;
    Coreml__BlobFileValue *reference = value->blob_file_value;
    weight_file *file;
    pal_status status = coreml_weight_file(s->state, reference->file_name, &file);
    if (status)
        return status;
    size_t index = (size_t)(file - s->state->files);
    if (index >= s->opened)
        return fail(PAL_ERROR_FORMAT, "%s: a weight file that was not there before", file->path);
    if (!mem_grow((void **)&s->old, &s->old_capacity, s->old_count + 1, sizeof *s->old))
        return fail_memory("writing weights");
    uint64_t offset = reference->offset;
    status = move_blob(s->state, file, &s->outputs[index], &offset);
    if (!status) {
        s->old[s->old_count++] = (old_reference){reference, reference->offset};
        reference->has_offset = true;
        reference->offset = offset;
    }
    return status;
}

/* Opens every weight file that the model refers to, so that the outputs are known. */
static pal_status open_value(void *user, Coreml__Value *value)
{
    weight_file *file;
    if (value->value_case != COREML__VALUE__VALUE_BLOB_FILE_VALUE || !value->blob_file_value)
        return PAL_OK;
    return coreml_weight_file(user, value->blob_file_value->file_name, &file);
}

/* Files that are written anew are not copied. */
static bool skip_rewritten(void *user, const char *relative)
{
    const coreml *state = user;
    const size_t directory = model_directory_length(state);
    while (relative[0] == '/')
        relative++;
    if (strcmp(relative, state->model_item) == 0)
        return true;
    for (size_t i = 0; i < state->file_count; i++)
        if (strncmp(relative, state->model_item, directory) == 0 &&
            strcmp(relative + directory, state->files[i].name + sizeof MODEL_PATH - 1) == 0)
            return true;
    return false;
}

/* protobuf-c's sink, on a file. */
typedef struct protobuf_sink {
    ProtobufCBuffer base;
    file_writer *writer;
} protobuf_sink;

static void sink_append(ProtobufCBuffer *buffer, size_t size, const uint8_t *data)
{
    writer_write(((protobuf_sink *)buffer)->writer, data, size);
}

/* The place of an item of the package below the staged directory. */
static char *staged_path(const char *temporary, const coreml *state, const char *beside_model)
{
    if (!beside_model)
        return path_join(temporary, state->model_item);
    char *directory = strndup(state->model_item, model_directory_length(state));
    char *item = directory ? path_join(directory, beside_model) : NULL;
    char *path = item ? path_join(temporary, item) : NULL;
    free(directory);
    free(item);
    return path;
}

static pal_status save_weights(saving *s, const char *temporary)
{
    coreml *state = s->state;
    pal_status status = PAL_OK;
    for (size_t i = 0; i < state->pending_count; i++)
        state->pending[i].written_at = 0;
    for (size_t i = 0; !status && i < state->file_count; i++) {
        char *path = staged_path(temporary, state, state->files[i].name + sizeof MODEL_PATH - 1);
        status = path ? writer_open(&s->outputs[i].writer, path) : fail_memory("writing weights");
        free(path);
        if (!status) {
            s->opened++;
            blob_file_begin(&s->outputs[i].writer);
        }
    }
    if (!status)
        status = coreml_visit_values(state->root, save_value, s);
    for (size_t i = 0; i < s->opened; i++) {
        blob_file_end(&s->outputs[i].writer, s->outputs[i].count);
        status_message message;
        status_message_take(&message);
        pal_status closed = writer_close(&s->outputs[i].writer);
        if (status)
            status_message_put(&message);
        else
            status = closed;
    }
    return status;
}

static pal_status save_model(const coreml *state, const char *temporary)
{
    char *path = staged_path(temporary, state, NULL);
    file_writer writer;
    pal_status status = path ? writer_open(&writer, path) : fail_memory("writing a model");
    free(path);
    if (status)
        return status;
    protobuf_sink sink = {{sink_append}, &writer};
    protobuf_c_message_pack_to_buffer(&state->root->base, &sink.base);
    return writer_close(&writer);
}

/* Refuses to put a package in the place of something that is none. */
static pal_status check_destination(const char *path)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return PAL_OK;
    if (!S_ISDIR(info.st_mode))
        return fail(PAL_ERROR_IO, "%s: exists and is not a package; not replaced", path);
    if (!coreml_probe(path) && rmdir(path) < 0) /* an empty directory may go */
        return fail(PAL_ERROR_IO, "%s: exists and is not a model package; not replaced", path);
    return PAL_OK;
}

static pal_status coreml_save(pal_model *model, const char *path, uint64_t *bytes)
{
    coreml *state = model->state;
    saving s = {.state = state};
    staged_output stage;
    pal_status status = check_destination(path);
    if (!status)
        status = coreml_visit_values(state->root, open_value, state);
    if (status)
        return status;
    s.outputs = mem_zeroed(state->file_count, sizeof *s.outputs);
    if (!s.outputs)
        return fail_memory("writing a model");
    status = stage_directory(&stage, path);
    if (!status) {
        status = path_copy(model->path, stage.temporary, skip_rewritten, state);
        if (!status)
            status = save_weights(&s, stage.temporary);
        if (!status)
            status = save_model(state, stage.temporary);
        if (!status)
            status = path_total_bytes(stage.temporary, bytes);
        if (status)
            stage_abandon(&stage);
        else
            status = stage_commit(&stage);
    }
    for (size_t i = 0; i < s.old_count; i++)
        s.old[i].reference->offset = s.old[i].offset;
    for (size_t i = 0; i < state->file_count; i++)
        free(s.outputs[i].moved);
    free(s.outputs);
    free(s.old);
    return status;
}

const format format_coreml = {
    .name = "coreml",
    .probe = coreml_probe,
    .open = coreml_open,
    .close = coreml_close,
    .lut_dtype_ok = coreml_lut_dtype_ok,
    .can_express = coreml_can_express,
    .read_palette = coreml_read_palette,
    .replace = coreml_replace,
    .release = coreml_release,
    .save = coreml_save,
};
