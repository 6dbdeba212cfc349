#include "cluster/vector/tiles.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

/* ---------------------------------------------------------------- shift and scale */

void frame_free(frame *f)
{
    free(f->shift);
    f->shift = NULL;
}

pal_status frame_init(frame *f, const vector_set *set)
{
    enum { LANES = 8 }; /* partial sums that a compiler can keep side by side */
    *f = (frame){.shift = mem_array(set->dim, sizeof *f->shift), .scale = 1};
    if (!f->shift)
        return fail_memory("clustering vectors");
    double peak = 0;
    for (size_t c = 0; c < set->dim; c++) {
        const float *row = set->values + c * set->count;
        double sum[LANES] = {0};
        float least = row[0], most = row[0];
        size_t i = 0;
        for (; i + LANES <= set->count; i += LANES)
            for (size_t l = 0; l < LANES; l++)
                sum[l] += (double)row[i + l];
        for (; i < set->count; i++)
            sum[0] += (double)row[i];
        for (i = 0; i < set->count; i++) {
            least = row[i] < least ? row[i] : least;
            most = row[i] > most ? row[i] : most;
        }
        double total = 0;
        for (size_t l = 0; l < LANES; l++)
            total += sum[l];
        const double mean = total / (double)set->count;
        f->shift[c] = mean;
        peak = fmax(peak, fmax((double)most - mean, mean - (double)least));
    }
    int exponent = 0;
    if (peak > 0)
        frexp(peak, &exponent);
    f->scale = ldexp(1, -exponent);
    return PAL_OK;
}

/* ---------------------------------------------------------------- an order in space */

/* Vectors are brought into order as records of their components and weight. */
typedef struct records {
    float *at;
    size_t dim, width; /* width: dim + 1 */
} records;

static inline float key_at(const records *r, size_t i, size_t axis)
{
    return r->at[i * r->width + axis];
}

static inline void swap_records(const records *r, size_t i, size_t j)
{
    float *a = r->at + i * r->width, *b = r->at + j * r->width;
    for (size_t c = 0; c < r->width; c++) {
        float held = a[c];
        a[c] = b[c];
        b[c] = held;
    }
}

/* The component that varies most among some of the records from `begin` to `end`. */
static size_t widest(const records *r, size_t begin, size_t end)
{
    enum { LOOKS = 64 };
    const size_t step = (end - begin) / LOOKS + 1;
    size_t axis = 0;
    double most = -1;
    for (size_t c = 0; c < r->dim; c++) {
        double sum = 0, square = 0, n = 0;
        for (size_t i = begin; i < end; i += step) {
            double x = (double)key_at(r, i, c);
            sum += x;
            square += x * x;
            n++;
        }
        double variance = square - sum * sum / n;
        if (variance > most) {
            most = variance;
            axis = c;
        }
    }
    return axis;
}

static float middle_of(float a, float b, float c)
{
    return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

/* Hoare's selection: no record before `nth` has a larger key than those from it on. */
static void separate(const records *r, size_t begin, size_t end, size_t nth, size_t axis)
{
    while (end - begin > 1) {
        const size_t step = (end - begin) / 9;
        float three[3];
        for (size_t s = 0; s < 3; s++) /* the middle of three middles */
            three[s] = middle_of(key_at(r, begin + 3 * s * step, axis),
                                 key_at(r, begin + (3 * s + 1) * step, axis),
                                 key_at(r, begin + (3 * s + 2) * step, axis));
        const float pivot = middle_of(three[0], three[1], three[2]);
        size_t i = begin, j = end - 1;
        for (;;) {
            while (key_at(r, i, axis) < pivot)
                i++;
            while (key_at(r, j, axis) > pivot)
                j--;
            if (i >= j)
                break;
            swap_records(r, i, j);
            i++;
            j--;
        }
        /* Keys before i are at most the pivot, those after j at least; i is j or j + 1. */
        if (nth < i)
            end = i;
        else if (nth > j)
            begin = j + 1;
        else
            break;
    }
}

/* Halves the records again and again, as a k-d tree does (Bentley 1975), down to a tile each. */
static void arrange(const records *r, size_t begin, size_t end)
{
    while (end - begin > TILE) {
        const size_t tiles = (end - begin + TILE - 1) / TILE, middle = begin + tiles / 2 * TILE;
        separate(r, begin, end, middle, widest(r, begin, end));
        arrange(r, begin, middle);
        begin = middle;
    }
}

/* ---------------------------------------------------------------- tiles */

void tiles_free(tiles *t)
{
    free(t->values);
    free(t->weights);
    free(t->boxes);
    free(t->group_boxes);
    *t = (tiles){0};
}

void tile_box(const float *values, size_t dim, float *box)
{
    for (size_t c = 0; c < dim; c++) {
        const float *row = values + c * TILE;
        float least = row[0], most = row[0];
        for (size_t i = 1; i < TILE; i++) {
            least = row[i] < least ? row[i] : least;
            most = row[i] > most ? row[i] : most;
        }
        box[c] = (least + most) / 2;
        box[dim + c] = (most - least) / 2;
    }
}

void tiles_group(tiles *t)
{
    const size_t dim = t->dim;
    for (size_t tile = 0; tile < t->tile_count; tile++) {
        const float *own = t->boxes + tile * 2 * dim;
        float *box = t->group_boxes + tile / GROUP * 2 * dim;
        for (size_t c = 0; c < dim; c++) { /* least and most, at first */
            const float least = own[c] - own[dim + c], most = own[c] + own[dim + c];
            const bool first = tile % GROUP == 0;
            box[c] = first || least < box[c] ? least : box[c];
            box[dim + c] = first || most > box[dim + c] ? most : box[dim + c];
        }
    }
    for (size_t group = 0; group * GROUP < t->tile_count; group++) {
        float *box = t->group_boxes + group * 2 * dim;
        for (size_t c = 0; c < dim; c++) {
            const float least = box[c], most = box[dim + c];
            box[c] = (least + most) / 2;
            box[dim + c] = (most - least) / 2;
        }
    }
}

static float framed(const vector_set *set, const frame *f, size_t c, size_t i)
{
    return (float)(((double)set->values[c * set->count + i] - f->shift[c]) * f->scale);
}

/* Which vector comes next: all in turn, or one of each stretch. */
static size_t pick(const vector_set *set, size_t count, size_t i, uint64_t *random)
{
    if (count == set->count)
        return i;
    double stretch = (double)set->count / (double)count;
    size_t at = (size_t)(((double)i + next_unit(random)) * stretch);
    return at < set->count ? at : set->count - 1;
}

static pal_status fill_arranged(tiles *t, const vector_set *set, const frame *f, uint64_t *random)
{
    const size_t dim = t->dim, width = dim + 1;
    const records r = {mem_array(t->count * width, sizeof(float)), dim, width};
    if (!r.at)
        return fail_memory("clustering vectors");
    for (size_t i = 0; i < t->count; i++) {
        const size_t from = pick(set, t->count, i, random);
        for (size_t c = 0; c < dim; c++)
            r.at[i * width + c] = framed(set, f, c, from);
        r.at[i * width + dim] = set->importance ? set->importance[from] : 1;
    }
    arrange(&r, 0, t->count);
    for (size_t i = 0; i < t->count; i++) {
        float *to = t->values + i / TILE * dim * TILE + i % TILE;
        for (size_t c = 0; c < dim; c++)
            to[c * TILE] = r.at[i * width + c];
        t->weights[i] = r.at[i * width + dim];
    }
    free(r.at);
    return PAL_OK;
}

/* The vectors in their order, by several threads. */
typedef struct filling {
    tiles *tiles;
    const vector_set *set;
    const frame *frame;
} filling;

enum { FILL = 256 }; /* tiles that a thread fills at once */

static pal_status fill_piece(void *user, int thread, size_t piece)
{
    (void)thread;
    const filling *f = user;
    const tiles *t = f->tiles;
    const size_t end = (piece + 1) * FILL;
    for (size_t tile = piece * FILL; tile < end && tile < t->tile_count; tile++) {
        const size_t begin = tile * TILE, n = t->count - begin < TILE ? t->count - begin : TILE;
        for (size_t c = 0; c < t->dim; c++)
            for (size_t i = 0; i < n; i++)
                t->values[(tile * t->dim + c) * TILE + i] = framed(f->set, f->frame, c, begin + i);
        for (size_t i = 0; i < n; i++)
            t->weights[begin + i] = f->set->importance ? f->set->importance[begin + i] : 1;
    }
    return PAL_OK;
}

static void fill_sample(tiles *t, const vector_set *set, const frame *f, uint64_t *random)
{
    for (size_t i = 0; i < t->count; i++) {
        const size_t from = pick(set, t->count, i, random);
        float *to = t->values + i / TILE * t->dim * TILE + i % TILE;
        for (size_t c = 0; c < t->dim; c++)
            to[c * TILE] = framed(set, f, c, from);
        t->weights[i] = set->importance ? set->importance[from] : 1;
    }
}

static pal_status fill(tiles *t, const vector_set *set, const frame *f, int threads,
                       uint64_t *random)
{
    if (t->count < set->count) {
        fill_sample(t, set, f, random);
        return PAL_OK;
    }
    filling filling = {t, set, f};
    const parallel_job job = {.user = &filling, .item = fill_piece};
    return parallel_run(&job, (t->tile_count + FILL - 1) / FILL, threads);
}

static void pad(tiles *t)
{
    const size_t last = (t->count - 1) % TILE;
    float *values = t->values + (t->tile_count - 1) * t->dim * TILE;
    for (size_t i = last + 1; i < TILE; i++) {
        for (size_t c = 0; c < t->dim; c++)
            values[c * TILE + i] = values[c * TILE + last];
        t->weights[(t->tile_count - 1) * TILE + i] = 0;
    }
}

pal_status tiles_alloc(tiles *t, size_t count, size_t dim, bool boxed)
{
    *t = (tiles){.count = count, .dim = dim, .tile_count = (count + TILE - 1) / TILE};
    t->values = mem_array(t->tile_count * dim * TILE, sizeof *t->values);
    t->weights = mem_array(t->tile_count * TILE, sizeof *t->weights);
    if (boxed) {
        const size_t groups = (t->tile_count + GROUP - 1) / GROUP;
        t->boxes = mem_array(t->tile_count * 2 * dim, sizeof *t->boxes);
        t->group_boxes = mem_array(groups * 2 * dim, sizeof *t->group_boxes);
    }
    if (t->values && t->weights && (!boxed || (t->boxes && t->group_boxes)))
        return PAL_OK;
    tiles_free(t);
    return fail_memory("clustering vectors");
}

void tiles_complete(tiles *t)
{
    pad(t);
    if (!t->boxes)
        return;
    for (size_t tile = 0; tile < t->tile_count; tile++)
        tile_box(tile_values(t, tile), t->dim, t->boxes + tile * 2 * t->dim);
    tiles_group(t);
}

pal_status tiles_init(tiles *t, const vector_set *set, const frame *f, size_t count, bool boxed,
                      int threads, uint64_t *random)
{
    pal_status status = tiles_alloc(t, count, set->dim, boxed);
    if (status)
        return status;
    status = boxed ? fill_arranged(t, set, f, random) : fill(t, set, f, threads, random);
    if (status)
        tiles_free(t);
    else
        tiles_complete(t);
    return status;
}
