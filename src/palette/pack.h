/* Indices of 1, 2, 3, 4, 6 or 8 bits in a row of bytes: the first index in the lowest bits of the
 * first byte, an index that crosses a byte with its low bits in the earlier one. This is the layout
 * of Core ML's constexpr_lut_to_dense and of its sub-byte types. */
#ifndef PAL_PALETTE_PACK_H
#define PAL_PALETTE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool pack_width_is_valid(unsigned nbits);
/* Bytes that n indices take. */
uint64_t pack_bytes(uint64_t n, unsigned nbits);
/* Packs n indices, each below 2^nbits, from the start of `packed`; the spare bits of the last byte
 * are 0. */
void pack_indices(const uint8_t *indices, size_t n, unsigned nbits, uint8_t *packed);
/* Unpacks n indices that start `first` indices into `packed`. */
void unpack_indices(const uint8_t *packed, uint64_t first, size_t n, unsigned nbits,
                    uint8_t *indices);
/* How many of n bits from `first` on are set, packed in the same way. */
uint64_t pack_count_bits(const uint8_t *packed, uint64_t first, uint64_t n);

#endif
