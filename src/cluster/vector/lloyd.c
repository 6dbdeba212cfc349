#include "cluster/vector/lloyd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

enum {
    PIECE = 128,      /* tiles whose sums are taken together */
    BOXES_FROM = 12,  /* centroids from which on boxes pay, */
    GROUPS_FROM = 32, /* and boxes around groups of tiles */
    DEPTH = 4,        /* earlier steps that Anderson's acceleration looks at */
};

/* What a pass changes in the sums, as seen by one piece of the set. */
typedef struct gain {
    double *totals;
    ptrdiff_t members[MOST_SITES];
    double error;
    size_t changed;
    size_t compared; /* pairs of a tile and a centroid */
} gain;

/* Scratch memory of a thread. */
typedef struct room {
    float distance[TILE];
    uint8_t nearest[TILE];
    uint8_t which[MOST_SITES];
    float *rows;    /* as in sites */
    float *sums;    /* as in tile_sums() */
    double *folded; /* all of them: k x (dim + 2) */
    sites part;     /* centroids near a group of tiles, */
    unsigned part_anchor;
    uint8_t near[MOST_SITES];   /* their numbers */
    uint16_t place[MOST_SITES]; /* where in `near` each is, + 1 */
} room;

/* The last steps of an iteration C -> G(C): differences of G and of the residuals G(C) - C. */
typedef struct past {
    size_t numbers;
    int held; /* differences kept */
    int newest;
    double *at; /* the centroids, as the last pass saw them */
    double *to; /* G of them */
    double *residual;
    double *to_change, *residual_change; /* DEPTH x numbers */
} past;

/* ---------------------------------------------------------------- memory */

static pal_status past_init(clustering *c)
{
    const size_t numbers = (size_t)c->k * c->set->dim;
    past *p = mem_zeroed(1, sizeof *p);
    c->past = p;
    if (!p)
        return fail_memory("clustering vectors");
    p->numbers = numbers;
    p->at = mem_array(numbers * (3 + 2 * DEPTH), sizeof *p->at);
    if (!p->at)
        return fail_memory("clustering vectors");
    p->to = p->at + numbers;
    p->residual = p->to + numbers;
    p->to_change = p->residual + numbers;
    p->residual_change = p->to_change + DEPTH * numbers;
    return PAL_OK;
}

void clustering_free(clustering *c)
{
    free(c->centroids);
    free(c->index);
    free(c->totals);
    free(c->anchors);
    free(c->group_anchors);
    free(c->gains);
    free(c->gain_totals);
    for (int t = 0; c->rooms && t < c->threads; t++)
        sites_free(&c->rooms[t].part);
    free(c->rooms);
    free(c->room_rows);
    free(c->room_sums);
    free(c->room_folded);
    if (c->past)
        free(c->past->at);
    free(c->past);
    sites_free(&c->table);
    *c = (clustering){0};
}

static size_t pieces(const clustering *c)
{
    return (c->set->tile_count + PIECE - 1) / PIECE;
}

pal_status clustering_init(clustering *c, const tiles *set, unsigned k, int threads)
{
    const size_t numbers = (size_t)k * (set->dim + 1), rows = MOST_SITES * row_stride(set->dim);
    const size_t sums = (size_t)k * (set->dim + 2);
    *c = (clustering){.set = set, .k = k, .threads = threads, .anew = true};
    if ((double)set->count * k < WORTH_THREADS)
        c->threads = 1;
    c->centroids = mem_zeroed((size_t)k * set->dim, sizeof *c->centroids);
    c->index = mem_zeroed(set->tile_count, TILE);
    c->totals = mem_array(numbers, sizeof *c->totals);
    c->anchors = mem_zeroed(set->tile_count, 1);
    c->group_anchors = mem_zeroed(set->tile_count / GROUP + 1, 1);
    c->gains = mem_array(pieces(c), sizeof *c->gains);
    c->gain_totals = mem_array(pieces(c) * numbers, sizeof *c->gain_totals);
    c->rooms = mem_zeroed((size_t)c->threads, sizeof *c->rooms);
    c->room_rows = mem_array((size_t)c->threads * rows, sizeof *c->room_rows);
    c->room_sums = mem_array((size_t)c->threads * sums * SUM_LANES, sizeof *c->room_sums);
    c->room_folded = mem_array((size_t)c->threads * sums, sizeof *c->room_folded);
    pal_status status = PAL_OK;
    if (!c->centroids || !c->index || !c->totals || !c->anchors || !c->group_anchors || !c->gains ||
        !c->gain_totals || !c->rooms || !c->room_rows || !c->room_sums || !c->room_folded)
        status = fail_memory("clustering vectors");
    if (!status)
        status = past_init(c);
    if (!status)
        status = sites_init(&c->table, set->dim);
    for (int t = 0; t < c->threads && !status; t++)
        status = sites_init(&c->rooms[t].part, set->dim);
    if (status) {
        clustering_free(c);
        return status;
    }
    for (size_t i = 0; i < pieces(c); i++)
        c->gains[i].totals = c->gain_totals + i * numbers;
    for (int t = 0; t < c->threads; t++) {
        c->rooms[t].rows = c->room_rows + (size_t)t * rows;
        c->rooms[t].sums = c->room_sums + (size_t)t * sums * SUM_LANES;
        c->rooms[t].folded = c->room_folded + (size_t)t * sums;
    }
    return PAL_OK;
}

void clustering_forget(clustering *c)
{
    memset(c->index, 0, c->set->tile_count * TILE);
    memset(c->anchors, 0, c->set->tile_count);
    memset(c->group_anchors, 0, c->set->tile_count / GROUP + 1);
    c->anew = true;
    c->work = 0;
}

/* ---------------------------------------------------------------- one pass */

static void join(const clustering *c, gain *g, size_t at, uint8_t to, double sign)
{
    const size_t dim = c->set->dim;
    const float *values = tile_values(c->set, at / TILE) + at % TILE;
    const double weight = sign * (double)c->set->weights[at];
    double *total = g->totals + to * (dim + 1);
    g->members[to] += sign > 0 ? 1 : -1;
    for (size_t d = 0; d < dim; d++)
        total[d] += weight * (double)values[d * TILE];
    total[dim] += weight;
}

/* Takes the members of a tile that have changed sides from one sum to the other. */
static void move_members(const clustering *c, gain *g, size_t tile, const uint8_t *nearest)
{
    uint8_t *index = c->index + tile * TILE;
    for (size_t eight = 0; eight < TILE; eight += 8) {
        if (memcmp(index + eight, nearest + eight, 8) == 0)
            continue;
        for (size_t i = eight; i < eight + 8; i++) {
            const size_t at = tile * TILE + i;
            if (index[i] == nearest[i])
                continue;
            g->changed++;
            if (c->set->weights[at] > 0) {
                join(c, g, at, index[i], -1);
                join(c, g, at, nearest[i], 1);
            }
            index[i] = nearest[i];
        }
    }
}

/* Whether sums are taken anew faster in lanes, a cluster at a time, than a vector at a time. */
static bool by_lanes(const clustering *c)
{
    return c->k * (c->set->dim + 2) <= 256;
}

/* Adds all members of a tile to the sums. */
static void add_members(const clustering *c, gain *g, size_t tile, const room *room)
{
    uint8_t *index = c->index + tile * TILE;
    uint8_t changed = 0;
    for (size_t i = 0; i < TILE; i++)
        changed = (uint8_t)(changed + (index[i] != room->nearest[i]));
    g->changed += changed;
    memcpy(index, room->nearest, TILE);
    if (!by_lanes(c)) {
        for (size_t i = 0; i < TILE; i++)
            if (c->set->weights[tile * TILE + i] > 0)
                join(c, g, tile * TILE + i, index[i], 1);
        return;
    }
    tile_sums(tile_values(c->set, tile), tile_weights(c->set, tile), c->set->dim, index, c->k,
              room->sums);
}

/* What add_members() summed up of a piece. */
static void close_sums(const clustering *c, gain *g, const room *room)
{
    const size_t width = c->set->dim + 1;
    const double *sums = room->folded;
    for (unsigned j = 0; j < c->k; j++, sums += width + 1) {
        memcpy(g->totals + j * width, sums, width * sizeof *sums);
        g->members[j] = (ptrdiff_t)sums[width];
    }
}

/* The centroids that can be nearest to vectors of a group of tiles. */
static void look_at_group(const clustering *c, room *room, size_t tile)
{
    const size_t group = tile / GROUP;
    const uint8_t anchor = c->group_anchors[group];
    for (unsigned i = 0; i < room->part.k; i++)
        room->place[room->near[i]] = 0;
    unsigned m = sites_near(&c->table, c->set->group_boxes + group * 2 * c->set->dim, anchor,
                            NOT_ONE, room->near, room->rows);
    for (unsigned i = 0; i < m; i++)
        room->place[room->near[i]] = (uint16_t)(i + 1);
    room->part_anchor = (unsigned)room->place[anchor] - 1;
    sites_part(&c->table, room->near, m, &room->part);
}

/* Those that can be nearest to vectors of a tile; their number. */
static unsigned look_at_tile(const clustering *c, room *room, size_t tile)
{
    const float *box = c->set->boxes + tile * 2 * c->set->dim;
    const uint8_t anchor = c->anchors[tile];
    if (c->k < GROUPS_FROM || !c->set->group_boxes)
        return sites_near(&c->table, box, anchor, NOT_ONE, room->which, room->rows);
    if (tile % GROUP == 0)
        look_at_group(c, room, tile);
    const unsigned place = room->place[anchor] ? room->place[anchor] - 1U : room->part_anchor;
    const unsigned m = sites_near(&room->part, box, place, NOT_ONE, room->which, room->rows);
    for (unsigned i = 0; i < m; i++)
        room->which[i] = room->near[room->which[i]];
    return m;
}

static pal_status run_piece(void *user, int thread, size_t piece)
{
    clustering *c = user;
    const tiles *set = c->set;
    room *room = &c->rooms[thread];
    gain *g = &c->gains[piece];
    memset(g->totals, 0, c->k * (set->dim + 1) * sizeof *g->totals);
    memset(g->members, 0, c->k * sizeof *g->members);
    g->changed = g->compared = 0;
    g->error = 0;
    const bool lanes = c->anew && by_lanes(c);
    const size_t rows = c->k * (set->dim + 2);
    if (lanes) {
        memset(room->sums, 0, rows * SUM_LANES * sizeof *room->sums);
        memset(room->folded, 0, rows * sizeof *room->folded);
    }
    const size_t end = (piece + 1) * PIECE;
    const bool boxed = set->boxes && c->k >= BOXES_FROM;
    unsigned m = c->k;
    for (unsigned j = 0; j < MOST_SITES; j++)
        room->which[j] = (uint8_t)j;
    for (size_t tile = piece * PIECE; tile < end && tile < set->tile_count; tile++) {
        if (boxed)
            m = look_at_tile(c, room, tile);
        tile_nearest(tile_values(set, tile), set->dim, boxed ? room->rows : c->table.rows,
                     room->which, m, room->distance, room->nearest);
        g->compared += m;
        g->error += tile_error(tile_weights(set, tile), room->distance);
        if (c->anew)
            add_members(c, g, tile, room);
        else
            move_members(c, g, tile, room->nearest);
        if (lanes && tile % GROUP == GROUP - 1)
            lanes_fold(room->sums, rows, room->folded);
        c->anchors[tile] = room->nearest[TILE / 2];
        if (tile % GROUP == GROUP / 2)
            c->group_anchors[tile / GROUP] = room->nearest[TILE / 2];
    }
    if (lanes) {
        lanes_fold(room->sums, rows, room->folded);
        close_sums(c, g, room);
    }
    return PAL_OK;
}

/* Nanoseconds that a pass takes, about, measured once: what the search reckons with. */
static double pass_work(const clustering *c, size_t compared, size_t changed)
{
    const double dim = (double)c->set->dim, tile_count = (double)c->set->tile_count, k = c->k;
    const bool boxed = c->set->boxes && c->k >= BOXES_FROM;
    const double distances = (double)compared * TILE * (0.03 + 0.035 * dim);
    const double looks = boxed ? tile_count * (100 + 0.3 * k * (dim + 2)) : 0;
    const double all = by_lanes(c) ? 3 * k * (dim + 2) : 600;
    const double sums = c->anew ? tile_count * all : 10 * (double)changed;
    const double rest = 300 + 20 * tile_count + k * (dim + 1) * (2 * (double)pieces(c) + 20);
    return distances + looks + sums + rest;
}

/* Taking the sums anew costs a tile about as much as moving k (dim + 2) / ANEW vectors. */
enum { ANEW = 24 };

pal_status clustering_pass(clustering *c)
{
    const size_t width = c->set->dim + 1, numbers = (size_t)c->k * width;
    sites_set(&c->table, c->k, c->centroids);
    const parallel_job job = {.user = c, .item = run_piece};
    pal_status status = parallel_run(&job, pieces(c), c->threads);
    if (status)
        return status;
    if (c->anew) {
        memset(c->totals, 0, numbers * sizeof *c->totals);
        memset(c->members, 0, sizeof c->members);
    }
    size_t compared = 0, changed = 0;
    c->error = 0;
    for (size_t i = 0; i < pieces(c); i++) {
        const gain *g = &c->gains[i];
        for (size_t n = 0; n < numbers; n++)
            c->totals[n] += g->totals[n];
        for (unsigned j = 0; j < c->k; j++)
            c->members[j] += (size_t)g->members[j];
        c->error += g->error;
        changed += g->changed;
        compared += g->compared;
    }
    c->work += pass_work(c, compared, changed);
    c->anew = by_lanes(c) && changed * ANEW > c->set->tile_count * c->k * (width + 1);
    return PAL_OK;
}

/* ---------------------------------------------------------------- iterations */

/* Solves a x = b for symmetric positive definite a (n x n, n <= DEPTH), in place. */
static bool solve(double a[DEPTH][DEPTH], double *b, int n)
{
    for (int i = 0; i < n; i++) {
        if (!(a[i][i] > 0))
            return false;
        for (int j = i + 1; j < n; j++) {
            const double factor = a[j][i] / a[i][i];
            for (int l = i; l < n; l++)
                a[j][l] -= factor * a[i][l];
            b[j] -= factor * b[i];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++)
            b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
    return true;
}

static double weighted_inner(const clustering *c, const double *a, const double *b)
{
    const size_t dim = c->set->dim;
    double sum = 0;
    for (unsigned j = 0; j < c->k; j++) {
        double own = 0;
        for (size_t d = 0; d < dim; d++)
            own += a[j * dim + d] * b[j * dim + d];
        if (c->members[j])
            sum += own * c->totals[j * (dim + 1) + dim];
    }
    return sum;
}

/* The means of the members, and the step to them, into the past. */
static void note_means(clustering *c)
{
    past *p = c->past;
    const size_t dim = c->set->dim;
    for (unsigned j = 0; j < c->k; j++)
        for (size_t d = 0; d < dim; d++) {
            const size_t n = j * dim + d;
            const double *total = c->totals + j * (dim + 1);
            p->at[n] = (double)c->centroids[n];
            p->to[n] = c->members[j] ? total[d] / total[dim] : p->at[n];
            p->residual[n] = p->to[n] - p->at[n];
        }
}

/* Where to go from the means: Anderson's extrapolation (Zhang et al. 2018, "Fast K-means clustering
 * with Anderson acceleration"). Among the affine combinations of the last steps the one with the
 * least residual, in the norm in which Lloyd's step is a step of descent. */
static void extrapolate(clustering *c)
{
    past *p = c->past;
    double a[DEPTH][DEPTH], b[DEPTH];
    double trace = 0;
    for (int i = 0; i < p->held; i++) {
        const double *own = p->residual_change + (size_t)i * p->numbers;
        for (int j = 0; j <= i; j++)
            a[i][j] = a[j][i] = weighted_inner(c, own, p->residual_change + (size_t)j * p->numbers);
        b[i] = weighted_inner(c, own, p->residual);
        trace += a[i][i];
    }
    for (int i = 0; i < p->held; i++)
        a[i][i] += 1e-10 * trace;
    const bool solved = solve(a, b, p->held);
    for (size_t n = 0; n < p->numbers; n++) {
        double to = p->to[n];
        for (int i = 0; i < p->held && solved; i++)
            to -= b[i] * p->to_change[(size_t)i * p->numbers + n];
        c->centroids[n] = (float)to;
    }
}

static void use_means(clustering *c)
{
    for (size_t n = 0; n < c->past->numbers; n++)
        c->centroids[n] = (float)c->past->to[n];
}

void clustering_center(clustering *c)
{
    note_means(c);
    use_means(c);
}

/* note_means(), keeping the difference to the step before. */
static void note_step(clustering *c, bool first)
{
    past *p = c->past;
    if (first) {
        p->held = p->newest = 0;
        note_means(c);
        return;
    }
    const int slot = p->newest;
    double *to = p->to_change + (size_t)slot * p->numbers;
    double *residual = p->residual_change + (size_t)slot * p->numbers;
    for (size_t n = 0; n < p->numbers; n++) {
        to[n] = -p->to[n];
        residual[n] = -p->residual[n];
    }
    note_means(c);
    for (size_t n = 0; n < p->numbers; n++) {
        to[n] += p->to[n];
        residual[n] += p->residual[n];
    }
    p->newest = (slot + 1) % DEPTH;
    p->held = p->held < DEPTH ? p->held + 1 : DEPTH;
}

pal_status clustering_lloyd(clustering *c, double tolerance, int rounds)
{
    pal_status status = clustering_pass(c);
    double before = c->error;
    bool first = true;
    for (int round = 1; !status && round < rounds; round++) {
        note_step(c, first);
        first = false;
        extrapolate(c);
        status = clustering_pass(c);
        if (!status && c->error > before && c->past->held) {
            /* Too far; the means themselves are never worse. */
            use_means(c);
            first = true;
            status = clustering_pass(c);
        }
        if (before - c->error <= tolerance * c->error)
            break;
        before = c->error;
    }
    return status;
}
