/* Gradients of the cross entropy of a model's first output by all its weights, for comparison with
 * other engines.
 *
 *   model_gradients MODEL FOLDER [train]
 *
 * FOLDER/inputs.txt has a line for each input of the model: its dimensions. FOLDER/input-N.bin are
 * their values, float32 or int64; FOLDER/targets.bin a class, int64, for each row of the output.
 * Writes FOLDER/weight-N.bin, float32, for each weight that has a gradient, and says
 * "N name" for each on standard output. With `train`, batch norm uses the batch's statistics. */
#include <math.h>
#include <palettize.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gradient.h"

static bool read_file(const char *folder, const char *name, void *to, size_t bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    const bool whole = file && fread(to, 1, bytes, file) == bytes;
    if (file)
        fclose(file);
    if (!whole)
        fprintf(stderr, "%s: cannot read %zu bytes\n", path, bytes);
    return whole;
}

static bool read_shapes(const char *folder, const graph *graph, int64_t (*shapes)[PAL_MAX_RANK])
{
    char path[4096];
    snprintf(path, sizeof path, "%s/inputs.txt", folder);
    FILE *file = fopen(path, "r");
    bool read = file != NULL;
    for (size_t i = 0; read && i < graph->input_count; i++)
        for (size_t d = 0; read && d < graph->inputs[i].rank; d++) {
            long long extent;
            read = fscanf(file, "%lld", &extent) == 1;
            shapes[i][d] = read ? extent : 0;
        }
    if (file)
        fclose(file);
    return read;
}

static void cross_entropy(const buffer *scores, const int64_t *targets, float *to)
{
    const size_t classes = (size_t)scores->shape[scores->rank - 1];
    const size_t rows = (size_t)scores->elements / classes;
    const float *x = scores->data;
    for (size_t r = 0; r < rows; r++, x += classes, to += classes) {
        double sum = 0;
        float most = x[0];
        for (size_t c = 1; c < classes; c++)
            most = x[c] > most ? x[c] : most;
        for (size_t c = 0; c < classes; c++)
            sum += exp((double)x[c] - (double)most);
        for (size_t c = 0; c < classes; c++)
            to[c] = (float)((exp((double)x[c] - (double)most) / sum - ((int64_t)c == targets[r])) /
                            (double)rows);
    }
}

static bool run(const gradients *gradients, const char *folder)
{
    const plan *plan = gradients_plan(gradients);
    const graph *graph = gradients_graph(gradients);
    for (size_t i = 0; i < graph->input_count; i++) {
        char name[32];
        const buffer *input = plan_model_input(plan, i);
        snprintf(name, sizeof name, "input-%zu.bin", i);
        if (!read_file(folder, name, input->data, input->bytes))
            return false;
    }
    const buffer *scores = plan_model_output(plan, 0);
    const size_t rows = scores->elements / (size_t)scores->shape[scores->rank - 1];
    int64_t *targets = malloc(rows * sizeof *targets);
    bool done = targets && read_file(folder, "targets.bin", targets, rows * sizeof *targets) &&
                !plan_run(plan, NULL);
    if (done) {
        cross_entropy(scores, targets, plan_output_gradient(plan, 0)->data);
        done = !plan_run_backward(plan, NULL);
    }
    free(targets);
    return done;
}

static bool write_gradients(const gradients *gradients, const pal_model *model, const char *folder)
{
    for (size_t i = 0; i < gradients_variable_count(gradients); i++) {
        const gradient_variable *variable = gradients_variable(gradients, i);
        char path[4096];
        if (!variable->gradient)
            continue;
        snprintf(path, sizeof path, "%s/weight-%zu.bin", folder, i);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(variable->gradient, sizeof(float), (size_t)variable->elements, file) !=
                         variable->elements)
            return false;
        fclose(file);
        printf("%zu %s\n", i, pal_model_weight(model, variable->weight)->name);
    }
    return true;
}

int main(int argc, char **argv)
{
    pal_model *model = NULL;
    graph *graph = NULL;
    gradients *gradients = NULL;
    int64_t shapes[16][PAL_MAX_RANK] = {{0}};
    if (argc < 3)
        return fprintf(stderr, "usage: model_gradients MODEL FOLDER [train]\n"), 2;
    bool done = !pal_model_open(argv[1], &model) && !graph_lower(model, &graph) &&
                graph->input_count <= 16 && read_shapes(argv[2], graph, shapes);
    const size_t count = done ? pal_model_weight_count(model) : 0;
    bool *all = malloc(count + 1);
    if (done && all) {
        memset(all, 1, count);
        const gradient_options options = {.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                          .weights = all,
                                          .weight_count = count,
                                          .threads = 2,
                                          .weights_change = true,
                                          .training = argc > 3};
        engine_set_threads(options.threads);
        done = !gradients_new(graph, &options, &gradients) && run(gradients, argv[2]) &&
               write_gradients(gradients, model, argv[2]);
    }
    if (!done)
        fprintf(stderr, "%s\n", pal_error_message());
    gradients_free(gradients);
    graph_free(graph);
    pal_model_free(model);
    free(all);
    return done ? 0 : 1;
}
