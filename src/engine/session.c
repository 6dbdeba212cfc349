/* The public door to running models: plans for the shapes that come, and batches that the file does
 * not foresee. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/parallel.h"
#include "engine/engine.h"
#include "engine/fuse.h"
#include "engine/session.h"
#include "format/format.h"
#include "graph/rebatch.h"

/* Plans that are kept: a full batch and the last, smaller one. */
#define MAX_PLANS 2

/* A larger batch than the file's is believed if samples come out as they do alone: relative to the
 * largest output. Sums are taken in another order, so not to the last bit. */
#define BATCH_TOLERANCE 1e-3

typedef struct prepared {
    int64_t (*shapes)[PAL_MAX_RANK]; /* of the inputs */
    graph *graph;
    plan *plan;
    bool unproven; /* made for a batch that the file does not foresee, and not compared yet with
                      runs of the file's own on samples that differ */
} prepared;

struct pal_session {
    pal_model *model;
    graph *graph;
    int threads;
    prepared plans[MAX_PLANS]; /* the most recent first */
    pal_tensor *inputs;        /* as the model declares them */
    pal_tensor *outputs;       /* of the last run */
    bool ran;
    bool one_by_one; /* larger batches cannot be trusted with this model */
    void **gathered; /* outputs that were put together from several runs */
};

static pal_dtype public_type(graph_type type)
{
    return type == GRAPH_FLOAT ? PAL_FLOAT32 : type == GRAPH_INT ? PAL_INT64 : PAL_UINT8;
}

int engine_set_threads(int threads)
{
#ifdef _OPENMP
    const int before = omp_get_max_threads();
    if (threads > 0)
        omp_set_num_threads(threads);
    return before;
#else
    (void)threads;
    return 1;
#endif
}

/* ---------------------------------------------------------------- opening */

static pal_status describe(pal_session *session)
{
    const graph *graph = session->graph;
    session->inputs = mem_zeroed(graph->input_count + 1, sizeof *session->inputs);
    session->outputs = mem_zeroed(graph->output_count + 1, sizeof *session->outputs);
    session->gathered = mem_zeroed(graph->output_count + 1, sizeof *session->gathered);
    if (!session->inputs || !session->outputs || !session->gathered)
        return fail_memory("a session");
    for (size_t i = 0; i < graph->input_count; i++) {
        const graph_input *input = &graph->inputs[i];
        const graph_value *value = &graph->values[input->value];
        session->inputs[i] = (pal_tensor){
            .name = value->name, .dtype = public_type(value->type), .rank = input->rank};
        for (size_t d = 0; d < input->rank; d++)
            session->inputs[i].shape[d] = input->shape[d] == GRAPH_FREE ? PAL_ANY : input->shape[d];
    }
    return PAL_OK;
}

pal_status session_new(pal_model *model, graph *graph, int threads, pal_session **out)
{
    pal_session *session = mem_zeroed(1, sizeof *session);
    if (!session) {
        graph_free(graph);
        return fail_memory("a session");
    }
    session->model = model;
    session->graph = graph;
    session->threads = threads > 0 ? threads : parallel_processors();
    pal_status status = describe(session);
    if (status) {
        pal_session_free(session);
        return status;
    }
    *out = session;
    return PAL_OK;
}

pal_status pal_session_open(pal_model *model, int threads, pal_session **out)
{
    graph *graph;
    pal_status status = graph_lower(model, &graph);
    if (!status)
        status = session_new(model, graph, threads, out);
    return status ? fail_context(status, "%s", model->path) : PAL_OK;
}

const graph *session_graph(const pal_session *session)
{
    return session->graph;
}

bool session_one_by_one(const pal_session *session)
{
    return session->one_by_one;
}

static void prepared_free(prepared *prepared)
{
    plan_free(prepared->plan);
    graph_free(prepared->graph);
    free(prepared->shapes);
    memset(prepared, 0, sizeof *prepared);
}

void pal_session_free(pal_session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < MAX_PLANS; i++)
        prepared_free(&session->plans[i]);
    for (size_t i = 0; session->gathered && i < session->graph->output_count; i++)
        free(session->gathered[i]);
    free(session->gathered);
    free(session->inputs);
    free(session->outputs);
    graph_free(session->graph);
    free(session);
}

const pal_tensor *pal_session_input(const pal_session *session, size_t i)
{
    return i < session->graph->input_count ? &session->inputs[i] : NULL;
}

const pal_tensor *pal_session_output(const pal_session *session, size_t i)
{
    return session->ran && i < session->graph->output_count ? &session->outputs[i] : NULL;
}

/* ---------------------------------------------------------------- plans */

static pal_status prepare(const pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK],
                          prepared *out)
{
    const size_t count = session->graph->input_count;
    prepared fresh = {.shapes = mem_zeroed(count, sizeof *fresh.shapes)};
    if (!fresh.shapes)
        return fail_memory("a session");
    memcpy(fresh.shapes, shapes, count * sizeof *shapes);
    const specialise_options options = {.shapes = shapes, .evaluate = engine_evaluate};
    pal_status status = graph_specialise(session->graph, &options, &fresh.graph, &fresh.unproven);
    if (!status)
        status = graph_fuse(fresh.graph);
    if (!status)
        status = plan_new(fresh.graph, &(plan_options){.threads = session->threads}, &fresh.plan);
    if (status) {
        prepared_free(&fresh);
        return status;
    }
    *out = fresh;
    return PAL_OK;
}

static bool same_shapes(const pal_session *session, const int64_t (*a)[PAL_MAX_RANK],
                        const int64_t (*b)[PAL_MAX_RANK])
{
    for (size_t i = 0; i < session->graph->input_count; i++)
        if (memcmp(a[i], b[i], session->graph->inputs[i].rank * sizeof(int64_t)) != 0)
            return false;
    return true;
}

/* The plan for these shapes, brought to the front. */
static pal_status plan_for(pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK])
{
    prepared found = {0};
    size_t at = 0;
    for (; at < MAX_PLANS - 1 && session->plans[at].plan; at++)
        if (same_shapes(session, (const int64_t(*)[PAL_MAX_RANK])session->plans[at].shapes, shapes))
            break;
    if (session->plans[at].plan &&
        same_shapes(session, (const int64_t(*)[PAL_MAX_RANK])session->plans[at].shapes, shapes)) {
        found = session->plans[at];
    } else {
        pal_status status = prepare(session, shapes, &found);
        if (status)
            return status;
        prepared_free(&session->plans[at]);
    }
    memmove(session->plans + 1, session->plans, at * sizeof *session->plans);
    session->plans[0] = found;
    return PAL_OK;
}

/* ---------------------------------------------------------------- running */

static size_t bytes_of(const buffer *buffer)
{
    return (size_t)buffer->elements * graph_type_size(buffer->type);
}

/* Runs the plan on inputs in the model's order; `skip` samples of each input's first dimension lie
 * before those that are taken. */
static pal_status run_plan(const pal_session *session, const plan *plan, const void *const *data,
                           const size_t *skip)
{
    for (size_t i = 0; i < session->graph->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        if (input->elements)
            memcpy(input->data, (const unsigned char *)data[i] + skip[i], bytes_of(input));
    }
    return plan_run(plan, NULL);
}

static void show_outputs(pal_session *session, const prepared *prepared)
{
    for (size_t i = 0; i < session->graph->output_count; i++) {
        const buffer *buffer = plan_model_output(prepared->plan, i);
        pal_tensor *output = &session->outputs[i];
        *output = (pal_tensor){.name = session->graph->values[session->graph->main.outputs[i]].name,
                               .dtype = public_type(buffer->type),
                               .rank = buffer->rank,
                               .data = buffer->data};
        memcpy(output->shape, buffer->shape, sizeof output->shape);
    }
    session->ran = true;
}

/* How many of the file's batches the shapes hold, and the shapes of one. */
static void split_batch(const pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK],
                        int64_t (*base)[PAL_MAX_RANK], size_t *steps, int64_t *count)
{
    *count = 1;
    for (size_t i = 0; i < session->graph->input_count; i++) {
        const graph_input *input = &session->graph->inputs[i];
        memcpy(base[i], shapes[i], sizeof base[i]);
        steps[i] = 0;
        if (input->rank && input->shape[0] > 0 && shapes[i][0] != input->shape[0]) {
            base[i][0] = input->shape[0];
            *count = shapes[i][0] / input->shape[0];
        }
    }
    for (size_t i = 0; i < session->graph->input_count; i++) {
        const graph_input *input = &session->graph->inputs[i];
        if (!input->rank || shapes[i][0] == base[i][0])
            continue;
        size_t bytes = graph_type_size(session->graph->values[input->value].type);
        for (size_t d = 0; d < input->rank; d++)
            bytes *= (size_t)base[i][d];
        steps[i] = bytes;
    }
}

/* Whether an output of the enlarged batch holds, at its sample's place, what the sample gives
 * alone. */
static bool agrees(const buffer *batch, const buffer *alone, size_t sample)
{
    if (batch->type != GRAPH_FLOAT)
        return memcmp((const unsigned char *)batch->data + sample * bytes_of(alone), alone->data,
                      bytes_of(alone)) == 0;
    const float *a = (const float *)batch->data + sample * alone->elements, *b = alone->data;
    float largest = 0, difference = 0;
    for (uint64_t i = 0; i < alone->elements; i++) {
        if (isfinite(a[i]) && isfinite(b[i])) {
            largest = fmaxf(largest, fabsf(b[i]));
            difference = fmaxf(difference, fabsf(a[i] - b[i]));
        } else if (a[i] != b[i] && !(isnan(a[i]) && isnan(b[i]))) {
            return false;
        }
    }
    return difference <= BATCH_TOLERANCE * largest;
}

/* The file's own batches within larger ones. */
typedef struct single {
    int64_t (*shapes)[PAL_MAX_RANK];
    size_t *steps, *skip; /* of each input: bytes of a batch, and where the current one begins */
    int64_t count;
} single;

static void single_free(single *single)
{
    free(single->shapes);
    free(single->steps);
    free(single->skip);
}

static pal_status single_new(const pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK],
                             single *out)
{
    const size_t inputs = session->graph->input_count;
    *out = (single){.shapes = mem_zeroed(inputs, sizeof *out->shapes),
                    .steps = mem_zeroed(inputs, sizeof *out->steps),
                    .skip = mem_zeroed(inputs, sizeof *out->skip)};
    if (!out->shapes || !out->steps || !out->skip) {
        single_free(out);
        return fail_memory("a session");
    }
    split_batch(session, shapes, out->shapes, out->steps, &out->count);
    return PAL_OK;
}

static pal_status run_single(const pal_session *session, const plan *plan, const void *const *data,
                             const single *single, int64_t sample)
{
    for (size_t i = 0; i < session->graph->input_count; i++)
        single->skip[i] = single->steps[i] * (size_t)sample;
    return run_plan(session, plan, data, single->skip);
}

/* Whether the first and the last sample differ: of equal ones a batch cannot show whether it keeps
 * them apart. */
static bool samples_differ(const pal_session *session, const void *const *data,
                           const single *single)
{
    for (size_t i = 0; i < session->graph->input_count; i++) {
        const unsigned char *first = data[i];
        const size_t bytes = single->steps[i];
        if (bytes && memcmp(first, first + bytes * (size_t)(single->count - 1), bytes) != 0)
            return true;
    }
    return false;
}

/* Compares the first and the last sample of the batch that has just run with runs of their own. */
static pal_status check_batch(pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK],
                              const void *const *data, bool *good)
{
    single single;
    prepared alone = {0};
    pal_status status = single_new(session, shapes, &single);
    if (status)
        return status;
    status = prepare(session, (const int64_t(*)[PAL_MAX_RANK])single.shapes, &alone);
    *good = true;
    for (int64_t s = 0; !status && s<single.count; s += single.count> 1 ? single.count - 1 : 1) {
        status = run_single(session, alone.plan, data, &single, s);
        for (size_t i = 0; !status && i < session->graph->output_count; i++)
            *good = *good && agrees(plan_model_output(session->plans[0].plan, i),
                                    plan_model_output(alone.plan, i), (size_t)s);
    }
    session->plans[0].unproven = !samples_differ(session, data, &single);
    prepared_free(&alone);
    single_free(&single);
    return status;
}

/* Room for the outputs of `count` runs. */
static pal_status make_room(pal_session *session, const plan *plan, int64_t count)
{
    for (size_t i = 0; i < session->graph->output_count; i++) {
        const buffer *one = plan_model_output(plan, i);
        if (one->rank == 0)
            return fail(PAL_ERROR_UNSUPPORTED, "output '%s' is a single number for a whole batch",
                        session->outputs[i].name);
        free(session->gathered[i]);
        session->gathered[i] = mem_array(one->elements ? bytes_of(one) : 1, (size_t)count);
        if (!session->gathered[i])
            return fail_memory("a session");
    }
    return PAL_OK;
}

/* One of the file's batches after the other, their outputs put together. */
static pal_status run_one_by_one(pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK],
                                 const void *const *data)
{
    single single;
    pal_status status = single_new(session, shapes, &single);
    if (status)
        return status;
    status = plan_for(session, (const int64_t(*)[PAL_MAX_RANK])single.shapes);
    if (!status) {
        show_outputs(session, &session->plans[0]);
        session->ran = false;
        status = make_room(session, session->plans[0].plan, single.count);
    }
    for (int64_t s = 0; !status && s < single.count; s++) {
        status = run_single(session, session->plans[0].plan, data, &single, s);
        for (size_t i = 0; !status && i < session->graph->output_count; i++) {
            const buffer *one = plan_model_output(session->plans[0].plan, i);
            if (one->elements)
                memcpy((unsigned char *)session->gathered[i] + (size_t)s * bytes_of(one), one->data,
                       bytes_of(one));
        }
    }
    for (size_t i = 0; !status && i < session->graph->output_count; i++) {
        session->outputs[i].data = session->gathered[i];
        session->outputs[i].shape[0] *= single.count;
    }
    session->ran = !status;
    single_free(&single);
    return status;
}

static pal_status run_shapes(pal_session *session, const int64_t (*shapes)[PAL_MAX_RANK],
                             const void *const *data, const size_t *zeros)
{
    bool good = true;
    if (!session->one_by_one) {
        pal_status status = plan_for(session, shapes);
        if (!status)
            status = run_plan(session, session->plans[0].plan, data, zeros);
        if (!status && session->plans[0].unproven)
            status = check_batch(session, shapes, data, &good);
        if (!status && good) {
            show_outputs(session, &session->plans[0]);
            return PAL_OK;
        }
        int64_t factor;
        const bool enlarged = !rebatch_factor(session->graph, shapes, &factor) && factor > 1;
        if (!enlarged || (status && status != PAL_ERROR_UNSUPPORTED && status != PAL_ERROR_FORMAT))
            return status;
        for (size_t i = 0; i < MAX_PLANS; i++)
            prepared_free(&session->plans[i]);
        session->one_by_one = true;
    }
    return run_one_by_one(session, shapes, data);
}

/* ---------------------------------------------------------------- inputs */

static const pal_tensor *find_input(const pal_session *session, const pal_tensor *inputs,
                                    size_t count, size_t i)
{
    const char *name = session->inputs[i].name;
    for (size_t g = 0; g < count; g++)
        if (inputs[g].name && strcmp(inputs[g].name, name) == 0)
            return &inputs[g];
    return i < count && !inputs[i].name ? &inputs[i] : NULL;
}

static pal_status take_input(const pal_session *session, size_t i, const pal_tensor *given,
                             int64_t *shape)
{
    const pal_tensor *wanted = &session->inputs[i];
    if (!given)
        return fail(PAL_ERROR_ARGUMENT, "the model's input '%s' is not given", wanted->name);
    if (given->dtype != wanted->dtype)
        return fail(PAL_ERROR_ARGUMENT, "input '%s' is %s in the model, not %s", wanted->name,
                    pal_dtype_name(wanted->dtype), pal_dtype_name(given->dtype));
    if (given->rank != wanted->rank)
        return fail(PAL_ERROR_ARGUMENT, "input '%s' has %zu dimensions in the model, not %zu",
                    wanted->name, wanted->rank, given->rank);
    uint64_t bytes = 8; /* of the largest type */
    for (size_t d = 0; d < given->rank; d++)
        if (given->shape[d] < 0 || !mem_multiply(bytes, (uint64_t)given->shape[d], &bytes))
            return fail(PAL_ERROR_ARGUMENT, "input '%s' has an impossible shape", wanted->name);
    if (bytes && !given->data)
        return fail(PAL_ERROR_ARGUMENT, "input '%s' has no data", wanted->name);
    memcpy(shape, given->shape, given->rank * sizeof *shape);
    return PAL_OK;
}

pal_status pal_session_run(pal_session *session, const pal_tensor *inputs, size_t count)
{
    const size_t needed = session->graph->input_count;
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(needed, sizeof *shapes);
    const void **data = mem_zeroed(needed, sizeof *data);
    size_t *zeros = mem_zeroed(needed, sizeof *zeros);
    int64_t factor;
    session->ran = false;
    pal_status status = shapes && data && zeros ? PAL_OK : fail_memory("a session");
    for (size_t i = 0; !status && i < needed; i++) {
        const pal_tensor *given = find_input(session, inputs, count, i);
        status = take_input(session, i, given, shapes[i]);
        data[i] = given ? given->data : NULL;
    }
    if (!status)
        status = rebatch_factor(session->graph, (const int64_t(*)[PAL_MAX_RANK])shapes, &factor);
    if (!status) {
        const int before = engine_set_threads(session->threads);
        status = run_shapes(session, (const int64_t(*)[PAL_MAX_RANK])shapes, data, zeros);
        engine_set_threads(before);
    }
    free(zeros);
    free(data);
    free(shapes);
    return status ? fail_context(status, "%s", session->model->path) : PAL_OK;
}
