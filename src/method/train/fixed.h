/* Weights that training leaves as they are and the file does not: palettized constants that were
 * never trained, such as positions that are added, and what no gradient comes to. The network that
 * is trained and scored has the values that will be written. */
#ifndef PAL_METHOD_TRAIN_FIXED_H
#define PAL_METHOD_TRAIN_FIXED_H

#include "graph/graph.h"
#include "method/compression.h"

typedef struct fixed {
    float **values; /* by weight of the model, NULL: as the model has it; in scratch memory */
    size_t count;
    bool any;
} fixed;

/* Starts from {0}; takes what the compression has for a weight by now, if it has anything. */
pal_status fixed_take(fixed *it, const compression *c, size_t weight);
/* Puts them into a graph of the model, which they must outlive. */
pal_status fixed_show(const fixed *it, graph *graph);
void fixed_free(fixed *it);

/* Puts the values of a weight into a graph of the model, which they must outlive. */
pal_status fixed_set_weight(graph *graph, size_t weight, const float *values);

#endif
