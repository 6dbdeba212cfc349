/* Writing a package: weight files anew with only what the model refers to, the model with the new
 * places of its blobs, everything else copied; staged and committed as a whole. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/coreml/coreml.h"

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
    uint64_t resident; /* bytes of our own memory written since it was let go of */
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
static pal_status move_blob(saving *s, const weight_file *file, output_file *output,
                            uint64_t *offset)
{
    enum { MOST_RESIDENT = 16 << 20 };
    coreml *state = s->state;
    if (*offset >= PENDING) {
        pending_blob *pending = &state->pending[*offset - PENDING];
        if (!pending->written_at) {
            pending->written_at = blob_file_append(&output->writer, pending->dtype, pending->data,
                                                   pending->bytes, pending->elements);
            output->count++;
            s->resident += pending->bytes;
            if (s->resident >= MOST_RESIDENT) {
                holdings_release(&state->held);
                s->resident = 0;
            }
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
    status = move_blob(s, file, &s->outputs[index], &offset);
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
    const size_t directory = coreml_model_directory(state);
    while (relative[0] == '/')
        relative++;
    if (strcmp(relative, state->model_item) == 0)
        return true;
    for (size_t i = 0; i < state->file_count; i++)
        if (strncmp(relative, state->model_item, directory) == 0 &&
            strcmp(relative + directory, state->files[i].name + sizeof COREML_MODEL_PATH - 1) == 0)
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
    char *directory = strndup(state->model_item, coreml_model_directory(state));
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
        char *path =
            staged_path(temporary, state, state->files[i].name + sizeof COREML_MODEL_PATH - 1);
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

/* Refuses to put a package into the one that is being read, or in the place of something that is
 * none. */
static pal_status check_destination(const coreml *state, const char *path)
{
    struct stat info;
    pal_status status = stage_refuse_inside(state->package, path);
    if (status || stat(path, &info) < 0)
        return status;
    if (!S_ISDIR(info.st_mode))
        return fail(PAL_ERROR_IO, "%s: exists and is not a package; not replaced", path);
    if (!coreml_probe(path) && !directory_is_empty(path))
        return fail(PAL_ERROR_IO, "%s: exists and is not a model package; not replaced", path);
    return PAL_OK;
}

pal_status coreml_check_destination(const pal_model *model, const char *path)
{
    staged_output stage;
    pal_status status = check_destination(model->state, path);
    if (!status)
        status = stage_directory(&stage, path);
    if (!status)
        stage_abandon(&stage);
    return status;
}

pal_status coreml_save(pal_model *model, const char *path, uint64_t *bytes)
{
    coreml *state = model->state;
    saving s = {.state = state};
    staged_output stage;
    pal_status status = check_destination(state, path);
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
