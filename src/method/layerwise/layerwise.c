#include "method/layerwise/layerwise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scratch.h"
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
            *t->plan.remark = 0;
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
    const uint64_t samples = c->samples, held_back = pal_data_count(all) - samples;
    pal_data *part = NULL;
    if (held_back < WALK_MOST_BATCH)
        return run_stage(course, STAGE_KMEANS);
    pal_status status = data_part(all, samples, held_back, &part);
    if (!status) {
        c->data = part;
        c->samples = held_back;
        status = run_stage(course, STAGE_KMEANS);
        course->scores[STAGE_KMEANS].held_back = true;
    }
    c->data = all;
    c->samples = samples;
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
        *t->plan.remark = 0;
    }
}

/* Reconstruction takes K-Means and statistics for granted only where it is better than they are,
 * and is spared where these are as good as the float network. */
static pal_status run_all(course *course, bool reconstructs)
{
    calibration *c = &course->calibration;
    const bool corrects = c->settings->correct != CORRECT_OFF;
    pal_status status = run_kmeans(course);
    if (!status && corrects)
        status = run_stage(course, STAGE_STATISTICS);
    if (corrects && course->scores[STAGE_STATISTICS].distance < c->settings->enough)
        reconstructs = false;
    const stage best = reconstructs ? STAGE_RECONSTRUCTION : STAGE_STATISTICS;
    if (!status && reconstructs)
        status = run_stage(course, STAGE_RECONSTRUCTION);
    course->kept = best;
    if (!status && !reconstructs && c->settings->correct == CORRECT_AUTO &&
        course->scores[STAGE_STATISTICS].distance > course->scores[STAGE_KMEANS].distance) {
        course->kept = STAGE_KMEANS;
        drop_adjustments(c->compression);
    }
    const stage other = corrects ? STAGE_STATISTICS : STAGE_KMEANS;
    if (status || !reconstructs || course->scores[best].error <= course->scores[other].error)
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

static pal_status note_all(const course *course, pal_report *report)
{
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

static course course_of(compression *all, const method_settings *settings, const pal_data *data)
{
    course course = {.calibration = {.compression = all, .settings = settings, .data = data}};
    const uint64_t count = pal_data_count(data);
    course.calibration.samples =
        settings->samples && settings->samples < count ? settings->samples : count;
    return course;
}

pal_status layerwise_find(compression *all, const method_settings *settings, const pal_data *data)
{
    course course = course_of(all, settings, data);
    return run_all(&course, true);
}

pal_status layerwise_finish(compression *all, const method_settings *settings, const pal_data *data,
                            pal_report **out)
{
    course course = course_of(all, settings, data);
    pal_status status = run_all(&course, settings->method == METHOD_LAYERWISE);
    if (status) {
        compression_abandon(all);
        return status;
    }
    status = compression_end(all, out);
    return status || !out ? status : note_all(&course, *out);
}

pal_status layerwise_compress(pal_model *model, const pal_options *options,
                              const method_settings *settings, const pal_data *data,
                              pal_progress progress, void *user, pal_report **out)
{
    compression all = {.model = model, .options = options, .progress = progress, .user = user};
    pal_status status = compression_begin(&all);
    if (status)
        return status;
    status = compression_cluster(&all);
    if (!status)
        return layerwise_finish(&all, settings, data, out);
    compression_abandon(&all);
    return status;
}
