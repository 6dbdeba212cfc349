/* Tables for people: columns as wide as their content. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 10, CELL = 96 };

typedef struct table {
    int columns;
    const char *const *headings;
    const bool *right; /* aligned */
    size_t rows, capacity;
    bool failed;         /* out of memory: rows are missing */
    char (*cells)[CELL]; /* rows x columns */
} table;

/* Text from a file, made safe for a terminal. */
static void copy_printable(char *to, size_t size, const char *from)
{
    size_t i = 0;
    for (; from[i] && i + 1 < size; i++)
        to[i] = (unsigned char)from[i] < 32 || from[i] == 127 ? '?' : from[i];
    to[i] = 0;
}

/* A new row of empty cells; NULL when out of memory. */
static char (*table_row(table *t))[CELL]
{
    if (t->rows == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 64;
        void *larger = realloc(t->cells, capacity * (size_t)t->columns * CELL);
        if (!larger) {
            t->failed = true;
            return NULL;
        }
        t->cells = larger;
        t->capacity = capacity;
    }
    char(*row)[CELL] = t->cells + t->rows++ * (size_t)t->columns;
    memset(row, 0, (size_t)t->columns * CELL);
    return row;
}

static void print_row(FILE *out, const table *t, const int *width, char (*row)[CELL])
{
    for (int c = 0; c < t->columns; c++) {
        const char *text = row ? row[c] : t->headings[c];
        bool last = c + 1 == t->columns;
        if (t->right[c])
            fprintf(out, "%*s", width[c], text);
        else
            fprintf(out, "%-*s", last ? 0 : width[c], text);
        fputs(last ? "\n" : "  ", out);
    }
}

static void table_print(FILE *out, const table *t)
{
    int width[MAX_COLUMNS];
    for (int c = 0; c < t->columns; c++) {
        width[c] = (int)strlen(t->headings[c]);
        for (size_t r = 0; r < t->rows; r++) {
            int n = (int)strlen(t->cells[r * (size_t)t->columns + (size_t)c]);
            width[c] = n > width[c] ? n : width[c];
        }
    }
    print_row(out, t, width, NULL);
    for (size_t r = 0; r < t->rows; r++)
        print_row(out, t, width, t->cells + r * (size_t)t->columns);
}

/* ---------------------------------------------------------------- cells */

static void put_shape(char *cell, const pal_weight *weight)
{
    int n = 0;
    for (size_t d = 0; d < weight->rank && n < CELL; d++)
        n += snprintf(cell + n, (size_t)(CELL - n), "%s%llu", d ? "x" : "",
                      (unsigned long long)weight->shape[d]);
}

static void put_bytes(char *cell, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    int unit = 0;
    for (; size >= 1024 && unit < 4; unit++)
        size /= 1024;
    snprintf(cell, CELL, unit ? "%.2f %s" : "%.0f %s", size, units[unit]);
}

/* ---------------------------------------------------------------- reports */

enum { NAME, OP, SHAPE, TYPE, BITS, LUTS, BYTES, RATIO, MSE, PSNR };

static void put_entry(char (*row)[CELL], const pal_report_entry *entry)
{
    const pal_weight *weight = &entry->weight;
    copy_printable(row[NAME], CELL, weight->name);
    copy_printable(row[OP], CELL, weight->op);
    put_shape(row[SHAPE], weight);
    snprintf(row[TYPE], CELL, "%s", pal_dtype_name(weight->dtype));
    snprintf(row[BITS], CELL, "%u", weight->nbits);
    snprintf(row[LUTS], CELL, "%llu", (unsigned long long)weight->num_luts);
    put_bytes(row[BYTES], weight->bytes);
    snprintf(row[RATIO], CELL, "%.2f",
             weight->bytes ? (double)entry->bytes_before / (double)weight->bytes : 0.0);
    if (entry->status != PAL_WEIGHT_COMPRESSED)
        return;
    snprintf(row[MSE], CELL, "%.3g", entry->mse);
    snprintf(row[PSNR], CELL, isinf(entry->psnr) ? "exact" : "%.2f", entry->psnr);
}

/* Weights that were changed. Returns how many. */
static size_t print_changed(FILE *out, const pal_report *report, bool *failed)
{
    static const char *const headings[] = {"weight", "operator", "shape", "type", "bits",
                                           "LUTs",   "bytes",    "ratio", "mse",  "psnr dB"};
    static const bool right[] = {false, false, false, false, true, true, true, true, true, true};
    table t = {.columns = MAX_COLUMNS, .headings = headings, .right = right};
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        const bool changed =
            entry->status == PAL_WEIGHT_COMPRESSED || entry->status == PAL_WEIGHT_DECOMPRESSED;
        char(*row)[CELL] = changed ? table_row(&t) : NULL;
        if (row)
            put_entry(row, entry);
    }
    if (t.rows)
        table_print(out, &t);
    free(t.cells);
    *failed = *failed || t.failed;
    return t.rows;
}

/* Weights of a status with something to say about them. */
static void print_reasons(FILE *out, const pal_report *report, pal_weight_status status,
                          const char *title, bool *failed)
{
    static const char *const headings[] = {"weight", "operator", "shape", "reason"};
    static const bool right[] = {false, false, false, false};
    table t = {.columns = 4, .headings = headings, .right = right};
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        if (entry->status != status || !*entry->reason)
            continue;
        char(*row)[CELL] = table_row(&t);
        if (!row)
            break;
        copy_printable(row[0], CELL, entry->weight.name);
        copy_printable(row[1], CELL, entry->weight.op);
        put_shape(row[2], &entry->weight);
        copy_printable(row[3], CELL, entry->reason);
    }
    if (t.rows) {
        fprintf(out, "\n%s:\n", title);
        table_print(out, &t);
    }
    free(t.cells);
    *failed = *failed || t.failed;
}

/* The exit code after a table whose rows are all there, or not. */
static int finish_table(bool failed)
{
    if (failed)
        fprintf(stderr, "palettize: out of memory printing a table: rows are missing\n");
    return failed ? EXIT_BAD_INPUT : 0;
}

int print_report(FILE *out, const pal_report *report, const totals *totals)
{
    char before[CELL], after[CELL];
    bool failed = false;
    size_t changed = print_changed(out, report, &failed), count = pal_report_count(report);
    print_reasons(out, report, PAL_WEIGHT_COMPRESSED, "remarks", &failed);
    print_reasons(out, report, PAL_WEIGHT_DECOMPRESSED, "remarks", &failed);
    print_reasons(out, report, PAL_WEIGHT_ADJUSTED, "dense, with other values", &failed);
    print_reasons(out, report, PAL_WEIGHT_SKIPPED, "left as they are", &failed);
    if (pal_report_note(report, 0))
        fprintf(out, "\n");
    for (size_t i = 0; pal_report_note(report, i); i++)
        fprintf(out, "%s\n", pal_report_note(report, i));
    put_bytes(before, totals->bytes_before);
    put_bytes(after, totals->bytes_after);
    fprintf(out, "\n%zu of %zu weights %s; %s -> %s, ratio %.2f, %.2f s\n", changed, count,
            totals->verb, before, after,
            totals->bytes_after ? (double)totals->bytes_before / (double)totals->bytes_after : 0.0,
            totals->seconds);
    return finish_table(failed);
}

/* ---------------------------------------------------------------- inspection */

int print_weights(FILE *out, pal_model *model, const pal_options *options)
{
    static const char *const headings[] = {"weight", "operator", "shape", "type",    "stored",
                                           "bits",   "LUTs",     "bytes", "compress"};
    static const bool right[] = {false, false, false, false, false, true, true, true, false};
    table t = {.columns = 9, .headings = headings, .right = right};
    uint64_t elements = 0, bytes = 0;
    size_t count = pal_model_weight_count(model), open = 0;
    for (size_t i = 0; i < count; i++) {
        const pal_weight *weight = pal_model_weight(model, i);
        const char *reason = pal_model_skip_reason(model, i, options);
        char(*row)[CELL] = table_row(&t);
        if (!row)
            break;
        copy_printable(row[0], CELL, weight->name);
        copy_printable(row[1], CELL, weight->op);
        put_shape(row[2], weight);
        snprintf(row[3], CELL, "%s", pal_dtype_name(weight->dtype));
        snprintf(row[4], CELL, "%s", pal_storage_name(weight->storage));
        snprintf(row[5], CELL, "%u", weight->nbits);
        if (weight->num_luts)
            snprintf(row[6], CELL, "%llu", (unsigned long long)weight->num_luts);
        put_bytes(row[7], weight->bytes);
        if (reason)
            snprintf(row[8], CELL, "no: %s", reason);
        else
            snprintf(row[8], CELL, "yes");
        elements += weight->elements;
        bytes += weight->bytes;
        open += !reason;
    }
    char file_size[CELL], weight_size[CELL];
    put_bytes(file_size, pal_model_bytes(model));
    put_bytes(weight_size, bytes);
    fprintf(out, "%s\n\n", pal_model_description(model));
    if (t.rows)
        table_print(out, &t);
    fprintf(out, "\n%zu weights, %llu elements in %s; %zu can be palettized; the file takes %s\n",
            count, (unsigned long long)elements, weight_size, open, file_size);
    free(t.cells);
    return finish_table(t.failed);
}

/* ---------------------------------------------------------------- scores */

void print_score(FILE *out, const pal_score *score, uint64_t peak_bytes)
{
    char peak[CELL];
    put_bytes(peak, peak_bytes);
    if (score->labelled)
        fprintf(out, "top-1         %8.2f %%\ntop-5         %8.2f %%\n", score->top1, score->top5);
    if (score->compared && score->classes)
        fprintf(out, "agreement     %8.2f %%  of places have the reference's class\n",
                score->agreement);
    if (score->compared && isinf(score->psnr))
        fprintf(out, "psnr             equal\n");
    else if (score->compared)
        fprintf(out, "psnr          %8.2f dB\n", score->psnr);
    if (score->compared && score->classes)
        fprintf(out, "KL divergence %8.5f nats\n", score->kl_divergence);
    if (score->nan_samples)
        fprintf(out, "NaN in the output of %llu samples\n", (unsigned long long)score->nan_samples);
    if (!score->labelled && !score->compared)
        fprintf(out, "the data has no labels: give --reference to compare with another model\n");
    fprintf(out, "\n%llu samples, %.1f a second, %.2f s; peak memory %s\n",
            (unsigned long long)score->samples,
            score->seconds > 0 ? (double)score->samples / score->seconds : 0.0, score->seconds,
            peak);
    if (score->one_by_one)
        fprintf(out, "the model's operators mix samples of a batch: they ran one at a time\n");
}

/* A bar that grows with the error. */
static void put_bar(char *cell, double relative)
{
    const int full = relative >= 1 ? 20 : (int)(20 * relative + 0.5);
    memset(cell, '#', (size_t)full);
    cell[full] = 0;
}

int print_comparison(FILE *out, const pal_comparison *comparison)
{
    static const char *const headings[] = {"layer",  "operator", "own error",   "so far",
                                           "SNR dB", "psnr dB",  "error so far"};
    static const bool right[] = {false, false, true, true, true, true, false};
    table t = {.columns = 7, .headings = headings, .right = right};
    for (size_t i = 0; i < pal_comparison_count(comparison); i++) {
        const pal_layer_error *layer = pal_comparison_get(comparison, i);
        char(*row)[CELL] = table_row(&t);
        if (!row)
            break;
        copy_printable(row[0], CELL, layer->name);
        copy_printable(row[1], CELL, layer->op);
        snprintf(row[2], CELL, "%.3g %%", 100 * layer->own);
        snprintf(row[3], CELL, "%.3g %%", 100 * layer->relative);
        snprintf(row[4], CELL, isinf(layer->snr) ? "equal" : "%.2f", layer->snr);
        snprintf(row[5], CELL, isinf(layer->psnr) ? "equal" : "%.2f", layer->psnr);
        put_bar(row[6], layer->relative);
    }
    table_print(out, &t);
    free(t.cells);
    return finish_table(t.failed);
}
