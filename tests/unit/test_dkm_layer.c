/* The layer of differentiable k-means through palettize.h: starting, the modes without attention,
 * tables, hard results, degenerate weights, threads, errors. */
#include "testing.h"

#include "cluster/scalar.h"

static float *normal_values(size_t n, double spread, uint64_t seed)
{
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(random_normal(&seed) * spread);
    return values;
}

static pal_dkm *layer_with(const pal_dkm_config *config)
{
    pal_dkm *dkm = NULL;
    assert_ok(pal_dkm_new(config, &dkm));
    assert_non_null(dkm);
    return dkm;
}

static double squared_error(const float *values, size_t n, const double *centroids, unsigned k)
{
    double error = 0;
    for (size_t i = 0; i < n; i++) {
        double least = INFINITY;
        for (unsigned j = 0; j < k; j++)
            least = fmin(least, pow((double)values[i] - centroids[j], 2));
        error += least;
    }
    return error;
}

/* ---------------------------------------------------------------- first centroids */

/* Of few values the optimum; of many, by nodes, as good to 1e-4 of the error. */
static void test_start(void **state)
{
    (void)state;
    static const size_t counts[] = {500, 100000};
    for (size_t c = 0; c < 2; c++) {
        const size_t n = counts[c];
        for (int weighted = 0; weighted < 2; weighted++) {
            float *values = normal_values(n, 0.05, 3), best[16];
            float *importance = normal_values(n, 1, 4);
            double error, centroids[16], own = 0;
            for (size_t i = 0; i < n; i++)
                importance[i] = i % 5 ? importance[i] * importance[i] : 0;
            const pal_dkm_config config = pal_dkm_defaults(n, 16);
            pal_dkm *dkm = layer_with(&config);
            assert_ok(pal_dkm_start(dkm, values, weighted ? importance : NULL));
            memcpy(centroids, pal_dkm_centroids(dkm), sizeof centroids);
            assert_ok(
                pal_kmeans_f32(values, weighted ? importance : NULL, n, 16, best, NULL, &error));
            for (size_t i = 0; i < n; i++)
                own += (weighted ? (double)importance[i] : 1) *
                       squared_error(values + i, 1, centroids, 16);
            assert_true(own <= error * 1.0001);
            pal_dkm_free(dkm);
            free(values);
            free(importance);
        }
    }
}

/* A few of many weights have importance: they are served, and the others with what is left. */
static void test_start_few_important(void **state)
{
    (void)state;
    enum { N = 100000, FEW = 10, K = 16 };
    float *values = normal_values(N, 0.05, 3), *importance = calloc(N, sizeof *importance);
    float best[K];
    double error;
    for (size_t i = 0; i < FEW; i++)
        importance[i] = 1;
    const pal_dkm_config config = pal_dkm_defaults(N, K);
    pal_dkm *dkm = layer_with(&config);
    assert_ok(pal_dkm_start(dkm, values, importance));
    const double *centroids = pal_dkm_centroids(dkm);
    assert_ok(pal_kmeans_f32(values, NULL, N, K, best, NULL, &error));
    assert_true(squared_error(values, FEW, centroids, K) < 1e-3 * FEW / N * error);
    assert_true(squared_error(values + FEW, N - FEW, centroids, K) < 3 * error);
    pal_dkm_free(dkm);
    free(values);
    free(importance);
}

static void test_start_vectors(void **state)
{
    (void)state;
    enum { N = 4000, K = 16 };
    float *values = normal_values(N, 1, 5);
    pal_dkm_config config = pal_dkm_defaults(N, K);
    config.groups = 2;
    config.channels = 4;
    config.inner = N / 8;
    config.cluster_dim = 2;
    pal_dkm *dkm = layer_with(&config);
    assert_ok(pal_dkm_start(dkm, values, NULL));
    const double *centroids = pal_dkm_centroids(dkm);
    double error = 0;
    for (size_t v = 0; v < N / 2; v++) {
        const size_t row = v / config.inner, i = v % config.inner;
        const double *own = centroids + row / 2 * 2 * K;
        double least = INFINITY;
        for (size_t j = 0; j < K; j++) {
            const double x = (double)values[2 * row * config.inner + i] - own[2 * j];
            const double y = (double)values[(2 * row + 1) * config.inner + i] - own[2 * j + 1];
            least = fmin(least, x * x + y * y);
        }
        error += least;
    }
    assert_true(error / N < 0.115); /* single numbers at 2 bit have 0.1175 */
    pal_dkm_free(dkm);
    free(values);
}

/* ---------------------------------------------------------------- modes without attention */

static unsigned nearest(double x, const double *centroids, unsigned k)
{
    unsigned best = 0;
    for (unsigned j = 1; j < k; j++)
        if (fabs(x - centroids[j]) < fabs(x - centroids[best]))
            best = j;
    return best;
}

static void test_hard_modes(void **state)
{
    (void)state;
    enum { N = 5000, K = 6 };
    float *values = normal_values(N, 1, 6), *out = normal_values(N, 1, 7);
    float *palettized = malloc(N * sizeof *palettized), *gradient = malloc(N * sizeof *gradient);
    static const double start[K] = {-2, -1, -0.2, 0.3, 1, 2};
    double count[K] = {0}, sum[K] = {0}, pulled[K] = {0};
    for (size_t i = 0; i < N; i++) {
        const unsigned j = nearest((double)values[i], start, K);
        count[j]++;
        sum[j] += (double)values[i];
        pulled[j] += (double)out[i];
    }
    for (int mean = 0; mean < 2; mean++) {
        pal_dkm_config config = pal_dkm_defaults(N, K);
        config.iterations = 1;
        pal_dkm *dkm = layer_with(&config);
        assert_ok(pal_dkm_set_mode(dkm, mean ? PAL_DKM_MEAN : PAL_DKM_HARD));
        assert_ok(pal_dkm_set_centroids(dkm, start));
        assert_ok(pal_dkm_forward(dkm, values, palettized));
        assert_ok(pal_dkm_backward(dkm, values, out, gradient));
        for (size_t i = 0; i < N; i++) {
            const unsigned j = nearest((double)values[i], start, K);
            assert_true(fabs((double)palettized[i] - sum[j] / count[j]) < 1e-6);
            assert_true(fabs((double)gradient[i] - (mean ? pulled[j] / count[j] : (double)out[i])) <
                        1e-6);
        }
        pal_dkm_free(dkm);
    }
    free(values);
    free(out);
    free(palettized);
    free(gradient);
}

/* ---------------------------------------------------------------- results */

/* Table, indices and values say the same, and every value has its nearest entry. */
static void compare_result(const pal_dkm_config *config, const float *values)
{
    const size_t n = config->outer * config->groups * config->channels * config->inner;
    const unsigned k = config->clusters;
    const size_t each = n / config->groups;
    float *palettized = malloc(n * sizeof *palettized), table[256];
    uint8_t *indices = malloc(n);
    int entries[256], offset;
    double centroids[256], scale;
    pal_dkm *dkm = layer_with(config);
    assert_ok(pal_dkm_start(dkm, values, NULL));
    assert_ok(pal_dkm_forward(dkm, values, NULL));
    assert_ok(pal_dkm_finish(dkm, values, palettized, indices));
    for (size_t g = 0; g < config->groups; g++) {
        assert_ok(pal_dkm_table(dkm, g, table, entries, &scale, &offset));
        bool zero = false;
        for (unsigned j = 0; j < k; j++) {
            centroids[j] = (double)table[j];
            zero |= table[j] == 0;
            if (config->lut_dtype == PAL_INT8 || config->lut_dtype == PAL_UINT8)
                assert_true(fabs((entries[j] - offset) * scale - centroids[j]) < 1e-3 * scale);
            if (config->lut_dtype == PAL_FLOAT16)
                assert_true(table[j] == f16_to_float(f16_from_double(centroids[j])));
        }
        assert_true(zero || !config->enforce_zero);
        for (size_t i = 0; i < each; i++) {
            const size_t run = config->channels * config->inner;
            const size_t at = (i / run * config->groups + g) * run + i % run;
            const unsigned j = indices[g * each + i];
            assert_true(j < k && palettized[at] == table[j]);
            const unsigned best = nearest((double)values[at], centroids, k);
            assert_true(fabs((double)values[at] - centroids[j]) <=
                        fabs((double)values[at] - centroids[best]) + 1e-6);
        }
    }
    pal_dkm_free(dkm);
    free(palettized);
    free(indices);
}

static void test_results(void **state)
{
    (void)state;
    static const pal_dtype types[][2] = {{PAL_FLOAT32, PAL_FLOAT32},
                                         {PAL_FLOAT16, PAL_FLOAT16},
                                         {PAL_BFLOAT16, PAL_BFLOAT16},
                                         {PAL_FLOAT32, PAL_INT8},
                                         {PAL_FLOAT32, PAL_UINT8}};
    float *values = normal_values(12000, 0.1, 8);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int zero = 0; zero < 2; zero++) {
            pal_dkm_config config = pal_dkm_defaults(1000, 16);
            config.outer = 3;
            config.groups = 4;
            config.channels = 10;
            config.inner = 100;
            config.weight_dtype = types[t][0];
            config.lut_dtype = types[t][1];
            config.enforce_zero = zero;
            config.prune_threshold = 0;
            compare_result(&config, values);
        }
    free(values);
}

/* With scales: outputs are those of the divided weights, multiplied, and so are gradients. */
static void test_scales(void **state)
{
    (void)state;
    enum { N = 6000, CHANNELS = 6 };
    static const float scale[CHANNELS] = {0.5F, 1, 2, 4, 8, 0.25F}; /* exact in every product */
    for (int exact = 0; exact < 2; exact++) {
        float *divided = normal_values(N, 0.1, 9), *weights = malloc(N * sizeof *weights);
        float *out = normal_values(N, 1, 10), *scaled_out = malloc(N * sizeof *scaled_out);
        float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
        for (size_t i = 0; i < N; i++) {
            const float own = scale[i / (N / CHANNELS)];
            weights[i] = divided[i] * own;
            scaled_out[i] = out[i] * own;
        }
        pal_dkm_config config = pal_dkm_defaults(N, 8);
        config.channels = CHANNELS;
        config.inner = N / CHANNELS;
        config.nodes = exact ? SIZE_MAX : 0;
        pal_dkm *plain = layer_with(&config);
        config.scale = scale;
        config.scale_channel = 1;
        pal_dkm *with = layer_with(&config);
        assert_ok(pal_dkm_start(plain, divided, NULL));
        assert_ok(pal_dkm_start(with, weights, NULL));
        assert_memory_equal(pal_dkm_centroids(plain), pal_dkm_centroids(with), 8 * sizeof(double));
        assert_ok(pal_dkm_forward(plain, divided, a));
        assert_ok(pal_dkm_forward(with, weights, b));
        for (size_t i = 0; i < N; i++)
            assert_true(b[i] == a[i] * scale[i / (N / CHANNELS)]);
        assert_ok(pal_dkm_backward(plain, divided, scaled_out, a));
        assert_ok(pal_dkm_backward(with, weights, out, b));
        for (size_t i = 0; i < N; i++)
            assert_true(fabs((double)(b[i] * scale[i / (N / CHANNELS)] - a[i])) <= 1e-5);
        pal_dkm_free(plain);
        pal_dkm_free(with);
        float *const all[] = {divided, weights, out, scaled_out, a, b};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
}

/* ---------------------------------------------------------------- degenerate weights */

static void assert_finite(const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_true(isfinite(values[i]));
}

/* Constant, all zero, few distinct values, fewer weights than centroids, a single weight, far from
 * 0, very large and very small ones: finite numbers, and outputs near the weights. */
static void test_degenerate(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        float base, step;
        unsigned distinct;
        double tau;
    } cases[] = {
        {5000, 0.25F, 0, 1, 1e-4},
        {5000, 0, 0, 1, 1e-4},
        {5000, -1, 0.5F, 5, 1e-4},
        {7, 0, 1, 7, 1e-4},
        {1, 3, 0, 1, 1e-4},
        {5000, 1e4F, 1, 3, 1e-4},
        {5000, -1e30F, 1e30F, 3, 1e20},
        {5000, 0, 1e-10F, 4, 1e-24},
        {5000, 0, 1, 4, 1e-29},
    };
    for (size_t t = 0; t < sizeof cases / sizeof *cases; t++)
        for (int mode = 0; mode < 6; mode++) {
            const size_t n = cases[t].n;
            float *values = malloc(n * sizeof *values), *palettized = malloc(n * sizeof *values);
            float *out = normal_values(n, 1, t), *gradient = malloc(n * sizeof *values);
            for (size_t i = 0; i < n; i++)
                values[i] = cases[t].base + cases[t].step * (float)(i % cases[t].distinct);
            pal_dkm_config config = pal_dkm_defaults(n, 16);
            config.mode = (pal_dkm_mode)(mode % 3);
            config.tau = cases[t].tau;
            config.nodes = mode < 3 ? SIZE_MAX : 0;
            config.relative_tau = mode == 2 && t < 6;
            pal_dkm *dkm = layer_with(&config);
            assert_ok(pal_dkm_start(dkm, values, NULL));
            for (int step = 0; step < 3; step++) {
                assert_ok(pal_dkm_forward(dkm, values, palettized));
                assert_ok(pal_dkm_backward(dkm, values, out, gradient));
                assert_finite(palettized, n);
                assert_finite(gradient, n);
            }
            assert_ok(pal_dkm_finish(dkm, values, palettized, NULL));
            for (size_t i = 0; i < n; i++)
                assert_true(fabs((double)palettized[i] - (double)values[i]) <=
                            1e-3 * fabs((double)cases[t].step) + 1e-6 * fabs((double)values[i]));
            pal_dkm_free(dkm);
            free(values);
            free(palettized);
            free(out);
            free(gradient);
        }
}

/* Centroids that are far away, or all the same, come back into use within a few steps. */
/* The most nodes that there are, all but a few: the number of pieces of a pass over them does not
 * rise with theirs. Centroids that need repair make the pass that has most to sum up. (Whether it
 * writes beyond its memory is for make sanitize to see.) */
static void test_most_nodes(void **state)
{
    (void)state;
    enum { N = 1000, K = 64, APART = 10 };
    float values[N], palettized[N];
    double start[K];
    pal_dkm_config config = pal_dkm_defaults(N, K);
    config.nodes = 65536;
    config.tau = 1e-9;
    for (unsigned permille = 960; permille <= 1000; permille += 4) {
        const double range = permille * 1e-3 * 65535 * 0x1p-15;
        for (size_t i = 0; i < N; i++)
            values[i] = (float)(range * (double)i / (N - 1));
        for (size_t j = 0; j < K; j++)
            start[j] = range * (j < APART ? ((double)j + 0.5) / APART : 0.5);
        pal_dkm *dkm = layer_with(&config);
        assert_ok(pal_dkm_set_centroids(dkm, start));
        assert_ok(pal_dkm_forward(dkm, values, palettized));
        for (size_t i = 0; i < N; i++)
            assert_true(fabs((double)palettized[i] - (double)values[i]) < 0.6 * range / APART);
        pal_dkm_free(dkm);
    }
}

static void test_repair(void **state)
{
    (void)state;
    enum { N = 20000, K = 8 };
    static const double starts[][K] = {{-1, -0.5, 0, 0.5, 1, 500, 600, -700},
                                       {0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}};
    float *values = normal_values(N, 1, 11), best[K];
    double error;
    assert_ok(pal_kmeans_f32(values, NULL, N, K, best, NULL, &error));
    for (size_t s = 0; s < 2; s++)
        for (int mode = 0; mode < 2; mode++)
            for (int exact = 0; exact < 2; exact++) {
                pal_dkm_config config = pal_dkm_defaults(N, K);
                config.tau = 1e-3;
                config.iterations = 5;
                config.mode = (pal_dkm_mode)mode;
                config.nodes = exact ? SIZE_MAX : 0;
                pal_dkm *dkm = layer_with(&config);
                assert_ok(pal_dkm_set_centroids(dkm, starts[s]));
                for (int step = 0; step < 12; step++)
                    assert_ok(pal_dkm_forward(dkm, values, NULL));
                assert_true(squared_error(values, N, pal_dkm_centroids(dkm), K) < 1.2 * error);
                pal_dkm_free(dkm);
            }
    free(values);
}

/* ---------------------------------------------------------------- threads, and going on */

static void test_threads(void **state)
{
    (void)state;
    enum { N = 96000 };
    static const size_t groups[] = {1, 3, 60};
    float *values = normal_values(N, 0.1, 12), *out = normal_values(N, 1, 13);
    float *results = malloc(3 * 4 * N * sizeof *results);
    for (size_t g = 0; g < 3; g++)
        for (unsigned dim = 1; dim <= 4; dim += 3) {
            for (int threads = 1; threads <= 3; threads++) {
                float *own = results + (size_t)(threads - 1) * 4 * N;
                pal_dkm_config config = pal_dkm_defaults(N, 16);
                config.groups = groups[g];
                config.channels = 4;
                config.inner = N / groups[g] / 4;
                config.cluster_dim = dim;
                config.threads = threads;
                memset(own, 0, 4 * N * sizeof *own);
                pal_dkm *dkm = layer_with(&config);
                assert_ok(pal_dkm_start(dkm, values, NULL));
                assert_ok(pal_dkm_forward(dkm, values, own));
                assert_ok(pal_dkm_backward(dkm, values, out, own + N));
                assert_ok(pal_dkm_finish(dkm, values, own + 2 * N, (uint8_t *)(own + 3 * N)));
                pal_dkm_free(dkm);
                assert_memory_equal(own, results, 4 * N * sizeof *own);
            }
        }
    free(values);
    free(out);
    free(results);
}

/* Centroids saved and set again: the same bytes as without interruption; gradients in place. */
static void test_going_on(void **state)
{
    (void)state;
    enum { N = 50000, K = 16 };
    float *values = normal_values(N, 0.1, 14), *out = normal_values(N, 1, 15);
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    const pal_dkm_config config = pal_dkm_defaults(N, K);
    pal_dkm *dkm = layer_with(&config), *later = layer_with(&config);
    assert_ok(pal_dkm_start(dkm, values, NULL));
    assert_ok(pal_dkm_forward(dkm, values, a));
    assert_ok(pal_dkm_set_centroids(later, pal_dkm_centroids(dkm)));
    for (size_t i = 0; i < N; i++)
        values[i] *= 1.001F;
    assert_ok(pal_dkm_forward(dkm, values, a));
    assert_ok(pal_dkm_forward(later, values, b));
    assert_memory_equal(a, b, N * sizeof *a);
    assert_ok(pal_dkm_backward(dkm, values, out, a));
    assert_ok(pal_dkm_backward(later, values, out, out));
    assert_memory_equal(a, out, N * sizeof *a);
    pal_dkm_free(dkm);
    pal_dkm_free(later);
    free(values);
    free(out);
    free(a);
    free(b);
}

/* Steps along the gradient lower the loss: what the layer is for. */
static void test_descent(void **state)
{
    (void)state;
    enum { N = 20000 };
    float *values = normal_values(N, 0.1, 16), *wanted = normal_values(N, 0.1, 17);
    float *palettized = malloc(N * sizeof *palettized);
    pal_dkm_config config = pal_dkm_defaults(N, 16);
    config.tau = 1e-3;
    pal_dkm *dkm = layer_with(&config);
    assert_ok(pal_dkm_start(dkm, values, NULL));
    double first = 0, last = 0;
    for (int step = 0; step < 100; step++) {
        last = 0;
        assert_ok(pal_dkm_forward(dkm, values, palettized));
        for (size_t i = 0; i < N; i++) {
            palettized[i] -= wanted[i];
            last += (double)palettized[i] * (double)palettized[i];
        }
        first = step ? first : last;
        assert_ok(pal_dkm_backward(dkm, values, palettized, palettized));
        for (size_t i = 0; i < N; i++)
            values[i] -= 0.05F * palettized[i];
    }
    assert_true(last < 0.1 * first);
    pal_dkm_free(dkm);
    free(values);
    free(wanted);
    free(palettized);
}

/* ---------------------------------------------------------------- errors */

static void test_errors(void **state)
{
    (void)state;
    enum { N = 5000 };
    float *values = normal_values(N, 0.1, 18), *out = normal_values(N, 1, 19);
    float *results = calloc(N, sizeof *results);
    for (int exact = 0; exact < 2; exact++) {
        pal_dkm_config config = pal_dkm_defaults(N, 4);
        config.nodes = exact ? SIZE_MAX : 0;
        double before[4];
        pal_dkm *dkm = layer_with(&config);
        assert_ok(pal_dkm_start(dkm, values, NULL));
        assert_fails(pal_dkm_backward(dkm, values, out, results), PAL_ERROR_ARGUMENT, "forward");
        assert_ok(pal_dkm_forward(dkm, values, results));
        memcpy(before, pal_dkm_centroids(dkm), sizeof before);
        for (int kind = 0; kind < 2; kind++) {
            const float kept = values[4321], bad = kind ? NAN : -INFINITY;
            values[4321] = bad;
            assert_fails(pal_dkm_start(dkm, values, NULL), PAL_ERROR_VALUE, "weight 4321");
            assert_fails(pal_dkm_forward(dkm, values, results), PAL_ERROR_VALUE, "weight 4321");
            assert_fails(pal_dkm_finish(dkm, values, results, NULL), PAL_ERROR_VALUE, "4321");
            values[4321] = kept;
            out[17] = bad;
            assert_fails(pal_dkm_backward(dkm, values, out, results), PAL_ERROR_VALUE,
                         "weight 17 ");
            out[17] = 1;
        }
        assert_memory_equal(before, pal_dkm_centroids(dkm), sizeof before);
        before[2] = NAN;
        assert_fails(pal_dkm_set_centroids(dkm, before), PAL_ERROR_VALUE, "centroid 2");
        assert_fails(pal_dkm_set_tau(dkm, 0), PAL_ERROR_ARGUMENT, "tau");
        assert_fails(pal_dkm_set_mode(dkm, (pal_dkm_mode)9), PAL_ERROR_ARGUMENT, "mode");
        assert_fails(pal_dkm_table(dkm, 1, results, NULL, NULL, NULL), PAL_ERROR_ARGUMENT, "group");
        out[5] = -1;
        assert_fails(pal_dkm_start(dkm, values, out), PAL_ERROR_VALUE, "importance");
        pal_dkm_free(dkm);
    }
    free(values);
    free(out);
    free(results);
}

static void test_configurations(void **state)
{
    (void)state;
    const float bad_scale[] = {1, 0, 1};
#define REFUSED(text, change)                                                                      \
    do {                                                                                           \
        pal_dkm_config c = pal_dkm_defaults(12, 4);                                                \
        pal_dkm *dkm = NULL;                                                                       \
        change;                                                                                    \
        assert_fails(pal_dkm_new(&c, &dkm), PAL_ERROR_ARGUMENT, text);                             \
        assert_null(dkm);                                                                          \
    } while (0)
    REFUSED("no weights", c.inner = 0);
    REFUSED("too many", c.inner = c.outer = SIZE_MAX / 2);
    REFUSED("cluster_dim 5", c.cluster_dim = 5);
    REFUSED("cluster_dim 0", c.cluster_dim = 0);
    REFUSED("257 clusters", c.clusters = 257);
    REFUSED("0 clusters", c.clusters = 0);
    REFUSED("mode", c.mode = (pal_dkm_mode)7);
    REFUSED("tau", c.tau = -1);
    REFUSED("tau", c.tau = NAN);
    REFUSED("epsilon", c.epsilon = -1);
    REFUSED("iterations", c.iterations = 0);
    REFUSED("iterations", c.iterations = 101);
    REFUSED("zero_threshold", c.zero_threshold = 0.5);
    REFUSED("prune_threshold", c.prune_threshold = -1);
    REFUSED("nodes", c.nodes = 100);
    REFUSED("type", c.lut_dtype = PAL_FLOAT16);
    REFUSED("type", c.weight_dtype = PAL_INT32);
    REFUSED("scale 1", c.scale = bad_scale; c.channels = 3; c.scale_channel = 1);
#undef REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),      cmocka_unit_test(test_start_few_important),
        cmocka_unit_test(test_most_nodes), cmocka_unit_test(test_start_vectors),
        cmocka_unit_test(test_hard_modes), cmocka_unit_test(test_results),
        cmocka_unit_test(test_scales),     cmocka_unit_test(test_degenerate),
        cmocka_unit_test(test_repair),     cmocka_unit_test(test_threads),
        cmocka_unit_test(test_going_on),   cmocka_unit_test(test_descent),
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
