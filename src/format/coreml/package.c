/* The package: a directory with a manifest, the model (protobuf) and weight files. Opening it, and
 * the format's table of functions. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/coreml/coreml.h"

static const char MANIFEST[] = "Manifest.json";

/* ---------------------------------------------------------------- opening */

bool coreml_probe(const char *path)
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
    holdings_free(&state->held);
    free(state->files);
    free(state->places);
    free(state->pending);
    free(state->model_item);
    free(state->model_path);
    arena_free(&state->parsed);
    arena_free(&state->edits);
    free(state);
    model->state = NULL;
}

static bool coreml_lut_dtype_ok(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 || dtype == PAL_FLOAT32;
}

static void coreml_release(const pal_model *model, size_t weight)
{
    const coreml *state = model->state;
    const model_weight *stored = &model->weights[weight];
    const unsigned char *data = stored->dense ? stored->dense : stored->pruned.values;
    const uint64_t bytes = stored->dense
                               ? stored->info.bytes
                               : stored->pruned.count * pal_dtype_bits(stored->info.dtype) / 8;
    for (size_t i = 0; data && i < state->file_count; i++) {
        const file_map *map = &state->files[i].map;
        if (map->data && data >= map->data && data < map->data + map->size)
            file_map_discard(map, data, bytes);
    }
    if (stored->dense && holdings_has_buffer(&state->held, stored->dense))
        scratch_release((void *)stored->dense);
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
    .check_destination = coreml_check_destination,
    .save = coreml_save,
};
