/* The parts of training: optimizers and schedules against PyTorch, the loss against its definition
 * and finite differences, checkpoints and logs. */
#include "testing.h"

#include "method/train/answers.h"
#include "method/train/checkpoint.h"
#include "method/train/objective.h"
#include "method/train/optimizer.h"
#include "method/train/schedule.h"
#include "method/train/training_log.h"
#include "optimizer_reference.h"

/* ---------------------------------------------------------------- optimizers, schedules */

static void optimizers(void **state)
{
    (void)state;
    static const struct {
        optimizer_kind kind;
        double momentum;
        const float *expected;
    } cases[] = {
        {OPTIMIZER_SGD, 0, reference_sgd},
        {OPTIMIZER_SGD, 0.9, reference_nesterov},
        {OPTIMIZER_ADAMW, 0.9, reference_adamw},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float w[5] = {-1, -0.5F, 0, 0.5F, 1}, first[5] = {0}, second[5] = {0};
        const size_t slots = optimizer_slots(cases[c].kind, cases[c].momentum);
        assert_int_equal(slots, c);
        float *const kept[] = {slots > 0 ? first : NULL, slots > 1 ? second : NULL};
        for (int step = 0; step < REFERENCE_STEPS; step++) {
            const optimizer it = {.kind = cases[c].kind,
                                  .momentum = cases[c].momentum,
                                  .decay = 0.01,
                                  .lr = 0.1,
                                  .step = (uint64_t)step};
            optimizer_update(&it, 5, w, reference_gradients[step], kept);
        }
        for (int i = 0; i < 5; i++)
            assert_true(fabsf(w[i] - cases[c].expected[i]) < 2e-6F);
    }
}

static void schedules(void **state)
{
    (void)state;
    const recipe cosine = {.schedule = SCHEDULE_COSINE, .lr = 1};
    const recipe cycle = {.schedule = SCHEDULE_ONE_CYCLE, .lr = 1};
    for (uint64_t step = 0; step < 20; step++) {
        assert_true(fabs(schedule_lr(&cosine, step, 20) - reference_cosine[step]) < 1e-8);
        assert_true(fabs(schedule_lr(&cycle, step, 20) - reference_one_cycle[step]) < 1e-8);
    }
    const recipe warm = {.schedule = SCHEDULE_CONSTANT, .lr = 2, .warmup = 0.5};
    assert_true(schedule_lr(&warm, 0, 20) == 0.2 && schedule_lr(&warm, 4, 20) == 1);
    assert_true(schedule_lr(&warm, 9, 20) == 2 && schedule_lr(&warm, 19, 20) == 2);
    const recipe fall = {.schedule = SCHEDULE_STEP, .lr = 1};
    assert_true(schedule_lr(&fall, 9, 20) == 1 && schedule_lr(&fall, 10, 20) == 0.1);
    assert_true(schedule_lr(&fall, 15, 20) == 0.01);
    const recipe annealed = {.tau = 4, .tau_end = 0.25};
    assert_true(schedule_tau(&annealed, 0, 5) == 4);
    assert_true(fabs(schedule_tau(&annealed, 2, 5) - 1) < 1e-12);
    assert_true(fabs(schedule_tau(&annealed, 4, 5) - 0.25) < 1e-12);
}

/* ---------------------------------------------------------------- the loss */

enum { PLACES = 2, CLASSES = 4, EACH = PLACES * CLASSES };

static double softened(const double *scores, int c, double t)
{
    double sum = 0;
    for (int i = 0; i < CLASSES; i++)
        sum += exp(scores[i] / t);
    return exp(scores[c] / t) / sum;
}

/* From the definition in objective.h, on logarithms of probabilities or plain scores. */
static double by_definition(const objective *o, const double *scores, const double *teacher,
                            const int64_t *targets)
{
    double total = 0;
    int counted = 0;
    for (int p = 0; p < PLACES; p++) {
        const double *x = scores + p * CLASSES, *y = teacher ? teacher + p * CLASSES : NULL;
        const bool labelled = targets && targets[p] >= 0;
        const double share = !labelled ? 1 : y ? o->distill : 0, t = o->temperature;
        counted += labelled || y;
        for (int c = 0; c < CLASSES; c++) {
            const double wanted =
                o->smoothing / CLASSES + (labelled && c == targets[p] ? 1 - o->smoothing : 0);
            if (labelled)
                total -= (1 - share) * wanted * log(softened(x, c, 1));
            if (y)
                total +=
                    share * t * t * softened(y, c, t) * log(softened(y, c, t) / softened(x, c, t));
        }
    }
    return total / counted;
}

/* Scores of this kind that stand for the same as plain ones. */
static void as_kind(score_kind kind, const double *plain, float *out)
{
    for (int p = 0; p < PLACES; p++)
        for (int c = 0; c < CLASSES; c++) {
            const double probability = softened(plain + p * CLASSES, c, 1);
            out[p * CLASSES + c] = (float)(kind == SCORES_PLAIN           ? plain[p * CLASSES + c]
                                           : kind == SCORES_PROBABILITIES ? probability
                                                                          : log(probability));
        }
}

/* The gradient by the scores before the softmax that made `output`, from that by the output. */
static double behind_softmax(score_kind kind, const double *plain, const float *gradient, int e)
{
    const int p = e / CLASSES;
    double sum = 0;
    if (kind == SCORES_PLAIN)
        return gradient[e];
    for (int c = 0; c < CLASSES; c++)
        sum += kind == SCORES_PROBABILITIES
                   ? gradient[p * CLASSES + c] * softened(plain + p * CLASSES, c, 1)
                   : gradient[p * CLASSES + c];
    const double probability = softened(plain + p * CLASSES, e % CLASSES, 1);
    return kind == SCORES_PROBABILITIES ? probability * (gradient[e] - sum)
                                        : gradient[e] - probability * sum;
}

static void losses(void **state)
{
    (void)state;
    static const int64_t both[] = {2, 0}, one[] = {-1, 3};
    const pal_tensor output = {.name = "scores", .rank = 3, .shape = {1, PLACES, CLASSES}};
    const recipe recipe = {.distill = 0.3, .temperature = 3, .label_smoothing = 0.1};
    double plain[EACH], other[EACH];
    uint64_t seed = 5;
    for (int e = 0; e < EACH; e++) {
        plain[e] = 2 * random_normal(&seed);
        other[e] = 2 * random_normal(&seed);
    }
    for (int kind = 0; kind < 3; kind++)
        for (int which = 0; which < 6; which++) {
            objective o;
            float scores[EACH], its[EACH], gradient[EACH];
            const int64_t *targets = which % 3 == 0 ? both : which % 3 == 1 ? one : NULL;
            const bool taught = which < 3;
            if (!targets && !taught)
                continue;
            assert_ok(objective_new(&output, (score_kind)kind, &recipe, &o));
            assert_true(o.classes && o.places == PLACES && o.width == CLASSES);
            as_kind((score_kind)kind, plain, scores);
            as_kind((score_kind)kind, other, its);
            const double loss =
                objective_sample(&o, scores, taught ? its : NULL, targets, 0.5, gradient);
            assert_true(fabs(loss - by_definition(&o, plain, taught ? other : NULL, targets)) <
                        1e-5);
            objective sharp = o; /* the distance is the divergence alone, of what is not softened */
            sharp.temperature = 1;
            assert_true(fabs(objective_distance(&o, scores, its) -
                             by_definition(&sharp, plain, other, NULL)) < 1e-5);
            for (int e = 0; e < EACH; e++) {
                double moved[EACH], up, down;
                memcpy(moved, plain, sizeof moved);
                moved[e] += 1e-4;
                up = by_definition(&o, moved, taught ? other : NULL, targets);
                moved[e] -= 2e-4;
                down = by_definition(&o, moved, taught ? other : NULL, targets);
                assert_true(fabs(behind_softmax((score_kind)kind, plain, gradient, e) -
                                 0.5 * (up - down) / 2e-4) < 2e-4);
            }
            objective_free(&o);
        }
}

/* A class that the network rules out, by -inf or a probability of 0, counts as if it were not
 * there. */
static void classes_that_are_ruled_out(void **state)
{
    (void)state;
    static const int64_t targets[] = {2, 0};
    recipe recipe = {.distill = 0.3, .temperature = 3};
    double plain[2 * EACH];
    uint64_t seed = 6;
    for (int e = 0; e < 2 * EACH; e++)
        plain[e] = e % CLASSES == CLASSES - 1 ? -INFINITY : 2 * random_normal(&seed);
    for (int kind = 0; kind < 3; kind++) {
        double loss[2], distance[2];
        float gradient[2][EACH];
        /* A probability is taken for 1e-12 at least, which a temperature would lift. */
        recipe.temperature = kind == SCORES_PROBABILITIES ? 1 : 3;
        for (int without = 0; without < 2; without++) {
            const int width = CLASSES - without;
            const pal_tensor output = {.name = "scores", .rank = 3, .shape = {1, PLACES, width}};
            float all[2 * EACH], kept[2 * EACH];
            objective o;
            as_kind((score_kind)kind, plain, all);
            as_kind((score_kind)kind, plain + EACH, all + EACH);
            for (int e = 0, to = 0; e < 2 * EACH; e++)
                if (e % CLASSES < width)
                    kept[to++] = all[e];
            const float *its = kept + PLACES * width;
            assert_ok(objective_new(&output, (score_kind)kind, &recipe, &o));
            loss[without] = objective_sample(&o, kept, its, targets, 1, gradient[without]);
            distance[without] = objective_distance(&o, kept, its);
            objective_free(&o);
            recipe.label_smoothing = 0.1;
            assert_ok(objective_new(&output, (score_kind)kind, &recipe, &o));
            assert_true(isfinite(objective_sample(&o, kept, NULL, targets, 1, NULL)));
            objective_free(&o);
            recipe.label_smoothing = 0;
        }
        assert_true(distance[0] > 0.01 && fabs(distance[0] - distance[1]) < 1e-6);
        assert_true(loss[0] > 0.01 && fabs(loss[0] - loss[1]) < 1e-6);
        for (int e = 0; e < EACH; e++) {
            const int c = e % CLASSES, at = e / CLASSES * (CLASSES - 1) + c;
            assert_true(kind == SCORES_PROBABILITIES || isfinite(gradient[0][e]));
            assert_true(c == CLASSES - 1 || fabsf(gradient[0][e] - gradient[1][at]) < 1e-5F);
        }
    }
}

/* An image is no scores of classes: it is brought close to the teacher's. */
static void values(void **state)
{
    (void)state;
    const pal_tensor output = {.name = "image", .rank = 4, .shape = {1, 3, 2, 1}};
    const recipe recipe = {.distill = 0.5, .temperature = 1};
    const pal_tensor number = {.name = "number", .rank = 1, .shape = {1}};
    const float own[] = {1, 2, 3, 4, 5, 6}, its[] = {1, 2, 3, 4, 5, 4};
    float gradient[6];
    objective o;
    assert_ok(objective_new(&number, SCORES_PLAIN, &recipe, &o));
    assert_true(!o.classes && o.places == 1 && o.width == 1);
    objective_free(&o);
    const pal_tensor cube = {.name = "cube", .rank = 4, .shape = {1, 3, 2, 2}};
    assert_ok(objective_new(&cube, SCORES_PLAIN, &recipe, &o));
    assert_true(!o.classes && o.width == 12);
    objective_free(&o);
    assert_ok(objective_new(&output, SCORES_PLAIN, &recipe, &o));
    o.classes = false;
    o.places = 1;
    free(o.logits);
    o.logits = NULL;
    o.width = 6;
    const double square = 1 + 4 + 9 + 16 + 25 + 16;
    assert_true(fabs(objective_sample(&o, own, its, NULL, 2, gradient) - 4 / square) < 1e-9);
    assert_true(fabs(gradient[5] - 2 * 2 * 2 / square) < 1e-6 && gradient[0] == 0);
    assert_true(objective_sample(&o, own, NULL, NULL, 2, gradient) == 0);
    objective_free(&o);
}

static void answers_are_kept(void **state)
{
    (void)state;
    static const uint64_t first[] = {4, 0, 3}, second[] = {1, 2}, mixed[] = {3, 1, 4};
    static const float given[] = {40, 41, 0, 1, 30, 31}, more[] = {10, 11, 20, 21};
    static const float expected[] = {30, 31, 10, 11, 40, 41};
    answers answers;
    assert_ok(answers_new(5, 2, 3, &answers));
    assert_null(answers_find(&answers, first, 3));
    answers_keep(&answers, first, 3, given);
    assert_memory_equal(answers_find(&answers, first, 3), given, sizeof given);
    assert_null(answers_find(&answers, mixed, 3));
    answers_keep(&answers, second, 2, more);
    assert_memory_equal(answers_find(&answers, mixed, 3), expected, sizeof expected);
    answers_free(&answers);
    /* Too many: nothing is kept, and nothing is written anywhere. */
    assert_ok(answers_new(ANSWERS_MOST_BYTES / 8 + 1, 2, 3, &answers));
    answers_keep(&answers, first, 3, given);
    assert_null(answers_find(&answers, first, 3));
    answers_free(&answers);
}

/* ---------------------------------------------------------------- files */

static void checkpoints(void **state)
{
    (void)state;
    const char *path = in("training.checkpoint");
    uint64_t number = 42;
    float numbers[37], empty[1];
    for (int i = 0; i < 37; i++)
        numbers[i] = (float)i / 3;
    state_piece pieces[] = {{&number, sizeof number}, {empty, 0}, {numbers, sizeof numbers}};
    assert_ok(checkpoint_write(path, 7, pieces, 3));
    number = 0;
    memset(numbers, 0, sizeof numbers);
    assert_fails(checkpoint_read(path, 8, pieces, 3), PAL_ERROR_ARGUMENT, "another run");
    assert_fails(checkpoint_read(path, 7, pieces, 2), PAL_ERROR_ARGUMENT, "another run");
    assert_true(number == 0 && numbers[3] == 0);
    assert_ok(checkpoint_read(path, 7, pieces, 3));
    assert_true(number == 42 && numbers[36] == 12);
    assert_fails(checkpoint_read(in("none"), 7, pieces, 3), PAL_ERROR_IO, "none");

    /* Every byte counts, and so does every missing one. */
    unsigned char content[1024];
    FILE *file = fopen(path, "rb");
    const size_t size = fread(content, 1, sizeof content, file);
    fclose(file);
    for (size_t i = 0; i < size; i++) {
        content[i] ^= 0x10;
        write_data(in("damaged"), content, size);
        content[i] ^= 0x10;
        assert_int_not_equal(checkpoint_read(in("damaged"), 7, pieces, 3), PAL_OK);
        write_data(in("damaged"), content, i);
        assert_int_not_equal(checkpoint_read(in("damaged"), 7, pieces, 3), PAL_OK);
    }
    assert_true(number == 42 && numbers[36] == 12);
}

static size_t count_lines(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t lines = 0;
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

static void logs(void **state)
{
    (void)state;
    static const char *const names[] = {"log.csv", "log.jsonl"};
    for (int json = 0; json < 2; json++) {
        const char *path = in(names[json]);
        training_log log;
        log_line line = {.loss = 0.5, .validation_loss = NAN, .validation_top1 = NAN};
        assert_ok(training_log_open(path, 0, &log));
        for (line.step = 1; line.step <= 5; line.step++)
            assert_ok(training_log_add(&log, &line));
        training_log_close(&log);
        assert_int_equal(count_lines(path), 6 - json);
        FILE *file = fopen(path, "a");
        fputs("6,0", file); /* killed while it wrote */
        fclose(file);
        /* On from step 3: what came after is written again. */
        assert_ok(training_log_open(path, 3, &log));
        line.step = 4;
        assert_ok(training_log_add(&log, &line));
        training_log_close(&log);
        assert_int_equal(count_lines(path), 5 - json);
    }
    training_log none;
    assert_ok(training_log_open("", 0, &none));
    assert_ok(training_log_add(&none, &(log_line){0}));
    training_log_close(&none);
    /* Below a file nothing can be written. */
    assert_fails(training_log_open(in("log.csv/log"), 0, &none), PAL_ERROR_IO, "log.csv/log");
    assert_fails(training_log_check(in("log.csv/log")), PAL_ERROR_IO, "log.csv/log");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimizers),       cmocka_unit_test(schedules),
        cmocka_unit_test(losses),           cmocka_unit_test(values),
        cmocka_unit_test(checkpoints),      cmocka_unit_test(logs),
        cmocka_unit_test(answers_are_kept), cmocka_unit_test(classes_that_are_ruled_out),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
