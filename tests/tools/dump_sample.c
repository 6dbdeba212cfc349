/* Writes samples of a dataset for the interoperability tests to compare.
 *
 *     dump_sample DATA VALUES FIRST COUNT [--OPTION VALUE ...]
 *     dump_sample DATA - 0 THREADS [--OPTION VALUE ...]      measures the loader
 *
 * The values go to the file VALUES as raw float32 of whatever size each sample has; a line for each
 * sample goes to the standard output: label, shape, name. An option --input NAME:T:AxBxC, which may
 * be repeated, says what the model takes (T is f or i; 0 is free); by default image:f:0x0x0. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/loader.h"

enum { INPUTS = 8 };

static void check(pal_status status)
{
    if (status) {
        fprintf(stderr, "%s\n", pal_error_message());
        exit(1);
    }
}

static void usage(void)
{
    fprintf(stderr, "usage: dump_sample DATA VALUES FIRST COUNT [--OPTION VALUE ...]\n");
    exit(2);
}

static data_input parse_input(char *text)
{
    data_input input = {.name = text};
    char *type = strchr(text, ':');
    if (!type || !strchr("fi", type[1]) || type[2] != ':')
        usage();
    *type = 0;
    input.dtype = type[1] == 'i' ? PAL_INT64 : PAL_FLOAT32;
    for (char *at = type + 3; *at; at += *at == 'x')
        input.shape[input.rank++] = strtoull(at, &at, 10);
    return input;
}

static size_t input_bytes(const data_input *input)
{
    size_t bytes = pal_dtype_bits(input->dtype) / 8;
    for (size_t d = 0; d < input->rank; d++)
        bytes *= input->shape[d];
    return bytes;
}

static void dump(const dataset *data, FILE *out, uint64_t i, const data_input *inputs, size_t count)
{
    data_input actual[INPUTS];
    void *buffers[INPUTS];
    memcpy(actual, inputs, count * sizeof *inputs);
    check(dataset_resolve(data, i, actual, count));
    for (size_t k = 0; k < count; k++)
        buffers[k] = malloc(input_bytes(&actual[k]));
    check(dataset_read(data, i, actual, count, buffers));
    printf("%" PRId64, dataset_label(data, i));
    for (size_t k = 0; k < count; k++) {
        printf(" ");
        for (size_t d = 0; d < actual[k].rank; d++)
            printf("%s%" PRIu64, d ? "x" : "", actual[k].shape[d]);
        fwrite(buffers[k], input_bytes(&actual[k]), 1, out);
        free(buffers[k]);
    }
    char name[1024];
    printf(" %s\n", dataset_sample_name(data, i, name, sizeof name));
}

static void measure(const dataset *data, int threads, const data_input *inputs, size_t count)
{
    struct timespec begin, end;
    loader *loader;
    loader_batch batch;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    check(loader_open(data, inputs, count, 128, threads, 4, &loader));
    do
        check(loader_next(loader, &batch));
    while (batch.count);
    loader_close(loader);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double seconds =
        (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    printf("%.0f samples/s with %d threads\n", (double)dataset_count(data) / seconds, threads);
}

int main(int argc, char **argv)
{
    if (argc < 5)
        usage();
    data_options options;
    data_input inputs[INPUTS] = {{"image", PAL_FLOAT32, 3, {0}}};
    size_t count = 0;
    data_options_default(&options);
    for (int i = 5; i < argc; i += 2) {
        if (strncmp(argv[i], "--", 2) != 0 || i + 1 == argc)
            usage();
        if (strcmp(argv[i], "--input") == 0 && count < INPUTS)
            inputs[count++] = parse_input(argv[i + 1]);
        else
            check(data_options_set(&options, argv[i] + 2, argv[i + 1]));
    }
    count += count == 0;
    dataset *data;
    check(dataset_open(argv[1], &options, &data));
    const uint64_t first = strtoull(argv[3], NULL, 10), number = strtoull(argv[4], NULL, 10);
    if (strcmp(argv[2], "-") == 0) {
        measure(data, (int)number, inputs, count);
    } else {
        FILE *out = fopen(argv[2], "wb");
        if (!out) {
            perror(argv[2]);
            return 1;
        }
        for (uint64_t i = first; i - first < number && i < dataset_count(data); i++)
            dump(data, out, i, inputs, count);
        if (fclose(out)) {
            perror(argv[2]);
            return 1;
        }
    }
    dataset_close(data);
    return 0;
}
