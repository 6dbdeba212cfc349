#include "cli.h"

static const flag flags[] = {
    {"output", 'o', "OUT", "Where to write the decompressed model. Must be given."},
    {"json", 0, "FILE",
     "Also write the report as JSON; - writes it to standard output in the place of the table."},
    QUIET_FLAG,
    {0},
};

static int run(const arguments *arguments)
{
    double started = now_seconds();
    pal_model *model = NULL;
    pal_report *report = NULL;
    progress progress;
    uint64_t bytes = 0;
    pal_status status = pal_model_open(arguments->inputs[0], &model);
    int code = status ? 0 : check_outputs(arguments, model);
    if (!status && !code) {
        watch_interrupts();
        progress_start(&progress, flag_value(arguments, "quiet"));
        status = pal_decompress(model, progress_update, &progress, &report);
        progress_stop(&progress);
    }
    if (!status && !code)
        status = pal_model_save(model, flag_value(arguments, "output"), &bytes);
    if (status) {
        code = report_failure(status);
    } else if (!code) {
        const totals totals = {"decompressed", pal_model_bytes(model), bytes,
                               now_seconds() - started};
        if (wants_table(arguments))
            code = print_report(stdout, report, &totals);
        if (!code && flag_value(arguments, "json"))
            code = json_write(json_from_report(report, &totals), flag_value(arguments, "json"));
    }
    pal_report_free(report);
    pal_model_free(model);
    return code;
}

const command command_decompress = {
    .name = "decompress",
    .usage = "IN -o OUT [options]",
    .summary = "turn palettized weights back into dense ones",
    .details =
        "Writes the model with every palettized weight, by whichever tool it was made, stored "
        "as the values that the runtime would compute from it. Weights compressed in other "
        "ways stay as they are and are listed.",
    .flags = flags,
    .needs = "output",
    .inputs = 1,
    .run = run,
};
