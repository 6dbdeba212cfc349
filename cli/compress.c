#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"

static const flag flags[] = {
    {"data", 'd', "DATA",
     "Samples for the methods that look at more than the weights: a folder of images in which each "
     "subfolder is a class, the same in a .tar, IDX files, or an .npz whose arrays are named as "
     "the "
     "model's inputs."},
    CONFIG_FLAGS,
    {"output", 'o', "OUT",
     "Where to write the compressed model; IN itself is allowed. Must be given."},
    {"json", 0, "FILE",
     "Also write the report as JSON; - writes it to standard output in the place of the table."},
    {"report", 0, "FILE",
     "Also write a page to look at (HTML): sizes, a bar for each layer, the values of the weights "
     "with their tables, and how training went. palettize report makes it of several runs."},
    QUIET_FLAG,
    {0},
};

static int write_report(json_t *json, const char *path)
{
    report_runs *runs = report_runs_new();
    int code = runs ? report_runs_add(runs, json, path) : EXIT_BAD_INPUT;
    if (!code)
        code = report_runs_write(runs, path);
    report_runs_free(runs);
    return code;
}

/* Whether the values of the weights are looked at as well. */
static bool wants_pictures(const arguments *arguments)
{
    return flag_value(arguments, "json") || flag_value(arguments, "report");
}

static int finish(const arguments *arguments, pal_model *model, const pal_report *report,
                  held_back *held_back, const observed *observed, uint64_t bytes, double started)
{
    const totals totals = {"compressed", pal_model_bytes(model), bytes, now_seconds() - started};
    int code = held_back_score(arguments, held_back);
    if (!code && wants_table(arguments)) {
        code = print_report(stdout, report, &totals);
        held_back_print(stdout, held_back);
        if (flag_value(arguments, "data"))
            printf("peak memory %.1f MiB\n", (double)peak_bytes() / 0x1p20);
    }
    if (code || !wants_pictures(arguments))
        return code;
    json_t *json = json_from_run(arguments, model, report, observed, &totals);
    if (held_back->samples)
        json_put(json, "held_back", json_from_score(&held_back->written, peak_bytes()));
    if (flag_value(arguments, "json"))
        code = json_write(json_incref(json), flag_value(arguments, "json"));
    if (!code && flag_value(arguments, "report"))
        code = write_report(json_incref(json), flag_value(arguments, "report"));
    json_decref(json);
    return code;
}

/* Without data, options of data say nothing, and those of methods only some. Methods that need data
 * tell so themselves. */
static int check_without_data(const arguments *arguments)
{
    static const char *const of_weights_alone[] = {
        "method", "correct", "load_sensitivity", "save_sensitivity", "shrinkage", "outliers", NULL};
    const pal_method_options *options = arguments->method_options;
    const pal_method_option *option;
    if (*arguments->data_option)
        return say_error("--%s says how data is read, and there is none: give it with --data",
                         arguments->data_option),
               EXIT_BAD_USAGE;
    if (strcasecmp(pal_method_options_value(options, "method"), "kmeans") != 0 &&
        !pal_method_options_given(options, "load_sensitivity"))
        return 0;
    for (size_t i = 0; (option = pal_method_option_get(i)); i++) {
        size_t k = 0;
        while (of_weights_alone[k] && strcmp(of_weights_alone[k], option->name) != 0)
            k++;
        if (pal_method_options_given(options, option->name) && !of_weights_alone[k])
            return say_error("%s is of no use without data: give it with --data", option->name),
                   EXIT_BAD_USAGE;
    }
    return 0;
}

/* Options of another method than the one that is used are most likely a mistake. */
static int check_method(const arguments *arguments)
{
    const pal_method_option *option;
    for (size_t i = 0; (option = pal_method_option_get(i)); i++)
        if (pal_method_options_given(arguments->method_options, option->name) &&
            !pal_method_options_uses(arguments->method_options, option->name))
            return say_error("%s is no option of method %s", option->name,
                             pal_method_options_value(arguments->method_options, "method")),
                   EXIT_BAD_USAGE;
    if (flag_value(arguments, "data") &&
        !pal_method_options_uses(arguments->method_options, "samples"))
        return say_error("method %s takes no data; choose one that does with --method",
                         pal_method_options_value(arguments->method_options, "method")),
               EXIT_BAD_USAGE;
    return flag_value(arguments, "data") ? 0 : check_without_data(arguments);
}

static int run(const arguments *arguments)
{
    if (flag_value(arguments, "print-config"))
        return print_config(arguments);
    double started = now_seconds();
    pal_model *model = NULL;
    pal_data *data = NULL;
    pal_report *report = NULL;
    observed observed = {0};
    held_back held_back = {0};
    progress progress;
    uint64_t bytes = 0;
    int code = check_method(arguments);
    if (code)
        return code;
    pal_status status = pal_options_check(arguments->options);
    if (!status)
        status = pal_model_open(arguments->inputs[0], &model);
    if (!status)
        code = check_outputs(arguments, model);
    if (!status && !code && flag_value(arguments, "data"))
        status = pal_method_data_open(flag_value(arguments, "data"), arguments->data_options,
                                      arguments->method_options, &data);
    if (!status && !code)
        code = held_back_open(arguments, data, &held_back);
    if (!status && !code && wants_pictures(arguments))
        code = observe(model, arguments->options, &observed);
    watch_interrupts();
    progress_start(&progress, flag_value(arguments, "quiet"));
    if (!status && !code)
        status = pal_compress_method(model, arguments->options, arguments->method_options, data,
                                     progress_update, &progress, &report);
    progress_stop(&progress);
    if (!status && !code)
        status = pal_model_save(model, flag_value(arguments, "output"), &bytes);
    if (status)
        code = report_failure(status);
    else if (!code)
        code = finish(arguments, model, report, &held_back, &observed, bytes, started);
    held_back_close(&held_back);
    observed_free(&observed);
    pal_report_free(report);
    pal_data_free(data);
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
    .method_options = true,
    .inputs = 1,
    .run = run,
};
