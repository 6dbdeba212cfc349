/* Runs models on given inputs, for the tests that compare with other runtimes.
 *
 *   run_model
 *
 * Each line of standard input is a job: a model, a folder, and NumPy files that hold the model's
 * inputs in its order (or as NAME=FILE), separated by tabs. The outputs become FOLDER/0.npy,
 * FOLDER/1.npy, ... with their names in FOLDER/names. The answer is one line: "ok", or the message
 * of what went wrong.
 *
 *   run_model operators
 *
 * lists the operators of ONNX that are computed, one a line, those of other domains as DOMAIN.NAME.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/npy.h"
#include "graph/onnx/listing.h"
#include "palettize.h"

enum { MAX_INPUTS = 32, MAX_LINE = 65536 };

typedef struct input {
    pal_tensor tensor;
    file_map map;
    void *values;
} input;

/* The numbers of a NumPy file in a type that a session takes. */
static pal_status read_input(char *argument, pal_session *session, size_t i, input *out)
{
    npy_array array;
    char *equals = strchr(argument, '=');
    const pal_tensor *wanted = pal_session_input(session, i);
    const char *path = equals ? equals + 1 : argument;
    if (equals) {
        *equals = 0;
        for (size_t k = 0; (wanted = pal_session_input(session, k)); k++)
            if (strcmp(wanted->name, argument) == 0)
                break;
    }
    pal_status status = file_map_open(path, &out->map);
    if (!status)
        status = npy_parse(path, out->map.data, out->map.size, &array);
    if (status)
        return status;
    const pal_dtype dtype = wanted ? wanted->dtype : PAL_FLOAT32;
    out->values = calloc((size_t)array.elements + 1, 8);
    out->tensor = (pal_tensor){.name = wanted ? wanted->name : argument,
                               .dtype = dtype,
                               .rank = array.rank,
                               .data = out->values};
    for (size_t d = 0; d < array.rank; d++)
        out->tensor.shape[d] = (int64_t)array.shape[d];
    for (uint64_t n = 0; out->values && n < array.elements; n++) {
        if (dtype == PAL_INT64 && array.dtype == PAL_INT64)
            memcpy((int64_t *)out->values + n, (const char *)array.values + 8 * n, 8);
        else if (dtype == PAL_INT64)
            ((int64_t *)out->values)[n] = (int64_t)npy_value(&array, n);
        else if (dtype == PAL_UINT8)
            ((uint8_t *)out->values)[n] = npy_value(&array, n) != 0;
        else
            ((float *)out->values)[n] = (float)npy_value(&array, n);
    }
    return PAL_OK;
}

static void write_output(const char *folder, size_t i, const pal_tensor *tensor)
{
    char path[4096], header[512];
    snprintf(path, sizeof path, "%s/%zu.npy", folder, i);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(1);
    }
    const char *type = tensor->dtype == PAL_FLOAT32 ? "<f4"
                       : tensor->dtype == PAL_INT64 ? "<i8"
                                                    : "|b1";
    const size_t size = tensor->dtype == PAL_FLOAT32 ? 4 : tensor->dtype == PAL_INT64 ? 8 : 1;
    size_t elements = 1;
    int n =
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
    for (size_t d = 0; d < tensor->rank; d++) {
        n += snprintf(header + n, sizeof header - (size_t)n, "%lld,", (long long)tensor->shape[d]);
        elements *= (size_t)tensor->shape[d];
    }
    n += snprintf(header + n, sizeof header - (size_t)n, "), }\n");
    const unsigned char start[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)n, (unsigned char)(n >> 8)};
    fwrite(start, 1, sizeof start, file);
    fwrite(header, 1, (size_t)n, file);
    fwrite(tensor->data, size, elements, file);
    if (fclose(file)) {
        perror(path);
        exit(1);
    }
}

static void write_outputs(const char *folder, const pal_session *session)
{
    char path[4096];
    const pal_tensor *tensor;
    snprintf(path, sizeof path, "%s/names", folder);
    FILE *names = fopen(path, "w");
    if (!names) {
        perror(path);
        exit(1);
    }
    for (size_t i = 0; (tensor = pal_session_output(session, i)); i++) {
        write_output(folder, i, tensor);
        fprintf(names, "%s\n", tensor->name);
    }
    fclose(names);
}

static pal_status run_job(char *line)
{
    char *fields[MAX_INPUTS + 2] = {0}, *rest = line;
    size_t count = 0;
    for (char *field; count < MAX_INPUTS + 2 && (field = strtok_r(rest, "\t\n", &rest));)
        fields[count++] = field;
    if (count < 2)
        return PAL_ERROR_ARGUMENT;
    pal_model *model = NULL;
    pal_session *session = NULL;
    input inputs[MAX_INPUTS] = {0};
    pal_tensor tensors[MAX_INPUTS];
    pal_status status = pal_model_open(fields[0], &model);
    if (!status)
        status = pal_session_open(model, 0, &session);
    for (size_t i = 0; !status && i < count - 2; i++) {
        status = read_input(fields[i + 2], session, i, &inputs[i]);
        tensors[i] = inputs[i].tensor;
    }
    if (!status)
        status = pal_session_run(session, tensors, count - 2);
    if (!status)
        write_outputs(fields[1], session);
    for (size_t i = 0; i < MAX_INPUTS; i++) {
        file_map_close(&inputs[i].map);
        free(inputs[i].values);
    }
    pal_session_free(session);
    pal_model_free(model);
    return status;
}

static void list_operators(void)
{
    const char *domain, *name;
    for (size_t i = 0; (name = onnx_operator_listed(i, &domain)); i++)
        printf("%s%s%s\n", domain, *domain ? "." : "", name);
}

int main(int argc, char **argv)
{
    static char line[MAX_LINE];
    if (argc > 1 && strcmp(argv[1], "operators") == 0) {
        list_operators();
        return 0;
    }
    while (fgets(line, sizeof line, stdin)) {
        puts(run_job(line) ? pal_error_message() : "ok");
        fflush(stdout);
    }
    return 0;
}
