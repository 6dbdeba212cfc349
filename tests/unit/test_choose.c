/* Choosing among palettes by running the model: distances beside those of scoring, and the choice
 * beside the candidates. */
#include "testing.h"

#include "cluster/grid.h"
#include "method/choose.h"
#include "method/judge.h"
#include "method/sensitivity.h"

#define MODEL      EXAMPLE_DIRECTORY "/fashion-mnist.onnx"
#define NORMALISED EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx"

enum { SAMPLES = 12 };

static pal_data *samples(void)
{
    pal_data_options *options;
    pal_data *data;
    assert_ok(pal_data_options_new(&options));
    assert_ok(pal_data_options_set(options, "split", "train"));
    assert_ok(pal_data_options_set(options, "mean", "0.286"));
    assert_ok(pal_data_options_set(options, "std", "0.353"));
    assert_ok(pal_data_options_set(options, "limit", "12"));
    assert_ok(pal_data_open(EXAMPLE_DIRECTORY "/data", options, &data));
    pal_data_options_free(options);
    return data;
}

static pal_model *open_model(const char *path)
{
    pal_model *model;
    assert_ok(pal_model_open(path, &model));
    return model;
}

static judge *judge_with(pal_model *model, const pal_data *data, size_t batch, int threads)
{
    bool *all = keep_memory(pal_model_weight_count(model) * sizeof *all);
    for (size_t i = 0; i < pal_model_weight_count(model); i++)
        all[i] = pal_model_skip_reason(model, i, NULL) == NULL;
    judge *judge;
    const judge_options options = {.weights = all, .batch = batch, .threads = threads};
    assert_ok(judge_open(model, data, &options, &judge));
    return judge;
}

static judge *judge_of(pal_model *model, const pal_data *data, size_t batch)
{
    return judge_with(model, data, batch, 1);
}

/* Puts the palettes of a compression into the judge's model. */
static void install(judge *judge, const compression *c)
{
    for (size_t i = 0; i < c->model->weight_count; i++) {
        const target *t = &c->targets[i];
        const uint64_t elements = c->model->weights[i].info.elements;
        if (!t->wanted)
            continue;
        assert_true(judge_runs(judge, i));
        float *values = calloc(elements, sizeof *values);
        void *dense = calloc(elements, sizeof(float));
        assert_ok(palette_decode(c->targets[t->source].palette, dense));
        for (uint64_t e = 0; e < elements; e++)
            values[e] = grid_get(c->targets[t->source].grid, dense, e);
        judge_set(judge, i, values);
        free(dense);
        free(values);
    }
}

static double distance_of(judge *judge)
{
    double distance;
    assert_ok(judge_distance(judge, judge_samples(judge), INFINITY, &distance));
    return distance;
}

/* The divergence that scoring finds for the file, by another plan and another formula. */
static void distances(void **state)
{
    (void)state;
    pal_data *data = samples();
    for (int nbits = 1; nbits <= 2; nbits++) {
        const char *const pairs[] = {"nbits", nbits == 1 ? "1" : "2", NULL};
        const char *saved = in("compressed.onnx");
        compress(MODEL, saved, pairs);
        pal_model *model = open_model(MODEL), *compressed = open_model(saved);
        pal_score score;
        assert_ok(pal_evaluate(compressed, model, data, NULL, NULL, NULL, &score));
        pal_options *options = options_with(pairs);
        compression c = {.model = model, .options = options};
        assert_ok(compression_begin(&c));
        assert_ok(compression_cluster(&c));
        for (size_t batch = 1; batch <= 32; batch += 4) { /* the last batch is seldom full */
            judge *judge = judge_of(model, data, batch);
            assert_int_equal(judge_samples(judge), SAMPLES);
            assert_true(distance_of(judge) < 1e-9);
            install(judge, &c);
            const double distance = distance_of(judge);
            assert_true(score.kl_divergence > 0.01);
            assert_true(fabs(distance - score.kl_divergence) < 1e-4 * score.kl_divergence);
            double limited; /* is given up as soon as that is certain */
            assert_ok(judge_distance(judge, SAMPLES, distance / 100, &limited));
            assert_true(batch >= SAMPLES || isinf(limited));
            judge_free(judge);
        }
        compression_abandon(&c);
        pal_options_free(options);
        pal_model_free(model);
        pal_model_free(compressed);
    }
    pal_data_free(data);
}

/* Whatever the batch, the work of a sample is the same: the last layer's is one multiplication for
 * each of its elements. */
static void work(void **state)
{
    (void)state;
    pal_data *data = samples();
    pal_model *model = open_model(MODEL);
    bool *last = keep_memory(model->weight_count * sizeof *last);
    uint64_t elements = 0;
    for (size_t i = 0; i < model->weight_count; i++) {
        last[i] = model->weights[i].info.rank == 2;
        elements += last[i] ? model->weights[i].info.elements : 0;
    }
    assert_true(elements > 0);
    for (size_t batch = 1; batch < 6; batch += 4) {
        judge *judge;
        const judge_options options = {.weights = last, .batch = batch, .threads = 1};
        assert_ok(judge_open(model, data, &options, &judge));
        assert_true(judge_work(judge) == (double)elements);
        judge_free(judge);
    }
    pal_model_free(model);
    pal_data_free(data);
}

/* Wherever runs begin, and in whatever order samples are, distances are the same. */
static void beginnings(void **state)
{
    (void)state;
    pal_data *data = samples();
    pal_model *model = open_model(NORMALISED);
    pal_options *options = options_with((const char *const[]){"nbits", "1", NULL});
    compression c = {.model = model, .options = options};
    assert_ok(compression_begin(&c));
    assert_ok(compression_cluster(&c));
    for (int threads = 1; threads <= 2; threads++)
        for (size_t batch = 1; batch <= 5; batch += 4) {
            judge *late = judge_with(model, data, batch, threads);
            judge *whole = judge_with(model, data, batch, threads);
            size_t begun = 0;
            install(late, &c);
            install(whole, &c);
            assert_true(distance_of(late) > 0.01);
            assert_ok(judge_farthest_first(late, SAMPLES));
            for (size_t i = 0; i < model->weight_count; i++) {
                if (!c.targets[i].wanted)
                    continue;
                const size_t place = judge_place(late, i);
                begun += place > 0;
                assert_ok(judge_begin_at(late, place, SAMPLES));
                const double before = distance_of(late);
                assert_true(fabs(before - distance_of(whole)) < 1e-6 * before);
                float *zeros = calloc(model->weights[i].info.elements, sizeof *zeros);
                judge_set(late, i, zeros);
                judge_set(whole, i, zeros);
                const double changed = distance_of(late);
                assert_true(fabs(changed - distance_of(whole)) < 1e-6 * changed);
                assert_true(fabs(changed - before) > 1e-6 * before);
                free(zeros);
                install(late, &c);
                install(whole, &c);
            }
            assert_true(begun > 3);
            assert_ok(judge_begin_at(late, 0, SAMPLES));
            assert_true(fabs(distance_of(late) - distance_of(whole)) < 1e-6);
            double some[2]; /* the first samples are the worst */
            assert_ok(judge_distance(late, 5, INFINITY, &some[0]));
            assert_ok(judge_distance(whole, 5, INFINITY, &some[1]));
            assert_true(some[0] > some[1] && some[0] > 1.1 * distance_of(whole));
            judge_free(late);
            judge_free(whole);
        }
    compression_abandon(&c);
    pal_options_free(options);
    pal_model_free(model);
    pal_data_free(data);
}

/* Batch norms follow all layers but the last, or none. */
static void normalised(void **state)
{
    (void)state;
    pal_data *data = samples();
    for (int with = 0; with < 2; with++) {
        pal_model *model = open_model(with ? NORMALISED : MODEL);
        judge *judge = judge_of(model, data, 0);
        assert_true(with ? judge_normalised(judge) > 0.9 && judge_normalised(judge) < 1
                         : judge_normalised(judge) == 0);
        judge_free(judge);
        pal_model_free(model);
    }
    pal_data_free(data);
}

static const double shrinkages[] = {1, 0.6, 0};
enum { CANDIDATES = 3 };

/* By sensitivities that are shrunk as far as the candidate of that number has it. */
static void cluster(pal_model *model, const pal_options *options, const pal_sensitivity *measured,
                    size_t candidate, compression *out)
{
    pal_sensitivity *shrunk;
    assert_ok(sensitivity_shrink(measured, shrinkages[candidate], &shrunk));
    *out = (compression){.model = model, .options = options, .sensitivity = shrunk};
    assert_ok(compression_begin(out));
    assert_ok(compression_cluster(out));
    pal_sensitivity_free(shrunk);
}

static bool same_palette(const palette *a, const palette *b)
{
    return memcmp(a->lut, b->lut, palette_lut_bytes(a)) == 0 &&
           memcmp(a->indices, b->indices, palette_index_bytes(a)) == 0;
}

static void chosen(void **state)
{
    (void)state;
    pal_data *data = samples();
    pal_model *model = open_model(MODEL);
    pal_options *options = options_with((const char *const[]){"nbits", "1", NULL});
    pal_sensitivity *measured;
    assert_ok(pal_sensitivity_measure(model, data, options, NULL, NULL, NULL, &measured));
    double best[2] = {INFINITY, INFINITY}; /* without and with sweeps */
    double nearest = INFINITY;
    for (uint64_t sweeps = 0; sweeps < 2; sweeps++) {
        compression c[CANDIDATES], again[CANDIDATES];
        judge *judge = judge_of(model, data, 0);
        for (size_t k = 0; k < 2 * CANDIDATES; k++) {
            compression *it = k < CANDIDATES ? &c[k] : &again[k - CANDIDATES];
            cluster(model, options, measured, k % CANDIDATES, it);
            if (k < CANDIDATES) {
                install(judge, it);
                nearest = fmin(nearest, distance_of(judge));
            }
        }
        const choose_options how = {.data = data, .threads = 1, .sweeps = sweeps};
        assert_ok(choose_palettes(c, CANDIDATES, &how));
        install(judge, &c[0]);
        best[sweeps] = distance_of(judge);
        for (size_t i = 0; i < model->weight_count; i++) {
            bool found = !c[0].targets[i].wanted;
            for (size_t k = 0; !found && k < CANDIDATES; k++)
                found = same_palette(c[0].targets[i].palette, again[k].targets[i].palette);
            assert_true(found);
        }
        for (size_t k = 0; k < CANDIDATES; k++) {
            compression_abandon(&c[k]);
            compression_abandon(&again[k]);
        }
        judge_free(judge);
    }
    assert_true(fabs(best[0] - nearest) < 1e-9);
    assert_true(best[1] < best[0]);
    pal_sensitivity_free(measured);
    pal_options_free(options);
    pal_model_free(model);
    pal_data_free(data);
}

static bool note_total(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)done, (void)what;
    *(uint64_t *)user = total;
    return true;
}

/* Where statistics of batch norms follow nothing is chosen weight by weight. */
static void statistics_follow(void **state)
{
    (void)state;
    pal_data *data = samples();
    for (int with = 0; with < 2; with++) {
        pal_model *model = open_model(with ? NORMALISED : MODEL);
        pal_options *options = options_with((const char *const[]){"nbits", "1", NULL});
        pal_sensitivity *measured;
        compression c[CANDIDATES];
        uint64_t total = 0;
        assert_ok(pal_sensitivity_measure(model, data, options, NULL, NULL, NULL, &measured));
        for (size_t k = 0; k < CANDIDATES; k++)
            cluster(model, options, measured, k, &c[k]);
        const choose_options how = {.data = data,
                                    .threads = 1,
                                    .sweeps = 1,
                                    .statistics = true,
                                    .progress = note_total,
                                    .user = &total};
        assert_ok(choose_palettes(c, CANDIDATES, &how));
        assert_true(with ? total == CANDIDATES : total > CANDIDATES);
        for (size_t k = 0; k < CANDIDATES; k++)
            compression_abandon(&c[k]);
        pal_sensitivity_free(measured);
        pal_options_free(options);
        pal_model_free(model);
    }
    pal_data_free(data);
}

static void shrunk(void **state)
{
    (void)state;
    const pal_weight info = {.name = "w", .rank = 1, .shape = {4}, .elements = 4};
    pal_sensitivity from = {0}, *to;
    float *values;
    assert_ok(sensitivity_add(&from, &info, &values));
    memcpy(values, (const float[]){0, 1, 3, 4}, 4 * sizeof *values);
    assert_ok(sensitivity_shrink(&from, 0.25, &to));
    const float *got = sensitivity_of(to, &info);
    for (size_t i = 0; i < 4; i++)
        assert_true(got[i] == 0.25F + 0.75F * values[i] / 2);
    pal_sensitivity_free(to);
    memset(values, 0, 4 * sizeof *values); /* nothing is known: all count the same */
    assert_ok(sensitivity_shrink(&from, 0, &to));
    for (size_t i = 0; i < 4; i++)
        assert_true(sensitivity_of(to, &info)[i] == 1);
    pal_sensitivity_free(to);
    pal_sensitivity *owned = malloc(sizeof *owned);
    *owned = from;
    pal_sensitivity_free(owned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances),         cmocka_unit_test(work),   cmocka_unit_test(beginnings),
        cmocka_unit_test(normalised),        cmocka_unit_test(chosen), cmocka_unit_test(shrunk),
        cmocka_unit_test(statistics_follow),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
