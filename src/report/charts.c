#include "report/charts.h"

#include <math.h>
#include <stdio.h>

#include "report/html.h"

/* ---------------------------------------------------------------- histograms */

enum { PLOT_WIDTH = 256, PLOT_HEIGHT = 72, PLOT_FOOT = 91 };

static double plot_x(const page_histogram *h, double value)
{
    const double width = h->high - h->low;
    const double place = width > 0 ? (value - h->low) / width : 0.5;
    return PLOT_WIDTH * fmin(fmax(place, 0), 1);
}

static void draw_bins(file_writer *out, const page_histogram *h)
{
    double most = 0;
    const double width = (double)PLOT_WIDTH / (double)h->bins;
    for (size_t b = 0; b < h->bins; b++)
        most = fmax(most, h->counts[b]);
    html_format(out, "<path class=\"bins\" d=\"M0 %d", PLOT_HEIGHT);
    for (size_t b = 0; b < h->bins; b++) {
        const double height = most > 0 ? h->counts[b] / most * (PLOT_HEIGHT - 4) : 0;
        html_format(out, "V%.1fH%.4g", PLOT_HEIGHT - height, width * (double)(b + 1));
    }
    html_format(out, "V%dZ\"/>", PLOT_HEIGHT);
}

static void draw_entries(file_writer *out, const page_histogram *h)
{
    if (!h->entry_count)
        return;
    const char *const weight = h->entry_count <= 16   ? "few"
                               : h->entry_count <= 64 ? "some"
                                                      : "many";
    html_format(out, "<path class=\"stems %s\" d=\"", weight);
    for (size_t e = 0; e < h->entry_count; e++)
        html_format(out, "M%.1f 0V%d", plot_x(h, h->entries[e]), PLOT_HEIGHT);
    html_format(out, "\"/><path class=\"entries %s\" d=\"", weight);
    for (size_t e = 0; e < h->entry_count; e++)
        html_format(out, "M%.1f %dv7", plot_x(h, h->entries[e]), PLOT_HEIGHT);
    html_put(out, "\"/>");
}

static void draw_end(file_writer *out, const char *anchor, double x, double value)
{
    html_format(out, "<text x=\"%g\" y=\"%d\" text-anchor=\"%s\">", x, PLOT_FOOT, anchor);
    html_short(out, value);
    html_put(out, "</text>");
}

void chart_histogram(file_writer *out, const page_histogram *h)
{
    html_format(out,
                "<svg class=\"histogram\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"How its "
                "values are spread, and the entries of its look-up table\">",
                PLOT_WIDTH, PLOT_FOOT + 3);
    draw_bins(out, h);
    draw_entries(out, h);
    html_format(out, "<path class=\"axis\" d=\"M0 %dH%d\"/>", PLOT_HEIGHT, PLOT_WIDTH);
    draw_end(out, "start", 0, h->low);
    if (h->low < 0 && h->high > 0 && plot_x(h, 0) > 60 && plot_x(h, 0) < PLOT_WIDTH - 60)
        draw_end(out, "middle", plot_x(h, 0), 0);
    draw_end(out, "end", PLOT_WIDTH, h->high);
    html_put(out, "</svg>");
}

/* ---------------------------------------------------------------- axes */

double axis_ticks(double low, double high, int wanted, double *step)
{
    const double rough = (high - low) / wanted, power = pow(10, floor(log10(rough)));
    const double digit = rough / power;
    *step = power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
    if (floor(high / *step) - ceil(low / *step) < 1)
        *step /= 2;
    return ceil(low / *step) * *step;
}

typedef struct axis {
    double low, high;  /* values */
    double from, upto; /* places in the picture */
} axis;

static double place(const axis *axis, double value)
{
    return axis->from + (value - axis->low) / (axis->high - axis->low) * (axis->upto - axis->from);
}

static void widen(axis *axis, double value)
{
    if (!isfinite(value))
        return;
    axis->low = fmin(axis->low, value);
    axis->high = fmax(axis->high, value);
}

/* Some room on both sides; an axis of one value, or none, gets a length. */
static void finish(axis *axis, double room)
{
    if (axis->low > axis->high)
        axis->low = axis->high = 0;
    double length = axis->high - axis->low;
    if (length <= 1e-9 * fmax(fabs(axis->low), fabs(axis->high)) || length == 0) {
        length = fmax(fabs(axis->low) * 0.1, 1e-6);
        axis->low -= length / 2;
        axis->high += length / 2;
    }
    axis->low -= room * length;
    axis->high += room * length;
}

/* ---------------------------------------------------------------- lines */

enum { WIDTH = 480, HEIGHT = 290, LEFT = 58, RIGHT = 466, TOP = 12, BOTTOM = 244 };

static void draw_axes(file_writer *out, const chart *chart, const axis *x, const axis *y)
{
    double step, tick = axis_ticks(y->low, y->high, 5, &step);
    for (; tick <= y->high; tick += step) {
        html_format(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, place(y, tick), RIGHT);
        html_format(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8,
                    place(y, tick) + 4);
        html_short(out, fabs(tick) < step / 1e6 ? 0 : tick);
        html_put(out, "</text>");
    }
    for (tick = axis_ticks(x->low, x->high, 6, &step); tick <= x->high; tick += step) {
        html_format(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", place(x, tick),
                    BOTTOM + 18);
        if (fabs(tick) >= 1000 && fabs(tick) < 1e6)
            html_number(out, tick, 0);
        else
            html_short(out, fabs(tick) < step / 1e6 ? 0 : tick);
        html_put(out, "</text>");
    }
    html_format(out, "<path class=\"axis\" d=\"M%d %dH%d\"/>", LEFT, BOTTOM, RIGHT);
    html_format(out, "<text class=\"unit\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", RIGHT,
                BOTTOM + 38);
    html_text(out, chart->x_name);
    html_put(out, "</text>");
}

/* A long line is drawn through the means of that many pieces. */
enum { PIECES = 300 };

static void draw_line(file_writer *out, const chart_line *line, const axis *x, const axis *y,
                      size_t colour)
{
    const size_t points = line->labels || line->points < PIECES ? line->points : PIECES;
    bool begun = false;
    html_format(out, "<path class=\"line c%zu\" d=\"", colour);
    for (size_t p = 0; p < points; p++) {
        const size_t first = p * line->points / points, end = (p + 1) * line->points / points;
        double sum_x = 0, sum_y = 0, count = 0;
        for (size_t i = first; i < end; i++)
            if (isfinite(line->x[i]) && isfinite(line->y[i])) {
                sum_x += line->x[i];
                sum_y += line->y[i];
                count++;
            }
        if (count == 0)
            continue;
        html_format(out, "%s%.1f %.1f", begun ? "L" : "M", place(x, sum_x / count),
                    place(y, sum_y / count));
        begun = true;
    }
    html_put(out, begun ? "\"/>" : "M0 0\"/>");
}

/* ---------------------------------------------------------------- points and their labels */

enum { MOST_LABELS = 256 };

/* What labels keep clear of: points, and other labels, by their middles. */
typedef struct labels {
    double x[MOST_LABELS], y[MOST_LABELS];
    bool is_point[MOST_LABELS];
    size_t count;
} labels;

static bool claim(labels *labels, double x, double y, bool is_point)
{
    enum { LABEL_X = 44, LABEL_Y = 13, POINT_X = 24, POINT_Y = 9, MIDDLE = 4 };
    for (size_t i = 0; i < labels->count && !is_point; i++) {
        const double dx = fabs(labels->x[i] - x), dy = fabs(labels->y[i] - y);
        if (labels->is_point[i] ? dx < POINT_X && dy < POINT_Y : dx < LABEL_X && dy < LABEL_Y)
            return false;
    }
    if (labels->count == MOST_LABELS ||
        (!is_point && (y < TOP - MIDDLE || y > BOTTOM - 2 * MIDDLE)))
        return false;
    labels->x[labels->count] = x;
    labels->y[labels->count] = y;
    labels->is_point[labels->count++] = is_point;
    return true;
}

static bool is_drawn(const chart_line *line, size_t i)
{
    return line->labels && isfinite(line->x[i]) && isfinite(line->y[i]);
}

static void draw_points(file_writer *out, const chart_line *line, const axis *x, const axis *y,
                        size_t colour, labels *labels)
{
    for (size_t i = 0; i < line->points; i++) {
        if (!is_drawn(line, i))
            continue;
        const double at_x = place(x, line->x[i]), at_y = place(y, line->y[i]);
        claim(labels, at_x, at_y, true);
        html_format(out, "<circle class=\"dot c%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"><title>",
                    colour, at_x, at_y);
        html_text(out, line->name);
        html_put(out, ", ");
        html_text(out, line->labels[i]);
        html_put(out, ": ");
        html_number(out, line->y[i], 2);
        html_put(out, "</title></circle>");
    }
}

/* Above or below its point; where there is room for neither, the point's title must do. */
static void draw_labels(file_writer *out, const chart_line *line, const axis *x, const axis *y,
                        labels *labels)
{
    enum { ABOVE = 13, BELOW = 15, BASELINE = 4 }; /* to the middle of the text; from there */
    for (size_t i = 0; i < line->points; i++) {
        if (!is_drawn(line, i))
            continue;
        const double at_x = place(x, line->x[i]), at_y = place(y, line->y[i]);
        const bool above = claim(labels, at_x, at_y - ABOVE, false);
        if (!above && !claim(labels, at_x, at_y + BELOW, false))
            continue;
        html_format(out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                    at_x, at_y + BASELINE + (above ? -ABOVE : BELOW));
        html_text(out, line->labels[i]);
        html_put(out, "</text>");
    }
}

/* ---------------------------------------------------------------- the chart */

static void draw_legend(file_writer *out, const chart *chart)
{
    html_put(out, "<p class=\"legend\">");
    for (size_t i = 0; i < chart->line_count; i++) {
        html_format(out, "<span><i class=\"c%zu\"></i>", i % CHART_COLOURS);
        html_text(out, chart->lines[i].name);
        html_put(out, "</span> ");
    }
    html_put(out, "</p>");
}

void chart_lines(file_writer *out, const chart *chart)
{
    const bool dots = chart->line_count && chart->lines[0].labels;
    labels placed = {.count = 0};
    axis x = {INFINITY, -INFINITY, LEFT, RIGHT}, y = {INFINITY, -INFINITY, BOTTOM, TOP};
    for (size_t l = 0; l < chart->line_count; l++)
        for (size_t i = 0; i < chart->lines[l].points; i++)
            if (isfinite(chart->lines[l].x[i]) && isfinite(chart->lines[l].y[i])) {
                widen(&x, chart->lines[l].x[i]);
                widen(&y, chart->lines[l].y[i]);
            }
    widen(&y, chart->level);
    finish(&x, dots ? 0.05 : 0);
    finish(&y, 0.08);
    html_format(out, "<figure class=\"chart%s\"><figcaption>", dots ? " plot" : "");
    html_text(out, chart->title);
    html_format(out, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH,
                HEIGHT);
    html_text(out, chart->title);
    html_put(out, "\">");
    draw_axes(out, chart, &x, &y);
    if (isfinite(chart->level)) {
        html_format(out, "<path class=\"level\" d=\"M%d %.1fH%d\"/>", LEFT, place(&y, chart->level),
                    RIGHT);
        html_format(out, "<text class=\"label\" x=\"%d\" y=\"%.1f\">", LEFT + 4,
                    place(&y, chart->level) - 5);
        html_text(out, chart->level_name);
        html_put(out, " ");
        html_number(out, chart->level, 2);
        html_put(out, "</text>");
    }
    for (size_t l = 0; l < chart->line_count; l++)
        draw_line(out, &chart->lines[l], &x, &y, l % CHART_COLOURS);
    for (size_t l = 0; l < chart->line_count; l++)
        draw_points(out, &chart->lines[l], &x, &y, l % CHART_COLOURS, &placed);
    for (size_t l = 0; l < chart->line_count; l++)
        draw_labels(out, &chart->lines[l], &x, &y, &placed);
    html_put(out, "</svg>");
    if (chart->line_count > 1)
        draw_legend(out, chart);
    html_put(out, "</figure>");
}
