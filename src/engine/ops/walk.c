#include "engine/ops/walk.h"

#include <string.h>

/* Copies of less than this are not worth waking threads for. */
#define PARALLEL_BYTES ((int64_t)1 << 16)

pal_status bad_index(int64_t index, int64_t extent)
{
    return fail(PAL_ERROR_VALUE, "index %lld lies outside an axis of extent %lld", (long long)index,
                (long long)extent);
}

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

/* The walk as planes of rows: divisions for each plane only, because rows may be as short as a
 * block of channels. A plane is a single row where there are few planes, so that threads find work.
 */
typedef struct planes {
    size_t outer; /* axes outside of a plane */
    int64_t count, rows, row_stride, length, stride;
} planes;

enum { FEW_PLANES = 64 };

static planes planes_of(const walk *walk)
{
    const size_t last = walk->rank - 1;
    planes p = {.count = 1, .rows = 1, .length = walk->extent[last], .stride = walk->stride[last]};
    for (; p.outer + 1 < last; p.outer++)
        p.count *= walk->extent[p.outer];
    if (last && p.count < FEW_PLANES) {
        p.count *= walk->extent[p.outer++];
    } else if (last) {
        p.rows = walk->extent[p.outer];
        p.row_stride = walk->stride[p.outer];
    }
    return p;
}

/* The source's offset of the i-th plane. */
static int64_t plane_offset(const walk *walk, const planes *p, int64_t i)
{
    int64_t offset = walk->start;
    for (size_t d = p->outer; d-- > 0;) {
        offset += i % walk->extent[d] * walk->stride[d];
        i /= walk->extent[d];
    }
    return offset;
}

/* Blocks of 8 and 16 floats are what oneDNN's layouts are made of: of known length, they are moved
 * without a call. */
#define TAKE_ROWS(type, width)                                                                     \
    for (int64_t r = 0; r < p->rows; r++)                                                          \
    memcpy(to + r * width, from + r * p->row_stride, width * sizeof(type))
#define PUT_ROWS(type, width)                                                                      \
    for (int64_t r = 0; r < p->rows; r++)                                                          \
    memcpy(to + r * p->row_stride, from + r * width, width * sizeof(type))

#define PLANE_LOOPS(type)                                                                          \
    static void take_##type(const planes *p, const type *from, type *to)                           \
    {                                                                                              \
        if (p->stride == 1 && p->length == 8) {                                                    \
            TAKE_ROWS(type, 8);                                                                    \
            return;                                                                                \
        }                                                                                          \
        if (p->stride == 1 && p->length == 16) {                                                   \
            TAKE_ROWS(type, 16);                                                                   \
            return;                                                                                \
        }                                                                                          \
        for (int64_t r = 0; r < p->rows; r++, from += p->row_stride, to += p->length) {            \
            if (p->stride == 1)                                                                    \
                memcpy(to, from, (size_t)p->length * sizeof *to);                                  \
            else if (p->stride == 0)                                                               \
                for (int64_t i = 0; i < p->length; i++)                                            \
                    to[i] = *from;                                                                 \
            else                                                                                   \
                for (int64_t i = 0; i < p->length; i++)                                            \
                    to[i] = from[i * p->stride];                                                   \
        }                                                                                          \
    }                                                                                              \
    static void put_##type(const planes *p, const type *from, type *to)                            \
    {                                                                                              \
        if (p->stride == 1 && p->length == 8) {                                                    \
            PUT_ROWS(type, 8);                                                                     \
            return;                                                                                \
        }                                                                                          \
        if (p->stride == 1 && p->length == 16) {                                                   \
            PUT_ROWS(type, 16);                                                                    \
            return;                                                                                \
        }                                                                                          \
        for (int64_t r = 0; r < p->rows; r++, from += p->length, to += p->row_stride) {            \
            if (p->stride == 1)                                                                    \
                memcpy(to, from, (size_t)p->length * sizeof *to);                                  \
            else                                                                                   \
                for (int64_t i = 0; i < p->length; i++)                                            \
                    to[i * p->stride] = from[i];                                                   \
        }                                                                                          \
    }

PLANE_LOOPS(uint8_t)
PLANE_LOOPS(uint32_t)
PLANE_LOOPS(uint64_t)

void walk_copy(const walk *walk, size_t element, const void *from, void *to)
{
    const planes p = planes_of(walk);
    const int64_t plane = p.rows * p.length;
    if (!plane)
        return;
#pragma omp parallel for schedule(static) if (p.count * plane * (int64_t)element > PARALLEL_BYTES)
    for (int64_t i = 0; i < p.count; i++) {
        const int64_t at = plane_offset(walk, &p, i);
        switch (element) {
        case 1: take_uint8_t(&p, (const uint8_t *)from + at, (uint8_t *)to + i * plane); break;
        case 4: take_uint32_t(&p, (const uint32_t *)from + at, (uint32_t *)to + i * plane); break;
        default: take_uint64_t(&p, (const uint64_t *)from + at, (uint64_t *)to + i * plane);
        }
    }
}

void walk_put(const walk *walk, size_t element, const void *from, void *to)
{
    const planes p = planes_of(walk);
    const int64_t plane = p.rows * p.length;
    if (!plane)
        return;
#pragma omp parallel for schedule(static) if (p.count * plane * (int64_t)element > PARALLEL_BYTES)
    for (int64_t i = 0; i < p.count; i++) {
        const int64_t at = plane_offset(walk, &p, i);
        switch (element) {
        case 1: put_uint8_t(&p, (const uint8_t *)from + i * plane, (uint8_t *)to + at); break;
        case 4: put_uint32_t(&p, (const uint32_t *)from + i * plane, (uint32_t *)to + at); break;
        default: put_uint64_t(&p, (const uint64_t *)from + i * plane, (uint64_t *)to + at);
        }
    }
}
