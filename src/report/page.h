/* The report for people: one HTML page about one or several runs, complete in itself.
 *
 *   page.c    the page: heading, sections, table of runs
 *   run.c     what is shown of one run: sizes, layers, weights
 *   charts.c  pictures as SVG
 *   style.c   style and script
 *   html.c    escaping, and numbers as people read them
 *
 * What is shown comes in the structures below, whose texts may be anybody's: names of weights are
 * whatever a model file says. NAN stands for a number that is not known. */
#ifndef PAL_REPORT_PAGE_H
#define PAL_REPORT_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "palettize.h"

/* How the values of a weight are spread, and the entries of its tables. */
typedef struct page_histogram {
    double low, high;
    const double *counts; /* of bins that divide that evenly */
    size_t bins;          /* 0: there is none */
    double below, above;  /* values outside */
    const double *entries;
    size_t entry_count; /* of all tables, or of some where there are many */
} page_histogram;

typedef struct page_weight {
    const char *name, *op, *type, *shape; /* shape as "64x3x3x3" */
    const char *reason;                   /* why it was left, or a remark; "" */
    bool palettized;
    unsigned nbits;
    double tables, group_size; /* group_size 0: one table for the whole tensor */
    double bytes_before, bytes_after;
    double mse, psnr; /* psnr INFINITY where nothing was lost */
    page_histogram histogram;
} page_weight;

/* A column of a training log. */
typedef struct page_series {
    const char *name;
    const double *values;
} page_series;

typedef struct page_training {
    const char *x_name;
    const double *x;
    const page_series *series;
    size_t series_count, points;
} page_training;

typedef struct page_score {
    bool known;
    double samples;
    double top1, top5;          /* percent */
    double agreement;           /* percent, with the reference */
    double psnr, kl_divergence; /* against the reference */
} page_score;

typedef struct page_setting {
    const char *name, *value;
} page_setting;

typedef struct page_run {
    const char *model, *output; /* paths */
    const char *method;
    const char *series; /* runs of one series make one line of the plot */
    unsigned nbits;     /* 0: not the same for all */
    const page_setting *settings;
    size_t setting_count;
    double bytes_before, bytes_after, seconds, peak_bytes;
    page_score score, score_before;
    page_score held_back; /* of what is written, on samples of the training data: other samples than
                             those of the scores, so not to be compared with them */
    const page_weight *weights;
    size_t weight_count;
    page_training training; /* points 0: none */
} page_run;

/* The part of a path after its last slash. */
const char *path_name(const char *path);

/* Whether page_write() could begin to write there. Leaves nothing behind. */
pal_status page_check(const char *path);
/* Writes the page; the file appears complete or not at all. */
pal_status page_write(const char *path, const page_run *runs, size_t count);

#endif
