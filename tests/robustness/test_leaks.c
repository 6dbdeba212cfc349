/* The library when an allocation fails, each one in its turn: the call that met it says so, nothing
 * leaks, neither memory nor files, and the model is as it was before that call.
 *
 *     test_leaks SEEDS SAMPLES
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
static bool parsing_json;     /* in a function of jansson's that does not survive a failure */
static unsigned long calls;   /* allocations asked for inside */
static unsigned long fail_at; /* the one that fails; 0: none */
static long live;             /* blocks allocated inside and not freed yet */

static bool fails(void)
{
    if (!inside || parsing_json || ++calls != fail_at)
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

static void *json_allocate(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

/* jansson, up to 2.14 at least, reads past its buffer when an allocation fails as it parses. */
json_t *__real_json_loadb(const char *text, size_t size, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t size, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t size, size_t flags, json_error_t *error)
{
    parsing_json = true;
    json_t *json = __real_json_loadb(text, size, flags, error);
    parsing_json = false;
    return json;
}

/* ---------------------------------------------------------------- scenarios */

typedef struct scenario {
    const char *input;      /* a seed or a sample */
    const char *options[8]; /* names and values (ARRAY: the path of one), or "config" and a text;
                               none: decompress */
} scenario;

#define GROUPED "granularity", "per_grouped_channel", "group_size"

static const scenario scenarios[] = {
    {"seeds/dense-ios16.mlpackage", {"nbits", "4"}},
    {"seeds/dense-ios18.mlpackage", {"mode", "uniform", "nbits", "3"}},
    {"seeds/float32-ios16.mlpackage", {"mode", "unique"}},
    {"seeds/operators-ios18.mlpackage", {"nbits", "2", GROUPED, "2", "channel_axis", "1"}},
    {"seeds/functions-ios18.mlpackage", {"nbits", "1", GROUPED, "4"}},
    {"seeds/pipeline-ios16.mlpackage", {"nbits", "6"}},
    {"seeds/dense-ios18.mlpackage", {"nbits", "4", "lut_dtype", "uint8"}},
    {"seeds/dense-ios18.mlpackage", {"nbits", "2", "cluster_dim", "2", "lut_dtype", "int8"}},
    {"seeds/dense-ios18.mlpackage", {"nbits", "2", "enable_per_channel_scale", "true"}},
    {"seeds/dense-ios18.mlpackage", {"mode", "unique", "enable_per_channel_scale", "true"}},
    {"seeds/dense-ios18.mlpackage", {"mode", "custom", "lut", "[-1, 0, 0.5, 1]"}},
    {"seeds/sparse-ios18.mlpackage", {"nbits", "2", GROUPED, "4"}},
    {"seeds/kmeans4-ios16.mlpackage", {NULL}},
    {"seeds/grouped3-float32-ios18.mlpackage", {NULL}},
    {"seeds/vectors-ios18.mlpackage", {NULL}},
    {"seeds/tables8-ios18.mlpackage", {NULL}},
    {"seeds/scaled-ios18.mlpackage", {NULL}},
    {"seeds/scaled-ios26.mlpackage", {NULL}},
    {"seeds/sparse-tables-ios18.mlpackage", {NULL}},
    {"samples/onnx/raw/model.onnx", {"nbits", "4"}},
    {"samples/onnx/floats/model.onnx", {"nbits", "3", GROUPED, "2"}},
    {"samples/onnx/half/model.onnx", {"nbits", "2", "cluster_dim", "2"}},
    {"samples/onnx/inputs/model.onnx", {"mode", "unique"}},
    {"samples/onnx/constants/model.onnx", {"nbits", "8"}},
    {"samples/onnx/raw/model.onnx", {"mode", "custom", "lut", "ARRAY"}},
    {"samples/onnx/raw/model.onnx", {"nbits", "2", "lut_dtype", "int8"}},
    {"samples/onnx/half/model.onnx", {"nbits", "4", "enable_per_channel_scale", "true"}},
    {"samples/onnx/external/model.onnx", {"nbits", "6", "weight_threshold", "300"}},
    {"samples/onnx/raw-everything/model.onnx", {NULL}},
    {"samples/onnx/inputs-vectors2/model.onnx", {NULL}},
    {"samples/onnx/constants-grouped3/model.onnx", {NULL}},
    {"samples/onnx/external-scaled/model.onnx", {NULL}},
    {"samples/safetensors/file/single.safetensors", {"nbits", "4", GROUPED, "2"}},
    {"samples/safetensors/odd/single.safetensors", {"nbits", "3"}},
    {"samples/safetensors/file/single.safetensors",
     {"nbits", "4", "lut_dtype", "uint8", "enable_per_channel_scale", "true"}},
    {"samples/safetensors/one", {"mode", "unique"}},
    {"samples/safetensors/shards", {"nbits", "2", "cluster_dim", "2", "embeddings", "palettize"}},
    {"samples/safetensors/file-everything/single.safetensors", {NULL}},
    {"samples/safetensors/shards-integers", {NULL}},
    {"samples/safetensors/shards",
     {"config", "op_name_configs:\n"
                "  \".*[kq]_proj.*\": {nbits: 4, weight_threshold: 0}\n"
                "  lm_head.weight: {nbits: 1, weight_threshold: 0}\n"
                "  layers.0.up_proj.weight: {mode: custom, lut: [-1, 1], weight_threshold: 0}\n"
                "  ? up\n  : null\n"}},
};

typedef struct attempt {
    pal_model *model;
    pal_options *options;
    pal_status status;
    enum { OPENING, CHANGING, SAVING } stage; /* where it ended */
    bool message;
} attempt;

static const char *config_path, *array_path;

static pal_status read_and_print(pal_options *options)
{
    char *text = NULL;
    pal_status status = pal_options_load(options, config_path);
    if (!status)
        status = pal_options_text(options, &text);
    pal_free(text);
    return status;
}

static pal_status change(attempt *a, const scenario *s)
{
    pal_report *report = NULL;
    const bool loaded = *s->options && strcmp(*s->options, "config") == 0;
    pal_status status = pal_options_new(&a->options);
    if (!status && loaded)
        status = read_and_print(a->options);
    if (!status && !loaded)
        status = pal_options_set(a->options, "weight_threshold", "0");
    if (!status)
        status = pal_options_set(a->options, "threads", "1");
    for (size_t i = 0; !status && !loaded && i < 8 && s->options[i]; i += 2)
        status = pal_options_set(a->options, s->options[i],
                                 strcmp(s->options[i + 1], "ARRAY") == 0 ? array_path
                                                                         : s->options[i + 1]);
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

/* Each kind of input has an output in a folder of its own. */
static const char *output_of(const char *input)
{
    const char *end = strrchr(input, '.');
    return strstr(input, ".mlpackage")        ? in_scratch("folder/out.mlpackage")
           : end && strcmp(end, ".onnx") == 0 ? in_scratch("folder/out.onnx")
           : end                              ? in_scratch("folder/out.safetensors")
                                              : in_scratch("folder/out");
}

static void write_config(const scenario *s)
{
    FILE *file = fopen(config_path, "w");
    CHECK(file && fputs(s->options[1], file) >= 0 && fclose(file) == 0, "no configuration");
}

/* Everything that was written; an ONNX model has data beside it. */
static uint64_t written_hash(const char *output)
{
    return tree_hash(output) ? tree_hash(in_scratch("folder")) : 0;
}

static void start_anew(void)
{
    tree_remove(in_scratch("folder"));
    make_folder(in_scratch("folder"));
}

static void run_scenario(const scenario *s, const char *seeds, const char *samples)
{
    char path[512];
    const bool seed = strncmp(s->input, "seeds/", 6) == 0;
    const char *output = output_of(s->input);
    snprintf(path, sizeof path, "%s/%s", seed ? seeds : samples, strchr(s->input, '/') + 1);
    if (*s->options && strcmp(*s->options, "config") == 0)
        write_config(s);
    start_anew();
    attempt a;
    calls = fail_at = 0;
    begin(&a, s, path, output);
    CHECK(!a.status, "%s: %s", s->input, pal_error_message());
    CHECK(live > 0, "%s: nothing is counted", s->input);
    const unsigned long total = calls;
    const uint64_t changed = written_hash(output);
    end(&a);
    CHECK(live == 0, "%s: %ld blocks leak without any failure", s->input, live);
    start_anew();
    CHECK(total > 20, "%s: %lu allocations", s->input, total);

    inside = true;
    pal_model *model = NULL;
    CHECK(!pal_model_open(path, &model) && !pal_model_save(model, output, NULL), "cannot copy");
    pal_model_free(model);
    inside = false;
    const uint64_t unchanged = written_hash(output);
    start_anew();
    const uint64_t nothing = tree_hash(in_scratch("folder"));
    const int descriptor = free_descriptor();
    unsigned long recovered = 0;
    for (unsigned long n = 1; n <= total; n++) {
        start_anew();
        live = 0;
        calls = 0;
        fail_at = n;
        begin(&a, s, path, output);
        fail_at = 0;
        recovered += !a.status;
        CHECK(!a.status || a.status == PAL_ERROR_MEMORY || a.status == PAL_ERROR_IO ||
                  (a.status == PAL_ERROR_FORMAT && a.stage == OPENING),
              "%s, allocation %lu: %s", s->input, n, pal_error_message());
        CHECK(!a.status || a.message, "%s, allocation %lu: no message", s->input, n);
        CHECK(tree_hash(in_scratch("folder")) == (a.status ? nothing : changed),
              "%s, allocation %lu: output damaged, or something left behind: %s", s->input, n,
              a.status ? pal_error_message() : "");
        if (a.status && a.model) { /* a change that failed has changed nothing */
            inside = true;
            pal_status status = pal_model_save(a.model, output, NULL);
            inside = false;
            CHECK(!status && written_hash(output) == (a.stage == SAVING ? changed : unchanged),
                  "%s, allocation %lu: the model is not as it was before", s->input, n);
        }
        end(&a);
        CHECK(live == 0, "%s, allocation %lu: %ld blocks leak", s->input, n, live);
        CHECK(free_descriptor() == descriptor, "%s, allocation %lu: a file stays open", s->input,
              n);
    }
    start_anew();
    printf("%s: %lu allocations, each failed once; %lu did not matter\n", s->input, total,
           recovered);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: test_leaks SEEDS SAMPLES\n");
        return 2;
    }
    char array[512];
    json_set_alloc_funcs(json_allocate, __wrap_free);
    make_folder(in_scratch("folder"));
    config_path = in_scratch("config.yaml");
    array_path = in_scratch("array.npy");
    snprintf(array, sizeof array, "%s/npy/vector/array.npy", argv[2]);
    tree_copy(array, array_path);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        run_scenario(&scenarios[i], argv[1], argv[2]);
    return checks_finish();
}
