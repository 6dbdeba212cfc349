/* Per-channel scales, as coremltools' palettize_weights has them: the largest magnitude along the
 * channel axis. So a scale belongs to a position in the other dimensions (an input channel and a
 * place in the kernel), not to an output channel, whatever the name says. */
#include <math.h>

#include "method/compression.h"

void scales_find(target *t)
{
    void *scale = (void *)t->palette->scale;
    /* A channel of zeros needs a scale that is none; the smallest keeps what is looked up near 0.
     */
    const double smallest = t->grid == GRID_FLOAT16 ? 0x1p-14 : 0x1p-126;
    t->scale_peak = smallest;
    for (size_t o = 0; o < t->outer; o++) {
        for (size_t c = 0; c < t->channels; c++) {
            for (size_t i = 0; i < t->inner; i++) {
                const size_t at = o * t->inner + i;
                double value = fabs(
                    (double)grid_get(t->grid, t->values, (o * t->channels + c) * t->inner + i));
                if (value > (double)grid_get(t->grid, scale, at))
                    grid_put(t->grid, scale, at, value);
            }
        }
    }
    for (size_t at = 0; at < t->outer * t->inner; at++) {
        double value = (double)grid_get(t->grid, scale, at);
        if (value < smallest)
            grid_put(t->grid, scale, at, smallest);
        t->scale_peak = fmax(t->scale_peak, value);
    }
}

scaled_walk scaled_walk_begin(const target *t, uint64_t group)
{
    const size_t count = t->channels / t->plan.groups;
    return (scaled_walk){
        .target = t,
        .first = group * count,
        .count = count,
        .dense = t->values,
        .scale = t->palette->scale,
    };
}

size_t scaled_walk_next(scaled_walk *w, size_t most, float *values, float *scales)
{
    const target *t = w->target;
    size_t n = 0;
    while (n < most && w->o < t->outer) {
        const size_t row = (w->o * t->channels + w->first + w->c) * t->inner;
        const size_t left = t->inner - w->i, take = most - n < left ? most - n : left;
        for (size_t j = 0; j < take; j++) {
            values[n + j] = grid_get(t->grid, w->dense, row + w->i + j);
            scales[n + j] = grid_get(t->grid, w->scale, w->o * t->inner + w->i + j);
        }
        n += take;
        w->i += take;
        if (w->i == t->inner) {
            w->i = 0;
            if (++w->c == w->count) {
                w->c = 0;
                w->o++;
            }
        }
    }
    return n;
}
