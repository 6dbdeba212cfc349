/* What the way back computes again is what was there: gradients, outputs and statistics of batches
 * are the same bytes over some steps of training, in much less memory. */
#include "recompute_networks.h"

#include <unistd.h>

/* All that some steps of training give, one after the other. */
typedef struct record {
    unsigned char *bytes;
    size_t count, capacity;
} record;

static void note(record *to, const void *data, size_t bytes)
{
    if (to->count + bytes > to->capacity) {
        to->capacity = 2 * (to->count + bytes);
        to->bytes = realloc(to->bytes, to->capacity);
        assert_non_null(to->bytes);
    }
    memcpy(to->bytes + to->count, data, bytes);
    to->count += bytes;
}

/* One step of gradient descent; notes everything. */
static void make_step(gradients *g, const float *input, uint64_t run, record *to)
{
    plan *plan = gradients_plan(g);
    const buffer *x = plan_model_input(plan, 0), *y = plan_model_output(plan, 0);
    for (uint64_t i = 0; i < x->elements; i++)
        ((float *)x->data)[i] = input[i] * (1 + 0.1F * (float)run);
    plan_set_run(plan, run);
    assert_ok(plan_run(plan, NULL));
    note(to, y->data, y->bytes);
    float *gradient = plan_output_gradient(plan, 0)->data;
    for (uint64_t i = 0; i < y->elements; i++)
        gradient[i] = sinf((float)i) / (float)y->shape[0];
    assert_ok(plan_run_backward(plan, NULL));
    for (size_t i = 0; i < plan_batch_norm_count(plan); i++) {
        const batch_statistics s = plan_batch_statistics(plan, i);
        note(to, s.mean, s.channels * sizeof *s.mean);
        note(to, s.variance, s.channels * sizeof *s.variance);
    }
    for (size_t i = 0; i < gradients_variable_count(g); i++) {
        const gradient_variable *v = gradients_variable(g, i);
        if (!v->gradient)
            continue;
        note(to, v->gradient, v->elements * sizeof *v->gradient);
        for (uint64_t e = 0; e < v->elements; e++)
            v->values[e] -= 0.01F * v->gradient[e];
    }
}

/* Steps of the plan, and those of them that are costly. */
static void count_steps(const plan *plan, size_t counts[2])
{
    counts[0] = plan_step_count(plan);
    counts[1] = 0;
    for (size_t i = 0; i < counts[0]; i++)
        counts[1] += plan_step_get(plan, i)->costly;
}

/* `most`: the part of the activations' memory that is left, by kind. */
static void compare(gradients *const made[3], const float *input, const double most[3])
{
    record records[3] = {{0}};
    size_t counts[3][2], bytes[3];
    for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++) {
        const plan *plan = gradients_plan(made[kind]);
        bytes[kind] = plan_activation_bytes(plan);
        count_steps(plan, counts[kind]);
        for (uint64_t run = 0; run < 3; run++)
            make_step(made[kind], input, run, &records[kind]);
        assert_int_equal(records[kind].count, records[0].count);
        assert_memory_equal(records[kind].bytes, records[0].bytes, records[0].count);
        if ((double)bytes[kind] > most[kind] * (double)bytes[0])
            print_error("kind %d takes %zu bytes of %zu\n", kind, bytes[kind], bytes[0]);
        assert_true((double)bytes[kind] <= most[kind] * (double)bytes[0]);
    }
    for (uint64_t i = 0; i < records[0].count / sizeof(float); i++)
        assert_true(isfinite(((const float *)records[0].bytes)[i]));
    assert_true(counts[RECOMPUTE_CHEAP][0] > counts[0][0]);
    assert_int_equal(counts[RECOMPUTE_CHEAP][1], counts[0][1]);
    assert_true(counts[RECOMPUTE_ALL][1] > counts[0][1]);
    for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++)
        free(records[kind].bytes);
}

static void networks(void **state)
{
    (void)state;
    static const double most[4][3] = {
        {1, 0.6, 0.42}, {1, 0.85, 0.35}, {1, 0.95, 0.85}, {1, 0.7, 0.37}};
    for (int network = 0; network < 4; network++)
        for (int threads = 1; threads <= 2; threads++) {
            const int before = engine_set_threads(threads);
            bench b = bench_new(100 + (uint64_t)network);
            const size_t y = network_of(&b, network);
            gradients *made[3];
            for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++)
                assert_ok(train_network(&b, y, (recompute_kind)kind, &made[kind]));
            compare(made, b.inputs[0], most[network]);
            for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++)
                gradients_free(made[kind]);
            bench_free(&b);
            engine_set_threads(before);
        }
}

/* Where there is nothing to win, nothing changes. */
static void nothing_to_win(void **state)
{
    (void)state;
    bench b = bench_new(110);
    const size_t y = product(&b, any_of(&b, false, 2, (const int64_t[]){4, 6}), 5);
    gradients *made[3];
    for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++) {
        assert_ok(train_network(&b, y, (recompute_kind)kind, &made[kind]));
        assert_int_equal(plan_step_count(gradients_plan(made[kind])),
                         plan_step_count(gradients_plan(made[0])));
    }
    for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++)
        gradients_free(made[kind]);
    bench_free(&b);
}

/* ---------------------------------------------------------------- real networks */

static void train_model(const char *path, int64_t batch, const double most[3])
{
    pal_model *model;
    graph *graph;
    gradients *made[3];
    if (access(path, R_OK)) {
        print_message("there is no %s\n", path);
        skip();
    }
    assert_ok(pal_model_open(path, &model));
    assert_ok(graph_lower(model, &graph));
    int64_t shape[PAL_MAX_RANK];
    memcpy(shape, graph->inputs[0].shape, sizeof shape);
    shape[0] = batch;
    const size_t count = pal_model_weight_count(model);
    bool *all = malloc(count);
    assert_non_null(all);
    memset(all, true, count);
    for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++)
        assert_ok(train_graph(graph, shape, all, count, (recompute_kind)kind, &made[kind]));
    const uint64_t elements = plan_model_input(gradients_plan(made[0]), 0)->elements;
    float *input = malloc(elements * sizeof *input);
    assert_non_null(input);
    uint64_t random = 120;
    for (uint64_t i = 0; i < elements; i++)
        input[i] = (float)random_normal(&random);
    compare(made, input, most);
    for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_ALL; kind++)
        gradients_free(made[kind]);
    free(input);
    free(all);
    graph_free(graph);
    pal_model_free(model);
}

static void real_networks(void **state)
{
    (void)state;
    const int before = engine_set_threads(2);
    train_model(EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx", 8, (const double[]){1, 0.9, 0.9});
    train_model(MODELS "/resnet20-bn.onnx", 8, (const double[]){1, 0.65, 0.45});
    train_model(MODELS "/mobilenetv3small-cifar-bn.onnx", 4, (const double[]){1, 0.6, 0.45});
    engine_set_threads(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks),
        cmocka_unit_test(nothing_to_win),
        cmocka_unit_test(real_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
