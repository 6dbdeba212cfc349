/* The weights that training changes, and the layers of differentiable k-means through which the
 * network sees those that are palettized. */
#ifndef PAL_METHOD_TRAIN_PARAMETERS_H
#define PAL_METHOD_TRAIN_PARAMETERS_H

#include "cluster/dkm.h"
#include "engine/gradient.h"
#include "method/compression.h"
#include "method/train/optimizer.h"
#include "method/train/trainable.h"

typedef struct parameter {
    size_t weight; /* of the model */
    weight_role role;
    uint64_t elements;
    float *variable; /* what the network computes with; the plan's memory */
    float *gradient; /* of that, after the way back; the plan's memory, free to be written; NULL
                        where none comes to a weight that shares another's values */
    float *values;   /* what is trained: the variable itself, or memory of its own if palettized */
    float *sum;      /* of the gradients of micro-batches; NULL if there is one */
    float *slots[OPTIMIZER_MOST_SLOTS];
    dkm *layer;    /* NULL: not palettized */
    size_t shares; /* the parameter whose values it must keep to, because the file has them once;
                      itself if none */
} parameter;

typedef struct parameters {
    parameter *list;
    size_t count;
    const compression *compression;
    dkm_workspace **workspaces; /* one for each thread */
    int threads;
} parameters;

/* Of the variables in the plan: those that the loss depends on, and those that have a palette in
 * common with them. Palettized ones begin with the palettes that the compression has, others as it
 * adjusted them. */
pal_status parameters_new(const compression *compression, const gradients *gradients,
                          const weight_role *roles, const recipe *recipe, size_t micro_batches,
                          parameters *out);
void parameters_free(parameters *it);

/* Sets the temperature and brings palettized weights into the variables. */
pal_status parameters_show(parameters *it, double tau);
/* After the way back of one micro-batch: adds its gradients up, where there are several. */
void parameters_gather(parameters *it, bool first);
/* After the last: the gradients of the weights behind the layers. */
pal_status parameters_lead_back(parameters *it);
/* The Euclidean norm of all gradients together. */
double parameters_norm(const parameters *it);
/* One step; gradients are multiplied by `scale` before. */
void parameters_update(parameters *it, const recipe *recipe, double lr, uint64_t step,
                       double scale);

#endif
