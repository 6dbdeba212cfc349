/* Sensitivities measured: squared gradients of the loss by each weight, for one sample at a time,
 * averaged. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/engine.h"
#include "engine/session.h"
#include "format/format.h"
#include "method/feed.h"
#include "method/loss.h"
#include "method/loss_output.h"
#include "method/replicas.h"
#include "method/sensitivity.h"

#define DEFAULT_BATCH 8

/* A batch in its replica of the model. */
typedef struct sitting {
    gradients *gradients;
    feed_batch batch;   /* its inputs are those of the plan */
    pal_tensor *inputs; /* of the batch */
    int64_t *labels;    /* of its samples */
    int64_t *targets;   /* room for those of one sample */
    uint64_t first;     /* sample */
} sitting;

typedef struct measurement {
    pal_model *model;
    const pal_data *data;
    const pal_sensitivity_options *settings;
    int threads;
    bool *weights;        /* by weight of the model */
    pal_session *session; /* for what it knows of inputs; it never runs */
    replicas *replicas;
    sitting *sittings; /* one for each of them */
    loss loss;
    size_t output; /* its number */
    uint64_t done;
} measurement;

/* ---------------------------------------------------------------- before the first batch */

static pal_status choose_weights(measurement *m, const pal_options *options)
{
    size_t chosen = 0;
    m->weights = mem_zeroed(m->model->weight_count, sizeof *m->weights);
    if (!m->weights)
        return fail_memory("sensitivities");
    for (size_t i = 0; i < m->model->weight_count; i++) {
        m->weights[i] = pal_model_skip_reason(m->model, i, options) == NULL;
        chosen += m->weights[i];
    }
    return chosen ? PAL_OK
                  : fail(PAL_ERROR_ARGUMENT, "%s: no weight would be palettized", m->model->path);
}

static void sittings_free(measurement *m)
{
    for (size_t i = 0; m->sittings && i < replicas_count(m->replicas); i++) {
        free(m->sittings[i].inputs);
        free(m->sittings[i].labels);
        free(m->sittings[i].targets);
    }
    free(m->sittings);
    replicas_free(m->replicas);
    m->sittings = NULL;
    m->replicas = NULL;
}

static pal_status make_sittings(measurement *m, const feed_batch *batch)
{
    const size_t count = replicas_count(m->replicas), samples = (size_t)batch->inputs[0].shape[0];
    m->sittings = mem_zeroed(count, sizeof *m->sittings);
    bool whole = m->sittings != NULL;
    for (size_t i = 0; whole && i < count; i++) {
        sitting *it = &m->sittings[i];
        it->gradients = replicas_get(m->replicas, i);
        it->inputs = mem_array(batch->input_count, sizeof *it->inputs);
        it->labels = mem_array(samples, sizeof *it->labels);
        it->targets = mem_array(m->loss.places, sizeof *it->targets);
        whole = it->inputs && it->labels && it->targets;
    }
    return whole ? PAL_OK : fail_memory("sensitivities");
}

/* Plans for batches like the one at hand. */
static pal_status make_replicas(measurement *m, const feed_batch *batch)
{
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(batch->input_count, sizeof *shapes);
    if (!shapes)
        return fail_memory("sensitivities");
    for (size_t i = 0; i < batch->input_count; i++)
        memcpy(shapes[i], batch->inputs[i].shape, sizeof shapes[i]);
    const gradient_options options = {.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                      .weights = m->weights,
                                      .weight_count = m->model->weight_count,
                                      .apart = true};
    pal_status status = replicas_new(session_graph(m->session), &options, m->threads, &m->replicas);
    free(shapes);
    return status;
}

static pal_status make_ready(measurement *m, const feed_batch *batch)
{
    pal_status status = make_replicas(m, batch);
    if (status)
        return status;
    const gradients *first = replicas_get(m->replicas, 0);
    const graph *graph = gradients_graph(first);
    const size_t value = graph->main.outputs[m->output];
    const graph_value *shown = &graph->values[value];
    pal_tensor output = {.name = shown->name, .rank = shown->rank};
    memcpy(output.shape, shown->shape, sizeof output.shape);
    if (!shown->rank || shown->shape[0] != batch->inputs[0].shape[0])
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' has no place for each sample", shown->name);
    if (!plan_output_gradient(gradients_plan(first), m->output))
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' depends on no weight that is palettized",
                    shown->name);
    status = loss_for(&output, loss_scores_of(graph, value), m->settings->seed, &m->loss);
    return status ? status : make_sittings(m, batch);
}

/* ---------------------------------------------------------------- batches */

static void seat(sitting *it, const feed_batch *batch, uint64_t first)
{
    const plan *plan = gradients_plan(it->gradients);
    it->batch = *batch;
    it->first = first;
    it->batch.inputs = it->inputs;
    for (size_t i = 0; i < batch->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        memcpy(input->data, batch->inputs[i].data,
               (size_t)input->elements * graph_type_size(input->type));
        it->inputs[i] = batch->inputs[i];
        it->inputs[i].data = input->data;
    }
    if (batch->labels) {
        memcpy(it->labels, batch->labels, batch->count * sizeof *it->labels);
        it->batch.labels = it->labels;
    }
}

/* The classes that a sample should have; NULL where they are to be drawn. */
static pal_status find_targets(const measurement *m, const sitting *it, size_t sample,
                               const int64_t **out)
{
    bool known = false;
    pal_status status =
        m->loss.kind == LOSS_CLASSES
            ? loss_targets(&it->batch, sample, m->loss.places, m->loss.classes, it->targets, &known)
            : PAL_OK;
    *out = known ? it->targets : NULL;
    return status;
}

/* The loss's gradient by the output; nothing for samples that only fill the batch. */
static pal_status seed_gradients(const measurement *m, const sitting *it)
{
    const plan *plan = gradients_plan(it->gradients);
    const float *output = plan_model_output(plan, m->output)->data;
    const size_t each = m->loss.places * m->loss.classes;
    for (size_t i = 0; i < gradients_graph(it->gradients)->output_count; i++) {
        const buffer *gradient = plan_output_gradient(plan, i);
        if (gradient)
            memset(gradient->data, 0, gradient->bytes);
    }
    float *to = plan_output_gradient(plan, m->output)->data;
    for (size_t s = 0; s < it->batch.count; s++) {
        const int64_t *targets;
        pal_status status = find_targets(m, it, s, &targets);
        if (status)
            return status;
        const double value =
            loss_gradient(&m->loss, output + s * each, targets, it->first + s, to + s * each);
        if (!isfinite(value)) {
            char name[512];
            dataset_sample_name(m->data->set, it->first + s, name, sizeof name);
            return fail(PAL_ERROR_VALUE, "%s: the loss is not finite", name);
        }
    }
    return PAL_OK;
}

static pal_status run_sitting(void *user, size_t i)
{
    const measurement *m = user;
    const sitting *it = &m->sittings[i];
    const plan *plan = gradients_plan(it->gradients);
    gradients_clear(it->gradients);
    pal_status status = plan_run(plan, NULL);
    if (!status)
        status = seed_gradients(m, it);
    return status ? status : plan_run_backward(plan, NULL);
}

/* Runs the first `count` sittings, and adds what they found in their order. Where the plan does not
 * keep samples apart there is one in each, whose gradient is squared. */
static pal_status measure(measurement *m, size_t count, pal_sensitivity *to)
{
    pal_status status = replicas_run(m->replicas, count, run_sitting, m);
    for (size_t k = 0; !status && k < count; k++) {
        const sitting *it = &m->sittings[k];
        for (size_t i = 0, n = 0; !status && i < m->model->weight_count; i++)
            if (m->weights[i])
                status = gradients_add(it->gradients, i, !gradients_apart(it->gradients),
                                       to->weights[n++].values);
        m->done += it->batch.count;
    }
    return status;
}

/* ---------------------------------------------------------------- all of it */

/* Seats batches until all sittings are taken, or the data ends. *single: samples cannot be told
 * apart in this batch. */
static pal_status fill_sittings(measurement *m, feed *feed, size_t *count, bool *single)
{
    pal_status status = PAL_OK;
    uint64_t first = m->done;
    *count = 0;
    while (!status && (!m->sittings || *count < replicas_count(m->replicas))) {
        feed_batch batch;
        status = feed_next(feed, &batch);
        if (status || !batch.count)
            break;
        if (!m->sittings)
            status = make_ready(m, &batch);
        if (status)
            break;
        *single = !gradients_apart(m->sittings[0].gradients) && batch.inputs[0].shape[0] > 1;
        if (*single)
            break;
        seat(&m->sittings[(*count)++], &batch, first);
        first += batch.count;
    }
    return status;
}

static pal_status run_feed(measurement *m, size_t size, pal_progress progress, void *user,
                           pal_sensitivity *to)
{
    feed *feed;
    size_t count;
    bool single = false;
    pal_status status = feed_open(m->data, m->session, size, m->threads, &feed);
    if (status)
        return status;
    m->done = 0;
    do {
        status = fill_sittings(m, feed, &count, &single);
        if (!status && count)
            status = measure(m, count, to);
        if (!status && count && progress &&
            !progress(user, m->done, pal_data_count(m->data), "samples"))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    } while (!status && count);
    feed_close(feed);
    if (status || !single)
        return status;
    if (size == 1)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "the model's batch is fixed, and its weights are used in ways that do not tell "
                    "samples apart");
    sittings_free(m); /* one sample at a time, then */
    return run_feed(m, 1, progress, user, to);
}

/* Sums over samples become means. */
static pal_status finish(const measurement *m, pal_sensitivity *to)
{
    for (size_t i = 0; i < to->count; i++)
        for (uint64_t e = 0; e < to->weights[i].elements; e++) {
            float *value = &to->weights[i].values[e];
            *value /= (float)m->done;
            if (!isfinite(*value))
                return fail(PAL_ERROR_VALUE, "%s: weight '%s' has gradients that are not finite",
                            m->model->path, to->weights[i].name);
        }
    return PAL_OK;
}

pal_status pal_sensitivity_measure(pal_model *model, const pal_data *data,
                                   const pal_options *options,
                                   const pal_sensitivity_options *settings, pal_progress progress,
                                   void *user, pal_sensitivity **out)
{
    const pal_sensitivity_options defaults = {0};
    measurement m = {.model = model, .data = data, .settings = settings ? settings : &defaults};
    pal_sensitivity *measured = mem_zeroed(1, sizeof *measured);
    m.threads = m.settings->threads > 0 ? m.settings->threads : parallel_processors();
    const int before = engine_set_threads(m.threads);
    pal_status status = measured ? choose_weights(&m, options) : fail_memory("sensitivities");
    if (!status)
        status = pal_session_open(model, m.threads, &m.session);
    if (!status)
        status = loss_find_output(session_graph(m.session), m.settings->output, &m.output);
    for (size_t i = 0; !status && i < model->weight_count; i++) {
        float *values;
        if (m.weights[i])
            status = sensitivity_add(measured, &model->weights[i].info, &values);
    }
    if (!status)
        status = run_feed(&m, m.settings->batch ? m.settings->batch : DEFAULT_BATCH, progress, user,
                          measured);
    if (!status)
        status = finish(&m, measured);
    engine_set_threads(before);
    sittings_free(&m);
    pal_session_free(m.session);
    free(m.weights);
    if (status) {
        pal_sensitivity_free(measured);
        return status;
    }
    *out = measured;
    return PAL_OK;
}
