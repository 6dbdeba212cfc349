/* Reads a dataset in batches: threads of its own decode ahead of the consumer, as far as a bounded
 * queue lets them. The batches are the same at any number of threads. */
#ifndef PAL_DATA_LOADER_H
#define PAL_DATA_LOADER_H

#include "data/augment.h"
#include "data/dataset.h"

typedef struct loader loader;

typedef struct loader_batch {
    uint64_t first;          /* the number of the first sample in this epoch */
    size_t count;            /* of samples; the last batch may have fewer; 0 at the end */
    void *const *inputs;     /* for each input: the samples one after another */
    const int64_t *labels;   /* NULL where there are none */
    const uint64_t *samples; /* their numbers at their source, below dataset_source_count() */
} loader_batch;

/* Starts on epoch 0. The dataset must outlive the loader; `inputs` need not, and extents that are
 * free there become those of the first sample. threads: 1 or more; depth: how many batches may be
 * ready or in work besides the one that the consumer has, 1 or more. */
pal_status loader_open(const dataset *data, const data_input *inputs, size_t count, size_t batch,
                       int threads, size_t depth, loader **out);
/* The inputs, none of their extents free. */
const data_input *loader_inputs(const loader *loader);

/* The next batch, which is valid until the next call. A sample that cannot be read fails the batch
 * that holds it (the first in order, if several) and all calls after that. */
pal_status loader_next(loader *loader, loader_batch *out);

/* Begins another epoch, whatever was left of the one before. Where the data is shuffled, the same
 * samples come in an order that depends on the seed and the epoch alone. */
pal_status loader_restart(loader *loader, uint64_t epoch);

/* The same from batch number `batch` of the epoch on: what loader_restart() followed by that many
 * batches would give. */
pal_status loader_seek(loader *loader, uint64_t epoch, uint64_t batch);
/* Samples that are read from the next restart or seek on are augmented; NULL: no more. `how` must
 * outlive the loader. */
void loader_augment(loader *loader, const augmentation *how);

/* At any time; what the threads have begun is finished and dropped. Accepts NULL. */
void loader_close(loader *loader);

#endif
