/* Training with palettized weights, step by step. trainer.h tells how the work is cut. */
#include "method/train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "engine/engine.h"
#include "engine/session.h"
#include "method/train/samples.h"
#include "method/train/schedule.h"
#include "method/train/start.h"

#define DEFAULT_BATCH 128

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---------------------------------------------------------------- prepare */

/* A palettized constant that was never trained changes all the same if the file has its palette
 * for a weight that does, too. */
static void follow_palettes(const compression *c, weight_role *roles)
{
    const size_t count = c->model->weight_count;
    for (size_t w = 0; w < count; w++) {
        weight_role *shared = &roles[c->targets[w].source];
        if (c->targets[w].wanted && roles[w] != ROLE_FIXED && *shared != ROLE_FACTOR)
            *shared = roles[w];
    }
    for (size_t w = 0; w < count; w++)
        if (c->targets[w].wanted && roles[w] == ROLE_FIXED)
            roles[w] = roles[c->targets[w].source];
}

/* Which weights change: those that training may change, as far as they are finite. Of others that
 * are palettized the network has the palettes. */
static pal_status plan_network(pal_trainer *it, weight_role **roles)
{
    const pal_model *model = it->compression.model;
    bool *changes = mem_zeroed(model->weight_count, sizeof *changes);
    *roles = mem_zeroed(model->weight_count, sizeof **roles);
    pal_status status = changes && *roles ? PAL_OK : fail_memory("training");
    if (!status)
        status = trainable_roles(model, session_graph(it->network.teacher), *roles);
    if (!status)
        follow_palettes(&it->compression, *roles);
    for (size_t w = 0; !status && w < model->weight_count; w++)
        changes[w] = (*roles)[w] != ROLE_FIXED;
    if (!status)
        status =
            network_plan(&it->network, it->feed, &it->compression, changes, &it->recipe, it->seed);
    free(changes);
    return status;
}

/* The feed of micro-batches, and how many make a step. */
static pal_status open_feeds(pal_trainer *it, size_t asked)
{
    const size_t batch = asked ? asked : DEFAULT_BATCH;
    const size_t micro = it->recipe.micro_batch && it->recipe.micro_batch < batch
                             ? (size_t)it->recipe.micro_batch
                             : batch;
    const int threads = it->compression.thread_count;
    size_t inputs;
    pal_status status = feed_open(it->training, it->network.teacher, micro, threads, &it->feed);
    if (!status && it->held_back)
        status = feed_open(it->held_back, it->network.teacher, micro < 64 ? micro : 64, threads,
                           &it->held_back_feed);
    if (status)
        return status;
    const uint64_t samples = pal_data_count(it->training);
    const size_t actual = (size_t)feed_inputs(it->feed, &inputs)[0].shape[0];
    it->micro_batches = (batch + actual - 1) / actual;
    if (it->micro_batches > samples / actual)
        it->micro_batches = samples >= actual ? (size_t)(samples / actual) : 1;
    it->batch = actual * it->micro_batches;
    it->epoch_steps = samples / it->batch ? samples / it->batch : 1;
    it->steps = it->recipe.epochs * it->epoch_steps;
    return PAL_OK;
}

/* Keeps the network as it is now if it is as good as the best so far, within chance. */
static pal_status keep(pal_trainer *it, const network_score *score)
{
    pal_status status = PAL_OK;
    const bool keeps = !it->best.any || score->quality >= it->best.least;
    const double least = score->quality - score->chance;
    it->best.least = it->best.any ? fmax(it->best.least, least) : least;
    if (keeps) {
        status = result_keep(&it->best, &it->parameters, &it->statistics);
        it->best.step = it->step;
    }
    return status;
}

/* No step follows where the network is as good as the float one, if that is all that training could
 * make of it: labels may bring it further. */
static void end_if_enough(pal_trainer *it, const network_score *score)
{
    if (score->distance < it->enough) /* not where it is NaN */
        it->steps = it->step;
}

/* Scores what training begins with. */
static pal_status keep_start(pal_trainer *it)
{
    network_score score;
    pal_status status = result_show(&it->parameters);
    if (!status)
        status = network_evaluate(&it->network, it->held_back_feed, &it->parameters,
                                  &it->statistics, &score);
    if (!status)
        status = keep(it, &score);
    if (!status)
        end_if_enough(it, &score);
    return status;
}

/* Files that cannot be written are found before the work that they are for. */
static pal_status check_outputs(const recipe *recipe)
{
    if (recipe->checkpoint_steps && !*recipe->checkpoint)
        return fail(PAL_ERROR_ARGUMENT,
                    "checkpoint_steps: only with checkpoint, the file to write");
    pal_status status = *recipe->checkpoint ? stage_check_file(recipe->checkpoint) : PAL_OK;
    return status ? status : training_log_check(recipe->log);
}

static pal_status prepare(pal_trainer *it, const method_settings *method, const pal_data *data)
{
    weight_role *roles = NULL;
    const char *output = *method->output ? method->output : NULL;
    pal_status status = augmentation_parse(it->recipe.augment, &it->augmentation);
    if (!status)
        status = check_outputs(&it->recipe);
    if (!status)
        status =
            samples_split(data, it->recipe.validation, it->seed, &it->training, &it->held_back);
    if (!status) {
        status = start_compression(&it->compression, method, it->training);
        it->compressing = !status;
    }
    if (!status)
        status =
            network_open(it->compression.model, output, it->compression.thread_count, &it->network);
    if (!status)
        status = open_feeds(it, (size_t)method->batch);
    if (!status)
        status = plan_network(it, &roles);
    if (!status && !augmentation_is_any(&it->augmentation))
        status = network_remember(&it->network, it->feed, it->training);
    if (!status)
        status = statistics_new(&it->compression, it->network.student, &it->statistics);
    if (!status) {
        start_drop_fixed(&it->compression, roles, &it->statistics);
        status = parameters_new(&it->compression, it->network.student, roles, &it->recipe,
                                it->micro_batches, &it->parameters);
    }
    if (!status)
        status = network_fix_variables(&it->network, &it->compression, &it->parameters);
    if (!status)
        status = result_new(&it->parameters, &it->statistics, &it->best);
    if (!status)
        status = trainer_state_new(it);
    if (!status && *it->recipe.resume)
        status = trainer_restore(it);
    if (!status)
        status = training_log_open(it->recipe.log, it->step, &it->log);
    if (!status && !it->step && it->held_back)
        status = keep_start(it);
    free(roles);
    return status;
}

pal_status pal_trainer_new(pal_model *model, const pal_options *options,
                           const pal_method_options *method, const pal_data *data,
                           pal_trainer **out)
{
    if (!model || !method || !data)
        return fail(PAL_ERROR_ARGUMENT, "training needs a model, its method's options and data");
    pal_trainer *it = mem_zeroed(1, sizeof *it);
    if (!it)
        return fail_memory("training");
    it->compression = (compression){.model = model, .options = options};
    it->recipe = method->settings.recipe;
    it->seed = it->augmentation.seed = method->settings.seed;
    it->enough = method->settings.enough;
    it->saved_step = UINT64_MAX;
    pal_status status = pal_options_check(options);
    const int before = engine_set_threads(options_threads(options));
    if (!status)
        status = prepare(it, &method->settings, data);
    engine_set_threads(before);
    if (status) {
        pal_trainer_free(it);
        return status;
    }
    it->started = now();
    it->started_step = it->step;
    *out = it;
    return PAL_OK;
}

void pal_trainer_free(pal_trainer *it)
{
    if (!it)
        return;
    training_log_close(&it->log);
    result_free(&it->best);
    statistics_free(&it->statistics);
    parameters_free(&it->parameters);
    network_free(&it->network);
    feed_close(it->feed);
    feed_close(it->held_back_feed);
    pal_data_free(it->training);
    pal_data_free(it->held_back);
    if (it->compressing)
        compression_abandon(&it->compression);
    free(it->centroids);
    free(it);
}

/* ---------------------------------------------------------------- at the end of an epoch */

static const augmentation *augmentation_of(const pal_trainer *it)
{
    return augmentation_is_any(&it->augmentation) ? &it->augmentation : NULL;
}

/* Takes the statistics of batch norms from the hard network on samples of training, augmented as
 * training has them: plain ones that the network has learned by heart are no likeness of those that
 * it will meet (on ResNet20 at 3 bit, with flips and shifts, 86.5 % of the test images instead
 * of 87.6). */
static pal_status measure_statistics(pal_trainer *it, uint64_t epoch)
{
    feed_batch batch;
    pal_status status = feed_begin(it->feed, epoch, 0, augmentation_of(it));
    statistics_begin(&it->statistics);
    for (uint64_t b = 0; !status && b < it->recipe.statistics; b++) {
        status = feed_next(it->feed, &batch);
        if (status || batch.count < (size_t)batch.inputs[0].shape[0])
            break;
        status = network_run(&it->network, &batch, b);
        if (!status)
            statistics_add(&it->statistics, it->network.student);
    }
    statistics_take(&it->statistics);
    return status;
}

/* Makes the network hard and scores it; the last one is kept where nothing is held back. */
static pal_status end_epoch(pal_trainer *it, uint64_t epoch, network_score *score)
{
    pal_status status = result_show(&it->parameters);
    if (!status && it->statistics.count && it->recipe.statistics)
        status = measure_statistics(it, epoch + 1);
    if (!status && it->held_back)
        status = network_evaluate(&it->network, it->held_back_feed, &it->parameters,
                                  &it->statistics, score);
    it->positioned = false;
    return status ? status : keep(it, score);
}

/* ---------------------------------------------------------------- a step */

/* Gradients of the whole batch, in the parameters; the loss. */
static pal_status learn(pal_trainer *it, uint64_t epoch, double *loss)
{
    feed_batch batch;
    pal_status status = PAL_OK;
    *loss = 0;
    if (!it->positioned)
        status = feed_begin(it->feed, epoch, it->step % it->epoch_steps * it->micro_batches,
                            augmentation_of(it));
    it->positioned = !status;
    for (size_t m = 0; !status && m < it->micro_batches; m++) {
        status = feed_next(it->feed, &batch);
        if (!status)
            status = network_run(&it->network, &batch, it->step * it->micro_batches + m);
        if (!status)
            status = network_learn(&it->network, &batch, (double)it->batch, loss);
        if (status)
            break;
        parameters_gather(&it->parameters, m == 0);
        statistics_follow(&it->statistics, it->network.student);
    }
    return status;
}

static pal_status not_finite(const pal_trainer *it, const char *what, double lr)
{
    char saved[4300] = "";
    if (it->saved_step != UINT64_MAX)
        snprintf(saved, sizeof saved, "; %s holds step %llu", it->recipe.checkpoint,
                 (unsigned long long)it->saved_step);
    return fail(PAL_ERROR_VALUE,
                "step %llu: %s is not a finite number at a learning rate of %.3g: try a lower "
                "lr, a longer warmup, or a smaller clip%s",
                (unsigned long long)it->step + 1, what, lr, saved);
}

static pal_status make_step(pal_trainer *it, pal_training *out)
{
    const recipe *recipe = &it->recipe;
    const uint64_t epoch = it->step / it->epoch_steps;
    const double lr = schedule_lr(recipe, it->step, it->steps);
    const double tau = schedule_tau(recipe, it->step, it->steps);
    double loss, norm = 0;
    /* The layers refuse weights and gradients that are not finite in their own words. */
    pal_status status = parameters_show(&it->parameters, tau);
    if (status == PAL_ERROR_VALUE)
        status = not_finite(it, "a weight", lr);
    if (!status)
        status = learn(it, epoch, &loss);
    if (!status && !isfinite(loss))
        status = not_finite(it, "the loss", lr);
    if (!status) {
        status = parameters_lead_back(&it->parameters);
        if (status == PAL_ERROR_VALUE)
            status = not_finite(it, "a gradient", lr);
    }
    if (!status) {
        norm = parameters_norm(&it->parameters);
        if (!isfinite(norm))
            status = not_finite(it, "a gradient", lr);
    }
    if (status)
        return status;
    const double scale = recipe->clip > 0 && norm > recipe->clip ? recipe->clip / norm : 1;
    parameters_update(&it->parameters, recipe, lr, it->step, scale);
    it->step++;
    const double seconds = now() - it->started;
    const double made = (double)(it->step - it->started_step);
    *out = (pal_training){.step = it->step,
                          .steps = it->steps,
                          .epoch = epoch,
                          .loss = loss,
                          .lr = lr,
                          .tau = tau,
                          .gradient_norm = norm,
                          .seconds = seconds,
                          .samples_per_second = made * (double)it->batch / fmax(seconds, 1e-9),
                          .seconds_left = seconds / made * (double)(it->steps - it->step),
                          .validation_loss = NAN,
                          .validation_top1 = NAN};
    return PAL_OK;
}

static pal_status log_step(pal_trainer *it, const pal_training *made)
{
    return training_log_add(&it->log, &(log_line){.step = made->step,
                                                  .epoch = made->epoch,
                                                  .loss = made->loss,
                                                  .lr = made->lr,
                                                  .tau = made->tau,
                                                  .gradient_norm = made->gradient_norm,
                                                  .samples_per_second = made->samples_per_second,
                                                  .seconds = made->seconds,
                                                  .validation_loss = made->validation_loss,
                                                  .validation_top1 = made->validation_top1});
}

pal_status pal_trainer_step(pal_trainer *it, pal_training *out)
{
    pal_training made = {.step = it->step, .steps = it->steps, .done = true};
    pal_status status = PAL_OK;
    if (it->step == it->steps) {
        *out = made;
        return PAL_OK;
    }
    const int before = engine_set_threads(it->compression.thread_count);
    status = make_step(it, &made);
    const bool epoch_ends = it->step % it->epoch_steps == 0;
    if (!status && epoch_ends) {
        network_score score = {.loss = NAN, .distance = NAN};
        status = end_epoch(it, made.epoch, &score);
        if (!status)
            end_if_enough(it, &score);
        made.steps = it->steps;
        if (it->held_back) {
            made.validated = true;
            made.validation_loss = score.loss;
            made.validation_top1 = score.labelled ? score.top1 : NAN;
        }
    }
    engine_set_threads(before);
    made.done = it->step == it->steps;
    if (!status)
        status = log_step(it, &made);
    const uint64_t every = it->recipe.checkpoint_steps;
    if (!status && *it->recipe.checkpoint && (epoch_ends || (every && it->step % every == 0)))
        status = trainer_save(it);
    if (!status)
        *out = made;
    return status;
}

/* ---------------------------------------------------------------- finish */

/* Which of the networks that were scored has been written. */
static pal_status note_best(const void *of, pal_report *report)
{
    const pal_trainer *it = of;
    char text[160];
    if (!it->held_back)
        return PAL_OK;
    const unsigned long long samples = pal_data_count(it->held_back);
    if (!it->steps)
        snprintf(text, sizeof text,
                 "what training would begin with is less than %g from the float model on %llu "
                 "samples held back: it is written",
                 it->enough, samples);
    else if (it->best.step)
        snprintf(text, sizeof text,
                 "the best on %llu samples held back was after step %llu of %llu: it is written",
                 samples, (unsigned long long)it->best.step, (unsigned long long)it->steps);
    else
        snprintf(text, sizeof text,
                 "training was no gain on %llu samples held back: what it began with is written",
                 samples);
    return report_add_note(report, text);
}

pal_status pal_trainer_finish(pal_trainer *it, pal_report **report)
{
    pal_status status = PAL_OK;
    if (!it->compressing)
        return fail(PAL_ERROR_ARGUMENT, "training is finished already");
    const int before = engine_set_threads(it->compression.thread_count);
    if (!it->best.any || it->step % it->epoch_steps) { /* not scored at this step */
        network_score score = {0};
        status = parameters_show(&it->parameters, schedule_tau(&it->recipe, it->step, it->steps));
        if (!status)
            status = end_epoch(it, it->step / it->epoch_steps, &score);
    }
    engine_set_threads(before);
    if (!status)
        status = result_apply(&it->best, &it->parameters, &it->statistics, &it->compression);
    if (status)
        return status;
    it->compressing = false;
    it->compression.note = note_best;
    it->compression.note_of = it;
    return compression_end(&it->compression, report);
}

uint64_t pal_trainer_best_step(const pal_trainer *it)
{
    return it->best.any ? it->best.step : 0;
}

/* ---------------------------------------------------------------- all at once */

static pal_status run_all(pal_trainer *it, pal_progress progress, void *user)
{
    pal_status status = PAL_OK;
    pal_training made = {0};
    char what[160];
    while (!status && !made.done) {
        status = pal_trainer_step(it, &made);
        if (status || !progress || !made.step)
            continue;
        snprintf(what, sizeof what, "step %llu of %llu, loss %.4f, lr %.2g, %.0f samples/s",
                 (unsigned long long)made.step, (unsigned long long)made.steps, made.loss, made.lr,
                 made.samples_per_second);
        if (!progress(user, made.step, made.steps, what))
            status = fail(PAL_ERROR_CANCELLED, "cancelled");
    }
    return status;
}

pal_status train(pal_model *model, const pal_options *options, const pal_method_options *method,
                 const pal_data *data, pal_progress progress, void *user, pal_report **report)
{
    pal_trainer *it = NULL;
    if (!data)
        return fail(PAL_ERROR_ARGUMENT, "method dkm needs data to train on");
    pal_status status = pal_trainer_new(model, options, method, data, &it);
    if (!status)
        status = run_all(it, progress, user);
    if (!status)
        status = pal_trainer_finish(it, report);
    pal_trainer_free(it);
    return status;
}

pal_status pal_method_held_back(const pal_data *data, const pal_method_options *method,
                                pal_data **out)
{
    *out = NULL;
    if (method->settings.method != METHOD_DKM)
        return PAL_OK;
    return samples_split(data, method->settings.recipe.validation, method->settings.seed, NULL,
                         out);
}
