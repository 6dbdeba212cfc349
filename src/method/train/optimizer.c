#include "method/train/optimizer.h"

#include <math.h>

size_t optimizer_slots(optimizer_kind kind, double momentum)
{
    if (kind == OPTIMIZER_ADAMW)
        return 2;
    return momentum > 0 ? 1 : 0;
}

static void sgd(const optimizer *it, size_t count, float *restrict w, const float *restrict g,
                float *restrict velocity)
{
    const float lr = (float)it->lr, decay = (float)it->decay, momentum = (float)it->momentum;
    if (!velocity) {
        for (size_t i = 0; i < count; i++)
            w[i] -= lr * (g[i] + decay * w[i]);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const float gradient = g[i] + decay * w[i];
        velocity[i] = momentum * velocity[i] + gradient;
        w[i] -= lr * (gradient + momentum * velocity[i]);
    }
}

static void adamw(const optimizer *it, size_t count, float *restrict w, const float *restrict g,
                  float *restrict first, float *restrict second)
{
    static const double beta2 = 0.999, epsilon = 1e-8;
    const double steps = (double)it->step + 1;
    const float b1 = (float)it->momentum, rest1 = (float)(1 - it->momentum);
    const float b2 = (float)beta2, rest2 = (float)(1 - beta2);
    const float keep = (float)(1 - it->lr * it->decay);
    const float rate = (float)(it->lr / (1 - pow(it->momentum, steps)));
    const float unbias = (float)(1 / sqrt(1 - pow(beta2, steps)));
    for (size_t i = 0; i < count; i++) {
        first[i] = b1 * first[i] + rest1 * g[i];
        second[i] = b2 * second[i] + rest2 * g[i] * g[i];
        w[i] = keep * w[i] - rate * first[i] / (sqrtf(second[i]) * unbias + (float)epsilon);
    }
}

void optimizer_update(const optimizer *it, size_t count, float *weights, const float *gradient,
                      float *const slots[OPTIMIZER_MOST_SLOTS])
{
    if (it->kind == OPTIMIZER_SGD)
        sgd(it, count, weights, gradient, slots[0]);
    else
        adamw(it, count, weights, gradient, slots[0], slots[1]);
}
