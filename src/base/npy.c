#include "base/npy.h"

#include <ctype.h>
#include <string.h>

#include "base/half.h"
#include "base/memory.h"

/* The header's text, read from `at` to `end`. */
typedef struct reader {
    const char *name, *at, *end;
} reader;

static void skip_spaces(reader *in)
{
    while (in->at < in->end && isspace((unsigned char)*in->at))
        in->at++;
}

static bool take(reader *in, char c)
{
    skip_spaces(in);
    if (in->at == in->end || *in->at != c)
        return false;
    in->at++;
    return true;
}

static bool take_word(reader *in, const char *word)
{
    size_t length = strlen(word);
    skip_spaces(in);
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
        return false;
    in->at += length;
    return true;
}

/* A string in either kind of quotes, without escapes. */
static bool take_string(reader *in, char *out, size_t capacity)
{
    skip_spaces(in);
    if (in->at == in->end || (*in->at != '\'' && *in->at != '"'))
        return false;
    char quote = *in->at++;
    const char *close = memchr(in->at, quote, (size_t)(in->end - in->at));
    if (!close || (size_t)(close - in->at) >= capacity)
        return false;
    memcpy(out, in->at, (size_t)(close - in->at));
    out[close - in->at] = 0;
    in->at = close + 1;
    return true;
}

static pal_status damaged(const reader *in, const char *what)
{
    return fail(PAL_ERROR_FORMAT, "%s: its NumPy header %s", in->name, what);
}

static pal_status read_shape(reader *in, npy_array *out)
{
    if (!take(in, '('))
        return damaged(in, "has no tuple as shape");
    out->elements = 1;
    while (!take(in, ')')) {
        uint64_t extent = 0;
        skip_spaces(in);
        if (in->at == in->end || !isdigit((unsigned char)*in->at))
            return damaged(in, "has a shape that is no tuple of numbers");
        for (; in->at < in->end && isdigit((unsigned char)*in->at); in->at++)
            if (!mem_multiply(extent, 10, &extent) ||
                __builtin_add_overflow(extent, (uint64_t)(*in->at - '0'), &extent))
                return damaged(in, "has a dimension beyond 64 bits");
        if (out->rank == PAL_MAX_RANK)
            return fail(PAL_ERROR_UNSUPPORTED, "%s: more than %d dimensions", in->name,
                        PAL_MAX_RANK);
        out->shape[out->rank++] = extent;
        if (!mem_multiply(out->elements, extent, &out->elements))
            return damaged(in, "has a shape beyond 64 bits");
        if (!take(in, ',') && (skip_spaces(in), in->at == in->end || *in->at != ')'))
            return damaged(in, "has a shape that is no tuple of numbers");
    }
    return PAL_OK;
}

static pal_status read_type(const reader *in, const char *text, pal_dtype *dtype)
{
    static const struct {
        const char *code;
        pal_dtype dtype;
    } types[] = {{"f2", PAL_FLOAT16}, {"f4", PAL_FLOAT32}, {"f8", PAL_FLOAT64}, {"i1", PAL_INT8},
                 {"i2", PAL_INT16},   {"i4", PAL_INT32},   {"i8", PAL_INT64},   {"u1", PAL_UINT8},
                 {"u2", PAL_UINT16},  {"u4", PAL_UINT32},  {"u8", PAL_UINT64},  {"b1", PAL_UINT8}};
    const char *code = strchr("<|=", text[0]) && text[0] ? text + 1 : text;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(code, types[i].code) == 0) {
            *dtype = types[i].dtype;
            return PAL_OK;
        }
    return fail(PAL_ERROR_UNSUPPORTED, "%s: values of NumPy type '%s'", in->name, text);
}

pal_status npy_parse(const char *name, const void *bytes, size_t size, npy_array *out)
{
    const unsigned char *data = bytes;
    npy_array array = {0};
    if (size < 10 || memcmp(data, "\x93NUMPY", 6) != 0)
        return fail(PAL_ERROR_FORMAT, "%s: not a NumPy array", name);
    size_t start = data[6] == 1 ? 10 : 12;
    if (data[6] < 1 || data[6] > 3 || size < start)
        return fail(PAL_ERROR_FORMAT, "%s: unknown version %u of NumPy's format", name, data[6]);
    uint64_t length = data[8] | (uint64_t)data[9] << 8;
    if (start == 12)
        length |= (uint64_t)data[10] << 16 | (uint64_t)data[11] << 24;
    if (length > size - start)
        return fail(PAL_ERROR_FORMAT, "%s: its NumPy header is cut off", name);

    reader in = {name, (const char *)data + start, (const char *)data + start + length};
    bool fortran = false, typed = false, shaped = false;
    if (!take(&in, '{'))
        return damaged(&in, "is no dictionary");
    while (!take(&in, '}')) {
        char key[32], type[32];
        if (!take_string(&in, key, sizeof key) || !take(&in, ':'))
            return damaged(&in, "is no dictionary");
        pal_status status = PAL_OK;
        if (strcmp(key, "descr") == 0) {
            if (!take_string(&in, type, sizeof type))
                return fail(PAL_ERROR_UNSUPPORTED, "%s: an array of records", name);
            status = read_type(&in, type, &array.dtype);
            typed = true;
        } else if (strcmp(key, "fortran_order") == 0) {
            fortran = take_word(&in, "True");
            if (!fortran && !take_word(&in, "False"))
                return damaged(&in, "has a fortran_order that is neither True nor False");
        } else if (strcmp(key, "shape") == 0 && !shaped) {
            status = read_shape(&in, &array);
            shaped = true;
        } else {
            return damaged(&in, "has an unknown or repeated key");
        }
        if (status)
            return status;
        take(&in, ',');
    }
    if (!typed || !shaped)
        return damaged(&in, "lacks the type or the shape");
    if (fortran && array.rank > 1)
        return fail(PAL_ERROR_UNSUPPORTED, "%s: an array in Fortran order", name);
    uint64_t needed;
    if (!mem_multiply(array.elements, pal_dtype_bits(array.dtype) / 8, &needed) ||
        needed > size - start - length)
        return fail(PAL_ERROR_FORMAT, "%s: its values are cut off", name);
    array.values = data + start + length;
    *out = array;
    return PAL_OK;
}

#define VALUE_AS(type)                                                                             \
    {                                                                                              \
        type v;                                                                                    \
        memcpy(&v, at, sizeof v);                                                                  \
        return (double)v;                                                                          \
    }

double npy_value(const npy_array *array, uint64_t i)
{
    const unsigned char *at =
        (const unsigned char *)array->values + i * (pal_dtype_bits(array->dtype) / 8);
    switch (array->dtype) {
    case PAL_FLOAT16: {
        uint16_t v;
        memcpy(&v, at, sizeof v);
        return f16_to_float(v);
    }
    case PAL_FLOAT32: VALUE_AS(float)
    case PAL_FLOAT64: VALUE_AS(double)
    case PAL_INT8: VALUE_AS(int8_t)
    case PAL_INT16: VALUE_AS(int16_t)
    case PAL_INT32: VALUE_AS(int32_t)
    case PAL_INT64: VALUE_AS(int64_t)
    case PAL_UINT16: VALUE_AS(uint16_t)
    case PAL_UINT32: VALUE_AS(uint32_t)
    case PAL_UINT64: VALUE_AS(uint64_t)
    default: VALUE_AS(uint8_t)
    }
}
