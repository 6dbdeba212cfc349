#include "method/sensitivity.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "format/format.h"

void pal_sensitivity_free(pal_sensitivity *sensitivity)
{
    if (!sensitivity)
        return;
    for (size_t i = 0; i < sensitivity->count; i++) {
        free(sensitivity->weights[i].name);
        scratch_free(sensitivity->weights[i].values);
    }
    free(sensitivity->weights);
    free(sensitivity);
}

/* Names are unique within a function of the model; most models have one. */
static bool is_of(const weight_sensitivity *it, const pal_weight *weight)
{
    return strcmp(it->name, weight->name) == 0 && it->rank == weight->rank &&
           memcmp(it->shape, weight->shape, it->rank * sizeof *it->shape) == 0;
}

const float *sensitivity_of(const pal_sensitivity *sensitivity, const pal_weight *weight)
{
    for (size_t i = 0; sensitivity && i < sensitivity->count; i++)
        if (is_of(&sensitivity->weights[i], weight))
            return sensitivity->weights[i].values;
    return NULL;
}

/* Zeroed. */
static pal_status add_one(pal_sensitivity *sensitivity, const char *name, size_t rank,
                          const uint64_t *shape, uint64_t elements, float **values)
{
    weight_sensitivity added = {
        .name = strdup(name),
        .rank = rank,
        .elements = elements,
        .values = scratch_zeroed(elements, sizeof(float)),
    };
    memcpy(added.shape, shape, rank * sizeof *shape);
    if (!added.name || !added.values ||
        !mem_grow((void **)&sensitivity->weights, &sensitivity->capacity, sensitivity->count + 1,
                  sizeof *sensitivity->weights)) {
        free(added.name);
        scratch_free(added.values);
        return fail_memory("sensitivities");
    }
    sensitivity->weights[sensitivity->count++] = added;
    *values = added.values;
    return PAL_OK;
}

pal_status sensitivity_add(pal_sensitivity *sensitivity, const pal_weight *weight, float **values)
{
    return add_one(sensitivity, weight->name, weight->rank, weight->shape, weight->elements,
                   values);
}

pal_status sensitivity_shrink(const pal_sensitivity *from, double shrinkage, pal_sensitivity **out)
{
    pal_sensitivity *shrunk = mem_zeroed(1, sizeof *shrunk);
    pal_status status = shrunk ? PAL_OK : fail_memory("sensitivities");
    for (size_t i = 0; !status && i < from->count; i++) {
        const weight_sensitivity *it = &from->weights[i];
        double sum = 0;
        float *to;
        status = add_one(shrunk, it->name, it->rank, it->shape, it->elements, &to);
        for (uint64_t e = 0; !status && e < it->elements; e++)
            sum += (double)it->values[e];
        const double factor = sum > 0 ? (1 - shrinkage) * (double)it->elements / sum : 0;
        const double constant = sum > 0 ? shrinkage : 1;
        for (uint64_t e = 0; !status && e < it->elements; e++)
            to[e] = (float)(constant + factor * (double)it->values[e]);
    }
    if (status) {
        pal_sensitivity_free(shrunk);
        return status;
    }
    *out = shrunk;
    return PAL_OK;
}

/* ---------------------------------------------------------------- reading */

static float read_value(const void *values, pal_dtype dtype, uint64_t i)
{
    switch (dtype) {
    case PAL_FLOAT16: return f16_to_float(((const uint16_t *)values)[i]);
    case PAL_BFLOAT16: return bf16_to_float(((const uint16_t *)values)[i]);
    case PAL_FLOAT64: return (float)((const double *)values)[i];
    default: return ((const float *)values)[i];
    }
}

static pal_status take(const char *path, const model_weight *from, const pal_weight *weight,
                       pal_sensitivity *to)
{
    const pal_dtype dtype = from->info.dtype;
    float *values;
    if (from->info.rank != weight->rank ||
        memcmp(from->info.shape, weight->shape, weight->rank * sizeof *weight->shape) != 0)
        return fail(PAL_ERROR_FORMAT, "%s: %s has another shape than the model's weight", path,
                    weight->name);
    if (!from->dense || (dtype != PAL_FLOAT16 && dtype != PAL_BFLOAT16 && dtype != PAL_FLOAT32 &&
                         dtype != PAL_FLOAT64))
        return fail(PAL_ERROR_UNSUPPORTED, "%s: %s is stored in a form that is not read here", path,
                    weight->name);
    pal_status status = sensitivity_add(to, weight, &values);
    for (uint64_t e = 0; !status && e < weight->elements; e++) {
        values[e] = read_value(from->dense, dtype, e);
        if (!(values[e] >= 0) || isinf(values[e]))
            status = fail(PAL_ERROR_FORMAT, "%s: %s: element %llu is %s", path, weight->name,
                          (unsigned long long)e,
                          isnan(values[e]) ? "NaN"
                          : values[e] < 0  ? "negative"
                                           : "infinite");
    }
    return status;
}

pal_status pal_sensitivity_load(const char *path, const pal_model *model, pal_sensitivity **out)
{
    pal_model *file = NULL;
    pal_sensitivity *loaded = mem_zeroed(1, sizeof *loaded);
    pal_status status = loaded ? pal_model_open(path, &file) : fail_memory("sensitivities");
    if (!status && file->format != &format_safetensors)
        status = fail(PAL_ERROR_FORMAT, "%s: no safetensors file", path);
    for (size_t i = 0; !status && i < model->weight_count; i++) {
        const pal_weight *weight = &model->weights[i].info;
        for (size_t f = 0; !status && f < file->weight_count; f++) {
            if (strcmp(file->weights[f].info.name, weight->name) != 0 ||
                sensitivity_of(loaded, weight))
                continue;
            status = take(path, &file->weights[f], weight, loaded);
            file->format->release(file, f);
        }
    }
    if (!status && !loaded->count)
        status = fail(PAL_ERROR_FORMAT, "%s: none of its tensors has the name of a weight of %s",
                      path, model->path);
    pal_model_free(file);
    if (status) {
        pal_sensitivity_free(loaded);
        return status;
    }
    *out = loaded;
    return PAL_OK;
}

/* ---------------------------------------------------------------- writing */

/* The header: names, shapes and places of the tensors, which follow one after another. */
static char *make_header(const pal_sensitivity *sensitivity)
{
    json_t *header = json_object();
    json_int_t at = 0;
    bool whole = header != NULL;
    for (size_t i = 0; whole && i < sensitivity->count; i++) {
        const weight_sensitivity *it = &sensitivity->weights[i];
        const json_int_t end = at + (json_int_t)(it->elements * sizeof(float));
        json_t *shape = json_array();
        for (size_t d = 0; whole && d < it->rank; d++)
            whole = json_array_append_new(shape, json_integer((json_int_t)it->shape[d])) == 0;
        json_t *tensor = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
                                   "data_offsets", at, end);
        whole = whole && json_object_set_new(header, it->name, tensor) == 0;
        at = end;
    }
    char *text = whole ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    return text;
}

static pal_status write_file(const pal_sensitivity *sensitivity, const char *header,
                             const char *path)
{
    file_writer writer;
    pal_status status = writer_open(&writer, path);
    if (status)
        return status;
    const size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    writer_write(&writer, size, sizeof size);
    writer_write(&writer, header, length);
    for (size_t i = length; i < padded; i++)
        writer_write(&writer, " ", 1);
    for (size_t i = 0; i < sensitivity->count; i++)
        writer_write(&writer, sensitivity->weights[i].values,
                     (size_t)sensitivity->weights[i].elements * sizeof(float));
    return writer_close(&writer);
}

pal_status pal_sensitivity_save(const pal_sensitivity *sensitivity, const char *path)
{
    staged_output stage;
    char *header = make_header(sensitivity);
    if (!header)
        return fail_memory("sensitivities");
    pal_status status = stage_file(&stage, path);
    if (!status) {
        status = write_file(sensitivity, header, stage.temporary);
        if (status)
            stage_abandon(&stage);
        else
            status = stage_commit(&stage);
    }
    free(header);
    return status;
}
