/* Palettizes a model with libpalettize: the whole of a small tool.
 *
 *     cc compress.c -o compress $(pkg-config --cflags --libs palettize)
 *     ./compress model.mlpackage small.mlpackage 4
 */
#include <math.h>
#include <palettize.h>
#include <stdio.h>

/* Shows how far the work has come; returning false would cancel it. */
static bool show_progress(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user, (void)what;
    fprintf(stderr, "\r%3.0f %%", 100.0 * (double)done / (double)total);
    return true;
}

static void print_report(const pal_report *report)
{
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        if (entry->status == PAL_WEIGHT_COMPRESSED)
            printf("%-30s %u bit, %llu LUTs, %.1f dB\n", entry->weight.name, entry->weight.nbits,
                   (unsigned long long)entry->weight.num_luts, entry->psnr);
        else
            printf("%-30s skipped: %s\n", entry->weight.name, entry->reason);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: compress IN.mlpackage OUT.mlpackage NBITS\n");
        return 2;
    }
    pal_model *model = NULL;
    pal_options *options = NULL;
    pal_report *report = NULL;
    uint64_t bytes = 0;

    pal_status status = pal_options_new(&options);
    if (!status)
        status = pal_options_set(options, "nbits", argv[3]);
    if (!status)
        status = pal_model_open(argv[1], &model);
    if (!status)
        status = pal_compress(model, options, show_progress, NULL, &report);
    if (!status)
        status = pal_model_save(model, argv[2], &bytes);

    if (status) {
        fprintf(stderr, "compress: %s\n", pal_error_message());
    } else {
        fputc('\n', stderr);
        print_report(report);
        printf("%llu -> %llu bytes\n", (unsigned long long)pal_model_bytes(model),
               (unsigned long long)bytes);
    }
    pal_report_free(report);
    pal_model_free(model);
    pal_options_free(options);
    return status ? 1 : 0;
}
