/* Datasets for scoring, calibrating and training models: samples by number, and a loader that reads
 * them in batches ahead of its consumer.
 *
 * A path is one of
 *   a folder of images (JPEG, PNG): each subfolder is a class, files below it at any depth are its
 *       samples, classes and samples come in the byte order of their names. Images in the folder
 *       itself, and no class: samples without labels. A split is a subfolder that holds the
 * classes; the same in a .tar, .tar.gz or .tgz. Where all lies in one folder, the classes are
 * looked for in that; an IDX file NAME-images-idx3-ubyte (MNIST), packed by gzip or not, with its
 *       NAME-labels-idx1-ubyte beside it, or a folder with such files, NAME being the split (t10k
 *       counts as test);
 *   a single image, without a label;
 *   an .npz of arrays named as the model's inputs, and `labels` (integers), which may be missing.
 *       The first dimension counts the samples. Values are taken as they are.
 *
 * Hidden files and what is no image are passed over; images of kinds that are not read are refused,
 * because a score over a part of the data would mislead. */
#ifndef PAL_DATA_DATASET_H
#define PAL_DATA_DATASET_H

#include "data/data_options.h"

/* What a model wants for one of its inputs. */
typedef struct data_input {
    const char *name;
    pal_dtype dtype;              /* PAL_FLOAT32 or PAL_INT64 */
    size_t rank;                  /* without the batch's dimension */
    uint64_t shape[PAL_MAX_RANK]; /* of one sample; 0 where any extent will do */
} data_input;

typedef struct dataset dataset;

pal_status dataset_open(const char *path, const data_options *options, dataset **out);
/* `count` samples of another dataset, which must outlive the part, from `first` on in the order of
 * its epoch 0. Where that is shuffled, so are they from epoch to epoch, among themselves. */
pal_status dataset_part(const dataset *whole, uint64_t first, uint64_t count, dataset **out);
/* `count` samples of another dataset, which must outlive the selection, by number. They come in
 * this order in epoch 0, and are shuffled in others. */
pal_status dataset_select(const dataset *whole, const uint64_t *samples, uint64_t count,
                          uint64_t seed, dataset **out);
void dataset_close(dataset *data);

/* Whether its samples have a random order: also those of a selection. */
bool dataset_is_shuffled(const dataset *data);
/* Samples, after split and limit. */
uint64_t dataset_count(const dataset *data);
bool dataset_has_labels(const dataset *data);
/* Labels are less than this; 0 where there are none. */
size_t dataset_class_count(const dataset *data);
/* NULL where classes are only numbers. */
const char *dataset_class_name(const dataset *data, size_t i);

/* Samples have the order of epoch 0, see loader_restart(). Any number of threads may call the
 * functions below at once. Sample i must exist. */

/* What messages call a sample: the path of a file, or the file and a number. Cut off where it does
 * not fit; returns `out`. */
const char *dataset_sample_name(const dataset *data, uint64_t i, char *out, size_t size);
/* -1 where there are none. */
int64_t dataset_label(const dataset *data, uint64_t i);
/* Replaces the free extents of the inputs by those of sample i, and fails where the data cannot
 * serve these inputs. */
pal_status dataset_resolve(const dataset *data, uint64_t i, data_input *inputs, size_t count);
/* Reads a sample into buffers of the caller, one for each input, of its type and shape; no extent
 * may be free. PAL_ERROR_VALUE where it holds NaN, or a number that the input's type cannot. */
pal_status dataset_read(const dataset *data, uint64_t i, const data_input *inputs, size_t count,
                        void *const *buffers);

#endif
