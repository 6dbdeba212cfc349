#include "cli.h"

static const flag flags[] = {
    {"output", 'o', "FILE", "Where to write the page. Must be given."},
    {0},
};

static int run(const arguments *arguments)
{
    report_runs *runs = report_runs_new();
    int code = runs ? 0 : EXIT_BAD_INPUT;
    for (size_t i = 0; !code && i < arguments->input_count; i++)
        code = report_runs_add_file(runs, arguments->inputs[i]);
    if (!code)
        code = report_runs_write(runs, flag_value(arguments, "output"));
    report_runs_free(runs);
    return code;
}

const command command_report = {
    .name = "report",
    .usage = "RUN.json [MORE ...] -o PAGE.html",
    .summary = "make a page to look at of one or several runs",
    .details =
        "Reads what compress --json has written and makes one HTML page of it, which needs nothing "
        "else and loads nothing: sizes before and after, a bar for each layer, the values of the "
        "weights with the entries of their look-up tables. Of several runs it shows size against "
        "accuracy as well.\n\n"
        "Accuracy comes from what eval --json has written, given in any order with the runs: the "
        "score of a model belongs to the run that wrote it, or that began with it. Curves come "
        "from a log of training (CSV with a line of names, or JSON), given after its run.",
    .flags = flags,
    .needs = "output",
    .inputs = INPUTS_AT_LEAST_ONE,
    .run = run,
};
