#include "cli.h"

static const flag flags[] = {
    DATA_FLAG,
    {"reference", 'r', "FLOAT_MODEL",
     "A model to compare with, mostly the one before compression: no labels are needed then."},
    {"output", 0, "NAME", "The model's output that is scored. (default: its first)"},
    RUN_FLAGS,
    {"json", 0, "FILE",
     "Also write the figures as JSON; - writes them to standard output in the place of the table."},
    QUIET_FLAG,
    {0},
};

static int finish(const arguments *arguments, const pal_score *score)
{
    const uint64_t peak = peak_bytes();
    if (wants_table(arguments))
        print_score(stdout, score, peak);
    if (!flag_value(arguments, "json"))
        return 0;
    json_t *json = json_from_score(score, peak);
    json_put_text(json, "model", arguments->inputs[0]);
    json_put_text(json, "data", flag_value(arguments, "data"));
    return json_write(json, flag_value(arguments, "json"));
}

static int run(const arguments *arguments)
{
    pal_model *model = NULL, *reference = NULL;
    pal_data *data = NULL;
    pal_score_options options;
    pal_score score;
    progress progress;
    int code = check_outputs(arguments, NULL);
    if (!code)
        code = open_data(arguments, &data, &options);
    if (code)
        return code;
    pal_status status = pal_model_open(arguments->inputs[0], &model);
    if (!status && flag_value(arguments, "reference"))
        status = pal_model_open(flag_value(arguments, "reference"), &reference);
    if (!status) {
        watch_interrupts();
        progress_start(&progress, flag_value(arguments, "quiet"));
        status = pal_evaluate(model, reference, data, &options, progress_update, &progress, &score);
        progress_stop(&progress);
    }
    code = status ? report_failure(status) : finish(arguments, &score);
    pal_data_free(data);
    pal_model_free(reference);
    pal_model_free(model);
    return code;
}

const command command_eval = {
    .name = "eval",
    .usage = "MODEL --data DATA [options]",
    .summary = "run a model on data and score it",
    .details =
        "Runs MODEL on all samples, on the processor, in float32, and prints how many percent have "
        "the label as their best (top-1) or among their five best classes (top-5). With a "
        "reference: how often both choose the same class, the peak signal-to-noise ratio of the "
        "output, and the Kullback-Leibler divergence of the classes' probabilities. Compressed "
        "models are scored as they are: the figures are those of the file.\n\n"
        "A pixel p of channel c becomes (p * scale - mean[c]) / std[c]; give the mean and "
        "deviation that the model was trained with.",
    .flags = flags,
    .needs = "data",
    .data_options = true,
    .inputs = 1,
    .run = run,
};
