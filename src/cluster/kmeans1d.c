/* Optimal 1-D k-means by a penalty for each cluster.
 *
 * Optimal clusters of sorted values are intervals, so a clustering is a path 0 = b_0 < b_1 < ... <
 * b_k = U over the bins' boundaries, and the cost of an edge, the least error of one interval
 *
 *     w(j, i) = min over grid values r of  sum_{j <= u < i} m_u (v_u - r)^2,
 *
 * is concave-Monge (satisfies the quadrangle inequality), also with r confined to a grid: let r be
 * best for the outer interval of a crossing pair and s for the inner one; whichever end s lies
 * towards, swapping s onto that end's interval cannot cost more.
 *
 * Therefore (Aggarwal, Schieber, Tokuyama 1994; Gronlund et al., arXiv 1701.07204):
 *  - the least cost with k edges is convex in k, so for every k there is a penalty lambda for each
 *    edge at which some unconstrained shortest path has k edges;
 *  - the shortest path for one lambda takes O(U log U): the best predecessor of i never decreases,
 *    and of two candidates the later one, once better, stays better;
 *  - two shortest paths for the same lambda with k1 < k < k2 edges can be spliced into one with k.
 *
 * The search for lambda starts from the solution of a coarser problem (a few boundaries for each
 * cluster), which is a small fraction of the work and usually lands within one cluster of k.
 *
 * In terms of S0 = sum m and S1 = sum m v the part of w that depends on the path is minus the gain
 *     g(j, i) = r (2 S1 - r S0),  r = nearest grid value to S1/S0,
 * and the path maximises sum g - lambda * edges. Values are shifted to their mean first, so that
 * the sums do not cancel. */
#include "cluster/kmeans1d.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* A boundary between bins: sums over all bins before it, and the best penalised gain up to it. */
struct node {
    double s0, s1, best;
};
typedef struct node node;

void kmeans1d_workspace_free(kmeans1d_workspace *workspace)
{
    free(workspace->nodes);
    free(workspace->coarse);
    free(workspace->previous);
    free(workspace->queue);
    free(workspace->queue_from);
    *workspace = (kmeans1d_workspace){0};
}

static bool workspace_reserve(kmeans1d_workspace *w, size_t nodes)
{
    if (nodes <= w->capacity)
        return true;
    kmeans1d_workspace_free(w);
    w->nodes = mem_array(nodes, sizeof *w->nodes);
    w->coarse = mem_array(nodes / 2 + 1, sizeof *w->coarse);
    w->previous = mem_array(nodes, sizeof *w->previous);
    w->queue = mem_array(nodes, sizeof *w->queue);
    w->queue_from = mem_array(nodes, sizeof *w->queue_from);
    if (!w->nodes || !w->coarse || !w->previous || !w->queue || !w->queue_from) {
        kmeans1d_workspace_free(w);
        return false;
    }
    w->capacity = nodes;
    return true;
}

/* ---------------------------------------------------------------- one shortest path */

/* The problem over some boundaries: all of them, or a coarse choice. */
typedef struct problem {
    node *nodes;
    size_t last; /* index of the end boundary: nodes[0 .. last] */
    double shift;
    grid grid;
} problem;

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE double edge_gain(const node *a, const node *b, double shift, grid grid)
{
    double s0 = b->s0 - a->s0, s1 = b->s1 - a->s1;
    double r = grid_round(grid, s1 / s0 + shift) - shift;
    return r * (s1 + (s1 - r * s0));
}

/* Value at boundary i if the last cluster starts at j. */
ALWAYS_INLINE double value_from(const node *nodes, size_t j, size_t i, double shift, grid grid)
{
    return nodes[j].best + edge_gain(&nodes[j], &nodes[i], shift, grid);
}

/* First boundary in [from, last] at which a cluster should start at `later` rather than `earlier`;
 * last + 1 if none. Gallops, because it is near. */
ALWAYS_INLINE size_t takeover(const node *nodes, size_t earlier, size_t later, size_t from,
                              size_t last, double shift, grid grid)
{
    size_t low = from, step = 1, high = from; /* earlier is better before low */
    for (;;) {
        if (value_from(nodes, later, high, shift, grid) >
            value_from(nodes, earlier, high, shift, grid))
            break;
        low = high + 1;
        if (high == last)
            return last + 1;
        high = last - high > step ? high + step : last;
        step *= 2;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (value_from(nodes, later, middle, shift, grid) >
            value_from(nodes, earlier, middle, shift, grid))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Fills nodes[].best and previous[] for one penalty. The queue holds candidate starts in order;
 * queue_from[q] is the first boundary at which candidate q beats the ones before it. */
ALWAYS_INLINE void shortest_path(const problem *p, double penalty, kmeans1d_workspace *w, grid grid)
{
    node *nodes = p->nodes;
    uint32_t *restrict queue = w->queue, *restrict from = w->queue_from;
    const size_t last = p->last;
    const double shift = p->shift;
    size_t head = 0, tail = 0; /* candidates head..tail */
    nodes[0].best = 0;
    queue[0] = 0;
    from[0] = 1;
    for (size_t i = 1;; i++) {
        while (head < tail && from[head + 1] <= i)
            head++;
        nodes[i].best = value_from(nodes, queue[head], i, shift, grid) - penalty;
        w->previous[i] = queue[head];
        if (i == last)
            return;
        while (tail > head && value_from(nodes, i, from[tail], shift, grid) >
                                  value_from(nodes, queue[tail], from[tail], shift, grid))
            tail--;
        size_t begin = tail > head ? from[tail] + 1 : i + 1;
        if (begin > last)
            continue;
        size_t at = takeover(nodes, queue[tail], i, begin, last, shift, grid);
        if (at <= last) {
            tail++;
            queue[tail] = (uint32_t)i;
            from[tail] = (uint32_t)at;
        }
    }
}

/* Clusters and total gain (without penalty) of the best path at this penalty. */
typedef struct path {
    uint32_t *boundary; /* edges + 1 of them, or NULL: every boundary there is */
    size_t edges;
    double gain;
} path;

static uint32_t path_at(const path *path, size_t i)
{
    return path->boundary ? path->boundary[i] : (uint32_t)i;
}

static double path_gain(const problem *p, const uint32_t *boundary, size_t edges)
{
    double gain = 0;
    for (size_t e = 0; e < edges; e++)
        gain += edge_gain(&p->nodes[boundary[e]], &p->nodes[boundary[e + 1]], p->shift, p->grid);
    return gain;
}

static pal_status path_find(const problem *p, double penalty, kmeans1d_workspace *w, path *found)
{
    switch (p->grid) { /* a copy of the loop for each grid */
    case GRID_FLOAT16: shortest_path(p, penalty, w, GRID_FLOAT16); break;
    case GRID_BFLOAT16: shortest_path(p, penalty, w, GRID_BFLOAT16); break;
    case GRID_FLOAT32: shortest_path(p, penalty, w, GRID_FLOAT32); break;
    case GRID_INT8: shortest_path(p, penalty, w, GRID_INT8); break;
    case GRID_UINT8: shortest_path(p, penalty, w, GRID_UINT8); break;
    }
    size_t edges = 0;
    for (size_t i = p->last; i; i = w->previous[i])
        edges++;
    found->boundary = mem_array(edges + 1, sizeof *found->boundary);
    if (!found->boundary)
        return fail_memory("clustering weights");
    found->edges = edges;
    for (size_t i = p->last, e = edges;; i = w->previous[i], e--) {
        found->boundary[e] = (uint32_t)i;
        if (!e)
            break;
    }
    found->gain = path_gain(p, found->boundary, edges);
    return PAL_OK;
}

/* Joins a few-edged and a many-edged path into one of k edges: the first s = k - few.edges + x
 * edges of `many`, then `few` from its x-th boundary on, where an edge of `few` spans one of
 * `many`. */
static pal_status path_splice(const path *few, const path *many, size_t k, path *joined)
{
    size_t ahead = k - few->edges, x = 0;
    while (path_at(few, x + 1) < path_at(many, x + ahead + 1))
        x++;
    joined->boundary = mem_array(k + 1, sizeof *joined->boundary);
    if (!joined->boundary)
        return fail_memory("clustering weights");
    joined->edges = k;
    for (size_t i = 0; i <= x + ahead; i++)
        joined->boundary[i] = path_at(many, i);
    for (size_t i = x + 1; i <= few->edges; i++)
        joined->boundary[ahead + i] = path_at(few, i);
    return PAL_OK;
}

/* ---------------------------------------------------------------- the search for the penalty */

enum { GUESSES = 8 }; /* before the search falls back to steps that are sure to end */

/* A path with exactly k edges, k < p->last. `penalty` is a first guess on entry (or 0) and one that
 * fits k on return. */
static pal_status path_with_edges(const problem *p, size_t k, double *penalty,
                                  kmeans1d_workspace *w, path *result)
{
    uint32_t ends[2] = {0, (uint32_t)p->last};
    path few = {.edges = 1, .gain = path_gain(p, ends, 1)};
    path many = {.edges = p->last}; /* boundary NULL: all */
    few.boundary = mem_array(2, sizeof *few.boundary);
    if (!few.boundary)
        return fail_memory("clustering weights");
    memcpy(few.boundary, ends, sizeof ends);
    for (size_t e = 0; e < p->last; e++)
        many.gain += edge_gain(&p->nodes[e], &p->nodes[e + 1], p->shift, p->grid);

    pal_status status = PAL_OK;
    double guess = *penalty, high = INFINITY, low = 0; /* penalties known for few and many */
    path found = {0};
    for (int round = 0; few.edges != k; round++) {
        double chord = (many.gain - few.gain) / (double)(many.edges - few.edges);
        bool sure = round >= GUESSES && round % 2;
        const bool on_chord = sure || !(guess > low && guess < high);
        const double trial = on_chord ? chord : guess;
        status = path_find(p, trial, w, &found);
        if (status)
            break;
        if (found.edges == k) {
            free(few.boundary);
            few = found;
            found.boundary = NULL;
            chord = trial;
        } else if (found.edges > few.edges && found.edges < k) {
            free(few.boundary);
            few = found;
            found.boundary = NULL;
            high = trial;
        } else if (found.edges > k && found.edges < many.edges) {
            free(many.boundary);
            many = found;
            found.boundary = NULL;
            low = trial;
        } else if (on_chord) {
            /* Nothing strictly between lies above the chord: k is on it. */
            free(found.boundary);
            found.boundary = NULL;
            status = path_splice(&few, &many, k, &found);
            if (status)
                break;
            free(few.boundary);
            few = found;
            found.boundary = NULL;
        } else {
            if (found.edges <= few.edges)
                high = trial;
            else
                low = trial;
            free(found.boundary);
            found.boundary = NULL;
        }
        *penalty = chord;
        /* For a smooth density the k-th penalty goes as k^-3 (Panter and Dite 1951); between two
         * known penalties their geometric mean is the fallback. */
        double ratio = (double)found.edges / (double)k;
        guess = trial * ratio * ratio * ratio;
        if (round >= GUESSES / 2 && low > 0 && high < INFINITY)
            guess = sqrt(low * high);
    }
    free(found.boundary);
    free(many.boundary);
    if (status) {
        free(few.boundary);
        return status;
    }
    *result = few;
    return PAL_OK;
}

/* ---------------------------------------------------------------- the coarse problem */

enum {
    COARSE_PER_CLUSTER = 8, /* boundaries */
    COARSE_WORTH = 4,       /* it pays when the full problem has this many times more */
    QUANTILES = 1024,
};

/* Error of k clusters of the best density for these bins, (integral p^(1/3))^3 / (12 k^2), from
 * slices of equal mass. */
static double estimate_error(const bins *bins, const node *nodes, size_t k)
{
    double slice = nodes[bins->count].s0 / QUANTILES, integral = 0;
    for (size_t begin = 0, end; begin < bins->count; begin = end) {
        for (end = begin + 1; end < bins->count && nodes[end].s0 - nodes[begin].s0 < slice;)
            end++;
        double width =
            (end < bins->count ? bins->value[end] : bins->value[end - 1]) - bins->value[begin];
        integral += cbrt((nodes[end].s0 - nodes[begin].s0) * width * width);
    }
    return integral * integral * integral / (12.0 * (double)k * (double)k);
}

/* Chooses boundaries so that the error inside one coarse bin is COARSE_PER_CLUSTER^-3 of that of an
 * average cluster. Returns how many bins that leaves, or more than half the bins where it does not
 * pay. */
static size_t coarsen(const bins *bins, kmeans1d_workspace *w, double cluster_error)
{
    const double most =
        12 * cluster_error / (COARSE_PER_CLUSTER * COARSE_PER_CLUSTER * COARSE_PER_CLUSTER);
    size_t count = 0, begin = 0;
    w->coarse[0] = w->nodes[0];
    for (size_t i = 1; i <= bins->count; i++) {
        double width = i < bins->count ? bins->value[i] - bins->value[begin] : INFINITY;
        if ((w->nodes[i].s0 - w->nodes[begin].s0) * width * width > most) {
            if (++count > bins->count / 2)
                break;
            w->coarse[count] = w->nodes[i];
            begin = i;
        }
    }
    return count;
}

/* The means of the clusters on the path, each from sums of its own: in differences of prefix sums
 * clusters of little mass have lost digits to the others. */
static void path_centroids(const bins *bins, const problem *p, const path *path, double *centroids)
{
    for (size_t e = 0; e < path->edges; e++) {
        double mass = 0, sum = 0;
        for (size_t i = path->boundary[e]; i < path->boundary[e + 1]; i++) {
            mass += bins->mass[i];
            sum += bins->mass[i] * (bins->value[i] - p->shift);
        }
        centroids[e] = grid_round(p->grid, sum / mass + p->shift);
    }
}

/* Sums over the bins before each boundary, values shifted to their mean. */
pal_status kmeans1d_sums(const bins *bins, grid grid, kmeans1d_workspace *w)
{
    const size_t count = bins->count;
    if (count >= UINT32_MAX)
        return fail(PAL_ERROR_UNSUPPORTED, "%zu distinct values in one cluster problem", count);
    if (!workspace_reserve(w, count + 1))
        return fail_memory("clustering weights");
    double mass = 0, sum = 0;
    for (size_t i = 0; i < count; i++) {
        mass += bins->mass[i];
        sum += bins->mass[i] * bins->value[i];
    }
    w->shift = grid_round(grid, sum / mass);
    w->nodes[0] = (node){0};
    for (size_t i = 0; i < count; i++) {
        w->nodes[i + 1].s0 = w->nodes[i].s0 + bins->mass[i];
        w->nodes[i + 1].s1 = w->nodes[i].s1 + bins->mass[i] * (bins->value[i] - w->shift);
    }
    return PAL_OK;
}

pal_status kmeans1d(const bins *bins, unsigned k, grid grid, kmeans1d_workspace *w,
                    double *centroids)
{
    const size_t count = bins->count;
    if (count <= k) { /* each value its own; lossless if the grid has it */
        for (size_t i = 0; i < k; i++)
            centroids[i] = grid_round(grid, bins->value[i < count ? i : count - 1]);
        return PAL_OK;
    }
    pal_status status = kmeans1d_sums(bins, grid, w);
    if (status)
        return status;
    problem full = {w->nodes, count, w->shift, grid};
    path best = {0};
    double error = estimate_error(bins, w->nodes, k);
    double penalty = 2 * error / k;
    if (count > (size_t)k * COARSE_PER_CLUSTER * COARSE_WORTH) {
        problem coarse = {w->coarse, coarsen(bins, w, error / k), full.shift, grid};
        if (coarse.last > k && coarse.last < count / 2) {
            status = path_with_edges(&coarse, k, &penalty, w, &best);
            if (status)
                return status;
            free(best.boundary);
        }
    }
    status = path_with_edges(&full, k, &penalty, w, &best);
    if (status)
        return status;
    path_centroids(bins, &full, &best, centroids);
    free(best.boundary);
    return PAL_OK;
}

/* The first bin above x. */
static size_t first_above(const bins *bins, double x, size_t low)
{
    size_t high = bins->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bins->value[middle] > x)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

double kmeans1d_gain(const bins *bins, const kmeans1d_workspace *w, unsigned k,
                     const double *centroids)
{
    double gain = 0;
    for (size_t i = 0, begin = 0, end; i < k; i++, begin = end) {
        end = i + 1 < k ? first_above(bins, (centroids[i] + centroids[i + 1]) / 2, begin)
                        : bins->count;
        double s0 = w->nodes[end].s0 - w->nodes[begin].s0;
        double s1 = w->nodes[end].s1 - w->nodes[begin].s1, r = centroids[i] - w->shift;
        gain += r * (s1 + (s1 - r * s0));
    }
    return gain;
}
