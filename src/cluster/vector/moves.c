/* Each cluster is asked two things: what would be lost by giving it up (its members go to their
 * second nearest centroid), and what would be won by splitting it (two means of its members). The
 * centroids of clusters with a small loss then move into clusters with a large win, many at a time
 * as in breathing k-means (Fritzke 2020), Lloyd's iterations follow, and the result stays if it is
 * better. Half as many are tried next where it is not, and in the end single ones, also such that
 * promise nothing: what the iterations find is more than the questions can see. */
#include "cluster/vector/moves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

/* What is known of each cluster, as they were when it was made: `c` has gone on to trials since. */
typedef struct survey {
    const clustering *c;
    size_t dim;
    size_t members[MOST_SITES];
    size_t first[MOST_SITES + 1]; /* its members are in tiles from here on */
    size_t filled[MOST_SITES];
    float *values, *weights;      /* members in tiles, as in struct tiles */
    unsigned nearest[MOST_SITES]; /* the nearest other centroid */
    double loss[MOST_SITES], win[MOST_SITES];
    float *halves;                                    /* k x 2 x dim: two means of its members */
    unsigned by_loss[MOST_SITES], by_win[MOST_SITES]; /* clusters in order */
    float *rows;                                      /* for each thread, as in struct sites */
    double *scratch;                                  /* for each thread, 4 (dim + 1) */
} survey;

static void survey_free(survey *s)
{
    free(s->values);
    free(s->weights);
    free(s->halves);
    free(s->rows);
    free(s->scratch);
}

static pal_status survey_init(survey *s, const clustering *c)
{
    const size_t dim = c->set->dim, tiles = c->set->tile_count + c->k, threads = (size_t)c->threads;
    s->c = c;
    s->dim = dim;
    s->values = mem_array(tiles * dim * TILE, sizeof *s->values);
    s->weights = mem_array(tiles * TILE, sizeof *s->weights);
    s->halves = mem_array((size_t)c->k * 2 * dim, sizeof *s->halves);
    s->rows = mem_array(threads * MOST_SITES * row_stride(dim), sizeof *s->rows);
    s->scratch = mem_array(threads * 4 * (dim + 1), sizeof *s->scratch);
    if (s->values && s->weights && s->halves && s->rows && s->scratch)
        return PAL_OK;
    survey_free(s);
    return fail_memory("clustering vectors");
}

/* Brings the members of each cluster together; the last tile of each repeats its last one. */
static void gather(survey *s)
{
    const clustering *c = s->c;
    const size_t dim = s->dim;
    s->first[0] = 0;
    for (unsigned j = 0; j < c->k; j++) {
        s->first[j + 1] = s->first[j] + (c->members[j] + TILE - 1) / TILE;
        s->filled[j] = 0;
    }
    for (size_t tile = 0; tile < c->set->tile_count; tile++) {
        const float *values = tile_values(c->set, tile), *weights = tile_weights(c->set, tile);
        for (size_t i = 0; i < TILE; i++) {
            if (!(weights[i] > 0))
                continue;
            const unsigned j = c->index[tile * TILE + i];
            const size_t at = s->filled[j]++, to = s->first[j] + at / TILE;
            for (size_t d = 0; d < dim; d++)
                s->values[(to * dim + d) * TILE + at % TILE] = values[d * TILE + i];
            s->weights[to * TILE + at % TILE] = weights[i];
        }
    }
    for (unsigned j = 0; j < c->k; j++) {
        for (size_t at = s->filled[j]; at % TILE; at++) {
            const size_t to = s->first[j] + at / TILE;
            for (size_t d = 0; d < dim; d++) {
                float *row = s->values + (to * dim + d) * TILE;
                row[at % TILE] = row[at % TILE - 1];
            }
            s->weights[to * TILE + at % TILE] = 0;
        }
    }
}

static unsigned nearest_other(const clustering *c, unsigned j)
{
    const size_t dim = c->set->dim;
    unsigned nearest = j ? 0 : 1;
    double least = INFINITY;
    for (unsigned o = 0; o < c->k; o++) {
        double square = 0;
        for (size_t d = 0; d < dim && o != j; d++) {
            double u = (double)c->centroids[j * dim + d] - (double)c->centroids[o * dim + d];
            square += u * u;
        }
        if (o != j && square < least) {
            least = square;
            nearest = o;
        }
    }
    return nearest;
}

/* What the error rises by if the members of cluster j go to their second nearest centroids. */
static double find_loss(const survey *s, unsigned j, float *rows, float *box)
{
    const size_t dim = s->dim;
    const float *own = s->c->table.rows + j * row_stride(dim);
    uint8_t which[MOST_SITES], nearest[TILE];
    float second[TILE];
    double loss = 0;
    for (size_t tile = s->first[j]; tile < s->first[j + 1]; tile++) {
        const float *values = s->values + tile * dim * TILE, *weights = s->weights + tile * TILE;
        tile_box(values, dim, box);
        unsigned m = sites_near(&s->c->table, box, s->nearest[j], j, which, rows);
        tile_nearest(values, dim, rows, which, m, second, nearest);
        for (size_t d = 0; d < dim; d++)
            for (size_t i = 0; i < TILE; i++) {
                float difference = values[d * TILE + i] - own[d];
                second[i] -= difference * difference;
            }
        for (size_t i = 0; i < TILE; i++)
            loss += (double)weights[i] * (double)second[i];
    }
    return loss;
}

/* The component in which the members of cluster j vary most, and their standard deviation. */
static size_t widest(const survey *s, unsigned j, const float *mean, double *deviation)
{
    const size_t dim = s->dim;
    size_t axis = 0;
    double most = -1;
    for (size_t d = 0; d < dim; d++) {
        double square[TILE] = {0}, sum = 0;
        for (size_t tile = s->first[j]; tile < s->first[j + 1]; tile++) {
            const float *x = s->values + (tile * dim + d) * TILE, *w = s->weights + tile * TILE;
            for (size_t i = 0; i < TILE; i++) {
                double beside = (double)x[i] - (double)mean[d];
                square[i] += (double)w[i] * (beside * beside);
            }
        }
        for (size_t i = 0; i < TILE; i++)
            sum += square[i];
        if (sum > most) {
            most = sum;
            axis = d;
        }
    }
    *deviation = sqrt(most / s->c->totals[j * (dim + 1) + dim]);
    return axis;
}

/* Two means of the members of cluster j, by Lloyd's iterations from both sides of its widest
 * component; what the error falls by. Everything is seen from the mean of the members. */
static double find_win(const survey *s, unsigned j, double *scratch)
{
    enum { ROUNDS = 10 };
    const size_t dim = s->dim;
    const double *total = s->c->totals + j * (dim + 1);
    float *low = s->halves + (size_t)j * 2 * dim, *high = low + dim;
    double deviation, win = 0, *beyond = scratch, *rest = scratch + dim + 1;
    float *mean = (float *)(scratch + 2 * (dim + 1)), *a = mean + dim + 1;
    if (!s->c->members[j])
        return 0;
    for (size_t d = 0; d < dim; d++) {
        mean[d] = (float)(total[d] / total[dim]);
        low[d] = high[d] = 0;
    }
    const size_t axis = widest(s, j, mean, &deviation);
    low[axis] = -(float)deviation;
    high[axis] = (float)deviation;
    for (int round = 0; round < ROUNDS; round++) {
        double b = 0, square = 0;
        for (size_t d = 0; d < dim; d++) {
            a[d] = high[d] - low[d];
            b += (double)a[d] * ((double)high[d] + (double)low[d]) / 2;
            beyond[d] = 0;
        }
        beyond[dim] = 0;
        for (size_t tile = s->first[j]; tile < s->first[j + 1]; tile++)
            tile_beyond(s->values + tile * dim * TILE, s->weights + tile * TILE, dim, mean, a,
                        (float)b, beyond);
        rest[dim] = total[dim] - beyond[dim];
        if (!(beyond[dim] > 1e-9 * total[dim]) || !(rest[dim] > 1e-9 * total[dim]))
            break;
        for (size_t d = 0; d < dim; d++) {
            rest[d] = total[d] - total[dim] * (double)mean[d] - beyond[d];
            high[d] = (float)(beyond[d] / beyond[dim]);
            low[d] = (float)(rest[d] / rest[dim]);
            square += pow(beyond[d] / beyond[dim] - rest[d] / rest[dim], 2);
        }
        const double before = win;
        win = beyond[dim] * rest[dim] / total[dim] * square;
        if (win <= before * 1.01)
            break;
    }
    for (size_t d = 0; d < dim; d++) {
        low[d] += mean[d];
        high[d] += mean[d];
    }
    return win;
}

static pal_status ask(void *user, int thread, size_t item)
{
    survey *s = user;
    const unsigned j = (unsigned)item;
    double *scratch = s->scratch + (size_t)thread * 4 * (s->dim + 1);
    float *rows = s->rows + (size_t)thread * MOST_SITES * row_stride(s->dim);
    s->nearest[j] = nearest_other(s->c, j);
    s->loss[j] = find_loss(s, j, rows, (float *)scratch);
    s->win[j] = find_win(s, j, scratch);
    return PAL_OK;
}

/* Clusters sorted by sign * key, by insertion. */
static void sort_by(const double *key, double sign, unsigned k, unsigned *order)
{
    for (unsigned j = 0; j < k; j++) {
        unsigned i = j;
        for (; i && sign * key[order[i - 1]] > sign * key[j]; i--)
            order[i] = order[i - 1];
        order[i] = j;
    }
}

static pal_status survey_run(survey *s)
{
    const clustering *c = s->c;
    memcpy(s->members, c->members, sizeof s->members);
    gather(s);
    const parallel_job job = {.user = s, .item = ask};
    pal_status status = parallel_run(&job, c->k, c->threads);
    if (status)
        return status;
    sort_by(s->loss, 1, c->k, s->by_loss);
    sort_by(s->win, -1, c->k, s->by_win);
    return PAL_OK;
}

/* About as much as one pass over the vectors, and a comparison of the centroids with each other. */
static double survey_work(const clustering *c)
{
    const double dim = (double)c->set->dim;
    return (double)c->set->tile_count * TILE * (5 + 4 * dim) + 2. * c->k * c->k * (dim + 2);
}

/* Splits cluster `split` and takes the centroid of `given` for its second half. */
static void exchange(const survey *s, float *centroids, unsigned given, unsigned split)
{
    const float *halves = s->halves + (size_t)split * 2 * s->dim;
    memcpy(centroids + split * s->dim, halves, s->dim * sizeof *centroids);
    memcpy(centroids + given * s->dim, halves + s->dim, s->dim * sizeof *centroids);
}

/* Exchanges up to `most` pairs that may help. Of two clusters that would go to each other only one
 * is given up. Returns the number of pairs. */
static unsigned exchange_many(const survey *s, float *centroids, unsigned most)
{
    const double HOPE =
        0.4; /* how much of the loss the win must promise; the iterations add to it */
    const unsigned k = s->c->k;
    bool taken[MOST_SITES] = {false};
    unsigned pairs = 0, wins = 0;
    for (unsigned i = 0; i < k && pairs < most; i++) {
        const unsigned given = s->by_loss[i];
        if (taken[given])
            continue;
        while (wins < k && (taken[s->by_win[wins]] || s->by_win[wins] == given))
            wins++;
        if (wins == k)
            break;
        const unsigned split = s->by_win[wins];
        if (!(s->win[split] > HOPE * s->loss[given]))
            break;
        taken[given] = taken[split] = true;
        if (s->members[given])
            taken[s->nearest[given]] = true;
        exchange(s, centroids, given, split);
        pairs++;
    }
    return pairs;
}

enum { DONORS = 4, SPLITS = 15 };

/* The single exchange at place `attempt` of the order in which they are tried. */
static bool exchange_one(const survey *s, float *centroids, unsigned attempt)
{
    const unsigned k = s->c->k;
    if (attempt % DONORS >= k || attempt / DONORS >= k)
        return false;
    const unsigned given = s->by_loss[attempt % DONORS], split = s->by_win[attempt / DONORS];
    if (given == split || !(s->win[split] > 0))
        return false;
    exchange(s, centroids, given, split);
    return true;
}

static unsigned clusters_empty(const clustering *c)
{
    unsigned empty = 0;
    for (unsigned j = 0; j < c->k; j++)
        empty += c->members[j] == 0;
    return empty;
}

/* Iterates from `centroids` on the scout's sample. */
static pal_status look_ahead(clustering *scout, clustering *c, const float *centroids)
{
    memcpy(scout->centroids, centroids, (size_t)c->k * c->set->dim * sizeof *centroids);
    scout->work = 0;
    pal_status status = clustering_lloyd(scout, 3e-4, 12);
    c->work += scout->work;
    return status;
}

/* The search. `kept` has room for the centroids. */
static pal_status explore(survey *s, clustering *c, double limit, clustering *scout, float *kept)
{
    const double TOLERANCE = 3e-4, LEAST_GAIN = 1e-6, MARGIN = 2e-3;
    const int rounds = c->k <= 32 ? 16 : 8; /* the fewer centroids, the farther they have to go */
    const size_t size = (size_t)c->k * c->set->dim * sizeof *kept;
    unsigned batch = c->k / 4 + 1, attempt = 0, empty = clusters_empty(c); /* of those kept */
    double error = c->error, expected = 0; /* what the scout has for it */
    pal_status status = PAL_OK;
    bool better = true;
    while (!status && attempt < DONORS * SPLITS && (c->work < limit || empty)) {
        if (better) {
            status = survey_run(s);
            if (status)
                break;
            c->work += survey_work(c);
            memcpy(kept, c->centroids, size);
            error = c->error;
            attempt = 0;
            better = false;
            if (scout) {
                clustering_forget(scout);
                status = look_ahead(scout, c, kept);
                expected = scout->error;
                if (status)
                    break;
            }
            batch = batch > empty ? batch : empty;
        }
        if (batch > 1) {
            const unsigned pairs = exchange_many(s, c->centroids, batch);
            batch = pairs < batch ? pairs : batch;
            if (!pairs)
                continue;
        } else if (!exchange_one(s, c->centroids, attempt++)) {
            continue;
        }
        if (scout) {
            status = look_ahead(scout, c, c->centroids);
            if (status)
                break;
            if (scout->error > expected * (1 + MARGIN)) {
                memcpy(c->centroids, kept, size);
                batch /= 2;
                continue;
            }
        }
        status = clustering_lloyd(c, TOLERANCE, rounds);
        better = c->error < error * (1 - LEAST_GAIN);
        if (better) {
            empty = clusters_empty(c);
        } else {
            memcpy(c->centroids, kept, size);
            c->error = error;
            batch /= 2;
        }
    }
    return status;
}

pal_status moves_improve(clustering *c, double limit, clustering *scout)
{
    if (c->k < 2)
        return PAL_OK;
    survey *s = mem_zeroed(1, sizeof *s);
    float *kept = mem_array((size_t)c->k * c->set->dim, sizeof *kept);
    pal_status status = s && kept ? survey_init(s, c) : fail_memory("clustering vectors");
    if (!status) {
        status = explore(s, c, limit, scout, kept);
        survey_free(s);
    }
    free(s);
    free(kept);
    return status;
}

pal_status moves_settle(clustering *c, double tolerance, int rounds)
{
    enum { REPAIRS = 3 };
    pal_status status = clustering_lloyd(c, tolerance, rounds);
    for (int repair = 0; !status && repair < REPAIRS && clusters_empty(c); repair++) {
        status = moves_improve(c, 0, NULL);
        if (!status)
            status = clustering_lloyd(c, tolerance, rounds);
    }
    if (!status)
        clustering_center(c);
    return status;
}
