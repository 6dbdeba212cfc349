/* Parts of tensors, and tensors within larger ones, in row-major and in oneDNN's blocked layouts. A
 * 1x1 convolution with the identity as its weights brings numbers into such a layout unchanged. */
#include "engine_graphs.h"

enum { RANK = 4 };

static int64_t pick(bench *b, int64_t lowest, int64_t highest)
{
    return lowest + (int64_t)(random_bits(&b->random) % (uint64_t)(highest - lowest + 1));
}

static size_t ints_of(bench *b, const int64_t *numbers, size_t count)
{
    const size_t value = graph_add_ints(b->graph, numbers, count);
    assert_true(value != GRAPH_NONE);
    return value;
}

static size_t blocked(bench *b, size_t x)
{
    const int64_t channels = value_of(b, x)->shape[1];
    const int64_t shape[RANK] = {channels, channels, 1, 1};
    graph_tensor *weights = graph_add_tensor(b->graph, GRAPH_FLOAT, RANK, shape);
    assert_non_null(weights);
    for (int64_t i = 0; i < channels; i++)
        ((float *)weights->owned)[i * channels + i] = 1;
    const op_attributes a = {.window = {.groups = 1, .stride = {1, 1}, .dilation = {1, 1}}};
    const size_t inputs[] = {x, graph_add_constant(b->graph, "identity", weights), GRAPH_NONE};
    return add(b, OP_CONV, &a, 3, inputs);
}

static size_t some_tensor(bench *b)
{
    static const int64_t channels[] = {1, 3, 8, 16, 20, 32};
    const int64_t shape[RANK] = {pick(b, 1, 3), channels[pick(b, 0, 5)], pick(b, 1, 7),
                                 pick(b, 1, 9)};
    return any_of(b, false, RANK, shape);
}

/* The element of x at these indices, or `outside`. */
static double element_at(const bench *b, size_t x, const int64_t *at, double outside)
{
    const int64_t *shape = value_of(b, x)->shape;
    int64_t index = 0;
    for (size_t d = 0; d < RANK; d++) {
        if (at[d] < 0 || at[d] >= shape[d])
            return outside;
        index = index * shape[d] + at[d];
    }
    return (double)numbers_of(b, x)[index];
}

/* Element i of the result stems from index begin + i * step along each axis of x. */
static void check_part(bench *b, size_t x, size_t result, const int64_t *begin, const int64_t *step,
                       double outside)
{
    const graph_value *y = value_of(b, result);
    const uint64_t count = graph_elements(y);
    double *wanted = malloc((count ? count : 1) * sizeof *wanted);
    assert_non_null(wanted);
    for (uint64_t i = 0; i < count; i++) {
        int64_t at[RANK], rest = (int64_t)i;
        for (size_t d = RANK; d-- > 0;) {
            at[d] = begin[d] + rest % y->shape[d] * step[d];
            rest /= y->shape[d];
        }
        wanted[i] = element_at(b, x, at, outside);
    }
    float *got = compute(b, result);
    assert_close(got, wanted, count, 0);
    free(got);
    free(wanted);
}

static void slices(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        bench b = bench_new(seed);
        const size_t x = some_tensor(&b), whole = seed % 4 ? blocked(&b, x) : x;
        int64_t starts[RANK], ends[RANK], steps[RANK];
        const int64_t axes[RANK] = {0, 1, 2, 3};
        for (size_t d = 0; d < RANK; d++) {
            const int64_t extent = value_of(&b, x)->shape[d];
            const bool all = pick(&b, 0, 2) == 0, back = pick(&b, 0, 5) == 0;
            const int64_t align = d == 1 && extent > 8 && pick(&b, 0, 1) ? 8 : 1;
            const int64_t first = all ? 0 : pick(&b, 0, extent - 1) / align * align;
            const int64_t last = all ? extent : pick(&b, first + 1, extent);
            steps[d] = all ? 1 : d == 1 && align == 8 ? 1 : pick(&b, 1, 3);
            starts[d] = first;
            ends[d] = align == 8 && (last - first) > 8 ? first + (last - first) / 8 * 8 : last;
            if (back) { /* from the last to the first */
                starts[d] = last - 1;
                ends[d] = first - 1 < 0 ? -extent - 1 : first - 1;
                steps[d] = -steps[d];
            }
        }
        const size_t inputs[] = {whole, ints_of(&b, starts, RANK), ints_of(&b, ends, RANK),
                                 ints_of(&b, axes, RANK), ints_of(&b, steps, RANK)};
        check_part(&b, x, add(&b, OP_SLICE, NULL, 5, inputs), starts, steps, NAN);
        bench_free(&b);
    }
}

static void pads(void **state)
{
    static const int64_t ones[RANK] = {1, 1, 1, 1};
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        bench b = bench_new(seed);
        const size_t x = some_tensor(&b), whole = seed % 4 ? blocked(&b, x) : x;
        const float fill = seed % 3 ? 0 : 1.5f;
        int64_t around[2 * RANK], begin[RANK];
        for (size_t d = 0; d < RANK; d++) {
            const int64_t unit = d == 1 && pick(&b, 0, 1) ? 8 : 1;
            const int64_t lowest = pick(&b, 0, 9) == 0 && value_of(&b, x)->shape[d] > 2 ? -1 : 0;
            around[d] = unit * pick(&b, lowest, 2);
            around[RANK + d] = unit * pick(&b, 0, 2);
            if (unit == 8 && around[d] < 0)
                around[d] = 0;
            begin[d] = -around[d];
        }
        const size_t inputs[] = {whole, ints_of(&b, around, 2 * RANK), number_of(&b, fill)};
        const op_attributes a = {.pad = {.mode = PAD_CONSTANT}};
        check_part(&b, x, add(&b, OP_PAD, &a, 3, inputs), begin, ones, (double)fill);
        bench_free(&b);
    }
}

/* The shortcut of a residual network that grows: every second pixel, and more channels. */
static void layouts_are_kept(void **state)
{
    (void)state;
    bench b = bench_new(1);
    const int64_t shape[RANK] = {2, 16, 8, 8}, starts[] = {0, 0}, ends[] = {8, 8}, axes[] = {2, 3};
    const int64_t steps[] = {2, 2}, around[] = {0, 8, 0, 0, 0, 8, 0, 0};
    const size_t whole = blocked(&b, any_of(&b, false, RANK, shape));
    const size_t inputs[] = {whole, ints_of(&b, starts, 2), ints_of(&b, ends, 2),
                             ints_of(&b, axes, 2), ints_of(&b, steps, 2)};
    const size_t half = add(&b, OP_SLICE, NULL, 5, inputs);
    const op_attributes a = {.pad = {.mode = PAD_CONSTANT}};
    size_t result = add(&b, OP_PAD, &a, 2, (const size_t[]){half, ints_of(&b, around, 8)});
    plan *plan;
    b.graph->main.outputs = &result;
    b.graph->output_count = 1;
    assert_ok(plan_new(b.graph, &(plan_options){.threads = 1}, &plan));
    const layout *first = NULL;
    for (size_t i = 0; i < plan_step_count(plan); i++) {
        const step *step = plan_step_get(plan, i);
        if (strcmp(step->what, "convolution") == 0)
            first = step->writes[0]->layout;
        if (strcmp(step->what, "slice") == 0 || strcmp(step->what, "pad") == 0)
            assert_int_equal(step->writes[0]->layout != NULL, first != NULL);
    }
    plan_free(plan);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices),
        cmocka_unit_test(pads),
        cmocka_unit_test(layouts_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
