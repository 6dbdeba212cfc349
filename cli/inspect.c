#include <string.h>

#include "cli.h"

static const flag flags[] = {
    CONFIG_FLAGS,
    {"json", 0, "[FILE]",
     "Write JSON to standard output in the place of the table; or, with a FILE, to that as well. A "
     "FILE whose name does not end in .json is given as --json=FILE."},
    {0},
};

static int run(const arguments *arguments)
{
    if (flag_value(arguments, "print-config"))
        return print_config(arguments);
    pal_model *model = NULL;
    int code = 0;
    const char *json = flag_value(arguments, "json");
    const bool to_stdout = json && (!*json || strcmp(json, "-") == 0);
    pal_status status = pal_model_open(arguments->inputs[0], &model);
    if (status)
        code = report_failure(status);
    else if (!to_stdout)
        code = print_weights(stdout, model, arguments->options);
    if (!status && !code && json)
        code = json_write(json_from_model(model, arguments->options), to_stdout ? "-" : json);
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
