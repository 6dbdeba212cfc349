/* The same for sessions: the model is lowered, planned and, where its inputs are small, run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MAX_INPUTS = 16, MAX_ELEMENTS = 1 << 14 };

typedef struct given {
    pal_tensor tensors[MAX_INPUTS];
    void *values[MAX_INPUTS];
    size_t count;
} given;

static void fill(rng *r, pal_dtype dtype, void *values, size_t count)
{
    static const float odd[] = {0, -0.0f, 1e30f, -1e-40f, INFINITY, NAN};
    const bool tame = rng_chance(r, 80);
    for (size_t i = 0; i < count; i++) {
        const uint64_t bits = rng_next(r);
        if (dtype == PAL_FLOAT32)
            ((float *)values)[i] =
                tame || bits % 8 ? (float)(bits >> 40) / (float)(1 << 22) - 2 : odd[bits / 8 % 6];
        else if (dtype == PAL_INT64)
            ((int64_t *)values)[i] =
                tame || bits % 8 ? (int64_t)(bits >> 60) - 3 : (int64_t)rng_interesting(r, count);
        else
            ((unsigned char *)values)[i] = bits % 2;
    }
}

/* Values for all inputs; false where they are too many. Open dimensions become `batch` where they
 * come first, some other small number elsewhere. */
static bool make_inputs(rng *r, const pal_session *session, int64_t batch, given *out)
{
    const pal_tensor *wanted;
    for (; (wanted = pal_session_input(session, out->count)); out->count++) {
        if (out->count == MAX_INPUTS)
            return false;
        pal_tensor *tensor = &out->tensors[out->count];
        uint64_t elements = 1;
        *tensor = *wanted;
        for (size_t d = 0; d < tensor->rank; d++) {
            if (tensor->shape[d] == PAL_ANY)
                tensor->shape[d] = d == 0 ? batch : 1 + (int64_t)rng_below(r, 9);
            else if (d == 0 && batch > 1 && tensor->shape[d] < MAX_ELEMENTS)
                tensor->shape[d] *= batch;
            if (tensor->shape[d] < 0 || tensor->shape[d] > MAX_ELEMENTS)
                return false;
            elements *= (uint64_t)tensor->shape[d];
            if (elements > MAX_ELEMENTS)
                return false;
        }
        void *values = calloc((size_t)elements + 1, 8);
        if (!values)
            abort();
        fill(r, tensor->dtype, values, (size_t)elements);
        out->values[out->count] = values;
        tensor->data = values;
    }
    return true;
}

/* Every byte of an output is there. */
static const char *read_outputs(const pal_session *session)
{
    const pal_tensor *output;
    size_t i = 0;
    unsigned sum = 0;
    for (; (output = pal_session_output(session, i)); i++) {
        size_t bytes = output->dtype == PAL_FLOAT32 ? 4 : output->dtype == PAL_INT64 ? 8 : 1;
        if (!output->name || output->rank > PAL_MAX_RANK)
            return "an output without a name, or of a bad rank";
        for (size_t d = 0; d < output->rank; d++) {
            if (output->shape[d] < 0)
                return "an output of a negative extent";
            bytes *= (size_t)output->shape[d];
        }
        for (size_t b = 0; b < bytes; b++)
            sum += ((const unsigned char *)output->data)[b];
    }
    static volatile unsigned sink;
    sink = sum;
    (void)sink;
    return i ? NULL : "a run without an output";
}

static const char *run(rng *r, pal_session *session, const char *path, int64_t batch,
                       counts *counts)
{
    given given = {.count = 0};
    const char *wrong = NULL;
    if (make_inputs(r, session, batch, &given)) {
        pal_status status = pal_session_run(session, given.tensors, given.count);
        wrong =
            status ? check_failure("pal_session_run", status, path, path) : read_outputs(session);
        if (!wrong && status && pal_session_output(session, 0))
            wrong = "an output of a run that failed";
        counts->ran += !status;
    }
    for (size_t i = 0; i < MAX_INPUTS; i++)
        free(given.values[i]);
    return wrong;
}

const char *exercise_session(rng *r, const char *path, const char *out, counts *counts)
{
    pal_model *model = NULL;
    pal_session *session = NULL;
    const char *wrong = NULL;
    (void)out;
    pal_status status = pal_model_open(path, &model);
    if (status) {
        counts->rejected++;
        return check_failure("pal_model_open", status, path, path);
    }
    counts->opened++;
    status = pal_session_open(model, rng_chance(r, 90) ? 1 : 2, &session);
    if (status)
        wrong = session ? "a session from a call that failed"
                        : check_failure("pal_session_open", status, path, path);
    for (size_t runs = status ? 0 : 1 + rng_below(r, 2); !wrong && runs > 0; runs--)
        wrong = run(r, session, path, 1 + (int64_t)rng_below(r, 3), counts);
    pal_session_free(session);
    pal_model_free(model);
    return wrong;
}
