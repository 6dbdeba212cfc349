/* What training has found, as it will be in the file: tables, indices, and the values of what stays
 * dense. The best one so far is kept, in scratch memory: the last whose score on what is held back
 * is within chance of the highest. */
#ifndef PAL_METHOD_TRAIN_RESULT_H
#define PAL_METHOD_TRAIN_RESULT_H

#include "method/train/parameters.h"
#include "method/train/statistics.h"

typedef struct result_weight {
    float *lut;       /* palettized: [groups, clusters, dim] */
    uint8_t *indices; /* and row-major, one for each index */
    float *values;    /* dense */
} result_weight;

typedef struct result {
    bool any;
    double least;  /* of the quality of one that takes its place: the best that was seen, less what
                      chance does to it */
    uint64_t step; /* after so many */
    result_weight *weights;     /* by parameter */
    float **means, **variances; /* by batch norm */
    size_t weight_count, norm_count;
} result;

pal_status result_new(const parameters *parameters, const statistics *statistics, result *out);
void result_free(result *it);

/* Brings hard weights into the variables of the network: each is its entry of the table. */
pal_status result_show(const parameters *parameters);
/* Keeps what parameters and statistics are now. */
pal_status result_keep(result *it, const parameters *parameters, const statistics *statistics);
/* Gives it all to the weights of the compression; of what training began with only the palettes,
 * for the start has given it the rest. */
pal_status result_apply(const result *it, const parameters *parameters,
                        const statistics *statistics, compression *compression);

#endif
