/* The header of one file: eight bytes of length, JSON of that length, then the data.
 *
 * Nothing in it is believed: the header lies within the file, each tensor within the data, its
 * bytes are those of its type and shape, and no two tensors overlap. Holes between tensors, and
 * types that we do not know, do no harm and are accepted. */
#include <stdlib.h>
#include <string.h>

#include "format/safetensors/safetensors.h"

static const element_type types[] = {
    {"BF16", 16, PAL_BFLOAT16},
    {"F16", 16, PAL_FLOAT16},
    {"F32", 32, PAL_FLOAT32},
    {"F64", 64, PAL_FLOAT64},
    {"F8_E4M3", 8, PAL_FLOAT8E4M3FN},
    {"F8_E5M2", 8, PAL_FLOAT8E5M2},
    {"F8_E4M3FNUZ", 8, PAL_DTYPE_OTHER},
    {"F8_E5M2FNUZ", 8, PAL_DTYPE_OTHER},
    {"F8_E8M0", 8, PAL_DTYPE_OTHER},
    {"F6_E2M3", 6, PAL_DTYPE_OTHER},
    {"F6_E3M2", 6, PAL_DTYPE_OTHER},
    {"F4", 4, PAL_DTYPE_OTHER},
    {"C64", 64, PAL_DTYPE_OTHER},
    {"BOOL", 8, PAL_DTYPE_OTHER},
    {"U8", 8, PAL_UINT8},
    {"I8", 8, PAL_INT8},
    {"U16", 16, PAL_UINT16},
    {"I16", 16, PAL_INT16},
    {"U32", 32, PAL_UINT32},
    {"I32", 32, PAL_INT32},
    {"U64", 64, PAL_UINT64},
    {"I64", 64, PAL_INT64},
};

enum { TYPES = sizeof types / sizeof *types };

const element_type *element_type_of(pal_dtype dtype)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype == dtype)
            return &types[i];
    return NULL;
}

static const element_type *element_type_named(const char *name)
{
    for (size_t i = 0; i < TYPES; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

pal_status json_parse(const char *path, const char *what, const void *text, size_t size,
                      json_t **out)
{
    json_error_t error;
    *out = json_loadb(text ? text : "", size, JSON_REJECT_DUPLICATES, &error);
    if (*out)
        return PAL_OK;
    /* The parser tells what is wrong with the text, but not when it is out of memory. */
    return *error.text
               ? fail(PAL_ERROR_FORMAT, "%s: %s is not sound JSON: %s", path, what, error.text)
               : fail_memory("reading JSON");
}

bool json_to_size(const json_t *json, uint64_t *out)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return false;
    *out = (uint64_t)json_integer_value(json);
    return true;
}

json_t *json_from_shape(const uint64_t *shape, size_t rank)
{
    json_t *list = json_array();
    for (size_t d = 0; list && d < rank; d++) {
        if (json_array_append_new(list, json_integer((json_int_t)shape[d]))) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *json_copy_members(json_t *object)
{
    json_t *copy = json_object();
    if (copy && object && json_object_update(copy, object)) {
        json_decref(copy);
        copy = NULL;
    }
    return copy;
}

typedef struct text {
    char *data;
    size_t used, capacity;
    bool failed;
} text;

static int add_text(const char *from, size_t size, void *user)
{
    text *t = user;
    if (t->failed || !mem_grow((void **)&t->data, &t->capacity, t->used + size + 1, 1)) {
        t->failed = true;
        return -1;
    }
    memcpy(t->data + t->used, from, size);
    t->used += size;
    t->data[t->used] = 0;
    return 0;
}

char *json_text(const json_t *json)
{
    text t = {0};
    if (json_dump_callback(json, add_text, &t, JSON_COMPACT) || t.failed) {
        free(t.data);
        return NULL;
    }
    return t.data;
}

/* ---------------------------------------------------------------- one tensor */

static pal_status read_shape(const json_t *shape, stored *out)
{
    if (!json_is_array(shape))
        return fail(PAL_ERROR_FORMAT, "it has no shape");
    out->rank = json_array_size(shape);
    out->elements = 1;
    for (size_t d = 0; d < out->rank; d++) {
        uint64_t size;
        if (!json_to_size(json_array_get(shape, d), &size))
            return fail(PAL_ERROR_FORMAT, "dimension %zu of its shape is not a number from 0 on",
                        d);
        if (!mem_multiply(out->elements, size, &out->elements))
            return fail(PAL_ERROR_FORMAT, "the product of its shape overflows");
        if (d < MAX_STORED_RANK)
            out->shape[d] = size;
    }
    return PAL_OK;
}

/* `data` is what follows the header, `size` bytes. */
static pal_status read_tensor(json_t *description, const unsigned char *data, uint64_t size,
                              stored *out)
{
    uint64_t begin, end, bits;
    const char *type = json_string_value(json_object_get(description, "dtype"));
    const json_t *offsets = json_object_get(description, "data_offsets");
    if (!type)
        return fail(PAL_ERROR_FORMAT, "it has no dtype");
    pal_status status = read_shape(json_object_get(description, "shape"), out);
    if (status)
        return status;
    if (json_array_size(offsets) != 2 || !json_to_size(json_array_get(offsets, 0), &begin) ||
        !json_to_size(json_array_get(offsets, 1), &end))
        return fail(PAL_ERROR_FORMAT, "its data_offsets are not two numbers from 0 on");
    if (begin > end || end > size)
        return fail(PAL_ERROR_FORMAT, "its data_offsets [%llu, %llu] are not within %llu bytes",
                    (unsigned long long)begin, (unsigned long long)end, (unsigned long long)size);
    out->description = description;
    out->type = element_type_named(type);
    out->data = data + begin;
    out->bytes = end - begin;
    if (out->type && (!mem_multiply(out->elements, out->type->bits, &bits) || bits % 8 ||
                      bits / 8 != out->bytes))
        return fail(PAL_ERROR_FORMAT, "%llu bytes for %llu elements of type %s",
                    (unsigned long long)out->bytes, (unsigned long long)out->elements, type);
    return PAL_OK;
}

/* ---------------------------------------------------------------- all tensors */

static int by_place(const void *a, const void *b)
{
    const stored *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) /* empty ones stand where another begins */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static pal_status refuse_overlap(const shard *shard, const stored *sorted)
{
    for (size_t i = 1; i < shard->tensor_count; i++)
        if (sorted[i].data < sorted[i - 1].data + sorted[i - 1].bytes)
            return fail(PAL_ERROR_FORMAT, "%s: %s overlaps %s", shard->path, sorted[i].name,
                        sorted[i - 1].name);
    return PAL_OK;
}

/* Puts the tensors in the order in which they belong in a file without palettes. A palettized file
 * has them in that order in its header, and its data in another. */
static pal_status sort_tensors(shard *shard)
{
    stored *sorted = shard->tensors;
    if (shard->palettes) {
        sorted = mem_array(shard->tensor_count, sizeof *sorted);
        if (!sorted)
            return fail_memory("reading a header");
        memcpy(sorted, shard->tensors, shard->tensor_count * sizeof *sorted);
    }
    qsort(sorted, shard->tensor_count, sizeof *sorted, by_place);
    pal_status status = refuse_overlap(shard, sorted);
    if (sorted != shard->tensors)
        free(sorted);
    shard->places = json_object();
    for (size_t i = 0; !status && i < shard->tensor_count; i++)
        if (json_object_set_new_nocheck(shard->places, shard->tensors[i].name,
                                        json_integer((json_int_t)i)))
            status = fail_memory("reading a header");
    return status;
}

static pal_status read_tensors(shard *shard, const unsigned char *data, uint64_t size)
{
    const char *name;
    json_t *description;
    shard->tensors = mem_zeroed(json_object_size(shard->header), sizeof *shard->tensors);
    if (!shard->tensors)
        return fail_memory("reading a header");
    json_object_foreach(shard->header, name, description)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        stored *tensor = &shard->tensors[shard->tensor_count++];
        tensor->name = name;
        pal_status status = read_tensor(description, data, size, tensor);
        if (status)
            return fail_context(status, "%s: %s", shard->path, name);
    }
    return sort_tensors(shard);
}

/* ---------------------------------------------------------------- metadata */

static pal_status read_metadata(shard *shard)
{
    const char *key;
    json_t *value, *metadata = json_object_get(shard->header, "__metadata__");
    if (!metadata)
        return PAL_OK;
    if (!json_is_object(metadata))
        return fail(PAL_ERROR_FORMAT, "%s: __metadata__ is not an object", shard->path);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return fail(PAL_ERROR_FORMAT, "%s: __metadata__: %s is not a string", shard->path, key);
    }
    const char *version = json_string_value(json_object_get(metadata, VERSION_KEY));
    const char *text = json_string_value(json_object_get(metadata, PALETTES_KEY));
    if (!version && !text)
        return PAL_OK;
    if (!version || !text)
        return fail(PAL_ERROR_FORMAT, "%s: __metadata__ has only one of %s and %s", shard->path,
                    VERSION_KEY, PALETTES_KEY);
    if (strcmp(version, PALETTE_VERSION) != 0 && strcmp(version, OUTLIER_VERSION) != 0)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "%s: palettes of version %s; this program reads %s and %s", shard->path,
                    version, PALETTE_VERSION, OUTLIER_VERSION);
    pal_status status = json_parse(shard->path, PALETTES_KEY, text, strlen(text), &shard->palettes);
    if (!status && !json_is_object(shard->palettes))
        status = fail(PAL_ERROR_FORMAT, "%s: __metadata__: %s is not a JSON object", shard->path,
                      PALETTES_KEY);
    return status;
}

/* ---------------------------------------------------------------- the header as a whole */

pal_status shard_read(shard *shard)
{
    const unsigned char *bytes = shard->map.data;
    const uint64_t size = shard->map.size;
    uint64_t length = 0;
    if (size < 8)
        return fail(PAL_ERROR_FORMAT, "%s: %llu bytes are too few for a safetensors file",
                    shard->path, (unsigned long long)size);
    for (int i = 8; i-- > 0;)
        length = length << 8 | bytes[i];
    if (length > size - 8)
        return fail(PAL_ERROR_FORMAT, "%s: a header of %llu bytes in a file of %llu (truncated?)",
                    shard->path, (unsigned long long)length, (unsigned long long)size);
    if (length > MAX_HEADER)
        return fail(PAL_ERROR_FORMAT, "%s: a header of %llu bytes, more than %llu", shard->path,
                    (unsigned long long)length, (unsigned long long)MAX_HEADER);
    if (length < 2 || bytes[8] != '{')
        return fail(PAL_ERROR_FORMAT, "%s: the header does not begin with {", shard->path);
    pal_status status =
        json_parse(shard->path, "the header", bytes + 8, (size_t)length, &shard->header);
    if (!status)
        status = read_metadata(shard);
    return status ? status : read_tensors(shard, bytes + 8 + length, size - 8 - length);
}
