/* From a decoded image to the values of a model's input. */
#ifndef PAL_DATA_PREPROCESS_H
#define PAL_DATA_PREPROCESS_H

#include "data/augment.h"
#include "data/dataset.h"
#include "data/image.h"

/* What is done with every image of a dataset. */
typedef struct preprocessing {
    data_options options;
    size_t channels; /* of images, where the model takes any number */
    float table[DATA_CHANNELS]
               [256]; /* what a pixel value becomes in each of the model's channels */
} preprocessing;

void preprocessing_make(const data_options *options, size_t channels, preprocessing *out);

/* Fills the extents of `input` that are 0 with those that this image has after resizing and
 * cropping. Fails where the input cannot take images. */
pal_status preprocess_shape(const preprocessing *preprocessing, const image *image,
                            data_input *input);

/* Writes the values; the image is changed on the way. `input` has no free extent. how (may be NULL)
 * and key: how the image is augmented. */
pal_status preprocess(const preprocessing *preprocessing, const augmentation *how, uint64_t key,
                      image *image, const data_input *input, float *out);

#endif
