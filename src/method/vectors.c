#include "cluster/vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/importance.h"
#include "cluster/integers.h"
#include "method/compression.h"

enum { MOST = SCALAR_MAX_LUT };

/* One group: its vectors, divided by scales if there are such, and its table. */
typedef struct group_vectors {
    const target *target;
    uint64_t group;
    int threads;
    size_t count, dim;
    float *rows;        /* component d of vector i at [d * count + i] */
    float *scales;      /* of each vector; NULL: 1 */
    float *importance;  /* the same */
    float *centroids;   /* the table: 2^nbits x dim, as the file will have them */
    int *entries;       /* the same of an integer table; NULL otherwise, */
    integer_scale unit; /* and what they are worth */
    double peak;
} group_vectors;

static vector_set set_of(const group_vectors *v)
{
    return (vector_set){v->count, v->dim, v->rows, v->importance};
}

static void vectors_free(group_vectors *v)
{
    free(v->rows);
    free(v->scales);
    free(v->importance);
    free(v->centroids);
    free(v->entries);
}

/* ---------------------------------------------------------------- values */

static pal_status gather(group_vectors *v)
{
    const target *t = v->target;
    const size_t channels = t->channels / t->plan.groups, first = v->group * channels;
    const void *scale = t->palette ? t->palette->scale : NULL;
    size_t vector = 0;
    for (size_t o = 0; o < t->outer; o++) {
        for (size_t c = first; c < first + channels; c += v->dim) {
            for (size_t i = 0; i < t->inner; i++, vector++) {
                float divisor = scale ? grid_get(t->grid, scale, o * t->inner + i) : 1;
                double counts = 0;
                for (size_t d = 0; d < v->dim; d++) {
                    float value =
                        grid_get(t->grid, t->values, (o * t->channels + c + d) * t->inner + i);
                    if (!isfinite(value))
                        return fail(PAL_ERROR_VALUE, "a value is not finite");
                    v->rows[d * v->count + vector] = scale ? value / divisor : value;
                    v->peak = fmax(v->peak, fabs((double)value));
                    if (t->importance)
                        counts += (double)t->importance[(o * t->channels + c + d) * t->inner + i];
                }
                if (!t->importance)
                    counts = 1;
                if (scale) {
                    double share = (double)divisor / t->scale_peak;
                    v->scales[vector] = divisor;
                    counts *= share * share;
                }
                if (v->importance)
                    v->importance[vector] = (float)counts;
            }
        }
    }
    if (!importance_suffices(v->importance, v->count))
        importance_lift(v->importance, v->count);
    return PAL_OK;
}

static pal_status vectors_begin(const compression *c, const target *t, uint64_t group,
                                group_vectors *v)
{
    const bool scaled = t->settings.per_channel_scale;
    *v = (group_vectors){
        .target = t,
        .group = group,
        .threads = c->thread_count,
        .count = t->group_indices,
        .dim = t->settings.cluster_dim,
    };
    v->rows = mem_array(v->count * v->dim, sizeof *v->rows);
    v->centroids = mem_zeroed(MOST * v->dim, sizeof *v->centroids);
    if (scaled) {
        v->scales = mem_array(v->count, sizeof *v->scales);
    }
    const bool weighted = scaled || t->importance;
    if (weighted)
        v->importance = mem_array(v->count, sizeof *v->importance);
    if (!v->rows || !v->centroids || (scaled && !v->scales) || (weighted && !v->importance))
        return fail_memory("clustering vectors");
    return gather(v);
}

/* ---------------------------------------------------------------- mode unique */

static int compare_vectors(const float *a, const float *b, size_t dim)
{
    for (size_t d = 0; d < dim; d++)
        if (a[d] != b[d])
            return a[d] < b[d] ? -1 : 1;
    return 0;
}

/* The distinct vectors in ascending order, as far as there are no more than MOST; their number, or
 * MOST + 1. */
static unsigned find_distinct(const group_vectors *v, float *found)
{
    const size_t dim = v->dim;
    float vector[64];
    unsigned count = 0;
    for (size_t i = 0; i < v->count; i++) {
        unsigned low = 0, high = count;
        for (size_t d = 0; d < dim; d++)
            vector[d] = v->rows[d * v->count + i] + 0.0f; /* -0 is 0 */
        while (low < high) {
            unsigned middle = (low + high) / 2;
            if (compare_vectors(found + middle * dim, vector, dim) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < count && compare_vectors(found + low * dim, vector, dim) == 0)
            continue;
        if (count == MOST)
            return MOST + 1;
        memmove(found + (low + 1) * dim, found + low * dim, (count - low) * dim * sizeof *found);
        memcpy(found + low * dim, vector, dim * sizeof *found);
        count++;
    }
    return count;
}

static pal_status choose_distinct(group_vectors *v, unsigned k)
{
    unsigned count = find_distinct(v, v->centroids);
    if (count > k)
        return fail(PAL_ERROR_UNSUPPORTED, "more distinct vectors than were counted");
    for (unsigned i = count; i < k; i++)
        memcpy(v->centroids + i * v->dim, v->centroids + (count - 1) * v->dim,
               v->dim * sizeof *v->centroids);
    return PAL_OK;
}

/* ---------------------------------------------------------------- integer tables */

/* Rounds centroids to multiples of the scale; returns by how much that raises the error while every
 * vector keeps its centroid, of which each is the mean: their squared distance times their mass. */
static double round_to(const group_vectors *v, integer_scale scale, const float *centroids,
                       const double *mass, unsigned k, float *rounded, int *entries)
{
    const target *t = v->target;
    double raised = 0;
    for (size_t i = 0; i < k * v->dim; i++) {
        int entry = integer_entry(target_lut_grid(t), t->grid, scale, (double)centroids[i]);
        rounded[i] = (float)integer_value(t->grid, scale, entry);
        entries[i] = entry;
        double distance = (double)rounded[i] - (double)centroids[i];
        raised += mass[i / v->dim] * distance * distance;
    }
    return raised;
}

/* Masses and means of the vectors of each centroid; one without vectors stays. */
static void find_means(const group_vectors *v, const uint8_t *indices, unsigned k, double *mass,
                       double *sums, float *means)
{
    memset(mass, 0, k * sizeof *mass);
    memset(sums, 0, k * v->dim * sizeof *sums);
    for (size_t i = 0; i < v->count; i++) {
        const double weight = v->importance ? (double)v->importance[i] : 1;
        mass[indices[i]] += weight;
        for (size_t d = 0; d < v->dim; d++)
            sums[indices[i] * v->dim + d] += weight * (double)v->rows[d * v->count + i];
    }
    for (size_t i = 0; i < k * v->dim; i++)
        means[i] = mass[i / v->dim] > 0 ? (float)(sums[i] / mass[i / v->dim]) : v->centroids[i];
}

typedef struct integer_search {
    double *mass, *sums;
    float *means, *rounded;
    int *entries;
} integer_search;

static bool clips(const group_vectors *v, const integer_search *s, double scale, unsigned k)
{
    for (size_t i = 0; i < k * v->dim; i++)
        if (!integer_is_near((double)s->rounded[i], (double)s->means[i], scale))
            return true;
    return false;
}

/* The scale at which the means lose least; `fixed` ones must be in its range. */
static integer_scale best_scale(const group_vectors *v, const integer_search *s, unsigned k,
                                bool fixed)
{
    integer_scale scales[INTEGER_SCALES];
    float low = s->means[0], high = s->means[0];
    for (size_t i = 1; i < k * v->dim; i++) {
        low = fminf(low, s->means[i]);
        high = fmaxf(high, s->means[i]);
    }
    integer_scales(target_lut_grid(v->target), v->target->grid, (double)low, (double)high, scales);
    size_t best = 0;
    double least = INFINITY;
    for (size_t i = 0; i < INTEGER_SCALES; i++) {
        double raised = round_to(v, scales[i], s->means, s->mass, k, s->rounded, s->entries);
        if (raised < least && !(fixed && i && clips(v, s, scales[i].scale, k))) {
            least = raised;
            best = i;
        }
    }
    return scales[best];
}

/* Makes the table one of integers. Unless its entries are given: rounds of Lloyd's iteration, each
 * mean rounded, for as long as they help. */
static pal_status search_integers(group_vectors *v, unsigned k, bool fixed, const integer_search *s,
                                  uint8_t *indices)
{
    enum { ROUNDS = 8 };
    const vector_set set = set_of(v);
    double least = INFINITY, error;
    pal_status status = vector_assign(&set, v->centroids, k, v->threads, indices, NULL);
    for (int round = 0; !status && round < ROUNDS; round++) {
        find_means(v, indices, k, s->mass, s->sums, s->means);
        if (fixed)
            memcpy(s->means, v->centroids, k * v->dim * sizeof *s->means);
        integer_scale scale = best_scale(v, s, k, fixed);
        round_to(v, scale, s->means, s->mass, k, s->rounded, s->entries);
        status = vector_assign(&set, s->rounded, k, v->threads, indices, &error);
        if (status || !(error < least))
            break;
        least = error;
        v->unit = scale;
        memcpy(v->centroids, s->rounded, k * v->dim * sizeof *v->centroids);
        memcpy(v->entries, s->entries, k * v->dim * sizeof *v->entries);
        if (fixed)
            break;
    }
    return status;
}

static pal_status make_integers(group_vectors *v, unsigned k, bool fixed, uint8_t *indices)
{
    integer_search s = {
        .mass = mem_array(k, sizeof *s.mass),
        .sums = mem_array(k * v->dim, sizeof *s.sums),
        .means = mem_array(k * v->dim, sizeof *s.means),
        .rounded = mem_array(k * v->dim, sizeof *s.rounded),
        .entries = mem_array(k * v->dim, sizeof *s.entries),
    };
    v->entries = mem_zeroed(k * v->dim, sizeof *v->entries);
    pal_status status = s.mass && s.sums && s.means && s.rounded && s.entries && v->entries
                            ? search_integers(v, k, fixed, &s, indices)
                            : fail_memory("clustering vectors");
    free(s.mass);
    free(s.sums);
    free(s.means);
    free(s.rounded);
    free(s.entries);
    return status;
}

/* ---------------------------------------------------------------- tables */

static pal_status choose_table(group_vectors *v, uint8_t *indices)
{
    const target *t = v->target;
    const unsigned k = 1u << t->nbits;
    const bool integers = target_lut_grid(t) != t->grid;
    const vector_set set = set_of(v);
    pal_status status = PAL_OK;
    switch (t->settings.mode) {
    case MODE_UNIQUE: status = choose_distinct(v, k); break;
    case MODE_CUSTOM:
        for (size_t i = 0; i < k * v->dim; i++)
            v->centroids[i] = (float)t->settings.table->values[i];
        break;
    default: status = vector_kmeans(&set, k, v->threads, v->centroids); break;
    }
    if (!status && integers)
        return make_integers(v, k, t->settings.mode != MODE_KMEANS, indices);
    for (size_t i = 0; !status && i < k * v->dim; i++)
        v->centroids[i] = grid_stored(t->grid, (double)v->centroids[i]);
    return status;
}

static void store(const group_vectors *v)
{
    const target *t = v->target;
    const palette *p = t->palette;
    const size_t n = v->dim << t->nbits, first = v->group * n;
    const grid entries = target_lut_grid(t);
    for (size_t i = 0; i < n; i++)
        grid_put(entries, (void *)p->lut, first + i,
                 v->entries ? v->entries[i] : (double)v->centroids[i]);
    if (p->lut_scale)
        grid_put(t->grid, (void *)p->lut_scale, v->group, v->unit.scale);
    if (p->lut_offset)
        grid_put(entries, (void *)p->lut_offset, v->group, v->unit.offset);
}

/* The error of what was multiplied by its scale again. */
static double scaled_error(const group_vectors *v, const uint8_t *indices)
{
    const target *t = v->target;
    double error = 0;
    size_t vector = 0;
    const size_t channels = t->channels / t->plan.groups, first = v->group * channels;
    for (size_t o = 0; o < t->outer; o++)
        for (size_t c = first; c < first + channels; c += v->dim)
            for (size_t i = 0; i < t->inner; i++, vector++)
                for (size_t d = 0; d < v->dim; d++) {
                    float value =
                        grid_get(t->grid, t->values, (o * t->channels + c + d) * t->inner + i);
                    float product = scaled_value(
                        t->grid, v->centroids[indices[vector] * v->dim + d], v->scales[vector]);
                    double distance = (double)value - (double)product;
                    error += distance * distance;
                }
    return error;
}

static pal_status cluster(const compression *c, const unit *unit, uint64_t group,
                          thread_state *thread, group_vectors *v)
{
    target *t = &c->targets[unit->weight];
    pal_status status = vectors_begin(c, t, group, v);
    if (status)
        return status;
    if (c->counting) {
        t->group_distinct[group] = find_distinct(v, v->centroids);
        return PAL_OK;
    }
    uint8_t *indices = group_place(t, unit, group, thread);
    vector_set set = set_of(v);
    set.importance = NULL; /* the nearest is that without it, too, and the error is the plain one */
    status = choose_table(v, indices);
    if (!status)
        status = vector_assign(&set, v->centroids, 1u << t->nbits, v->threads, indices,
                               &t->group_error[group]);
    if (status)
        return status;
    store(v);
    if (v->scales)
        t->group_error[group] = scaled_error(v, indices);
    t->group_peak[group] = v->peak;
    return PAL_OK;
}

pal_status vectors_cluster(compression *c, const unit *unit, uint64_t group, thread_state *thread)
{
    group_vectors v;
    pal_status status = cluster(c, unit, group, thread, &v);
    vectors_free(&v);
    if (status != PAL_ERROR_VALUE)
        return status;
    c->targets[unit->weight].group_error[group] = NAN; /* the weight will be skipped */
    return PAL_OK;
}
