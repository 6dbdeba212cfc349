/* The score of a file that was just written, on samples that training has not seen. */
#include <math.h>
#include <stdlib.h>

#include "cli.h"

int held_back_open(const arguments *arguments, const pal_data *data, held_back *out)
{
    *out = (held_back){0};
    if (!data || !pal_method_options_uses(arguments->method_options, "validation"))
        return 0;
    pal_status status = pal_method_held_back(data, arguments->method_options, &out->samples);
    if (!status && out->samples)
        status = pal_model_open(arguments->inputs[0], &out->model);
    return status ? report_failure(status) : 0;
}

int held_back_score(const arguments *arguments, held_back *held_back)
{
    const pal_score_options options = {
        .threads = atoi(pal_options_value(arguments->options, "threads")),
        .output = pal_method_options_value(arguments->method_options, "loss_output")};
    pal_model *written = NULL;
    progress progress;
    if (!held_back->samples)
        return 0;
    progress_start(&progress, flag_value(arguments, "quiet"));
    pal_status status = pal_model_open(flag_value(arguments, "output"), &written);
    if (!status)
        status = pal_evaluate(written, held_back->model, held_back->samples, &options,
                              progress_update, &progress, &held_back->written);
    if (!status)
        status = pal_evaluate(held_back->model, NULL, held_back->samples, &options, progress_update,
                              &progress, &held_back->original);
    progress_stop(&progress);
    pal_model_free(written);
    return status ? report_failure(status) : 0;
}

void held_back_print(FILE *out, const held_back *held_back)
{
    const pal_score *score = &held_back->written;
    if (!held_back->samples)
        return;
    fprintf(out, "\nOn %llu samples held back from training, the file that was written has",
            (unsigned long long)score->samples);
    if (score->labelled)
        fprintf(out, " top-1 %.2f %% (the original %.2f %%)", score->top1,
                held_back->original.top1);
    else if (score->classes)
        fprintf(out, " the original's class %.2f %% of the time", score->agreement);
    else if (isinf(score->psnr))
        fprintf(out, " the original's outputs");
    else
        fprintf(out, " a psnr of %.2f dB to the original", score->psnr);
    fprintf(out, ".\n");
}

void held_back_close(held_back *held_back)
{
    pal_data_free(held_back->samples);
    pal_model_free(held_back->model);
    *held_back = (struct held_back){0};
}
