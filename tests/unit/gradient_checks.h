/* Gradients of a graph's constants, for tests: against finite differences, and of single samples
 * against a batch with the others left out. */
#ifndef PAL_TESTS_GRADIENT_CHECKS_H
#define PAL_TESTS_GRADIENT_CHECKS_H

#include "engine_graphs.h"

#include "engine/onednn.h"

#define TOLERANCE 4e-3

/* Of the finite differences. */
static float check_step = 1e-2F;

/* How plans are made: training, seed, threads. */
static plan_options check_mode = {.threads = 2};

/* The loss is a sum of the result's elements with these weights. */
static inline float *loss_weights(bench *b, size_t result)
{
    const uint64_t count = graph_elements(value_of(b, result));
    float *weights = malloc(count * sizeof *weights);
    assert_non_null(weights);
    for (uint64_t i = 0; i < count; i++)
        weights[i] = (float)random_normal(&b->random);
    return weights;
}

static inline double loss_of(bench *b, size_t result, const float *weights)
{
    float *y = compute_as(b, result, &check_mode);
    double sum = 0;
    for (uint64_t i = 0; i < graph_elements(value_of(b, result)); i++)
        sum += (double)y[i] * weights[i];
    free(y);
    return sum;
}

/* The plan for gradients of one constant, run both ways. `only`: the sample whose part of the loss
 * counts; SIZE_MAX: all. */
static inline plan *differentiate(bench *b, size_t result, size_t constant, size_t samples,
                                  const float *weights, size_t only)
{
    plan *plan;
    size_t output = result;
    bool *wanted = calloc(b->graph->value_count, sizeof *wanted);
    assert_non_null(wanted);
    wanted[constant] = true;
    b->graph->main.outputs = &output;
    b->graph->output_count = 1;
    plan_options options = check_mode;
    options.wanted = wanted;
    options.samples = samples;
    assert_ok(plan_new(b->graph, &options, &plan));
    for (size_t i = 0; i < b->graph->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        memcpy(input->data, b->inputs[i], input->bytes);
    }
    assert_ok(plan_run(plan, NULL));
    const buffer *gradient = plan_output_gradient(plan, 0);
    assert_non_null(gradient);
    memcpy(gradient->data, weights, gradient->bytes);
    if (only != SIZE_MAX) {
        const size_t each = (size_t)(gradient->elements / (uint64_t)gradient->shape[0]);
        for (size_t i = 0; i < gradient->elements; i++)
            if (i / each != only)
                ((float *)gradient->data)[i] = 0;
    }
    assert_ok(plan_run_backward(plan, NULL));
    free(wanted);
    return plan;
}

/* The gradient in row-major order. */
static inline float *gradient_of(const plan *plan, size_t constant)
{
    const buffer *gradient = plan_weight_gradient(plan, constant);
    assert_non_null(gradient);
    float *to = malloc(gradient->elements * sizeof *to);
    assert_non_null(to);
    if (!gradient->layout) {
        memcpy(to, gradient->data, gradient->elements * sizeof *to);
        return to;
    }
    void *state;
    buffer plain = *gradient;
    plain.layout = NULL;
    plain.data = to;
    assert_ok(onednn_reorder_new(gradient, NULL, &state));
    assert_ok(onednn_reorder_run(state, gradient, &plain));
    onednn_reorder_free(state);
    return to;
}

static inline void check(bench *b, size_t result, size_t constant)
{
    const graph_tensor *tensor = value_of(b, constant)->constant;
    float *weights = loss_weights(b, result);
    plan *plan = differentiate(b, result, constant, 0, weights, SIZE_MAX);
    float *gradient = gradient_of(plan, constant), *values = tensor->owned;
    double largest = 1e-3;
    const uint64_t stride = tensor->elements / 40 + 1;
    for (uint64_t i = 0; i < tensor->elements; i++)
        largest = fmax(largest, fabs((double)gradient[i]));
    for (uint64_t i = 0; i < tensor->elements; i += stride) {
        const float before = values[i];
        values[i] = before + check_step;
        const double up = loss_of(b, result, weights);
        values[i] = before - check_step;
        const double down = loss_of(b, result, weights);
        values[i] = before;
        const double wanted = (up - down) / (2.0 * check_step);
        if (!(fabs(gradient[i] - wanted) <= TOLERANCE * largest)) {
            print_error("%s: element %llu has gradient %g, not %g\n",
                        b->graph->main.nodes[b->graph->main.node_count - 1].type,
                        (unsigned long long)i, (double)gradient[i], wanted);
            assert_true(false);
        }
    }
    free(gradient);
    free(weights);
    plan_free(plan);
}

/* The sum of squares over samples is that of gradients with all but one sample left out. */
static inline void check_apart(bench *b, size_t result, size_t constant)
{
    const uint64_t count = value_of(b, constant)->constant->elements;
    const size_t samples = (size_t)value_of(b, result)->shape[0];
    float *weights = loss_weights(b, result);
    double *wanted = calloc(count, sizeof *wanted);
    assert_non_null(wanted);
    for (size_t s = 0; s < samples; s++) {
        plan *plan = differentiate(b, result, constant, 0, weights, s);
        float *gradient = gradient_of(plan, constant);
        for (uint64_t i = 0; i < count; i++)
            wanted[i] += (double)gradient[i] * gradient[i];
        free(gradient);
        plan_free(plan);
    }
    plan *plan = differentiate(b, result, constant, samples, weights, SIZE_MAX);
    assert_true(plan_keeps_samples_apart(plan));
    float *squares = gradient_of(plan, constant);
    assert_close(squares, wanted, count, 1e-5);
    free(squares);
    free(weights);
    free(wanted);
    plan_free(plan);
}

#define SHAPE(...)                                                                                 \
    (const int64_t[])                                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static const window plain_window = {.stride = {1, 1, 1}, .dilation = {1, 1, 1}, .groups = 1};

#endif
