/* The calls that the fuzzer makes on one model, and what must hold after each of them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static char problem[512];

const char *say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    return problem;
}

/* Whether a text names a file or folder, or a file beside it: ONNX models have data of their own.
 */
static bool names(const char *text, const char *path)
{
    struct stat info;
    const char *slash = strrchr(path, '/');
    char folder[1024];
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return strstr(text, path) != NULL;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 0, path);
    return strstr(text, folder) != NULL;
}

const char *check_failure(const char *call, pal_status status, const char *path, const char *output)
{
    const char *message = pal_error_message();
    if (status < PAL_OK || status > PAL_ERROR_CANCELLED)
        return say("%s: status %d", call, (int)status);
    if (!*message)
        return say("%s: fails without a message", call);
    for (const char *c = message; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            return say("%s: the message has a control character", call);
    if (status == PAL_ERROR_MEMORY)
        return say("%s: asks for too much memory: %s", call, message);
    if (status != PAL_ERROR_CANCELLED && !names(message, path) && !names(message, output))
        return say("%s: does not name the file: %s", call, message);
    return NULL;
}

/* ---------------------------------------------------------------- weights */

static const char *check_weight(const pal_weight *w)
{
    uint64_t elements = 1;
    if (!w || !w->name || !w->function || !w->op)
        return "a weight without a name, function or operator";
    if (w->rank == 0 || w->rank > PAL_MAX_RANK)
        return "a weight with a bad rank";
    for (size_t d = 0; d < w->rank; d++)
        elements *= w->shape[d];
    if (elements != w->elements)
        return "a weight whose shape and elements disagree";
    if (w->channel_axis < -1 || w->channel_axis >= (int)w->rank)
        return "a weight with a bad channel axis";
    if (!*pal_dtype_name(w->dtype) || !*pal_storage_name(w->storage))
        return "a weight of a type or storage without a name";
    return NULL;
}

static const char *list_weights(pal_model *model, const pal_options *options)
{
    const char *wrong = NULL;
    size_t count = pal_model_weight_count(model);
    for (size_t i = 0; !wrong && i < count; i++) {
        wrong = check_weight(pal_model_weight(model, i));
        const char *reason = pal_model_skip_reason(model, i, NULL);
        if (!wrong && reason && !*reason)
            wrong = "an empty reason";
        pal_model_skip_reason(model, i, options);
    }
    if (!wrong && (pal_model_weight(model, count) || !*pal_model_description(model)))
        wrong = "a weight past the last, or no description";
    return wrong;
}

/* What two weights differ in, or NULL. */
static const char *difference(const pal_weight *a, const pal_weight *b)
{
    return strcmp(a->name, b->name) != 0                                 ? "name"
           : strcmp(a->function, b->function) != 0                       ? "function"
           : strcmp(a->op, b->op) != 0                                   ? "operator"
           : a->consumers != b->consumers                                ? "consumers"
           : a->dtype != b->dtype                                        ? "type"
           : a->rank != b->rank                                          ? "rank"
           : memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) != 0 ? "shape"
           : a->elements != b->elements                                  ? "elements"
           : a->channel_axis != b->channel_axis                          ? "channel axis"
           : a->storage != b->storage                                    ? "storage"
           : a->nbits != b->nbits                                        ? "nbits"
           : a->num_luts != b->num_luts                                  ? "tables"
                                                                         : NULL;
}

/* ---------------------------------------------------------------- options */

static void set(pal_options *options, const char *name, const char *value)
{
    if (pal_options_set(options, name, value)) {
        fprintf(stderr, "%s\n", pal_error_message());
        abort();
    }
}

/* Not for large models: clustering vectors takes long, and scales by channel may take much memory,
 * because before iOS26 the tables are repeated for each. */
static pal_options *random_options(rng *r, bool small)
{
    static const char *const bits[] = {"1", "2", "3", "4", "6", "8"};
    static const char *const sizes[] = {"1", "2", "3", "4", "8", "16", "1000000"};
    static const char *const axes[] = {"-16", "-2", "-1", "0", "1", "2", "15"};
    static const char *const thresholds[] = {"0", "0", "0", "10", "100"};
    static const char *const modes[] = {"kmeans", "kmeans", "uniform", "unique", "custom"};
    static const char *const tables[] = {"[-1, 1]", "[3, 0.5, -2, 0]", "[0, 1e300, 2, 3]"};
    static const char *const dimensions[] = {"2", "3", "4", "64"};
    pal_options *options = NULL;
    if (pal_options_new(&options))
        abort();
    const char *mode = modes[rng_below(r, 5)];
    set(options, "mode", mode);
    if (strcmp(mode, "custom") == 0)
        set(options, "lut", tables[rng_below(r, 3)]);
    else if (strcmp(mode, "unique") != 0)
        set(options, "nbits", bits[rng_below(r, 6)]);
    if (strcmp(mode, "unique") != 0 && rng_chance(r, 20))
        set(options, "lut_dtype", rng_chance(r, 50) ? "int8" : "uint8");
    else if (rng_chance(r, 20) && small)
        set(options, "enable_per_channel_scale", "true");
    if (rng_chance(r, 50)) {
        set(options, "granularity", "per_grouped_channel");
        set(options, "group_size", sizes[rng_below(r, 7)]);
        if (rng_chance(r, 50))
            set(options, "channel_axis", axes[rng_below(r, 7)]);
    }
    if (strcmp(mode, "kmeans") == 0 && rng_chance(r, 30) && small)
        set(options, "cluster_dim", dimensions[rng_below(r, 4)]);
    set(options, "embeddings", rng_chance(r, 50) ? "palettize" : "skip");
    set(options, "weight_threshold", thresholds[rng_below(r, 5)]);
    set(options, "threads", rng_chance(r, 95) ? "1" : "2");
    return options;
}

/* ---------------------------------------------------------------- calls */

static bool stop_at(void *user, uint64_t done, uint64_t total, const char *what)
{
    int *left = user;
    return done <= total && what && (*left)-- != 0;
}

static const char *check_report(const pal_model *model, const pal_report *report)
{
    if (!report || pal_report_count(report) != pal_model_weight_count(model))
        return "a report with too few or too many entries";
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        const char *wrong = check_weight(&entry->weight);
        if (wrong)
            return wrong;
        if (!entry->reason || (entry->status == PAL_WEIGHT_SKIPPED && !*entry->reason))
            return "a skipped weight without a reason";
        if (!(entry->mse >= 0) || isnan(entry->psnr))
            return "an error that is no number";
        if (difference(&entry->weight, pal_model_weight(model, i)))
            return "a report that contradicts the model";
    }
    return NULL;
}

/* Compresses or decompresses, now and then stopping half way. */
static const char *change(rng *r, pal_model *model, const char *path, const pal_options *options,
                          bool compress, counts *counts)
{
    pal_report *report = NULL;
    int calls = rng_chance(r, 5) ? (int)rng_below(r, 4) : -1;
    pal_status status = compress ? pal_compress(model, options, stop_at, &calls, &report)
                                 : pal_decompress(model, stop_at, &calls, &report);
    const char *call = compress ? "pal_compress" : "pal_decompress";
    const char *wrong =
        status ? check_failure(call, status, path, path) : check_report(model, report);
    if (status == PAL_ERROR_ARGUMENT)
        wrong = say("%s: blames the arguments: %s", call, pal_error_message());
    if (!wrong && status && report)
        wrong = "a report from a call that failed";
    pal_report_free(report);
    counts->cancelled += status == PAL_ERROR_CANCELLED;
    counts->compressed += !status && compress;
    counts->decompressed += !status && !compress;
    return wrong;
}

/* Whether the folder holds anything but outputs, and of an ONNX model more than one file of data.
 */
static bool has_leftovers(const char *folder)
{
    size_t strangers = 0, data = 0;
    DIR *directory = opendir(folder);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        strangers += strncmp(entry->d_name, "out.", 4) != 0;
        data += strstr(entry->d_name, ".data") != NULL;
    }
    if (directory)
        closedir(directory);
    return strangers > 0 || data > 1;
}

/* Each kind of model has an output of its own. */
static const char *output_name(const char *path, const pal_model *model)
{
    struct stat info;
    const char *format = pal_model_format(model);
    const bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    return strcmp(format, "onnx") == 0     ? "out.onnx"
           : strcmp(format, "coreml") == 0 ? "out.mlpackage"
           : folder                        ? "out.checkpoint"
                                           : "out.safetensors";
}

static const char *reopen(const char *path, pal_model *model)
{
    pal_model *again = NULL;
    const char *wrong = NULL;
    if (pal_model_open(path, &again))
        return say("what was saved cannot be opened: %s", pal_error_message());
    if (pal_model_weight_count(again) != pal_model_weight_count(model))
        wrong = "what was saved has other weights";
    for (size_t i = 0; !wrong && i < pal_model_weight_count(again); i++) {
        const pal_weight *a = pal_model_weight(model, i), *b = pal_model_weight(again, i);
        /* Of those that nothing uses the order is not promised. */
        const bool unused =
            strcmp(pal_model_format(model), "onnx") == 0 && !a->consumers && !b->consumers;
        const char *what = unused ? NULL : difference(a, b);
        if (what)
            wrong = say("weight %zu (%s) has another %s once saved", i, a->name, what);
    }
    pal_model_free(again);
    return wrong;
}

static const char *save(pal_model *model, const char *from, const char *out, counts *counts)
{
    struct stat info;
    uint64_t bytes = 0;
    char *path = join(out, output_name(from, model));
    bool existed = stat(path, &info) == 0;
    const char *wrong = NULL;
    pal_status status = pal_model_save(model, path, &bytes);
    if (status)
        wrong = check_failure("pal_model_save", status, path, from);
    else
        wrong = reopen(path, model);
    if (!wrong && (stat(path, &info) == 0) != (existed || !status))
        wrong = "the output is there, or is not, against what the status says";
    if (!wrong && has_leftovers(out))
        wrong = "saving left something behind";
    if (!wrong && !status && bytes == 0)
        wrong = "an output of no bytes";
    counts->saved += !status;
    free(path);
    return wrong;
}

const char *exercise_model(rng *r, const char *path, const char *out, counts *counts)
{
    pal_model *model = NULL;
    pal_status status = pal_model_open(path, &model);
    if (status) {
        counts->rejected++;
        return model ? "a model from a call that failed"
                     : check_failure("pal_model_open", status, path, path);
    }
    counts->opened++;
    pal_options *options = random_options(r, pal_model_bytes(model) <= SMALL_SEED);
    const char *wrong = list_weights(model, options);
    size_t changes = rng_below(r, 4);
    for (size_t i = 0; !wrong && i < changes; i++)
        wrong = change(r, model, path, options, rng_chance(r, 60), counts);
    if (!wrong)
        wrong = list_weights(model, options);
    if (!wrong && rng_chance(r, 90))
        wrong = save(model, path, out, counts);
    if (!wrong && rng_chance(r, 10)) { /* once more, in memory that was written */
        wrong = change(r, model, path, options, rng_chance(r, 50), counts);
        if (!wrong)
            wrong = save(model, path, out, counts);
    }
    pal_options_free(options);
    pal_model_free(model);
    return wrong;
}
