#include "data/shuffle.h"

/* SplitMix64, http://prng.di.unimi.it/splitmix64.c */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Uniform in [0, n): numbers of the last, incomplete run of n are thrown back. */
static uint64_t below(uint64_t *state, uint64_t n)
{
    const uint64_t excess = (0 - n) % n; /* 2^64 mod n */
    uint64_t bits;
    do
        bits = next(state);
    while (bits < excess);
    return bits % n;
}

void shuffle_numbers(uint64_t *numbers, uint64_t count, uint64_t seed, uint64_t epoch)
{
    uint64_t state = seed;
    state = next(&state) + epoch; /* mixed in between, or seed 1 would follow seed 0 by one epoch */
    state = next(&state);
    for (uint64_t i = count; i > 1; i--) {
        const uint64_t j = below(&state, i), kept = numbers[j];
        numbers[j] = numbers[i - 1];
        numbers[i - 1] = kept;
    }
}
