/* Training of the example model: what it learns, what is written, and that a run which was
 * interrupted goes on as if it had not been. */
#include "testing.h"

#include <unistd.h>

#include "method/feed.h"
#include "method/method_options.h"

#define MODEL        EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx"
#define FOLDED_MODEL EXAMPLE_DIRECTORY "/fashion-mnist.onnx"
#define PACKAGE      EXAMPLE_DIRECTORY "/fashion-mnist.mlpackage"

enum { STEPS = 8, BATCH = 32 };

static pal_data *open_data_with(const char *split, const char *limit, const char *mean)
{
    pal_data_options *options;
    pal_data *data;
    assert_ok(pal_data_options_new(&options));
    assert_ok(pal_data_options_set(options, "split", split));
    assert_ok(pal_data_options_set(options, "limit", limit));
    assert_ok(pal_data_options_set(options, "mean", mean));
    assert_ok(pal_data_options_set(options, "std", "0.3530"));
    assert_ok(pal_data_open(EXAMPLE_DIRECTORY "/data", options, &data));
    pal_data_options_free(options);
    return data;
}

static pal_data *open_data(const char *split, const char *limit)
{
    return open_data_with(split, limit, "0.2860");
}

/* Two epochs of four steps from k-means, but for what `pairs` set; NULL at the end. */
static pal_method_options *recipe_with(const char *const *pairs)
{
    static const char *const usual[] = {"method", "dkm",        "batch", "32", "epochs",
                                        "2",      "validation", "0.25",  "lr", "0.01",
                                        "start",  "kmeans",     NULL};
    pal_method_options *options;
    assert_ok(pal_method_options_new(&options));
    for (size_t i = 0; usual[i]; i += 2)
        assert_ok(pal_method_options_set(options, usual[i], usual[i + 1]));
    for (size_t i = 0; pairs && pairs[i]; i += 2)
        assert_ok(pal_method_options_set(options, pairs[i], pairs[i + 1]));
    return options;
}

typedef struct run {
    pal_model *model;
    pal_options *options;
    pal_method_options *method;
    pal_data *data;
    pal_trainer *trainer;
} run;

static void run_begin(run *r, const char *model, const char *bits, const char *const *pairs)
{
    *r = (run){.method = recipe_with(pairs), .data = open_data("train", "171")};
    r->options = options_with((const char *const[]){"nbits", bits, "threads", "1", NULL});
    assert_ok(pal_model_open(model, &r->model));
    assert_ok(pal_trainer_new(r->model, r->options, r->method, r->data, &r->trainer));
}

static pal_training run_steps(run *r, uint64_t until)
{
    pal_training made = {0};
    while (!made.done && made.step < until)
        assert_ok(pal_trainer_step(r->trainer, &made));
    return made;
}

static void run_end(run *r)
{
    pal_trainer_free(r->trainer);
    pal_data_free(r->data);
    pal_method_options_free(r->method);
    pal_options_free(r->options);
    pal_model_free(r->model);
}

/* Palettizes, saves and ends. */
static void run_finish(run *r, const char *to)
{
    pal_report *report;
    assert_ok(pal_trainer_finish(r->trainer, &report));
    assert_ok(pal_model_save(r->model, to, NULL));
    pal_model *saved;
    assert_ok(pal_model_open(to, &saved));
    assert_true(assert_reported(report, saved) > 0);
    assert_non_null(strstr(pal_report_note(report, 0), "samples held back"));
    pal_model_free(saved);
    pal_report_free(report);
    run_end(r);
}

static double top1(const char *path)
{
    pal_model *model;
    pal_data *data = open_data("test", "400");
    pal_score score;
    assert_ok(pal_model_open(path, &model));
    assert_ok(pal_evaluate(model, NULL, data, NULL, NULL, NULL, &score));
    pal_model_free(model);
    pal_data_free(data);
    return score.top1;
}

/* ---------------------------------------------------------------- what it learns */

/* 128 samples and 8 steps give back most of what 2 bits take. */
static void learns(void **state)
{
    (void)state;
    static const char *const models[] = {MODEL, FOLDED_MODEL};
    for (int m = 0; m < 2; m++)
        for (int hard = 0; hard < 2; hard++) {
            run r;
            const char *to = in("trained.onnx");
            run_begin(&r, models[m], "2",
                      (const char *const[]){"assignment", hard ? "hard" : "soft", NULL});
            const pal_training made = run_steps(&r, 100);
            assert_true(made.done && made.step == STEPS && made.steps == STEPS);
            assert_true(made.validated && made.validation_top1 > 0);
            assert_true(pal_trainer_best_step(r.trainer) % 4 == 0);
            run_finish(&r, to);
            compress(models[m], in("kmeans.onnx"), (const char *const[]){"nbits", "2", NULL});
            assert_true(top1(to) > top1(in("kmeans.onnx")) + 2);
        }
}

/* Where the network is as close to the float model as is enough, no step is made, or no more; but
 * for labels, which may bring it further than that. */
static void close_enough(void **state)
{
    (void)state;
    static const char *const enough[] = {"0", "0.02", "1e-9", "0.02"};
    static const char *const bits[] = {"8", "8", "2", "8"};
    static const char *const distill[] = {"1", "1", "1", "0.5"};
    for (int c = 0; c < 4; c++) {
        run r;
        pal_report *report;
        run_begin(&r, FOLDED_MODEL, bits[c],
                  (const char *const[]){"enough", enough[c], "distill", distill[c], "start",
                                        "layerwise", NULL});
        const pal_training made = run_steps(&r, 100);
        assert_true(made.done && made.step == (c == 1 ? 0 : STEPS) && made.steps == made.step);
        assert_ok(pal_trainer_finish(r.trainer, &report));
        assert_true(!strstr(pal_report_note(report, 0), "less than 0.02") == (c != 1));
        pal_report_free(report);
        run_end(&r);
    }
}

/* After an epoch; a checkpoint of that time goes on to the same end. */
static void close_after_epochs(void **state)
{
    (void)state;
    const char *checkpoint = in("close");
    const char *const saving[] = {"enough", "0.1",        "distill",  "1", "epochs",
                                  "30",     "checkpoint", checkpoint, NULL};
    const char *const going_on[] = {"enough", "0.1",    "distill",  "1", "epochs",
                                    "30",     "resume", checkpoint, NULL};
    run r;
    run_begin(&r, FOLDED_MODEL, "2", saving);
    pal_training made = run_steps(&r, 1000);
    const uint64_t steps = made.step;
    assert_true(made.done && steps > 0 && steps % 4 == 0 && steps < 120 && made.steps == steps);
    run_finish(&r, in("close.onnx"));
    run_begin(&r, FOLDED_MODEL, "2", going_on);
    made = run_steps(&r, 1000);
    assert_true(made.done && made.step == steps && made.steps == steps);
    run_finish(&r, in("closed.onnx"));
    assert_same_files(in("close.onnx"), in("closed.onnx"));
}

/* A step of the whole batch and one of four micro-batches are the same, where no batch norm sees
 * the difference. */
static void micro_batches(void **state)
{
    (void)state;
    double losses[2], norms[2];
    for (int cut = 0; cut < 2; cut++) {
        run r;
        run_begin(&r, FOLDED_MODEL, "2",
                  (const char *const[]){"micro_batch", cut ? "8" : "0", NULL});
        pal_training made = run_steps(&r, 3);
        losses[cut] = made.loss;
        norms[cut] = made.gradient_norm;
        run_end(&r);
    }
    assert_true(fabs(losses[0] - losses[1]) < 1e-3 * losses[0]);
    assert_true(fabs(norms[0] - norms[1]) < 1e-2 * norms[0]);
}

/* Batch norms are written with the statistics of samples as training augments them: where the
 * weights do not move, they alone tell one augmentation from another. */
static void statistics_are_augmented(void **state)
{
    (void)state;
    static const char *const augment[] = {"none", "crop=8", "none"};
    static const char *const names[] = {"plain.onnx", "shifted.onnx", "again.onnx"};
    for (int c = 0; c < 3; c++) {
        run r;
        pal_report *report;
        run_begin(&r, MODEL, "4",
                  (const char *const[]){"augment", augment[c], "lr", "1e-12", "warmup", "0",
                                        "validation", "0", "epochs", "1", NULL});
        run_steps(&r, 100);
        assert_ok(pal_trainer_finish(r.trainer, &report));
        assert_ok(pal_model_save(r.model, in(names[c]), NULL));
        pal_report_free(report);
        run_end(&r);
    }
    assert_same_files(in("plain.onnx"), in("again.onnx"));
    assert_false(same_files(in("plain.onnx"), in("shifted.onnx")));
}

/* Packages hold float16 and a batch of one. */
static void packages(void **state)
{
    (void)state;
    run r;
    run_begin(&r, PACKAGE, "4", NULL);
    run_steps(&r, 2);
    run_finish(&r, in("trained.mlpackage"));
    assert_true(top1(in("trained.mlpackage")) > 50);
}

/* Every form of palette comes out as it was trained: groups on a middle axis, vectors, scales,
 * integer tables. */
static void forms(void **state)
{
    (void)state;
    static const char *const short_run[] = {"epochs", "1", NULL};
    static const char *const forms[][9] = {
        {"nbits", "3", "granularity", "per_grouped_channel", "group_size", "8", NULL},
        {"nbits", "4", "cluster_dim", "2", NULL},
        {"nbits", "4", "enable_per_channel_scale", "true", NULL},
        {"nbits", "4", "lut_dtype", "int8", NULL},
        {"nbits", "2", "channel_axis", "1", "granularity", "per_grouped_channel", NULL},
    };
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        run r = {.method = recipe_with(short_run), .data = open_data("train", "171")};
        r.options = options_with(forms[f]);
        assert_ok(pal_model_open(MODEL, &r.model));
        const pal_status status = pal_trainer_new(r.model, r.options, r.method, r.data, &r.trainer);
        if (status == PAL_ERROR_UNSUPPORTED) { /* the file's version cannot express it */
            run_end(&r);
            continue;
        }
        assert_ok(status);
        const pal_training made = run_steps(&r, 100);
        run_finish(&r, in("form.onnx"));
        /* The score of the file on what was held back is that of the hard network in training. */
        pal_method_options *method = recipe_with(short_run);
        pal_data *data = open_data("train", "171"), *held_back;
        pal_model *model;
        pal_score score;
        assert_ok(pal_method_held_back(data, method, &held_back));
        assert_int_equal(pal_data_count(held_back), 43);
        assert_ok(pal_model_open(in("form.onnx"), &model));
        assert_ok(pal_evaluate(model, NULL, held_back, NULL, NULL, NULL, &score));
        assert_true(score.top1 >= made.validation_top1 - 2.4);
        pal_model_free(model);
        pal_data_free(held_back);
        pal_data_free(data);
        pal_method_options_free(method);
    }
}

/* ---------------------------------------------------------------- where it begins */

/* Each start trains, and layer-wise reconstruction is better than k-means before a single step. */
static void starts(void **state)
{
    (void)state;
    static const char *const names[] = {"layerwise", "sensitive", "kmeans"};
    double scores[3];
    for (size_t s = 0; s < 3; s++) {
        run r;
        run_begin(&r, FOLDED_MODEL, "2", (const char *const[]){"start", names[s], NULL});
        run_finish(&r, in("start.onnx"));
        scores[s] = top1(in("start.onnx"));
        run_begin(&r, FOLDED_MODEL, "2", (const char *const[]){"start", names[s], NULL});
        const pal_training made = run_steps(&r, 1);
        assert_true(isfinite(made.loss));
        run_end(&r);
    }
    assert_true(scores[0] > scores[2] + 2);
    assert_true(scores[0] > scores[1]);
}

/* Training that only does harm ends with what it began with. */
static void never_worse(void **state)
{
    (void)state;
    static const char *const models[] = {MODEL, FOLDED_MODEL};
    static const char *const starts[] = {"kmeans", "layerwise"};
    for (int m = 0; m < 2; m++) {
        const char *const harm[] = {"start", starts[m], "lr", "3", "warmup", "0", NULL};
        run r;
        run_begin(&r, models[m], "2", harm);
        run_finish(&r, in("begun.onnx"));
        run_begin(&r, models[m], "2", harm);
        run_steps(&r, 100);
        assert_int_equal(pal_trainer_best_step(r.trainer), 0);
        run_finish(&r, in("harmed.onnx"));
        assert_same_files(in("begun.onnx"), in("harmed.onnx"));
    }
}

/* ---------------------------------------------------------------- interrupted */

/* Stopped after each of these steps and resumed, training gives the file that it gives in one go.
 */
static void check_resumed(const char *start, const uint64_t *stops, size_t count)
{
    const char *checkpoint = in("checkpoint");
    const char *const whole[] = {"augment", "flip,crop=2", "optimizer", "adamw", "lr",
                                 "0.001",   "start",       start,       NULL};
    const char *const saving[] = {
        "augment",    "flip,crop=2", "optimizer",        "adamw", "lr", "0.001", "start", start,
        "checkpoint", checkpoint,    "checkpoint_steps", "1",     NULL};
    const char *const going_on[] = {"augment", "flip,crop=2", "optimizer", "adamw",
                                    "lr",      "0.001",       "start",     start,
                                    "resume",  checkpoint,    NULL};
    run r;
    run_begin(&r, MODEL, "2", whole);
    run_steps(&r, 100);
    run_finish(&r, in("whole.onnx"));
    for (size_t i = 0; i < count; i++) {
        run_begin(&r, MODEL, "2", saving);
        run_steps(&r, stops[i]);
        run_end(&r);
        run_begin(&r, MODEL, "2", going_on);
        run_steps(&r, 100);
        run_finish(&r, in("resumed.onnx"));
        assert_same_files(in("whole.onnx"), in("resumed.onnx"));
    }
}

static const char *const scaled[] = {"nbits", "2", "enable_per_channel_scale", "true", NULL};
static const char *const scaled_inputs[] = {
    "nbits", "2", "enable_per_channel_scale", "true", "channel_axis", "1", NULL};

static void check_another_run(const char *const *pairs, pal_data *data, const char *const *options)
{
    run r = {.method = recipe_with(pairs), .data = data};
    r.options = options_with(options);
    assert_ok(pal_model_open(MODEL, &r.model));
    assert_fails(pal_trainer_new(r.model, r.options, r.method, r.data, &r.trainer),
                 PAL_ERROR_ARGUMENT, "another run");
    run_end(&r);
}

static void resumed(void **state)
{
    (void)state;
    check_resumed("layerwise", (const uint64_t[]){6}, 1);
    check_resumed("kmeans", (const uint64_t[]){1, 4, STEPS}, 3); /* within epochs, and at ends */
    const char *checkpoint = in("checkpoint");
    run r;
    /* Another recipe is another run. */
    const char *const other[] = {"resume", checkpoint, NULL};
    check_another_run(other, open_data("train", "171"), scaled);
    /* So are as many samples that are others, or that are brought into another form, and scales of
     * other channels. */
    const char *const saving[] = {"checkpoint", checkpoint, "checkpoint_steps", "1", NULL};
    r = (run){.method = recipe_with(saving), .data = open_data("train", "171")};
    r.options = options_with(scaled);
    assert_ok(pal_model_open(MODEL, &r.model));
    assert_ok(pal_trainer_new(r.model, r.options, r.method, r.data, &r.trainer));
    run_steps(&r, 1);
    run_end(&r);
    check_another_run(other, open_data("test", "171"), scaled);
    check_another_run(other, open_data_with("train", "171", "0.2"), scaled);
    check_another_run(other, open_data("train", "171"), scaled_inputs);
}

static bool count_call(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)done, (void)total, (void)what;
    ++*(int *)user;
    return true;
}

/* What cannot be written is found before the work, not after an epoch of it. */
static void unwritable(void **state)
{
    (void)state;
    static const char *const options[] = {"checkpoint", "log"};
    char path[4200];
    int calls = 0;
    snprintf(path, sizeof path, "%s/nowhere/file", directory);
    run sensitive = {.data = open_data("train", "32")};
    sensitive.options = options_with((const char *const[]){"nbits", "2", NULL});
    sensitive.method =
        recipe_with((const char *const[]){"method", "sensitive", "save_sensitivity", path, NULL});
    assert_ok(pal_model_open(FOLDED_MODEL, &sensitive.model));
    assert_fails(pal_compress_method(sensitive.model, sensitive.options, sensitive.method,
                                     sensitive.data, count_call, &calls, NULL),
                 PAL_ERROR_IO, "nowhere");
    assert_int_equal(calls, 0);
    run_end(&sensitive);
    for (int kind = 0; kind < 2; kind++) {
        const char *const pairs[] = {options[kind], path, NULL};
        run r = {.method = recipe_with(pairs), .data = open_data("train", "171")};
        r.options = options_with((const char *const[]){"nbits", "2", NULL});
        assert_ok(pal_model_open(MODEL, &r.model));
        assert_fails(pal_trainer_new(r.model, r.options, r.method, r.data, &r.trainer),
                     PAL_ERROR_IO, "nowhere");
        assert_null(r.trainer);
        run_end(&r);
    }
}

/* What training begins with fails for its weights, which is after the files were looked at: none is
 * left, and one that is there is as it was. */
static void files_before_work(void **state)
{
    (void)state;
    const char *checkpoint = in("no.checkpoint"), *log = in("no.csv"), *kept = in("kept.csv");
    write_text(kept, "kept");
    for (int there = 0; there < 2; there++) {
        const char *const pairs[] = {"checkpoint", checkpoint, "log", there ? kept : log, NULL};
        run r = {.method = recipe_with(pairs), .data = open_data("train", "171")};
        r.options = options_with((const char *const[]){"mode", "uniform", "nbits", "2", NULL});
        assert_ok(pal_model_open(MODEL, &r.model));
        assert_fails(pal_trainer_new(r.model, r.options, r.method, r.data, &r.trainer),
                     PAL_ERROR_UNSUPPORTED, "mode kmeans");
        run_end(&r);
    }
    assert_int_equal(access(checkpoint, F_OK), -1);
    assert_int_equal(access(log, F_OK), -1);
    write_text(log, "kept");
    assert_same_files(kept, log);
}

/* What the way back computes again leaves the file as it is, and a run may go on with another
 * choice of it. */
static void recomputed(void **state)
{
    (void)state;
    static const char *const kinds[] = {"none", "cheap", "all"};
    const char *checkpoint = in("recomputed");
    run r;
    for (int kind = 0; kind < 3; kind++) {
        run_begin(&r, MODEL, "2",
                  (const char *const[]){"recompute", kinds[kind], "checkpoint", checkpoint,
                                        "checkpoint_steps", "3", NULL});
        run_steps(&r, 3);
        if (kind) {
            run_end(&r);
            run_begin(
                &r, MODEL, "2",
                (const char *const[]){"recompute", kinds[3 - kind], "resume", checkpoint, NULL});
        }
        run_steps(&r, 100);
        run_finish(&r, kind ? in("recomputed.onnx") : in("kept.onnx"));
        if (kind)
            assert_same_files(in("kept.onnx"), in("recomputed.onnx"));
    }
}

static void not_finite(void **state)
{
    (void)state;
    const char *checkpoint = in("good");
    run r;
    run_begin(&r, FOLDED_MODEL, "2",
              (const char *const[]){"lr", "999", "warmup", "0", "clip", "0", "checkpoint",
                                    checkpoint, "checkpoint_steps", "1", "epochs", "20", NULL});
    pal_status status = PAL_OK;
    pal_training made = {0};
    while (!status && !made.done)
        status = pal_trainer_step(r.trainer, &made);
    assert_int_equal(status, PAL_ERROR_VALUE);
    assert_non_null(strstr(pal_error_message(), "lower lr"));
    assert_non_null(strstr(pal_error_message(), checkpoint));
    assert_int_equal(access(checkpoint, R_OK), 0);
    run_end(&r);
}

static void refused(void **state)
{
    (void)state;
    pal_method_options *method = recipe_with((const char *const[]){"augment", "flop", NULL});
    pal_options *options = options_with((const char *const[]){"nbits", "2", NULL});
    pal_data *data = open_data("train", "171");
    pal_model *model;
    pal_trainer *trainer = NULL;
    assert_ok(pal_model_open(MODEL, &model));
    assert_fails(pal_trainer_new(model, options, method, NULL, &trainer), PAL_ERROR_ARGUMENT,
                 "data");
    assert_fails(pal_compress_method(model, options, method, NULL, NULL, NULL, NULL),
                 PAL_ERROR_ARGUMENT, "data");
    assert_fails(pal_trainer_new(model, options, method, data, &trainer), PAL_ERROR_ARGUMENT,
                 "flop");
    assert_ok(pal_method_options_set(method, "augment", "none"));
    assert_ok(pal_method_options_set(method, "checkpoint_steps", "2"));
    assert_fails(pal_trainer_new(model, options, method, data, &trainer), PAL_ERROR_ARGUMENT,
                 "only with checkpoint");
    assert_ok(pal_method_options_set(method, "checkpoint_steps", "0"));
    pal_options_free(options);
    options = options_with((const char *const[]){"mode", "uniform", "nbits", "2", NULL});
    assert_fails(pal_trainer_new(model, options, method, data, &trainer), PAL_ERROR_UNSUPPORTED,
                 "mode kmeans");
    assert_null(trainer);
    pal_options_free(options);
    pal_method_options_free(method);
    pal_data_free(data);
    pal_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns),
        cmocka_unit_test(close_enough),
        cmocka_unit_test(close_after_epochs),
        cmocka_unit_test(micro_batches),
        cmocka_unit_test(statistics_are_augmented),
        cmocka_unit_test(packages),
        cmocka_unit_test(forms),
        cmocka_unit_test(resumed),
        cmocka_unit_test(unwritable),
        cmocka_unit_test(files_before_work),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(refused),
        cmocka_unit_test(starts),
        cmocka_unit_test(never_worse),
        cmocka_unit_test(recomputed),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
