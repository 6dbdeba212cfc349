/* Palettes in a checkpoint: reading the tensors that hold one, and putting palettes or dense values
 * in the place of weights. docs/safetensors.md specifies the form. */
#include <stdlib.h>
#include <string.h>

#include "format/safetensors/safetensors.h"
#include "palette/pack.h"

const char *const PART_SUFFIX[PARTS] = {
    [PART_INDICES] = ".palette_indices",
    [PART_LUT] = ".palette_lut",
    [PART_LUT_SCALE] = ".palette_lut_scale",
    [PART_LUT_OFFSET] = ".palette_lut_offset",
    [PART_SCALE] = ".palette_scale",
    [PART_OUTLIER_INDICES] = ".palette_outlier_indices",
    [PART_OUTLIER_VALUES] = ".palette_outlier_values",
};

const char VERSION_KEY[] = "palettize.version", PALETTES_KEY[] = "palettize.tensors";
const char PALETTE_VERSION[] = "1", OUTLIER_VERSION[] = "2";

char *safetensors_part_name(const char *name, int part)
{
    const size_t n = strlen(name), m = strlen(PART_SUFFIX[part]);
    char *full = mem_array(n + m + 1, 1);
    if (full) {
        memcpy(full, name, n);
        memcpy(full + n, PART_SUFFIX[part], m + 1);
    }
    return full;
}

/* ---------------------------------------------------------------- reading */

/* One of the tensors of a palette: NULL if the shard does not have it. */
static pal_status find_part(const shard *shard, const char *name, int part, const stored **out)
{
    char *full = safetensors_part_name(name, part);
    if (!full)
        return fail_memory("reading a palette");
    const json_t *place = json_object_get(shard->places, full);
    *out = place ? &shard->tensors[json_integer_value(place)] : NULL;
    free(full);
    return PAL_OK;
}

/* nbits, dtype, shape and vector_axis from the metadata. */
static pal_status read_description(const json_t *description, palette *p, uint64_t *elements)
{
    uint64_t nbits, axis = 0;
    const char *type = json_string_value(json_object_get(description, "dtype"));
    const json_t *shape = json_object_get(description, "shape");
    const json_t *vector_axis = json_object_get(description, "vector_axis");
    if (!json_to_size(json_object_get(description, "nbits"), &nbits) || nbits > 8 ||
        !pack_width_is_valid((unsigned)nbits))
        return fail(PAL_ERROR_FORMAT, "its nbits is not 1, 2, 3, 4, 6 or 8");
    static const pal_dtype allowed[] = {PAL_FLOAT16, PAL_BFLOAT16, PAL_FLOAT32};
    for (size_t i = 0; type && i < sizeof allowed / sizeof *allowed; i++)
        if (strcmp(type, element_type_of(allowed[i])->name) == 0)
            p->dtype = allowed[i];
    if (p->dtype == PAL_DTYPE_OTHER)
        return fail(PAL_ERROR_FORMAT, "its dtype is not F16, BF16 or F32");
    p->nbits = (unsigned)nbits;
    p->rank = json_array_size(shape);
    if (p->rank == 0 || p->rank > PAL_MAX_RANK)
        return fail(PAL_ERROR_FORMAT, "its shape is not a list of 1 to %d numbers", PAL_MAX_RANK);
    *elements = 1;
    for (size_t d = 0; d < p->rank; d++)
        if (!json_to_size(json_array_get(shape, d), &p->shape[d]) || p->shape[d] == 0 ||
            !mem_multiply(*elements, p->shape[d], elements) || *elements > UINT64_MAX / 64)
            return fail(PAL_ERROR_FORMAT, "its shape is not one of positive numbers, or too large");
    if (vector_axis && (!json_to_size(vector_axis, &axis) || axis >= p->rank))
        return fail(PAL_ERROR_FORMAT, "its vector_axis is not one of its dimensions");
    p->vector_axis = (size_t)axis;
    return PAL_OK;
}

static pal_status read_lut(const stored *lut, palette *p)
{
    if (!lut || !lut->type || lut->rank != p->rank + 2)
        return fail(PAL_ERROR_FORMAT, "its LUT is missing or has not two dimensions more than it");
    p->lut_dtype = lut->type->dtype;
    if (p->lut_dtype != p->dtype && p->lut_dtype != PAL_INT8 && p->lut_dtype != PAL_UINT8)
        return fail(PAL_ERROR_FORMAT, "its LUT has type %s", lut->type->name);
    p->vector_size = lut->shape[p->rank + 1];
    if (lut->shape[p->rank] != UINT64_C(1) << p->nbits || p->vector_size == 0)
        return fail(PAL_ERROR_FORMAT, "its LUT does not have 2^nbits entries");
    if (p->shape[p->vector_axis] % p->vector_size)
        return fail(PAL_ERROR_FORMAT, "its vectors do not divide dimension %zu", p->vector_axis);
    for (size_t d = 0; d < p->rank; d++) {
        p->blocks[d] = lut->shape[d];
        if (p->blocks[d] == 0 || palette_index_dimension(p, d) % p->blocks[d])
            return fail(PAL_ERROR_FORMAT, "its tables do not divide dimension %zu", d);
    }
    return PAL_OK;
}

/* Their number; whether they lie in the tensor shows when they are read. */
static pal_status check_outliers(const stored *const part[PARTS], palette *p)
{
    const stored *indices = part[PART_OUTLIER_INDICES], *values = part[PART_OUTLIER_VALUES];
    if (!indices && !values)
        return PAL_OK;
    if (!indices || !values || !indices->type || !values->type ||
        indices->type->dtype != PAL_UINT32 || values->type->dtype != p->dtype ||
        indices->rank != 1 || values->rank != 1 || indices->elements != values->elements)
        return fail(PAL_ERROR_FORMAT, "its outliers have another type or size");
    p->outliers = indices->elements;
    return PAL_OK;
}

static pal_status check_parts(const stored *const part[PARTS], palette *p)
{
    const stored *indices = part[PART_INDICES], *scale = part[PART_SCALE];
    const stored *lut_scale = part[PART_LUT_SCALE], *offset = part[PART_LUT_OFFSET];
    const uint64_t tables = palette_num_luts(p);
    if (!indices || !indices->type || indices->type->dtype != PAL_UINT8 ||
        indices->bytes < palette_index_bytes(p) || indices->bytes - palette_index_bytes(p) >= 8)
        return fail(PAL_ERROR_FORMAT, "its indices are missing or do not fit its shape");
    if ((p->lut_dtype != p->dtype) != (lut_scale != NULL) || (offset && !lut_scale))
        return fail(PAL_ERROR_FORMAT, "an integer LUT needs a scale, another one has none");
    if (lut_scale &&
        (!lut_scale->type || lut_scale->type->dtype != p->dtype || lut_scale->elements != tables))
        return fail(PAL_ERROR_FORMAT, "the scale of its LUT has another type or size");
    if (offset &&
        (!offset->type || offset->type->dtype != p->lut_dtype || offset->elements != tables))
        return fail(PAL_ERROR_FORMAT, "the offset of its LUT has another type or size");
    if (!scale)
        return PAL_OK;
    if (!scale->type || scale->type->dtype != p->dtype || scale->rank != p->rank)
        return fail(PAL_ERROR_FORMAT, "its scale has another type or rank");
    for (size_t d = 0; d < p->rank; d++) {
        p->scale_shape[d] = scale->shape[d];
        if (scale->shape[d] != 1 && scale->shape[d] != p->shape[d])
            return fail(PAL_ERROR_FORMAT, "its scale does not fit dimension %zu", d);
    }
    return PAL_OK;
}

static pal_status read_parts(safetensors *state, const shard *shard, const char *name,
                             const json_t *description, palette *p)
{
    uint64_t elements;
    const stored *part[PARTS] = {0};
    const void *data[PARTS] = {0};
    pal_status status = read_description(description, p, &elements);
    for (int i = 0; !status && i < PARTS; i++)
        status = find_part(shard, name, i, &part[i]);
    if (!status)
        status = read_lut(part[PART_LUT], p);
    if (!status)
        status = check_parts(part, p);
    if (!status)
        status = check_outliers(part, p);
    for (int i = 0; !status && i < PARTS; i++)
        if (part[i] && !(data[i] = safetensors_aligned(state, shard, part[i])))
            status = fail_memory("reading a palette");
    p->indices = data[PART_INDICES];
    p->lut = data[PART_LUT];
    p->lut_scale = data[PART_LUT_SCALE];
    p->lut_offset = data[PART_LUT_OFFSET];
    p->scale = data[PART_SCALE];
    p->outlier_places = data[PART_OUTLIER_INDICES];
    p->outlier_values = data[PART_OUTLIER_VALUES];
    if (!status && !palette_places_ok(p))
        status = fail(PAL_ERROR_FORMAT, "the indices of its outliers do not ascend within it");
    return status;
}

pal_status safetensors_read_parts(safetensors *state, const shard *shard, const char *name,
                                  const json_t *description, palette **out)
{
    palette *p = mem_zeroed(1, sizeof *p);
    if (!p || !holdings_reserve(&state->held, 1)) {
        free(p);
        return fail_memory("reading a palette");
    }
    holdings_keep_palette(&state->held, p);
    *out = p;
    pal_status status = read_parts(state, shard, name, description, p);
    return status ? fail_context(status, "%s: %s", shard->path, name) : PAL_OK;
}

pal_status safetensors_read_palette(const pal_model *model, size_t weight, palette **out)
{
    const safetensors *state = model->state;
    palette *copy = mem_array(1, sizeof *copy);
    if (!copy)
        return fail_memory("reading a palette");
    *copy = *state->entries[state->entry_of_weight[weight]].palette;
    memset(copy->owned, 0, sizeof copy->owned); /* they stay with the state */
    *out = copy;
    return PAL_OK;
}

/* ---------------------------------------------------------------- describing */

json_t *safetensors_describe(const palette *p)
{
    json_t *description =
        json_pack("{s:i, s:s, s:o}", "nbits", (int)p->nbits, "dtype",
                  element_type_of(p->dtype)->name, "shape", json_from_shape(p->shape, p->rank));
    if (description && p->vector_size > 1 &&
        json_object_set_new(description, "vector_axis", json_integer((json_int_t)p->vector_axis))) {
        json_decref(description);
        return NULL;
    }
    return description;
}

/* ---------------------------------------------------------------- replacing */

pal_status safetensors_can_express(const pal_model *model, size_t weight, const palette_form *form)
{
    (void)model, (void)weight, (void)form; /* the form is our own: it can hold every palette */
    return PAL_OK;
}

void safetensors_update_info(pal_model *model, size_t weight)
{
    const safetensors *state = model->state;
    const entry *entry = &state->entries[state->entry_of_weight[weight]];
    pal_weight *info = &model->weights[weight].info;
    if (entry->palette) {
        info->storage = PAL_STORAGE_PALETTIZED;
        info->nbits = entry->palette->nbits;
        info->num_luts = palette_num_luts(entry->palette);
        info->bytes = palette_bytes(entry->palette);
    } else {
        info->storage = PAL_STORAGE_DENSE;
        info->nbits = pal_dtype_bits(info->dtype);
        info->num_luts = 0;
        info->bytes = info->elements * info->nbits / 8;
    }
}

pal_status safetensors_replace(pal_model *model, const replacement *list, size_t count)
{
    safetensors *state = model->state;
    if (!holdings_reserve(&state->held, count))
        return fail_memory("replacing weights");
    for (size_t i = 0; i < count; i++) {
        const replacement *r = &list[i];
        entry *entry = &state->entries[state->entry_of_weight[r->weight]];
        entry->tensor = NULL;
        entry->palette = r->palette;
        entry->dense = r->dense;
        weight_replaced(model, &state->held, r);
    }
    return PAL_OK;
}
