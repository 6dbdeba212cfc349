/* Trains a model on one batch that does not change, as many steps as it is told: forward, cross
 * entropy, backward, SGD with momentum. bench/training_step.py drives this beside PyTorch.
 *
 *   training_step MODEL BATCH THREADS [none|cheap|all] [profile]
 *
 * Each line of standard input is a number of steps; the answer is the seconds that they took, the
 * processor time, and the loss before the last of them. The last line is the process's peak memory
 * in bytes, and that of the plan's activations. The fourth argument says what the way back computes
 * again. With `profile` ten steps are run, and the time of each kind of step of the plan is listed.
 */
#include <math.h>
#include <palettize.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "engine/engine.h"
#include "engine/gradient.h"
#include "graph/graph.h"

#define RATE     0.01F
#define MOMENTUM 0.9F

typedef struct training {
    pal_model *model;
    graph *graph;
    gradients *gradients;
    plan *plan;
    float **momentum; /* by variable */
    float *running;   /* stand in for the file's running statistics */
    double *seconds;  /* by step of the plan; NULL if nobody asks */
} training;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double processor_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static pal_status open_training(training *t, const char *path, int64_t batch, int threads,
                                recompute_kind recompute)
{
    pal_status status = pal_model_open(path, &t->model);
    if (!status)
        status = graph_lower(t->model, &t->graph);
    if (status)
        return status;
    engine_set_threads(threads);
    const graph_input *input = &t->graph->inputs[0];
    int64_t shapes[1][PAL_MAX_RANK];
    memcpy(shapes[0], input->shape, sizeof shapes[0]);
    shapes[0][0] = batch;
    const size_t count = pal_model_weight_count(t->model);
    bool *all = malloc(count);
    if (!all)
        return PAL_ERROR_MEMORY;
    memset(all, 1, count);
    status = gradients_new(t->graph,
                           &(gradient_options){.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                               .weights = all,
                                               .weight_count = count,
                                               .threads = threads,
                                               .training = true,
                                               .weights_change = true,
                                               .recompute = recompute},
                           &t->gradients);
    free(all);
    if (status)
        return status;
    t->plan = gradients_plan(t->gradients);
    const buffer *image = plan_model_input(t->plan, 0);
    for (uint64_t i = 0; i < image->elements; i++)
        ((float *)image->data)[i] = (float)((i * 2654435761u >> 8 & 0xffff) / 32768.0 - 1.0);
    t->momentum = calloc(gradients_variable_count(t->gradients), sizeof *t->momentum);
    t->running = calloc(1 << 16, sizeof *t->running);
    for (size_t i = 0; t->momentum && i < gradients_variable_count(t->gradients); i++)
        t->momentum[i] =
            calloc(gradients_variable(t->gradients, i)->elements, sizeof *t->momentum[i]);
    return PAL_OK;
}

/* Softmax and cross entropy, of class i mod classes for sample i; their gradient goes to `to`. */
static double cross_entropy(const buffer *scores, float *to)
{
    const size_t batch = (size_t)scores->shape[0], classes = (size_t)scores->shape[1];
    const float *x = scores->data;
    double loss = 0;
    for (size_t s = 0; s < batch; s++, x += classes, to += classes) {
        double sum = 0;
        float most = x[0];
        for (size_t c = 1; c < classes; c++)
            most = x[c] > most ? x[c] : most;
        for (size_t c = 0; c < classes; c++)
            sum += exp((double)x[c] - (double)most);
        loss += log(sum) + (double)most - (double)x[s % classes];
        for (size_t c = 0; c < classes; c++)
            to[c] = (float)((exp((double)x[c] - (double)most) / sum - (c == s % classes)) /
                            (double)batch);
    }
    return loss / (double)batch;
}

static void update(const gradient_variable *variable, float *momentum)
{
    const int64_t count = (int64_t)variable->elements;
    const float *gradient = variable->gradient;
    float *values = variable->values;
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (int64_t i = 0; i < count; i++) {
        momentum[i] = MOMENTUM * momentum[i] + gradient[i];
        values[i] -= RATE * momentum[i];
    }
}

static void average_statistics(const training *t)
{
    for (size_t i = 0; i < plan_batch_norm_count(t->plan); i++) {
        const batch_statistics s = plan_batch_statistics(t->plan, i);
        for (uint64_t c = 0; c < s.channels; c++)
            t->running[c] = 0.9F * t->running[c] + 0.1F * (s.mean[c] + s.variance[c]);
    }
}

static pal_status train(const training *t, double *loss)
{
    pal_status status = plan_run(t->plan, t->seconds);
    if (status)
        return status;
    *loss = cross_entropy(plan_model_output(t->plan, 0), plan_output_gradient(t->plan, 0)->data);
    status = plan_run_backward(t->plan, t->seconds);
    for (size_t i = 0; !status && i < gradients_variable_count(t->gradients); i++)
        if (gradients_variable(t->gradients, i)->gradient)
            update(gradients_variable(t->gradients, i), t->momentum[i]);
    average_statistics(t);
    return status;
}

/* ---------------------------------------------------------------- profile */

typedef struct line {
    char what[96];
    double seconds;
    size_t count;
} line;

static int slowest_first(const void *a, const void *b)
{
    const line *x = a, *y = b;
    return x->seconds < y->seconds ? 1 : -1;
}

static void add_line(line *lines, size_t *count, const char *what, double seconds)
{
    size_t i = 0;
    while (i < *count && strcmp(lines[i].what, what) != 0)
        i++;
    if (i == *count)
        snprintf(lines[(*count)++].what, sizeof lines->what, "%s", what);
    lines[i].seconds += seconds;
    lines[i].count++;
}

/* The least of ten runs for each step of the plan, summed by kind. */
static pal_status profile(training *t)
{
    const size_t steps = plan_step_count(t->plan);
    double *least = malloc(steps * sizeof *least), loss = 0;
    line *lines = calloc(steps, sizeof *lines);
    size_t count = 0;
    t->seconds = malloc(steps * sizeof *t->seconds);
    pal_status status = least && lines && t->seconds ? PAL_OK : PAL_ERROR_MEMORY;
    for (int run = 0; !status && run < 10; run++) {
        status = train(t, &loss);
        for (size_t i = 0; i < steps; i++)
            least[i] = run && least[i] < t->seconds[i] ? least[i] : t->seconds[i];
    }
    for (size_t i = 0; !status && i < steps; i++) {
        char what[96];
        const step *s = plan_step_get(t->plan, i);
        snprintf(what, sizeof what, "%s (%s)", s->what, s->node ? s->node->type : "");
        add_line(lines, &count, what, least[i]);
    }
    qsort(lines, count, sizeof *lines, slowest_first);
    double sum = 0;
    for (size_t i = 0; !status && i < count; i++) {
        printf("%8.2f ms %4zu  %s\n", 1e3 * lines[i].seconds, lines[i].count, lines[i].what);
        sum += lines[i].seconds;
    }
    printf("%8.2f ms in all; %.1f MiB of activations\n", 1e3 * sum,
           (double)plan_activation_bytes(t->plan) / (1 << 20));
    free(least);
    free(lines);
    return status;
}

static void close_training(training *t)
{
    for (size_t i = 0; t->momentum && i < gradients_variable_count(t->gradients); i++)
        free(t->momentum[i]);
    free(t->momentum);
    free(t->running);
    free(t->seconds);
    gradients_free(t->gradients);
    graph_free(t->graph);
    pal_model_free(t->model);
}

int main(int argc, char **argv)
{
    training t = {0};
    if (argc < 4)
        return fprintf(stderr,
                       "usage: training_step MODEL BATCH THREADS [none|cheap|all] [profile]\n"),
               2;
    const bool profiles = strcmp(argv[argc - 1], "profile") == 0;
    static const char *const kinds[] = {"none", "cheap", "all"}; /* in the order of the enum */
    int recompute = RECOMPUTE_ALL;
    while (recompute > RECOMPUTE_NONE && (argc < 5 || strcmp(argv[4], kinds[recompute])))
        recompute--;
    pal_status status =
        open_training(&t, argv[1], atol(argv[2]), atoi(argv[3]), (recompute_kind)recompute);
    if (!status && profiles)
        status = profile(&t);
    for (long steps; !status && !profiles && scanf("%ld", &steps) == 1;) {
        double loss = 0;
        const double started = now(), used = processor_time();
        for (long i = 0; !status && i < steps; i++)
            status = train(&t, &loss);
        printf("%.9f %.9f %.9f\n", now() - started, processor_time() - used, loss);
        fflush(stdout);
    }
    if (status)
        return fprintf(stderr, "%s\n", pal_error_message()), 1;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%llu %llu\n", (unsigned long long)usage.ru_maxrss * 1024,
           (unsigned long long)plan_activation_bytes(t.plan));
    close_training(&t);
    return 0;
}
