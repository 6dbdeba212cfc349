/* What training makes small: the distance of a model's output from labels and from what the float
 * model says. */
#ifndef PAL_METHOD_TRAIN_OBJECTIVE_H
#define PAL_METHOD_TRAIN_OBJECTIVE_H

#include "method/loss.h"
#include "method/train/recipe.h"

typedef struct objective {
    bool classes; /* of scores of classes; otherwise of plain values, for which there are no labels
                   */
    score_kind scores;
    size_t places, width; /* of one sample: places of so many scores or values */
    double distill, temperature, smoothing;
    double *logits; /* room for two times `width` */
} objective;

/* For an output as loss_for() sees it. Outputs that hold no scores are brought close to the float
 * model's as they are. */
pal_status objective_new(const pal_tensor *output, score_kind scores, const recipe *recipe,
                         objective *out);
void objective_free(objective *it);

/* The loss of one sample. Of scores: at each place
 *     (1 - distill) cross entropy(smoothed label) + distill temperature^2 KL(teacher || output),
 * both of the latter softened by the temperature; without a label the second term alone, and
 * without a teacher the first. The mean over the places that have either. Of values: the squared
 * distance from the teacher, relative to the teacher's square.
 *
 * targets: a class for each place, -1 for none; or NULL. teacher: the float model's output, or
 * NULL. Writes scale times the gradient by the output; gradient may be NULL. */
double objective_sample(const objective *it, const float *output, const float *teacher,
                        const int64_t *targets, double scale, float *gradient);

/* How far a sample's output is from the teacher's: the mean over places of KL(teacher || output),
 * in nats; of values the loss. */
double objective_distance(const objective *it, const float *output, const float *teacher);

#endif
