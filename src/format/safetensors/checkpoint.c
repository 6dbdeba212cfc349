/* A checkpoint: one file, or a folder with an index of several, or with a single one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/safetensors/safetensors.h"

const char INDEX_NAME[] = "model.safetensors.index.json", SINGLE_NAME[] = "model.safetensors";

static const char EXTENSION[] = ".safetensors";

static bool is_file(const char *path)
{
    struct stat info;
    return path && stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static bool has_file(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool found = is_file(path);
    free(path);
    return found;
}

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool safetensors_is_folder(const char *path)
{
    return is_directory(path) && (has_file(path, INDEX_NAME) || has_file(path, SINGLE_NAME));
}

/* Whether the file begins with a length that fits it and the brace of a header. */
static bool begins_like_one(const char *path)
{
    unsigned char start[9];
    struct stat info;
    uint64_t length = 0;
    FILE *file = fopen(path, "rb");
    size_t got = file ? fread(start, 1, sizeof start, file) : 0;
    bool sized = file && fstat(fileno(file), &info) == 0;
    if (file)
        fclose(file);
    if (got < sizeof start || !sized || start[8] != '{')
        return false;
    for (int i = 8; i-- > 0;)
        length = length << 8 | start[i];
    return length <= MAX_HEADER && length <= (uint64_t)info.st_size - 8;
}

static bool safetensors_probe(const char *path)
{
    const size_t length = strlen(path), n = sizeof EXTENSION - 1;
    if (is_directory(path))
        return safetensors_is_folder(path);
    if (!is_file(path))
        return false;
    return (length > n && strcmp(path + length - n, EXTENSION) == 0) || begins_like_one(path);
}

/* ---------------------------------------------------------------- memory of the tensors */

const void *safetensors_aligned(safetensors *state, const shard *shard, const stored *tensor)
{
    enum { PIECE = 4 << 20 };
    const size_t size = tensor->type && tensor->type->bits > 8 ? tensor->type->bits / 8 : 1;
    if ((uintptr_t)tensor->data % size == 0)
        return tensor->data;
    if (!holdings_reserve(&state->held, 1))
        return NULL;
    unsigned char *copy = scratch_zeroed(tensor->bytes, 1);
    if (!copy)
        return NULL;
    holdings_keep_buffer(&state->held, copy);
    for (uint64_t done = 0, n; done < tensor->bytes; done += n) {
        n = tensor->bytes - done < PIECE ? tensor->bytes - done : PIECE;
        memcpy(copy + done, tensor->data + done, n);
        safetensors_discard(shard, tensor->data + done, n);
        scratch_release(copy);
    }
    return copy;
}

void safetensors_discard(const shard *shard, const void *data, uint64_t bytes)
{
    const unsigned char *begin = data, *end = shard->map.data + shard->map.size;
    if (begin && begin >= shard->map.data && begin < end && bytes <= (uint64_t)(end - begin))
        file_map_discard(&shard->map, begin, bytes);
}

static void safetensors_release(const pal_model *model, size_t weight)
{
    const safetensors *state = model->state;
    const entry *entry = &state->entries[state->entry_of_weight[weight]];
    const shard *shard = &state->shards[entry->shard];
    if (entry->tensor)
        safetensors_discard(shard, entry->tensor->data, entry->tensor->bytes);
    if (entry->palette)
        safetensors_discard(shard, entry->palette->indices, palette_index_bytes(entry->palette));
    const void *dense = model->weights[weight].dense;
    if (dense && !(entry->tensor && dense == entry->tensor->data)) /* of our own, then */
        scratch_release((void *)dense);
}

/* ---------------------------------------------------------------- weights */

static bool safetensors_lut_dtype_ok(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 || dtype == PAL_BFLOAT16 || dtype == PAL_FLOAT32;
}

/* Whether the names that its palette would need are free. */
static pal_status check_names(const safetensors *state, model_weight *weight)
{
    for (int part = 0; part < PARTS; part++) {
        char *name = safetensors_part_name(weight->info.name, part);
        if (!name)
            return fail_memory("reading a checkpoint");
        if (json_object_get(state->names, name))
            weight->locked = "the checkpoint has other tensors with the names of its palette";
        free(name);
    }
    return PAL_OK;
}

static pal_status add_weight(pal_model *model, entry *entry)
{
    safetensors *state = model->state;
    const size_t i = model->weight_count;
    const stored *tensor = entry->tensor;
    const palette *palette = entry->palette;
    if (!mem_grow((void **)&model->weights, &state->weight_capacity, i + 1,
                  sizeof *model->weights) ||
        !mem_grow((void **)&state->entry_of_weight, &state->entry_of_weight_capacity, i + 1,
                  sizeof *state->entry_of_weight))
        return fail_memory("reading a checkpoint");
    model_weight *weight = &model->weights[i];
    *weight = (model_weight){.same_as = i};
    weight->info = (pal_weight){
        .name = entry->name,
        .function = "",
        .op = "",
        .dtype = palette ? palette->dtype : tensor->type->dtype,
        .rank = palette ? palette->rank : tensor->rank,
        .elements = 1,
    };
    memcpy(weight->info.shape, palette ? palette->shape : tensor->shape, sizeof weight->info.shape);
    for (size_t d = 0; d < weight->info.rank; d++)
        weight->info.elements *= weight->info.shape[d];
    state->entry_of_weight[i] = (size_t)(entry - state->entries);
    entry->weight = i;
    model->weight_count++;
    safetensors_update_info(model, i);
    name_tells(entry->name, &weight->embedding, &weight->locked);
    if (palette)
        return PAL_OK;
    weight->dense = safetensors_aligned(state, &state->shards[entry->shard], tensor);
    return weight->dense ? check_names(state, weight) : fail_memory("reading a checkpoint");
}

static pal_status find_weights(pal_model *model)
{
    const safetensors *state = model->state;
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < state->entry_count; i++) {
        entry *entry = &state->entries[i];
        const stored *tensor = entry->tensor;
        if (!tensor || (tensor->type && dtype_is_float(tensor->type->dtype) && tensor->rank > 0 &&
                        tensor->rank <= PAL_MAX_RANK))
            status = add_weight(model, entry);
    }
    return status;
}

/* ---------------------------------------------------------------- entries of a shard */

/* If the tensor is a part of a palette in this shard, sets which part (else PARTS) and the name of
 * the palettized tensor, in the state's memory. */
static pal_status find_palettized(safetensors *state, const shard *shard, const char *name,
                                  int *part, const char **base)
{
    const size_t length = strlen(name);
    for (*part = 0; *part < PARTS && shard->palettes; ++*part) {
        const size_t n = strlen(PART_SUFFIX[*part]);
        if (length < n || strcmp(name + length - n, PART_SUFFIX[*part]) != 0)
            continue;
        *base = arena_copy(&state->texts, name, length - n);
        if (!*base)
            return fail_memory("reading a checkpoint");
        if (json_object_get(shard->palettes, *base))
            return PAL_OK;
    }
    *part = PARTS;
    return PAL_OK;
}

static pal_status add_entry(safetensors *state, const entry *entry)
{
    if (!mem_grow((void **)&state->entries, &state->entry_capacity, state->entry_count + 1,
                  sizeof *state->entries))
        return fail_memory("reading a checkpoint");
    state->entries[state->entry_count++] = *entry;
    return PAL_OK;
}

/* The name of a stored tensor, or of one that is palettized, may appear but once. */
static pal_status claim_name(safetensors *state, size_t shard, const char *name)
{
    const json_t *other = json_object_get(state->names, name);
    if (other)
        return fail(PAL_ERROR_FORMAT, "%s: %s is also in %s", state->shards[shard].path, name,
                    state->shards[json_integer_value(other)].path);
    if (json_object_set_new(state->names, name, json_integer((json_int_t)shard)))
        return fail_memory("reading a checkpoint");
    return PAL_OK;
}

/* A palettized tensor stands where its indices are. */
static pal_status add_palettized(safetensors *state, size_t s, const char *name)
{
    const shard *shard = &state->shards[s];
    entry entry = {.name = name, .shard = s, .weight = SIZE_MAX};
    pal_status status = claim_name(state, s, name);
    if (!status)
        status = safetensors_read_parts(state, shard, name, json_object_get(shard->palettes, name),
                                        &entry.palette);
    return status ? status : add_entry(state, &entry);
}

static pal_status add_tensors(safetensors *state, size_t s)
{
    shard *shard = &state->shards[s];
    pal_status status = PAL_OK;
    size_t palettized = 0;
    shard->first_entry = state->entry_count;
    for (size_t i = 0; !status && i < shard->tensor_count; i++) {
        const stored *tensor = &shard->tensors[i];
        const char *base = NULL;
        int part = PARTS;
        status = claim_name(state, s, tensor->name);
        if (!status)
            status = find_palettized(state, shard, tensor->name, &part, &base);
        if (!status && part == PARTS) {
            status = add_entry(state, &(entry){tensor->name, s, SIZE_MAX, tensor, NULL, NULL});
        } else if (!status && part == PART_INDICES) {
            status = add_palettized(state, s, base);
            palettized++;
        }
    }
    shard->entry_count = state->entry_count - shard->first_entry;
    if (!status && palettized != json_object_size(shard->palettes))
        status = fail(PAL_ERROR_FORMAT,
                      "%s: __metadata__ describes %zu palettes, of which %zu "
                      "have indices",
                      shard->path, json_object_size(shard->palettes), palettized);
    return status;
}

/* ---------------------------------------------------------------- opening */

static pal_status add_shard(safetensors *state, const char *name)
{
    shard *shard = &state->shards[state->shard_count++];
    shard->name = name ? strdup(name) : NULL;
    shard->path = name ? path_join(state->path, name) : strdup(state->path);
    if (!shard->path || (name && !shard->name))
        return fail_memory("opening a checkpoint");
    pal_status status = file_map_open(shard->path, &shard->map);
    if (!status)
        status = shard_read(shard);
    return status ? status : add_tensors(state, state->shard_count - 1);
}

static pal_status read_index(safetensors *state)
{
    file_map map;
    pal_status status = file_map_open(state->index_path, &map);
    if (status)
        return status;
    if (map.size > MAX_HEADER)
        status = fail(PAL_ERROR_FORMAT, "%s: %zu bytes, more than %llu", state->index_path,
                      map.size, (unsigned long long)MAX_HEADER);
    else
        status = json_parse(state->index_path, "the index", map.data, map.size, &state->index);
    if (!status && !json_object_size(json_object_get(state->index, "weight_map")))
        status =
            fail(PAL_ERROR_FORMAT, "%s: it has no weight_map, or an empty one", state->index_path);
    file_map_close(&map);
    return status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct files of the index, sorted. */
static pal_status list_files(const safetensors *state, const char **files, size_t *count)
{
    const char *tensor;
    json_t *file;
    json_object_foreach(json_object_get(state->index, "weight_map"), tensor, file)
    {
        const char *name = json_string_value(file);
        if (!name || !path_is_inside(name))
            return fail(PAL_ERROR_FORMAT, "%s: %s: its file is outside the folder or not named",
                        state->index_path, tensor);
        files[(*count)++] = name;
    }
    qsort(files, *count, sizeof *files, by_text);
    size_t distinct = 0;
    for (size_t i = 0; i < *count; i++)
        if (i == 0 || strcmp(files[i], files[distinct - 1]) != 0)
            files[distinct++] = files[i];
    *count = distinct;
    return PAL_OK;
}

/* Every tensor of the index must be where the index says. */
static pal_status check_index(const safetensors *state)
{
    const char *tensor;
    json_t *file;
    json_object_foreach(json_object_get(state->index, "weight_map"), tensor, file)
    {
        const json_t *shard = json_object_get(state->names, tensor);
        if (!shard ||
            strcmp(state->shards[json_integer_value(shard)].name, json_string_value(file)) != 0)
            return fail(PAL_ERROR_FORMAT, "%s: %s is not in %s", state->index_path, tensor,
                        json_string_value(file));
    }
    return PAL_OK;
}

static pal_status open_indexed(safetensors *state)
{
    size_t count = 0;
    pal_status status = read_index(state);
    if (status)
        return status;
    const char **files =
        mem_array(json_object_size(json_object_get(state->index, "weight_map")), sizeof *files);
    status = files ? list_files(state, files, &count) : fail_memory("opening a checkpoint");
    if (!status && !(state->shards = mem_zeroed(count, sizeof *state->shards)))
        status = fail_memory("opening a checkpoint");
    for (size_t i = 0; !status && i < count; i++)
        status = add_shard(state, files[i]);
    free(files);
    return status ? status : check_index(state);
}

static pal_status open_single(safetensors *state)
{
    state->shards = mem_zeroed(1, sizeof *state->shards);
    if (!state->shards)
        return fail_memory("opening a checkpoint");
    return add_shard(state, state->folder ? SINGLE_NAME : NULL);
}

static void describe(pal_model *model)
{
    const safetensors *state = model->state;
    size_t palettized = 0;
    for (size_t i = 0; i < model->weight_count; i++)
        palettized += model->weights[i].info.storage == PAL_STORAGE_PALETTIZED;
    int n = snprintf(model->description, sizeof model->description, "%zu tensors in %zu file%s",
                     state->entry_count, state->shard_count, state->shard_count == 1 ? "" : "s");
    if (palettized && n > 0 && (size_t)n < sizeof model->description)
        snprintf(model->description + n, sizeof model->description - (size_t)n, ", %zu palettized",
                 palettized);
}

static pal_status safetensors_open(pal_model *model)
{
    safetensors *state = mem_zeroed(1, sizeof *state);
    if (!state)
        return fail_memory("opening a checkpoint");
    model->state = state;
    state->path = model->path;
    arena_init(&state->texts, SIZE_MAX);
    state->folder = is_directory(model->path);
    state->names = json_object();
    if (state->folder && has_file(model->path, INDEX_NAME) &&
        !(state->index_path = path_join(model->path, INDEX_NAME)))
        return fail_memory("opening a checkpoint");
    pal_status status = state->index_path ? open_indexed(state) : open_single(state);
    if (!status)
        status = find_weights(model);
    if (!status)
        describe(model);
    return status;
}

static void safetensors_close(pal_model *model)
{
    safetensors *state = model->state;
    holdings_free(&state->held);
    for (size_t i = 0; i < state->shard_count; i++) {
        shard *shard = &state->shards[i];
        json_decref(shard->header);
        json_decref(shard->palettes);
        json_decref(shard->places);
        file_map_close(&shard->map);
        free(shard->tensors);
        free(shard->name);
        free(shard->path);
    }
    json_decref(state->names);
    json_decref(state->index);
    free(state->index_path);
    free(state->shards);
    free(state->entries);
    free(state->entry_of_weight);
    arena_free(&state->texts);
    free(state);
    model->state = NULL;
}

const format format_safetensors = {
    .name = "safetensors",
    .probe = safetensors_probe,
    .open = safetensors_open,
    .close = safetensors_close,
    .lut_dtype_ok = safetensors_lut_dtype_ok,
    .can_express = safetensors_can_express,
    .read_palette = safetensors_read_palette,
    .replace = safetensors_replace,
    .release = safetensors_release,
    .check_destination = safetensors_check_destination,
    .save = safetensors_save,
};
