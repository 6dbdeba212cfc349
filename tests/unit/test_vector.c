/* Vector k-means against plain restarts of Lloyd's algorithm written here, and on edges. */
#include "testing.h"

#include "cluster/vector.h"

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

/* The same centroids and indices at any number of threads, on more than one piece and a sample. */
static void test_threads(void **state)
{
    (void)state;
    enum { N = 70001, DIM = 2, K = 16 };
    float *values = malloc(N * DIM * sizeof *values), *importance = malloc(N * sizeof *importance);
    uint8_t *indices[2] = {malloc(N), malloc(N)};
    float centroids[2][K * DIM];
    double error[2];
    uint64_t seed = 4;
    for (size_t i = 0; i < N * DIM; i++)
        values[i] = (float)random_normal(&seed);
    for (size_t i = 0; i < N; i++)
        importance[i] = (float)random_unit(&seed);
    const vector_set set = {N, DIM, values, importance};
    for (int t = 0; t < 2; t++) {
        assert_ok(vector_kmeans(&set, K, t ? 3 : 1, centroids[t]));
        assert_ok(vector_assign(&set, centroids[t], K, t ? 3 : 1, indices[t], &error[t]));
    }
    assert_memory_equal(centroids[0], centroids[1], sizeof centroids[0]);
    assert_memory_equal(indices[0], indices[1], N);
    assert_true(error[0] == error[1]);
    double expected = 0; /* from the definition */
    for (size_t i = 0; i < N; i++) {
        double least = INFINITY;
        for (unsigned j = 0; j < K; j++) {
            double a = (double)values[i] - (double)centroids[0][2 * j];
            double b = (double)values[N + i] - (double)centroids[0][2 * j + 1];
            least = fmin(least, a * a + b * b);
        }
        expected += (double)importance[i] * least;
    }
    assert_true(fabs(error[0] - expected) < 1e-5 * expected);
    free(values);
    free(importance);
    free(indices[0]);
    free(indices[1]);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_restarts),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_few_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
