#include <string.h>

#include "cli.h"

static const flag flags[] = {
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

static int run(const arguments *arguments)
{
    if (flag_value(arguments, "print-config"))
        return print_config(arguments);
    double started = now_seconds();
    pal_model *model = NULL;
    pal_report *report = NULL;
    progress progress;
    uint64_t bytes = 0;
    pal_status status = pal_options_check(arguments->options);
    if (!status)
        status = pal_model_open(arguments->inputs[0], &model);
    if (!status) {
        watch_interrupts();
        progress_start(&progress, flag_value(arguments, "quiet"));
        status = pal_compress(model, arguments->options, progress_update, &progress, &report);
        progress_stop(&progress);
    }
    if (!status)
        status = pal_model_save(model, flag_value(arguments, "output"), &bytes);
    int code = status ? report_failure(status) : finish(arguments, model, report, bytes, started);
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
    .inputs = 1,
    .run = run,
};
