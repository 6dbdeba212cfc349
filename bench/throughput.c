/* Runs a model as often as it is told, on inputs that do not change: bench/runtime.py drives this
 * beside another runtime.
 *
 *   throughput MODEL BATCH THREADS [WIDTH]
 *
 * Dimensions that the model leaves open are BATCH where they come first and WIDTH (128) elsewhere.
 * Each line of standard input is a number of runs; the answer is the seconds that they took. The
 * last line is the process's peak memory in bytes. */
#include <palettize.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_INPUTS = 8 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Values as a normalised image has them; small whole numbers for indices. */
static void *values_for(const pal_tensor *tensor)
{
    size_t count = 1;
    for (size_t d = 0; d < tensor->rank; d++)
        count *= (size_t)tensor->shape[d];
    if (tensor->dtype == PAL_FLOAT32) {
        float *values = malloc(count * sizeof *values);
        for (size_t i = 0; values && i < count; i++)
            values[i] = (float)((i * 2654435761u >> 8 & 0xffff) / 32768.0 - 1.0);
        return values;
    }
    if (tensor->dtype == PAL_INT64) {
        long long *values = malloc(count * sizeof *values);
        for (size_t i = 0; values && i < count; i++)
            values[i] = (long long)(i % 100);
        return values;
    }
    unsigned char *values = malloc(count);
    for (size_t i = 0; values && i < count; i++)
        values[i] = 1;
    return values;
}

int main(int argc, char **argv)
{
    pal_model *model = NULL;
    pal_session *session = NULL;
    pal_tensor inputs[MAX_INPUTS];
    size_t count = 0;
    if (argc < 4)
        return fprintf(stderr, "usage: throughput MODEL BATCH THREADS [WIDTH]\n"), 2;
    const long batch = atol(argv[2]), width = argc > 4 ? atol(argv[4]) : 128;
    if (pal_model_open(argv[1], &model) || pal_session_open(model, atoi(argv[3]), &session))
        return fprintf(stderr, "%s\n", pal_error_message()), 1;
    for (; count < MAX_INPUTS && pal_session_input(session, count); count++) {
        inputs[count] = *pal_session_input(session, count);
        for (size_t d = 0; d < inputs[count].rank; d++)
            if (d == 0 || inputs[count].shape[d] == PAL_ANY)
                inputs[count].shape[d] = d == 0 ? batch : width;
        inputs[count].data = values_for(&inputs[count]);
    }
    for (long runs; scanf("%ld", &runs) == 1;) {
        const double started = now();
        for (long i = 0; i < runs; i++)
            if (pal_session_run(session, inputs, count))
                return fprintf(stderr, "%s\n", pal_error_message()), 1;
        printf("%.9f\n", now() - started);
        fflush(stdout);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%llu\n", (unsigned long long)usage.ru_maxrss * 1024);
    for (size_t i = 0; i < count; i++)
        free((void *)inputs[i].data);
    pal_session_free(session);
    pal_model_free(model);
    return 0;
}
