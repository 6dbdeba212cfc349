/* Method layerwise: moments against convolutions written out, and whole runs on the example. */
#include "testing.h"

#include "method/layerwise/moments.h"

/* ---------------------------------------------------------------- moments */

typedef struct conv_case {
    graph_op op;
    int64_t in, out, groups; /* channels */
    int64_t height, width, kernel_y, kernel_x, stride_y, stride_x, dilation, pad_begin, pad_end;
} conv_case;

/* What output channel `row` gives at (p, q) of a sample of x, by the definition. */
static double written_out(const conv_case *c, const float *x, const float *w, int64_t row,
                          int64_t p, int64_t q)
{
    const int64_t in = c->in / c->groups, out = c->out / c->groups, group = row / out;
    double sum = 0;
    for (int64_t i = 0; i < in; i++)
        for (int64_t a = 0; a < c->kernel_y; a++)
            for (int64_t b = 0; b < c->kernel_x; b++) {
                int64_t y, z, at;
                if (c->op == OP_CONV) {
                    y = p * c->stride_y + a * c->dilation - c->pad_begin;
                    z = q * c->stride_x + b * c->dilation - c->pad_begin;
                    at = ((row * in + i) * c->kernel_y + a) * c->kernel_x + b;
                } else {
                    y = p + c->pad_begin - a * c->dilation;
                    z = q + c->pad_begin - b * c->dilation;
                    if (y % c->stride_y || z % c->stride_x)
                        continue;
                    y /= c->stride_y;
                    z /= c->stride_x;
                    at = (((group * in + i) * out + row % out) * c->kernel_y + a) * c->kernel_x + b;
                }
                if (y < 0 || y >= c->height || z < 0 || z >= c->width)
                    continue;
                sum += (double)x[((group * in + i) * c->height + y) * c->width + z] * (double)w[at];
            }
    return sum;
}

/* y of the float network is made by the weights that are there: then cross = w own, which needs
 * rows, columns, blocks and unfolding to be right. own is compared with one-hot weights. */
static void check_moments(const conv_case *c, int threads)
{
    enum { SAMPLES = 3, BATCH = 2 };
    graph *graph;
    uint64_t seed = 11;
    assert_ok(graph_new(&graph));
    const bool flipped = c->op == OP_CONV_TRANSPOSE;
    const int64_t w_shape[] = {flipped ? c->in : c->out,
                               flipped ? c->out / c->groups : c->in / c->groups, c->kernel_y,
                               c->kernel_x};
    const int64_t x_shape[] = {BATCH, c->in, c->height, c->width};
    size_t x;
    assert_ok(graph_add_input(graph, "x", PAL_FLOAT32, GRAPH_FLOAT, 4, x_shape, &x));
    graph->values[x].rank = 4;
    memcpy(graph->values[x].shape, x_shape, sizeof x_shape);
    graph_tensor *tensor = graph_add_tensor(graph, GRAPH_FLOAT, 4, w_shape);
    float *w = tensor->owned;
    for (uint64_t i = 0; i < tensor->elements; i++)
        w[i] = (float)random_normal(&seed);
    const size_t weight = graph_add_constant(graph, "w", tensor);
    graph_node *node = graph_add_node(graph, &graph->main, c->op, "layer", "layer", 2, 1);
    const size_t y = graph_add_value(graph, "y", GRAPH_FLOAT);
    node->inputs[0] = x;
    node->inputs[1] = weight;
    node->outputs[0] = y;
    node->attributes = (op_attributes){.window = {.stride = {c->stride_y, c->stride_x},
                                                  .dilation = {c->dilation, c->dilation},
                                                  .rule = PAD_EXPLICIT,
                                                  .pad_begin = {c->pad_begin, c->pad_begin},
                                                  .pad_end = {c->pad_end, c->pad_end},
                                                  .groups = c->groups}};
    const graph_value *inputs[] = {&graph->values[x], &graph->values[weight]};
    graph_value shape = {0};
    assert_ok(graph_infer(node, inputs, &shape));
    graph->values[y].rank = shape.rank;
    memcpy(graph->values[y].shape, shape.shape, sizeof shape.shape);
    const int64_t high = shape.shape[2], wide = shape.shape[3];

    void *live[2][2 * 8] = {{NULL}};
    walk walk = {.graph = graph,
                 .threads = threads,
                 .samples = SAMPLES,
                 .batch = BATCH,
                 .chunks = 2,
                 .all_chunks = 2,
                 .live = {live[0], live[1]}};
    assert_true(graph->value_count <= 8);
    for (size_t chunk = 0; chunk < 2; chunk++) {
        float *xs = calloc((size_t)(BATCH * c->in * c->height * c->width), sizeof *xs);
        float *ys = calloc((size_t)(BATCH * c->out * high * wide), sizeof *ys);
        for (int64_t i = 0; i < BATCH * c->in * c->height * c->width; i++)
            xs[i] = (float)random_normal(&seed);
        for (int64_t s = 0; s < BATCH; s++)
            for (int64_t i = 0; i < c->out * high * wide; i++)
                ys[s * c->out * high * wide + i] =
                    (float)written_out(c, xs + s * c->in * c->height * c->width, w,
                                       i / (high * wide), i / wide % high, i % wide);
        live[0][chunk * graph->value_count + x] = xs;
        live[0][chunk * graph->value_count + y] = ys;
    }
    layer layer;
    moments m;
    assert_ok(layer_init(graph, node, &layer));
    assert_ok(moments_measure(&walk, &layer, &m));
    const size_t n = m.columns, rows = m.rows / m.blocks;
    assert_int_equal(m.rows, c->out);
    assert_int_equal(m.positions, SAMPLES * high * wide);

    /* own, from what one-hot weights give in each block's first row */
    float *hot = calloc(tensor->elements, sizeof *hot);
    double *seen = calloc(n * (size_t)(SAMPLES * high * wide), sizeof *seen);
    for (size_t b = 0; b < m.blocks; b++) {
        for (size_t k = 0; k < n; k++) {
            memset(hot, 0, tensor->elements * sizeof *hot);
            hot[layer.row_offset[b * rows] + layer.column_offset[k]] = 1;
            for (int64_t s = 0; s < SAMPLES; s++) {
                const float *xs = live[0][(size_t)(s / BATCH) * graph->value_count + x];
                for (int64_t p = 0; p < high * wide; p++)
                    seen[k * (size_t)(SAMPLES * high * wide) + (size_t)(s * high * wide + p)] =
                        written_out(c, xs + s % BATCH * c->in * c->height * c->width, hot,
                                    (int64_t)(b * rows), p / wide, p % wide);
            }
        }
        const size_t positions = (size_t)(SAMPLES * high * wide);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t p = 0; p < positions; p++)
                    sum += seen[i * positions + p] * seen[j * positions + p];
                assert_true(fabs(sum / (double)positions - m.own[(b * n + i) * n + j]) < 1e-4);
            }
    }
    for (size_t r = 0; r < m.rows; r++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += (double)w[layer.row_offset[r] + layer.column_offset[i]] *
                       m.own[(r / rows * n + i) * n + j];
            assert_true(fabs(sum - m.cross[r * n + j]) < 1e-4);
        }
    free(hot);
    free(seen);
    for (size_t i = 0; i < 2 * graph->value_count; i++)
        free(live[0][i]);
    moments_free(&m);
    layer_free(&layer);
    graph_free(graph);
}

static void moments_are_those_of_the_convolution(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {OP_CONV, 3, 5, 1, 6, 7, 3, 3, 1, 1, 1, 1, 1},
        {OP_CONV, 4, 6, 2, 9, 8, 3, 2, 2, 1, 1, 0, 1},
        {OP_CONV, 4, 4, 4, 7, 7, 3, 3, 2, 2, 1, 1, 1},
        {OP_CONV, 2, 3, 1, 9, 9, 3, 3, 1, 1, 2, 2, 2},
        {OP_CONV, 110, 100, 1, 4, 4, 1, 1, 1, 1, 1, 0, 0},
        {OP_CONV_TRANSPOSE, 4, 3, 1, 5, 4, 3, 3, 2, 2, 1, 1, 1},
        {OP_CONV_TRANSPOSE, 4, 6, 2, 4, 4, 2, 2, 2, 2, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int threads = 1; threads <= 2; threads++)
            check_moments(&cases[i], threads);
}

/* ---------------------------------------------------------------- whole runs */

static pal_status run(const char *model_path, const char *to, const char *const *options,
                      const char *const *method, bool with_data, pal_report **report)
{
    pal_model *model = NULL;
    pal_data *data = NULL;
    pal_data_options *of_data;
    pal_method_options *chosen;
    pal_options *all = options_with(options);
    assert_ok(pal_data_options_new(&of_data));
    assert_ok(pal_data_options_set(of_data, "split", "train"));
    assert_ok(pal_data_options_set(of_data, "mean", "0.286"));
    assert_ok(pal_data_options_set(of_data, "std", "0.353"));
    assert_ok(pal_method_options_new(&chosen));
    for (size_t i = 0; method[i]; i += 2)
        assert_ok(pal_method_options_set(chosen, method[i], method[i + 1]));
    assert_ok(pal_model_open(model_path, &model));
    if (with_data)
        assert_ok(pal_method_data_open(EXAMPLE_DIRECTORY "/data", of_data, chosen, &data));
    pal_status status = pal_compress_method(model, all, chosen, data, NULL, NULL, report);
    if (!status)
        status = pal_model_save(model, to, NULL);
    pal_data_free(data);
    pal_model_free(model);
    pal_method_options_free(chosen);
    pal_data_options_free(of_data);
    pal_options_free(all);
    return status;
}

#define MODEL EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx"

/* The errors of the outputs that the report tells: K-Means, statistics, reconstruction. */
static int errors_of(const pal_report *report, double errors[3])
{
    for (size_t i = 0; pal_report_note(report, i); i++) {
        const char *text = strstr(pal_report_note(report, i), "K-Means ");
        if (strncmp(pal_report_note(report, i), "output error", 12) == 0 && text)
            return sscanf(text, "K-Means %lf, statistics %lf, reconstruction %lf", &errors[0],
                          &errors[1], &errors[2]);
    }
    return 0;
}

static void each_step_is_a_gain(void **state)
{
    (void)state;
    static const char *const forms[][7] = {
        {"nbits", "2", NULL},
        {"nbits", "4", "cluster_dim", "2", NULL},
        {"nbits", "2", "lut_dtype", "int8", "granularity", "per_grouped_channel", NULL},
        {"nbits", "2", "enable_per_channel_scale", "true", NULL},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        pal_report *report = NULL;
        double errors[3];
        const char *method[] = {"method", "layerwise", "samples", "32", "held_back", "16", NULL};
        assert_ok(run(MODEL, in("steps.onnx"), forms[i], method, true, &report));
        assert_int_equal(errors_of(report, errors), 3);
        assert_true(errors[1] < errors[0] && errors[2] < 0.8 * errors[1]);
        pal_report_free(report);
    }
}

static void results_do_not_depend_on_threads(void **state)
{
    (void)state;
    const char *method[] = {"method", "layerwise", "samples", "12", "held_back", "0", NULL};
    const char *const one[] = {"nbits", "2", "threads", "1", NULL};
    const char *const three[] = {"nbits", "2", "threads", "3", NULL};
    assert_ok(run(MODEL, in("one.onnx"), one, method, true, NULL));
    assert_ok(run(MODEL, in("three.onnx"), three, method, true, NULL));
    assert_same_files(in("one.onnx"), in("three.onnx"));
}

/* A network of which nothing is compressed stays as it is. */
static void statistics_are_relative(void **state)
{
    (void)state;
    pal_report *report = NULL;
    const char *method[] = {"correct", "on", "samples", "5", NULL};
    const char *const none[] = {"nbits", "2", "weight_threshold", "1000000000", NULL};
    assert_ok(run(MODEL, in("none.onnx"), none, method, true, &report));
    for (size_t i = 0; i < pal_report_count(report); i++)
        assert_int_equal(pal_report_get(report, i)->status, PAL_WEIGHT_SKIPPED);
    pal_report_free(report);
}

/* Few samples: it works, and is never worse than K-Means with statistics on those held back. */
static void few_samples_do(void **state)
{
    (void)state;
    static const char *const counts[] = {"1", "2", "16"};
    for (size_t i = 0; i < 3; i++) {
        pal_report *report = NULL;
        const char *method[] = {"method",    "layerwise", "samples", counts[i],
                                "held_back", "16",        NULL};
        const char *const options[] = {"nbits", "2", NULL};
        assert_ok(run(MODEL, in("few.onnx"), options, method, true, &report));
        assert_non_null(pal_report_note(report, 0));
        pal_report_free(report);
    }
}

/* Scales of output channels help where batch norm is folded, and are read back. */
static void scales_take_the_place_of_batch_norm(void **state)
{
    (void)state;
    double with[3], without[3];
    pal_report *report = NULL;
    pal_model *model;
    const char *const options[] = {"nbits", "2", NULL};
    const char *scale[] = {"method", "layerwise", "correct", "scale", "samples", "48", NULL};
    const char *plain[] = {"method", "layerwise", "samples", "48", NULL};
    const char *folded = EXAMPLE_DIRECTORY "/fashion-mnist.onnx";
    assert_ok(run(folded, in("plain.onnx"), options, plain, true, &report));
    assert_int_equal(errors_of(report, without), 3);
    pal_report_free(report);
    assert_ok(run(folded, in("scale.onnx"), options, scale, true, &report));
    assert_int_equal(errors_of(report, with), 3);
    assert_true(with[2] < without[2]);
    assert_ok(pal_model_open(in("scale.onnx"), &model));
    assert_true(assert_reported(report, model) > 0);
    pal_report_free(report);
    pal_model_free(model);
}

static void data_must_be_there(void **state)
{
    (void)state;
    const char *layerwise[] = {"method", "layerwise", NULL}, *correct[] = {"correct", "on", NULL};
    const char *const options[] = {"nbits", "2", NULL};
    assert_fails(run(MODEL, in("no.onnx"), options, layerwise, false, NULL), PAL_ERROR_ARGUMENT,
                 "needs data");
    assert_fails(run(MODEL, in("no.onnx"), options, correct, false, NULL), PAL_ERROR_ARGUMENT,
                 "needs data");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_those_of_the_convolution),
        cmocka_unit_test(each_step_is_a_gain),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(statistics_are_relative),
        cmocka_unit_test(few_samples_do),
        cmocka_unit_test(scales_take_the_place_of_batch_norm),
        cmocka_unit_test(data_must_be_there),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
