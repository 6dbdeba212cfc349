/* Second moments of what a layer reads and gives, summed while samples stream by. */
#ifndef PAL_METHOD_LAYERWISE_MOMENTS_H
#define PAL_METHOD_LAYERWISE_MOMENTS_H

#include "method/layerwise/layer.h"
#include "method/layerwise/walk.h"

/* Of x, what the layer's columns see in the compressed network, and y, what its rows give in the
 * float one: means over all positions of all samples. */
typedef struct moments {
    size_t rows, columns, blocks;
    uint64_t positions;
    double *own;    /* x x^T, [blocks, columns, columns] */
    double *cross;  /* y x^T, [rows, columns] */
    double *mean_x; /* [blocks, columns] */
    double *mean_y; /* [rows] */
} moments;

pal_status moments_measure(const walk *walk, const layer *layer, moments *out);
void moments_free(moments *moments);
/* Takes the means out of both, where a constant for each row is added behind the layer anyway. */
void moments_centre(moments *moments);

#endif
