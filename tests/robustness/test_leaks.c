/* The library when an allocation fails, each one in its turn: the call that met it says so, nothing
 * leaks, neither memory nor files, and the model is as it was before that call.
 *
 *     test_leaks SEEDS
 *
 * The allocation functions are wrapped by the linker in everything that is linked statically. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "palettize.h"

/* ---------------------------------------------------------------- wrapped functions */

static bool inside;           /* a call of the library */
static unsigned long calls;   /* allocations asked for inside */
static unsigned long fail_at; /* the one that fails; 0: none */
static long live;             /* blocks allocated inside and not freed yet */

static bool fails(void)
{
    if (!inside || ++calls != fail_at)
        return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *memory)
{
    live += inside && memory;
    return memory;
}

#define WRAP(type, name, parameters, arguments)                                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails() ? NULL : counted(__real_##name arguments);                                  \
    }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t count, size_t size), (count, size))
WRAP(char *, strdup, (const char *text), (text))
WRAP(char *, strndup, (const char *text, size_t size), (text, size))
WRAP(char *, realpath, (const char *path, char *resolved), (path, resolved))

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size)
{
    if (fails())
        return NULL;
    void *memory = __real_realloc(old, size);
    return old ? memory : counted(memory);
}

void __real_free(void *memory);
void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
    live -= inside && memory;
    __real_free(memory);
}

/* Folders have memory of their own, given back by closedir(). */
#define WRAP_FOLDER(name, parameter, argument)                                                     \
    DIR *__real_##name(parameter);                                                                 \
    DIR *__wrap_##name(parameter);                                                                 \
    DIR *__wrap_##name(parameter)                                                                  \
    {                                                                                              \
        return fails() ? NULL : __real_##name(argument);                                           \
    }

WRAP_FOLDER(opendir, const char *path, path)
WRAP_FOLDER(fdopendir, int fd, fd)

/* jansson's blocks are counted, but do not fail: it reads past its buffer then. */
static void *json_allocate(size_t size)
{
    return counted(__real_malloc(size));
}

/* ---------------------------------------------------------------- scenarios */

typedef struct scenario {
    const char *seed;
    const char *options[8]; /* names and values; none: decompress */
} scenario;

static const scenario scenarios[] = {
    {"dense-ios16", {"nbits", "4"}},
    {"dense-ios18", {"mode", "uniform", "nbits", "3"}},
    {"float32-ios16", {"mode", "unique"}},
    {"operators-ios18",
     {"nbits", "2", "granularity", "per_grouped_channel", "group_size", "2", "channel_axis", "1"}},
    {"functions-ios18", {"nbits", "1", "granularity", "per_grouped_channel", "group_size", "4"}},
    {"pipeline-ios16", {"nbits", "6"}},
    {"dense-ios18", {"nbits", "4", "lut_dtype", "uint8"}},
    {"dense-ios18", {"nbits", "2", "cluster_dim", "2", "lut_dtype", "int8"}},
    {"dense-ios18", {"nbits", "2", "enable_per_channel_scale", "true"}},
    {"dense-ios18", {"mode", "unique", "enable_per_channel_scale", "true"}},
    {"dense-ios18", {"mode", "custom", "lut", "[-1, 0, 0.5, 1]"}},
    {"sparse-ios18", {"nbits", "2", "granularity", "per_grouped_channel", "group_size", "4"}},
    {"kmeans4-ios16", {NULL}},
    {"grouped3-float32-ios18", {NULL}},
    {"vectors-ios18", {NULL}},
    {"tables8-ios18", {NULL}},
    {"scaled-ios18", {NULL}},
    {"scaled-ios26", {NULL}},
    {"sparse-tables-ios18", {NULL}},
};

typedef struct attempt {
    pal_model *model;
    pal_options *options;
    pal_status status;
    enum { OPENING, CHANGING, SAVING } stage; /* where it ended */
    bool message;
} attempt;

static pal_status change(attempt *a, const scenario *s)
{
    pal_report *report = NULL;
    pal_status status = pal_options_new(&a->options);
    for (size_t i = 0; !status && i < 8 && s->options[i]; i += 2)
        status = pal_options_set(a->options, s->options[i], s->options[i + 1]);
    if (!status)
        status = pal_options_set(a->options, "weight_threshold", "0");
    if (!status)
        status = pal_options_set(a->options, "threads", "1");
    for (size_t i = 0; !status && i < pal_model_weight_count(a->model); i++)
        pal_model_skip_reason(a->model, i, a->options);
    if (!status)
        status = *s->options ? pal_compress(a->model, a->options, NULL, NULL, &report)
                             : pal_decompress(a->model, NULL, NULL, &report);
    if (status)
        CHECK(!report, "a report from a call that failed");
    pal_report_free(report);
    return status;
}

/* Opens, changes and saves until something fails. */
static void begin(attempt *a, const scenario *s, const char *path, const char *output)
{
    *a = (attempt){.stage = OPENING};
    inside = true;
    a->status = pal_model_open(path, &a->model);
    if (!a->status) {
        a->stage = CHANGING;
        a->status = change(a, s);
    }
    if (!a->status) {
        a->stage = SAVING;
        a->status = pal_model_save(a->model, output, NULL);
    }
    a->message = *pal_error_message() != 0;
    inside = false;
}

static void end(attempt *a)
{
    inside = true;
    pal_options_free(a->options);
    pal_model_free(a->model);
    inside = false;
}

/* The lowest free descriptor: it stays the same if none is left open. */
static int free_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY);
    close(fd);
    return fd;
}

static void run_scenario(const scenario *s, const char *seeds)
{
    char path[512];
    const char *output = in_scratch("folder/out.mlpackage");
    snprintf(path, sizeof path, "%s/%s.mlpackage", seeds, s->seed);
    attempt a;
    calls = fail_at = 0;
    begin(&a, s, path, output);
    CHECK(!a.status, "%s: %s", s->seed, pal_error_message());
    CHECK(live > 0, "%s: nothing is counted", s->seed);
    const unsigned long total = calls;
    const uint64_t changed = tree_hash(output);
    end(&a);
    CHECK(live == 0, "%s: %ld blocks leak without any failure", s->seed, live);
    tree_remove(output);
    CHECK(total > 20, "%s: %lu allocations", s->seed, total);

    inside = true;
    pal_model *model = NULL;
    CHECK(!pal_model_open(path, &model) && !pal_model_save(model, output, NULL), "cannot copy");
    pal_model_free(model);
    inside = false;
    const uint64_t unchanged = tree_hash(output);
    const int descriptor = free_descriptor();
    unsigned long recovered = 0;
    for (unsigned long n = 1; n <= total; n++) {
        tree_remove(output);
        live = 0;
        calls = 0;
        fail_at = n;
        begin(&a, s, path, output);
        fail_at = 0;
        recovered += !a.status;
        CHECK(!a.status || a.status == PAL_ERROR_MEMORY || a.status == PAL_ERROR_IO ||
                  (a.status == PAL_ERROR_FORMAT && a.stage == OPENING),
              "%s, allocation %lu: %s", s->seed, n, pal_error_message());
        CHECK(!a.status || a.message, "%s, allocation %lu: no message", s->seed, n);
        CHECK(tree_hash(output) == (a.status ? 0 : changed), "%s, allocation %lu: output damaged",
              s->seed, n);
        if (a.status && a.model) { /* a change that failed has changed nothing */
            inside = true;
            pal_status status = pal_model_save(a.model, output, NULL);
            inside = false;
            CHECK(!status && tree_hash(output) == (a.stage == SAVING ? changed : unchanged),
                  "%s, allocation %lu: the model is not as it was before", s->seed, n);
        }
        end(&a);
        CHECK(live == 0, "%s, allocation %lu: %ld blocks leak", s->seed, n, live);
        CHECK(free_descriptor() == descriptor, "%s, allocation %lu: a file stays open", s->seed, n);
        CHECK(remove_strangers(in_scratch("folder"), "out.mlpackage") == 0,
              "%s, allocation %lu: left something behind", s->seed, n);
    }
    tree_remove(output);
    printf("%s: %lu allocations, each failed once; %lu did not matter\n", s->seed, total,
           recovered);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_leaks SEEDS\n");
        return 2;
    }
    json_set_alloc_funcs(json_allocate, __wrap_free);
    make_folder(in_scratch("folder"));
    in_scratch("folder/out.mlpackage");
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        run_scenario(&scenarios[i], argv[1]);
    return checks_finish();
}
