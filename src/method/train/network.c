#include "method/train/network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/dataset_order.h"
#include "engine/session.h"
#include "method/loss_output.h"
#include "method/scoring.h"

/* ---------------------------------------------------------------- making */

pal_status network_open(pal_model *model, const char *output, int threads, network *out)
{
    network it = {.model = model, .threads = threads};
    pal_status status = pal_session_open(model, threads, &it.teacher);
    if (!status)
        status = loss_find_output(session_graph(it.teacher), output, &it.output);
    if (status) {
        network_free(&it);
        return status;
    }
    *out = it;
    return PAL_OK;
}

void network_free(network *it)
{
    gradients_free(it->student);
    graph_free(it->source);
    fixed_free(&it->fixed);
    pal_session_free(it->teacher);
    objective_free(&it->objective);
    answers_free(&it->answers);
    free(it->targets);
    *it = (network){0};
}

/* What the loss is of. */
static pal_status find_objective(network *it, int64_t batch, const recipe *recipe)
{
    const graph *graph = gradients_graph(it->student);
    const size_t value = graph->main.outputs[it->output];
    const graph_value *shown = &graph->values[value];
    pal_tensor output = {.name = shown->name, .rank = shown->rank};
    memcpy(output.shape, shown->shape, sizeof output.shape);
    if (!shown->rank || shown->shape[0] != batch)
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' has no place for each sample", shown->name);
    if (!plan_output_gradient(gradients_plan(it->student), it->output))
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' depends on no weight that is trained",
                    shown->name);
    pal_status status =
        objective_new(&output, loss_scores_of(graph, value), recipe, &it->objective);
    if (status)
        return status;
    it->targets = mem_array(it->objective.places, sizeof *it->targets);
    return it->targets ? PAL_OK : fail_memory("training");
}

/* The model with the palettes of what does not change. */
static pal_status make_source(network *it, const compression *c, const bool *changes)
{
    pal_status status = PAL_OK;
    for (size_t w = 0; !status && w < it->model->weight_count; w++)
        if (!changes[w] && c->targets[w].wanted)
            status = fixed_take(&it->fixed, c, w);
    if (status || !it->fixed.any)
        return status;
    status = graph_lower(it->model, &it->source);
    return status ? status : fixed_show(&it->fixed, it->source);
}

pal_status network_plan(network *it, const feed *feed, const compression *compression,
                        const bool *changes, const recipe *recipe, uint64_t seed)
{
    size_t count;
    const pal_tensor *inputs = feed_inputs(feed, &count);
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(count, sizeof *shapes);
    if (!shapes)
        return fail_memory("training");
    for (size_t i = 0; i < count; i++)
        memcpy(shapes[i], inputs[i].shape, sizeof shapes[i]);
    const gradient_options options = {.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                      .weights = changes,
                                      .weight_count = it->model->weight_count,
                                      .threads = it->threads,
                                      .weights_change = true,
                                      .training = true,
                                      .seed = seed,
                                      .recompute = recipe->recompute};
    pal_status status = make_source(it, compression, changes);
    if (!status)
        status = gradients_new(it->source ? it->source : session_graph(it->teacher), &options,
                               &it->student);
    if (!status)
        status = find_objective(it, shapes[0][0], recipe);
    free(shapes);
    it->asks_teacher = recipe->distill > 0;
    return status;
}

pal_status network_fix_variables(network *it, const compression *compression,
                                 const parameters *parameters)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < gradients_variable_count(it->student); i++) {
        const gradient_variable *variable = gradients_variable(it->student, i);
        bool trained = false;
        for (size_t p = 0; !trained && p < parameters->count; p++)
            trained = parameters->list[p].weight == variable->weight;
        if (!trained)
            status = fixed_take(&it->fixed, compression, variable->weight);
        if (!trained && !status && it->fixed.any && it->fixed.values[variable->weight])
            memcpy(variable->values, it->fixed.values[variable->weight],
                   (size_t)variable->elements * sizeof *variable->values);
    }
    return status;
}

static size_t answer_width(const network *it)
{
    return it->objective.places * it->objective.width;
}

/* Whether the teacher is asked about samples that have labels, or have none. */
static bool asks_about(const network *it, bool labels)
{
    return it->asks_teacher || !labels || !it->objective.classes;
}

pal_status network_remember(network *it, const feed *feed, const pal_data *training)
{
    size_t count;
    if (!asks_about(it, dataset_has_labels(training->set)))
        return PAL_OK;
    return answers_new(dataset_source_count(training->set), answer_width(it),
                       (size_t)feed_inputs(feed, &count)[0].shape[0], &it->answers);
}

/* ---------------------------------------------------------------- running */

pal_status network_run(network *it, const feed_batch *batch, uint64_t run)
{
    plan *plan = gradients_plan(it->student);
    for (size_t i = 0; i < batch->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        memcpy(input->data, batch->inputs[i].data,
               (size_t)input->elements * graph_type_size(input->type));
    }
    plan_set_run(plan, run);
    return plan_run(plan, NULL);
}

/* The float model's output for a batch, or NULL where it is not asked. */
static pal_status ask_teacher(network *it, const feed_batch *batch, const float **out)
{
    *out = NULL;
    if (!asks_about(it, batch->labels))
        return PAL_OK;
    pal_status status = pal_session_run(it->teacher, batch->inputs, batch->input_count);
    if (!status)
        *out = pal_session_output(it->teacher, it->output)->data;
    return status;
}

/* The same for samples of training. */
static pal_status recall_teacher(network *it, const feed_batch *batch, const float **out)
{
    *out = answers_find(&it->answers, batch->samples, batch->count);
    if (*out)
        return PAL_OK;
    pal_status status = ask_teacher(it, batch, out);
    if (!status && *out)
        answers_keep(&it->answers, batch->samples, batch->count, *out);
    return status;
}

static pal_status targets_of(network *it, const feed_batch *batch, size_t sample,
                             const int64_t **out)
{
    bool known = false;
    pal_status status = it->objective.classes
                            ? loss_targets(batch, sample, it->objective.places, it->objective.width,
                                           it->targets, &known)
                            : PAL_OK;
    *out = known ? it->targets : NULL;
    return status;
}

pal_status network_learn(network *it, const feed_batch *batch, double samples, double *loss)
{
    plan *plan = gradients_plan(it->student);
    const size_t each = answer_width(it);
    const float *output = plan_model_output(plan, it->output)->data, *teacher;
    for (size_t i = 0; i < gradients_graph(it->student)->output_count; i++) {
        const buffer *gradient = plan_output_gradient(plan, i);
        if (gradient)
            memset(gradient->data, 0, gradient->bytes);
    }
    float *gradient = plan_output_gradient(plan, it->output)->data;
    pal_status status = recall_teacher(it, batch, &teacher);
    for (size_t s = 0; !status && s < batch->count; s++) {
        const int64_t *targets;
        status = targets_of(it, batch, s, &targets);
        if (!status)
            *loss += objective_sample(&it->objective, output + s * each,
                                      teacher ? teacher + s * each : NULL, targets, 1 / samples,
                                      gradient + s * each) /
                     samples;
    }
    return status ? status : plan_run_backward(plan, NULL);
}

/* ---------------------------------------------------------------- scoring */

/* A session of the model with the values of training in it. */
static pal_status open_trained(const network *it, const parameters *parameters,
                               const statistics *statistics, pal_session **out)
{
    graph *graph;
    pal_status status = graph_lower(it->model, &graph);
    if (status)
        return status;
    status = fixed_show(&it->fixed, graph);
    for (size_t i = 0; !status && i < parameters->count; i++)
        status = fixed_set_weight(graph, parameters->list[i].weight, parameters->list[i].variable);
    for (size_t i = 0; !status && i < statistics->count; i++) {
        const norm_statistics *norm = &statistics->norms[i];
        status = fixed_set_weight(graph, norm->mean_weight, norm->mean);
        if (!status)
            status = fixed_set_weight(graph, norm->variance_weight, norm->variance);
    }
    if (status) {
        graph_free(graph);
        return status;
    }
    return session_new(it->model, graph, it->threads, out);
}

static size_t best_of(const float *scores, size_t count)
{
    size_t best = 0;
    for (size_t c = 1; c < count; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}

static pal_status score_batch(network *it, pal_session *student, const feed_batch *batch,
                              network_score *to, double *squares)
{
    const size_t each = answer_width(it), width = it->objective.width;
    const float *teacher = NULL;
    pal_status status = pal_session_run(student, batch->inputs, batch->input_count);
    if (!status)
        status = ask_teacher(it, batch, &teacher);
    if (status)
        return status;
    const float *output = pal_session_output(student, it->output)->data;
    for (size_t s = 0; !status && s < batch->count; s++) {
        const int64_t *targets;
        const float *own = output + s * each, *its = teacher ? teacher + s * each : NULL;
        status = targets_of(it, batch, s, &targets);
        if (status)
            break;
        const double loss = objective_sample(&it->objective, own, its, targets, 0, NULL);
        to->loss += loss;
        const bool bound = its && !(targets && it->objective.distill < 1);
        to->distance += bound ? objective_distance(&it->objective, own, its) : NAN;
        *squares += loss * loss;
        if (it->objective.places != 1 || !it->objective.classes)
            continue;
        const size_t best = best_of(own, width);
        to->labelled = to->labelled || targets;
        to->top1 += targets && (int64_t)best == targets[0];
    }
    return status;
}

pal_status network_evaluate(network *it, feed *feed, const parameters *parameters,
                            const statistics *statistics, network_score *out)
{
    network_score score = {0};
    pal_session *student = NULL;
    feed_batch batch;
    double samples = 0, squares = 0;
    pal_status status = open_trained(it, parameters, statistics, &student);
    if (!status)
        status = feed_begin(feed, 0, 0, NULL);
    while (!status) {
        status = feed_next(feed, &batch);
        if (status || !batch.count)
            break;
        status = score_batch(it, student, &batch, &score, &squares);
        samples += (double)batch.count;
    }
    pal_session_free(student);
    if (status)
        return status;
    score.loss /= samples;
    score.distance /= samples;
    score.top1 *= 100 / samples;
    const double variance = score.labelled ? score.top1 * (100 - score.top1)
                                           : squares / samples - score.loss * score.loss;
    score.quality = score.labelled ? score.top1 : -score.loss;
    score.chance = sqrt(fmax(variance, 0) / samples);
    *out = score;
    return PAL_OK;
}
