#include "method/loss.h"

#include <math.h>

pal_status loss_for(const pal_tensor *output, score_kind scores, uint64_t seed, loss *out)
{
    size_t kept[PAL_MAX_RANK], rank = 0;
    for (size_t d = 1; d < output->rank; d++)
        if (output->shape[d] != 1)
            kept[rank++] = (size_t)output->shape[d];
    *out = (loss){.kind = LOSS_CLASSES, .scores = scores, .places = 1, .classes = 1, .seed = seed};
    if (rank == 0)
        out->kind = LOSS_NUMBER;
    else if (rank == 1)
        out->classes = kept[0];
    else if (rank == 2)
        out->places = kept[0], out->classes = kept[1];
    else
        return fail(PAL_ERROR_UNSUPPORTED,
                    "output '%s' holds no scores of classes, nor a single number: another output "
                    "can be chosen with --output",
                    output->name);
    return PAL_OK;
}

/* A number in [0, 1) that depends on nothing but its arguments (SplitMix64). */
static double draw(uint64_t seed, uint64_t sample, uint64_t place)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15u + sample * 0xd1342543de82ef95u + place + 1;
    for (int i = 0; i < 2; i++) {
        z += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-53;
}

/* Below this a probability counts as this. */
#define LEAST_PROBABILITY 1e-30

/* log sum exp. */
static double log_sum(const float *scores, size_t classes, size_t stride)
{
    double largest = scores[0], sum = 0;
    for (size_t c = 1; c < classes; c++)
        largest = fmax(largest, scores[c * stride]);
    for (size_t c = 0; c < classes; c++)
        sum += exp(scores[c * stride] - largest);
    return largest + log(sum);
}

/* Probabilities at one place; returns the logarithm that softmax subtracts. */
static double probabilities(const loss *loss, const float *scores, float *to)
{
    if (loss->scores == SCORES_PROBABILITIES) {
        for (size_t c = 0; c < loss->classes; c++)
            to[c] = scores[c];
        return 0;
    }
    const double sum = log_sum(scores, loss->classes, 1);
    for (size_t c = 0; c < loss->classes; c++)
        to[c] = (float)exp(scores[c] - sum);
    return sum;
}

static size_t draw_class(const float *probability, size_t classes, double number)
{
    double below = 0;
    for (size_t c = 0; c + 1 < classes; c++) {
        below += probability[c];
        if (number < below)
            return c;
    }
    return classes - 1;
}

double loss_gradient(const loss *loss, const float *output, const int64_t *targets, uint64_t sample,
                     float *gradient)
{
    double total = 0;
    if (loss->kind == LOSS_NUMBER) {
        gradient[0] = 1;
        return output[0];
    }
    for (size_t p = 0; p < loss->places; p++) {
        const float *scores = output + p * loss->classes;
        float *to = gradient + p * loss->classes;
        if (targets && targets[p] < 0) {
            for (size_t c = 0; c < loss->classes; c++)
                to[c] = 0;
            continue;
        }
        const double sum = probabilities(loss, scores, to);
        const size_t target = targets ? (size_t)targets[p]
                                      : draw_class(to, loss->classes, draw(loss->seed, sample, p));
        if (loss->scores == SCORES_PLAIN) {
            total += sum - scores[target];
            to[target] -= 1;
            continue;
        }
        /* The output went through softmax itself: only the target's entry counts. */
        const double probability = fmax(to[target], LEAST_PROBABILITY);
        total -= log(probability);
        for (size_t c = 0; c < loss->classes; c++)
            to[c] = 0;
        to[target] = loss->scores == SCORES_LOGARITHMS ? -1 : (float)(-1 / probability);
    }
    return total;
}

double scores_divergence(score_kind kind, const float *was, const float *is, size_t classes,
                         size_t stride)
{
    const double was_sum = kind == SCORES_PLAIN ? log_sum(was, classes, stride) : 0;
    const double is_sum = kind == SCORES_PLAIN ? log_sum(is, classes, stride) : 0;
    double sum = 0;
    for (size_t c = 0; c < classes; c++) {
        double a = was[c * stride] - was_sum, b = is[c * stride] - is_sum;
        if (kind == SCORES_PROBABILITIES) {
            a = log(fmax(was[c * stride], LEAST_PROBABILITY));
            b = log(fmax(is[c * stride], LEAST_PROBABILITY));
        }
        const double p = exp(a);
        if (p != 0)
            sum += p * (a - b);
    }
    return sum < 0 ? 0 : sum; /* rounding */
}
