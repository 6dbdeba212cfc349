#include "cluster/dkm/nodes.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/variants.h"

enum {
    WAY_BITS = 15,    /* of the way from one node to the next */
    COUNT_SHIFT = 40, /* a tally: how many above, the sum of their ways below */
    PIECE = 64 * CHUNK,
    ROUND = 255 * PIECE, /* fewer than 2^24, for the tally to hold them */
};

static const double WAYS = 1 << WAY_BITS;

/* ---------------------------------------------------------------- choosing nodes */

enum { LEAST_NODES = 1024 };

/* At least as many as wanted, but at most half as many as there are weights. */
static size_t power_from(double wanted, size_t n)
{
    size_t nodes = LEAST_NODES;
    while (nodes < MOST_NODES && nodes * 4 <= n && (double)nodes < wanted)
        nodes *= 2;
    return nodes;
}

size_t nodes_most(const dkm_config *config, dkm_mode mode)
{
    enum { FEW = 2048 };
    const size_t n = group_elements(config);
    if (config->dim > 1 || mode != DKM_SOFT || config->nodes == DKM_EXACT)
        return 0;
    if (config->nodes)
        return config->nodes;
    return n <= FEW ? 0 : power_from(INFINITY, n);
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Three quarters of the gaps between neighbouring centroids are no wider. */
static double wide_gap(const double *centroids, unsigned k)
{
    double sorted[DKM_MOST_CLUSTERS];
    memcpy(sorted, centroids, k * sizeof *sorted);
    qsort(sorted, k, sizeof *sorted, ascending);
    for (unsigned j = 0; j + 1 < k; j++)
        sorted[j] = sorted[j + 1] - sorted[j];
    if (k < 2)
        return 0;
    qsort(sorted, k - 1, sizeof *sorted, ascending);
    return sorted[3 * (k - 1) / 4];
}

/* Attention goes over from one centroid to the next within tau / (2 gap), and from one of many that
 * are closer than that to others within sqrt(tau / 2). */
size_t nodes_enough(const dkm_config *config, double tau, const double *centroids, double range)
{
    enum { STEPS = 16 }; /* of such a width */
    const size_t most = nodes_most(config, DKM_SOFT);
    if (config->nodes || most == 0)
        return most;
    const double gap = wide_gap(centroids, config->clusters);
    const double width = fmin(sqrt(tau / 2), gap > 0 ? tau / (2 * gap) : INFINITY);
    return power_from(STEPS * range / width, group_elements(config));
}

/* Steps have few digits, and the first node is a multiple of them, so that 0 is a node, and nodes
 * seldom move from step to step of the training. */
void nodes_place(nodes *n, double low, double high, size_t most)
{
    const double peak = fmax(fabs(low), fabs(high));
    const double least =
        fmax(fmax((high - low) / (double)(most - 1), ldexp(peak, -32)), ldexp(1, -140));
    int exponent;
    frexp(least, &exponent);
    for (int eighths = 4;; eighths++) {
        n->step = ldexp(eighths, exponent - 3);
        if (n->step < least)
            continue;
        n->first = floor(low / n->step) * n->step;
        n->count = (size_t)((high - n->first) / n->step) + 1;
        if (n->count <= most)
            return;
    }
}

/* ---------------------------------------------------------------- places of weights */

/* (value - first) / step in units of 2^-WAY_BITS, kept within the nodes whatever the value. */
VARIANT_BODY void find_places_body(const float *restrict values, size_t count, double first,
                                   double per_way, double most, int32_t *restrict places)
{
    for (size_t i = 0; i < count; i++) {
        double x = ((double)values[i] - first) * per_way;
        x = x > 0 ? x : 0;
        x = x < most ? x : most;
        places[i] = (int32_t)x;
    }
}

LOCAL_VARIANTS(void, find_places,
               (const float *restrict values, size_t count, double first, double per_way,
                double most, int32_t *restrict places),
               (values, count, first, per_way, most, places))

static void places_of(const nodes *n, const float *values, size_t count, int32_t *places)
{
    find_places(values, count, n->first, WAYS / n->step, (double)n->count * WAYS - 1, places);
}

static inline uint32_t interval_of(int32_t place)
{
    return (uint32_t)place >> WAY_BITS;
}

static inline uint32_t way_of(int32_t place)
{
    return (uint32_t)place & ((1u << WAY_BITS) - 1);
}

size_t nodes_interval(const nodes *n, float value)
{
    int32_t place;
    places_of(n, &value, 1, &place);
    return interval_of(place);
}

double nodes_mean(const nodes *n, size_t u)
{
    return n->first + ((double)u + (double)n->way[u] / WAYS / (double)n->number[u]) * n->step;
}

/* Gradients as whole numbers of 1 / unit, and the parts of them that belong to the right node;
 * below 2^51, where adding 1.5 2^52 leaves a double's lower bits to be the number. */
VARIANT_BODY void find_parts_body(const float *restrict gradients, const int32_t *restrict places,
                                  size_t count, double unit, int64_t *restrict parts)
{
    const double shift = 0x1.8p52;
    for (size_t i = 0; i < count; i++) {
        const double all = (double)gradients[i] * unit;
        const double far = all * ((double)(places[i] & ((1 << WAY_BITS) - 1)) * (1 / WAYS));
        const double shifted_all = all + shift, shifted_far = far + shift;
        int64_t bits_all, bits_far, bits_shift;
        memcpy(&bits_shift, &shift, sizeof shift);
        memcpy(&bits_all, &shifted_all, sizeof shift);
        memcpy(&bits_far, &shifted_far, sizeof shift);
        parts[i] = bits_all - bits_shift;
        parts[CHUNK + i] = bits_far - bits_shift;
    }
}

LOCAL_VARIANTS(void, find_parts,
               (const float *restrict gradients, const int32_t *restrict places, size_t count,
                double unit, int64_t *restrict parts),
               (gradients, places, count, unit, parts))

/* ---------------------------------------------------------------- counting */

/* A group on its way through the threads. */
typedef struct spread {
    const team *team;
    const dkm *d;
    size_t group;
    const float *weights, *out;
    float *to;
    double unit;       /* of gradients */
    size_t begin, end; /* of this round */
} spread;

static void count_chunk(const spread *s, place *own, size_t begin, size_t count)
{
    const nodes *n = &team_lead(s->team)->nodes;
    float room[CHUNK];
    int32_t places[CHUNK];
    int64_t parts[2 * CHUNK];
    const float *values = layout_take(s->d, s->group, s->weights, DIVIDED, begin, count, room);
    places_of(n, values, count, places);
    for (size_t i = 0; i < count; i++)
        own->tally[interval_of(places[i])] += (UINT64_C(1) << COUNT_SHIFT) + way_of(places[i]);
    if (!s->out)
        return;
    const float *gradients = layout_take(s->d, s->group, s->out, MULTIPLIED, begin, count, room);
    find_parts(gradients, places, count, s->unit, parts);
    for (size_t i = 0; i < count; i++) {
        int64_t *to = own->gradient + 2 * interval_of(places[i]);
        to[0] += parts[i];
        to[1] += parts[CHUNK + i];
    }
}

static void count_piece(void *user, place *own, size_t i)
{
    const spread *s = user;
    const size_t begin = s->begin + i * PIECE;
    const size_t end = s->end - begin < PIECE ? s->end : begin + PIECE;
    for (size_t at = begin; at < end; at += CHUNK)
        count_chunk(s, own, at, end - at < CHUNK ? end - at : CHUNK);
}

static void clear_tallies(const team *team, size_t count, bool gradients)
{
    for (int i = 0; i < team->threads; i++) {
        place *own = team_place(team, i);
        memset(own->tally, 0, count * sizeof *own->tally);
        if (gradients)
            memset(own->gradient, 0, 2 * count * sizeof *own->gradient);
    }
}

static void add_tallies(const team *team, nodes *n, bool gradients)
{
    for (int i = 0; i < team->threads; i++) {
        const place *own = team_place(team, i);
        for (size_t u = 0; u < n->count; u++) {
            n->number[u] += own->tally[u] >> COUNT_SHIFT;
            n->way[u] += own->tally[u] & ((UINT64_C(1) << COUNT_SHIFT) - 1);
        }
        for (size_t u = 0; gradients && u < 2 * n->count; u++)
            n->gradient[u] += own->gradient[u];
    }
}

static size_t padded_nodes(const nodes *n)
{
    return (n->count + 1 + BLOCK - 1) / BLOCK * BLOCK;
}

/* From sums over intervals to sums over nodes. */
static void share_out(nodes *n, bool gradients, double unit)
{
    const size_t all = padded_nodes(n);
    for (size_t u = 0; u <= n->count; u++) {
        const double own = u < n->count ? (double)n->number[u] - (double)n->way[u] / WAYS : 0;
        n->mass[u] = own + (u > 0 ? (double)n->way[u - 1] / WAYS : 0);
    }
    for (size_t u = 0; gradients && u <= n->count; u++) {
        const int64_t own = u < n->count ? n->gradient[2 * u] - n->gradient[2 * u + 1] : 0;
        n->incoming[u] = (double)(own + (u > 0 ? n->gradient[2 * u - 1] : 0)) / unit;
    }
    for (size_t u = n->count + 1; u < all; u++)
        n->mass[u] = n->incoming[u] = 0;
    memset(n->alive, 0, all / BLOCK);
    for (size_t u = 0; u < n->count; u++)
        if (n->number[u])
            n->alive[u / BLOCK] = n->alive[(u + 1) / BLOCK] = 1;
}

void nodes_count(const team *team, const dkm *d, size_t group, const float *weights,
                 const float *out, double peak)
{
    nodes *n = &team_lead(team)->nodes;
    const size_t all = group_elements(&d->config);
    spread s = {.team = team, .d = d, .group = group, .weights = weights, .out = out, .unit = 1};
    int exponent, bits = 0;
    while ((size_t)1 << bits < all)
        bits++;
    if (peak > 0) {
        frexp(peak, &exponent); /* sums of n must stay below 2^62 */
        s.unit = ldexp(1, (bits < 12 ? 50 : 62 - bits) - exponent);
    }
    memset(n->number, 0, n->count * sizeof *n->number);
    memset(n->way, 0, n->count * sizeof *n->way);
    if (out)
        memset(n->gradient, 0, 2 * n->count * sizeof *n->gradient);
    for (s.begin = 0; s.begin < all; s.begin = s.end) {
        s.end = all - s.begin < ROUND ? all : s.begin + ROUND;
        clear_tallies(team, n->count, out);
        team_run(team, (s.end - s.begin + PIECE - 1) / PIECE, count_piece, &s);
        add_tallies(team, n, out);
    }
    share_out(n, out, s.unit);
}

/* ---------------------------------------------------------------- reading off */

static void read_outputs_piece(void *user, place *own, size_t i)
{
    (void)own;
    const spread *s = user;
    const nodes *n = &team_lead(s->team)->nodes;
    const size_t end = s->end - i * PIECE < PIECE ? s->end : (i + 1) * PIECE;
    float room[CHUNK], outputs[CHUNK];
    int32_t places[CHUNK];
    for (size_t at = i * PIECE; at < end; at += CHUNK) {
        const size_t count = end - at < CHUNK ? end - at : CHUNK;
        places_of(n, layout_take(s->d, s->group, s->weights, DIVIDED, at, count, room), count,
                  places);
        for (size_t j = 0; j < count; j++) {
            const line l = n->lines[interval_of(places[j])];
            outputs[j] = l.value + l.slope * ((float)way_of(places[j]) * (float)(1 / WAYS));
        }
        layout_put(s->d, s->group, s->to, MULTIPLIED, at, count, outputs);
    }
}

void nodes_read_outputs(const team *team, const dkm *d, size_t group, const float *weights,
                        float *palettized)
{
    nodes *n = &team_lead(team)->nodes;
    for (size_t u = 0; u < n->count; u++)
        n->lines[u] = (line){(float)n->output[u], (float)(n->output[u + 1] - n->output[u])};
    spread s = {.team = team,
                .d = d,
                .group = group,
                .weights = weights,
                .to = palettized,
                .end = group_elements(&d->config)};
    team_run(team, (s.end + PIECE - 1) / PIECE, read_outputs_piece, &s);
}

static void read_gradients_piece(void *user, place *own, size_t i)
{
    (void)own;
    const spread *s = user;
    const nodes *n = &team_lead(s->team)->nodes;
    const size_t end = s->end - i * PIECE < PIECE ? s->end : (i + 1) * PIECE;
    float room[CHUNK], results[CHUNK];
    int32_t places[CHUNK];
    for (size_t at = i * PIECE; at < end; at += CHUNK) {
        const size_t count = end - at < CHUNK ? end - at : CHUNK;
        places_of(n, layout_take(s->d, s->group, s->weights, DIVIDED, at, count, room), count,
                  places);
        const float *out = layout_take(s->d, s->group, s->out, MULTIPLIED, at, count, room);
        for (size_t j = 0; j < count; j++) {
            const line l = n->lines[interval_of(places[j])];
            results[j] = out[j] * l.value + l.slope;
        }
        layout_put(s->d, s->group, s->to, DIVIDED, at, count, results);
    }
}

void nodes_read_gradients(const team *team, const dkm *d, size_t group, const float *weights,
                          const float *out, float *gradient)
{
    nodes *n = &team_lead(team)->nodes;
    for (size_t u = 0; u < n->count; u++)
        n->lines[u] = (line){(float)((n->output[u + 1] - n->output[u]) / n->step),
                             (float)((n->by_mass[u + 1] - n->by_mass[u]) / n->step)};
    spread s = {.team = team,
                .d = d,
                .group = group,
                .weights = weights,
                .out = out,
                .to = gradient,
                .end = group_elements(&d->config)};
    team_run(team, (s.end + PIECE - 1) / PIECE, read_gradients_piece, &s);
}

/* ---------------------------------------------------------------- least and greatest */

typedef struct extremes {
    float low, high;
    bool finite;
} extremes;

VARIANT_BODY void extremes_of_body(const float *restrict values, size_t count, extremes *e)
{
    enum { LANES = 16 };
    float low[LANES], high[LANES], magnitude[LANES];
    for (size_t l = 0; l < LANES; l++) {
        low[l] = e->low;
        high[l] = e->high;
        magnitude[l] = 0;
    }
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t l = 0; l < LANES; l++) {
            const float x = values[i + l];
            low[l] = x < low[l] ? x : low[l];
            high[l] = x > high[l] ? x : high[l];
            magnitude[l] += x - x; /* NaN from then on, if x is not finite */
        }
    for (; i < count; i++) {
        low[0] = values[i] < low[0] ? values[i] : low[0];
        high[0] = values[i] > high[0] ? values[i] : high[0];
        magnitude[0] += values[i] - values[i];
    }
    for (size_t l = 0; l < LANES; l++) {
        e->low = low[l] < e->low ? low[l] : e->low;
        e->high = high[l] > e->high ? high[l] : e->high;
        e->finite &= magnitude[l] == 0;
    }
}

LOCAL_VARIANTS(void, extremes_of, (const float *restrict values, size_t count, extremes *e),
               (values, count, e))

typedef struct scan {
    const dkm *d;
    size_t group;
    const float *tensor;
    scaling scaling;
    double *found; /* low and high of each piece; NaN where not all is finite */
} scan;

static void scan_piece(void *user, place *own, size_t i)
{
    (void)own;
    const scan *s = user;
    const size_t all = group_elements(&s->d->config);
    const size_t end = all - i * PIECE < PIECE ? all : (i + 1) * PIECE;
    float room[CHUNK];
    extremes e = {FLT_MAX, -FLT_MAX, true};
    for (size_t at = i * PIECE; at < end; at += CHUNK) {
        const size_t count = end - at < CHUNK ? end - at : CHUNK;
        extremes_of(layout_take(s->d, s->group, s->tensor, s->scaling, at, count, room), count, &e);
    }
    s->found[2 * i] = e.finite ? (double)e.low : NAN;
    s->found[2 * i + 1] = (double)e.high;
}

size_t scan_pieces(const dkm_config *config)
{
    return 2 * ((group_elements(config) + PIECE - 1) / PIECE);
}

bool scan_range(const team *team, const dkm *d, size_t group, const float *tensor, scaling scaling,
                double *low, double *high)
{
    scan s = {d, group, tensor, scaling, team_lead(team)->pieces};
    const size_t pieces = scan_pieces(&d->config) / 2;
    bool finite = true;
    team_run(team, pieces, scan_piece, &s);
    *low = s.found[0];
    *high = s.found[1];
    for (size_t i = 0; i < pieces; i++) {
        finite &= !isnan(s.found[2 * i]);
        *low = fmin(*low, s.found[2 * i]);
        *high = fmax(*high, s.found[2 * i + 1]);
    }
    return finite;
}
