/* What is written down of a run, so that a report can be made of it later. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* ---------------------------------------------------------------- before */

int observe(pal_model *model, const pal_options *options, observed *out)
{
    const size_t count = pal_model_weight_count(model);
    out->histograms = calloc(count + 1, sizeof *out->histograms);
    out->taken = calloc(count + 1, sizeof *out->taken);
    if (!out->histograms || !out->taken) {
        say_error("out of memory looking at weights");
        return EXIT_BAD_INPUT;
    }
    for (size_t i = 0; i < count; i++)
        out->taken[i] = !pal_model_skip_reason(model, i, options) &&
                        pal_model_histogram(model, i, &out->histograms[i]) == PAL_OK;
    return 0;
}

void observed_free(observed *observed)
{
    free(observed->histograms);
    free(observed->taken);
}

/* ---------------------------------------------------------------- weights */

static json_t *json_from_histogram(const pal_histogram *histogram)
{
    json_t *object = json_object(), *counts = json_array();
    json_put(object, "low", json_real(histogram->low));
    json_put(object, "high", json_real(histogram->high));
    json_put(object, "below", json_integer((json_int_t)histogram->below));
    json_put(object, "above", json_integer((json_int_t)histogram->above));
    for (size_t b = 0; b < PAL_HISTOGRAM_BINS; b++)
        json_append(counts, json_integer((json_int_t)histogram->counts[b]));
    json_put(object, "counts", counts);
    return object;
}

/* Entries of whole tables, evenly spread where there are too many to be told apart in a picture;
 * null where they are no values of the weight because scales multiply them. */
static json_t *json_from_tables(const pal_model *model, size_t i, size_t tables)
{
    enum { MOST = 512 };
    float *values = NULL;
    size_t count = 0;
    bool scaled = false;
    if (pal_model_luts(model, i, &values, &count, &scaled) || scaled) {
        pal_free(values);
        return json_null();
    }
    json_t *entries = json_array();
    const size_t size = tables && count % tables == 0 ? count / tables : count;
    const size_t all = count / size;
    const size_t shown = all * size <= MOST ? all : MOST / size ? MOST / size : 1;
    for (size_t t = 0; t < shown; t++)
        for (size_t e = 0; e < size; e++)
            json_append(entries, json_finite((double)values[all * t / shown * size + e]));
    pal_free(values);
    return entries;
}

/* ---------------------------------------------------------------- settings */

static bool differs(const char *value, const char *usual)
{
    return value && (!usual || strcmp(value, usual) != 0);
}

/* What was chosen: other than the defaults. */
static json_t *json_from_settings(const arguments *arguments)
{
    json_t *object = json_object();
    const pal_option *option;
    const pal_method_option *of_method;
    for (size_t i = 0; (option = pal_option_get(i)); i++) {
        const char *value = pal_options_value(arguments->options, option->name);
        if (differs(value, option->default_value))
            json_put_text(object, option->name, value);
    }
    for (size_t i = 0; (of_method = pal_method_option_get(i)); i++)
        if (pal_method_options_uses(arguments->method_options, of_method->name) &&
            strcmp(of_method->name, "method") != 0) {
            const char *value =
                pal_method_options_value(arguments->method_options, of_method->name);
            if (differs(value, of_method->default_value))
                json_put_text(object, of_method->name, value);
        }
    if (flag_value(arguments, "config"))
        json_put_text(object, "config", flag_value(arguments, "config"));
    if (flag_value(arguments, "data"))
        json_put_text(object, "data", flag_value(arguments, "data"));
    return object;
}

/* ---------------------------------------------------------------- all of it */

json_t *json_from_run(const arguments *arguments, const pal_model *model, const pal_report *report,
                      const observed *observed, const totals *totals)
{
    json_t *run = json_from_report(report, totals);
    json_t *weights = json_object_get(run, "weights");
    const char *log = pal_method_options_value(arguments->method_options, "log");
    json_put_text(run, "palettize", pal_version());
    json_put_text(run, "model", arguments->inputs[0]);
    json_put_text(run, "output", flag_value(arguments, "output"));
    json_put_text(run, "format", pal_model_format(model));
    json_put_text(run, "method", pal_method_options_value(arguments->method_options, "method"));
    json_put(run, "options", json_from_settings(arguments));
    json_put(run, "peak_bytes", json_integer((json_int_t)peak_bytes()));
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        json_t *weight = json_array_get(weights, i);
        if (entry->status != PAL_WEIGHT_COMPRESSED || !observed->taken[i])
            continue;
        json_put(weight, "histogram", json_from_histogram(&observed->histograms[i]));
        json_put(weight, "luts", json_from_tables(model, i, entry->weight.num_luts));
    }
    json_t *training = log && *log ? training_log_read(log) : NULL;
    if (training)
        json_put(run, "training", training);
    return run;
}
