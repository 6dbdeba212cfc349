/* The weight files of a package, opened when a Value first refers to them. */
#include <stdlib.h>
#include <string.h>

#include "format/coreml/coreml.h"

size_t coreml_model_directory(const coreml *state)
{
    const char *slash = strrchr(state->model_item, '/');
    return slash ? (size_t)(slash - state->model_item) + 1 : 0;
}

pal_status coreml_weight_file(coreml *state, ProtobufCBinaryData name, weight_file **out)
{
    const size_t prefix = sizeof COREML_MODEL_PATH - 1;
    for (size_t i = 0; i < state->file_count; i++) {
        if (protobuf_equal(name, state->files[i].name)) {
            *out = &state->files[i];
            return PAL_OK;
        }
    }
    char text[512];
    if (name.len >= sizeof text || name.len <= prefix || memchr(name.data, 0, name.len) ||
        memcmp(name.data, COREML_MODEL_PATH, prefix) != 0)
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
                                       coreml_model_directory(state));
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
