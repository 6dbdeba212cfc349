/* What the float model answered to each sample of training, as far as it was asked: samples that
 * are not augmented are the same in every epoch, and so are the answers. */
#ifndef PAL_METHOD_TRAIN_ANSWERS_H
#define PAL_METHOD_TRAIN_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "palettize.h"

/* Answers that take more memory than this are not kept. */
#define ANSWERS_MOST_BYTES (64u << 20)

typedef struct answers {
    uint64_t samples;
    size_t width;         /* numbers of an answer */
    float *values;        /* of all samples; NULL: none are kept */
    unsigned char *known; /* by sample */
    float *batch;         /* room for those of a batch */
} answers;

/* `batch`: samples of the largest batch. Where the answers are too many nothing is kept, and
 * nothing is ever found. */
pal_status answers_new(uint64_t samples, size_t width, size_t batch, answers *out);
void answers_free(answers *answers);

/* The answers to these samples, one after another, until the next call; NULL unless all are known.
 */
const float *answers_find(answers *answers, const uint64_t *samples, size_t count);
void answers_keep(answers *answers, const uint64_t *samples, size_t count, const float *values);

#endif
