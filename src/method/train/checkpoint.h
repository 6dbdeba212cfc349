/* Checkpoints: all that goes from one step of training to the next, in a file that appears complete
 * or not at all. What is random depends on seed, epoch and sample alone, so that the number of the
 * step stands for it.
 *
 * The file is a header, the state's pieces of memory one after the other as they are (of this
 * machine's byte order), and a checksum. It is for the run that wrote it: same model, data and
 * options, as a fingerprint tells. */
#ifndef PAL_METHOD_TRAIN_CHECKPOINT_H
#define PAL_METHOD_TRAIN_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A piece of the state. */
typedef struct state_piece {
    void *data;
    size_t bytes;
} state_piece;

pal_status checkpoint_write(const char *path, uint64_t fingerprint, const state_piece *pieces,
                            size_t count);
/* Fills the pieces. If the file is not for them, they stay as they were: PAL_ERROR_FORMAT for a
 * damaged one, PAL_ERROR_ARGUMENT for that of another run. */
pal_status checkpoint_read(const char *path, uint64_t fingerprint, const state_piece *pieces,
                           size_t count);

/* A sum over bytes that changes with any of them: for fingerprints, too. Begin with sum 0. */
uint64_t checkpoint_sum(uint64_t sum, const void *data, size_t bytes);

#endif
