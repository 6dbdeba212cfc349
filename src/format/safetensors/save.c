/* Writing a checkpoint. Each file is written tensor by tensor, and the pages of the input are let
 * go behind the writer, so that saving takes no memory to speak of.
 *
 * A file without palettes keeps the order of its data. In one with palettes, tensors of whole
 * multiples of 8 bytes come first (indices are padded to such), then the others by the size of
 * their elements: so every tensor is aligned for its type without holes, which the format does not
 * allow. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/safetensors/safetensors.h"

enum { ALIGNMENT = 8, PIECE = 4 << 20 };

/* A tensor of the new file. */
typedef struct part {
    json_t *description; /* in the new header */
    const void *data;
    uint64_t bytes, padding;
    unsigned element; /* bytes */
    size_t number;    /* its place in the header */
    const entry *entry;
} part;

typedef struct new_file {
    const pal_model *model;
    const safetensors *state;
    const shard *shard;
    json_t *header;
    json_t *palettes; /* the new descriptions */
    bool outliers;    /* one of them has outliers */
    part *parts;
    size_t count, capacity;
} new_file;

typedef struct new_checkpoint {
    const pal_model *model;
    json_t *weight_map; /* of the new index */
    uint64_t bytes;     /* of all tensors */
} new_checkpoint;

/* ---------------------------------------------------------------- which tensors */

/* Puts a tensor into the header, without its offsets yet. Takes over the reference. */
static pal_status add_part(new_file *file, const char *name, json_t *description, const part *new)
{
    if (!mem_grow((void **)&file->parts, &file->capacity, file->count + 1, sizeof *file->parts)) {
        json_decref(description);
        return fail_memory("writing a header");
    }
    if (!description || json_object_set_new(file->header, name, description))
        return fail_memory("writing a header");
    part *part = &file->parts[file->count];
    *part = *new;
    part->description = description;
    part->number = file->count++;
    return PAL_OK;
}

static json_t *make_description(const char *type, const uint64_t *shape, size_t rank)
{
    return json_pack("{s:s, s:o}", "dtype", type, "shape", json_from_shape(shape, rank));
}

static pal_status add_palette_part(new_file *file, const entry *entry, int number, pal_dtype dtype,
                                   const uint64_t *shape, size_t rank, const void *data)
{
    const element_type *type = element_type_of(dtype);
    part part = {.data = data, .element = type->bits / 8, .entry = entry};
    part.bytes = part.element;
    for (size_t d = 0; d < rank; d++)
        part.bytes *= shape[d];
    if (number == PART_INDICES) {
        part.padding = part.bytes - palette_index_bytes(entry->palette);
        part.bytes -= part.padding;
    }
    char *name = safetensors_part_name(entry->name, number);
    pal_status status = name
                            ? add_part(file, name, make_description(type->name, shape, rank), &part)
                            : fail_memory("writing a header");
    free(name);
    return status;
}

static pal_status add_palette(new_file *file, const entry *entry)
{
    const palette *p = entry->palette;
    const uint64_t padded = (palette_index_bytes(p) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uint64_t lut_shape[MAX_STORED_RANK];
    memcpy(lut_shape, p->blocks, p->rank * sizeof *lut_shape);
    lut_shape[p->rank] = UINT64_C(1) << p->nbits;
    lut_shape[p->rank + 1] = p->vector_size;
    pal_status status =
        add_palette_part(file, entry, PART_INDICES, PAL_UINT8, &padded, 1, p->indices);
    if (!status)
        status =
            add_palette_part(file, entry, PART_LUT, p->lut_dtype, lut_shape, p->rank + 2, p->lut);
    if (!status && p->lut_scale)
        status = add_palette_part(file, entry, PART_LUT_SCALE, p->dtype, p->blocks, p->rank,
                                  p->lut_scale);
    if (!status && p->lut_offset)
        status = add_palette_part(file, entry, PART_LUT_OFFSET, p->lut_dtype, p->blocks, p->rank,
                                  p->lut_offset);
    if (!status && p->scale)
        status =
            add_palette_part(file, entry, PART_SCALE, p->dtype, p->scale_shape, p->rank, p->scale);
    if (!status && p->outliers)
        status = add_palette_part(file, entry, PART_OUTLIER_INDICES, PAL_UINT32, &p->outliers, 1,
                                  p->outlier_places);
    if (!status && p->outliers)
        status = add_palette_part(file, entry, PART_OUTLIER_VALUES, p->dtype, &p->outliers, 1,
                                  p->outlier_values);
    return status;
}

static pal_status add_entry(new_file *file, const entry *entry, const pal_weight *info)
{
    if (entry->palette)
        return add_palette(file, entry);
    if (entry->dense) {
        const element_type *type = element_type_of(info->dtype);
        return add_part(file, entry->name, make_description(type->name, info->shape, info->rank),
                        &(part){.data = entry->dense,
                                .bytes = info->bytes,
                                .element = type->bits / 8,
                                .entry = entry});
    }
    const stored *tensor = entry->tensor;
    return add_part(file, entry->name, json_copy_members(tensor->description),
                    &(part){.data = tensor->data,
                            .bytes = tensor->bytes,
                            .element = tensor->type ? tensor->type->bits / 8 : 1,
                            .entry = entry});
}

/* ---------------------------------------------------------------- where they lie */

static int by_alignment(const void *a, const void *b)
{
    const part *x = a, *y = b;
    const unsigned of_x = (x->bytes + x->padding) % ALIGNMENT ? x->element : 2 * ALIGNMENT;
    const unsigned of_y = (y->bytes + y->padding) % ALIGNMENT ? y->element : 2 * ALIGNMENT;
    if (of_x != of_y)
        return of_x > of_y ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

static pal_status place_parts(new_file *file)
{
    uint64_t offset = 0;
    if (json_object_size(file->palettes) && file->count)
        qsort(file->parts, file->count, sizeof *file->parts, by_alignment);
    for (size_t i = 0; i < file->count; i++) {
        part *part = &file->parts[i];
        const uint64_t end = offset + part->bytes + part->padding;
        json_t *offsets = json_pack("[I, I]", (json_int_t)offset, (json_int_t)end);
        if (json_object_set_new(part->description, "data_offsets", offsets))
            return fail_memory("writing a header");
        offset = end;
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- the header */

/* The old metadata with the descriptions of the new palettes in the place of those of the old; NULL
 * when out of memory. */
static json_t *make_metadata(const new_file *file)
{
    json_t *old = json_object_get(file->shard->header, "__metadata__");
    json_t *metadata = json_copy_members(old);
    json_object_del(metadata, VERSION_KEY);
    json_object_del(metadata, PALETTES_KEY);
    if (!json_object_size(file->palettes))
        return metadata;
    char *text = json_text(file->palettes);
    if (!text ||
        json_object_set_new(metadata, VERSION_KEY,
                            json_string(file->outliers ? OUTLIER_VERSION : PALETTE_VERSION)) ||
        json_object_set_new(metadata, PALETTES_KEY, json_string(text))) {
        json_decref(metadata);
        metadata = NULL;
    }
    free(text);
    return metadata;
}

static pal_status make_header(new_file *file)
{
    const safetensors *state = file->state;
    const size_t first = file->shard->first_entry, end = first + file->shard->entry_count;
    file->header = json_object();
    file->palettes = json_object();
    if (!file->header || !file->palettes)
        return fail_memory("writing a header");
    for (size_t i = first; i < end; i++) {
        const entry *entry = &state->entries[i];
        file->outliers = file->outliers || (entry->palette && entry->palette->outliers);
        if (entry->palette &&
            json_object_set_new(file->palettes, entry->name, safetensors_describe(entry->palette)))
            return fail_memory("writing a header");
    }
    json_t *metadata = make_metadata(file);
    if (!metadata)
        return fail_memory("writing a header");
    if (!json_object_size(metadata))
        json_decref(metadata);
    else if (json_object_set_new(file->header, "__metadata__", metadata))
        return fail_memory("writing a header");
    pal_status status = PAL_OK;
    for (size_t i = first; !status && i < end; i++) {
        const size_t weight = state->entries[i].weight;
        status = add_entry(file, &state->entries[i],
                           weight == SIZE_MAX ? NULL : &file->model->weights[weight].info);
    }
    return status ? status : place_parts(file);
}

/* ---------------------------------------------------------------- writing one file */

static void write_part(const new_file *file, file_writer *writer, const part *part)
{
    static const unsigned char zeros[ALIGNMENT];
    const unsigned char *data = part->data;
    for (uint64_t done = 0; done < part->bytes;) {
        const size_t n = part->bytes - done < PIECE ? part->bytes - done : PIECE;
        writer_write(writer, data + done, n);
        safetensors_discard(file->shard, data + done, n);
        done += n;
    }
    writer_write(writer, zeros, part->padding);
    scratch_release(part->entry->dense);
    if (part->entry->palette)
        palette_release(part->entry->palette);
}

static pal_status write_file(const new_file *file, const char *path)
{
    char *text = json_text(file->header);
    if (!text)
        return fail_memory("writing a header");
    const size_t length = strlen(text);
    const uint64_t padded = (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)(padded >> 8 * i);
    file_writer writer;
    pal_status status = padded > MAX_HEADER
                            ? fail(PAL_ERROR_UNSUPPORTED, "%s: its new header is too long", path)
                            : writer_open(&writer, path);
    if (!status) {
        writer_write(&writer, prefix, sizeof prefix);
        writer_write(&writer, text, length);
        writer_write(&writer, "       ", padded - length);
        for (size_t i = 0; i < file->count; i++)
            write_part(file, &writer, &file->parts[i]);
        status = writer_close(&writer);
    }
    free(text);
    return status;
}

static pal_status save_shard(new_checkpoint *new, const shard *shard, const char *path)
{
    new_file file = {.model = new->model, .state = new->model->state, .shard = shard};
    const char *name;
    json_t *description;
    pal_status status = make_header(&file);
    if (!status)
        status = write_file(&file, path);
    for (size_t i = 0; i < file.count; i++)
        new->bytes += file.parts[i].bytes + file.parts[i].padding;
    json_object_foreach(file.header, name, description)
    {
        if (!status && shard->name && strcmp(name, "__metadata__") != 0 &&
            json_object_set_new(new->weight_map, name, json_string(shard->name)))
            status = fail_memory("writing an index");
    }
    json_decref(file.header);
    json_decref(file.palettes);
    free(file.parts);
    return status;
}

/* ---------------------------------------------------------------- a folder */

static int write_json(const char *text, size_t size, void *writer)
{
    writer_write(writer, text, size);
    return 0;
}

static pal_status save_index(const new_checkpoint *new, const char *path)
{
    const safetensors *state = new->model->state;
    json_t *old = json_object_get(state->index, "metadata");
    json_t *index = json_copy_members(state->index);
    json_t *metadata = json_copy_members(json_is_object(old) ? old : NULL);
    pal_status status = PAL_OK;
    if (!index || !metadata ||
        json_object_set_new(metadata, "total_size", json_integer((json_int_t) new->bytes)) ||
        json_object_set(index, "metadata", metadata) ||
        json_object_set(index, "weight_map", new->weight_map))
        status = fail_memory("writing an index");
    file_writer writer;
    if (!status)
        status = writer_open(&writer, path);
    if (!status) {
        /* As the Hugging Face libraries write it. */
        int failed = json_dump_callback(index, write_json, &writer,
                                        JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
        writer_write(&writer, "\n", 1);
        status = writer_close(&writer);
        if (!status && failed)
            status = fail_memory("writing an index");
    }
    json_decref(metadata);
    json_decref(index);
    return status;
}

/* Files that are written anew are not copied. */
static bool skip_rewritten(void *user, const char *relative)
{
    const safetensors *state = user;
    while (*relative == '/')
        relative++;
    if (state->index && strcmp(relative, INDEX_NAME) == 0)
        return true;
    for (size_t i = 0; i < state->shard_count; i++)
        if (strcmp(relative, state->shards[i].name) == 0)
            return true;
    return false;
}

static pal_status save_folder(new_checkpoint *new, const char *folder)
{
    safetensors *state = new->model->state;
    pal_status status = path_copy(state->path, folder, skip_rewritten, state);
    for (size_t i = 0; !status && i < state->shard_count; i++) {
        char *path = path_join(folder, state->shards[i].name);
        status =
            path ? save_shard(new, &state->shards[i], path) : fail_memory("writing a checkpoint");
        free(path);
    }
    if (!status && state->index) {
        char *path = path_join(folder, INDEX_NAME);
        status = path ? save_index(new, path) : fail_memory("writing an index");
        free(path);
    }
    return status;
}

/* ---------------------------------------------------------------- the destination */

/* Refuses to put a checkpoint in the place of something that is none. */
static pal_status check_destination(const safetensors *state, const char *path)
{
    struct stat info;
    if (state->folder) {
        pal_status status = stage_refuse_inside(state->path, path);
        if (status)
            return status;
    }
    if (!state->folder || stat(path, &info) < 0)
        return PAL_OK;
    if (!S_ISDIR(info.st_mode))
        return fail(PAL_ERROR_IO, "%s: exists and is not a folder; not replaced", path);
    if (!safetensors_is_folder(path) && !directory_is_empty(path))
        return fail(PAL_ERROR_IO, "%s: exists and is not a checkpoint folder; not replaced", path);
    return PAL_OK;
}

static pal_status stage_checkpoint(const safetensors *state, const char *path, staged_output *stage)
{
    const pal_status status = check_destination(state, path);
    if (status)
        return status;
    return state->folder ? stage_directory(stage, path) : stage_file(stage, path);
}

pal_status safetensors_check_destination(const pal_model *model, const char *path)
{
    staged_output stage;
    const pal_status status = stage_checkpoint(model->state, path, &stage);
    if (!status)
        stage_abandon(&stage);
    return status;
}

pal_status safetensors_save(pal_model *model, const char *path, uint64_t *bytes)
{
    const safetensors *state = model->state;
    new_checkpoint new = {.model = model};
    staged_output stage;
    pal_status status = stage_checkpoint(state, path, &stage);
    if (status)
        return status;
    if (!(new.weight_map = json_object()))
        status = fail_memory("writing a checkpoint");
    else
        status = state->folder ? save_folder(&new, stage.temporary)
                               : save_shard(&new, &state->shards[0], stage.temporary);
    if (!status)
        status = path_total_bytes(stage.temporary, bytes);
    if (status)
        stage_abandon(&stage);
    else
        status = stage_commit(&stage);
    json_decref(new.weight_map);
    return status;
}
