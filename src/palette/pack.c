#include "palette/pack.h"

#include <string.h>

bool pack_width_is_valid(unsigned nbits)
{
    return nbits == 1 || nbits == 2 || nbits == 3 || nbits == 4 || nbits == 6 || nbits == 8;
}

uint64_t pack_bytes(uint64_t n, unsigned nbits)
{
    return n / 8 * nbits + (n % 8 * nbits + 7) / 8;
}

/* Eight indices are nbits whole bytes. Called with a constant nbits, so that each width gets its
 * own loop. */
static inline __attribute__((always_inline)) void pack_eights(const uint8_t *restrict indices,
                                                              size_t eights, unsigned nbits,
                                                              uint8_t *restrict packed)
{
    for (size_t i = 0; i < eights; i++) {
        uint64_t word = 0;
        for (unsigned j = 0; j < 8; j++)
            word |= (uint64_t)indices[8 * i + j] << (j * nbits);
        for (unsigned j = 0; j < nbits; j++)
            packed[i * nbits + j] = (uint8_t)(word >> (8 * j));
    }
}

void pack_indices(const uint8_t *indices, size_t n, unsigned nbits, uint8_t *packed)
{
    size_t eights = n / 8;
    switch (nbits) {
    case 1: pack_eights(indices, eights, 1, packed); break;
    case 2: pack_eights(indices, eights, 2, packed); break;
    case 3: pack_eights(indices, eights, 3, packed); break;
    case 4: pack_eights(indices, eights, 4, packed); break;
    case 6: pack_eights(indices, eights, 6, packed); break;
    default: memcpy(packed, indices, n); return;
    }
    if (n % 8) {
        uint8_t rest[8] = {0}, bytes[8];
        memcpy(rest, indices + 8 * eights, n % 8);
        pack_eights(rest, 1, nbits, bytes);
        memcpy(packed + eights * nbits, bytes, (n % 8 * nbits + 7) / 8);
    }
}

void unpack_indices(const uint8_t *packed, uint64_t first, size_t n, unsigned nbits,
                    uint8_t *indices)
{
    const unsigned mask = (1u << nbits) - 1;
    uint64_t bit = first * nbits;
    for (size_t i = 0; i < n; i++, bit += nbits) {
        const uint8_t *byte = packed + bit / 8;
        unsigned shift = (unsigned)(bit % 8);
        unsigned pair = byte[0];
        if (shift + nbits > 8)
            pair |= (unsigned)byte[1] << 8;
        indices[i] = (uint8_t)(pair >> shift & mask);
    }
}

uint64_t pack_count_bits(const uint8_t *packed, uint64_t first, uint64_t n)
{
    uint64_t count = 0, i = first;
    const uint64_t end = first + n;
    for (; i < end && i % 8; i++)
        count += packed[i / 8] >> i % 8 & 1;
    for (; i + 64 <= end; i += 64) {
        uint64_t word;
        memcpy(&word, packed + i / 8, sizeof word);
        count += (uint64_t)__builtin_popcountll(word);
    }
    for (; i < end; i++)
        count += packed[i / 8] >> i % 8 & 1;
    return count;
}
