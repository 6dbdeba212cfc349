/* NumPy's .npz: a zip archive of .npy files. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/memory.h"
#include "base/npy.h"
#include "data/file_list.h"
#include "data/source.h"

/* An archive may hold more than samples: names of classes, a version, a mean. What cannot be used
 * is an error of whoever asks for it. */
typedef struct named_array {
    const char *name; /* without ".npy"; `length` bytes of it */
    size_t length;
    pal_status status; /* why it cannot be used, with the message; PAL_OK if it can */
    char *message;
    npy_array array;
} named_array;

typedef struct npz_source {
    source base;
    char *path;
    file_list files;
    named_array *arrays;
    size_t count;
    const named_array *counted; /* whose rows are the samples */
} npz_source;

/* ---------------------------------------------------------------- values */

/* Values from i on, of a type of the file, into a type of a model. */
typedef struct conversion {
    const unsigned char *from; /* not aligned */
    uint64_t count;
    void *to;
} conversion;

static pal_status not_a_number(uint64_t i)
{
    return fail(PAL_ERROR_VALUE, "value %llu is NaN", (unsigned long long)i);
}

static float half_value(uint16_t bits)
{
    return f16_to_float(bits);
}

#define AS_IT_IS(v) (v)

/* Infinity is let through, as masks have it, but not made of a number too large for float32. */
#define FLOATS_TO_FLOAT(name, type, value)                                                         \
    static pal_status name(const conversion *c)                                                    \
    {                                                                                              \
        float *to = c->to;                                                                         \
        for (uint64_t i = 0; i < c->count; i++) {                                                  \
            type v;                                                                                \
            memcpy(&v, c->from + i * sizeof v, sizeof v);                                          \
            to[i] = (float)value(v);                                                               \
            if (isnan(to[i]))                                                                      \
                return not_a_number(i);                                                            \
            if (isinf(to[i]) && !isinf(value(v)))                                                  \
                return fail(PAL_ERROR_VALUE, "value %llu, %g, is too large for float32",           \
                            (unsigned long long)i, (double)value(v));                              \
        }                                                                                          \
        return PAL_OK;                                                                             \
    }

FLOATS_TO_FLOAT(float_from_f16, uint16_t, half_value)
FLOATS_TO_FLOAT(float_from_f32, float, AS_IT_IS)
FLOATS_TO_FLOAT(float_from_f64, double, AS_IT_IS)

#define INTEGERS_TO(name, type, result)                                                            \
    static pal_status name(const conversion *c)                                                    \
    {                                                                                              \
        result *to = c->to;                                                                        \
        for (uint64_t i = 0; i < c->count; i++) {                                                  \
            type v;                                                                                \
            memcpy(&v, c->from + i * sizeof v, sizeof v);                                          \
            to[i] = (result)v;                                                                     \
        }                                                                                          \
        return PAL_OK;                                                                             \
    }

INTEGERS_TO(float_from_i8, int8_t, float)
INTEGERS_TO(float_from_i16, int16_t, float)
INTEGERS_TO(float_from_i32, int32_t, float)
INTEGERS_TO(float_from_i64, int64_t, float)
INTEGERS_TO(float_from_u8, uint8_t, float)
INTEGERS_TO(float_from_u16, uint16_t, float)
INTEGERS_TO(float_from_u32, uint32_t, float)
INTEGERS_TO(float_from_u64, uint64_t, float)
INTEGERS_TO(int_from_i8, int8_t, int64_t)
INTEGERS_TO(int_from_i16, int16_t, int64_t)
INTEGERS_TO(int_from_i32, int32_t, int64_t)
INTEGERS_TO(int_from_i64, int64_t, int64_t)
INTEGERS_TO(int_from_u8, uint8_t, int64_t)
INTEGERS_TO(int_from_u16, uint16_t, int64_t)
INTEGERS_TO(int_from_u32, uint32_t, int64_t)

static pal_status int_from_u64(const conversion *c)
{
    int64_t *to = c->to;
    for (uint64_t i = 0; i < c->count; i++) {
        uint64_t v;
        memcpy(&v, c->from + i * sizeof v, sizeof v);
        if (v > INT64_MAX)
            return fail(PAL_ERROR_VALUE, "value %llu, %llu, is too large for int64",
                        (unsigned long long)i, (unsigned long long)v);
        to[i] = (int64_t)v;
    }
    return PAL_OK;
}

/* Numbers of tokens that a program kept as floats. */
#define FLOATS_TO_INT(name, type, value)                                                           \
    static pal_status name(const conversion *c)                                                    \
    {                                                                                              \
        int64_t *to = c->to;                                                                       \
        for (uint64_t i = 0; i < c->count; i++) {                                                  \
            type v;                                                                                \
            memcpy(&v, c->from + i * sizeof v, sizeof v);                                          \
            const double number = value(v);                                                        \
            if (isnan(number))                                                                     \
                return not_a_number(i);                                                            \
            if (!(fabs(number) < 0x1p63) || number != floor(number))                               \
                return fail(PAL_ERROR_VALUE, "value %llu, %g, is not an integer of 64 bits",       \
                            (unsigned long long)i, number);                                        \
            to[i] = (int64_t)number;                                                               \
        }                                                                                          \
        return PAL_OK;                                                                             \
    }

FLOATS_TO_INT(int_from_f16, uint16_t, half_value)
FLOATS_TO_INT(int_from_f32, float, AS_IT_IS)
FLOATS_TO_INT(int_from_f64, double, AS_IT_IS)

static const struct {
    pal_dtype dtype;
    pal_status (*to_float)(const conversion *c);
    pal_status (*to_int)(const conversion *c);
} conversions[] = {
    {PAL_FLOAT16, float_from_f16, int_from_f16}, {PAL_FLOAT32, float_from_f32, int_from_f32},
    {PAL_FLOAT64, float_from_f64, int_from_f64}, {PAL_INT8, float_from_i8, int_from_i8},
    {PAL_INT16, float_from_i16, int_from_i16},   {PAL_INT32, float_from_i32, int_from_i32},
    {PAL_INT64, float_from_i64, int_from_i64},   {PAL_UINT8, float_from_u8, int_from_u8},
    {PAL_UINT16, float_from_u16, int_from_u16},  {PAL_UINT32, float_from_u32, int_from_u32},
    {PAL_UINT64, float_from_u64, int_from_u64},
};

static pal_status convert(pal_dtype from, pal_dtype to, const conversion *c)
{
    for (size_t i = 0; i < sizeof conversions / sizeof *conversions; i++)
        if (conversions[i].dtype == from)
            return (to == PAL_INT64 ? conversions[i].to_int : conversions[i].to_float)(c);
    return fail(PAL_ERROR_UNSUPPORTED, "values of type %s", pal_dtype_name(from));
}

/* Values of one sample. */
static uint64_t sample_elements(const npy_array *array)
{
    return array->elements / array->shape[0];
}

static pal_status read_sample(const npy_array *array, uint64_t i, pal_dtype dtype, void *out)
{
    const uint64_t count = sample_elements(array);
    const unsigned char *values = array->values;
    return convert(
        array->dtype, dtype,
        &(conversion){values + i * count * (pal_dtype_bits(array->dtype) / 8), count, out});
}

/* ---------------------------------------------------------------- the source's functions */

static const named_array *find_array(const npz_source *npz, const char *name)
{
    for (size_t i = 0; i < npz->count; i++)
        if (strlen(name) == npz->arrays[i].length &&
            memcmp(name, npz->arrays[i].name, npz->arrays[i].length) == 0)
            return &npz->arrays[i];
    return NULL;
}

/* "(3, 32, 32)", 0 as "any". */
static void print_shape(const uint64_t *shape, size_t rank, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "(");
    for (size_t i = 0; i < rank && used < size; i++)
        used += (size_t)(shape[i] ? snprintf(out + used, size - used, "%s%llu", i ? ", " : "",
                                             (unsigned long long)shape[i])
                                  : snprintf(out + used, size - used, "%sany", i ? ", " : ""));
    if (used < size)
        snprintf(out + used, size - used, ")");
}

static pal_status no_array(const npz_source *npz, const char *name)
{
    char names[256] = "";
    for (size_t i = 0, used = 0; i < npz->count && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", i ? ", " : "",
                                 (int)npz->arrays[i].length, npz->arrays[i].name);
    return fail(PAL_ERROR_ARGUMENT, "%s: no array for input %s; there are %s", npz->path, name,
                names);
}

/* The array of this name, one sample in each of its rows. *out is NULL where there is none. */
static pal_status take_array(const npz_source *npz, const char *name, const npy_array **out)
{
    const named_array *found = find_array(npz, name);
    *out = found ? &found->array : NULL;
    if (!found)
        return PAL_OK;
    if (found->status)
        return fail(found->status, "%s", found->message);
    if (found->array.shape[0] != npz->base.count)
        return fail(PAL_ERROR_FORMAT, "%s: %s.npy: %llu samples, where %.*s has %llu", npz->path,
                    name, (unsigned long long)found->array.shape[0], (int)npz->counted->length,
                    npz->counted->name, (unsigned long long)npz->base.count);
    return PAL_OK;
}

static pal_status npz_shape(const source *source, data_input *input)
{
    const npz_source *npz = (const npz_source *)source;
    const npy_array *array;
    pal_status status = take_array(npz, input->name, &array);
    if (status)
        return status;
    if (!array)
        return no_array(npz, input->name);
    bool fits = array->rank - 1 == input->rank;
    for (size_t i = 0; fits && i < input->rank; i++)
        fits = !input->shape[i] || input->shape[i] == array->shape[i + 1];
    if (!fits) {
        char theirs[256], ours[256];
        print_shape(input->shape, input->rank, theirs, sizeof theirs);
        print_shape(array->shape + 1, array->rank - 1, ours, sizeof ours);
        return fail(PAL_ERROR_ARGUMENT, "%s: samples of %s have shape %s, the model takes %s",
                    npz->path, input->name, ours, theirs);
    }
    memcpy(input->shape, array->shape + 1, input->rank * sizeof *input->shape);
    return PAL_OK;
}

static pal_status npz_values(const source *source, uint64_t i, const data_input *input, void *out)
{
    data_input shape = *input;
    pal_status status = npz_shape(source, &shape);
    if (status)
        return status;
    const named_array *array = find_array((const npz_source *)source, input->name);
    status = read_sample(&array->array, i, input->dtype, out);
    if (!status)
        return status;
    return source_fail(source, i, fail_context(status, "input %s", input->name));
}

static void npz_name(const source *source, uint64_t i, char *out, size_t size)
{
    snprintf(out, size, "%s: sample %llu", ((const npz_source *)source)->path,
             (unsigned long long)i);
}

static void npz_close(source *source)
{
    npz_source *npz = (npz_source *)source;
    for (size_t i = 0; i < npz->count; i++)
        free(npz->arrays[i].message);
    free(npz->arrays);
    file_list_free(&npz->files);
    free(npz->path);
}

static const source_kind npz_kind = {
    .shape = npz_shape, .values = npz_values, .name = npz_name, .close = npz_close};

/* ---------------------------------------------------------------- opening */

static size_t array_name_length(const char *name)
{
    const size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".npy") == 0 ? n - 4 : 0;
}

static bool is_array(void *user, const char *name)
{
    (void)user;
    return array_name_length(name) > 0;
}

static pal_status parse_array(const char *name, const file_entry *file, npy_array *out)
{
    pal_status status = npy_parse(name, file->data, file->size, out);
    if (!status && out->rank == 0)
        status = fail(PAL_ERROR_FORMAT, "%s: a single value, no samples", name);
    else if (!status && out->elements == 0)
        status = fail(PAL_ERROR_FORMAT, "%s: an array without values", name);
    return status;
}

static pal_status add_array(npz_source *npz, const file_entry *file)
{
    char name[512];
    snprintf(name, sizeof name, "%s: %s", npz->path, file->name);
    named_array *added = &npz->arrays[npz->count];
    *added = (named_array){.name = file->name, .length = array_name_length(file->name)};
    added->status = parse_array(name, file, &added->array);
    if (added->status == PAL_ERROR_MEMORY)
        return added->status;
    if (added->status && !(added->message = strdup(pal_error_message())))
        return fail_memory("opening arrays");
    npz->count++;
    return PAL_OK;
}

/* How many samples there are: labels say it, or else the array with the most values, as inputs
 * are. */
static pal_status count_samples(npz_source *npz)
{
    const named_array *most = NULL;
    for (size_t i = 0; i < npz->count; i++)
        if (!npz->arrays[i].status &&
            (!most || npz->arrays[i].array.elements > most->array.elements))
            most = &npz->arrays[i];
    npz->counted = find_array(npz, "labels");
    if (!npz->counted)
        npz->counted = most ? most : npz->arrays;
    if (npz->counted->status)
        return fail(npz->counted->status, "%s", npz->counted->message);
    npz->base.count = npz->counted->array.shape[0];
    return PAL_OK;
}

static pal_status read_labels(npz_source *npz)
{
    const npy_array *found;
    pal_status status = take_array(npz, "labels", &found);
    if (status || !found)
        return status;
    if (sample_elements(found) != 1)
        return fail(PAL_ERROR_UNSUPPORTED, "%s: labels: more than one for a sample", npz->path);
    for (uint64_t i = 0; !status && i < npz->base.count; i++) {
        int64_t label;
        status = read_sample(found, i, PAL_INT64, &label);
        if (status)
            return source_fail(&npz->base, i, fail_context(status, "labels"));
        status = source_set_label(&npz->base, i, label);
    }
    return status;
}

static pal_status open_arrays(npz_source *npz)
{
    pal_status status = list_archive(npz->path, ARCHIVE_ZIP, is_array, NULL, &npz->files);
    if (status)
        return status;
    npz->arrays = mem_zeroed(npz->files.count, sizeof *npz->arrays);
    if (!npz->arrays)
        return fail_memory("opening arrays");
    for (size_t i = 0; !status && i < npz->files.count; i++)
        if (npz->files.entries[i].data)
            status = add_array(npz, &npz->files.entries[i]);
    if (!status && !npz->count)
        status = fail(PAL_ERROR_FORMAT, "%s: it holds no array", npz->path);
    if (!status)
        status = count_samples(npz);
    return status ? status : read_labels(npz);
}

pal_status npz_open(const char *path, const char *split, source **out)
{
    if (*split)
        return fail(PAL_ERROR_ARGUMENT, "%s: an .npz file has no splits", path);
    npz_source *npz = mem_zeroed(1, sizeof *npz);
    if (!npz)
        return fail_memory("opening arrays");
    npz->base = (source){.kind = &npz_kind};
    npz->path = strdup(path);
    pal_status status = npz->path ? open_arrays(npz) : fail_memory("opening arrays");
    if (status)
        source_free(&npz->base);
    else
        *out = &npz->base;
    return status;
}
