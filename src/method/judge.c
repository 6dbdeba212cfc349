#include "method/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/scratch.h"
#include "engine/engine.h"
#include "engine/plan_cut.h"
#include "engine/session.h"
#include "format/format.h"
#include "method/feed.h"
#include "method/loss_output.h"
#include "method/replicas.h"

#define DEFAULT_BATCH 8

/* What inputs and answers of all samples may take. */
#define MEMORY (UINT64_C(512) << 20)

/* A larger batch than the file foresees is believed if the samples come out as they do alone. */
#define BATCH_TOLERANCE 1e-6

typedef struct partial partial;

/* Where runs begin. */
typedef struct beginning {
    size_t place;        /* a step of the plans; 0: nothing is kept */
    plan_cut *cuts;      /* of each replica's plan */
    size_t count;        /* of them */
    unsigned char *kept; /* what is alive there, batch after batch: scratch memory */
} beginning;

struct judge {
    pal_model *model;
    const pal_data *data;
    judge_options options;
    pal_session *session; /* for what it knows of inputs */
    replicas *replicas;
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
    double work, normalised;
    double mean_square; /* of these */
    bool answering;     /* the model runs as it is: answers are kept, not compared */
    double *distances;  /* of each sample, when it last ran */
    beginning begin;
    partial *partial; /* for each replica */
};

static void forget_beginning(beginning *it)
{
    for (size_t i = 0; i < it->count; i++)
        plan_cut_free(&it->cuts[i]);
    free(it->cuts);
    scratch_free(it->kept);
    *it = (beginning){0};
}

void judge_free(judge *it)
{
    if (!it)
        return;
    for (size_t i = 0; it->inputs && i < it->input_count; i++)
        scratch_free(it->inputs[i]);
    free(it->inputs);
    free(it->bytes);
    free(it->distances);
    scratch_free(it->answers);
    forget_beginning(&it->begin);
    replicas_free(it->replicas);
    free(it->partial);
    pal_session_free(it->session);
    free(it);
}

uint64_t judge_samples(const judge *judge)
{
    return judge->samples;
}

static const gradient_variable *variable_of(const gradients *gradients, size_t weight)
{
    for (size_t i = 0; i < gradients_variable_count(gradients); i++) {
        const gradient_variable *variable = gradients_variable(gradients, i);
        if (variable->weight == weight)
            return variable;
    }
    return NULL;
}

bool judge_runs(const judge *judge, size_t weight)
{
    return variable_of(replicas_get(judge->replicas, 0), weight) != NULL;
}

void judge_set(judge *judge, size_t weight, const float *values)
{
    const uint64_t elements = judge->model->weights[weight].info.elements;
    for (size_t i = 0; i < replicas_count(judge->replicas); i++) {
        const gradient_variable *to = variable_of(replicas_get(judge->replicas, i), weight);
        if (to)
            memcpy(to->values, values, (size_t)elements * sizeof *to->values);
    }
}

double judge_work(const judge *judge)
{
    return judge->work;
}

double judge_normalised(const judge *judge)
{
    return judge->work > 0 ? judge->normalised / judge->work : 0;
}

/* ---------------------------------------------------------------- distances */

/* Of one sample; NaN or infinite if its output is not finite. */
static double sample_distance(const judge *judge, const float *was, const float *is)
{
    const size_t count = judge->places * judge->classes;
    double sum = 0;
    if (judge->scores) {
        for (size_t p = 0; p < judge->places; p++)
            sum += scores_divergence(judge->kind, was + p * judge->classes, is + p * judge->classes,
                                     judge->classes, 1);
        return sum / (double)judge->places;
    }
    for (size_t i = 0; i < count; i++) {
        const double difference = (double)is[i] - (double)was[i];
        sum += difference * difference;
    }
    return sum / (double)count / judge->mean_square;
}

/* ---------------------------------------------------------------- running */

/* What one replica is to run, and has found. */
struct partial {
    uint64_t first, count; /* samples */
    double sum;            /* of their distances */
};

/* What the plan finds alive where runs begin: a batch of inputs, the last sample repeated until it
 * is full, or what was kept. */
static void set_out(const judge *judge, size_t i)
{
    const partial *part = &judge->partial[i];
    const plan *plan = gradients_plan(replicas_get(judge->replicas, i));
    if (judge->begin.place) {
        const plan_cut *cut = &judge->begin.cuts[i];
        plan_cut_restore(cut, judge->begin.kept + part->first / judge->batch * cut->bytes);
        return;
    }
    for (size_t k = 0; k < judge->input_count; k++) {
        unsigned char *to = plan_model_input(plan, k)->data;
        for (size_t s = 0; s < judge->batch; s++) {
            const uint64_t sample = part->first + (s < part->count ? s : part->count - 1);
            memcpy(to + s * judge->bytes[k], judge->inputs[k] + sample * judge->bytes[k],
                   judge->bytes[k]);
        }
    }
}

static pal_status run_batch(void *user, size_t i)
{
    const judge *judge = user;
    partial *part = &judge->partial[i];
    const plan *plan = gradients_plan(replicas_get(judge->replicas, i));
    const size_t each = judge->places * judge->classes;
    set_out(judge, i);
    pal_status status = plan_run_part(plan, judge->begin.place, SIZE_MAX);
    const float *is = plan_model_output(plan, judge->output)->data;
    part->sum = 0;
    for (size_t s = 0; !status && s < part->count; s++) {
        float *was = judge->answers + (part->first + s) * each;
        double *distance = &judge->distances[part->first + s];
        if (judge->answering)
            memcpy(was, is + s * each, each * sizeof *was);
        else
            part->sum += *distance = sample_distance(judge, was, is + s * each);
    }
    return status;
}

/* Batches for the replicas, from sample `*done` on, which goes ahead of them; how many there are.
 */
static size_t deal(judge *judge, uint64_t samples, uint64_t *done)
{
    size_t count = 0;
    for (; count < replicas_count(judge->replicas) && *done < samples; count++) {
        const uint64_t left = samples - *done;
        judge->partial[count] =
            (partial){.first = *done, .count = left < judge->batch ? left : judge->batch};
        *done += judge->partial[count].count;
    }
    return count;
}

pal_status judge_distance(judge *judge, uint64_t samples, double limit, double *out)
{
    const double most = limit * (double)samples;
    double sum = 0;
    pal_status status = PAL_OK;
    for (uint64_t done = 0; !status && done < samples && sum <= most;) {
        const size_t count = deal(judge, samples, &done);
        status = replicas_run(judge->replicas, count, run_batch, judge);
        for (size_t k = 0; k < count; k++)
            sum += judge->partial[k].sum;
    }
    *out = isfinite(sum) && sum <= most ? sum / (double)samples : INFINITY;
    return status;
}

/* ---------------------------------------------------------------- beginning later */

size_t judge_place(const judge *judge, size_t weight)
{
    const gradients *first = replicas_get(judge->replicas, 0);
    const gradient_variable *variable = variable_of(first, weight);
    return variable ? plan_first_reader(gradients_plan(first), variable->value) : SIZE_MAX;
}

typedef struct moving {
    const judge *judge;
    const beginning *to;
} moving;

static pal_status move_batch(void *user, size_t i)
{
    const moving *it = user;
    const plan *plan = gradients_plan(replicas_get(it->judge->replicas, i));
    const plan_cut *cut = &it->to->cuts[i];
    set_out(it->judge, i);
    pal_status status = plan_run_part(plan, it->judge->begin.place, cut->step);
    if (!status)
        plan_cut_keep(cut,
                      it->to->kept + it->judge->partial[i].first / it->judge->batch * cut->bytes);
    return status;
}

/* Cuts at a place, and room for all batches; no room if that were too much. */
static pal_status make_beginning(const judge *judge, size_t place, uint64_t batches, beginning *out)
{
    const size_t replicas = replicas_count(judge->replicas);
    *out = (beginning){.place = place, .cuts = mem_zeroed(replicas, sizeof *out->cuts)};
    pal_status status = out->cuts ? PAL_OK : fail_memory("choosing palettes");
    while (!status && out->count < replicas) {
        const plan *plan = gradients_plan(replicas_get(judge->replicas, out->count));
        status = plan_cut_new(plan, place, &out->cuts[out->count]);
        out->count += !status;
    }
    if (status) {
        forget_beginning(out);
        return status;
    }
    const size_t bytes = out->cuts[0].bytes;
    if (bytes && bytes <= MEMORY / batches)
        out->kept = scratch_zeroed(batches, bytes);
    return PAL_OK;
}

pal_status judge_begin_at(judge *judge, size_t place, uint64_t samples)
{
    beginning next;
    if (place < judge->begin.place)
        forget_beginning(&judge->begin);
    if (place == judge->begin.place || place == SIZE_MAX)
        return PAL_OK;
    pal_status status =
        make_beginning(judge, place, (samples + judge->batch - 1) / judge->batch, &next);
    if (status)
        return status;
    if (!next.kept) { /* runs begin where they did: the same comes out */
        forget_beginning(&next);
        return PAL_OK;
    }
    moving moving = {judge, &next};
    for (uint64_t done = 0; !status && done < samples;) {
        const size_t count = deal(judge, samples, &done);
        status = replicas_run(judge->replicas, count, move_batch, &moving);
    }
    if (status) {
        forget_beginning(&next);
        return status;
    }
    forget_beginning(&judge->begin);
    judge->begin = next;
    return PAL_OK;
}

typedef struct ranked {
    double distance;
    uint64_t sample;
} ranked;

static int farthest_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? 1 : -1;
    return x->sample < y->sample ? -1 : 1;
}

/* Rows of `bytes` in the order of the ranks. */
static pal_status reorder(void *rows, size_t bytes, const ranked *ranks, uint64_t count)
{
    unsigned char *all = rows, *copy = scratch_zeroed(count, bytes);
    if (!copy)
        return fail_memory("choosing palettes");
    memcpy(copy, all, (size_t)count * bytes);
    for (uint64_t i = 0; i < count; i++)
        memcpy(all + i * bytes, copy + ranks[i].sample * bytes, bytes);
    scratch_free(copy);
    return PAL_OK;
}

pal_status judge_farthest_first(judge *judge, uint64_t samples)
{
    ranked *ranks = mem_array(samples, sizeof *ranks);
    pal_status status = ranks ? PAL_OK : fail_memory("choosing palettes");
    for (uint64_t i = 0; !status && i < samples; i++)
        ranks[i] = (ranked){isnan(judge->distances[i]) ? INFINITY : judge->distances[i], i};
    if (!status) {
        qsort(ranks, samples, sizeof *ranks, farthest_first);
        status = reorder(judge->answers, judge->places * judge->classes * sizeof *judge->answers,
                         ranks, samples);
    }
    for (size_t k = 0; !status && k < judge->input_count; k++)
        status = reorder(judge->inputs[k], judge->bytes[k], ranks, samples);
    free(ranks);
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
    replicas_free(judge->replicas);
    free(judge->partial);
    judge->replicas = NULL;
    judge->partial = NULL;
    judge->batch = batch;
    const gradient_options options = {
        .shapes = (const int64_t(*)[PAL_MAX_RANK])own,
        .weights = judge->options.weights,
        .weight_count = judge->model->weight_count,
        .weights_change = true,
    };
    pal_status status = replicas_new(session_graph(judge->session), &options,
                                     judge->options.threads, &judge->replicas);
    if (!status &&
        !(judge->partial = mem_zeroed(replicas_count(judge->replicas), sizeof *judge->partial)))
        status = fail_memory("choosing palettes");
    free(own);
    return status;
}

/* What the output holds, and memory for inputs and outputs of as many samples as there may be. */
static pal_status make_room(judge *judge)
{
    const gradients *first = replicas_get(judge->replicas, 0);
    const plan *plan = gradients_plan(first);
    const graph *graph = gradients_graph(first);
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
    judge->distances = mem_zeroed(judge->room, sizeof *judge->distances);
    bool whole = judge->answers && judge->distances;
    for (size_t i = 0; i < judge->input_count; i++) {
        judge->inputs[i] = scratch_zeroed(judge->room, judge->bytes[i]);
        whole = whole && judge->inputs[i];
    }
    return whole ? PAL_OK : fail_memory("choosing palettes");
}

static void keep(judge *judge, const feed_batch *batch)
{
    const uint64_t left = judge->room - judge->samples;
    const size_t count = batch->count < left ? batch->count : (size_t)left;
    for (size_t i = 0; i < judge->input_count; i++)
        memcpy(judge->inputs[i] + judge->samples * judge->bytes[i], batch->inputs[i].data,
               count * judge->bytes[i]);
    judge->samples += count;
}

static void find_mean_square(judge *judge, uint64_t samples)
{
    const uint64_t numbers = samples * judge->places * judge->classes;
    double sum = 0;
    for (uint64_t i = 0; i < numbers; i++)
        sum += (double)judge->answers[i] * (double)judge->answers[i];
    judge->mean_square = sum > 0 ? sum / (double)numbers : 1;
}

/* Batches that the model does not foresee may mix its samples up, which a session finds out: then
 * one at a time. */
static pal_status check_batch(judge *judge, const feed_batch *batch,
                              const int64_t (*shapes)[PAL_MAX_RANK])
{
    double distance;
    pal_status status = pal_session_run(judge->session, batch->inputs, batch->input_count);
    if (status)
        return status;
    const size_t count = judge->samples < judge->batch ? (size_t)judge->samples : judge->batch;
    memcpy(judge->answers, pal_session_output(judge->session, judge->output)->data,
           count * judge->places * judge->classes * sizeof *judge->answers);
    find_mean_square(judge, count);
    status = judge_distance(judge, count, INFINITY, &distance);
    return status || distance < BATCH_TOLERANCE ? status : make_plan(judge, shapes, 1);
}

/* What the model says as it is. */
static pal_status find_answers(judge *judge)
{
    const uint64_t each = judge->places * judge->classes;
    double none;
    judge->answering = true;
    pal_status status = judge_distance(judge, judge->samples, INFINITY, &none);
    judge->answering = false;
    for (uint64_t i = 0; !status && i < judge->samples * each; i++)
        if (!isfinite(judge->answers[i])) {
            char name[512];
            dataset_sample_name(judge->data->set, i / each, name, sizeof name);
            status = fail(PAL_ERROR_VALUE, "%s: the model's output is not finite", name);
        }
    find_mean_square(judge, judge->samples);
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
        if (!judge->replicas) {
            for (size_t i = 0; i < judge->input_count; i++)
                memcpy(shapes[i], batch.inputs[i].shape, sizeof shapes[i]);
            status = make_plan(judge, (const int64_t(*)[PAL_MAX_RANK])shapes,
                               (size_t)batch.inputs[0].shape[0]);
            if (!status)
                status = make_room(judge);
        }
        if (status)
            break;
        keep(judge, &batch);
        if (judge->samples <= judge->batch && judge->batch > 1)
            status = check_batch(judge, &batch, (const int64_t(*)[PAL_MAX_RANK])shapes);
        if (judge->samples == judge->room)
            break;
    }
    feed_close(feed);
    if (!status)
        status = find_answers(judge);
    free(shapes);
    return status;
}

static bool goes_to_batch_norm(const graph *graph, size_t value)
{
    for (size_t i = 0; i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        if (node->op == OP_BATCH_NORM && node->inputs[0] == value)
            return true;
    }
    return false;
}

/* An element of a weight takes part once for each place of its consumer's output. */
static void count_work(judge *judge)
{
    const graph *graph = gradients_graph(replicas_get(judge->replicas, 0));
    for (size_t i = 0; i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        const graph_value *output = &graph->values[node->outputs[0]];
        double elements = 1 / (double)judge->batch, work = 0;
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
        judge->work += work;
        if (work > 0 && goes_to_batch_norm(graph, node->outputs[0]))
            judge->normalised += work;
    }
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
    if (!status)
        count_work(it);
    it->options.weights = NULL; /* they are the caller's */
    if (status) {
        judge_free(it);
        return status;
    }
    *out = it;
    return PAL_OK;
}
