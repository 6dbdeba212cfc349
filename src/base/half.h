/* 16-bit floats: bit pattern <-> double, exact one way, round to nearest even the other. */
#ifndef PAL_BASE_HALF_H
#define PAL_BASE_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* IEEE 754 binary16. */
static inline float f16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31)
        return float_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Rounds a double once, to nearest, ties to even; overflow gives infinity. */
static inline uint16_t f16_from_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    double magnitude = value < 0 ? -value : value;
    if (magnitude != magnitude)
        return sign | 0x7e00;
    if (magnitude >= 65520.0)
        return sign | 0x7c00;
    if (magnitude < 0x1p-14) /* subnormal: adding 2^28 leaves multiples of 2^-24 */
        return sign | (uint16_t)((magnitude + 0x1p28 - 0x1p28) * 0x1p24);
    memcpy(&bits, &magnitude, sizeof bits);
    uint64_t lsb = bits >> 42 & 1;
    bits += 0x1ffffffffffu + lsb; /* half of the 42 dropped bits, to even */
    return sign | (uint16_t)((bits >> 42) - (1008ull << 10));
}

static inline bool f16_is_finite(uint16_t h)
{
    return (h & 0x7c00) != 0x7c00;
}

/* bfloat16: the upper half of a float32. */
static inline float bf16_to_float(uint16_t h)
{
    return float_from_bits((uint32_t)h << 16);
}

static inline uint16_t bf16_from_double(double value)
{
    /* Round to odd in float32 first, so that the second rounding sees the exact value's side. */
    float nearest = (float)value;
    uint32_t bits = float_to_bits(nearest);
    if (nearest != nearest)
        return (uint16_t)(bits >> 16 | 0x40);
    if (nearest - nearest == 0 && nearest != 0 && (double)nearest != value && !(bits & 1)) {
        double excess = (double)nearest - value;
        bits = (excess > 0) == (nearest > 0) ? bits - 1 : bits + 1;
    }
    bits += 0x7fff + (bits >> 16 & 1);
    return (uint16_t)(bits >> 16);
}

static inline bool bf16_is_finite(uint16_t h)
{
    return (h & 0x7f80) != 0x7f80;
}

#endif
