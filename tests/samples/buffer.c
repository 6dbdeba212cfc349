#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "samples.h"

void sample_need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "samples: %s: %s\n", what, pal_error_message());
    exit(2);
}

void buffer_add(buffer *b, const void *data, size_t size)
{
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size) + 64;
        b->data = realloc(b->data, b->capacity);
        sample_need(b->data != NULL, "out of memory");
    }
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

void buffer_print(buffer *b, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sample_need(n >= 0 && (size_t)n < sizeof text, "too long a text");
    buffer_add(b, text, (size_t)n);
}

void buffer_free(buffer *b)
{
    free(b->data);
    *b = (buffer){0};
}

void sample_write(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    sample_need(file && fwrite(data ? data : "", 1, size, file) == size && fclose(file) == 0, path);
}

/* ---------------------------------------------------------------- values */

size_t sample_width(pal_dtype dtype)
{
    return pal_dtype_bits(dtype) / 8;
}

void sample_values(buffer *b, pal_dtype dtype, uint64_t count, unsigned distinct, uint64_t *seed)
{
    for (uint64_t i = 0; i < count; i++) {
        const double value =
            distinct ? 0.25 * (double)random_below(seed, distinct) - 1 : random_normal(seed);
        const float single = (float)value;
        const uint16_t half = f16_from_double(value), brain = bf16_from_double(value);
        const uint64_t bits = random_bits(seed);
        const void *from = dtype == PAL_FLOAT64    ? (const void *)&value
                           : dtype == PAL_FLOAT32  ? (const void *)&single
                           : dtype == PAL_FLOAT16  ? (const void *)&half
                           : dtype == PAL_BFLOAT16 ? (const void *)&brain
                                                   : (const void *)&bits;
        buffer_add(b, from, sample_width(dtype));
    }
}
