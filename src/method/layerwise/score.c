#include <math.h>
#include <string.h>

#include "method/layerwise/layerwise.h"
#include "method/loss.h"
#include "method/loss_output.h"

/* Chunks that are looked at: of the samples held back, or all. */
static void chunks_of(const walk *w, size_t *first, size_t *end)
{
    *first = w->held_back ? w->chunks : 0;
    *end = w->all_chunks;
}

static uint64_t elements_of(const walk *w, size_t chunk, size_t value)
{
    const graph_value *v = &w->graph->values[value];
    const uint64_t all = graph_elements(v);
    return v->rank && (size_t)v->shape[0] == w->batch ? all / w->batch * walk_count(w, chunk) : all;
}

static size_t largest(const float *scores, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

/* The scores of classes that an output holds for each sample; false for another one. */
static bool scores_of(const walk *w, size_t value, loss *out)
{
    const graph_value *v = &w->graph->values[value];
    pal_tensor output = {.name = v->name, .rank = v->rank};
    memcpy(output.shape, v->shape, sizeof output.shape);
    return v->rank > 1 && (size_t)v->shape[0] == w->batch &&
           loss_for(&output, loss_scores_of(w->graph, value), 0, out) == PAL_OK &&
           out->kind == LOSS_CLASSES && out->classes > 1;
}

/* By the first output of numbers, the mean over samples and places. */
static double divergence(const walk *w, size_t value, const loss *of)
{
    size_t first, end;
    uint64_t places = 0;
    double sum = 0;
    chunks_of(w, &first, &end);
    for (size_t chunk = first; chunk < end; chunk++) {
        const float *was = walk_values(w, NETWORK_FLOAT, chunk, value);
        const float *is = walk_values(w, NETWORK_COMPRESSED, chunk, value);
        for (size_t p = 0; p < walk_count(w, chunk) * of->places; p++)
            sum += scores_divergence(of->scores, was + p * of->classes, is + p * of->classes,
                                     of->classes, 1);
        places += walk_count(w, chunk) * of->places;
    }
    return sum / (double)places;
}

/* Of the first output of numbers, if it is one score for each class. */
static void count_labels(const calibration *c, size_t value, size_t classes, score *score)
{
    const walk *w = &c->walk;
    const uint64_t offset = w->held_back ? w->samples : 0;
    size_t first, end;
    uint64_t right[2] = {0};
    chunks_of(w, &first, &end);
    for (size_t chunk = first; chunk < end; chunk++)
        for (size_t s = 0; s < walk_count(w, chunk); s++) {
            const int64_t label = pal_data_label(c->data, offset + (chunk - first) * w->batch + s);
            if (label < 0 || (size_t)label >= classes)
                return;
            for (int i = 0; i < 2; i++)
                right[i] += largest(walk_values(w, (enum network)i, chunk, value) + s * classes,
                                    classes) == (size_t)label;
        }
    score->labelled = true;
    score->float_top1 = 100 * (double)right[0] / (double)score->samples;
    score->top1 = 100 * (double)right[1] / (double)score->samples;
}

pal_status score_outputs(const calibration *c, score *score)
{
    const walk *w = &c->walk;
    const graph *graph = w->graph;
    double error = 0, energy = 0;
    size_t first, end;
    loss of;
    bool seen = false, scores = false;
    *score = (struct score){.held_back = w->held_back > 0,
                            .samples = w->held_back ? w->held_back : w->samples};
    chunks_of(w, &first, &end);
    for (size_t i = 0; i < graph->output_count; i++) {
        const size_t value = graph->main.outputs[i];
        if (graph->values[value].type != GRAPH_FLOAT || graph->values[value].constant)
            continue;
        if (!seen && (scores = scores_of(w, value, &of))) {
            score->distance = divergence(w, value, &of);
            if (of.places == 1)
                count_labels(c, value, of.classes, score);
        }
        seen = true;
        for (size_t chunk = first; chunk < end; chunk++) {
            const float *a = walk_values(w, NETWORK_FLOAT, chunk, value);
            const float *b = walk_values(w, NETWORK_COMPRESSED, chunk, value);
            for (uint64_t e = 0; e < elements_of(w, chunk, value); e++) {
                const double difference = (double)a[e] - (double)b[e];
                error += difference * difference;
                energy += (double)a[e] * (double)a[e];
            }
        }
    }
    score->error = energy > 0 ? sqrt(error / energy) : error > 0 ? INFINITY : 0;
    if (!scores)
        score->distance = score->error;
    return PAL_OK;
}
