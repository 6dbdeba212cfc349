#include "palettize.h"

static const struct {
    const char *name;
    unsigned bits;
} dtypes[] = {
    [PAL_DTYPE_OTHER] = {"other", 0},
    [PAL_FLOAT16] = {"float16", 16},
    [PAL_FLOAT32] = {"float32", 32},
    [PAL_BFLOAT16] = {"bfloat16", 16},
    [PAL_FLOAT64] = {"float64", 64},
    [PAL_FLOAT8E4M3FN] = {"float8e4m3fn", 8},
    [PAL_FLOAT8E5M2] = {"float8e5m2", 8},
    [PAL_INT4] = {"int4", 4},
    [PAL_INT8] = {"int8", 8},
    [PAL_INT16] = {"int16", 16},
    [PAL_INT32] = {"int32", 32},
    [PAL_INT64] = {"int64", 64},
    [PAL_UINT1] = {"uint1", 1},
    [PAL_UINT2] = {"uint2", 2},
    [PAL_UINT3] = {"uint3", 3},
    [PAL_UINT4] = {"uint4", 4},
    [PAL_UINT6] = {"uint6", 6},
    [PAL_UINT8] = {"uint8", 8},
    [PAL_UINT16] = {"uint16", 16},
    [PAL_UINT32] = {"uint32", 32},
    [PAL_UINT64] = {"uint64", 64},
};

enum { DTYPES = sizeof dtypes / sizeof *dtypes };

const char *pal_dtype_name(pal_dtype dtype)
{
    return (unsigned)dtype < DTYPES ? dtypes[dtype].name : "other";
}

unsigned pal_dtype_bits(pal_dtype dtype)
{
    return (unsigned)dtype < DTYPES ? dtypes[dtype].bits : 0;
}
