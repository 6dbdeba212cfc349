#include "cli.h"

static const flag flags[] = {
    CONFIG_FLAGS,
    {"json", 0, NULL, "Write JSON instead of a table."},
    {0},
};

static int run(const arguments *arguments)
{
    if (flag_value(arguments, "print-config"))
        return print_config(arguments);
    pal_model *model = NULL;
    int code = 0;
    pal_status status = pal_model_open(arguments->inputs[0], &model);
    if (status)
        code = report_failure(status);
    else if (flag_value(arguments, "json"))
        code = json_write(json_from_model(model, arguments->options), "-");
    else
        code = print_weights(stdout, model, arguments->options);
    pal_model_free(model);
    return code;
}

const command command_inspect = {
    .name = "inspect",
    .usage = "IN [options]",
    .summary = "list the weights of a model",
    .details =
        "Shows every weight: its name, the operator that uses it, its shape and type, how it is "
        "stored, its bytes, and whether compress would skip it under the same options, and why.",
    .flags = flags,
    .library_options = true,
    .inputs = 1,
    .run = run,
};
