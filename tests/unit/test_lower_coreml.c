/* ML Programs as graphs: the example, and programs made for one question each. */
#include <math.h>

#include "testing.h"

#include "base/half.h"
#include "graph/lower.h"
#include "mil_program.h"

#define SHAPE(...)   ((const int64_t[]){__VA_ARGS__})
#define NUMBERS(...) ((const int32_t[]){__VA_ARGS__})

/* ---------------------------------------------------------------- helpers */

static graph *lower(pal_model *model)
{
    graph *graph = NULL;
    assert_int_equal(graph_new(&graph), PAL_OK);
    const pal_status status = graph_lower_coreml(model, graph);
    if (status)
        print_error("%s\n", pal_error_message());
    assert_int_equal(status, PAL_OK);
    return graph;
}

static void check_refused(pal_model *model, pal_status wanted, const char *part)
{
    graph *graph = NULL;
    assert_int_equal(graph_new(&graph), PAL_OK);
    assert_int_equal(graph_lower_coreml(model, graph), wanted);
    if (!strstr(pal_error_message(), part))
        print_error("%s\n", pal_error_message());
    assert_non_null(strstr(pal_error_message(), part));
    graph_free(graph);
}

static size_t count_nodes(const graph_branch *branch, graph_op op)
{
    size_t count = 0;
    for (size_t i = 0; i < branch->node_count; i++)
        count += branch->nodes[i].op == op;
    return count;
}

static const graph_node *only_node(const graph *graph, graph_op op)
{
    const graph_node *found = NULL;
    for (size_t i = 0; i < graph->main.node_count; i++)
        if (graph->main.nodes[i].op == op) {
            assert_null(found);
            found = &graph->main.nodes[i];
        }
    assert_non_null(found);
    return found;
}

static void check_ints(const graph *graph, size_t value, const int64_t *numbers, size_t count)
{
    assert_int_not_equal(value, GRAPH_NONE);
    const graph_tensor *tensor = graph->values[value].constant;
    assert_non_null(tensor);
    assert_int_equal(tensor->type, GRAPH_INT);
    assert_int_equal(tensor->elements, count);
    assert_memory_equal(tensor->data, numbers, count * sizeof *numbers);
}

/* ---------------------------------------------------------------- the example */

static void example_has_its_nodes(void **state)
{
    (void)state;
    pal_model *model = NULL;
    assert_int_equal(pal_model_open(EXAMPLE_PACKAGE, &model), PAL_OK);
    graph *graph = lower(model);
    assert_int_equal(count_nodes(&graph->main, OP_CONV), 12);
    assert_int_equal(count_nodes(&graph->main, OP_MATMUL), 2);
    assert_int_equal(count_nodes(&graph->main, OP_REDUCE), 1);
    assert_int_equal(count_nodes(&graph->main, OP_BINARY), 3);
    assert_int_equal(graph->input_count, 1);
    assert_int_equal(graph->inputs[0].dtype, PAL_FLOAT16);
    assert_int_equal(graph->inputs[0].rank, 4);
    assert_memory_equal(graph->inputs[0].shape, SHAPE(1, 1, 28, 28), 4 * sizeof(int64_t));
    assert_string_equal(graph->values[graph->inputs[0].value].name, "image");
    assert_int_equal(graph->output_count, 1);
    assert_string_equal(graph->values[graph->main.outputs[0]].name, "logits");
    graph_free(graph);
    pal_model_free(model);
}

/* The decoded values of a weight, however it is stored. */
static float *values_of(const pal_model *model, size_t weight)
{
    const pal_weight *info = &model->weights[weight].info;
    uint16_t *halves = malloc(info->elements * sizeof *halves);
    float *values = malloc(info->elements * sizeof *values);
    assert_int_equal(info->dtype, PAL_FLOAT16);
    if (info->storage == PAL_STORAGE_PALETTIZED) {
        palette *palette = NULL;
        assert_int_equal(model->format->read_palette(model, weight, &palette), PAL_OK);
        assert_int_equal(palette_decode(palette, halves), PAL_OK);
        palette_free(palette);
    } else {
        memcpy(halves, model->weights[weight].dense, info->elements * sizeof *halves);
    }
    for (uint64_t i = 0; i < info->elements; i++)
        values[i] = f16_to_float(halves[i]);
    free(halves);
    return values;
}

static void check_weights(pal_model *model)
{
    graph *graph = lower(model);
    size_t seen = 0;
    for (size_t v = 0; v < graph->value_count; v++) {
        const graph_value *value = &graph->values[v];
        if (value->weight == GRAPH_NONE)
            continue;
        const pal_weight *info = pal_model_weight(model, value->weight);
        float *values = values_of(model, value->weight);
        assert_string_equal(value->name, info->name);
        assert_int_equal(value->constant->elements, info->elements);
        assert_memory_equal(value->constant->data, values, info->elements * sizeof *values);
        free(values);
        seen++;
    }
    assert_int_equal(seen, pal_model_weight_count(model));
    graph_free(graph);
}

static void weights_are_dense_constants(void **state)
{
    (void)state;
    pal_model *model = NULL;
    assert_int_equal(pal_model_open(EXAMPLE_PACKAGE, &model), PAL_OK);
    check_weights(model);
    pal_model_free(model);
}

static void weights_compressed_in_memory_are_decoded(void **state)
{
    (void)state;
    static const char *const settings[][2] = {
        {"nbits", "4"}, {"granularity", "per_grouped_channel"}, {"group_size", "4"}};
    pal_model *model = NULL;
    pal_options *options = NULL;
    assert_int_equal(pal_model_open(EXAMPLE_PACKAGE, &model), PAL_OK);
    assert_int_equal(pal_options_new(&options), PAL_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        assert_int_equal(pal_options_set(options, settings[i][0], settings[i][1]), PAL_OK);
    assert_int_equal(pal_compress(model, options, NULL, NULL, NULL), PAL_OK);
    check_weights(model);
    pal_options_free(options);
    pal_model_free(model);
}

/* ---------------------------------------------------------------- what is refused */

static void unknown_operators_are_listed(void **state)
{
    (void)state;
    mil_program p;
    char names[20][16];
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 2, SHAPE(2, 3));
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof names[i], i < 6 ? "mystery" : "odd%d", i);
        mil_bind(&p, mil_operation(&p, names[i], i ? "b" : "a", MIL_FLOAT, 2, SHAPE(2, 3)), "x",
                 "x");
    }
    mil_operation(&p, "while_loop", "looped", MIL_FLOAT, 2, SHAPE(2, 3));
    mil_output(&p, "b");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "mystery ('a', 'b', 'b' and 3 more)");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "odd6 ('b')");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "more");
    mil_end(&p);

    mil_start(&p, "CoreML8");
    mil_operation(&p, "while_loop", "looped", MIL_FLOAT, 1, SHAPE(3));
    mil_operation(&p, "read_state", "cache", MIL_FLOAT, 1, SHAPE(3));
    mil_output(&p, "cache");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "while_loop (loops: 'looped')");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "read_state (models with a state: 'cache')");
    mil_end(&p);
}

static void undefined_values_name_the_operation(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_bind(&p, mil_operation(&p, "relu", "y", MIL_FLOAT, 2, SHAPE(2, 3)), "x", "nothing");
    mil_output(&p, "y");
    check_refused(&p.model, PAL_ERROR_FORMAT,
                  "operation 'y' (relu): nothing defines its input 'nothing'");
    mil_end(&p);

    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 2, SHAPE(2, 3));
    mil_operation(&p, "relu", "y", MIL_FLOAT, 2, SHAPE(2, 3));
    mil_output(&p, "y");
    check_refused(&p.model, PAL_ERROR_FORMAT, "operation 'y' (relu): its input x is missing");
    mil_end(&p);

    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 2, SHAPE(2, 3));
    mil_output(&p, "z");
    check_refused(&p.model, PAL_ERROR_FORMAT, "nothing defines the output 'z'");
    mil_end(&p);
}

static void parameters_must_fit(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 4, SHAPE(1, 2, 4, 4));
    mil_ints(&p, "three", NUMBERS(1, 1, 1), 3);
    mil_string(&p, "kind", "circular");
    Coreml__Operation *pool = mil_operation(&p, "max_pool", "y", MIL_FLOAT, 4, SHAPE(1, 2, 4, 4));
    mil_bind(&p, pool, "x", "x");
    mil_bind(&p, pool, "kernel_sizes", "three");
    mil_output(&p, "y");
    check_refused(&p.model, PAL_ERROR_FORMAT, "(max_pool): its kernel_sizes are 3 numbers for 2");
    mil_bind(&p, pool, "pad_type", "kind");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "(max_pool): its pad_type is 'circular'");
    mil_end(&p);

    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 2, SHAPE(2, 3));
    mil_input_new(&p, "perm", 1, SHAPE(2));
    Coreml__Operation *transpose = mil_operation(&p, "transpose", "y", MIL_FLOAT, 2, SHAPE(3, 2));
    mil_bind(&p, transpose, "x", "x");
    mil_bind(&p, transpose, "perm", "perm");
    mil_output(&p, "y");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "(transpose): 'perm' is not constant");
    mil_end(&p);

    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", -1, NULL);
    mil_output(&p, "x");
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "'x': a tensor of -1 dimensions");
    mil_end(&p);
}

/* ---------------------------------------------------------------- structure */

static void open_dimensions_stay_open(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 3, SHAPE(-1, 3, -1));
    mil_bind(&p, mil_operation(&p, "relu", "y", MIL_FLOAT, 3, SHAPE(-1, 3, -1)), "x", "x");
    mil_output(&p, "y");
    graph *graph = lower(&p.model);
    assert_memory_equal(graph->inputs[0].shape, SHAPE(GRAPH_FREE, 3, GRAPH_FREE),
                        3 * sizeof(int64_t));
    graph_free(graph);
    mil_end(&p);
}

static void conditions_have_branches(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 1, SHAPE(3));
    mil_bool(&p, "truth", true);
    Coreml__Operation *cond = mil_operation(&p, "cond", "y", MIL_FLOAT, 1, SHAPE(3));
    mil_bind(&p, cond, "pred", "truth");
    mil_output(&p, "y");
    Coreml__Block *const outer = p.block;
    static const char *const types[] = {"relu", "tanh"};
    for (size_t b = 0; b < 2; b++) {
        p.block = cond->blocks[b] = mil_block(&p);
        mil_bind(&p, mil_operation(&p, types[b], "inner", MIL_FLOAT, 1, SHAPE(3)), "x", "x");
        mil_output(&p, "inner");
    }
    cond->n_blocks = 2;
    p.block = outer;
    graph *graph = lower(&p.model);
    const graph_node *node = only_node(graph, OP_IF);
    assert_int_equal(node->branches[0].node_count, 1);
    assert_int_equal(node->branches[0].nodes[0].attributes.unary.kind, UNARY_RELU);
    assert_int_equal(node->branches[1].nodes[0].attributes.unary.kind, UNARY_TANH);
    assert_int_equal(node->branches[1].outputs[0], node->branches[1].nodes[0].outputs[0]);
    assert_string_equal(graph->values[graph->main.outputs[0]].name, "y");
    graph_free(graph);
    /* What a branch defines is not known outside. */
    mil_output(&p, "inner");
    check_refused(&p.model, PAL_ERROR_FORMAT, "nothing defines the output 'inner'");
    mil_end(&p);
}

static void classifiers_give_probabilities(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 2, SHAPE(1, 10));
    mil_string(&p, "labels", "cat");
    Coreml__Operation *classify = mil_operation(&p, "classify", "label", MIL_STRING, 0, NULL);
    mil_bind(&p, classify, "probabilities", "x");
    mil_bind(&p, classify, "classes", "labels");
    classify->outputs[classify->n_outputs++] = mil_named(&p, "probabilities", NULL);
    classify->outputs[1]->type = mil_new(&p, &coreml__value_type__descriptor);
    mil_output(&p, "label");
    mil_output(&p, "probabilities");
    graph *graph = lower(&p.model);
    assert_int_equal(graph->output_count, 1);
    assert_string_equal(graph->values[graph->main.outputs[0]].name, "probabilities");
    graph_free(graph);
    mil_end(&p);
}

static void pipelines_run_in_order(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    Coreml__Model *models[2];
    static const char *const names[] = {"x", "y", "z"};
    for (int i = 0; i < 2; i++) {
        models[i] = mil_model(&p, "CoreML6");
        mil_input_new(&p, names[i], 1, SHAPE(3));
        mil_bind(&p, mil_operation(&p, "relu", names[i + 1], MIL_FLOAT, 1, SHAPE(3)), "x",
                 names[i]);
        mil_output(&p, names[i + 1]);
    }
    Coreml__Pipeline *pipeline = mil_new(&p, &coreml__pipeline__descriptor);
    pipeline->n_models = 2;
    pipeline->models = models;
    p.state.root = mil_new(&p, &coreml__model__descriptor);
    p.state.root->type_case = COREML__MODEL__TYPE_PIPELINE;
    p.state.root->pipeline = pipeline;
    graph *graph = lower(&p.model);
    assert_int_equal(graph->input_count, 1);
    assert_int_equal(graph->main.node_count, 2);
    assert_int_equal(graph->main.nodes[1].inputs[0], graph->main.nodes[0].outputs[0]);
    assert_string_equal(graph->values[graph->main.outputs[0]].name, "z");
    graph_free(graph);
    models[1]->type_case = COREML__MODEL__TYPE__NOT_SET;
    check_refused(&p.model, PAL_ERROR_UNSUPPORTED, "is no ML Program");
    mil_end(&p);
}

/* ---------------------------------------------------------------- operators */

static void pads_are_regrouped(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 3, SHAPE(1, 4, 4));
    mil_ints(&p, "pads", NUMBERS(1, 2, 3, 4), 4);
    Coreml__Operation *pad = mil_operation(&p, "pad", "y", MIL_FLOAT, 3, SHAPE(1, 7, 11));
    mil_bind(&p, pad, "x", "x");
    mil_bind(&p, pad, "pad", "pads");
    mil_output(&p, "y");
    graph *graph = lower(&p.model);
    const graph_node *node = only_node(graph, OP_PAD);
    check_ints(graph, node->inputs[1], SHAPE(1, 3, 2, 4), 4);
    check_ints(graph, node->inputs[3], SHAPE(1, 2), 2);
    graph_free(graph);
    mil_end(&p);
}

static void zeros_of_a_shape_depend_on_the_opset(void **state)
{
    (void)state;
    for (int version = 6; version <= 7; version++) {
        mil_program p;
        mil_start(&p, version == 6 ? "CoreML6" : "CoreML7");
        mil_input_new(&p, "x", 2, SHAPE(2, 50));
        mil_ints(&p, "shape", NUMBERS(1, 0, -1, 0), 4);
        Coreml__Operation *reshape =
            mil_operation(&p, "reshape", "y", MIL_FLOAT, 4, SHAPE(1, 1, 2, 50));
        mil_bind(&p, reshape, "x", "x");
        mil_bind(&p, reshape, "shape", "shape");
        mil_output(&p, "y");
        graph *graph = lower(&p.model);
        const graph_node *node = only_node(graph, OP_RESHAPE);
        if (version == 6)
            check_ints(graph, node->inputs[1], SHAPE(1, 0, -1, 0), 4);
        else /* put together from numbers and a dimension of x */
            assert_int_equal(only_node(graph, OP_CONCAT)->outputs[0], node->inputs[1]);
        graph_free(graph);
        mil_end(&p);
    }
}

static void epsilon_is_a_number_of_the_input_type(void **state)
{
    (void)state;
    mil_program p;
    mil_start(&p, "CoreML6");
    mil_input_new(&p, "x", 1, SHAPE(3));
    const int32_t half = 10;
    p.function->inputs[0]->type->tensor_type->data_type = half;
    mil_bind(&p, mil_operation(&p, "rsqrt", "y", half, 1, SHAPE(3)), "x", "x");
    mil_output(&p, "y");
    graph *graph = lower(&p.model);
    assert_true(only_node(graph, OP_UNARY)->attributes.unary.alpha == 0);
    graph_free(graph);
    p.function->inputs[0]->type->tensor_type->data_type = MIL_FLOAT;
    graph = lower(&p.model);
    assert_true(only_node(graph, OP_UNARY)->attributes.unary.alpha == 1e-12f);
    graph_free(graph);
    mil_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(example_has_its_nodes),
        cmocka_unit_test(weights_are_dense_constants),
        cmocka_unit_test(weights_compressed_in_memory_are_decoded),
        cmocka_unit_test(unknown_operators_are_listed),
        cmocka_unit_test(undefined_values_name_the_operation),
        cmocka_unit_test(parameters_must_fit),
        cmocka_unit_test(open_dimensions_stay_open),
        cmocka_unit_test(conditions_have_branches),
        cmocka_unit_test(classifiers_give_probabilities),
        cmocka_unit_test(pipelines_run_in_order),
        cmocka_unit_test(pads_are_regrouped),
        cmocka_unit_test(zeros_of_a_shape_depend_on_the_opset),
        cmocka_unit_test(epsilon_is_a_number_of_the_input_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
