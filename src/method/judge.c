#include "method/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/scratch.h"
#include "engine/engine.h"
#include "engine/gradient.h"
#include "engine/session.h"
#include "format/format.h"
#include "method/feed.h"
#include "method/loss_output.h"

#define DEFAULT_BATCH 32

/* What inputs and answers of all samples may take. */
#define MEMORY (UINT64_C(512) << 20)

/* A larger batch than the file foresees is believed if the samples come out as they do alone. */
#define BATCH_TOLERANCE 1e-6

struct judge {
    pal_model *model;
    const pal_data *data;
    judge_options options;
    pal_session *session; /* for what it knows of inputs */
    gradients *gradients;
    size_t output; /* its number */
    bool scores;   /* of classes; otherwise plain numbers */
    score_kind kind;
    size_t places, classes; /* of each sample's output; plain numbers are one place */
    size_t batch;           /* samples that run at once */
    uint64_t samples, room; /* that there are; that the memory below holds */
    size_t input_count;
    size_t *bytes;          /* of one sample of each input */
    unsigned char **inputs; /* of all samples: scratch memory */
    float *answers;         /* of the model as it was, for all samples: scratch memory */
    double mean_square;     /* of these */
};

void judge_free(judge *it)
{
    if (!it)
        return;
    for (size_t i = 0; it->inputs && i < it->input_count; i++)
        scratch_free(it->inputs[i]);
    free(it->inputs);
    free(it->bytes);
    scratch_free(it->answers);
    gradients_free(it->gradients);
    pal_session_free(it->session);
    free(it);
}

uint64_t judge_samples(const judge *judge)
{
    return judge->samples;
}

float *judge_weight(const judge *judge, size_t weight)
{
    for (size_t i = 0; i < gradients_variable_count(judge->gradients); i++) {
        const gradient_variable *variable = gradients_variable(judge->gradients, i);
        if (variable->weight == weight)
            return variable->values;
    }
    return NULL;
}

/* An element of a weight takes part once for each place of its consumer's output. */
double judge_work(const judge *judge)
{
    const graph *graph = gradients_graph(judge->gradients);
    double work = 0;
    for (size_t i = 0; i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        const graph_value *output = &graph->values[node->outputs[0]];
        double elements = 1;
        for (size_t d = 0; d < output->rank; d++)
            elements *= (double)output->shape[d];
        for (size_t k = 0; k < node->input_count; k++) {
            const size_t value = node->inputs[k];
            const size_t weight = value == GRAPH_NONE ? GRAPH_NONE : graph->values[value].weight;
            if (weight >= judge->model->weight_count || !judge->options.weights[weight])
                continue;
            const pal_weight *info = &judge->model->weights[weight].info;
            const size_t axis = info->channel_axis > 0 ? (size_t)info->channel_axis : 0;
            if (info->rank && info->elements)
                work += elements * (double)info->elements / (double)info->shape[axis];
        }
    }
    return work / (double)judge->batch;
}

/* ---------------------------------------------------------------- distances */

/* The logarithm of the sum that softmax divides by. */
static double log_sum(const float *scores, size_t classes)
{
    double largest = (double)scores[0], sum = 0;
    for (size_t c = 1; c < classes; c++)
        largest = fmax(largest, (double)scores[c]);
    for (size_t c = 0; c < classes; c++)
        sum += exp((double)scores[c] - largest);
    return largest + log(sum);
}

static double divergence(const judge *judge, const float *was, const float *is)
{
    const bool plain = judge->kind == SCORES_PLAIN;
    const double was_sum = plain ? log_sum(was, judge->classes) : 0;
    const double is_sum = plain ? log_sum(is, judge->classes) : 0;
    double sum = 0;
    for (size_t c = 0; c < judge->classes; c++) {
        double a = (double)was[c] - was_sum, b = (double)is[c] - is_sum;
        if (judge->kind == SCORES_PROBABILITIES) {
            a = log(fmax((double)was[c], 1e-30));
            b = log(fmax((double)is[c], 1e-30));
        }
        sum += exp(a) * (a - b);
    }
    return sum < 0 ? 0 : sum;
}

/* Of one sample; NaN or infinite if its output is not finite. */
static double sample_distance(const judge *judge, const float *was, const float *is)
{
    const size_t count = judge->places * judge->classes;
    double sum = 0;
    if (judge->scores) {
        for (size_t p = 0; p < judge->places; p++)
            sum += divergence(judge, was + p * judge->classes, is + p * judge->classes);
        return sum / (double)judge->places;
    }
    for (size_t i = 0; i < count; i++) {
        const double difference = (double)is[i] - (double)was[i];
        sum += difference * difference;
    }
    return sum / (double)count / judge->mean_square;
}

/* ---------------------------------------------------------------- running */

/* Runs the samples from `first` on, the last one repeated until the batch is full. */
static pal_status run_batch(const judge *judge, uint64_t first)
{
    const plan *plan = gradients_plan(judge->gradients);
    for (size_t i = 0; i < judge->input_count; i++) {
        unsigned char *to = plan_model_input(plan, i)->data;
        for (size_t s = 0; s < judge->batch; s++) {
            const uint64_t sample = first + s < judge->samples ? first + s : judge->samples - 1;
            memcpy(to + s * judge->bytes[i], judge->inputs[i] + sample * judge->bytes[i],
                   judge->bytes[i]);
        }
    }
    return plan_run(plan, NULL);
}

pal_status judge_distance(judge *judge, uint64_t samples, double limit, double *out)
{
    const size_t each = judge->places * judge->classes;
    double sum = 0;
    const int before = engine_set_threads(judge->options.threads);
    pal_status status = PAL_OK;
    for (uint64_t first = 0; !status && first < samples; first += judge->batch) {
        if (sum > limit * (double)samples) {
            sum = INFINITY;
            break;
        }
        status = run_batch(judge, first);
        const float *is = plan_model_output(gradients_plan(judge->gradients), judge->output)->data;
        for (size_t s = 0; !status && s < judge->batch && first + s < samples; s++)
            sum += sample_distance(judge, judge->answers + (first + s) * each, is + s * each);
    }
    engine_set_threads(before);
    *out = isfinite(sum) ? sum / (double)samples : INFINITY;
    return status;
}

/* ---------------------------------------------------------------- opening */

static pal_status make_plan(judge *judge, const int64_t (*shapes)[PAL_MAX_RANK], size_t batch)
{
    int64_t(*own)[PAL_MAX_RANK] = mem_zeroed(judge->input_count, sizeof *own);
    if (!own)
        return fail_memory("choosing palettes");
    memcpy(own, shapes, judge->input_count * sizeof *own);
    for (size_t i = 0; i < judge->input_count; i++)
        own[i][0] = (int64_t)batch;
    gradients_free(judge->gradients);
    judge->gradients = NULL;
    judge->batch = batch;
    pal_status status = gradients_new(session_graph(judge->session),
                                      &(gradient_options){
                                          .shapes = (const int64_t(*)[PAL_MAX_RANK])own,
                                          .weights = judge->options.weights,
                                          .weight_count = judge->model->weight_count,
                                          .threads = judge->options.threads,
                                          .weights_change = true,
                                      },
                                      &judge->gradients);
    free(own);
    return status;
}

/* What the output holds, and memory for inputs and outputs of as many samples as there may be. */
static pal_status make_room(judge *judge)
{
    const plan *plan = gradients_plan(judge->gradients);
    const graph *graph = gradients_graph(judge->gradients);
    const size_t value = graph->main.outputs[judge->output];
    const graph_value *shown = &graph->values[value];
    if (!shown->rank || (size_t)shown->shape[0] != judge->batch)
        return fail(PAL_ERROR_UNSUPPORTED, "output '%s' has no place for each sample", shown->name);
    pal_tensor output = {.name = shown->name, .rank = shown->rank};
    memcpy(output.shape, shown->shape, sizeof output.shape);
    loss loss;
    judge->scores =
        !loss_for(&output, loss_scores_of(graph, value), 0, &loss) && loss.kind == LOSS_CLASSES;
    judge->kind = loss_scores_of(graph, value);
    judge->places = judge->scores ? loss.places : 1;
    judge->classes =
        (size_t)plan_model_output(plan, judge->output)->elements / judge->batch / judge->places;
    uint64_t sample = judge->places * judge->classes * sizeof(float);
    for (size_t i = 0; i < judge->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        judge->bytes[i] = (size_t)input->elements * graph_type_size(input->type) / judge->batch;
        sample += judge->bytes[i];
    }
    judge->room = pal_data_count(judge->data);
    if (judge->room > MEMORY / sample)
        judge->room = MEMORY / sample > 0 ? MEMORY / sample : 1;
    judge->answers = scratch_zeroed(judge->room, judge->places * judge->classes * sizeof(float));
    bool whole = judge->answers != NULL;
    for (size_t i = 0; i < judge->input_count; i++) {
        judge->inputs[i] = scratch_zeroed(judge->room, judge->bytes[i]);
        whole = whole && judge->inputs[i];
    }
    return whole ? PAL_OK : fail_memory("choosing palettes");
}

/* Runs a batch as the file would, and keeps what came out. */
static pal_status keep(judge *judge, const feed_batch *batch)
{
    const size_t each = judge->places * judge->classes;
    const uint64_t left = judge->room - judge->samples;
    const size_t count = batch->count < left ? batch->count : (size_t)left;
    const pal_tensor *output;
    pal_status status = pal_session_run(judge->session, batch->inputs, batch->input_count);
    if (status)
        return status;
    output = pal_session_output(judge->session, judge->output);
    const float *answers = output->data;
    for (size_t s = 0; s < count; s++)
        for (size_t i = 0; i < each; i++)
            if (!isfinite(answers[s * each + i])) {
                char name[512];
                dataset_sample_name(judge->data->set, judge->samples + s, name, sizeof name);
                return fail(PAL_ERROR_VALUE, "%s: output '%s' is not finite", name, output->name);
            }
    memcpy(judge->answers + judge->samples * each, answers, count * each * sizeof *answers);
    for (size_t i = 0; i < judge->input_count; i++)
        memcpy(judge->inputs[i] + judge->samples * judge->bytes[i], batch->inputs[i].data,
               count * judge->bytes[i]);
    judge->samples += count;
    return PAL_OK;
}

/* Batches that the model does not foresee may mix its samples up: then one at a time. */
static pal_status check_batch(judge *judge, const int64_t (*shapes)[PAL_MAX_RANK])
{
    double distance;
    if (judge->batch == 1)
        return PAL_OK;
    const uint64_t some = judge->samples < judge->batch ? judge->samples : judge->batch;
    pal_status status = judge_distance(judge, some, INFINITY, &distance);
    if (!status && !(distance < BATCH_TOLERANCE))
        status = make_plan(judge, shapes, 1);
    return status;
}

static pal_status run_feed(judge *judge)
{
    const size_t asked = judge->options.batch ? judge->options.batch : DEFAULT_BATCH;
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(judge->input_count, sizeof *shapes);
    feed *feed;
    feed_batch batch;
    if (!shapes)
        return fail_memory("choosing palettes");
    pal_status status =
        feed_open(judge->data, judge->session, asked, judge->options.threads, &feed);
    if (status) {
        free(shapes);
        return status;
    }
    while (!status && !(status = feed_next(feed, &batch)) && batch.count) {
        if (!judge->gradients) {
            for (size_t i = 0; i < judge->input_count; i++)
                memcpy(shapes[i], batch.inputs[i].shape, sizeof shapes[i]);
            status = make_plan(judge, (const int64_t(*)[PAL_MAX_RANK])shapes,
                               (size_t)batch.inputs[0].shape[0]);
            if (!status)
                status = make_room(judge);
        }
        if (!status)
            status = keep(judge, &batch);
        if (judge->samples == judge->room)
            break;
    }
    feed_close(feed);
    double sum = 0;
    const uint64_t numbers = judge->samples * judge->places * judge->classes;
    for (uint64_t i = 0; !status && i < numbers; i++)
        sum += (double)judge->answers[i] * (double)judge->answers[i];
    judge->mean_square = sum > 0 ? sum / (double)numbers : 1;
    if (!status)
        status = check_batch(judge, (const int64_t(*)[PAL_MAX_RANK])shapes);
    free(shapes);
    return status;
}

pal_status judge_open(pal_model *model, const pal_data *data, const judge_options *options,
                      judge **out)
{
    judge *it = mem_zeroed(1, sizeof *it);
    if (!it)
        return fail_memory("choosing palettes");
    *it = (judge){.model = model, .data = data, .options = *options};
    if (it->options.threads <= 0)
        it->options.threads = parallel_processors();
    const int before = engine_set_threads(it->options.threads);
    pal_status status = pal_session_open(model, it->options.threads, &it->session);
    if (!status)
        status = loss_find_output(session_graph(it->session), options->output, &it->output);
    if (!status) {
        while (pal_session_input(it->session, it->input_count))
            it->input_count++;
        it->bytes = mem_zeroed(it->input_count, sizeof *it->bytes);
        it->inputs = mem_zeroed(it->input_count, sizeof *it->inputs);
        status = it->bytes && it->inputs ? run_feed(it) : fail_memory("choosing palettes");
    }
    engine_set_threads(before);
    if (status) {
        judge_free(it);
        return status;
    }
    *out = it;
    return PAL_OK;
}
