/* Graphs built by hand and run by the engine, to compare with plain loops in double. */
#ifndef PAL_TESTS_ENGINE_GRAPHS_H
#define PAL_TESTS_ENGINE_GRAPHS_H

#include "testing.h"

#include "engine/engine.h"
#include "engine/fuse.h"
#include "engine/plan.h"
#include "graph/graph.h"
#include "graph/infer.h"

#define MAX_INPUTS 8

typedef struct bench {
    graph *graph;
    float *inputs[MAX_INPUTS]; /* of the model */
    uint64_t random;
} bench;

static inline bench bench_new(uint64_t seed)
{
    bench b = {.random = seed};
    assert_ok(graph_new(&b.graph));
    return b;
}

static inline void bench_free(bench *b)
{
    for (size_t i = 0; i < MAX_INPUTS; i++)
        free(b->inputs[i]);
    graph_free(b->graph);
}

static inline const graph_value *value_of(const bench *b, size_t value)
{
    return &b->graph->values[value];
}

/* The numbers of a constant or an input. */
static inline const float *numbers_of(const bench *b, size_t value)
{
    if (value_of(b, value)->constant)
        return value_of(b, value)->constant->data;
    for (size_t i = 0; i < b->graph->input_count; i++)
        if (b->graph->inputs[i].value == value)
            return b->inputs[i];
    return NULL;
}

/* A constant or an input of normal numbers. */
static inline size_t any_of(bench *b, bool constant, size_t rank, const int64_t *shape)
{
    size_t value;
    uint64_t count = 1;
    for (size_t i = 0; i < rank; i++)
        count *= (uint64_t)shape[i];
    float *to;
    if (constant) {
        graph_tensor *tensor = graph_add_tensor(b->graph, GRAPH_FLOAT, rank, shape);
        assert_non_null(tensor);
        to = tensor->owned;
        value = graph_add_constant(b->graph, "constant", tensor);
    } else {
        const size_t at = b->graph->input_count;
        assert_true(at < MAX_INPUTS);
        assert_ok(
            graph_add_input(b->graph, "input", PAL_FLOAT32, GRAPH_FLOAT, rank, shape, &value));
        to = b->inputs[at] = malloc((count ? count : 1) * sizeof *to);
        assert_non_null(to);
        b->graph->values[value].rank = rank;
        memcpy(b->graph->values[value].shape, shape, rank * sizeof *shape);
    }
    for (uint64_t i = 0; i < count; i++)
        to[i] = (float)random_normal(&b->random);
    return value;
}

static inline size_t number_of(bench *b, float number)
{
    return graph_add_float(b->graph, number);
}

/* A node of one result, which is inferred. The attributes may be NULL. */
static inline size_t add(bench *b, graph_op op, const op_attributes *attributes, size_t count,
                         const size_t *inputs)
{
    const graph_value *values[8] = {0};
    graph_node *node =
        graph_add_node(b->graph, &b->graph->main, op, "node", graph_op_name(op), count, 1);
    assert_non_null(node);
    if (attributes)
        node->attributes = *attributes;
    const size_t result = graph_add_value(b->graph, "result", GRAPH_FLOAT);
    memcpy(node->inputs, inputs, count * sizeof *inputs);
    node->outputs[0] = result;
    for (size_t i = 0; i < count; i++)
        values[i] = inputs[i] == GRAPH_NONE ? NULL : value_of(b, inputs[i]);
    graph_value inferred = *value_of(b, result);
    assert_ok(graph_infer(node, values, &inferred));
    b->graph->values[result] = inferred;
    return result;
}

static inline size_t unary(bench *b, unary_kind kind, float alpha, float beta, size_t x)
{
    const op_attributes a = {.unary = {.kind = kind, .alpha = alpha, .beta = beta}};
    return add(b, OP_UNARY, &a, 1, &x);
}

static inline size_t binary(bench *b, binary_kind kind, size_t x, size_t y)
{
    const op_attributes a = {.binary = {.kind = kind}};
    return add(b, OP_BINARY, &a, 2, (const size_t[]){x, y});
}

/* What the graph gives for a value: the caller frees it. */
static inline float *compute_as(bench *b, size_t result, const plan_options *options)
{
    plan *plan;
    size_t output = result;
    b->graph->main.outputs = &output;
    b->graph->output_count = 1;
    assert_ok(plan_new(b->graph, options, &plan));
    float *numbers = NULL;
    /* The second run finds memory as the first left it. */
    for (int run = 0; run < 2; run++) {
        for (size_t i = 0; i < b->graph->input_count; i++) {
            const buffer *input = plan_model_input(plan, i);
            if (input->elements)
                memcpy(input->data, b->inputs[i], input->bytes);
        }
        assert_ok(plan_run(plan, NULL));
    }
    const buffer *given = plan_model_output(plan, 0);
    const size_t bytes = given->elements * graph_type_size(given->type);
    numbers = malloc(bytes ? bytes : 1);
    assert_non_null(numbers);
    if (bytes)
        memcpy(numbers, given->data, bytes);
    plan_free(plan);
    return numbers;
}

static inline float *compute(bench *b, size_t result)
{
    return compute_as(b, result, &(plan_options){.threads = 2});
}

static inline void assert_close(const float *got, const double *wanted, uint64_t count,
                                double tolerance)
{
    double largest = 1;
    for (uint64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(wanted[i]));
    for (uint64_t i = 0; i < count; i++)
        if (!(fabs(got[i] - wanted[i]) <= tolerance * largest)) {
            print_error("element %llu of %llu is %g, not %g\n", (unsigned long long)i,
                        (unsigned long long)count, (double)got[i], wanted[i]);
            assert_true(false);
        }
}

/* Where an element of a broadcast result lies in an operand. */
static inline uint64_t broadcast_index(const graph_value *operand, const graph_value *result,
                                       uint64_t element)
{
    uint64_t index = 0, stride = 1;
    for (size_t i = 0; i < result->rank; i++) {
        const size_t d = result->rank - 1 - i;
        const uint64_t at = element % (uint64_t)result->shape[d];
        element /= (uint64_t)result->shape[d];
        if (i >= operand->rank)
            continue;
        const uint64_t extent = (uint64_t)operand->shape[operand->rank - 1 - i];
        index += (extent == 1 ? 0 : at) * stride;
        stride *= extent;
    }
    return index;
}

#endif
