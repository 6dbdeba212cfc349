/* Data files that saving has written beside a model, and that nothing needs once another model has
 * taken its place. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/onnx/onnx.h"

const char DATA_SUFFIX[] = ".data";

typedef struct listing {
    const onnx *state; /* of the model that is being saved */
    const char *final;
    bool same; /* it is that model which is replaced */
    replaced_data *out;
} listing;

/* Whether the location is "MODEL.0123456789abcdef.data", as saving names data of this model. */
static bool is_ours(const char *model, ProtobufCBinaryData location)
{
    const size_t n = strlen(model), suffix = strlen(DATA_SUFFIX);
    if (location.len != n + 1 + DATA_DIGITS + suffix || memcmp(location.data, model, n) != 0 ||
        location.data[n] != '.' ||
        memcmp(location.data + location.len - suffix, DATA_SUFFIX, suffix) != 0)
        return false;
    for (size_t i = n + 1; i < n + 1 + DATA_DIGITS; i++)
        if (!strchr("0123456789abcdef", location.data[i]) || !location.data[i])
            return false;
    return true;
}

/* Whether the model that is being saved has its own data there. */
static bool is_read(const onnx *state, const char *path)
{
    struct stat info, other;
    if (stat(path, &info) < 0)
        return false;
    for (size_t i = 0; i < state->file_count; i++)
        if (stat(state->files[i].path, &other) == 0 && info.st_dev == other.st_dev &&
            info.st_ino == other.st_ino)
            return true;
    return false;
}

static pal_status list_file(const listing *l, const char *name)
{
    replaced_data *out = l->out;
    char *path = path_beside(l->final, name);
    bool known = false;
    for (size_t i = 0; path && i < out->count; i++)
        known = known || strcmp(out->paths[i], path) == 0;
    if (!path ||
        !mem_grow((void **)&out->paths, &out->capacity, out->count + 1, sizeof *out->paths)) {
        free(path);
        return fail_memory("writing external data");
    }
    if (known || (!l->same && is_read(l->state, path)))
        free(path);
    else
        out->paths[out->count++] = path;
    return PAL_OK;
}

static pal_status list_tensor(void *user, Onnx__Tensor *tensor)
{
    const listing *l = user;
    const char *slash = strrchr(l->final, '/');
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < tensor->n_external_data; i++) {
        const Onnx__Entry *entry = tensor->external_data[i];
        if (tensor->data_location != LOCATION_EXTERNAL || !protobuf_equal(entry->key, "location") ||
            !is_ours(slash ? slash + 1 : l->final, entry->value))
            continue;
        char *name = strndup((const char *)entry->value.data, entry->value.len);
        status = name ? list_file(l, name) : fail_memory("writing external data");
        free(name);
    }
    return status;
}

pal_status replaced_data_list(const onnx *state, const char *final, replaced_data *out)
{
    struct stat info;
    *out = (replaced_data){0};
    /* What has another name, too, stays, and needs its data. */
    if (stat(final, &info) < 0 || !S_ISREG(info.st_mode) || info.st_nlink > 1)
        return PAL_OK;
    onnx old = {.path = final};
    pal_status status = onnx_read(&old);
    if (!status) {
        listing l = {state, final, info.st_dev == state->device && info.st_ino == state->inode,
                     out};
        status = tensor_visit_all(&old.root->base, list_tensor, &l);
    } else if (status != PAL_ERROR_MEMORY) {
        status = PAL_OK; /* no model, so it has no data */
    }
    arena_free(&old.parsed);
    file_map_close(&old.map);
    return status;
}

void replaced_data_remove(const replaced_data *list, const char *except)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->paths[i], except) != 0)
            unlink(list->paths[i]);
}

void replaced_data_free(replaced_data *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (replaced_data){0};
}
