/* Vector k-means against exhaustive search and plain restarts of Lloyd's algorithm written here,
 * and on edges; its inner loops against plain ones. */
#include "testing.h"

#include "cluster/importance.h"
#include "cluster/vector.h"
#include "cluster/vector/merge.h"
#include "cluster/vector/nearest.h"

/* Error of the best of `restarts` runs of Lloyd's algorithm from random vectors. */
static double restarted(const vector_set *set, unsigned k, int restarts, uint64_t *seed)
{
    const size_t n = set->count, dim = set->dim;
    double *centroid = malloc(k * dim * sizeof *centroid), *sum = malloc(k * dim * sizeof *sum);
    size_t *count = malloc(k * sizeof *count);
    double best = INFINITY;
    for (int r = 0; r < restarts; r++) {
        for (unsigned j = 0; j < k; j++) {
            size_t i = random_below(seed, (unsigned)n);
            for (size_t c = 0; c < dim; c++)
                centroid[j * dim + c] = (double)set->values[c * n + i];
        }
        double error = INFINITY, before;
        do {
            before = error;
            error = 0;
            memset(sum, 0, k * dim * sizeof *sum);
            memset(count, 0, k * sizeof *count);
            for (size_t i = 0; i < n; i++) {
                double least = INFINITY;
                unsigned nearest = 0;
                for (unsigned j = 0; j < k; j++) {
                    double d = 0;
                    for (size_t c = 0; c < dim; c++)
                        d += pow((double)set->values[c * n + i] - centroid[j * dim + c], 2);
                    if (d < least) {
                        least = d;
                        nearest = j;
                    }
                }
                error += least;
                count[nearest]++;
                for (size_t c = 0; c < dim; c++)
                    sum[nearest * dim + c] += (double)set->values[c * n + i];
            }
            for (unsigned j = 0; j < k; j++)
                for (size_t c = 0; c < dim && count[j]; c++)
                    centroid[j * dim + c] = sum[j * dim + c] / (double)count[j];
        } while (before - error > 1e-7 * error);
        best = error < best ? error : best;
    }
    free(centroid);
    free(sum);
    free(count);
    return best;
}

static void test_against_restarts(void **state)
{
    (void)state;
    static const unsigned cases[][3] = {{2000, 2, 8}, {3000, 2, 16}, {1500, 4, 16}, {1000, 3, 4}};
    uint64_t seed = 1;
    for (size_t t = 0; t < sizeof cases / sizeof *cases; t++) {
        const size_t n = cases[t][0], dim = cases[t][1];
        const unsigned k = cases[t][2];
        float *values = malloc(n * dim * sizeof *values), centroids[16 * 4];
        for (size_t i = 0; i < n * dim; i++)
            values[i] = (float)random_normal(&seed);
        const vector_set set = {n, dim, values, NULL};
        double error;
        assert_ok(vector_kmeans(&set, k, 2, centroids));
        assert_ok(vector_assign(&set, centroids, k, 2, NULL, &error));
        assert_true(error <= 1.005 * restarted(&set, k, 5, &seed));
        free(values);
    }
}

/* Weighted squared error of a partition, given by a digit in base k for each vector. */
static double partition_error(const vector_set *set, unsigned k, const unsigned *digits)
{
    double error = 0;
    for (unsigned j = 0; j < k; j++) {
        double mass = 0;
        for (size_t i = 0; i < set->count; i++)
            mass += digits[i] == j ? (double)set->importance[i] : 0;
        for (size_t c = 0; c < set->dim && mass > 0; c++) {
            double sum = 0, square = 0;
            for (size_t i = 0; i < set->count; i++) {
                const double x = (double)set->values[c * set->count + i];
                const double w = digits[i] == j ? (double)set->importance[i] : 0;
                sum += w * x;
                square += w * x * x;
            }
            error += square - sum * sum / mass;
        }
    }
    return error;
}

/* The least error of all partitions of the vectors into k. */
static double exhaustive(const vector_set *set, unsigned k)
{
    unsigned digits[8] = {0};
    double best = INFINITY;
    for (;;) {
        const double error = partition_error(set, k, digits);
        best = error < best ? error : best;
        size_t i = 1; /* the first vector stays in the first cluster */
        while (i < set->count && ++digits[i] == k)
            digits[i++] = 0;
        if (i >= set->count)
            return best;
    }
}

/* On tiny problems the result is the optimum, also with weights, some of them zero, and duplicates.
 */
static void test_exhaustive(void **state)
{
    (void)state;
    enum { N = 8 };
    uint64_t seed = 2;
    unsigned missed = 0;
    for (unsigned t = 0; t < 200; t++) {
        const size_t dim = 1 + t % 3;
        const unsigned k = 2 + t / 3 % 3;
        float values[3 * N], importance[N], centroids[4 * 3];
        for (size_t i = 0; i < dim * N; i++)
            values[i] = t % 2 ? (float)random_below(&seed, 4) : (float)random_normal(&seed);
        for (size_t i = 0; i < N; i++)
            importance[i] = t % 5 ? (float)random_below(&seed, 3) : 1;
        const vector_set set = {N, dim, values, importance};
        double error;
        assert_ok(vector_kmeans(&set, k, 1, centroids));
        assert_ok(vector_assign(&set, centroids, k, 1, NULL, &error));
        const double least = exhaustive(&set, k);
        assert_true(error <= 1.25 * least + 1e-9);
        missed += error > least * (1 + 1e-5) + 1e-9;
    }
    assert_true(missed <= 4);
}

static void cluster_with(const vector_set *set, unsigned k, int threads, float *centroids,
                         uint8_t *indices, double *error)
{
    assert_ok(vector_kmeans(set, k, threads, centroids));
    assert_ok(vector_assign(set, centroids, k, threads, indices, error));
}

/* The same centroids and indices at any number of threads, on more than one piece and a sample. */
static void test_threads(void **state)
{
    (void)state;
    enum { N = 70001, MOST = 64 * 4 };
    static const unsigned cases[][2] = {{2, 4}, {3, 16}, {8, 12}, {4, 64}}; /* dim, k */
    uint8_t *indices[2] = {malloc(N), malloc(N)};
    uint64_t seed = 4;
    for (size_t t = 0; t < sizeof cases / sizeof *cases; t++) {
        const size_t dim = cases[t][0];
        const unsigned k = cases[t][1];
        float *values = malloc(N * dim * sizeof *values);
        float *importance = malloc(N * sizeof *importance), centroids[2][MOST];
        double error[2];
        for (size_t i = 0; i < N * dim; i++)
            values[i] = (float)random_normal(&seed);
        for (size_t i = 0; i < N; i++)
            importance[i] = (float)random_unit(&seed);
        const vector_set set = {N, dim, values, importance};
        cluster_with(&set, k, 1, centroids[0], indices[0], &error[0]);
        for (int threads = 2; threads < 6; threads += 3) {
            cluster_with(&set, k, threads, centroids[1], indices[1], &error[1]);
            assert_memory_equal(centroids[0], centroids[1], k * dim * sizeof(float));
            assert_memory_equal(indices[0], indices[1], N);
            assert_true(error[0] == error[1]);
        }
        double expected = 0; /* from the definition */
        for (size_t i = 0; i < N; i++) {
            double least = INFINITY;
            for (unsigned j = 0; j < k; j++) {
                double d = 0;
                for (size_t c = 0; c < dim; c++)
                    d += pow((double)values[c * N + i] - (double)centroids[0][j * dim + c], 2);
                least = fmin(least, d);
            }
            expected += (double)importance[i] * least;
        }
        assert_true(fabs(error[0] - expected) < 1e-5 * expected);
        free(values);
        free(importance);
    }
    free(indices[0]);
    free(indices[1]);
}

/* Values near the limits of single precision cluster like others. */
static void test_scale(void **state)
{
    (void)state;
    enum { N = 3000, DIM = 4, K = 32 };
    float *values = malloc(N * DIM * sizeof *values), *scaled = malloc(N * DIM * sizeof *scaled);
    float centroids[2][K * DIM];
    uint8_t indices[2][N];
    double error[2];
    uint64_t seed = 5;
    for (size_t i = 0; i < N * DIM; i++)
        values[i] = (float)random_normal(&seed);
    const vector_set set = {N, DIM, values, NULL}, other = {N, DIM, scaled, NULL};
    cluster_with(&set, K, 1, centroids[0], indices[0], &error[0]);
    for (int exponent = -100; exponent <= 120; exponent += 220) {
        for (size_t i = 0; i < N * DIM; i++)
            scaled[i] = ldexpf(values[i], exponent);
        cluster_with(&other, K, 1, centroids[1], indices[1], &error[1]);
        for (size_t i = 0; i < K * DIM; i++)
            assert_true(centroids[1][i] == ldexpf(centroids[0][i], exponent));
        assert_memory_equal(indices[0], indices[1], N);
        assert_true(error[1] == ldexp(error[0], 2 * exponent));
    }
    free(values);
    free(scaled);
}

/* Nearly all vectors are the same, and a sample sees few of the others: clusters that it left empty
 * must find them. The same vectors with importance in place of repetition are the reference. */
static void test_rare(void **state)
{
    (void)state;
    enum { N = 90000, RARE = 300, DIM = 2 };
    float *values = calloc(N * DIM, sizeof *values), few[(RARE + 1) * DIM], importance[RARE + 1];
    float centroids[256 * DIM];
    uint64_t seed = 6;
    for (size_t i = 0; i < RARE; i++) {
        importance[i] = 1;
        for (size_t c = 0; c < DIM; c++)
            values[c * N + 299 * i] = few[c * (RARE + 1) + i] = (float)random_normal(&seed);
    }
    importance[RARE] = N - RARE;
    few[RARE] = few[2 * RARE + 1] = 0;
    const vector_set set = {N, DIM, values, NULL}, weighted = {RARE + 1, DIM, few, importance};
    for (unsigned k = 4; k <= 256; k *= 4) {
        double error, reference;
        cluster_with(&set, k, 1, centroids, NULL, &error);
        cluster_with(&weighted, k, 1, centroids, NULL, &reference);
        assert_true(error < 1.15 * reference);
        assert_true(reference < 1.15 * error);
    }
    free(values);
}

/* No vector counts: the centroids are those of vectors that all count the same. */
static void test_no_importance(void **state)
{
    (void)state;
    enum { MANY = 20000, DIM = 2, MOST = 64 };
    static const size_t counts[] = {1000, MANY};
    float *values = malloc(MANY * DIM * sizeof *values);
    float *importance = calloc(MANY, sizeof *importance);
    uint64_t seed = 7;
    for (size_t i = 0; i < MANY * DIM; i++)
        values[i] = (float)random_normal(&seed);
    for (size_t t = 0; t < 4; t++) {
        const unsigned k = t % 2 ? MOST : 16;
        const vector_set set = {counts[t / 2], DIM, values, importance};
        const vector_set equal = {counts[t / 2], DIM, values, NULL};
        float centroids[MOST * DIM], expected[MOST * DIM];
        double error;
        cluster_with(&set, k, 2, centroids, NULL, &error);
        assert_true(error == 0);
        cluster_with(&equal, k, 2, expected, NULL, &error);
        assert_memory_equal(centroids, expected, k * DIM * sizeof *centroids);
    }
    free(values);
    free(importance);
}

/* A few vectors count: they have centroids of their own, and the others are served with what is
 * left, nearly as well as if all counted the same. So it is at any unit of importance. */
static void test_few_important(void **state)
{
    (void)state;
    enum { N = 20000, DIM = 2, FEW = 5, MOST = 64 };
    float *values = malloc(N * DIM * sizeof *values), *importance = calloc(N, sizeof *importance);
    uint64_t seed = 10;
    for (size_t i = 0; i < N * DIM; i++)
        values[i] = (float)random_normal(&seed);
    for (int t = 0; t < 4; t++) {
        const unsigned k = t % 2 ? MOST : 16;
        const vector_set set = {N, DIM, values, importance}, equal = {N, DIM, values, NULL};
        float centroids[MOST * DIM];
        double error, served, expected;
        for (size_t i = 0; i < FEW; i++)
            importance[i * (N / FEW)] = t < 2 ? 1 : 1e-37F;
        cluster_with(&set, k, 2, centroids, NULL, &error);
        assert_true(error <= 1e-6 * (double)importance[0]);
        assert_ok(vector_assign(&equal, centroids, k, 2, NULL, &served));
        cluster_with(&equal, k, 2, centroids, NULL, &expected);
        assert_true(served < 1.5 * expected);
    }
    free(values);
    free(importance);
}

/* What is lifted suffices, and is as much as it says. */
static void test_importance(void **state)
{
    (void)state;
    enum { N = 1000 };
    float importance[N];
    assert_true(importance_suffices(NULL, N));
    for (int exponent = -120; exponent <= 100; exponent += 20) {
        for (size_t i = 0; i < N; i++)
            importance[i] = i % 3 ? 0 : ldexpf((float)(1 + i), exponent);
        assert_false(importance_suffices(importance, N));
        importance_lift(importance, N);
        assert_true(importance_suffices(importance, N));
        double total = 0, least = 0;
        for (size_t i = 0; i < N; i++) {
            total += (double)importance[i];
            least += i % 3 ? (double)importance[i] : 0;
            assert_true(i % 3 || importance[i] == (float)(1 + i) * importance[0]);
        }
        assert_true(least > 0 && least < 0x1p-24 * total);
    }
    memset(importance, 0, sizeof importance);
    assert_false(importance_suffices(importance, N));
    importance_lift(importance, N);
    for (size_t i = 0; i < N; i++)
        assert_true(importance[i] == 1);
}

/* tile_nearest() finds the nearest of all centroids among those that sites_near() leaves, at every
 * number of components and from any anchor. */
static void test_nearest(void **state)
{
    (void)state;
    enum { DIM = 9 };
    uint64_t seed = 8;
    for (unsigned t = 0; t < 500; t++) {
        const size_t dim = 1 + t % DIM;
        const unsigned k = 2 + random_below(&seed, 255);
        float values[DIM * TILE], centroids[MOST_SITES * DIM], box[2 * DIM], distance[TILE];
        float rows[MOST_SITES * (DIM + 3)];
        uint8_t which[MOST_SITES], nearest[TILE];
        for (size_t c = 0; c < dim; c++) {
            const float middle = (float)random_normal(&seed);
            for (size_t i = 0; i < TILE; i++)
                values[c * TILE + i] = middle + 0.2F * (float)random_normal(&seed);
        }
        for (size_t i = 0; i < k * dim; i++)
            centroids[i] = (float)random_normal(&seed);
        sites s;
        assert_ok(sites_init(&s, dim));
        sites_set(&s, k, centroids);
        tile_box(values, dim, box);
        const unsigned except = t % 3 ? NOT_ONE : random_below(&seed, k);
        unsigned anchor = random_below(&seed, k);
        anchor = anchor == except ? (anchor + 1) % k : anchor;
        const unsigned m = sites_near(&s, box, anchor, except, which, rows);
        tile_nearest(values, dim, rows, which, m, distance, nearest);
        for (size_t i = 0; i < TILE; i++) {
            float least = INFINITY;
            unsigned expected = 0;
            for (unsigned j = 0; j < k; j++) {
                float d = 0;
                for (size_t c = 0; c < dim; c++) {
                    const float difference = values[c * TILE + i] - centroids[j * dim + c];
                    d += difference * difference;
                }
                if (j != except && d < least) {
                    least = d;
                    expected = j;
                }
            }
            assert_int_equal(nearest[i], expected);
            assert_true(distance[i] == least);
        }
        sites_free(&s);
    }
}

/* Weighted squared distances of all vectors of a set to one point. */
static double error_about(const tiles *set, const double *point)
{
    double error = 0;
    for (size_t i = 0; i < set->count; i++)
        for (size_t c = 0; c < set->dim; c++) {
            const double x = (double)tile_values(set, i / TILE)[c * TILE + i % TILE];
            error += (double)tile_weights(set, i / TILE)[i % TILE] * pow(x - point[c], 2);
        }
    return error;
}

/* Means of near vectors: against any one point they have the error of the vectors less a constant,
 * which is small; and they have their weight. */
static void test_merge(void **state)
{
    (void)state;
    enum { N = 30000, CELLS = 4096 };
    uint64_t seed = 9;
    float *values = malloc(N * 4 * sizeof *values), *importance = malloc(N * sizeof *importance);
    for (size_t i = 0; i < N * 4; i++)
        values[i] = (float)random_normal(&seed);
    for (size_t i = 0; i < N; i++)
        importance[i] = (float)random_below(&seed, 3);
    for (size_t dim = 2; dim <= 4; dim++) {
        const vector_set set = {N, dim, values, importance};
        const double origin[4] = {0};
        double shift[4] = {0}, mass[2] = {0}, constant = 0;
        const frame f = {shift, 1};
        uint64_t random = 1;
        tiles all, few;
        assert_ok(tiles_init(&all, &set, &f, N, false, 2, &random));
        assert_ok(tiles_merge(&few, &all, CELLS, 1));
        assert_true(few.count > CELLS / 8 && few.count <= N / 2);
        for (size_t i = 0; i < all.tile_count * TILE; i++)
            mass[0] += (double)all.weights[i];
        for (size_t i = 0; i < few.tile_count * TILE; i++)
            mass[1] += (double)few.weights[i];
        for (size_t i = 0; i < few.count; i++)
            assert_true(few.weights[i] > 0);
        assert_true(mass[0] == mass[1]);
        constant = error_about(&all, origin) - error_about(&few, origin);
        assert_true(constant > 0 && constant < 0.1 * error_about(&all, origin));
        for (unsigned t = 0; t < 10; t++) {
            double point[4], error;
            for (size_t c = 0; c < dim; c++)
                point[c] = random_normal(&seed);
            error = error_about(&all, point);
            assert_true(fabs(error - error_about(&few, point) - constant) < 1e-6 * error);
        }
        tiles_free(&few);
        assert_ok(tiles_merge(&few, &all, CELLS, CELLS * 4)); /* more than there are cells */
        assert_int_equal(few.count, 0);
        tiles_free(&few);
        memset(all.weights, 0, all.tile_count * TILE * sizeof *all.weights);
        assert_ok(tiles_merge(&few, &all, CELLS, 1));
        assert_int_equal(few.count, 0);
        tiles_free(&few);
        tiles_free(&all);
    }
    free(values);
    free(importance);
}

/* Fewer distinct vectors than centroids: no error is left. */
static void test_few_distinct(void **state)
{
    (void)state;
    enum { N = 300, DIM = 2 };
    float values[N * DIM], centroids[256 * DIM];
    for (unsigned distinct = 1; distinct < 12; distinct++) {
        for (unsigned i = 0; i < N; i++) {
            values[i] = (float)(i % distinct);
            values[N + i] = (float)(i % distinct * i % distinct);
        }
        const vector_set set = {N, DIM, values, NULL};
        double error;
        assert_ok(vector_kmeans(&set, 16, 1, centroids));
        assert_ok(vector_assign(&set, centroids, 16, 1, NULL, &error));
        assert_true(error < 1e-9);
    }
    const vector_set one = {1, DIM, values, NULL};
    assert_ok(vector_kmeans(&one, 256, 1, centroids));
    float zeros[] = {0, -0.0F, 0, 0}; /* two vectors, the same */
    const vector_set same = {2, DIM, zeros, NULL};
    assert_ok(vector_kmeans(&same, 2, 1, centroids));
    for (size_t i = 0; i < 4; i++)
        assert_true(centroids[i] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_restarts),
        cmocka_unit_test(test_exhaustive),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_rare),
        cmocka_unit_test(test_no_importance),
        cmocka_unit_test(test_few_important),
        cmocka_unit_test(test_importance),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_few_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
