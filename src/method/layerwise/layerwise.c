#include "method/layerwise/layerwise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "data/shuffle.h"
#include "method/layerwise/method.h"

/* The steps, each from the palettes of K-Means. */
typedef enum stage {
    STAGE_KMEANS,
    STAGE_STATISTICS,
    STAGE_RECONSTRUCTION,
    STAGES,
} stage;

typedef struct course {
    calibration calibration;
    score scores[STAGES];
    bool ran[STAGES];
    stage kept;
    pal_data *drawn; /* the samples of both, where the data is not in a random order */
} course;

/* Everything as K-Means leaves it. */
static pal_status start_again(compression *all)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < all->model->weight_count; i++) {
        target *t = &all->targets[i];
        scratch_free(t->dense);
        t->dense = NULL;
        t->solved = false;
        t->channel_scale = false;
        if (t->wanted) {
            *t->remark = 0;
            status = target_allocate(all, i);
        }
    }
    return status ? status : compression_cluster(all);
}

static pal_status run_stage(course *course, stage stage)
{
    calibration *c = &course->calibration;
    c->correct = stage != STAGE_KMEANS && c->settings->correct != CORRECT_OFF;
    c->reconstruct = stage == STAGE_RECONSTRUCTION;
    c->layers = 0;
    course->ran[stage] = true;
    return calibrate(c, &course->scores[stage]);
}

/* Nothing is learnt from samples there: those held back will do. */
static pal_status run_kmeans(course *course)
{
    calibration *c = &course->calibration;
    const pal_data *all = c->data;
    const uint64_t samples = c->samples, held_back = c->held_back;
    pal_data *part = NULL;
    if (held_back < WALK_MOST_BATCH)
        return run_stage(course, STAGE_KMEANS);
    pal_status status = data_part(all, samples, held_back, &part);
    if (!status) {
        c->data = part;
        c->samples = held_back;
        c->held_back = 0;
        status = run_stage(course, STAGE_KMEANS);
        course->scores[STAGE_KMEANS].held_back = true;
    }
    c->data = all;
    c->samples = samples;
    c->held_back = held_back;
    pal_data_free(part);
    return status;
}

/* Statistics and biases are as they were. */
static void drop_adjustments(compression *all)
{
    for (size_t i = 0; i < all->model->weight_count; i++) {
        target *t = &all->targets[i];
        if (!t->dense)
            continue;
        scratch_free(t->dense);
        t->dense = NULL;
        *t->remark = 0;
    }
}

/* Reconstruction takes K-Means and statistics for granted only where it is better than they are,
 * and is spared where these are as good as the float network. */
static pal_status run_all(course *course, bool reconstructs)
{
    calibration *c = &course->calibration;
    const bool corrects = c->settings->correct != CORRECT_OFF;
    const stage other = corrects ? STAGE_STATISTICS : STAGE_KMEANS;
    pal_status status = run_kmeans(course);
    if (!status && corrects)
        status = run_stage(course, STAGE_STATISTICS);
    if (course->scores[other].distance < c->settings->enough)
        reconstructs = false;
    if (!status && reconstructs)
        status = run_stage(course, STAGE_RECONSTRUCTION);
    course->kept = reconstructs ? STAGE_RECONSTRUCTION : other;
    if (!status && !reconstructs && c->settings->correct == CORRECT_AUTO &&
        course->scores[STAGE_STATISTICS].distance > course->scores[STAGE_KMEANS].distance) {
        course->kept = STAGE_KMEANS;
        drop_adjustments(c->compression);
    }
    if (status || !reconstructs ||
        course->scores[STAGE_RECONSTRUCTION].error <= course->scores[other].error)
        return status;
    course->kept = other;
    status = start_again(c->compression);
    return status ? status : run_stage(course, other);
}

/* ---------------------------------------------------------------- the report */

static pal_status note_scores(const course *course, pal_report *report)
{
    static const char *const names[] = {"K-Means", "statistics", "reconstruction"};
    char text[400];
    size_t at = 0;
    const score *any = &course->scores[STAGE_KMEANS];
    const char *of = any->held_back ? "samples held back" : "samples, those of calibration";
    at += (size_t)snprintf(text, sizeof text,
                           "output error on %llu %s:", (unsigned long long)any->samples, of);
    for (int i = 0; i < STAGES; i++)
        if (course->ran[i])
            at += (size_t)snprintf(text + at, sizeof text - at, "%s %s %.4f", i ? "," : "",
                                   names[i], course->scores[i].error);
    pal_status status = report_add_note(report, text);
    if (status || !any->labelled)
        return status;
    at = (size_t)snprintf(text, sizeof text, "top-1 on %llu %s: float %.1f %%",
                          (unsigned long long)any->samples, of, any->float_top1);
    for (int i = 0; i < STAGES; i++)
        if (course->ran[i])
            at += (size_t)snprintf(text + at, sizeof text - at, ", %s %.1f %%", names[i],
                                   course->scores[i].top1);
    return report_add_note(report, text);
}

static pal_status note_all(const void *of, pal_report *report)
{
    const course *course = of;
    const calibration *c = &course->calibration;
    char name[200], text[400];
    dataset_sample_name(c->data->set, 0, name, sizeof name);
    snprintf(text, sizeof text, "calibrated with %llu samples, the first %s",
             (unsigned long long)c->samples, name);
    pal_status status = report_add_note(report, text);
    if (!status)
        status = note_scores(course, report);
    if (!status && c->settings->method == METHOD_LAYERWISE && !course->ran[STAGE_RECONSTRUCTION])
        status =
            report_add_note(report, "K-Means is as good as the float network here: no layer was "
                                    "reconstructed");
    if (!status && !course->ran[STAGE_RECONSTRUCTION] && course->kept == STAGE_KMEANS &&
        course->ran[STAGE_STATISTICS])
        return report_add_note(report, "other statistics were no gain: they stay as they are");
    if (status || !course->ran[STAGE_RECONSTRUCTION])
        return status;
    if (course->kept == STAGE_RECONSTRUCTION)
        snprintf(text, sizeof text, "%zu layers reconstructed", c->layers);
    else
        snprintf(text, sizeof text, "reconstruction was no gain: tables are those of K-Means");
    return report_add_note(report, text);
}

/* The data's samples have to be in a random order: the first ones of a sorted one are of few
 * classes. */
static pal_status course_begin(course *course, compression *all, const method_settings *settings,
                               const pal_data *data)
{
    *course = (struct course){.calibration = {.compression = all, .settings = settings}};
    calibration *c = &course->calibration;
    const uint64_t count = pal_data_count(data);
    c->data = data;
    c->samples = settings->samples && settings->samples < count ? settings->samples : count;
    c->held_back = count - c->samples;
    if (c->held_back > settings->held_back)
        c->held_back = settings->held_back;
    if (c->samples == count || dataset_is_shuffled(data->set))
        return PAL_OK;
    uint64_t *order = mem_array((size_t)count, sizeof *order);
    if (!order)
        return fail_memory("calibration");
    for (uint64_t i = 0; i < count; i++)
        order[i] = i;
    shuffle_numbers(order, count, settings->seed, UINT64_MAX);
    pal_status status =
        data_select(data, order, c->samples + c->held_back, settings->seed, &course->drawn);
    c->data = course->drawn;
    free(order);
    return status;
}

static void course_end(course *course)
{
    pal_data_free(course->drawn);
}

pal_status layerwise_check(const compression *all, const method_settings *settings)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < all->model->weight_count; i++) {
        const target *t = &all->targets[i];
        if (settings->correct == CORRECT_SCALE && t->wanted && t->source == i &&
            !t->settings.per_channel_scale && !all->model->weights[i].pruned.mask)
            status = target_can_scale_channels(all, i);
    }
    return status ? fail_context(status, "correct scale") : PAL_OK;
}

pal_status layerwise_find(compression *all, const method_settings *settings, const pal_data *data)
{
    course course;
    pal_status status = course_begin(&course, all, settings, data);
    if (!status)
        status = run_all(&course, true);
    course_end(&course);
    return status;
}

pal_status layerwise_finish(compression *all, const method_settings *settings, const pal_data *data,
                            pal_report **out)
{
    course course;
    pal_status status = course_begin(&course, all, settings, data);
    if (!status)
        status = run_all(&course, settings->method == METHOD_LAYERWISE);
    all->note = note_all;
    all->note_of = &course;
    if (status)
        compression_abandon(all);
    else
        status = compression_end(all, out);
    course_end(&course);
    return status;
}

pal_status layerwise_compress(pal_model *model, const pal_options *options,
                              const method_settings *settings, const pal_data *data,
                              pal_progress progress, void *user, pal_report **out)
{
    compression all = {.model = model, .options = options, .progress = progress, .user = user};
    pal_status status = compression_begin(&all);
    if (status)
        return status;
    status = layerwise_check(&all, settings);
    if (!status)
        status = compression_cluster(&all);
    if (!status)
        return layerwise_finish(&all, settings, data, out);
    compression_abandon(&all);
    return status;
}
