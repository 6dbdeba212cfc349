/* Numbers that are drawn by counting (SplitMix64): each depends on a key and on its number alone,
 * so that any thread may draw any of them, and they can be drawn again. */
#ifndef PAL_BASE_DRAW_H
#define PAL_BASE_DRAW_H

#include <stdint.h>

static inline uint64_t draw(uint64_t key, uint64_t number)
{
    uint64_t z = key + (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* The same, in [0, 1). */
static inline double draw_unit(uint64_t key, uint64_t number)
{
    return (double)(draw(key, number) >> 11) * 0x1p-53;
}

#endif
