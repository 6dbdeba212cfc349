/* A group's elements are one run of channels x inner neighbours for each outer position. */
#include <math.h>
#include <string.h>

#include "cluster/dkm/layer.h"

/* ---------------------------------------------------------------- single values */

static void scale_values(const dkm *d, size_t group, scaling scaling, size_t outer, size_t at,
                         size_t count, float *values)
{
    const dkm_config *c = &d->config;
    size_t channel = group * c->channels + at / c->inner, inner = at % c->inner;
    for (size_t i = 0; i < count; i++) {
        const float scale =
            d->scale[outer * c->scale_outer + channel * c->scale_channel + inner * c->scale_inner];
        values[i] = scaling == DIVIDED ? values[i] / scale : values[i] * scale;
        if (++inner == c->inner) {
            inner = 0;
            channel++;
        }
    }
}

/* The part of `count` elements from `begin` on that lies together: where, and how many. */
static size_t together(const dkm *d, size_t group, size_t begin, size_t count, size_t *offset)
{
    const dkm_config *c = &d->config;
    const size_t run = c->channels * c->inner, outer = begin / run, at = begin % run;
    *offset = (outer * c->groups + group) * run + at;
    return run - at < count ? run - at : count;
}

const float *layout_take(const dkm *d, size_t group, const float *tensor, scaling scaling,
                         size_t begin, size_t count, float *room)
{
    const bool scaled = d->scale && scaling != UNSCALED;
    const size_t run = d->config.channels * d->config.inner;
    size_t offset;
    if (together(d, group, begin, count, &offset) == count && !scaled)
        return tensor + offset;
    for (size_t done = 0; done < count;) {
        const size_t n = together(d, group, begin + done, count - done, &offset);
        memcpy(room + done, tensor + offset, n * sizeof *room);
        if (scaled)
            scale_values(d, group, scaling, (begin + done) / run, (begin + done) % run, n,
                         room + done);
        done += n;
    }
    return room;
}

void layout_put(const dkm *d, size_t group, float *tensor, scaling scaling, size_t begin,
                size_t count, float *values)
{
    const size_t run = d->config.channels * d->config.inner;
    size_t offset;
    for (size_t done = 0; done < count;) {
        const size_t n = together(d, group, begin + done, count - done, &offset);
        if (d->scale && scaling != UNSCALED)
            scale_values(d, group, scaling, (begin + done) / run, (begin + done) % run, n,
                         values + done);
        memcpy(tensor + offset, values + done, n * sizeof *values);
        done += n;
    }
}

/* ---------------------------------------------------------------- vectors */

/* Where the components of the vectors of a block are. */
typedef struct vector_walk {
    const dkm *d;
    size_t group, outer, channel, inner; /* of the first component */
} vector_walk;

static vector_walk walk_from(const dkm *d, size_t group, size_t vector)
{
    const dkm_config *c = &d->config;
    const size_t each = c->channels / c->dim * c->inner, at = vector % each;
    return (vector_walk){d, group, vector / each, at / c->inner * c->dim, at % c->inner};
}

static size_t walk_offset(const vector_walk *w)
{
    const dkm_config *c = &w->d->config;
    return ((w->outer * c->groups + w->group) * c->channels + w->channel) * c->inner + w->inner;
}

static double walk_factor(const vector_walk *w, scaling scaling, size_t component)
{
    const dkm_config *c = &w->d->config;
    if (!w->d->scale || scaling == UNSCALED)
        return 1;
    const double scale =
        (double)w->d->scale[w->outer * c->scale_outer +
                            (w->group * c->channels + w->channel + component) * c->scale_channel +
                            w->inner * c->scale_inner];
    return scaling == DIVIDED ? 1 / scale : scale;
}

static void walk_on(vector_walk *w)
{
    const dkm_config *c = &w->d->config;
    if (++w->inner < c->inner)
        return;
    w->inner = 0;
    w->channel += c->dim;
    if (w->channel < c->channels)
        return;
    w->channel = 0;
    w->outer++;
}

static size_t block_size(const dkm *d, size_t begin)
{
    const size_t left = group_vectors(&d->config) - begin;
    return left < BLOCK ? left : BLOCK;
}

size_t layout_take_vectors(const dkm *d, size_t group, const float *tensor, scaling scaling,
                           size_t begin, double *points)
{
    const dkm_config *c = &d->config;
    const size_t count = block_size(d, begin);
    vector_walk w = walk_from(d, group, begin);
    for (size_t b = 0; b < count; b++, walk_on(&w)) {
        const float *from = tensor + walk_offset(&w);
        for (size_t i = 0; i < c->dim; i++)
            points[i * BLOCK + b] = (double)from[i * c->inner] * walk_factor(&w, scaling, i);
    }
    for (size_t i = 0; i < c->dim; i++)
        for (size_t b = count; b < BLOCK; b++)
            points[i * BLOCK + b] = points[i * BLOCK + count - 1];
    return count;
}

void layout_put_vectors(const dkm *d, size_t group, float *tensor, scaling scaling, bool add,
                        size_t begin, const double *points)
{
    const dkm_config *c = &d->config;
    const size_t count = block_size(d, begin);
    vector_walk w = walk_from(d, group, begin);
    for (size_t b = 0; b < count; b++, walk_on(&w)) {
        float *to = tensor + walk_offset(&w);
        for (size_t i = 0; i < c->dim; i++) {
            const double value = points[i * BLOCK + b] * walk_factor(&w, scaling, i);
            to[i * c->inner] = (float)(add ? (double)to[i * c->inner] + value : value);
        }
    }
}

void layout_store_vectors(const dkm *d, size_t group, float *tensor, size_t begin,
                          const double *points)
{
    const dkm_config *c = &d->config;
    const size_t count = block_size(d, begin);
    vector_walk w = walk_from(d, group, begin);
    for (size_t b = 0; b < count; b++, walk_on(&w)) {
        float *to = tensor + walk_offset(&w);
        for (size_t i = 0; i < c->dim; i++) {
            const float value = (float)points[i * BLOCK + b];
            const float scale = (float)walk_factor(&w, MULTIPLIED, i);
            to[i * c->inner] = grid_stored(c->weights, (double)(value * scale));
        }
    }
}

size_t layout_find_bad(const dkm *d, const float *tensor, scaling scaling)
{
    const dkm_config *c = &d->config;
    const size_t row = c->groups * c->channels * c->inner;
    for (size_t i = 0; i < c->outer * row; i++) {
        float value = tensor[i];
        const size_t group = i % row / (c->channels * c->inner);
        if (d->scale && scaling != UNSCALED)
            scale_values(d, group, scaling, i / row, i % (c->channels * c->inner), 1, &value);
        if (!isfinite(value))
            return i;
    }
    return SIZE_MAX;
}
