#include "report/page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/charts.h"
#include "report/html.h"
#include "report/sections.h"
#include "report/style.h"

const char *path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---------------------------------------------------------------- size against accuracy */

/* What runs are compared by: the first of these that at least two of them have. */
typedef struct measure {
    const char *title, *name, *unit, *column;
    double (*of)(const page_run *run);
} measure;

static double top1_of(const page_run *run)
{
    return run->score.known ? run->score.top1 : NAN;
}

static double agreement_of(const page_run *run)
{
    return run->score.known ? run->score.agreement : NAN;
}

static const measure measures[] = {
    {"Size and accuracy", "accuracy", "%", "top-1 %", top1_of},
    {"Size and agreement with the reference", "agreement", "%", "same class %", agreement_of},
    {"Size and error of weights", "PSNR", "dB", "mean PSNR dB", mean_psnr},
};

static const measure *find_measure(const page_run *runs, size_t count)
{
    const measure *const last = &measures[sizeof measures / sizeof *measures - 1];
    for (const measure *m = measures; m < last; m++) {
        size_t known = 0;
        for (size_t i = 0; i < count; i++)
            known += !isnan(m->of(&runs[i]));
        if (known > 1)
            return m;
    }
    return last;
}

/* The accuracy of the models before, if it is the same for all. */
static double level_of(const page_run *runs, size_t count, const measure *measure)
{
    double level = NAN;
    for (size_t i = 0; measure->of == top1_of && i < count; i++) {
        const page_score *before = &runs[i].score_before;
        if (!before->known || isnan(before->top1))
            continue;
        if (!isnan(level) && level != before->top1)
            return NAN;
        level = before->top1;
    }
    return level;
}

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* Room for the points of all lines: a run stands in one line. */
typedef struct plot {
    chart_line *lines;
    size_t line_count;
    const page_run **runs; /* in the order of their points */
    double *x, *y;
    char (*texts)[32];
    const char **labels;
} plot;

static bool plot_allocate(plot *plot, size_t count)
{
    plot->lines = mem_zeroed(count, sizeof *plot->lines);
    plot->runs = mem_array(count, sizeof *plot->runs);
    plot->x = mem_array(count, sizeof *plot->x);
    plot->y = mem_array(count, sizeof *plot->y);
    plot->texts = mem_zeroed(count, sizeof *plot->texts);
    plot->labels = mem_array(count, sizeof *plot->labels);
    return plot->lines && plot->runs && plot->x && plot->y && plot->texts && plot->labels;
}

static void plot_free(plot *plot)
{
    free(plot->lines);
    free(plot->runs);
    free(plot->x);
    free(plot->y);
    free(plot->texts);
    free(plot->labels);
}

static int smaller_first(const void *a, const void *b)
{
    const page_run *x = *(const page_run *const *)a, *y = *(const page_run *const *)b;
    if (x->bytes_after != y->bytes_after)
        return x->bytes_after < y->bytes_after ? -1 : 1;
    return (x > y) - (x < y);
}

static bool same_series(const page_run *a, const page_run *b)
{
    return strcmp(a->series, b->series) == 0;
}

static bool begins_series(const page_run *runs, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (same_series(&runs[j], &runs[i]))
            return false;
    return true;
}

/* Puts the runs of one series side by side, the smallest first. */
static void plot_fill(plot *plot, const page_run *runs, size_t count, const measure *measure,
                      double unit)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!begins_series(runs, i))
            continue;
        const size_t first = used;
        for (size_t j = i; j < count; j++)
            if (same_series(&runs[j], &runs[i]))
                plot->runs[used++] = &runs[j];
        qsort(plot->runs + first, used - first, sizeof *plot->runs, smaller_first);
        plot->lines[plot->line_count++] = (chart_line){.name = runs[i].series,
                                                       .x = plot->x + first,
                                                       .y = plot->y + first,
                                                       .labels = plot->labels + first,
                                                       .points = used - first};
    }
    for (size_t i = 0; i < count; i++) {
        plot->x[i] = plot->runs[i]->bytes_after / unit;
        plot->y[i] = measure->of(plot->runs[i]);
        if (plot->runs[i]->nbits)
            snprintf(plot->texts[i], sizeof *plot->texts, "%u bit", plot->runs[i]->nbits);
        else
            snprintf(plot->texts[i], sizeof *plot->texts, "mixed");
        plot->labels[i] = plot->texts[i];
    }
}

static pal_status show_plot(file_writer *out, const page_run *runs, size_t count,
                            const measure *measure)
{
    plot plot = {0};
    pal_status status = plot_allocate(&plot, count) ? PAL_OK : fail_memory("making a report");
    if (!status) {
        double largest = 0;
        for (size_t i = 0; i < count; i++)
            largest = fmax(largest, runs[i].bytes_after);
        const bool small = largest < MIB;
        plot_fill(&plot, runs, count, measure, small ? KIB : MIB);
        char title[64];
        snprintf(title, sizeof title, "%s (%s)", measure->title, measure->unit);
        chart_lines(out, &(chart){.title = title,
                                  .x_name = small ? "size, KiB" : "size, MiB",
                                  .lines = plot.lines,
                                  .line_count = plot.line_count,
                                  .level = level_of(runs, count, measure),
                                  .level_name = "before"});
    }
    plot_free(&plot);
    return status;
}

/* ---------------------------------------------------------------- several runs */

static void show_row(file_writer *out, const page_run *run, const measure *measure)
{
    html_put(out, "<tr><td>");
    html_name(out, path_name(run->output));
    html_put(out, "</td><td>");
    html_text(out, run->series);
    html_put(out, "</td><td class=\"n\">");
    show_bits(out, run);
    html_put(out, "</td><td class=\"n\">");
    html_bytes(out, run->bytes_after);
    html_format(out, "</td><td class=\"n\">%.2f</td><td class=\"n\">",
                run->bytes_after > 0 ? run->bytes_before / run->bytes_after : 0);
    html_decimals(out, measure->of(run), 2);
    html_put(out, "</td><td class=\"n\">");
    if (!isnan(run->seconds))
        html_seconds(out, run->seconds);
    html_put(out, "</td></tr>");
}

static pal_status show_overview(file_writer *out, const page_run *runs, size_t count)
{
    const measure *measure = find_measure(runs, count);
    pal_status status = show_plot(out, runs, count, measure);
    html_put(out, "<h2>Runs</h2><div class=\"card scroll\"><table><thead><tr><th>file</th>"
                  "<th>method</th><th class=\"n\">bits</th><th class=\"n\">size</th>"
                  "<th class=\"n\">ratio</th><th class=\"n\">");
    html_put(out, measure->column);
    html_put(out, "</th><th class=\"n\">time</th></tr></thead><tbody>");
    for (size_t i = 0; i < count; i++)
        show_row(out, &runs[i], measure);
    html_put(out, "</tbody></table></div>");
    for (size_t i = 0; !status && i < count; i++) {
        html_put(out, "<details class=\"run\"><summary>");
        html_name(out, path_name(runs[i].output));
        html_put(out, " <span class=\"soft\">");
        html_text(out, runs[i].series);
        html_put(out, ", ");
        show_bits(out, &runs[i]);
        html_put(out, "</span></summary>");
        status = show_run(out, &runs[i], i);
        html_put(out, "</details>");
    }
    return status;
}

/* ---------------------------------------------------------------- the page */

static void show_heading(file_writer *out, const page_run *runs, size_t count)
{
    html_put(out, "<header><h1>");
    html_name(out, path_name(runs[0].model));
    html_put(out, "</h1><span class=\"soft\">");
    if (count > 1) {
        html_format(out, "%zu runs", count);
    } else {
        show_bits(out, runs);
        html_put(out, ", ");
        html_text(out, runs->series);
    }
    html_put(out, "</span></header>");
}

static pal_status put_page(file_writer *out, const page_run *runs, size_t count)
{
    pal_status status = PAL_OK;
    html_put(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                  "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
                  /* nothing is loaded from anywhere, whatever the texts hold */
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "style-src 'unsafe-inline'; script-src 'unsafe-inline'\"><title>");
    html_text(out, path_name(runs[0].model));
    html_put(out, " palettized</title>\n<style>");
    html_put(out, page_style);
    html_put(out, "</style></head>\n<body><main>");
    show_heading(out, runs, count);
    if (count > 1)
        status = show_overview(out, runs, count);
    else
        status = show_run(out, runs, 0);
    html_format(out, "<footer class=\"soft\">Made by palettize %s</footer></main>\n<script>",
                pal_version());
    html_put(out, page_script);
    html_put(out, "</script></body></html>\n");
    return status;
}

pal_status page_check(const char *path)
{
    staged_output stage;
    const pal_status status = stage_file(&stage, path);
    if (!status)
        stage_abandon(&stage);
    return status;
}

pal_status page_write(const char *path, const page_run *runs, size_t count)
{
    staged_output stage;
    file_writer out;
    if (!count)
        return fail(PAL_ERROR_ARGUMENT, "%s: no run to report on", path);
    pal_status status = stage_file(&stage, path);
    if (status)
        return status;
    status = writer_open(&out, stage.temporary);
    if (!status) {
        status = put_page(&out, runs, count);
        const pal_status closed = writer_close(&out);
        status = status ? status : closed;
    }
    if (!status)
        return stage_commit(&stage);
    stage_abandon(&stage);
    return status;
}
