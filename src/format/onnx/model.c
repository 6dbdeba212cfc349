/* The file: opening, replacing weights, saving. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/onnx/onnx.h"

/* ---------------------------------------------------------------- opening */

/* A model starts with the field ir_version, a small number, and the tag of another field. */
static bool looks_like_model(const unsigned char *begin, size_t size)
{
    return size >= 3 && begin[0] == 0x08 && begin[1] >= 1 && begin[1] < 0x80 &&
           (begin[2] & 7) <= 2 && begin[2] >> 3 >= 2 && begin[2] >> 3 <= 8;
}

static bool onnx_probe(const char *path)
{
    struct stat info;
    unsigned char begin[3];
    const char *end = strrchr(path, '.');
    if (stat(path, &info) < 0 || !S_ISREG(info.st_mode))
        return false;
    if (end && strcmp(end, ".onnx") == 0)
        return true;
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(begin, 1, sizeof begin, file) : 0;
    if (file)
        fclose(file);
    return looks_like_model(begin, size);
}

pal_status onnx_read(onnx *state)
{
    wire_buffer skeleton = {0};
    ProtobufCMessage *root = NULL;
    pal_status status = file_map_open(state->path, &state->map);
    if (!status)
        status = wire_collapse(state->path, state->map.data, state->map.size, &skeleton);
    if (!status)
        status = protobuf_parse(state->path, &onnx__model__descriptor, skeleton.data, skeleton.size,
                                &state->parsed, &root);
    free(skeleton.data);
    state->root = (Onnx__Model *)root;
    if (!status && !state->root->graph)
        status = fail(PAL_ERROR_FORMAT, "%s: an ONNX model without a graph", state->path);
    return status;
}

/* Opens every file of external data, so that a damaged reference shows now. */
static pal_status open_tensor(void *user, Onnx__Tensor *tensor)
{
    const file_map *map;
    const uint8_t *data;
    uint64_t length;
    return tensor->data_location == LOCATION_EXTERNAL
               ? tensor_external(user, tensor, &map, &data, &length)
               : PAL_OK;
}

static void describe(pal_model *model)
{
    const onnx *state = model->state;
    ProtobufCBinaryData producer = state->root->producer_name;
    snprintf(model->description, sizeof model->description, "ONNX IR %lld, opset %lld%s%.*s",
             (long long)state->root->ir_version, (long long)state->opset, producer.len ? ", " : "",
             (int)(producer.len < 20 ? producer.len : 20),
             producer.data ? (const char *)producer.data : "");
}

static pal_status onnx_open(pal_model *model)
{
    onnx *state = mem_zeroed(1, sizeof *state);
    if (!state)
        return fail_memory("opening a model");
    model->state = state;
    state->path = model->path;
    arena_init(&state->edits, SIZE_MAX);
    pal_status status = onnx_read(state);
    struct stat info;
    if (!status && stat(state->path, &info) == 0) {
        state->device = info.st_dev;
        state->inode = info.st_ino;
    }
    if (!status)
        status = tensor_visit_all(&state->root->base, open_tensor, state);
    if (status)
        return status;
    for (size_t i = 0; i < state->root->n_opset_import; i++) {
        const Onnx__OperatorSet *set = state->root->opset_import[i];
        if (set->domain.len == 0 || protobuf_equal(set->domain, "ai.onnx"))
            state->opset = set->version;
    }
    model->bytes += state->external_bytes;
    describe(model);
    return onnx_find_weights(model);
}

static void onnx_close(pal_model *model)
{
    onnx *state = model->state;
    for (size_t i = 0; i < state->file_count; i++) {
        file_map_close(&state->files[i].map);
        free(state->files[i].location);
        free(state->files[i].path);
    }
    holdings_free(&state->held);
    free(state->files);
    free(state->graphs);
    free(state->places);
    arena_free(&state->parsed);
    arena_free(&state->edits);
    file_map_close(&state->map);
    free(state);
    model->state = NULL;
}

/* ---------------------------------------------------------------- weights */

static bool onnx_lut_dtype_ok(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 || dtype == PAL_FLOAT32 || dtype == PAL_BFLOAT16;
}

static pal_status onnx_can_express(const pal_model *model, size_t weight, const palette_form *form)
{
    const onnx *state = model->state;
    (void)weight;
    if (state->opset >= FIRST_OPSET)
        return PAL_OK;
    return fail(PAL_ERROR_UNSUPPORTED,
                "%s: nbits %u needs opset %d or newer; the model has %lld: convert it with "
                "onnx.version_converter, or export it again",
                model->path, form->nbits, FIRST_OPSET, (long long)state->opset);
}

static pal_status onnx_read_palette(const pal_model *model, size_t weight, palette **out)
{
    const onnx *state = model->state;
    palette *copy = mem_zeroed(1, sizeof *copy);
    if (!copy)
        return fail_memory("reading a palette");
    *copy = *state->places[weight].palette;
    memset(copy->owned, 0, sizeof copy->owned); /* the model keeps them */
    *out = copy;
    return PAL_OK;
}

static void replace_weight(pal_model *model, const replacement *r)
{
    onnx *state = model->state;
    weight_place *place = &state->places[r->weight];
    place->palette = r->palette;
    place->changed = true;
    place->source = NULL;
    weight_replaced(model, &state->held, r);
}

static pal_status onnx_replace(pal_model *model, const replacement *list, size_t count)
{
    onnx *state = model->state;
    if (!holdings_reserve(&state->held, count))
        return fail_memory("replacing weights");
    for (size_t i = 0; i < count; i++)
        replace_weight(model, &list[i]);
    return PAL_OK;
}

static void discard(const onnx *state, const void *data, uint64_t size)
{
    const uintptr_t at = (uintptr_t)data;
    for (size_t i = 0; data && i <= state->file_count; i++) {
        const file_map *map = i < state->file_count ? &state->files[i].map : &state->map;
        if (map->data && at >= (uintptr_t)map->data && at - (uintptr_t)map->data < map->size)
            file_map_discard(map, data, (size_t)size);
    }
}

static void onnx_release(const pal_model *model, size_t weight)
{
    const onnx *state = model->state;
    const weight_place *place = &state->places[weight];
    const void *dense = model->weights[weight].dense;
    discard(state, place->source, model->weights[weight].info.bytes);
    if (dense && dense != place->source)
        scratch_release((void *)dense);
}

/* ---------------------------------------------------------------- saving */

/* External data go to a file beside the model that is named after both the model and their
 * content, "model.onnx.0123456789abcdef.data", and is complete before the model appears. So
 * whatever happens on the way, and whatever was there before, a model never refers to another
 * model's data. */
typedef struct saving {
    onnx *state;
    emission emission;
    wire_output output;
    staged_output data_stage, model_stage;
    char *final;    /* where the model ends up, which may be behind a link: its data lie there */
    char *location; /* of external data, in the model */
    char *data_path;
    replaced_data old;
    uint64_t resident; /* bytes written since memory was let go of */
} saving;

/* Lets go of the memory of what was written. */
static void written(void *user, const void *data, size_t size)
{
    enum { MOST_RESIDENT = 16 << 20 };
    saving *s = user;
    discard(s->state, data, size);
    s->resident += size;
    if (s->resident >= MOST_RESIDENT) {
        holdings_release(&s->state->held);
        s->resident = 0;
    }
}

/* The name of the data file, its digits still to come. */
static pal_status name_data(saving *s)
{
    const char *slash = strrchr(s->final, '/');
    const char *base = slash ? slash + 1 : s->final;
    s->location = arena_printf(&s->emission.arena, "%s.%0*d%s", base, DATA_DIGITS, 0, DATA_SUFFIX);
    s->data_path = arena_printf(&s->emission.arena, "%.*s%s", (int)(base - s->final), s->final,
                                s->location ? s->location : "");
    return s->location && s->data_path ? PAL_OK : fail_memory("writing external data");
}

/* ---------------------------------------------------------------- the hash of data */

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

/* A round of xxHash64: each step of it can be undone, so no word is lost. */
static uint64_t hash_word(uint64_t hash, uint64_t word)
{
    hash ^= rotate(word * 0xc2b2ae3d27d4eb4fu, 31) * 0x9e3779b185ebca87u;
    return rotate(hash, 27) * 0x9e3779b185ebca87u + 0x85ebca77c2b2ae63u;
}

/* Eight bytes at a time, the last ones filled up with zeros. */
static uint64_t hash_bytes(uint64_t hash, const uint8_t *data, uint64_t size)
{
    for (uint64_t word, n; size; data += n, size -= n) {
        n = size < sizeof word ? size : sizeof word;
        word = 0;
        memcpy(&word, data, n);
        hash = hash_word(hash, word);
    }
    return hash;
}

/* Every digit depends on all of it. */
static uint64_t hash_finish(uint64_t hash)
{
    hash = (hash ^ hash >> 33) * 0xc2b2ae3d27d4eb4fu;
    hash = (hash ^ hash >> 29) * 0x165667b19e3779f9u;
    return hash ^ hash >> 32;
}

/* ---------------------------------------------------------------- writing */

static void write_pieces(saving *s, file_writer *writer, uint64_t *hash)
{
    enum { CHUNK = 1 << 22 };
    for (size_t i = 0; i < s->emission.piece_count; i++) {
        const external_piece *piece = &s->emission.pieces[i];
        writer_align(writer, 64);
        *hash = hash_word(hash_word(*hash, piece->length), piece->zeros);
        for (uint64_t done = 0, n; done < piece->length; done += n) {
            n = piece->length - done < CHUNK ? piece->length - done : CHUNK;
            const uint8_t *data = (const uint8_t *)piece->data + done;
            *hash = hash_bytes(*hash, data, n);
            writer_write(writer, data, (size_t)n);
            written(s, data, (size_t)n);
        }
        for (uint32_t j = 0; j < piece->zeros; j++)
            writer_write(writer, "", 1);
    }
}

/* Writes the data file under its temporary name, and gives it its final one, which is the same text
 * in the model's messages and in the path. */
static pal_status save_data(saving *s)
{
    file_writer writer;
    uint64_t hash = 0;
    char digits[DATA_DIGITS + 1];
    pal_status status = stage_file(&s->data_stage, s->data_path);
    if (!status)
        status = writer_open(&writer, s->data_stage.temporary);
    if (status)
        return status;
    write_pieces(s, &writer, &hash);
    status = writer_close(&writer);
    snprintf(digits, sizeof digits, "%0*llx", DATA_DIGITS, (unsigned long long)hash_finish(hash));
    char *const texts[] = {s->location, s->data_path, s->data_stage.final};
    for (size_t i = 0; i < 3; i++)
        memcpy(texts[i] + strlen(texts[i]) - strlen(DATA_SUFFIX) - DATA_DIGITS, digits,
               DATA_DIGITS);
    return status;
}

/* Packs the model with what its messages say now. */
static pal_status prepare(saving *s, const char *path)
{
    wire_output_free(&s->output);
    pal_status status = wire_prepare(s->state->root, &s->output);
    if (!status && s->output.size > INT32_MAX)
        status =
            fail(PAL_ERROR_UNSUPPORTED,
                 "%s: the model would take %llu bytes, more than the 2 GiB of a protobuf file; "
                 "convert the input to external data first (onnx.save_model with "
                 "save_as_external_data=True)",
                 path, (unsigned long long)s->output.size);
    return status;
}

static pal_status save_model(saving *s)
{
    file_writer writer;
    pal_status status = stage_file(&s->model_stage, s->final);
    if (!status)
        status = writer_open(&writer, s->model_stage.temporary);
    if (status)
        return status;
    wire_write(&s->output, &writer, written, s);
    return writer_close(&writer);
}

/* The data first. If the model does not follow they go again, unless the model that stays has the
 * same. */
static pal_status commit(saving *s)
{
    const bool data = s->emission.piece_count > 0;
    struct stat info;
    const bool there = data && stat(s->data_path, &info) == 0;
    pal_status status = data ? stage_commit(&s->data_stage) : PAL_OK;
    if (status)
        return status;
    status = stage_commit(&s->model_stage);
    if (!status)
        replaced_data_remove(&s->old, data ? s->data_path : "");
    else if (data && !there)
        path_remove(s->data_path);
    return status;
}

static pal_status save_files(saving *s, pal_model *model, const char *path)
{
    s->final = path_final(path);
    pal_status status = s->final ? onnx_emit(model, &s->emission) : fail_memory("writing a model");
    if (!status)
        status = name_data(s);
    if (!status && s->state->file_count)
        status =
            onnx_emit_external(s->state, &s->emission,
                               (ProtobufCBinaryData){strlen(s->location), (uint8_t *)s->location});
    if (!status)
        status = prepare(s, path);
    if (!status)
        status = replaced_data_list(s->state, s->final, &s->old);
    if (!status && s->emission.piece_count) {
        status = save_data(s);
        if (!status) /* again, with the name that the data have got, which is as long */
            status = prepare(s, path);
    }
    if (!status)
        status = save_model(s);
    return status ? status : commit(s);
}

static pal_status check_name(const char *path)
{
    if (path[strlen(path) - 1] == '/')
        return fail(PAL_ERROR_IO, "%s: not the name of a file", path);
    return PAL_OK;
}

static pal_status onnx_check_destination(const pal_model *model, const char *path)
{
    (void)model;
    const pal_status status = check_name(path);
    return status ? status : stage_check_file(path);
}

static pal_status onnx_save(pal_model *model, const char *path, uint64_t *bytes)
{
    saving s = {.state = model->state};
    pal_status status = check_name(path);
    if (status)
        return status;
    status = save_files(&s, model, path);
    *bytes = s.output.size + s.emission.external_bytes;
    status_message message;
    status_message_take(&message);
    stage_abandon(&s.data_stage);
    stage_abandon(&s.model_stage);
    status_message_put(&message);
    wire_output_free(&s.output);
    replaced_data_free(&s.old);
    free(s.final);
    onnx_restore(&s.emission);
    return status;
}

const format format_onnx = {
    .name = "onnx",
    .probe = onnx_probe,
    .open = onnx_open,
    .close = onnx_close,
    .lut_dtype_ok = onnx_lut_dtype_ok,
    .can_express = onnx_can_express,
    .read_palette = onnx_read_palette,
    .replace = onnx_replace,
    .release = onnx_release,
    .check_destination = onnx_check_destination,
    .save = onnx_save,
};
