/* For the loader: the order of a dataset's samples in an epoch. */
#ifndef PAL_DATA_DATASET_ORDER_H
#define PAL_DATA_DATASET_ORDER_H

#include "data/augment.h"
#include "data/dataset.h"

/* How many samples there are where these come from: a part has some of them, with the numbers that
 * they have there. */
uint64_t dataset_source_count(const dataset *data);
/* Writes dataset_count() numbers, each below dataset_source_count(), for dataset_read_source(). */
void dataset_order(const dataset *data, uint64_t epoch, uint64_t *order);
/* As dataset_read() and dataset_label(), by the numbers above. how: as the sample comes in that
 * epoch; NULL: as it is. */
pal_status dataset_read_source(const dataset *data, uint64_t sample, const augmentation *how,
                               uint64_t epoch, const data_input *inputs, size_t count,
                               void *const *buffers);
int64_t dataset_label_source(const dataset *data, uint64_t sample);

#endif
