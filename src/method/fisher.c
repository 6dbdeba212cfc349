/* Sensitivities measured: squared gradients of the loss by each weight, for one sample at a time,
 * averaged. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/engine.h"
#include "engine/gradient.h"
#include "engine/session.h"
#include "format/format.h"
#include "method/feed.h"
#include "method/loss.h"
#include "method/loss_output.h"
#include "method/sensitivity.h"

#define DEFAULT_BATCH 32

typedef struct measurement {
    pal_model *model;
    const pal_data *data;
    const pal_sensitivity_options *settings;
    int threads;
    bool *weights;        /* by weight of the model */
    pal_session *session; /* for what it knows of inputs; it never runs */
    gradients *gradients;
    loss loss;
    size_t output; /* its number */
    int64_t *targets;
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

/* The plan for the batch at hand. */
static pal_status make_ready(measurement *m, const feed_batch *batch)
{
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(batch->input_count, sizeof *shapes);
    if (!shapes)
        return fail_memory("sensitivities");
    for (size_t i = 0; i < batch->input_count; i++)
        memcpy(shapes[i], batch->inputs[i].shape, sizeof shapes[i]);
    const gradient_options options = {.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                      .weights = m->weights,
                                      .weight_count = m->model->weight_count,
                                      .threads = m->threads,
                                      .apart = true};
    pal_status status = gradients_new(session_graph(m->session), &options, &m->gradients);
    free(shapes);
    if (status)
        return status;
    const graph *graph = gradients_graph(m->gradients);
    const size_t value = graph->main.outputs[m->output];
    const graph_value *shown = &graph->values[value];
    pal_tensor output = {.name = shown->name, .rank = shown->rank};
    memcpy(output.shape, shown->shape, sizeof output.shape);
    if (!shown->rank || shown->shape[0] != batch->inputs[0].shape[0])
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' has no place for each sample", shown->name);
    if (!plan_output_gradient(gradients_plan(m->gradients), m->output))
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' depends on no weight that is palettized",
                    shown->name);
    status = loss_for(&output, loss_scores_of(graph, value), m->settings->seed, &m->loss);
    if (status)
        return status;
    m->targets = mem_array(m->loss.places, sizeof *m->targets);
    return m->targets ? PAL_OK : fail_memory("sensitivities");
}

/* ---------------------------------------------------------------- batches */

/* The classes that a sample should have; NULL where they are to be drawn. */
static pal_status find_targets(measurement *m, const feed_batch *batch, size_t sample,
                               const int64_t **out)
{
    bool known = false;
    pal_status status =
        m->loss.kind == LOSS_CLASSES
            ? loss_targets(batch, sample, m->loss.places, m->loss.classes, m->targets, &known)
            : PAL_OK;
    *out = known ? m->targets : NULL;
    return status;
}

/* The loss's gradient by the output; nothing for samples that only fill the batch. */
static pal_status seed_gradients(measurement *m, const feed_batch *batch)
{
    const plan *plan = gradients_plan(m->gradients);
    const float *output = plan_model_output(plan, m->output)->data;
    const size_t each = m->loss.places * m->loss.classes;
    for (size_t i = 0; i < gradients_graph(m->gradients)->output_count; i++) {
        const buffer *gradient = plan_output_gradient(plan, i);
        if (gradient)
            memset(gradient->data, 0, gradient->bytes);
    }
    float *to = plan_output_gradient(plan, m->output)->data;
    for (size_t s = 0; s < batch->count; s++) {
        const int64_t *targets;
        pal_status status = find_targets(m, batch, s, &targets);
        if (status)
            return status;
        const double value =
            loss_gradient(&m->loss, output + s * each, targets, m->done + s, to + s * each);
        if (!isfinite(value)) {
            char name[512];
            dataset_sample_name(m->data->set, m->done + s, name, sizeof name);
            return fail(PAL_ERROR_VALUE, "%s: the loss is not finite", name);
        }
    }
    return PAL_OK;
}

/* What the plan could not keep apart: the gradient of the one sample in it. */
static pal_status add_single(measurement *m, pal_sensitivity *to)
{
    pal_status status = PAL_OK;
    for (size_t i = 0, n = 0; !status && i < m->model->weight_count; i++)
        if (m->weights[i])
            status = gradients_add(m->gradients, i, true, to->weights[n++].values);
    return status;
}

static pal_status measure_batch(measurement *m, const feed_batch *batch, pal_sensitivity *to)
{
    const plan *plan = gradients_plan(m->gradients);
    for (size_t i = 0; i < batch->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        memcpy(input->data, batch->inputs[i].data,
               (size_t)input->elements * graph_type_size(input->type));
    }
    pal_status status = plan_run(plan, NULL);
    if (!status)
        status = seed_gradients(m, batch);
    if (!status)
        status = plan_run_backward(plan, NULL);
    if (!status && !gradients_apart(m->gradients))
        status = add_single(m, to);
    m->done += batch->count;
    return status;
}

/* ---------------------------------------------------------------- all of it */

static pal_status run_feed(measurement *m, size_t size, pal_progress progress, void *user,
                           pal_sensitivity *to)
{
    feed *feed;
    feed_batch batch;
    pal_status status = feed_open(m->data, m->session, size, m->threads, &feed);
    if (status)
        return status;
    for (m->done = 0; !status;) {
        status = feed_next(feed, &batch);
        if (status || !batch.count)
            break;
        if (!m->gradients)
            status = make_ready(m, &batch);
        if (!status && !gradients_apart(m->gradients) && batch.inputs[0].shape[0] > 1) {
            feed_close(feed); /* one sample at a time, then */
            gradients_free(m->gradients);
            free(m->targets);
            m->gradients = NULL;
            m->targets = NULL;
            if (size == 1)
                return fail(PAL_ERROR_UNSUPPORTED,
                            "the model's batch is fixed, and its weights are used in ways that do "
                            "not tell samples apart");
            return run_feed(m, 1, progress, user, to);
        }
        if (!status)
            status = measure_batch(m, &batch, to);
        if (!status && progress && !progress(user, m->done, pal_data_count(m->data), "samples"))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    }
    feed_close(feed);
    return status;
}

/* Sums over samples become means. */
static pal_status finish(measurement *m, pal_sensitivity *to)
{
    pal_status status = PAL_OK;
    for (size_t i = 0, n = 0; !status && i < m->model->weight_count; i++) {
        if (!m->weights[i])
            continue;
        weight_sensitivity *weight = &to->weights[n++];
        if (gradients_apart(m->gradients))
            status = gradients_add(m->gradients, i, false, weight->values);
        for (uint64_t e = 0; !status && e < weight->elements; e++)
            weight->values[e] /= (float)m->done;
    }
    return status;
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
    gradients_free(m.gradients);
    pal_session_free(m.session);
    free(m.targets);
    free(m.weights);
    if (status) {
        pal_sensitivity_free(measured);
        return status;
    }
    *out = measured;
    return PAL_OK;
}
