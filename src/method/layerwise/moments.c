#include "method/layerwise/moments.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/onednn.h"

enum {
    TILE = 96,              /* rows and columns of a product that one thread computes at once */
    PIECE_BYTES = 16 << 20, /* of columns that are unfolded at once */
};

/* What the threads share while a piece is added: samples first .. first + count - 1 of a chunk, and
 * of each the output rows from `begin` to `end` (outermost spatial dimension). */
typedef struct piece {
    const walk *walk;
    const layer *layer;
    moments *to;
    size_t chunk, first, count;
    size_t begin, end;
    size_t positions; /* of the piece */
    float *x;         /* windowed: [blocks * columns, positions]; NULL: from the activations */
    float *y;         /* windowed: [rows, positions] */
    size_t column_tiles, row_tiles, block_rows;
    float *tiles; /* [threads, TILE, TILE] */
} piece;

void moments_free(moments *m)
{
    free(m->own);
    free(m->cross);
    free(m->mean_x);
    free(m->mean_y);
    *m = (moments){0};
}

/* ---------------------------------------------------------------- unfolding */

/* Where in the input output position p looks with place k of the kernel; -1: nowhere. */
static int64_t source_of(const layer *l, size_t d, int64_t p, int64_t k)
{
    const window_geometry *g = &l->window;
    int64_t at;
    if (l->transposed) {
        at = p + g->pad_begin[d] - k * g->dilation[d];
        if (at < 0 || at % g->stride[d])
            return -1;
        at /= g->stride[d];
    } else {
        at = p * g->stride[d] + k * g->dilation[d] - g->pad_begin[d];
    }
    return at >= 0 && at < g->input[d] ? at : -1;
}

static size_t extent(const window_geometry *g, size_t d)
{
    return d < g->spatial ? (size_t)g->output[d] : 1;
}

/* One line of positions along the last dimension. */
static void unfold_line(const layer *l, const float *from, int64_t k, float *to)
{
    const size_t last = l->window.spatial - 1, length = extent(&l->window, last);
    for (size_t p = 0; p < length; p++) {
        const int64_t at = source_of(l, last, (int64_t)p, k);
        to[p] = at < 0 ? 0 : from[at];
    }
}

/* A column's values at the positions of one sample. */
static void unfold(const piece *piece, const float *channel, size_t place, float *to)
{
    const layer *l = piece->layer;
    const window_geometry *g = &l->window;
    int64_t k[GRAPH_MAX_SPATIAL] = {0};
    const size_t last = g->spatial - 1, length = extent(g, last);
    for (size_t d = g->spatial; d-- > 0;) {
        k[d] = (int64_t)(place % (size_t)g->kernel[d]);
        place /= (size_t)g->kernel[d];
    }
    if (g->spatial == 1) { /* begin and end count positions themselves */
        for (size_t p = piece->begin; p < piece->end; p++) {
            const int64_t at = source_of(l, 0, (int64_t)p, k[0]);
            *to++ = at < 0 ? 0 : channel[at];
        }
        return;
    }
    const size_t middle = g->spatial == 3 ? extent(g, 1) : 1;
    for (size_t p = piece->begin; p < piece->end; p++)
        for (size_t q = 0; q < middle; q++, to += length) {
            int64_t line = source_of(l, 0, (int64_t)p, k[0]);
            if (g->spatial == 3) {
                const int64_t inner = source_of(l, 1, (int64_t)q, k[1]);
                line = line < 0 || inner < 0 ? -1 : line * g->input[1] + inner;
            }
            if (line < 0)
                memset(to, 0, length * sizeof *to);
            else
                unfold_line(l, channel + line * g->input[last], k[last], to);
        }
}

static size_t per_sample(const piece *piece)
{
    return piece->positions / piece->count;
}

/* Item: a column of a block, or behind them a row. */
static pal_status unfold_item(void *user, int thread, size_t i)
{
    const piece *piece = user;
    const layer *l = piece->layer;
    const graph *graph = piece->walk->graph;
    const size_t columns = l->blocks * l->columns, each = per_sample(piece);
    (void)thread;
    double sum = 0;
    float *to;
    if (i < columns) {
        const size_t places = l->columns / l->in_channels;
        const size_t channels = l->in_channels * l->blocks;
        const size_t channel = i / l->columns * l->in_channels + i % l->columns / places;
        const graph_value *x = &graph->values[l->x];
        size_t plane = 1;
        for (size_t d = 2; d < x->rank; d++)
            plane *= (size_t)x->shape[d];
        const float *values = walk_values(piece->walk, NETWORK_COMPRESSED, piece->chunk, l->x);
        to = piece->x + i * piece->positions;
        for (size_t s = 0; s < piece->count; s++)
            unfold(piece, values + ((piece->first + s) * channels + channel) * plane, i % places,
                   to + s * each);
        for (size_t p = 0; p < piece->positions; p++)
            sum += (double)to[p];
        piece->to->mean_x[i] += sum;
        return PAL_OK;
    }
    const size_t row = i - columns;
    const window_geometry *g = &l->window;
    size_t line = 1;
    for (size_t d = 1; d < g->spatial; d++)
        line *= extent(g, d);
    const size_t plane = line * extent(g, 0);
    const float *values = walk_values(piece->walk, NETWORK_FLOAT, piece->chunk, l->y);
    to = piece->y + row * piece->positions;
    for (size_t s = 0; s < piece->count; s++)
        memcpy(to + s * each,
               values + ((piece->first + s) * l->rows + row) * plane + piece->begin * line,
               each * sizeof *to);
    for (size_t p = 0; p < piece->positions; p++)
        sum += (double)to[p];
    piece->to->mean_y[row] += sum;
    return PAL_OK;
}

/* ---------------------------------------------------------------- products */

/* A matrix as an operand of a product; `stride` lies between its rows as stored. */
typedef struct matrix {
    const float *values;
    size_t stride;
    bool transposed;
} matrix;

/* to [m, n] := a [m, k] b [k, n] */
static pal_status multiply(size_t m, size_t n, size_t k, matrix a, matrix b, float *to)
{
    return onednn_gemm(a.transposed, b.transposed, (int64_t)m, (int64_t)n, (int64_t)k, 1, a.values,
                       (int64_t)a.stride, b.values, (int64_t)b.stride, 0, to, (int64_t)n);
}

/* x of a block from one of its columns on, with positions along rows. */
static matrix columns_of(const piece *piece, size_t block, size_t from)
{
    const layer *l = piece->layer;
    if (piece->x)
        return (matrix){piece->x + (block * l->columns + from) * piece->positions, piece->positions,
                        false};
    return (matrix){walk_values(piece->walk, NETWORK_COMPRESSED, piece->chunk, l->x) + from,
                    l->columns, true};
}

static matrix rows_of(const piece *piece, size_t from)
{
    const layer *l = piece->layer;
    if (piece->y)
        return (matrix){piece->y + from * piece->positions, piece->positions, false};
    return (matrix){walk_values(piece->walk, NETWORK_FLOAT, piece->chunk, l->y) + from, l->rows,
                    true};
}

static matrix flipped(matrix m)
{
    m.transposed = !m.transposed;
    return m;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Item: a tile of a block's x x^T (on and below the diagonal), or of its y x^T. */
static pal_status multiply_item(void *user, int thread, size_t i)
{
    const piece *piece = user;
    const layer *l = piece->layer;
    const size_t n = l->columns, own = piece->column_tiles * (piece->column_tiles + 1) / 2;
    const size_t all = own + piece->row_tiles * piece->column_tiles;
    const size_t block = i / all;
    size_t at = i % all, row = 0;
    float *tile = piece->tiles + (size_t)thread * TILE * TILE;
    double *to;
    size_t height, width;
    pal_status status;
    if (at < own) {
        while (at > row)
            at -= ++row;
        height = least(TILE, n - row * TILE);
        width = least(TILE, n - at * TILE);
        to = piece->to->own + (block * n + row * TILE) * n + at * TILE;
        status = multiply(height, width, piece->positions, columns_of(piece, block, row * TILE),
                          flipped(columns_of(piece, block, at * TILE)), tile);
    } else {
        at -= own;
        row = at / piece->column_tiles;
        at %= piece->column_tiles;
        const size_t first = block * piece->block_rows + row * TILE;
        height = least(TILE, piece->block_rows - row * TILE);
        width = least(TILE, n - at * TILE);
        to = piece->to->cross + first * n + at * TILE;
        status = multiply(height, width, piece->positions, rows_of(piece, first),
                          flipped(columns_of(piece, block, at * TILE)), tile);
    }
    for (size_t r = 0; !status && r < height; r++)
        for (size_t c = 0; c < width; c++)
            to[r * n + c] += (double)tile[r * width + c];
    return status;
}

static pal_status add_products(piece *piece)
{
    const layer *l = piece->layer;
    const size_t own = piece->column_tiles * (piece->column_tiles + 1) / 2;
    const parallel_job job = {.user = piece, .item = multiply_item};
    piece->to->positions += piece->positions;
    return parallel_run(&job, l->blocks * (own + piece->row_tiles * piece->column_tiles),
                        piece->walk->threads);
}

/* ---------------------------------------------------------------- chunks */

/* Pieces of whole samples where they are small, of some lines of one sample where they are not. */
static pal_status add_windows(piece *piece)
{
    const layer *l = piece->layer;
    const window_geometry *g = &l->window;
    const size_t columns = l->blocks * l->columns, lines = extent(g, 0);
    size_t line = 1;
    for (size_t d = 1; d < g->spatial; d++)
        line *= extent(g, d);
    const size_t most = PIECE_BYTES / sizeof(float) / columns + 1; /* positions */
    const size_t samples = most / (line * lines) ? most / (line * lines) : 1;
    const size_t step = samples > 1 || most >= line * lines ? lines : most / line ? most / line : 1;
    const size_t count = walk_count(piece->walk, piece->chunk);
    const size_t room = samples * step * line;
    piece->x = mem_array(columns * room, sizeof *piece->x);
    piece->y = mem_array(l->rows * room, sizeof *piece->y);
    pal_status status = piece->x && piece->y ? PAL_OK : fail_memory("calibration");
    const parallel_job job = {.user = piece, .item = unfold_item};
    for (piece->first = 0; !status && piece->first < count; piece->first += samples) {
        piece->count = least(samples, count - piece->first);
        for (piece->begin = 0; !status && piece->begin < lines; piece->begin += step) {
            piece->end = least(piece->begin + step, lines);
            piece->positions = piece->count * (piece->end - piece->begin) * line;
            status = parallel_run(&job, columns + l->rows, piece->walk->threads);
            if (!status)
                status = add_products(piece);
        }
    }
    free(piece->x);
    free(piece->y);
    piece->x = piece->y = NULL;
    return status;
}

static void add_means(double *to, const float *from, size_t positions, size_t width)
{
    for (size_t p = 0; p < positions; p++)
        for (size_t c = 0; c < width; c++)
            to[c] += (double)from[p * width + c];
}

/* Positions that belong to the counted samples. */
static pal_status add_plain(piece *piece)
{
    const layer *l = piece->layer;
    const walk *w = piece->walk;
    const graph_value *x = &w->graph->values[l->x];
    size_t positions = 1;
    for (size_t d = 0; d + 1 < x->rank; d++)
        positions *= (size_t)x->shape[d];
    if ((size_t)x->shape[0] == w->batch)
        positions = positions / w->batch * walk_count(w, piece->chunk);
    piece->positions = positions;
    add_means(piece->to->mean_x, walk_values(w, NETWORK_COMPRESSED, piece->chunk, l->x), positions,
              l->columns);
    add_means(piece->to->mean_y, walk_values(w, NETWORK_FLOAT, piece->chunk, l->y), positions,
              l->rows);
    return add_products(piece);
}

/* Sums become means, and the upper triangle that which the lower is. */
static void finish(moments *m)
{
    const size_t n = m->columns;
    const double each = 1 / (double)m->positions;
    for (size_t b = 0; b < m->blocks; b++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++) {
                double *lower = m->own + (b * n + i) * n + j;
                *lower *= each;
                m->own[(b * n + j) * n + i] = *lower;
            }
    for (size_t i = 0; i < m->rows * n; i++)
        m->cross[i] *= each;
    for (size_t i = 0; i < m->blocks * n; i++)
        m->mean_x[i] *= each;
    for (size_t i = 0; i < m->rows; i++)
        m->mean_y[i] *= each;
}

pal_status moments_measure(const walk *w, const layer *l, moments *m)
{
    *m = (moments){.rows = l->rows, .columns = l->columns, .blocks = l->blocks};
    m->own = mem_zeroed(m->blocks * m->columns, m->columns * sizeof *m->own);
    m->cross = mem_zeroed(m->rows, m->columns * sizeof *m->cross);
    m->mean_x = mem_zeroed(m->blocks * m->columns, sizeof *m->mean_x);
    m->mean_y = mem_zeroed(m->rows, sizeof *m->mean_y);
    piece piece = {.walk = w, .layer = l, .to = m};
    piece.block_rows = l->rows / l->blocks;
    piece.column_tiles = (l->columns + TILE - 1) / TILE;
    piece.row_tiles = (piece.block_rows + TILE - 1) / TILE;
    piece.tiles = mem_array((size_t)w->threads * TILE * TILE, sizeof *piece.tiles);
    pal_status status = m->own && m->cross && m->mean_x && m->mean_y && piece.tiles
                            ? PAL_OK
                            : fail_memory("calibration");
    for (piece.chunk = 0; !status && piece.chunk < w->chunks; piece.chunk++) {
        status = l->windowed ? add_windows(&piece) : add_plain(&piece);
        walk_rest(w, piece.chunk, l->x);
        walk_rest(w, piece.chunk, l->y);
    }
    free(piece.tiles);
    if (status)
        moments_free(m);
    else
        finish(m);
    return status;
}

/* A column that hardly varies has no moments but rounding errors: it is taken for constant. */
static void forget_column(moments *m, size_t block, size_t column)
{
    const size_t n = m->columns, rows = m->rows / m->blocks;
    double *own = m->own + block * n * n;
    for (size_t i = 0; i < n; i++)
        own[i * n + column] = own[column * n + i] = 0;
    for (size_t r = block * rows; r < (block + 1) * rows; r++)
        m->cross[r * n + column] = 0;
}

void moments_centre(moments *m)
{
    const size_t n = m->columns, block_rows = m->rows / m->blocks;
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < n; c++)
            m->cross[r * n + c] -= m->mean_y[r] * m->mean_x[r / block_rows * n + c];
    for (size_t b = 0; b < m->blocks; b++) {
        double *own = m->own + b * n * n;
        const double *mean = m->mean_x + b * n;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                own[i * n + j] -= mean[i] * mean[j];
        for (size_t i = 0; i < n; i++)
            if (!(own[i * n + i] > 1e-6 * mean[i] * mean[i]))
                forget_column(m, b, i);
    }
}
