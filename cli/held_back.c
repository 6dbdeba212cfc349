/* The score of a file that was just written, on samples that training has not seen. */
#include <string.h>

#include "cli.h"

int score_held_back(const arguments *arguments, const pal_data *data, held_back *out)
{
    const char *from = arguments->inputs[0], *to = flag_value(arguments, "output");
    const pal_score_options options = {
        .output = pal_method_options_value(arguments->method_options, "loss_output")};
    pal_model *written = NULL, *original = NULL;
    pal_data *samples = NULL;
    *out = (held_back){0};
    if (!data || !pal_method_options_uses(arguments->method_options, "validation"))
        return 0;
    pal_status status = pal_method_held_back(data, arguments->method_options, &samples);
    if (!status && samples) {
        /* Where the output has taken the place of the input, the original is no more. */
        out->compared = strcmp(from, to) != 0;
        status = pal_model_open(to, &written);
        if (!status && out->compared)
            status = pal_model_open(from, &original);
        if (!status)
            status = pal_evaluate(written, original, samples, &options, NULL, NULL, &out->written);
        if (!status && original)
            status = pal_evaluate(original, NULL, samples, &options, NULL, NULL, &out->original);
        out->scored = !status;
    }
    pal_data_free(samples);
    pal_model_free(original);
    pal_model_free(written);
    return status ? report_failure(status) : 0;
}

void print_held_back(FILE *out, const held_back *score)
{
    if (!score->scored)
        return;
    fprintf(out, "\nOn %llu samples held back from training, the file that was written has",
            (unsigned long long)score->written.samples);
    if (score->written.labelled) {
        fprintf(out, " top-1 %.2f %%", score->written.top1);
        if (score->compared)
            fprintf(out, " (the original %.2f %%)", score->original.top1);
    } else if (score->written.classes) {
        fprintf(out, " the original's class %.2f %% of the time", score->written.agreement);
    } else if (score->written.compared) {
        fprintf(out, " a psnr of %.2f dB to the original", score->written.psnr);
    }
    fprintf(out, ".\n");
}
