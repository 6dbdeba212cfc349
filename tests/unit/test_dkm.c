/* Differentiable k-means against PyTorch's autograd on the same formulas (tests/reference/dkm.py),
 * against finite differences, and by nodes against value by value. */
#include <jansson.h>

#include "testing.h"

#include "cluster/dkm.h"

/* ---------------------------------------------------------------- PyTorch */

static float *floats_of(const json_t *array)
{
    const size_t n = json_array_size(array);
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)json_number_value(json_array_get(array, i));
    return values;
}

/* Within 1e-6 of the largest. */
static void assert_near(const json_t *expected, size_t i, double value)
{
    double most = 0;
    for (size_t j = 0; j < json_array_size(expected); j++)
        most = fmax(most, fabs(json_number_value(json_array_get(expected, j))));
    const double wanted = json_number_value(json_array_get(expected, i));
    if (!(fabs(value - wanted) <= 1e-6 * most))
        print_error("%zu: %.9g instead of %.9g\n", i, value, wanted);
    assert_true(fabs(value - wanted) <= 1e-6 * most);
}

static double number_or(const json_t *object, const char *key, double otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static dkm_config configuration_of(const json_t *c)
{
    const json_t *knobs = json_object_get(c, "knobs"), *shape = json_object_get(c, "shape");
    dkm_config config =
        dkm_defaults(1, (unsigned)json_integer_value(json_object_get(c, "clusters")));
    size_t *const sizes[] = {&config.outer, &config.groups, &config.channels, &config.inner};
    for (size_t i = 0; i < 4; i++)
        *sizes[i] = (size_t)json_integer_value(json_array_get(shape, i));
    config.dim = (unsigned)json_integer_value(json_object_get(c, "dim"));
    config.tau = number_or(knobs, "tau", config.tau);
    config.epsilon = number_or(knobs, "epsilon", config.epsilon);
    config.iterations = (unsigned)number_or(knobs, "iterations", config.iterations);
    config.zero_threshold = number_or(knobs, "zero_threshold", config.zero_threshold);
    config.prune_threshold = number_or(knobs, "prune_threshold", config.prune_threshold);
    config.enforce_zero = json_is_true(json_object_get(knobs, "enforce_zero"));
    config.relative = json_is_true(json_object_get(knobs, "relative"));
    config.scale_channel = 1;
    config.nodes = DKM_EXACT;
    config.repair = false;
    if (json_object_get(c, "float16"))
        config.weights = config.table = GRID_FLOAT16;
    return config;
}

static void compare_case(const json_t *c, dkm_workspace *workspace)
{
    dkm_config config = configuration_of(c);
    float *scale = json_object_get(c, "scale") ? floats_of(json_object_get(c, "scale")) : NULL;
    float *weights = floats_of(json_object_get(c, "weights"));
    float *gradient = floats_of(json_object_get(c, "gradient"));
    const json_t *start = json_object_get(c, "centroids");
    const size_t n = json_array_size(json_object_get(c, "weights"));
    const size_t tables = json_array_size(start);
    float *palettized = malloc(n * sizeof *palettized);
    double *centroids = malloc(tables * sizeof *centroids);
    for (size_t i = 0; i < tables; i++)
        centroids[i] = json_number_value(json_array_get(start, i));
    config.scale = scale;
    dkm *d = NULL;
    assert_ok(dkm_new(&config, &d));
    assert_ok(dkm_set_centroids(d, centroids));
    assert_ok(dkm_forward(d, workspace, weights, 1, palettized));
    for (size_t i = 0; i < n; i++)
        assert_near(json_object_get(c, "palettized"), i, (double)palettized[i]);
    for (size_t i = 0; i < tables; i++)
        assert_near(json_object_get(c, "ends"), i, dkm_centroids(d)[i]);
    assert_ok(dkm_backward(d, workspace, weights, gradient, 1, gradient));
    for (size_t i = 0; i < n; i++)
        assert_near(json_object_get(c, "weight_gradient"), i, (double)gradient[i]);
    dkm_free(d);
    free(scale);
    free(weights);
    free(gradient);
    free(palettized);
    free(centroids);
}

static void test_against_autograd(void **state)
{
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file(REFERENCE, 0, &error);
    dkm_workspace *workspace = NULL;
    assert_non_null(cases);
    assert_ok(dkm_workspace_new(&workspace));
    assert_true(json_array_size(cases) >= 14);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        print_message("           %s\n", json_string_value(json_object_get(c, "name")));
        compare_case(c, workspace);
    }
    dkm_workspace_free(workspace);
    json_decref(cases);
}

/* ---------------------------------------------------------------- finite differences */

/* A layer, weights, and gradients of their outputs. */
typedef struct problem {
    dkm_config config;
    dkm *d;
    dkm_workspace *workspace;
    size_t n;
    float *weights, *out, *gradient, *palettized;
    double *start;
} problem;

static void problem_begin(problem *p, dkm_config config, uint64_t seed, double spread)
{
    *p = (problem){.config = config};
    p->n = config.outer * config.groups * config.channels * config.inner;
    p->weights = malloc(p->n * sizeof *p->weights);
    p->out = malloc(p->n * sizeof *p->out);
    p->gradient = malloc(p->n * sizeof *p->gradient);
    p->palettized = malloc(p->n * sizeof *p->palettized);
    for (size_t i = 0; i < p->n; i++) {
        p->weights[i] = (float)(random_normal(&seed) * spread);
        p->out[i] = (float)random_normal(&seed);
    }
    assert_ok(dkm_workspace_new(&p->workspace));
    assert_ok(dkm_new(&config, &p->d));
}

static void problem_start(problem *p)
{
    const size_t size = p->config.groups * p->config.clusters * p->config.dim * sizeof *p->start;
    assert_ok(dkm_start(p->d, p->workspace, p->weights, NULL, 1));
    p->start = malloc(size);
    memcpy(p->start, dkm_centroids(p->d), size);
}

static void problem_end(problem *p)
{
    free(p->weights);
    free(p->out);
    free(p->gradient);
    free(p->palettized);
    free(p->start);
    dkm_free(p->d);
    dkm_workspace_free(p->workspace);
}

/* Sum of outputs times their gradients, from the centroids of the start. */
static double loss(problem *p)
{
    double sum = 0;
    assert_ok(dkm_set_centroids(p->d, p->start));
    assert_ok(dkm_forward(p->d, p->workspace, p->weights, 1, p->palettized));
    for (size_t i = 0; i < p->n; i++)
        sum += (double)p->palettized[i] * (double)p->out[i];
    return sum;
}

static double slope(problem *p, size_t i, float reach)
{
    const float before = p->weights[i];
    const float above = before + reach, below = before - reach;
    p->weights[i] = above;
    double difference = loss(p);
    p->weights[i] = below;
    difference -= loss(p);
    p->weights[i] = before;
    return difference / ((double)above - (double)below);
}

static void compare_slopes(problem *p, float reach, size_t every, double tolerance)
{
    double most = 0;
    loss(p);
    assert_ok(dkm_backward(p->d, p->workspace, p->weights, p->out, 1, p->gradient));
    for (size_t i = 0; i < p->n; i++)
        most = fmax(most, fabs((double)p->gradient[i]));
    assert_true(most > 0.01);
    for (size_t i = 0; i < p->n; i += every) {
        const double expected = slope(p, i, reach);
        if (!(fabs(expected - (double)p->gradient[i]) <= tolerance * most))
            print_error("%zu: %g instead of %g\n", i, (double)p->gradient[i], expected);
        assert_true(fabs(expected - (double)p->gradient[i]) <= tolerance * most);
    }
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (unsigned dim = 1; dim <= 3; dim++) {
        dkm_config config = dkm_defaults(6, 5);
        config.outer = 2;
        config.groups = 2;
        config.inner = 4;
        config.dim = dim;
        config.tau = 0.3;
        config.epsilon = 0;
        config.nodes = DKM_EXACT;
        problem p;
        problem_begin(&p, config, dim, 1);
        problem_start(&p);
        compare_slopes(&p, 2e-3F, 1, 2e-4);
        problem_end(&p);
    }
}

/* Weights in bunches that lie apart, so that none changes its centroid when it moves a little, and
 * centroids near the bunches to begin with. */
static void bunch(problem *p, uint64_t seed)
{
    const dkm_config *c = &p->config;
    const size_t channels = c->groups * c->channels, size = c->clusters * c->dim;
    double middle[8 * 2];
    for (size_t j = 0; j < c->clusters; j++)
        for (size_t i = 0; i < c->dim; i++)
            middle[j * c->dim + i] = (i ? -1 : 1) * ((double)j - 2);
    for (size_t i = 0; i < c->dim; i++)
        middle[2 * c->dim + i] = 0;
    for (size_t o = 0; o < c->outer; o++)
        for (size_t v = 0; v < channels; v += c->dim)
            for (size_t i = 0; i < c->inner; i++) {
                const unsigned j = random_below(&seed, c->clusters);
                for (size_t d = 0; d < c->dim; d++)
                    p->weights[(o * channels + v + d) * c->inner + i] =
                        c->scale[v + d] *
                        (float)(middle[j * c->dim + d] + 0.2 * random_unit(&seed));
            }
    p->start = malloc(c->groups * size * sizeof *p->start);
    for (size_t at = 0; at < c->groups * size; at++)
        p->start[at] = middle[at % size] + 0.05;
}

/* The gradient through the means, in a layer with scales, vectors and a centroid that stays at 0;
 * and where the table is rounded, that of the same means, which rounding does not change. */
static void test_finite_differences_of_means(void **state)
{
    (void)state;
    static const grid tables[] = {GRID_FLOAT16, GRID_INT8, GRID_UINT8};
    static const double steps[] = {1e-3, 2.4 / 127, 2.4 / 127};
    float scale[12];
    for (size_t i = 0; i < 12; i++)
        scale[i] = 0.5F + 0.1F * (float)i;
    for (unsigned t = 0; t < 4; t++) {
        dkm_config config = dkm_defaults(6, 5);
        config.outer = 2;
        config.groups = 2;
        config.inner = 8;
        config.dim = 1 + t / 2;
        config.enforce_zero = t % 2;
        config.mode = DKM_MEAN;
        config.scale = scale;
        config.scale_channel = 1;
        config.repair = false;
        problem p;
        problem_begin(&p, config, t + 1, 1);
        bunch(&p, t + 1);
        compare_slopes(&p, 0.05F, 1, 1e-4);
        for (size_t i = 0; i < 3; i++) {
            config.table = tables[i];
            config.weights = i ? GRID_FLOAT32 : GRID_FLOAT16;
            problem rounded;
            problem_begin(&rounded, config, t + 1, 1);
            bunch(&rounded, t + 1);
            loss(&p);
            loss(&rounded);
            assert_ok(dkm_backward(rounded.d, rounded.workspace, rounded.weights, rounded.out, 1,
                                   rounded.gradient));
            for (size_t n = 0; n < p.n; n++) {
                const double most = steps[i] * (double)scale[n / config.inner % 12];
                assert_true(fabs((double)(rounded.palettized[n] - p.palettized[n])) <= most);
                assert_true(rounded.gradient[n] == p.gradient[n]);
            }
            problem_end(&rounded);
        }
        problem_end(&p);
    }
}

/* Between nodes outputs are linear: weights that stay between theirs show whether the gradient is
 * that of what is computed. Two weights that do not move hold the nodes in their places. */
static void test_finite_differences_by_nodes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        dkm_config config = dkm_defaults(300, 4);
        config.tau = 0.1;
        config.epsilon = 0;
        config.nodes = 16;
        config.relative = seed == 2;
        config.enforce_zero = seed == 3;
        problem p;
        problem_begin(&p, config, seed, 1);
        const double step = 0.5; /* what 16 nodes from -3 to 3 come to */
        for (size_t i = 0; i < p.n; i++) {
            const double u = random_below(&seed, 10) + random_below(&seed, 2) - 5.0;
            p.weights[i] = (float)(step * (u + 0.2 + 0.6 * random_unit(&seed)));
        }
        p.weights[0] = -2.99F;
        p.weights[1] = 2.99F;
        problem_start(&p);
        /* a relative temperature is taken for constant, and moves a little here */
        compare_slopes(&p, 5e-3F, 7, seed == 2 ? 0.05 : 5e-4);
        problem_end(&p);
    }
}

/* ---------------------------------------------------------------- nodes */

/* The largest difference, in parts of the root mean square. */
static double difference(const float *a, const float *b, size_t n)
{
    double most = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        squares += (double)b[i] * (double)b[i];
    }
    return most / sqrt(squares / (double)n);
}

static double root_mean_square(const float *a, const float *b, size_t n)
{
    double squares = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        squares += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(squares / all);
}

/* More nodes: nearer to the result value by value, by the square of their distance for outputs, in
 * proportion to it for gradients. What is chosen by itself (0) is near enough. */
static void test_nodes(void **state)
{
    (void)state;
    enum { N = 60000 };
    static const size_t counts[] = {4096, 65536, 0};
    static const double outputs[] = {2e-3, 1e-5, 2e-3}, gradients[] = {0.06, 4e-3, 0.01};
    for (int bits = 2; bits <= 8; bits += 2) {
        dkm_config config = dkm_defaults(N, 1u << bits);
        config.nodes = DKM_EXACT;
        problem exact;
        problem_begin(&exact, config, (uint64_t)bits, 0.08);
        problem_start(&exact);
        loss(&exact);
        assert_ok(
            dkm_backward(exact.d, exact.workspace, exact.weights, exact.out, 2, exact.gradient));
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            config.nodes = counts[i];
            problem p;
            problem_begin(&p, config, (uint64_t)bits, 0.08);
            p.start = malloc(config.clusters * sizeof *p.start);
            memcpy(p.start, exact.start, config.clusters * sizeof *p.start);
            loss(&p);
            assert_ok(dkm_backward(p.d, p.workspace, p.weights, p.out, 1, p.gradient));
            const double output = difference(p.palettized, exact.palettized, N);
            const double gradient = root_mean_square(p.gradient, exact.gradient, N);
            print_message("           %d bit, %zu nodes: outputs %.1e, gradients %.1e\n", bits,
                          counts[i], output, gradient);
            assert_true(output <= outputs[i]);
            assert_true(gradient <= gradients[i]);
            problem_end(&p);
        }
        problem_end(&exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_autograd),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_finite_differences_by_nodes),
        cmocka_unit_test(test_finite_differences_of_means),
        cmocka_unit_test(test_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
