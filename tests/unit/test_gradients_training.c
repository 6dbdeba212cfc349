/* What only training does: batch norm by the batch's statistics, dropout, weights that change. */
#include "gradient_checks.h"

#include "engine/gradient.h"

typedef struct channel_norm {
    size_t x, scale, shift, mean, variance, y;
} channel_norm;

static channel_norm add_norm(bench *b, size_t x)
{
    const op_attributes a = {.norm = {.epsilon = 1e-3F}};
    const int64_t *channels = &b->graph->values[x].shape[1];
    channel_norm n = {.x = x};
    n.scale = any_of(b, true, 1, channels);
    n.shift = any_of(b, true, 1, &b->graph->values[x].shape[1]);
    n.mean = any_of(b, true, 1, &b->graph->values[x].shape[1]);
    n.variance = any_of(b, true, 1, &b->graph->values[x].shape[1]);
    float *variance = value_of(b, n.variance)->constant->owned;
    for (int64_t c = 0; c < value_of(b, x)->shape[1]; c++)
        variance[c] = 0.5F + variance[c] * variance[c];
    n.y = add(b, OP_BATCH_NORM, &a, 5, (const size_t[]){x, n.scale, n.shift, n.mean, n.variance});
    return n;
}

static void check_norm(bench *b, const channel_norm *n, size_t result, size_t weight)
{
    check(b, result, n->scale);
    check(b, result, n->shift);
    check(b, result, weight);
}

/* Row-major, of every rank; the smooth function behind it makes the gradient differ by element. */
static void batch_norms(void **state)
{
    (void)state;
    static const int64_t shape[] = {5, 3, 4, 2, 3};
    for (int fixed = 0; fixed < 2; fixed++)
        for (size_t rank = 2; rank <= 5; rank++) {
            bench b = bench_new(10 + rank);
            check_mode = (plan_options){.threads = 2, .training = true, .fixed_statistics = fixed};
            const size_t x = any_of(&b, true, rank, shape);
            const channel_norm n = add_norm(&b, x);
            check_norm(&b, &n, unary(&b, UNARY_TANH, 0, 0, n.y), x);
            bench_free(&b);
        }
}

/* Between convolutions, whose layouts have blocks of channels: with padding (12, 5) and without. */
static void batch_norms_in_layouts(void **state)
{
    (void)state;
    static const int64_t counts[] = {16, 12, 5, 40};
    check_step = 2e-3F; /* the functions bend more here */
    for (int fixed = 0; fixed < 2; fixed++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            bench b = bench_new(20 + i);
            const op_attributes a = {.window = plain_window};
            check_mode = (plan_options){.threads = 2, .training = true, .fixed_statistics = fixed};
            const size_t x = any_of(&b, false, 4, SHAPE(3, 8, 6, 7));
            const size_t w = any_of(&b, true, 4, SHAPE(counts[i], 8, 2, 2));
            const size_t v = any_of(&b, true, 4, SHAPE(4, counts[i], 3, 3));
            const channel_norm n = add_norm(&b, add(&b, OP_CONV, &a, 2, (const size_t[]){x, w}));
            const size_t smooth = unary(&b, UNARY_TANH, 0, 0, n.y);
            const size_t y = add(&b, OP_CONV, &a, 2, (const size_t[]){smooth, v});
            check_norm(&b, &n, y, w);
            check(&b, y, v);
            bench_free(&b);
        }
    check_step = 1e-2F;
}

/* What graph_fuse_training() makes part of a norm or a product: the same gradients as before. */
static void fused_results(void **state)
{
    (void)state;
    for (int variant = 0; variant < 16; variant++) {
        bench b = bench_new(80 + (uint64_t)variant);
        const bool norm = variant & 1, sum = variant & 2, fixed = variant & 4, clip = variant & 8;
        const op_attributes a = {.window = plain_window};
        check_mode = (plan_options){.threads = 2, .training = true, .fixed_statistics = fixed};
        const size_t x = any_of(&b, false, 4, SHAPE(3, 8, 6, 7));
        const size_t w = any_of(&b, true, 4, SHAPE(12, 8, 2, 2));
        const size_t other = any_of(&b, true, 4, SHAPE(12, 8, 2, 2));
        size_t y = add(&b, OP_CONV, &a, 2, (const size_t[]){x, w});
        if (norm)
            y = add_norm(&b, y).y;
        if (sum)
            y = binary(&b, BINARY_ADD, add(&b, OP_CONV, &a, 2, (const size_t[]){x, other}), y);
        y = clip ? unary(&b, UNARY_CLIP, -0.4F, 0.6F, y) : unary(&b, UNARY_RELU, 0, 0, y);
        const size_t v = any_of(&b, true, 4, SHAPE(4, 12, 3, 3));
        y = add(&b, OP_CONV, &a, 2, (const size_t[]){y, v});
        const size_t nodes = b.graph->main.node_count;
        float *weights = loss_weights(&b, y), *plain[2], *fused[2];
        const size_t wanted[2] = {w, sum ? other : v};
        for (int i = 0; i < 2; i++) {
            plan *plan = differentiate(&b, y, wanted[i], 0, weights, SIZE_MAX);
            plain[i] = gradient_of(plan, wanted[i]);
            plan_free(plan);
        }
        b.graph->main.outputs = &y;
        assert_ok(graph_fuse_training(b.graph));
        assert_int_equal(b.graph->main.node_count, nodes - 1 - sum);
        for (int i = 0; i < 2; i++) {
            const uint64_t count = value_of(&b, wanted[i])->constant->elements;
            plan *plan = differentiate(&b, y, wanted[i], 0, weights, SIZE_MAX);
            fused[i] = gradient_of(plan, wanted[i]);
            double *exact = calloc(count, sizeof *exact);
            assert_non_null(exact);
            for (uint64_t e = 0; e < count; e++)
                exact[e] = plain[i][e];
            assert_close(fused[i], exact, count, 1e-5);
            free(exact);
            plan_free(plan);
            free(plain[i]);
            free(fused[i]);
        }
        free(weights);
        bench_free(&b);
    }
}

/* A plan of a graph with one output, for training. */
static plan *training_plan(bench *b, size_t result, const bool *wanted, plan_options options)
{
    plan *plan;
    size_t output = result;
    options.training = true;
    options.wanted = wanted;
    b->graph->main.outputs = &output;
    b->graph->output_count = 1;
    assert_ok(plan_new(b->graph, &options, &plan));
    for (size_t i = 0; i < b->graph->input_count; i++)
        memcpy(plan_model_input(plan, i)->data, b->inputs[i], plan_model_input(plan, i)->bytes);
    return plan;
}

/* Mean and variance of the batch: far from zero, where squares would cancel. */
static void statistics_of_a_batch(void **state)
{
    (void)state;
    bench b = bench_new(30);
    const int64_t batch = 6, channels = 11, plane = 70 * 90;
    const size_t x = any_of(&b, false, 4, SHAPE(batch, channels, 70, 90));
    for (int64_t i = 0; i < batch * channels * plane; i++)
        b.inputs[0][i] = 300 + b.inputs[0][i] * (float)(1 + i / plane % channels);
    const channel_norm n = add_norm(&b, x);
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        const int before = engine_set_threads(threads);
        plan *plan = training_plan(&b, n.y, NULL, (plan_options){.threads = threads});
        assert_ok(plan_run(plan, NULL));
        assert_int_equal(plan_batch_norm_count(plan), 1);
        const batch_statistics found = plan_batch_statistics(plan, 0);
        assert_int_equal(found.running_mean, n.mean);
        assert_int_equal(found.running_variance, n.variance);
        assert_int_equal(found.channels, channels);
        assert_int_equal(found.count, batch * plane);
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0, squares = 0;
            for (int64_t i = 0; i < batch * plane; i++)
                sum += b.inputs[0][(i / plane * channels + c) * plane + i % plane];
            sum /= (double)(batch * plane);
            for (int64_t i = 0; i < batch * plane; i++) {
                const double off =
                    b.inputs[0][(i / plane * channels + c) * plane + i % plane] - sum;
                squares += off * off;
            }
            squares /= (double)(batch * plane);
            assert_true(fabs(found.mean[c] - sum) < 1e-6 * fabs(sum));
            assert_true(fabs(found.variance[c] - squares) < 1e-5 * squares);
        }
        const buffer *y = plan_model_output(plan, 0);
        if (!first) { /* the same bits at any number of threads */
            first = malloc(y->bytes);
            assert_non_null(first);
            memcpy(first, y->data, y->bytes);
        }
        assert_memory_equal(first, y->data, y->bytes);
        plan_free(plan);
        engine_set_threads(before);
    }
    free(first);
    bench_free(&b);
}

/* ---------------------------------------------------------------- dropout */

static size_t add_dropout(bench *b, float ratio, size_t x)
{
    const op_attributes a = {.dropout = {ratio}};
    return add(b, OP_DROPOUT, &a, 1, &x);
}

static void dropouts(void **state)
{
    (void)state;
    enum { COUNT = 100003 };
    bench b = bench_new(40);
    const size_t x = any_of(&b, true, 1, SHAPE(COUNT));
    const size_t once = add_dropout(&b, 0.2F, x), y = add_dropout(&b, 0.5F, once);
    const float *values = numbers_of(&b, x);
    bool *wanted = calloc(b.graph->value_count, sizeof *wanted);
    float *first = malloc(COUNT * sizeof *first);
    assert_non_null(wanted);
    assert_non_null(first);
    wanted[x] = true;
    for (int turn = 0; turn < 4; turn++) { /* 1: other threads; 2: another run; 3: another seed */
        const int before = engine_set_threads(turn == 1 ? 3 : 2);
        plan *plan = training_plan(&b, y, wanted, (plan_options){.threads = 2, .seed = turn == 3});
        plan_set_run(plan, turn == 2);
        assert_ok(plan_run(plan, NULL));
        const float *result = plan_model_output(plan, 0)->data;
        int stay = 0, same = 0;
        for (int i = 0; i < COUNT; i++) {
            assert_true(result[i] == 0 || fabsf(result[i] - 2.5F * values[i]) < 1e-5F);
            stay += result[i] != 0;
            same += turn && result[i] == first[i];
        }
        assert_true(abs(stay - (int)(0.4 * COUNT)) < 4 * 155); /* standard deviations */
        if (turn == 1)
            assert_int_equal(same, COUNT);
        else if (turn > 1) /* both dropped, or both not */
            assert_true(abs(same - (int)(0.52 * COUNT)) < 4 * 160);
        else
            memcpy(first, result, COUNT * sizeof *first);
        const buffer *gradient = plan_output_gradient(plan, 0);
        for (int i = 0; i < COUNT; i++)
            ((float *)gradient->data)[i] = (float)i;
        assert_ok(plan_run_backward(plan, NULL));
        const float *back = plan_weight_gradient(plan, x)->data;
        for (int i = 0; i < COUNT; i++)
            assert_true(fabsf(back[i] - (result[i] != 0 ? 2.5F * (float)i : 0)) <=
                        1e-6F * (float)i);
        plan_free(plan);
        engine_set_threads(before);
    }
    free(first);
    free(wanted);
    bench_free(&b);
}

/* ---------------------------------------------------------------- weights that change */

/* A network with weights in blocked layouts, one of them used twice. */
static size_t small_network(bench *b, size_t weights[5])
{
    const op_attributes a = {.window = plain_window}, m = {.matmul = {.alpha = 1}};
    const op_attributes flat = {.flatten = {1}};
    op_attributes same = a;
    same.window.pad_begin[0] = same.window.pad_begin[1] = 1;
    same.window.pad_end[0] = same.window.pad_end[1] = 1;
    const size_t x = any_of(b, false, 4, SHAPE(4, 3, 6, 6));
    weights[0] = any_of(b, true, 4, SHAPE(16, 3, 3, 3));
    weights[1] = any_of(b, true, 1, SHAPE(16));
    weights[2] = any_of(b, true, 4, SHAPE(16, 16, 3, 3));
    size_t y = add(b, OP_CONV, &a, 3, (const size_t[]){x, weights[0], weights[1]});
    for (int turn = 0; turn < 2; turn++) {
        y = add(b, OP_CONV, &same, 2, (const size_t[]){y, weights[2]});
        const channel_norm n = add_norm(b, y);
        weights[3] = n.scale;
        y = unary(b, UNARY_RELU, 0, 0, n.y);
    }
    y = add(b, OP_FLATTEN, &flat, 1, &y);
    weights[4] = any_of(b, true, 2, SHAPE(256, 10));
    y = add(b, OP_MATMUL, &m, 2, (const size_t[]){y, weights[4]});
    for (size_t i = 0; i < 5; i++)
        b->graph->values[weights[i]].weight = i;
    return y;
}

static gradients *network_gradients(bench *b, size_t result, bool change)
{
    gradients *made;
    static bool all[5] = {true, true, true, true, true};
    int64_t shapes[1][PAL_MAX_RANK] = {{4, 3, 6, 6}};
    b->graph->main.outputs = &(size_t){result};
    b->graph->output_count = 1;
    assert_ok(gradients_new(b->graph,
                            &(gradient_options){.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                                .weights = all,
                                                .weight_count = 5,
                                                .threads = 2,
                                                .training = true,
                                                .weights_change = change},
                            &made));
    return made;
}

static void run_both_ways(bench *b, gradients *given)
{
    const plan *plan = gradients_plan(given);
    memcpy(plan_model_input(plan, 0)->data, b->inputs[0], plan_model_input(plan, 0)->bytes);
    assert_ok(plan_run(plan, NULL));
    float *to = plan_output_gradient(plan, 0)->data;
    for (uint64_t i = 0; i < plan_output_gradient(plan, 0)->elements; i++)
        to[i] = sinf((float)i);
    assert_ok(plan_run_backward(plan, NULL));
}

/* Variables that are written have the effect that constants of these values have. */
static void changing_weights(void **state)
{
    (void)state;
    bench b = bench_new(50);
    size_t weights[5];
    const size_t y = small_network(&b, weights);
    gradients *change = network_gradients(&b, y, true);
    assert_int_equal(gradients_variable_count(change), 5);
    run_both_ways(&b, change); /* layouts hold the first values now */
    for (size_t i = 0; i < 5; i++) {
        const gradient_variable *variable = gradients_variable(change, i);
        float *file = value_of(&b, weights[i])->constant->owned;
        assert_int_equal(variable->weight, i);
        assert_int_equal(variable->elements, value_of(&b, weights[i])->constant->elements);
        assert_memory_equal(variable->values, file, variable->elements * sizeof *file);
        for (uint64_t e = 0; e < variable->elements; e++)
            file[e] = variable->values[e] = variable->values[e] - 0.1F * variable->gradient[e];
    }
    run_both_ways(&b, change);
    gradients *fresh = network_gradients(&b, y, false);
    run_both_ways(&b, fresh);
    for (size_t i = 0; i < 5; i++) {
        const gradient_variable *variable = gradients_variable(change, i);
        float *wanted = calloc(variable->elements, sizeof *wanted);
        double *exact = calloc(variable->elements, sizeof *exact);
        assert_non_null(wanted);
        assert_non_null(exact);
        assert_ok(gradients_add(fresh, i, false, wanted));
        for (uint64_t e = 0; e < variable->elements; e++)
            exact[e] = wanted[e];
        assert_close(variable->gradient, exact, variable->elements, 1e-5);
        free(wanted);
        free(exact);
    }
    gradients_free(fresh);
    gradients_free(change);
    bench_free(&b);
}

/* Two values of the graph that are one weight stay one. */
static void tied_weights(void **state)
{
    (void)state;
    bench b = bench_new(60);
    const op_attributes a = {.matmul = {.alpha = 1}};
    const size_t x = any_of(&b, false, 2, SHAPE(4, 6)), w = any_of(&b, true, 2, SHAPE(6, 6));
    const size_t again = graph_add_constant(b.graph, "again", value_of(&b, w)->constant);
    size_t y = add(&b, OP_MATMUL, &a, 2, (const size_t[]){x, w});
    y = unary(&b, UNARY_TANH, 0, 0, y);
    const size_t once = add(&b, OP_MATMUL, &a, 2, (const size_t[]){y, w});
    y = add(&b, OP_MATMUL, &a, 2, (const size_t[]){y, again});
    check_mode = (plan_options){.threads = 2};
    float *weights = loss_weights(&b, once);
    plan *plan = differentiate(&b, once, w, 0, weights, SIZE_MAX);
    float *wanted = gradient_of(plan, w);
    plan_free(plan);
    b.graph->values[w].weight = b.graph->values[again].weight = 0;
    gradients *made;
    int64_t shapes[1][PAL_MAX_RANK] = {{4, 6}};
    b.graph->main.outputs = &y;
    assert_ok(gradients_new(b.graph,
                            &(gradient_options){.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                                .weights = &(bool){true},
                                                .weight_count = 1,
                                                .threads = 2,
                                                .weights_change = true},
                            &made));
    assert_int_equal(gradients_variable_count(made), 1);
    memcpy(plan_model_input(gradients_plan(made), 0)->data, b.inputs[0], 24 * sizeof(float));
    assert_ok(plan_run(gradients_plan(made), NULL));
    memcpy(plan_output_gradient(gradients_plan(made), 0)->data, weights, 24 * sizeof(float));
    assert_ok(plan_run_backward(gradients_plan(made), NULL));
    double exact[36];
    for (int i = 0; i < 36; i++)
        exact[i] = wanted[i];
    assert_close(gradients_variable(made, 0)->gradient, exact, 36, 1e-6);
    gradients_free(made);
    free(weights);
    free(wanted);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_norms),   cmocka_unit_test(batch_norms_in_layouts),
        cmocka_unit_test(fused_results), cmocka_unit_test(statistics_of_a_batch),
        cmocka_unit_test(dropouts),      cmocka_unit_test(changing_weights),
        cmocka_unit_test(tied_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
