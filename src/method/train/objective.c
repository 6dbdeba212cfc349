#include "method/train/objective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Below this a probability counts as this. */
#define LEAST_PROBABILITY 1e-12

pal_status objective_new(const pal_tensor *output, score_kind scores, const recipe *recipe,
                         objective *out)
{
    loss shape;
    *out = (objective){.scores = scores,
                       .places = 1,
                       .width = 1,
                       .distill = recipe->distill,
                       .temperature = recipe->temperature,
                       .smoothing = recipe->label_smoothing};
    out->classes = loss_for(output, scores, 0, &shape) == PAL_OK && shape.kind == LOSS_CLASSES &&
                   shape.classes > 1;
    if (out->classes) {
        out->places = shape.places;
        out->width = shape.classes;
    } else {
        for (size_t d = 1; d < output->rank; d++)
            out->width *= (size_t)output->shape[d];
    }
    out->logits = mem_array(2 * out->width, sizeof *out->logits);
    return out->logits ? PAL_OK : fail_memory("training");
}

void objective_free(objective *it)
{
    free(it->logits);
    it->logits = NULL;
}

/* ---------------------------------------------------------------- classes */

static void logits_of(const objective *it, const float *scores, double *to)
{
    for (size_t c = 0; c < it->width; c++)
        to[c] = it->scores == SCORES_PROBABILITIES ? log(fmax((double)scores[c], LEAST_PROBABILITY))
                                                   : (double)scores[c];
}

/* log sum exp(logits / temperature). */
static double log_sum(const double *logits, size_t width, double temperature)
{
    double largest = logits[0], sum = 0;
    for (size_t c = 1; c < width; c++)
        largest = fmax(largest, logits[c]);
    for (size_t c = 0; c < width; c++)
        sum += exp((logits[c] - largest) / temperature);
    return largest / temperature + log(sum);
}

/* Adds the loss of a place and `scale` times its gradient by the logits. */
static double label_term(const objective *it, const double *logits, size_t target, double scale,
                         float *gradient)
{
    const double sum = log_sum(logits, it->width, 1);
    const double shared = it->smoothing / (double)it->width;
    double loss = 0;
    for (size_t c = 0; c < it->width; c++) {
        const double wanted = shared + (c == target ? 1 - it->smoothing : 0);
        if (c == target || (wanted > 0 && logits[c] != -INFINITY)) /* that class is ruled out */
            loss -= wanted * (logits[c] - sum);
        if (gradient)
            gradient[c] += (float)(scale * (exp(logits[c] - sum) - wanted));
    }
    return loss;
}

/* t^2 times the divergence, where t softens both. */
static double teacher_term(const objective *it, const double *logits, const double *teacher,
                           double t, double scale, float *gradient)
{
    const double own = log_sum(logits, it->width, t), its = log_sum(teacher, it->width, t);
    double loss = 0;
    for (size_t c = 0; c < it->width; c++) {
        const double log_p = teacher[c] / t - its, log_q = logits[c] / t - own, p = exp(log_p);
        if (p != 0) /* a class that is ruled out has -inf */
            loss += p * (log_p - log_q);
        if (gradient)
            gradient[c] += (float)(scale * t * (exp(log_q) - p));
    }
    return t * t * loss;
}

static double place_loss(const objective *it, const float *output, const float *teacher,
                         int64_t target, double scale, float *gradient)
{
    double *own = it->logits, *its = it->logits + it->width;
    const double share = target < 0 ? 1 : teacher ? it->distill : 0;
    double loss = 0;
    logits_of(it, output, own);
    if (target >= 0 && share < 1)
        loss += (1 - share) * label_term(it, own, (size_t)target, scale * (1 - share), gradient);
    if (teacher && share > 0) {
        logits_of(it, teacher, its);
        loss += share * teacher_term(it, own, its, it->temperature, scale * share, gradient);
    }
    /* The way from logarithms back to the probabilities that the model gives. */
    for (size_t c = 0; gradient && it->scores == SCORES_PROBABILITIES && c < it->width; c++)
        gradient[c] /= (float)fmax((double)output[c], LEAST_PROBABILITY);
    return loss;
}

/* ---------------------------------------------------------------- values */

static double distance(const objective *it, const float *output, const float *teacher, double scale,
                       float *gradient)
{
    double square = 1e-12, loss = 0;
    for (size_t e = 0; e < it->width; e++)
        square += (double)teacher[e] * teacher[e];
    for (size_t e = 0; e < it->width; e++) {
        const double difference = (double)output[e] - teacher[e];
        loss += difference * difference / square;
        if (gradient)
            gradient[e] = (float)(scale * 2 * difference / square);
    }
    return loss;
}

double objective_sample(const objective *it, const float *output, const float *teacher,
                        const int64_t *targets, double scale, float *gradient)
{
    if (gradient)
        memset(gradient, 0, it->places * it->width * sizeof *gradient);
    if (!it->classes)
        return teacher ? distance(it, output, teacher, scale, gradient) : 0;
    size_t counted = 0;
    for (size_t p = 0; p < it->places; p++)
        counted += teacher || (targets && targets[p] >= 0);
    double loss = 0;
    for (size_t p = 0; counted && p < it->places; p++) {
        const size_t at = p * it->width;
        loss +=
            place_loss(it, output + at, teacher ? teacher + at : NULL, targets ? targets[p] : -1,
                       scale / (double)counted, gradient ? gradient + at : NULL);
    }
    return counted ? loss / (double)counted : 0;
}

double objective_distance(const objective *it, const float *output, const float *teacher)
{
    double sum = 0;
    if (!it->classes)
        return distance(it, output, teacher, 0, NULL);
    for (size_t p = 0; p < it->places; p++)
        sum += scores_divergence(it->scores, teacher + p * it->width, output + p * it->width,
                                 it->width, 1);
    return sum / (double)it->places;
}
