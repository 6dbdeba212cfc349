/* An ML Program declares the type of every value: what inference finds must agree, for each. The
 * packages: the example, the fuzzer's seeds, and those of ../shared/models or given as
 * arguments. */
#include <dirent.h>
#include <unistd.h>

#include "testing.h"

#include "engine/engine.h"
#include "format/coreml/coreml.h"
#include "graph/lower.h"
#include "graph/specialise.h"

static int compare_names(const void *a, const void *b)
{
    const graph_value *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* The graph made static for the shapes that the model declares; open dimensions are 2. NULL where a
 * condition depends on the input. */
static graph *make_static(const graph *source)
{
    int64_t(*shapes)[PAL_MAX_RANK] = calloc(source->input_count + 1, sizeof *shapes);
    graph *made = NULL;
    for (size_t i = 0; i < source->input_count; i++)
        for (size_t d = 0; d < source->inputs[i].rank; d++)
            shapes[i][d] =
                source->inputs[i].shape[d] == GRAPH_FREE ? 2 : source->inputs[i].shape[d];
    const specialise_options options = {.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                        .evaluate = engine_evaluate};
    const pal_status status = graph_specialise(source, &options, &made, NULL);
    if (status && status != PAL_ERROR_UNSUPPORTED)
        print_error("%s\n", pal_error_message());
    assert_true(status == PAL_OK || status == PAL_ERROR_UNSUPPORTED);
    free(shapes);
    return made;
}

/* How many values were found and agree. */
static size_t check_block(const Coreml__Block *block, const graph_value **values, size_t count)
{
    size_t checked = 0;
    for (size_t i = 0; i < block->n_operations; i++) {
        const Coreml__Operation *operation = block->operations[i];
        for (size_t b = 0; b < operation->n_blocks; b++)
            checked += check_block(operation->blocks[b], values, count);
        for (size_t o = 0; o < operation->n_outputs; o++) {
            char name[256] = "";
            tensor declared;
            bool known = false;
            const ProtobufCBinaryData text = operation->outputs[o]->name;
            memcpy(name, text.data, text.len < sizeof name ? text.len : sizeof name - 1);
            const graph_value key = {.name = name}, *wanted = &key;
            const graph_value **found =
                bsearch(&wanted, values, count, sizeof *values, compare_names);
            value_type_read(operation->outputs[o]->type, &declared, &known);
            if (!found || !known)
                continue;
            bool same = (*found)->rank == declared.rank;
            for (size_t d = 0; same && d < declared.rank; d++)
                same = (*found)->shape[d] == (int64_t)declared.shape[d];
            if (!same)
                print_error("'%s' (%.*s): another shape than declared\n", name,
                            (int)operation->type.len, (const char *)operation->type.data);
            assert_true(same);
            checked++;
        }
    }
    return checked;
}

static size_t check_program(const Coreml__Program *program, const graph_value **values,
                            size_t count)
{
    size_t checked = 0;
    for (size_t f = 0; f < program->n_functions; f++)
        for (size_t b = 0; b < program->functions[f]->value->n_block_specializations; b++)
            checked += check_block(program->functions[f]->value->block_specializations[b]->value,
                                   values, count);
    return checked;
}

static void check_package(const char *path)
{
    pal_model *model = NULL;
    graph *source = NULL;
    assert_ok(pal_model_open(path, &model));
    assert_int_equal(graph_new(&source), PAL_OK);
    assert_ok(graph_lower_coreml(model, source));
    graph *made = make_static(source);
    if (!made)
        goto done;
    const graph_value **values = calloc(made->value_count + 1, sizeof *values);
    for (size_t i = 0; i < made->value_count; i++)
        values[i] = &made->values[i];
    qsort(values, made->value_count, sizeof *values, compare_names);
    const coreml *state = model->state;
    if (state->root->type_case == COREML__MODEL__TYPE_ML_PROGRAM)
        assert_int_not_equal(check_program(state->root->ml_program, values, made->value_count), 0);
    free(values);
    graph_free(made);
done:
    graph_free(source);
    pal_model_free(model);
}

static void check_folder(const char *folder)
{
    DIR *directory = opendir(folder);
    for (const struct dirent *entry; directory && (entry = readdir(directory));) {
        if (!strstr(entry->d_name, ".mlpackage"))
            continue;
        char *path = path_join(folder, entry->d_name);
        assert_non_null(path);
        check_package(path);
        free(path);
    }
    if (directory)
        closedir(directory);
}

static void inference_agrees_with_the_example(void **state)
{
    (void)state;
    check_package(EXAMPLE_PACKAGE);
}

static void inference_agrees_with_the_seeds(void **state)
{
    (void)state;
    check_folder(EXAMPLE_DIRECTORY "/../../tests/fuzz/seeds");
}

static void inference_agrees_with_shared_models(void **state)
{
    (void)state;
    if (access(MODELS, R_OK))
        skip();
    check_folder(MODELS);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inference_agrees_with_the_example),
        cmocka_unit_test(inference_agrees_with_the_seeds),
        cmocka_unit_test(inference_agrees_with_shared_models),
    };
    for (int i = 1; i < argc; i++)
        check_package(argv[i]);
    return argc > 1 ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}
