/* A mutation fuzzer that needs nothing but a C compiler.
 *
 *     fuzz KIND SEED... [--count N] [--seed S] [--only I] [--scratch FOLDER]
 *
 * KIND says what the library is called for: model (Core ML packages, ONNX models and safetensors
 * checkpoints alike), session (models that are run), config or array. Each SEED is an input or a
 * folder of such, see seeds.c. An iteration takes one of them, changes its files, and calls the
 * library with the result; see exercise.c and readers.c for what must hold. It is meant to run
 * under the address and undefined-behaviour sanitizers. Iteration I of seed S is the same in every
 * run on the same inputs:
 * --only I repeats it. Exits with 1 if anything was wrong; inputs that showed it stay in the
 * scratch folder. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum { SECONDS = 10, MOST_FAILURES = 20 };

/* What an input of so many bytes may take: the base is for the tables of clustering 16-bit values
 * and for buffers, the factor for 1-bit indices that become float32 values (32), in file and in
 * memory, and for the parsed messages (64). */
static const size_t memory_base = 16 << 20, memory_factor = 200, memory_limit = 256 << 20;

typedef struct settings {
    uint64_t count, seed, only;
    bool has_only;
    const char *scratch;
    exercise exercise;
    const char *seeds[64];
    size_t seed_count;
} settings;

static exercise find_exercise(const char *kind)
{
    static const struct {
        const char *name;
        exercise exercise;
    } kinds[] = {{"model", exercise_model},
                 {"session", exercise_session},
                 {"config", exercise_config},
                 {"array", exercise_array}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, kind) == 0)
            return kinds[i].exercise;
    return NULL;
}

static bool parse_arguments(int argc, char **argv, settings *out)
{
    out->exercise = argc > 1 ? find_exercise(argv[1]) : NULL;
    for (int i = 2; i < argc; i++) {
        const bool option = strncmp(argv[i], "--", 2) == 0;
        const char *value = option && i + 1 < argc ? argv[i + 1] : NULL;
        if (!option && out->seed_count < 64) {
            out->seeds[out->seed_count++] = argv[i];
            continue;
        }
        if (!value)
            return false;
        if (strcmp(argv[i], "--count") == 0)
            out->count = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            out->seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            out->only = strtoull(value, NULL, 10), out->has_only = true;
        else if (strcmp(argv[i], "--scratch") == 0)
            out->scratch = value;
        else
            return false;
        i++;
    }
    return out->exercise && out->seed_count > 0;
}

/* A new folder for this run. */
static char *make_scratch(const char *under)
{
    const char *folder = under ? under : getenv("TMPDIR");
    if (!folder || !*folder)
        folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char *path = join(folder, "fuzz-XXXXXX");
    if (under)
        mkdir(under, 0777);
    if (!mkdtemp(path)) {
        perror(path);
        exit(2);
    }
    return path;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

typedef struct run {
    settings settings;
    corpus corpus;
    char *scratch, *out;
    counts counts;
    uint64_t iterations, failures;
    size_t peak;
    double peak_share; /* of what is allowed */
} run;

/* Mostly small packages, so that there are many iterations. */
static seed *pick_seed(rng *r, const corpus *corpus)
{
    const size_t large = corpus->count - corpus->small;
    if (corpus->small && (large == 0 || rng_below(r, 1000) >= 10))
        return &corpus->seeds[rng_below(r, corpus->small)];
    return &corpus->seeds[corpus->small + rng_below(r, large)];
}

static void report_failure(run *run, uint64_t i, const seed *seed, const char *wrong)
{
    char name[320];
    snprintf(name, sizeof name, "failed-%" PRIu64 "-%" PRIu64 "-%.250s", run->settings.seed, i,
             seed->name);
    char *kept = join(run->scratch, name);
    copy_tree(seed->folder, kept);
    fprintf(stderr, "fuzz: iteration %" PRIu64 " of seed %" PRIu64 " (%s): %s; the input is %s\n",
            i, run->settings.seed, seed->name, wrong, kept);
    free(kept);
    run->failures++;
}

static const char *check_memory(run *run, const seed *seed, size_t peak)
{
    static char text[128];
    size_t allowed = memory_base + memory_factor * seed_size(seed);
    if (allowed > memory_limit)
        allowed = memory_limit;
    if (peak > run->peak)
        run->peak = peak;
    if ((double)peak / (double)allowed > run->peak_share)
        run->peak_share = (double)peak / (double)allowed;
    if (peak <= allowed)
        return NULL;
    snprintf(text, sizeof text, "%zu bytes of memory at a time, for an input of %zu", peak,
             seed_size(seed));
    return text;
}

static bool iterate(run *run, uint64_t i)
{
    rng r = {run->settings.seed * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xd1342543de82ef95)};
    rng_next(&r);
    seed *seed = pick_seed(&r, &run->corpus);
    mutate_seed(&r, &run->corpus, seed);
    if (!seed_write(seed))
        return false;
    /* What stands at the output must not matter; a run of one iteration has nothing there. */
    if (rng_chance(&r, 20) || run->settings.has_only) {
        remove_tree(run->out);
        mkdir(run->out, 0777);
    }
    limits_begin(run->settings.seed, i, seed->path);
    const char *wrong = run->settings.exercise(&r, seed->path, run->out, &run->counts);
    size_t peak = limits_end();
    if (!wrong)
        wrong = check_memory(run, seed, peak);
    if (wrong) {
        report_failure(run, i, seed, wrong);
        remove_tree(run->out);
        mkdir(run->out, 0777);
    }
    run->iterations++;
    return seed_restore(seed) && run->failures < MOST_FAILURES;
}

static void print_summary(const run *run, double seconds)
{
    const counts *c = &run->counts;
    printf("%" PRIu64 " iterations in %.1f s (%.0f/s): %" PRIu64 " opened, %" PRIu64
           " rejected; compressed %" PRIu64 ", decompressed %" PRIu64 ", cancelled %" PRIu64
           ", saved %" PRIu64 ", ran %" PRIu64 "; %" PRIu64 " failures",
           run->iterations, seconds, (double)run->iterations / seconds, c->opened, c->rejected,
           c->compressed, c->decompressed, c->cancelled, c->saved, c->ran, run->failures);
    if (limits_count_memory())
        printf("; peak memory %.1f MiB, %.0f %% of what is allowed", (double)run->peak / (1 << 20),
               100 * run->peak_share);
    putchar('\n');
}

int main(int argc, char **argv)
{
    run run = {.settings = {.count = 2000, .seed = 1}};
    if (!parse_arguments(argc, argv, &run.settings)) {
        fprintf(stderr, "usage: fuzz model|session|config|array SEED... [--count N] [--seed S] "
                        "[--only I] [--scratch FOLDER]\n");
        return 2;
    }
    run.scratch = make_scratch(run.settings.scratch);
    run.out = join(run.scratch, "out");
    bool ok = mkdir(run.out, 0777) == 0;
    for (size_t i = 0; ok && i < run.settings.seed_count; i++)
        ok = corpus_add(&run.corpus, run.settings.seeds[i], run.scratch);
    corpus_sort(&run.corpus);
    if (!ok || run.corpus.count == 0) {
        fprintf(stderr, "fuzz: nothing to start from\n");
        return 2;
    }
    limits_install(SECONDS);
    double started = now();
    if (run.settings.has_only)
        ok = iterate(&run, run.settings.only);
    for (uint64_t i = 0; ok && !run.settings.has_only && i < run.settings.count; i++)
        ok = iterate(&run, i);
    print_summary(&run, now() - started);
    if (run.failures == 0)
        remove_tree(run.scratch);
    corpus_free(&run.corpus);
    free(run.scratch);
    free(run.out);
    return run.failures || !ok ? 1 : 0;
}
