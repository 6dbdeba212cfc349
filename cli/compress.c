#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const flag flags[] = {
    {"method", 'm', "METHOD",
     "How tables are chosen: kmeans, from the weights alone; sensitive, where an error counts as "
     "much "
     "as the loss feels it, measured on samples (--data) or read from a file "
     "(--load-sensitivity). (default kmeans)"},
    {"data", 'd', "DATA",
     "Samples to measure sensitivities on: a folder of images in which each subfolder is a class, "
     "the same in a .tar, IDX files, or an .npz whose arrays are named as the model's inputs. "
     "Without "
     "labels they are drawn from the model's own probabilities."},
    {"samples", 0, "N", "How many samples, chosen at random. (default 128)"},
    {"seed", 0, "N", "Of all that is random. (default 0)"},
    {"batch", 'b', "N", "Samples to run at once. (default 32)"},
    {"save-sensitivity", 0, "FILE", "Write the measured sensitivities to a safetensors file."},
    {"load-sensitivity", 0, "FILE",
     "Read them from one, in which they may come from anywhere: a tensor for each weight, of its "
     "name and shape."},
    CONFIG_FLAGS,
    {"output", 'o', "OUT",
     "Where to write the compressed model; IN itself is allowed. Must be given."},
    {"json", 0, "FILE",
     "Also write the report as JSON; - writes it to standard output in the place of the table."},
    QUIET_FLAG,
    {0},
};

static int finish(const arguments *arguments, pal_model *model, const pal_report *report,
                  uint64_t bytes, double started)
{
    const totals totals = {"compressed", pal_model_bytes(model), bytes, now_seconds() - started};
    int code = 0;
    if (wants_table(arguments))
        code = print_report(stdout, report, &totals);
    if (!code && flag_value(arguments, "json"))
        code = json_write(json_from_report(report, &totals), flag_value(arguments, "json"));
    return code;
}

/* The samples: a random choice, unless the data's own options say otherwise. */
static pal_status open_samples(const arguments *arguments, long samples, long seed, pal_data **out)
{
    char text[32];
    pal_status status = PAL_OK;
    snprintf(text, sizeof text, "%ld", samples);
    if (!status)
        status = pal_data_options_set(arguments->data_options, "limit", text);
    snprintf(text, sizeof text, "%ld", seed);
    if (!status)
        status = pal_data_options_set(arguments->data_options, "shuffle_seed", text);
    return status ? status
                  : pal_data_open(flag_value(arguments, "data"), arguments->data_options, out);
}

static pal_status measure(const arguments *arguments, pal_model *model,
                          const pal_sensitivity_options *settings, long samples, progress *progress,
                          pal_sensitivity **out)
{
    pal_data *data = NULL;
    pal_status status = open_samples(arguments, samples, (long)settings->seed, &data);
    if (!status)
        status = pal_sensitivity_measure(model, data, arguments->options, settings, progress_update,
                                         progress, out);
    pal_data_free(data);
    if (!status && flag_value(arguments, "save-sensitivity"))
        status = pal_sensitivity_save(*out, flag_value(arguments, "save-sensitivity"));
    return status;
}

/* Usage that the parser cannot know to be wrong. Returns 0 or an exit code. */
static int check_method(const arguments *arguments, bool *sensitive)
{
    const char *method = flag_value(arguments, "method");
    const bool loads = flag_value(arguments, "load-sensitivity") != NULL;
    *sensitive = method && strcmp(method, "sensitive") == 0;
    if (method && !*sensitive && strcmp(method, "kmeans") != 0)
        return say_error("--method is kmeans or sensitive, not '%s'", method), EXIT_BAD_USAGE;
    if (*sensitive && !flag_value(arguments, "data") && !loads)
        return say_error("--method sensitive needs --data or --load-sensitivity"), EXIT_BAD_USAGE;
    if (!*sensitive && (flag_value(arguments, "data") || loads))
        return say_error("--data and --load-sensitivity need --method sensitive"), EXIT_BAD_USAGE;
    if (flag_value(arguments, "data") && loads)
        return say_error("sensitivities are either measured or loaded"), EXIT_BAD_USAGE;
    return 0;
}

static int run(const arguments *arguments)
{
    if (flag_value(arguments, "print-config"))
        return print_config(arguments);
    double started = now_seconds();
    pal_model *model = NULL;
    pal_report *report = NULL;
    pal_sensitivity *sensitivity = NULL;
    progress progress;
    uint64_t bytes = 0;
    bool sensitive = false;
    long samples = 128, seed = 0, batch = 0;
    int code = check_method(arguments, &sensitive);
    if (!code)
        code = flag_number(arguments, "samples", 1, &samples);
    if (!code)
        code = flag_number(arguments, "seed", 0, &seed);
    if (!code)
        code = flag_number(arguments, "batch", 1, &batch);
    if (code)
        return code;
    const char *threads = pal_options_value(arguments->options, "threads");
    const pal_sensitivity_options settings = {
        .batch = (size_t)batch, .threads = threads ? atoi(threads) : 0, .seed = (uint64_t)seed};
    pal_status status = pal_options_check(arguments->options);
    if (!status)
        status = pal_model_open(arguments->inputs[0], &model);
    watch_interrupts();
    progress_start(&progress, flag_value(arguments, "quiet"));
    if (!status && flag_value(arguments, "load-sensitivity"))
        status =
            pal_sensitivity_load(flag_value(arguments, "load-sensitivity"), model, &sensitivity);
    else if (!status && sensitive)
        status = measure(arguments, model, &settings, samples, &progress, &sensitivity);
    if (!status)
        status = pal_compress_sensitive(model, arguments->options, sensitivity, progress_update,
                                        &progress, &report);
    progress_stop(&progress);
    if (!status)
        status = pal_model_save(model, flag_value(arguments, "output"), &bytes);
    code = status ? report_failure(status) : finish(arguments, model, report, bytes, started);
    pal_sensitivity_free(sensitivity);
    pal_report_free(report);
    pal_model_free(model);
    return code;
}

const command command_compress = {
    .name = "compress",
    .usage = "IN -o OUT --nbits N [options]",
    .summary = "palettize the weights of a model",
    .details =
        "Reads the model IN, gives each weight the look-up table and indices that the options ask "
        "for, and writes the model OUT, which loads wherever IN does. Everything else in the model "
        "is kept. Ends with a table: for each weight its bits, its look-up tables, the size "
        "before and after, the mean squared error and the peak signal-to-noise ratio; for each "
        "weight that was left as it is, the reason.\n\n"
        "OUT appears complete or not at all. A model that cannot express an option, because it was "
        "made for too old a version of its format, is refused before anything is written.",
    .flags = flags,
    .needs = "output",
    .library_options = true,
    .data_options = true,
    .inputs = 1,
    .run = run,
};
