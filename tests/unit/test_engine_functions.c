/* Functions of elements, pools, normalisation, softmax and attention against plain loops. */
#include "engine_graphs.h"

#include <float.h>

#include "engine/ops/loops.h"

/* ---------------------------------------------------------------- elements */

static double reference(unary_kind kind, double x, double alpha, double beta)
{
    switch (kind) {
    case UNARY_RELU: return x > 0 ? x : 0;
    case UNARY_LEAKY_RELU: return x < 0 ? alpha * x : x;
    case UNARY_ELU: return x < 0 ? alpha * expm1(x) : x;
    case UNARY_SELU: return beta * (x > 0 ? x : alpha * expm1(x));
    case UNARY_CELU: return x > 0 ? x : alpha * expm1(x / alpha);
    case UNARY_CLIP: return x < alpha ? alpha : x > beta ? beta : x;
    case UNARY_THRESHOLDED_RELU: return x > alpha ? x : 0;
    case UNARY_SIGMOID: return 1 / (1 + exp(-x));
    case UNARY_HARD_SIGMOID: return fmin(1, fmax(0, alpha * x + beta));
    case UNARY_TANH: return tanh(x);
    case UNARY_SCALED_TANH: return alpha * tanh(beta * x);
    case UNARY_SOFTPLUS: return log1p(exp(x));
    case UNARY_SOFTSIGN: return x / (1 + fabs(x));
    case UNARY_HARD_SWISH: return x * fmin(1, fmax(0, x / 6 + 0.5));
    case UNARY_SWISH: return x / (1 + exp(-alpha * x));
    case UNARY_MISH: return x * tanh(log1p(exp(x)));
    case UNARY_GELU: return x * 0.5 * (1 + erf(x * sqrt(0.5)));
    case UNARY_GELU_TANH: return x * 0.5 * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
    case UNARY_GELU_SIGMOID: return x / (1 + exp(-1.702 * x));
    case UNARY_HARDMAX_SHRINK: return x < -alpha ? x + beta : x > alpha ? x - beta : 0;
    case UNARY_LINEAR: return alpha * x + beta;
    case UNARY_ABS: return fabs(x);
    case UNARY_NEG: return -x;
    case UNARY_SIGN: return (x > 0) - (x < 0);
    case UNARY_EXP: return exp(x);
    case UNARY_EXPM1: return expm1(x);
    case UNARY_LOG: return log(x + alpha);
    case UNARY_SQRT: return sqrt(x);
    case UNARY_RSQRT: return 1 / sqrt(x + alpha);
    case UNARY_RECIPROCAL: return 1 / (x + alpha);
    case UNARY_SQUARE: return x * x;
    case UNARY_ERF: return erf(x);
    case UNARY_FLOOR: return floor(x);
    case UNARY_CEIL: return ceil(x);
    case UNARY_ROUND: return rint(x);
    case UNARY_SIN: return sin(x);
    case UNARY_COS: return cos(x);
    case UNARY_TAN: return tan(x);
    case UNARY_ASIN: return asin(x);
    case UNARY_ACOS: return acos(x);
    case UNARY_ATAN: return atan(x);
    case UNARY_SINH: return sinh(x);
    case UNARY_COSH: return cosh(x);
    case UNARY_ASINH: return asinh(x);
    case UNARY_ACOSH: return acosh(x);
    case UNARY_ATANH: return atanh(x);
    default: return NAN;
    }
}

/* Numbers that a function is defined for. */
static float allowed(unary_kind kind, float x, float alpha)
{
    switch (kind) {
    case UNARY_LOG:
    case UNARY_SQRT:
    case UNARY_RSQRT:
    case UNARY_RECIPROCAL: return fabsf(x) + 0.1f - (alpha < 0 ? alpha : 0);
    case UNARY_ASIN:
    case UNARY_ACOS:
    case UNARY_ATANH:
    case UNARY_TAN: return 0.9f * x / (1 + fabsf(x));
    case UNARY_ACOSH: return 1 + fabsf(x);
    default: return x;
    }
}

static void functions(void **state)
{
    (void)state;
    for (int kind = 0; kind < UNARY_NOT; kind++)
        for (int with = 0; with < 2; with++) {
            bench b = bench_new((uint64_t)kind);
            const float alpha = kind == UNARY_CLIP ? -0.5f : with ? 0.75f : 0.125f;
            const float beta = 0.5f;
            const size_t x = any_of(&b, false, 3, (const int64_t[]){3, 7, 5});
            for (size_t i = 0; i < 105; i++)
                b.inputs[0][i] = allowed((unary_kind)kind, 2 * b.inputs[0][i], alpha);
            double wanted[105];
            for (size_t i = 0; i < 105; i++)
                wanted[i] = reference((unary_kind)kind, b.inputs[0][i], alpha, beta);
            float *got = compute(&b, unary(&b, (unary_kind)kind, alpha, beta, x));
            assert_close(got, wanted, 105, 2e-6);
            free(got);
            bench_free(&b);
        }
}

static double combine(binary_kind kind, double p, double q)
{
    switch (kind) {
    case BINARY_ADD: return p + q;
    case BINARY_SUB: return p - q;
    case BINARY_MUL: return p * q;
    case BINARY_DIV: return p / q;
    case BINARY_FLOOR_DIV: return floor(p / q);
    case BINARY_MOD: return p - q * floor(p / q);
    case BINARY_FMOD: return fmod(p, q);
    case BINARY_POW: return pow(p, q);
    case BINARY_MIN: return fmin(p, q);
    case BINARY_MAX: return fmax(p, q);
    default: return NAN;
    }
}

static void pairs(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        bench b = bench_new(seed);
        const binary_kind kind = (binary_kind)(seed % (BINARY_MAX + 1));
        int64_t full[4], shapes[2][4];
        size_t ranks[2], values[2];
        for (size_t i = 0; i < 4; i++)
            full[i] = 1 + random_below(&b.random, i == 3 ? 40 : 5);
        for (size_t o = 0; o < 2; o++) {
            ranks[o] = random_below(&b.random, 5);
            for (size_t i = 0; i < ranks[o]; i++)
                shapes[o][i] = random_below(&b.random, 3) ? full[4 - ranks[o] + i] : 1;
            values[o] = any_of(&b, random_below(&b.random, 2), ranks[o], shapes[o]);
            /* Away from where quotients and powers are not smooth. */
            float *numbers = (float *)(uintptr_t)numbers_of(&b, values[o]);
            for (uint64_t i = 0; i < graph_elements(value_of(&b, values[o])); i++)
                if (kind == BINARY_POW || (o && kind >= BINARY_DIV))
                    numbers[i] = fabsf(numbers[i]) + 0.37f;
        }
        const size_t y = binary(&b, kind, values[0], values[1]);
        const graph_value result = *value_of(&b, y);
        const uint64_t count = graph_elements(&result);
        double *wanted = malloc(count * sizeof *wanted);
        assert_non_null(wanted);
        for (uint64_t i = 0; i < count; i++) {
            double operand[2];
            for (size_t o = 0; o < 2; o++)
                operand[o] =
                    numbers_of(&b, values[o])[broadcast_index(value_of(&b, values[o]), &result, i)];
            wanted[i] = combine(kind, operand[0], operand[1]);
        }
        float *got = compute(&b, y);
        assert_close(got, wanted, count, 1e-5);
        free(got);
        free(wanted);
        bench_free(&b);
    }
}

static void integers(void **state)
{
    (void)state;
    static const struct {
        binary_kind kind;
        int64_t p, q, result;
    } cases[] = {
        {BINARY_DIV, -7, 2, -3},         {BINARY_FLOOR_DIV, -7, 2, -4},
        {BINARY_MOD, -7, 3, 2},          {BINARY_MOD, 7, -3, -2},
        {BINARY_FMOD, -7, 3, -1},        {BINARY_DIV, 5, 0, 0},
        {BINARY_MOD, 5, 0, 0},           {BINARY_DIV, INT64_MIN, -1, INT64_MIN},
        {BINARY_FMOD, INT64_MIN, -1, 0}, {BINARY_POW, 3, 4, 81},
        {BINARY_POW, 2, -1, 0},          {BINARY_POW, -1, -3, -1},
        {BINARY_MIN, 3, -4, -4},         {BINARY_MAX, 3, -4, 3},
        {BINARY_BIT_AND, 6, 3, 2},       {BINARY_BIT_OR, 6, 3, 7},
        {BINARY_BIT_XOR, 6, 3, 5},       {BINARY_ADD, INT64_MAX, 1, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t result;
        find_binary_loop(cases[i].kind, GRAPH_INT, NULL)(1, 1, &result, &cases[i].p, 1, 1,
                                                         &cases[i].q, 1, 1);
        assert_int_equal(result, cases[i].result);
    }
    assert_null(find_binary_loop(BINARY_DIV, GRAPH_BOOL, NULL));
    assert_null(find_unary_loop(UNARY_EXP, GRAPH_INT, NULL));
}

/* Booleans that take as many bytes as an operand of fewer elements are not written over it. */
static void comparisons_of_few(void **state)
{
    (void)state;
    bench b = bench_new(5);
    const size_t x = any_of(&b, false, 2, (const int64_t[]){1, 8});
    const size_t y = any_of(&b, false, 2, (const int64_t[]){4, 1});
    const size_t scaled = unary(&b, UNARY_LINEAR, 2, 0, x);
    const op_attributes to_float = {.cast = {PAL_FLOAT32}};
    const size_t less = binary(&b, BINARY_LESS, scaled, y);
    float *got = compute(&b, add(&b, OP_CAST, &to_float, 1, &less));
    for (int i = 0; i < 32; i++)
        assert_true(got[i] == (2 * b.inputs[0][i % 8] < b.inputs[1][i / 8]));
    free(got);
    bench_free(&b);
}

static size_t row_major(bench *b, size_t x)
{
    return add(b, OP_TRANSPOSE, &(op_attributes){.transpose = {.count = 4, .perm = {0, 1, 2, 3}}},
               1, &x);
}

/* Functions between convolutions, whose results are in blocks of channels that these numbers of
 * channels do not fill: the padding must be zero again for the second. A single channel is either
 * the first of a padded block or broadcast. */
static void blocked_layouts(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 48; seed++) {
        const int64_t channels = seed < 24 ? 20 : 1, kernel = seed < 24 ? 3 : 1;
        float *results[2];
        uint64_t count = 0;
        /* Once in the layouts that convolutions choose, once row-major for all functions. */
        for (int plain = 0; plain < 2; plain++) {
            bench b = bench_new(seed);
            const op_attributes a = {.window = {.stride = {1, 1},
                                                .dilation = {1, 1},
                                                .pad_begin = {kernel / 2, kernel / 2},
                                                .pad_end = {kernel / 2, kernel / 2},
                                                .groups = 1}};
            const size_t x = any_of(&b, false, 4, (const int64_t[]){2, channels, 6, 5});
            const size_t w =
                any_of(&b, seed < 24, 4, (const int64_t[]){channels, channels, kernel, kernel});
            const size_t gate = any_of(&b, false, 4,
                                       (const int64_t[]){seed & 1 ? 2 : 1, seed & 2 ? channels : 1,
                                                         seed & 4 ? 6 : 1, seed & 8 ? 5 : 1});
            const size_t vector = any_of(&b, true, 3, (const int64_t[]){channels, 1, 1});
            size_t y = add(&b, OP_CONV, &a, 3, (const size_t[]){x, w, GRAPH_NONE});
            const size_t first = y;
            if (plain)
                y = row_major(&b, y);
            y = unary(&b, UNARY_SIGMOID, 0, 0, y);
            y = binary(&b, BINARY_MUL, y, gate);
            y = binary(&b, seed & 16 ? BINARY_DIV : BINARY_SUB, y, vector);
            y = unary(&b, UNARY_COS, 0, 0, y);
            y = binary(&b, BINARY_ADD, number_of(&b, 0.5f), y);
            y = binary(&b, BINARY_ADD, y, first);
            y = add(&b, OP_CONV, &a, 3, (const size_t[]){y, w, GRAPH_NONE});
            if (plain)
                y = row_major(&b, y);
            y = unary(&b, UNARY_TANH, 0, 0, binary(&b, BINARY_MUL, y, number_of(&b, 0.01f)));
            count = graph_elements(value_of(&b, y));
            results[plain] = compute(&b, y);
            bench_free(&b);
        }
        for (uint64_t i = 0; i < count; i++)
            assert_true(fabsf(results[0][i] - results[1][i]) < 1e-4f);
        free(results[0]);
        free(results[1]);
    }
}

/* ---------------------------------------------------------------- pools */

static void check_pool(uint64_t seed)
{
    bench b = bench_new(seed);
    uint64_t *random = &b.random;
    const size_t spatial = 1 + random_below(random, 3);
    op_attributes a = {.pool = {.ceil = random_below(random, 2),
                                .include_pads = random_below(random, 2),
                                .p = 1 + random_below(random, 3)}};
    a.pool.kind = random_below(random, 3) == 0   ? POOL_LP
                  : random_below(random, 2) == 0 ? POOL_MAX
                                                 : POOL_AVERAGE;
    int64_t shape[5] = {1 + random_below(random, 2), 1 + random_below(random, 20)};
    for (size_t i = 0; i < spatial; i++) {
        a.window.kernel[i] = 1 + random_below(random, 3);
        a.window.stride[i] = 1 + random_below(random, 3);
        a.window.dilation[i] = 1 + random_below(random, 2);
        a.window.pad_begin[i] = random_below(random, (unsigned)a.window.kernel[i]);
        a.window.pad_end[i] = random_below(random, (unsigned)a.window.kernel[i]);
        shape[2 + i] =
            (a.window.kernel[i] - 1) * a.window.dilation[i] + 1 + random_below(random, 6);
    }
    const size_t x = any_of(&b, false, 2 + spatial, shape);
    const size_t y = add(&b, OP_POOL, &a, 1, &x);
    window_geometry g;
    assert_ok(resolve_window(&b.graph->main.nodes[0], value_of(&b, x), NULL, &g));
    for (size_t i = spatial; i < 3; i++) {
        g.kernel[i] = g.stride[i] = g.dilation[i] = g.input[i] = g.output[i] = 1;
        g.pad_begin[i] = g.pad_end[i] = 0;
    }
    const uint64_t count = graph_elements(value_of(&b, y));
    double *wanted = malloc(count * sizeof *wanted);
    assert_non_null(wanted);
    const int64_t area = g.input[0] * g.input[1] * g.input[2];
    const int64_t spots = g.output[0] * g.output[1] * g.output[2];
    for (int64_t n = 0; n < (int64_t)count; n++) {
        double sum = 0, largest = -INFINITY, seen = 0, counted = 0;
        const int64_t s = n % spots;
        const int64_t p[3] = {s / (g.output[1] * g.output[2]), s / g.output[2] % g.output[1],
                              s % g.output[2]};
        for (int64_t k = 0; k < g.kernel[0] * g.kernel[1] * g.kernel[2]; k++) {
            const int64_t q[3] = {k / (g.kernel[1] * g.kernel[2]), k / g.kernel[2] % g.kernel[1],
                                  k % g.kernel[2]};
            int64_t at = 0;
            bool inside = true, within = true;
            for (size_t i = 0; i < 3; i++) {
                const int64_t d = p[i] * g.stride[i] - g.pad_begin[i] + q[i] * g.dilation[i];
                inside = inside && d >= 0 && d < g.input[i];
                within = within && d < g.input[i] + g.pad_end[i];
                at = at * g.input[i] + d;
            }
            counted += within;
            if (!inside)
                continue;
            const double v = b.inputs[0][n / spots * area + at];
            seen++;
            largest = fmax(largest, v);
            sum += a.pool.kind == POOL_LP ? pow(fabs(v), (double)a.pool.p) : v;
        }
        const double divisor = a.pool.include_pads ? counted : seen;
        wanted[n] = a.pool.kind == POOL_MAX  ? largest
                    : a.pool.kind == POOL_LP ? pow(sum, 1 / (double)a.pool.p)
                    : divisor > 0            ? sum / divisor
                                             : 0;
    }
    float *got = compute(&b, y);
    for (uint64_t i = 0; i < count; i++)
        if (isinf(wanted[i])) /* a window in the padding: nobody says what its maximum is */
            wanted[i] = (double)got[i];
    assert_close(got, wanted, count, 1e-5);
    free(got);
    free(wanted);
    bench_free(&b);
}

static void pools(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++)
        check_pool(seed);
}

/* ---------------------------------------------------------------- normalisation */

/* Rows of `count` elements that start `step` apart and whose elements are `stride` apart. */
static void normalise(double *x, int64_t count, int64_t stride, double epsilon, bool centre)
{
    double mean = 0, squares = 0;
    for (int64_t i = 0; centre && i < count; i++)
        mean += x[i * stride] / (double)count;
    for (int64_t i = 0; i < count; i++)
        squares += (x[i * stride] - mean) * (x[i * stride] - mean) / (double)count;
    for (int64_t i = 0; i < count; i++)
        x[i * stride] = (x[i * stride] - mean) / sqrt(squares + epsilon);
}

static void norms(void **state)
{
    (void)state;
    enum { N = 2, C = 12, S = 35 };
    for (int kind = 0; kind < 6; kind++) {
        bench b = bench_new((uint64_t)kind);
        const size_t x = any_of(&b, false, 4, (const int64_t[]){N, C, 5, 7});
        const size_t scale = any_of(&b, true, 1, (const int64_t[]){C});
        const size_t shift = any_of(&b, true, 1, (const int64_t[]){C});
        const size_t row = any_of(&b, true, 2, (const int64_t[]){5, 7});
        double wanted[N * C * S];
        const float *s = numbers_of(&b, scale), *t = numbers_of(&b, shift);
        const float *r = numbers_of(&b, row);
        for (size_t i = 0; i < N * C * S; i++)
            wanted[i] = b.inputs[0][i];
        op_attributes a = {.norm = {.epsilon = 1e-3f, .groups = 3}};
        size_t y = 0;
        switch (kind) {
        case 0: /* instance */
        case 1: /* groups of four channels */
            for (int64_t g = 0; g < N * C; g += kind ? 4 : 1)
                normalise(wanted + g * S, kind ? 4 * S : S, 1, 1e-3, true);
            for (size_t i = 0; i < N * C * S; i++)
                wanted[i] = wanted[i] * s[i / S % C] + t[i / S % C];
            y = add(&b, kind ? OP_GROUP_NORM : OP_INSTANCE_NORM, &a, 3,
                    (const size_t[]){x, scale, shift});
            break;
        case 2: /* the last two axes */
        case 3:
            a.norm.axis_count = 2;
            a.norm.axes[0] = kind == 2 ? -2 : 2;
            a.norm.axes[1] = kind == 2 ? -1 : 3;
            for (int64_t g = 0; g < N * C; g++)
                normalise(wanted + g * S, S, 1, 1e-3, kind == 2);
            for (size_t i = 0; i < N * C * S; i++)
                wanted[i] = wanted[i] * r[i % S] + (kind == 2 ? r[i % S] : 0);
            y = kind == 2 ? add(&b, OP_LAYER_NORM, &a, 3, (const size_t[]){x, row, row})
                          : add(&b, OP_RMS_NORM, &a, 2, (const size_t[]){x, row});
            break;
        case 4: { /* channels, which lie apart */
            const size_t along = any_of(&b, true, 3, (const int64_t[]){C, 1, 1});
            const float *l = numbers_of(&b, along);
            a.norm.axis_count = 1;
            a.norm.axes[0] = 1;
            for (int64_t n = 0; n < N; n++)
                for (int64_t p = 0; p < S; p++)
                    normalise(wanted + n * C * S + p, C, S, 1e-3, true);
            for (size_t i = 0; i < N * C * S; i++)
                wanted[i] = wanted[i] * l[i / S % C] + l[i / S % C];
            y = add(&b, OP_LAYER_NORM, &a, 3, (const size_t[]){x, along, along});
            break;
        }
        default: /* batch */
            for (size_t i = 0; i < N * C * S; i++) {
                const size_t c = i / S % C;
                wanted[i] = s[c] * (wanted[i] - t[c]) / sqrt(fabs((double)s[c]) + 1e-3) + t[c];
            }
            const size_t variance = any_of(&b, true, 1, (const int64_t[]){C});
            float *numbers = (float *)(uintptr_t)numbers_of(&b, variance);
            for (size_t c = 0; c < C; c++)
                numbers[c] = fabsf(numbers_of(&b, scale)[c]);
            y = add(&b, OP_BATCH_NORM, &a, 5, (const size_t[]){x, scale, shift, shift, variance});
        }
        float *got = compute(&b, y);
        assert_close(got, wanted, N * C * S, 1e-5);
        free(got);
        bench_free(&b);
    }
}

static void local_response(void **state)
{
    (void)state;
    for (int64_t size = 1; size < 6; size++) {
        bench b = bench_new((uint64_t)size);
        const size_t x = any_of(&b, false, 3, (const int64_t[]){2, 7, 5});
        const op_attributes a = {
            .lrn = {.alpha = 0.5f, .beta = size & 1 ? 0.75f : 0.6f, .bias = 1.5f, .size = size}};
        double wanted[70];
        for (int64_t i = 0; i < 70; i++) {
            const int64_t c = i / 5 % 7;
            double sum = 0;
            for (int64_t k = c - (size - 1) / 2; k <= c + size / 2; k++)
                if (k >= 0 && k < 7)
                    sum += pow(b.inputs[0][i + (k - c) * 5], 2);
            wanted[i] = b.inputs[0][i] / pow(1.5 + 0.5 / (double)size * sum, (double)a.lrn.beta);
        }
        float *got = compute(&b, add(&b, OP_LRN, &a, 1, &x));
        assert_close(got, wanted, 70, 1e-6);
        free(got);
        bench_free(&b);
    }
}

/* ---------------------------------------------------------------- softmax, attention */

static void softmax(void **state)
{
    (void)state;
    for (int64_t axis = 0; axis < 3; axis++)
        for (int logarithm = 0; logarithm < 2; logarithm++) {
            bench b = bench_new((uint64_t)axis);
            const int64_t shape[3] = {3, 7, 19};
            const size_t x = any_of(&b, false, 3, shape);
            const int64_t stride = axis == 0 ? 7 * 19 : axis == 1 ? 19 : 1;
            double wanted[3 * 7 * 19];
            for (int64_t i = 0; i < 3 * 7 * 19; i++) {
                const int64_t start = i - i / stride % shape[axis] * stride;
                double sum = 0;
                for (int64_t k = 0; k < shape[axis]; k++)
                    sum += exp(b.inputs[0][start + k * stride]);
                wanted[i] = logarithm ? b.inputs[0][i] - log(sum) : exp(b.inputs[0][i]) / sum;
            }
            const op_attributes a = {.softmax = {.axis = axis - 3, .logarithm = logarithm}};
            float *got = compute(&b, add(&b, OP_SOFTMAX, &a, 1, &x));
            assert_close(got, wanted, 3 * 7 * 19, 1e-6);
            free(got);
            bench_free(&b);
        }
}

static void attention(void **state)
{
    (void)state;
    enum { B = 2, H = 3, E = 8, V = 5 };
    for (uint64_t seed = 0; seed < 16; seed++) {
        bench b = bench_new(seed);
        const int64_t rows = seed & 1 ? 130 : 3, keys = seed & 2 ? 70 : 5;
        const size_t q = any_of(&b, false, 4, (const int64_t[]){B, H, rows, E});
        const size_t k = any_of(&b, false, 4, (const int64_t[]){B, H, keys, E});
        const size_t v = any_of(&b, false, 4, (const int64_t[]){B, H, keys, V});
        size_t mask = GRAPH_NONE;
        if (seed & 4)
            mask = any_of(&b, true, 4, (const int64_t[]){B, 1, seed & 8 ? rows : 1, keys});
        const op_attributes a = {.attention = {.scale = 0.3f, .causal = seed == 11}};
        const size_t y = add(&b, OP_ATTENTION, &a, 4, (const size_t[]){q, k, v, mask});
        double *wanted = malloc((size_t)(B * H * rows * V) * sizeof *wanted);
        assert_non_null(wanted);
        for (int64_t i = 0; i < B * H * rows; i++) {
            double sum = 0, e[70];
            const int64_t head = i / rows;
            for (int64_t j = 0; j < keys; j++) {
                double score = 0;
                for (int64_t d = 0; d < E; d++)
                    score +=
                        (double)b.inputs[0][i * E + d] * b.inputs[1][(head * keys + j) * E + d];
                score *= (double)0.3f;
                if (mask != GRAPH_NONE)
                    score += numbers_of(&b, mask)
                        [(head / H * (seed & 8 ? rows : 1) + (seed & 8 ? i % rows : 0)) * keys + j];
                e[j] = a.attention.causal && j > i % rows ? 0 : exp(score);
                sum += e[j];
            }
            for (int64_t d = 0; d < V; d++) {
                double value = 0;
                for (int64_t j = 0; j < keys; j++)
                    value += e[j] / sum * b.inputs[2][(head * keys + j) * V + d];
                wanted[i * V + d] = value;
            }
        }
        float *got = compute(&b, y);
        assert_close(got, wanted, (uint64_t)(B * H * rows * V), 1e-5);
        free(got);
        free(wanted);
        bench_free(&b);
    }
}

/* A key whose mask is minus infinity takes no part, however low the others lie. */
static void attention_of_low_masks(void **state)
{
    (void)state;
    enum { KEYS = 20, MASKED = 3 };
    for (int lowest = 0; lowest < 2; lowest++) {
        bench b = bench_new(9);
        const size_t q = any_of(&b, false, 4, (const int64_t[]){1, 1, 2, 4});
        const size_t k = any_of(&b, false, 4, (const int64_t[]){1, 1, KEYS, 4});
        const size_t v = any_of(&b, false, 4, (const int64_t[]){1, 1, KEYS, 1});
        const size_t mask = any_of(&b, true, 4, (const int64_t[]){1, 1, 1, KEYS});
        float *low = value_of(&b, mask)->constant->owned;
        double sum = 0;
        for (int i = 0; i < KEYS; i++) { /* scores are lost in such numbers */
            low[i] = i % MASKED == 0 ? -INFINITY : lowest ? -FLT_MAX : -1e38F;
            sum += i % MASKED ? (double)b.inputs[2][i] : 0;
        }
        const op_attributes a = {.attention = {.scale = 0.3f}};
        const double mean = sum / (KEYS - (KEYS + MASKED - 1) / MASKED);
        float *got = compute(&b, add(&b, OP_ATTENTION, &a, 4, (const size_t[]){q, k, v, mask}));
        assert_close(got, (const double[]){mean, mean}, 2, 1e-5);
        free(got);
        bench_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions),
        cmocka_unit_test(pairs),
        cmocka_unit_test(integers),
        cmocka_unit_test(blocked_layouts),
        cmocka_unit_test(pools),
        cmocka_unit_test(norms),
        cmocka_unit_test(local_response),
        cmocka_unit_test(softmax),
        cmocka_unit_test(attention),
        cmocka_unit_test(comparisons_of_few),
        cmocka_unit_test(attention_of_low_masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
