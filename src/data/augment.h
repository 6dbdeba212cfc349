/* Augmentation: what training does to an image before the model sees it, at random.
 *
 * What is drawn depends on the seed, the epoch and the sample alone, so that any thread may read
 * any sample at any time, and a run that was interrupted goes on with the same images. */
#ifndef PAL_DATA_AUGMENT_H
#define PAL_DATA_AUGMENT_H

#include "data/image.h"

typedef struct augmentation {
    bool flip;         /* left to right, every other image */
    size_t pad;        /* black pixels around it, out of which its size is cut anywhere; 0: none */
    double least_area; /* the least part of the area that a random cut-out keeps before it is
                          brought to the model's size; proportions change by up to 3 : 4; 0: none */
    double colour;     /* brightness, contrast and saturation change by up to this part; 0: none */
    uint64_t seed;
} augmentation;

/* From words separated by commas: none, flip, crop or crop=PIXELS, resized_crop or
 * resized_crop=PART, colour or colour=PART. The seed stays. PAL_ERROR_ARGUMENT names the word. */
pal_status augmentation_parse(const char *text, augmentation *out);
/* Whether it does anything. */
bool augmentation_is_any(const augmentation *it);

/* What is drawn for one sample in one epoch. */
uint64_t augmentation_key(const augmentation *it, uint64_t epoch, uint64_t sample);

/* Cuts a random part out of the image as it was decoded, and gives it the size; false in *done
 * where nothing of the kind is asked for. */
pal_status augment_cut(const augmentation *it, uint64_t key, size_t width, size_t height,
                       image *image, bool *done);
/* The rest, which keeps the size. */
pal_status augment(const augmentation *it, uint64_t key, image *image);

#endif
