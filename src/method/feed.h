/* Samples on their way into sessions: batches of one size, read ahead by threads of their own. */
#ifndef PAL_METHOD_FEED_H
#define PAL_METHOD_FEED_H

#include "data/augment.h"
#include "data/dataset.h"

struct pal_data {
    dataset *set;
};

/* What data is to deliver for a model's input: one sample, without the batch's dimension. */
pal_status data_input_of(const pal_tensor *input, data_input *out);

/* As pal_data_open(), with `samples` (0: all) at random by the seed where the options set neither a
 * limit nor a seed. */
pal_status data_open_sampled(const char *path, const pal_data_options *options, uint64_t samples,
                             uint64_t seed, pal_data **out);
/* Some of the samples, from `first` on; see dataset_part(). */
pal_status data_part(const pal_data *whole, uint64_t first, uint64_t count, pal_data **out);
/* Some of the samples, by number; see dataset_select(). */
pal_status data_select(const pal_data *whole, const uint64_t *samples, uint64_t count,
                       uint64_t seed, pal_data **out);

typedef struct feed feed;

/* A batch. It always has the size that was asked for: where the data ends, the last sample is
 * repeated, and `count` says how many are to be counted. */
typedef struct feed_batch {
    size_t count;             /* 0 at the end */
    const pal_tensor *inputs; /* as many as the session has */
    size_t input_count;
    const int64_t *labels;   /* of the `count` samples, or NULL */
    const uint64_t *samples; /* their numbers, below dataset_source_count() */
} feed_batch;

/* Reads the inputs of the session from the data, `batch` samples at once (but not more than there
 * are; if the model fixes a batch, a multiple of that). threads: of the engine; a part of as many
 * reads. */
pal_status feed_open(const pal_data *data, const pal_session *session, size_t batch, int threads,
                     feed **out);
/* For training: begins an epoch (loader_restart()) with batch number `batch`, its samples
 * augmented; how: NULL, or what outlives the feed. */
pal_status feed_begin(feed *feed, uint64_t epoch, uint64_t batch, const augmentation *how);
/* What batches look like, but for their data; the first dimensions are the batch's. */
const pal_tensor *feed_inputs(const feed *feed, size_t *count);
/* Valid until the next call. */
pal_status feed_next(feed *feed, feed_batch *out);
void feed_close(feed *feed);

#endif
