#include <stdio.h>

#include "format/coreml/coreml.h"

static const struct {
    int32_t mil, blob;
    pal_dtype dtype;
} types[] = {
    {10, 1, PAL_FLOAT16},  {11, 2, PAL_FLOAT32},       {12, 0, PAL_FLOAT64},
    {13, 5, PAL_BFLOAT16}, {40, 16, PAL_FLOAT8E4M3FN}, {41, 17, PAL_FLOAT8E5M2},
    {21, 4, PAL_INT8},     {22, 6, PAL_INT16},         {23, 14, PAL_INT32},
    {24, 0, PAL_INT64},    {25, 8, PAL_INT4},          {31, 3, PAL_UINT8},
    {32, 7, PAL_UINT16},   {33, 15, PAL_UINT32},       {34, 0, PAL_UINT64},
    {35, 11, PAL_UINT4},   {36, 10, PAL_UINT2},        {37, 9, PAL_UINT1},
    {38, 13, PAL_UINT6},   {39, 12, PAL_UINT3},
};

enum { TYPES = sizeof types / sizeof *types };

pal_dtype mil_to_dtype(int32_t mil)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].mil == mil)
            return types[i].dtype;
    return PAL_DTYPE_OTHER;
}

int32_t mil_from_dtype(pal_dtype dtype)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype == dtype)
            return types[i].mil;
    return 0;
}

int32_t blob_type_from_dtype(pal_dtype dtype)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype == dtype)
            return types[i].blob;
    return 0;
}

int opset_number(ProtobufCBinaryData text)
{
    static const char prefix[] = "CoreML";
    const size_t skip = sizeof prefix - 1;
    int number = 0;
    if (text.len <= skip || text.len > skip + 3 || __builtin_memcmp(text.data, prefix, skip) != 0)
        return 0;
    for (size_t i = skip; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        number = 10 * number + (text.data[i] - '0');
    }
    return number;
}

const char *opset_name(int number, char buffer[32])
{
    /* Apple went from iOS18 to iOS26. */
    int ios = number <= OPSET_IOS18 ? number + 10 : number + 17;
    snprintf(buffer, 32, "iOS%d (CoreML%d)", ios, number);
    return buffer;
}
