/* Changing the size of images as Pillow and torchvision do. */
#ifndef PAL_DATA_RESIZE_H
#define PAL_DATA_RESIZE_H

#include "data/image.h"

/* Bilinear; where it shrinks, the filter widens with it, so that every pixel counts
 * (antialiasing). Equal to Pillow's Image.resize(size, BILINEAR), bit for bit. On failure the image
 * is as it was. */
pal_status image_resize(image *image, size_t width, size_t height);

/* The size that gives the shorter side `length` and keeps the proportions, the longer side rounded
 * down as torchvision's Resize(length) does. */
void resize_shorter(size_t length, size_t *width, size_t *height);

/* Keeps the part in the middle, at most the whole. Where the margins cannot be equal, they are
 * rounded half to even, as torchvision's CenterCrop does. */
void image_crop(image *image, size_t width, size_t height);

#endif
