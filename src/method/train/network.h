/* The network that is trained and the float one that it learns from, on one micro-batch at a time.
 */
#ifndef PAL_METHOD_TRAIN_NETWORK_H
#define PAL_METHOD_TRAIN_NETWORK_H

#include "engine/gradient.h"
#include "method/feed.h"
#include "method/train/answers.h"
#include "method/train/fixed.h"
#include "method/train/objective.h"
#include "method/train/parameters.h"
#include "method/train/statistics.h"

typedef struct network {
    pal_model *model;
    int threads;
    pal_session *teacher;
    bool asks_teacher;
    answers answers; /* of the teacher, to samples of training; empty where these are augmented */
    gradients *student;
    graph *source; /* what the student is made of, where that is not the teacher's graph */
    fixed fixed;   /* what both the student and the network that is scored have in place of it */
    size_t output; /* its number */
    objective objective;
    int64_t *targets; /* of a sample */
} network;

/* The model as it was opened: the teacher, and what batches must look like. */
pal_status network_open(pal_model *model, const char *output, int threads, network *out);
/* Plans training for batches as the feed gives them; `changes`: by weight, whether it is trained.
 * Of others the network has the palettes that the compression has for them. */
pal_status network_plan(network *it, const feed *feed, const compression *compression,
                        const bool *changes, const recipe *recipe, uint64_t seed);
/* The same for variables of the plan that are no parameters, since no gradient comes to them. */
pal_status network_fix_variables(network *it, const compression *compression,
                                 const parameters *parameters);
/* Samples of `training`, which the feed brings, are the same in every epoch, so that the teacher is
 * asked once for each. */
pal_status network_remember(network *it, const feed *feed, const pal_data *training);
void network_free(network *it);

/* Runs the student forward; `run` numbers all that is ever run (dropout draws by it). */
pal_status network_run(network *it, const feed_batch *batch, uint64_t run);
/* And back: adds the loss of the samples, each divided by `samples`, and leaves the gradients of
 * that. */
pal_status network_learn(network *it, const feed_batch *batch, double samples, double *loss);

typedef struct network_score {
    double loss; /* mean */
    /* From the float model, see objective_distance(); NaN where it is not asked, and where labels
     * count in the loss, which may bring the network further. */
    double distance;
    bool labelled;
    double top1;    /* percent */
    double quality; /* top1 where labelled, else minus the loss */
    double chance;  /* the standard deviation of that, as the mean of so many samples */
} network_score;

/* Scores what the parameters' variables and the statistics are now, as the file will compute it, on
 * all samples of the feed. */
pal_status network_evaluate(network *it, feed *feed, const parameters *parameters,
                            const statistics *statistics, network_score *out);

#endif
