/* One run: how much smaller, what that cost, and how it was made. */
#include <math.h>
#include <string.h>

#include "report/charts.h"
#include "report/html.h"
#include "report/sections.h"

/* ---------------------------------------------------------------- figures */

void show_bits(file_writer *out, const page_run *run)
{
    unsigned least = 64, most = 0;
    for (size_t i = 0; i < run->weight_count; i++) {
        const page_weight *weight = &run->weights[i];
        if (weight->palettized) {
            least = weight->nbits < least ? weight->nbits : least;
            most = weight->nbits > most ? weight->nbits : most;
        }
    }
    if (!most)
        html_put(out, "nothing palettized");
    else if (least == most)
        html_format(out, "%u bit", most);
    else
        html_format(out, "%u to %u bit", least, most);
}

double mean_psnr(const page_run *run)
{
    double sum = 0, count = 0;
    for (size_t i = 0; i < run->weight_count; i++)
        if (run->weights[i].palettized && isfinite(run->weights[i].psnr)) {
            sum += run->weights[i].psnr;
            count++;
        }
    return count > 0 ? sum / count : NAN;
}

/* ---------------------------------------------------------------- sizes */

typedef struct shares {
    double palettized, kept, rest;
} shares;

/* Shared palettes are stored once but listed for each weight, so the parts may add up to more than
 * the file. */
static shares find_shares(const page_run *run, bool after)
{
    shares s = {0};
    for (size_t i = 0; i < run->weight_count; i++) {
        const page_weight *weight = &run->weights[i];
        *(weight->palettized ? &s.palettized : &s.kept) +=
            after ? weight->bytes_after : weight->bytes_before;
    }
    s.rest = fmax(0, (after ? run->bytes_after : run->bytes_before) - s.palettized - s.kept);
    return s;
}

static void show_stack(file_writer *out, const char *title, double bytes, shares s, double scale)
{
    const double sum = s.palettized + s.kept + s.rest;
    const double width = sum > 0 ? 100 * bytes / scale / sum : 0;
    html_format(out, "<span class=\"soft\">%s</span><div>", title);
    html_format(out,
                "<div class=\"stack\"><i class=\"palettized\" style=\"width:%.2f%%\"></i>"
                "<i class=\"kept\" style=\"width:%.2f%%\"></i>"
                "<i class=\"rest\" style=\"width:%.2f%%\"></i></div>",
                s.palettized * width, s.kept * width, s.rest * width);
    html_bytes(out, bytes);
    html_put(out, "</div>");
}

static void show_sizes(file_writer *out, const page_run *run)
{
    const double scale = fmax(fmax(run->bytes_before, run->bytes_after), 1);
    html_put(out, "<div class=\"hero card\"><div><div class=\"big\">");
    html_format(out, "%.2f<span>&times;</span></div><p>smaller: ",
                run->bytes_after > 0 ? run->bytes_before / run->bytes_after : 0);
    html_bytes(out, run->bytes_before);
    html_put(out, " became ");
    html_bytes(out, run->bytes_after);
    html_put(out, "</p></div><div class=\"sizes\">");
    show_stack(out, "before", run->bytes_before, find_shares(run, false), scale);
    show_stack(out, "after", run->bytes_after, find_shares(run, true), scale);
    html_put(out, "<div class=\"key\"><span><i class=\"palettized\"></i>weights that are "
                  "palettized</span><span><i class=\"kept\"></i>weights left as they are</span>"
                  "<span><i class=\"rest\"></i>everything else in the file</span></div>"
                  "</div></div>");
}

/* ---------------------------------------------------------------- tiles */

/* The number itself and "</b>" come between the two. */
static void tile_begin(file_writer *out, const char *title)
{
    html_format(out, "<div class=\"card\"><small>%s</small><b>", title);
}

static void tile_end(file_writer *out)
{
    html_put(out, "</div>");
}

static void show_accuracy(file_writer *out, const page_run *run)
{
    const page_score *score = &run->score, *before = &run->score_before;
    if (score->known && !isnan(score->top1)) {
        tile_begin(out, "accuracy (top-1)");
        html_decimals(out, score->top1, 2);
        html_put(out, "&nbsp;%</b><small>");
        if (before->known && !isnan(before->top1)) {
            const double change = score->top1 - before->top1;
            html_format(out, "<span class=\"%s\">%+.2f</span> points from ",
                        change < -1 ? "bad" : "good", change);
            html_decimals(out, before->top1, 2);
            html_put(out, "&nbsp;% before");
        } else {
            html_format(out, "on %.0f samples", score->samples);
        }
        html_put(out, "</small>");
        tile_end(out);
    }
    if (score->known && !isnan(score->agreement)) {
        tile_begin(out, "same class as the reference");
        html_decimals(out, score->agreement, 2);
        html_format(out, "&nbsp;%%</b><small>of %.0f samples</small>", score->samples);
        tile_end(out);
    }
}

static void show_held_back(file_writer *out, const page_score *score)
{
    const bool labelled = !isnan(score->top1);
    const double percent = labelled ? score->top1 : score->agreement;
    if (!score->known || isnan(percent))
        return;
    tile_begin(out, labelled ? "accuracy (top-1)" : "same class as the original");
    html_decimals(out, percent, 2);
    html_format(out, "&nbsp;%%</b><small>held back from training, %.0f samples</small>",
                score->samples);
    tile_end(out);
}

static void show_tiles(file_writer *out, const page_run *run)
{
    double elements_bits = 0, before = 0, worst = INFINITY;
    size_t palettized = 0;
    const page_weight *worst_weight = NULL;
    for (size_t i = 0; i < run->weight_count; i++) {
        const page_weight *weight = &run->weights[i];
        if (!weight->palettized)
            continue;
        palettized++;
        elements_bits += weight->bytes_after;
        before += weight->bytes_before;
        if (weight->psnr < worst) {
            worst = weight->psnr;
            worst_weight = weight;
        }
    }
    html_put(out, "<div class=\"tiles\">");
    show_accuracy(out, run);
    show_held_back(out, &run->held_back);
    tile_begin(out, "weights palettized");
    html_format(out, "%zu of %zu</b><small>", palettized, run->weight_count);
    if (palettized && elements_bits > 0)
        html_format(out, "%.2f&times; smaller by themselves", before / elements_bits);
    html_put(out, "</small>");
    tile_end(out);
    if (palettized) {
        tile_begin(out, "mean PSNR of weights");
        if (isnan(mean_psnr(run))) {
            html_put(out, "exact</b>");
        } else {
            html_decimals(out, mean_psnr(run), 1);
            html_put(out, "&nbsp;dB</b>");
        }
        if (worst_weight) {
            html_put(out, "<small>least ");
            html_decimals(out, worst, 1);
            html_put(out, "&nbsp;dB, ");
            html_name(out, worst_weight->name);
            html_put(out, "</small>");
        }
        tile_end(out);
    }
    if (!isnan(run->seconds)) {
        tile_begin(out, "time");
        html_seconds(out, run->seconds);
        html_put(out, "</b><small>");
        if (!isnan(run->peak_bytes)) {
            html_bytes(out, run->peak_bytes);
            html_put(out, " of memory at most");
        }
        html_put(out, "</small>");
        tile_end(out);
    }
    html_put(out, "</div>");
}

/* ---------------------------------------------------------------- training, settings */

static void show_training(file_writer *out, const page_training *training)
{
    if (!training->points)
        return;
    html_put(out, "<h2>Training</h2><div class=\"charts\">");
    for (size_t s = 0; s < training->series_count; s++) {
        const chart_line line = {.name = training->series[s].name,
                                 .x = training->x,
                                 .y = training->series[s].values,
                                 .points = training->points};
        const chart chart = {.title = training->series[s].name,
                             .x_name = training->x_name,
                             .lines = &line,
                             .line_count = 1,
                             .level = NAN};
        chart_lines(out, &chart);
    }
    html_put(out, "</div>");
}

static void show_setting(file_writer *out, const char *name, const char *value)
{
    html_put(out, "<tr><th scope=\"row\">");
    html_text(out, name);
    html_put(out, "</th><td>");
    html_name(out, value);
    html_put(out, "</td></tr>");
}

static void show_settings(file_writer *out, const page_run *run)
{
    html_put(out, "<details class=\"card\"><summary>How it was made</summary><table><tbody>");
    show_setting(out, "model", run->model);
    show_setting(out, "written to", run->output);
    show_setting(out, "method", run->method);
    for (size_t i = 0; i < run->setting_count; i++)
        show_setting(out, run->settings[i].name, run->settings[i].value);
    html_put(out, "</tbody></table></details>");
}

pal_status show_run(file_writer *out, const page_run *run, size_t number)
{
    show_sizes(out, run);
    show_tiles(out, run);
    show_settings(out, run);
    show_training(out, &run->training);
    return show_layers(out, run, number);
}
