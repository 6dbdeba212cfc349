/* Orders of samples. A seed stands for the same order everywhere and in every version. */
#ifndef PAL_DATA_SHUFFLE_H
#define PAL_DATA_SHUFFLE_H

#include <stdint.h>

/* Permutes `count` numbers; every permutation is as likely as any other. */
void shuffle_numbers(uint64_t *numbers, uint64_t count, uint64_t seed, uint64_t epoch);

#endif
