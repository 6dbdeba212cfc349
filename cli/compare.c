#include "cli.h"

static const flag flags[] = {
    DATA_FLAG,
    RUN_FLAGS,
    {"json", 0, "FILE",
     "Also write the figures as JSON; - writes them to standard output in the place of the table."},
    QUIET_FLAG,
    {0},
};

static int run(const arguments *arguments)
{
    pal_model *models[2] = {NULL, NULL};
    pal_data *data = NULL;
    pal_comparison *comparison = NULL;
    pal_score_options options;
    progress progress;
    int code = check_outputs(arguments, NULL);
    if (!code)
        code = open_data(arguments, &data, &options);
    if (code)
        return code;
    pal_status status = pal_model_open(arguments->inputs[0], &models[0]);
    if (!status)
        status = pal_model_open(arguments->inputs[1], &models[1]);
    if (!status) {
        watch_interrupts();
        progress_start(&progress, flag_value(arguments, "quiet"));
        status = pal_compare(models[0], models[1], data, &options, progress_update, &progress,
                             &comparison);
        progress_stop(&progress);
    }
    if (status) {
        code = report_failure(status);
    } else {
        if (wants_table(arguments))
            code = print_comparison(stdout, comparison);
        if (!code && flag_value(arguments, "json"))
            code = json_write(json_from_comparison(comparison), flag_value(arguments, "json"));
    }
    pal_comparison_free(comparison);
    pal_data_free(data);
    pal_model_free(models[1]);
    pal_model_free(models[0]);
    return code;
}

const command command_compare = {
    .name = "compare",
    .usage = "A B --data DATA [options]",
    .summary = "show in which layers two models differ",
    .details =
        "Runs A (mostly compressed) and B (mostly the original) on the same samples and compares "
        "what each layer with weights gives, in the order of evaluation. The error so far is the "
        "norm of the difference over the norm of B's values; the own error is what the layer would "
        "show if everything before it were as in B: that is where the error arises. Layers are "
        "matched by the names of their values.",
    .flags = flags,
    .needs = "data",
    .data_options = true,
    .inputs = 2,
    .run = run,
};
