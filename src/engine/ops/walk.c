#include "engine/ops/walk.h"

#include <string.h>

/* Copies of less than this are not worth waking threads for. */
#define PARALLEL_BYTES ((int64_t)1 << 16)

void row_major_strides(size_t rank, const int64_t *shape, int64_t *strides)
{
    int64_t stride = 1;
    for (size_t d = rank; d-- > 0;) {
        strides[d] = stride;
        stride *= shape[d];
    }
}

walk walk_new(size_t rank, const int64_t *shape, const int64_t *strides, int64_t start)
{
    walk walk = {.start = start};
    for (size_t d = 0; d < rank; d++) {
        if (shape[d] == 1)
            continue;
        const size_t last = walk.rank - 1;
        if (walk.rank && walk.stride[last] == shape[d] * strides[d]) {
            walk.extent[last] *= shape[d];
            walk.stride[last] = strides[d];
        } else {
            walk.extent[walk.rank] = shape[d];
            walk.stride[walk.rank++] = strides[d];
        }
    }
    if (!walk.rank) {
        walk.extent[0] = 1;
        walk.stride[0] = 1;
        walk.rank = 1;
    }
    return walk;
}

/* The source's offset of the i-th row (a run along the last axis). */
static int64_t row_offset(const walk *walk, int64_t i)
{
    int64_t offset = walk->start;
    for (size_t d = walk->rank - 1; d-- > 0;) {
        offset += i % walk->extent[d] * walk->stride[d];
        i /= walk->extent[d];
    }
    return offset;
}

#define ROW_LOOPS(type)                                                                            \
    static void take_row_##type(const type *from, int64_t stride, type *to, int64_t count)         \
    {                                                                                              \
        if (stride == 1)                                                                           \
            memcpy(to, from, (size_t)count * sizeof *to);                                          \
        else if (stride == 0)                                                                      \
            for (int64_t i = 0; i < count; i++)                                                    \
                to[i] = *from;                                                                     \
        else                                                                                       \
            for (int64_t i = 0; i < count; i++)                                                    \
                to[i] = from[i * stride];                                                          \
    }                                                                                              \
    static void put_row_##type(const type *from, type *to, int64_t stride, int64_t count)          \
    {                                                                                              \
        if (stride == 1)                                                                           \
            memcpy(to, from, (size_t)count * sizeof *to);                                          \
        else                                                                                       \
            for (int64_t i = 0; i < count; i++)                                                    \
                to[i * stride] = from[i];                                                          \
    }

ROW_LOOPS(uint8_t)
ROW_LOOPS(uint32_t)
ROW_LOOPS(uint64_t)

static int64_t row_count(const walk *walk)
{
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < walk->rank; d++)
        rows *= walk->extent[d];
    return rows;
}

void walk_copy(const walk *walk, size_t element, const void *from, void *to)
{
    const int64_t length = walk->extent[walk->rank - 1], stride = walk->stride[walk->rank - 1];
    const int64_t rows = row_count(walk);
    if (!length)
        return;
#pragma omp parallel for schedule(static) if (rows * length * (int64_t)element > PARALLEL_BYTES)
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = row_offset(walk, i);
        switch (element) {
        case 1:
            take_row_uint8_t((const uint8_t *)from + at, stride, (uint8_t *)to + i * length,
                             length);
            break;
        case 4:
            take_row_uint32_t((const uint32_t *)from + at, stride, (uint32_t *)to + i * length,
                              length);
            break;
        default:
            take_row_uint64_t((const uint64_t *)from + at, stride, (uint64_t *)to + i * length,
                              length);
        }
    }
}

void walk_put(const walk *walk, size_t element, const void *from, void *to)
{
    const int64_t length = walk->extent[walk->rank - 1], stride = walk->stride[walk->rank - 1];
    const int64_t rows = row_count(walk);
    if (!length)
        return;
#pragma omp parallel for schedule(static) if (rows * length * (int64_t)element > PARALLEL_BYTES)
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = row_offset(walk, i);
        switch (element) {
        case 1:
            put_row_uint8_t((const uint8_t *)from + i * length, (uint8_t *)to + at, stride, length);
            break;
        case 4:
            put_row_uint32_t((const uint32_t *)from + i * length, (uint32_t *)to + at, stride,
                             length);
            break;
        default:
            put_row_uint64_t((const uint64_t *)from + i * length, (uint64_t *)to + at, stride,
                             length);
        }
    }
}
