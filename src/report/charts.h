/* Pictures as SVG that scales with the page, in the colours of its style. */
#ifndef PAL_REPORT_CHARTS_H
#define PAL_REPORT_CHARTS_H

#include "base/file.h"
#include "report/page.h"

/* The histogram of a weight, with a line for each entry of its tables. */
void chart_histogram(file_writer *out, const page_histogram *histogram);

/* A curve, or a line of a scatter plot. */
typedef struct chart_line {
    const char *name;
    const double *x, *y;       /* points with a NAN are left out */
    const char *const *labels; /* beside the points; NULL: none, and no dots */
    size_t points;
} chart_line;

typedef struct chart {
    const char *title, *x_name, *y_name;
    const chart_line *lines;
    size_t line_count;
    double level; /* a horizontal line, NAN: none */
    const char *level_name;
} chart;

/* A legend stands below where there are several lines. */
void chart_lines(file_writer *out, const chart *chart);

/* Round numbers to mark on an axis: at least two in [low, high], about `wanted`, a multiple of
 * *step apart; returns the first. */
double axis_ticks(double low, double high, int wanted, double *step);

enum { CHART_COLOURS = 6 };

#endif
