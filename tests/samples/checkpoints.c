#include <stdlib.h>
#include <string.h>

#include "samples.h"

void sample_safetensors(const char *path, const char *header, size_t pad, const void *data,
                        size_t size)
{
    const size_t length = strlen(header), padded = (length + pad - 1) / pad * pad;
    buffer all = {0};
    for (int i = 0; i < 8; i++)
        buffer_add(&all, &(unsigned char){(unsigned char)((uint64_t)padded >> 8 * i)}, 1);
    buffer_add(&all, header, length);
    for (size_t i = length; i < padded; i++)
        buffer_add(&all, " ", 1);
    buffer_add(&all, data, size);
    sample_write(path, all.data, all.size);
    buffer_free(&all);
}

static const char *type_name(pal_dtype dtype)
{
    switch (dtype) {
    case PAL_FLOAT16: return "F16";
    case PAL_BFLOAT16: return "BF16";
    case PAL_FLOAT32: return "F32";
    case PAL_FLOAT64: return "F64";
    case PAL_FLOAT8E4M3FN: return "F8_E4M3";
    case PAL_INT64: return "I64";
    default: return "U8";
    }
}

uint64_t sample_checkpoint(const char *path, const sample_tensor *tensors, size_t count,
                           unsigned distinct, size_t pad, uint64_t seed)
{
    buffer header = {0}, data = {0};
    buffer_print(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < count; i++) {
        const sample_tensor *t = &tensors[i];
        const size_t begin = data.size;
        sample_values(&data, t->dtype, t->rows * (t->columns ? t->columns : 1), distinct, &seed);
        buffer_print(&header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", t->name,
                     type_name(t->dtype), (int)t->rows);
        if (t->columns)
            buffer_print(&header, ",%d", (int)t->columns);
        buffer_print(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.size);
    }
    buffer_add(&header, "}", 2); /* with the end of the text */
    sample_safetensors(path, (const char *)header.data, pad, data.data, data.size);
    const uint64_t bytes = data.size;
    buffer_free(&header);
    buffer_free(&data);
    return bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const sample_tensor *const *)a)->name,
                  (*(const sample_tensor *const *)b)->name);
}

void sample_index(const char *path, const sample_tensor *tensors, size_t count, size_t split,
                  const char *const files[2], uint64_t total)
{
    const sample_tensor *sorted[32];
    buffer text = {0};
    sample_need(count <= 32, "too many tensors");
    for (size_t i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof *sorted, by_name);
    buffer_print(&text, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                 (unsigned long long)total);
    for (size_t i = 0; i < count; i++)
        buffer_print(&text, "%s\n    \"%s\": \"%s\"", i ? "," : "", sorted[i]->name,
                     files[(size_t)(sorted[i] - tensors) >= split]);
    buffer_print(&text, "\n  }\n}\n");
    sample_write(path, text.data, text.size);
    buffer_free(&text);
}
