/* Scoring a model: against labels, and against another model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/session.h"
#include "method/feed.h"
#include "method/loss.h"
#include "method/scoring.h"

#define DEFAULT_BATCH 32

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

pal_status score_output(const pal_session *session, const char *name, const pal_tensor **out)
{
    const pal_tensor *output;
    for (size_t i = 0; (output = pal_session_output(session, i)); i++)
        if (name ? strcmp(output->name, name) == 0 : output->dtype == PAL_FLOAT32) {
            if (output->dtype != PAL_FLOAT32)
                return fail(PAL_ERROR_UNSUPPORTED, "output '%s' is of integers", output->name);
            if (output->rank == 0)
                return fail(PAL_ERROR_UNSUPPORTED,
                            "output '%s' is a single number for a whole batch", output->name);
            *out = output;
            return PAL_OK;
        }
    return name ? fail(PAL_ERROR_ARGUMENT, "the model has no output '%s'", name)
                : fail(PAL_ERROR_UNSUPPORTED, "the model has no output of numbers");
}

/* Where an output holds scores: places of `classes` scores that lie `stride` apart. */
typedef struct places {
    uint64_t outer, classes, inner; /* [outer][classes][inner], inner places each */
} places;

/* [N, classes], with extents of 1 anywhere behind; [N, length, classes] of language models; and
 * [N, classes, height, width] of segmentation. classes 0: none of these. */
static places places_of(const pal_tensor *output, uint64_t samples)
{
    int64_t kept[PAL_MAX_RANK];
    size_t rank = 0;
    for (size_t d = 1; d < output->rank; d++)
        if (output->shape[d] != 1)
            kept[rank++] = output->shape[d];
    if (rank == 1)
        return (places){samples, (uint64_t)kept[0], 1};
    if (rank == 2)
        return (places){samples * (uint64_t)kept[0], (uint64_t)kept[1], 1};
    if (rank == 3)
        return (places){samples, (uint64_t)kept[0], (uint64_t)(kept[1] * kept[2])};
    return (places){0};
}

static uint64_t row_elements(const pal_tensor *output)
{
    uint64_t elements = 1;
    for (size_t d = 1; d < output->rank; d++)
        elements *= (uint64_t)output->shape[d];
    return elements;
}

/* ---------------------------------------------------------------- labels */

/* How many scores are larger than the label's; of equal ones those before it count as larger, as a
 * stable sort has it. NaN is no score: such a sample is wrong. */
static uint64_t rank_of(const float *scores, uint64_t classes, uint64_t label)
{
    uint64_t before = 0;
    if (isnan(scores[label]))
        return classes;
    for (uint64_t c = 0; c < classes; c++)
        before += scores[c] > scores[label] || (c < label && scores[c] == scores[label]);
    return before;
}

typedef struct tally {
    uint64_t samples, first, five, nan_samples;
    double error, peak;
    uint64_t elements, places, agreed;
    double divergence;
    bool labelled, classes;
} tally;

static pal_status count_labels(tally *tally, const pal_tensor *output, const int64_t *labels,
                               size_t count)
{
    const uint64_t classes = row_elements(output);
    const places seen = places_of(output, count);
    if (seen.classes != classes)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "output '%s' is no score for each class: labels cannot be counted; another "
                    "output can be chosen with --output",
                    output->name);
    for (size_t s = 0; s < count; s++) {
        if (labels[s] < 0 || (uint64_t)labels[s] >= classes)
            return fail(PAL_ERROR_VALUE, "label %lld, but output '%s' has %llu classes",
                        (long long)labels[s], output->name, (unsigned long long)classes);
        const uint64_t before =
            rank_of((const float *)output->data + s * classes, classes, (uint64_t)labels[s]);
        tally->first += before < 1;
        tally->five += before < 5;
    }
    tally->labelled = true;
    return PAL_OK;
}

/* ---------------------------------------------------------------- a reference */

/* Whether the scores of a place are probabilities already. */
static bool are_probabilities(const float *scores, const places *at)
{
    double sum = 0;
    for (uint64_t c = 0; c < at->classes; c++) {
        const float score = scores[c * at->inner];
        if (!(score >= 0 && score <= 1.0001F))
            return false;
        sum += score;
    }
    return fabs(sum - 1) < 1e-3;
}

/* KL(b || a) at one place, in nats. */
static double divergence(const float *a, const float *b, const places *at)
{
    const bool both = are_probabilities(a, at) && are_probabilities(b, at);
    return scores_divergence(both ? SCORES_PROBABILITIES : SCORES_PLAIN, b, a, at->classes,
                             at->inner);
}

static bool has_nan(const float *values, uint64_t count, uint64_t stride)
{
    bool any = false;
    for (uint64_t i = 0; i < count; i++)
        any |= isnan(values[i * stride]);
    return any;
}

static uint64_t best_class(const float *scores, const places *at)
{
    uint64_t best = 0;
    for (uint64_t c = 1; c < at->classes; c++)
        if (scores[c * at->inner] > scores[best * at->inner])
            best = c;
    return best;
}

static void count_nan(tally *tally, const pal_tensor *output, size_t rows, size_t samples)
{
    const uint64_t each = row_elements(output) * rows / samples;
    for (size_t s = 0; s < samples; s++)
        tally->nan_samples += has_nan((const float *)output->data + s * each, each, 1);
}

/* In the first `rows` of both. */
static pal_status count_difference(tally *tally, const pal_tensor *a, const pal_tensor *b,
                                   size_t rows)
{
    if (a->rank != b->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) != 0)
        return fail(PAL_ERROR_ARGUMENT,
                    "output '%s' and the reference's output '%s' differ in shape", a->name,
                    b->name);
    const float *x = a->data, *y = b->data;
    const uint64_t elements = row_elements(a) * rows;
    for (uint64_t i = 0; i < elements; i++) {
        const double difference = x[i] == y[i] ? 0 : (double)x[i] - y[i]; /* both may be infinite */
        tally->error += difference * difference;
        tally->peak = fmax(tally->peak, fabs((double)y[i]));
    }
    tally->elements += elements;
    const places at = places_of(a, rows);
    tally->classes = at.classes > 1;
    for (uint64_t o = 0; tally->classes && o < at.outer; o++)
        for (uint64_t i = 0; i < at.inner; i++) {
            const uint64_t place = o * at.classes * at.inner + i;
            tally->places++;
            tally->agreed += !has_nan(x + place, at.classes, at.inner) &&
                             !has_nan(y + place, at.classes, at.inner) &&
                             best_class(x + place, &at) == best_class(y + place, &at);
            tally->divergence += divergence(x + place, y + place, &at);
        }
    return PAL_OK;
}

/* ---------------------------------------------------------------- the run */

typedef struct scoring {
    pal_session *session, *reference;
    feed *feed;
    const char *output;
    tally tally;
} scoring;

static pal_status score_batch(scoring *it, const feed_batch *batch)
{
    const pal_tensor *output, *expected;
    const int64_t samples = batch->inputs[0].shape[0];
    pal_status status = pal_session_run(it->session, batch->inputs, batch->input_count);
    if (!status)
        status = score_output(it->session, it->output, &output);
    if (!status && (batch->labels ? output->shape[0] != samples : output->shape[0] % samples != 0))
        status =
            fail(PAL_ERROR_UNSUPPORTED, "output '%s' has no place for each sample", output->name);
    const size_t rows = status ? 0 : batch->count * (size_t)(output->shape[0] / samples);
    if (!status && batch->labels)
        status = count_labels(&it->tally, output, batch->labels, batch->count);
    if (!status)
        count_nan(&it->tally, output, rows, batch->count);
    if (!status && it->reference)
        status = pal_session_run(it->reference, batch->inputs, batch->input_count);
    if (!status && it->reference)
        status = score_output(it->reference, it->output, &expected);
    if (!status && it->reference)
        status = count_difference(&it->tally, output, expected, rows);
    it->tally.samples += batch->count;
    return status;
}

static void fill_score(const scoring *it, double seconds, pal_score *score)
{
    const tally *tally = &it->tally;
    const double samples = tally->samples ? (double)tally->samples : 1;
    *score = (pal_score){
        .samples = tally->samples,
        .nan_samples = tally->nan_samples,
        .labelled = tally->labelled,
        .top1 = 100 * (double)tally->first / samples,
        .top5 = 100 * (double)tally->five / samples,
        .compared = it->reference != NULL,
        .classes = tally->classes,
        .seconds = seconds,
        .one_by_one = session_one_by_one(it->session),
    };
    if (it->reference && tally->elements) {
        const double mse = tally->error / (double)tally->elements;
        score->psnr = mse == 0 ? INFINITY : 10 * log10(tally->peak * tally->peak / mse);
    }
    if (tally->places) {
        score->agreement = 100 * (double)tally->agreed / (double)tally->places;
        score->kl_divergence = tally->divergence / (double)tally->places;
    }
}

pal_status pal_evaluate(pal_model *model, pal_model *reference, const pal_data *data,
                        const pal_score_options *options, pal_progress progress, void *user,
                        pal_score *score)
{
    const pal_score_options defaults = {0}, *chosen = options ? options : &defaults;
    const int threads = chosen->threads > 0 ? chosen->threads : parallel_processors();
    scoring it = {.output = chosen->output};
    feed_batch batch;
    pal_status status = pal_session_open(model, threads, &it.session);
    if (!status && reference)
        status = pal_session_open(reference, threads, &it.reference);
    const double started = now();
    if (!status)
        status = feed_open(data, it.session, chosen->batch ? chosen->batch : DEFAULT_BATCH, threads,
                           &it.feed);
    while (!status) {
        status = feed_next(it.feed, &batch);
        if (status || !batch.count)
            break;
        status = score_batch(&it, &batch);
        if (!status && progress &&
            !progress(user, it.tally.samples, pal_data_count(data), "samples"))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    }
    if (!status)
        fill_score(&it, now() - started, score);
    feed_close(it.feed);
    pal_session_free(it.reference);
    pal_session_free(it.session);
    return status;
}
