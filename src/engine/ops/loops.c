#include "engine/ops/loops.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/ops/wide.h"

/* Below this many elements, threads cost more than they bring; and what a thread takes at once. */
enum { PARALLEL_LEAST = 1 << 15, CHUNK = 1 << 13 };

/* ---------------------------------------------------------------- one operand */

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static float softplus(float x)
{
    return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
}

static float gelu_tanh(float x)
{
    return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

static float clip(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* Signed arithmetic that wraps. */
static int64_t wrap(uint64_t x)
{
    return (int64_t)x;
}

#define UNARY_LOOP(name, in, out, expression)                                                      \
    WIDE static void name(int64_t count, const void *from, void *to, float alpha, float beta)      \
    {                                                                                              \
        const in *source = from;                                                                   \
        out *target = to;                                                                          \
        (void)alpha, (void)beta;                                                                   \
        INDEPENDENT for (int64_t i = 0; i < count; i++)                                            \
        {                                                                                          \
            const in x = source[i];                                                                \
            target[i] = (out)(expression);                                                         \
        }                                                                                          \
    }
#define FLOAT_LOOPS(F)                                                                             \
    F(RELU, x > 0 ? x : 0)                                                                         \
    F(LEAKY_RELU, x < 0 ? alpha * x : x)                                                           \
    F(ELU, x < 0 ? alpha * expm1f(x) : x)                                                          \
    F(SELU, beta *(x > 0 ? x : alpha * expm1f(x)))                                                 \
    F(CELU, x > 0 ? x : alpha * expm1f(x / alpha))                                                 \
    F(CLIP, clip(x, alpha, beta))                                                                  \
    F(THRESHOLDED_RELU, x > alpha ? x : 0)                                                         \
    F(SIGMOID, sigmoid(x))                                                                         \
    F(HARD_SIGMOID, clip(alpha *x + beta, 0, 1))                                                   \
    F(TANH, tanhf(x))                                                                              \
    F(SCALED_TANH, alpha *tanhf(beta *x))                                                          \
    F(SOFTPLUS, softplus(x))                                                                       \
    F(SOFTSIGN, x / (1 + fabsf(x)))                                                                \
    F(HARD_SWISH, x *clip(x / 6 + 0.5f, 0, 1))                                                     \
    F(SWISH, x *sigmoid(alpha *x))                                                                 \
    F(MISH, x *tanhf(softplus(x)))                                                                 \
    F(GELU, 0.5f * x * (1 + erff(x * 0.70710678f)))                                                \
    F(GELU_TANH, gelu_tanh(x))                                                                     \
    F(GELU_SIGMOID, x *sigmoid(1.702f * x))                                                        \
    F(HARDMAX_SHRINK, x<-alpha ? x + beta : x> alpha ? x - beta : 0)                               \
    F(LINEAR, alpha *x + beta)                                                                     \
    F(ABS, fabsf(x))                                                                               \
    F(NEG, -x)                                                                                     \
    F(SIGN, x > 0 ? 1.0f : x < 0 ? -1.0f : x)                                                      \
    F(EXP, expf(x))                                                                                \
    F(EXPM1, expm1f(x))                                                                            \
    F(LOG, logf(x + alpha))                                                                        \
    F(SQRT, sqrtf(x))                                                                              \
    F(RSQRT, 1 / sqrtf(x + alpha))                                                                 \
    F(RECIPROCAL, 1 / (x + alpha))                                                                 \
    F(SQUARE, x *x)                                                                                \
    F(ERF, erff(x))                                                                                \
    F(FLOOR, floorf(x))                                                                            \
    F(CEIL, ceilf(x))                                                                              \
    F(ROUND, rintf(x))                                                                             \
    F(SIN, sinf(x))                                                                                \
    F(COS, cosf(x))                                                                                \
    F(TAN, tanf(x))                                                                                \
    F(ASIN, asinf(x))                                                                              \
    F(ACOS, acosf(x))                                                                              \
    F(ATAN, atanf(x))                                                                              \
    F(SINH, sinhf(x))                                                                              \
    F(COSH, coshf(x))                                                                              \
    F(ASINH, asinhf(x))                                                                            \
    F(ACOSH, acoshf(x))                                                                            \
    F(ATANH, atanhf(x))
#define INT_LOOPS(F)                                                                               \
    F(RELU, x > 0 ? x : 0)                                                                         \
    F(ABS, x < 0 ? wrap(0u - (uint64_t)x) : x)                                                     \
    F(NEG, wrap(0u - (uint64_t)x))                                                                 \
    F(SIGN, (x > 0) - (x < 0))                                                                     \
    F(SQUARE, wrap((uint64_t)x *(uint64_t)x))                                                      \
    F(FLOOR, x)                                                                                    \
    F(CEIL, x)                                                                                     \
    F(ROUND, x)

#define FLOAT_LOOP(kind, expression) UNARY_LOOP(float_##kind, float, float, expression)
#define INT_LOOP(kind, expression)   UNARY_LOOP(int_##kind, int64_t, int64_t, expression)
FLOAT_LOOPS(FLOAT_LOOP)
INT_LOOPS(INT_LOOP)
UNARY_LOOP(bool_NOT, unsigned char, unsigned char, !x)
UNARY_LOOP(float_IS_NAN, float, unsigned char, x != x)
UNARY_LOOP(float_IS_INF, float, unsigned char,
           (alpha != 0 && x == INFINITY) || (beta != 0 && x == -INFINITY))

#define FLOAT_ENTRY(kind, expression) [UNARY_##kind] = float_##kind,
#define INT_ENTRY(kind, expression)   [UNARY_##kind] = int_##kind,
static const unary_loop float_unary[UNARY_KIND_COUNT] = {
    FLOAT_LOOPS(FLOAT_ENTRY)[UNARY_IS_NAN] = float_IS_NAN,
    [UNARY_IS_INF] = float_IS_INF,
};
static const unary_loop int_unary[UNARY_KIND_COUNT] = {INT_LOOPS(INT_ENTRY)};
static const unary_loop bool_unary[UNARY_KIND_COUNT] = {[UNARY_NOT] = bool_NOT};

unary_loop find_unary_loop(unary_kind kind, graph_type type, graph_type *result)
{
    if (kind >= UNARY_KIND_COUNT)
        return NULL;
    if (result)
        *result = kind >= UNARY_NOT ? GRAPH_BOOL : type;
    return type == GRAPH_FLOAT ? float_unary[kind]
           : type == GRAPH_INT ? int_unary[kind]
                               : bool_unary[kind];
}

void run_unary(unary_loop f, int64_t count, const void *x, size_t x_size, void *y, size_t y_size,
               float alpha, float beta)
{
    const int64_t chunks = (count + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) if (count >= PARALLEL_LEAST)
    for (int64_t i = 0; i < chunks; i++) {
        const int64_t begin = i * CHUNK, end = begin + CHUNK < count ? begin + CHUNK : count;
        f(end - begin, (const char *)x + (size_t)begin * x_size, (char *)y + (size_t)begin * y_size,
          alpha, beta);
    }
}

/* ---------------------------------------------------------------- two operands */

/* Division by zero and of the smallest number by -1 would trap. */
static int64_t divide(int64_t p, int64_t q)
{
    return q == 0 ? 0 : q == -1 ? wrap(0u - (uint64_t)p) : p / q;
}

static int64_t remainder_of(int64_t p, int64_t q)
{
    return q == 0 || q == -1 ? 0 : p % q;
}

static int64_t floor_divide(int64_t p, int64_t q)
{
    const int64_t quotient = divide(p, q), rest = remainder_of(p, q);
    return rest != 0 && (rest < 0) != (q < 0) ? quotient - 1 : quotient;
}

static int64_t floor_remainder(int64_t p, int64_t q)
{
    const int64_t rest = remainder_of(p, q);
    return rest != 0 && (rest < 0) != (q < 0) ? rest + q : rest;
}

static float floor_remainder_float(float p, float q)
{
    const float rest = fmodf(p, q);
    return rest != 0 && (rest < 0) != (q < 0) ? rest + q : rest;
}

static int64_t power(int64_t base, int64_t exponent)
{
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    uint64_t result = 1, square = (uint64_t)base;
    for (; exponent; exponent >>= 1, square *= square)
        if (exponent & 1)
            result *= square;
    return wrap(result);
}

#define ROW(expression)                                                                            \
    INDEPENDENT for (int64_t c = 0; c < columns; c++)                                              \
    {                                                                                              \
        expression                                                                                 \
    }
#define BINARY_LOOP(name, in, out, expression)                                                     \
    WIDE static void name(int64_t rows, int64_t columns, void *to, const void *from_a,             \
                          int64_t a_row, int64_t a_column, const void *from_b, int64_t b_row,      \
                          int64_t b_column)                                                        \
    {                                                                                              \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            out *y = (out *)to + r * columns;                                                      \
            const in *a = (const in *)from_a + r * a_row, *b = (const in *)from_b + r * b_row;     \
            if (a_column == 1 && b_column == 1) {                                                  \
                ROW(const in p = a[c]; const in q = b[c]; y[c] = (out)(expression);)               \
            } else if (a_column == 1 && b_column == 0) {                                           \
                const in q = b[0];                                                                 \
                ROW(const in p = a[c]; y[c] = (out)(expression);)                                  \
            } else if (a_column == 0 && b_column == 1) {                                           \
                const in p = a[0];                                                                 \
                ROW(const in q = b[c]; y[c] = (out)(expression);)                                  \
            } else {                                                                               \
                for (int64_t c = 0; c < columns; c++) {                                            \
                    const in p = a[c * a_column], q = b[c * b_column];                             \
                    y[c] = (out)(expression);                                                      \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
#define COMPARISONS(F)                                                                             \
    F(EQUAL, p == q)                                                                               \
    F(NOT_EQUAL, p != q)                                                                           \
    F(LESS, p < q)                                                                                 \
    F(LESS_EQUAL, p <= q)                                                                          \
    F(GREATER, p > q)                                                                              \
    F(GREATER_EQUAL, p >= q)
#define FLOAT_PAIRS(F)                                                                             \
    F(ADD, p + q)                                                                                  \
    F(SUB, p - q)                                                                                  \
    F(MUL, p *q)                                                                                   \
    F(DIV, p / q)                                                                                  \
    F(FLOOR_DIV, floorf(p / q))                                                                    \
    F(MOD, floor_remainder_float(p, q))                                                            \
    F(FMOD, fmodf(p, q))                                                                           \
    F(POW, powf(p, q))                                                                             \
    F(MIN, q < p || q != q ? q : p)                                                                \
    F(MAX, q > p || q != q ? q : p)
#define INT_PAIRS(F)                                                                               \
    F(ADD, wrap((uint64_t)p + (uint64_t)q))                                                        \
    F(SUB, wrap((uint64_t)p - (uint64_t)q))                                                        \
    F(MUL, wrap((uint64_t)p *(uint64_t)q))                                                         \
    F(DIV, divide(p, q))                                                                           \
    F(FLOOR_DIV, floor_divide(p, q))                                                               \
    F(MOD, floor_remainder(p, q))                                                                  \
    F(FMOD, remainder_of(p, q))                                                                    \
    F(POW, power(p, q))                                                                            \
    F(MIN, p < q ? p : q)                                                                          \
    F(MAX, p > q ? p : q)                                                                          \
    F(BIT_AND, p &q)                                                                               \
    F(BIT_OR, p | q)                                                                               \
    F(BIT_XOR, p ^ q)                                                                              \
    F(SHIFT_LEFT, q<0 || q> 63 ? 0 : wrap((uint64_t)p << q))                                       \
    F(SHIFT_RIGHT, p >> (q < 0 || q > 63 ? 63 : q))
#define BOOL_PAIRS(F)                                                                              \
    F(EQUAL, p == q)                                                                               \
    F(NOT_EQUAL, p != q)                                                                           \
    F(AND, p &q)                                                                                   \
    F(OR, p | q)                                                                                   \
    F(XOR, p ^ q)

#define FLOAT_PAIR(kind, expression) BINARY_LOOP(pair_float_##kind, float, float, expression)
#define FLOAT_COMPARE(kind, expression)                                                            \
    BINARY_LOOP(pair_float_##kind, float, unsigned char, expression)
#define INT_PAIR(kind, expression) BINARY_LOOP(pair_int_##kind, int64_t, int64_t, expression)
#define INT_COMPARE(kind, expression)                                                              \
    BINARY_LOOP(pair_int_##kind, int64_t, unsigned char, expression)
#define BOOL_PAIR(kind, expression)                                                                \
    BINARY_LOOP(pair_bool_##kind, unsigned char, unsigned char, expression)
FLOAT_PAIRS(FLOAT_PAIR)
COMPARISONS(FLOAT_COMPARE)
INT_PAIRS(INT_PAIR)
COMPARISONS(INT_COMPARE)
BOOL_PAIRS(BOOL_PAIR)
BINARY_LOOP(pair_float_PRELU, float, float, p < 0 ? p * q : p)

#define FLOAT_PAIR_ENTRY(kind, expression) [BINARY_##kind] = pair_float_##kind,
#define INT_PAIR_ENTRY(kind, expression)   [BINARY_##kind] = pair_int_##kind,
#define BOOL_PAIR_ENTRY(kind, expression)  [BINARY_##kind] = pair_bool_##kind,
static const binary_loop float_binary[BINARY_KIND_COUNT + 1] = {
    FLOAT_PAIRS(FLOAT_PAIR_ENTRY) COMPARISONS(FLOAT_PAIR_ENTRY)[BINARY_PRELU] = pair_float_PRELU,
};
static const binary_loop int_binary[BINARY_KIND_COUNT + 1] = {INT_PAIRS(INT_PAIR_ENTRY)
                                                                  COMPARISONS(INT_PAIR_ENTRY)};
static const binary_loop bool_binary[BINARY_KIND_COUNT + 1] = {BOOL_PAIRS(BOOL_PAIR_ENTRY)};

binary_loop find_binary_loop(binary_kind kind, graph_type type, graph_type *result)
{
    if (kind > BINARY_PRELU)
        return NULL;
    if (result)
        *result = kind >= BINARY_EQUAL && kind != BINARY_PRELU ? GRAPH_BOOL : type;
    return type == GRAPH_FLOAT ? float_binary[kind]
           : type == GRAPH_INT ? int_binary[kind]
                               : bool_binary[kind];
}

/* ---------------------------------------------------------------- broadcasting */

void broadcast_simplify(broadcast *b)
{
    broadcast out = {.operands = b->operands};
    for (size_t i = 0; i < b->rank; i++) {
        if (b->extent[i] == 1)
            continue;
        /* The dimension before is one with this if each step of it is one past this one's end. */
        bool merges = out.rank > 0;
        for (size_t o = 0; merges && o < b->operands; o++)
            merges = out.stride[o][out.rank - 1] == b->stride[o][i] * b->extent[i];
        if (merges) {
            out.extent[out.rank - 1] *= b->extent[i];
        } else {
            out.extent[out.rank++] = b->extent[i];
        }
        for (size_t o = 0; o < b->operands; o++)
            out.stride[o][out.rank - 1] = b->stride[o][i];
    }
    for (; out.rank < 2; out.rank++) {
        memmove(out.extent + 1, out.extent, out.rank * sizeof *out.extent);
        out.extent[0] = 1;
        for (size_t o = 0; o < b->operands; o++) {
            memmove(out.stride[o] + 1, out.stride[o], out.rank * sizeof *out.stride[o]);
            out.stride[o][0] = 0;
        }
    }
    *b = out;
}

/* Where each operand is at the given number of the dimensions but the last two. */
static void outer_offsets(const broadcast *b, int64_t number, int64_t offset[3])
{
    offset[0] = offset[1] = offset[2] = 0;
    for (size_t i = b->rank - 2; i-- > 0;) {
        const int64_t at = number % b->extent[i];
        number /= b->extent[i];
        for (size_t o = 0; o < b->operands; o++)
            offset[o] += at * b->stride[o][i];
    }
}

/* Work for threads: the dimensions but the last two, times parts of the rows or of a single row. */
typedef struct parts {
    int64_t outer, rows, columns, row_parts, rows_each, column_parts, columns_each, total;
} parts;

static parts parts_of(const broadcast *b)
{
    parts p = {.outer = 1, .rows = b->extent[b->rank - 2], .columns = b->extent[b->rank - 1]};
    for (size_t i = 0; i + 2 < b->rank; i++)
        p.outer *= b->extent[i];
    p.rows_each = p.columns > 0 ? CHUNK / p.columns : 1;
    p.rows_each = p.rows_each < 1 ? 1 : p.rows_each > p.rows ? p.rows : p.rows_each;
    p.row_parts = p.rows_each ? (p.rows + p.rows_each - 1) / p.rows_each : 0;
    p.columns_each = p.columns > 2 * CHUNK ? CHUNK : p.columns;
    p.column_parts = p.columns_each ? (p.columns + p.columns_each - 1) / p.columns_each : 0;
    p.total = p.outer * p.row_parts * p.column_parts;
    return p;
}

typedef struct part {
    int64_t row, column, rows, columns, y, offset[3];
} part;

static part part_at(const broadcast *b, const parts *p, int64_t number)
{
    part at;
    const int64_t column = number % p->column_parts, rest = number / p->column_parts;
    const int64_t outer = rest / p->row_parts;
    at.row = rest % p->row_parts * p->rows_each;
    at.column = column * p->columns_each;
    at.rows = at.row + p->rows_each < p->rows ? p->rows_each : p->rows - at.row;
    at.columns =
        at.column + p->columns_each < p->columns ? p->columns_each : p->columns - at.column;
    outer_offsets(b, outer, at.offset);
    for (size_t o = 0; o < b->operands; o++)
        at.offset[o] += at.row * b->stride[o][b->rank - 2] + at.column * b->stride[o][b->rank - 1];
    at.y = (outer * p->rows + at.row) * p->columns + at.column;
    return at;
}

void broadcast_binary(const broadcast *b, binary_loop f, void *y, size_t y_size, const void *a,
                      const void *second, size_t size)
{
    const parts p = parts_of(b);
    const size_t r = b->rank - 2, c = b->rank - 1;
#pragma omp parallel for schedule(static) if (p.total > 3)
    for (int64_t i = 0; i < p.total; i++) {
        const part at = part_at(b, &p, i);
        /* Where columns are cut there is one row at a time. */
        f(at.rows, at.columns, (char *)y + (size_t)at.y * y_size,
          (const char *)a + at.offset[0] * (int64_t)size, b->stride[0][r], b->stride[0][c],
          (const char *)second + at.offset[1] * (int64_t)size, b->stride[1][r], b->stride[1][c]);
    }
}

#define SELECT_PART(type)                                                                          \
    do {                                                                                           \
        const type *p = (const type *)a + at->offset[1], *q = (const type *)c + at->offset[2];     \
        for (int64_t row = 0; row < at->rows; row++)                                               \
            for (int64_t i = 0; i < at->columns; i++)                                              \
                ((type *)y)[at->y + row * at->columns + i] =                                       \
                    condition[at->offset[0] + row * row_stride[0] + i * stride[0]]                 \
                        ? p[row * row_stride[1] + i * stride[1]]                                   \
                        : q[row * row_stride[2] + i * stride[2]];                                  \
    } while (0)

static void select_part(const part *at, const int64_t *row_stride, const int64_t *stride, void *y,
                        const unsigned char *condition, const void *a, const void *c, size_t size)
{
    if (size == 1)
        SELECT_PART(uint8_t);
    else if (size == 4)
        SELECT_PART(uint32_t);
    else
        SELECT_PART(uint64_t);
}

void broadcast_select(const broadcast *b, void *y, const unsigned char *condition, const void *a,
                      const void *c, size_t size)
{
    const parts p = parts_of(b);
    int64_t rows[3], columns[3];
    for (size_t o = 0; o < 3; o++) {
        rows[o] = b->stride[o][b->rank - 2];
        columns[o] = b->stride[o][b->rank - 1];
    }
#pragma omp parallel for schedule(static) if (p.total > 3)
    for (int64_t i = 0; i < p.total; i++) {
        const part at = part_at(b, &p, i);
        select_part(&at, rows, columns, y, condition, a, c, size);
    }
}
