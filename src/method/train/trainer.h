/* A run of training: what the files of this folder share.
 *
 *   trainer.c        the order of things: prepare, step, finish
 *   trainer_state.c  checkpoints of it
 *   samples.c        which samples are trained on, and which are held back
 *   start.c          palettes that training begins with, and weights that belong to them
 *   network.c        the network that is trained, and the float one that it learns from
 *   fixed.c          palettized weights that training does not change
 *   answers.c        what the float one said of each sample
 *   objective.c      the loss
 *   trainable.c      which weights may change
 *   parameters.c     those weights, and the layers of differentiable k-means before them
 *   optimizer.c      how a gradient changes them
 *   schedule.c       learning rate and temperature
 *   statistics.c     batch norms' means and variances
 *   result.c         the hard network that will be written; the best so far
 *   checkpoint.c     the file of a checkpoint
 *   training_log.c   the log */
#ifndef PAL_METHOD_TRAIN_TRAINER_H
#define PAL_METHOD_TRAIN_TRAINER_H

#include "method/compression.h"
#include "method/method_options.h"
#include "method/train/network.h"
#include "method/train/result.h"
#include "method/train/training_log.h"

struct pal_trainer {
    compression compression;
    bool compressing; /* it has begun and is neither ended nor abandoned */
    recipe recipe;
    uint64_t seed;
    double enough; /* the distance from the float model at which training without labels ends */
    augmentation augmentation;
    pal_data *training, *held_back; /* held_back: NULL if none */
    feed *feed, *held_back_feed;
    network network;
    parameters parameters;
    statistics statistics;
    result best;
    training_log log;
    size_t batch, micro_batches; /* samples of a step; micro-batches of it */
    uint64_t step, epoch_steps;
    uint64_t steps;    /* of all epochs; those made where the network has come close enough */
    bool positioned;   /* the feed stands where the next step begins */
    double *centroids; /* of all layers, for checkpoints */
    size_t centroid_count;
    double started; /* of the steps that this process has made */
    uint64_t started_step;
    uint64_t data_sum;   /* of the data that is trained on, for checkpoints */
    uint64_t saved_step; /* that the checkpoint holds; UINT64_MAX: there is none */
};

/* Prepares, makes all steps and finishes. */
pal_status train(pal_model *model, const pal_options *options, const pal_method_options *method,
                 const pal_data *data, pal_progress progress, void *user, pal_report **report);

/* ---------------------------------------------------------------- trainer_state.c */

/* Room for the centroids of all layers, and what tells the run's data from other data. */
pal_status trainer_state_new(pal_trainer *it);
/* Writes recipe.checkpoint. */
pal_status trainer_save(pal_trainer *it);
/* Goes on from recipe.resume. */
pal_status trainer_restore(pal_trainer *it);

#endif
