/* A log of training: a line for each step, in CSV or as JSON objects. */
#ifndef PAL_METHOD_TRAIN_TRAINING_LOG_H
#define PAL_METHOD_TRAIN_TRAINING_LOG_H

#include <stdio.h>

#include "base/status.h"

typedef struct training_log {
    FILE *file; /* NULL: none is kept */
    char *path;
    bool json;
} training_log;

typedef struct log_line {
    uint64_t step, epoch;
    double loss, lr, tau, gradient_norm, samples_per_second, seconds;
    /* Of the samples that are held back, once an epoch; NaN: not now, or no labels. */
    double validation_loss, validation_top1;
} log_line;

/* path: of JSON objects, one a line, where it ends in .json or .jsonl; "" keeps none. A run that
 * goes on adds to the file that is there: lines from step `from` on that an interrupted run may
 * have left are dropped. */
pal_status training_log_open(const char *path, uint64_t from, training_log *out);
/* Whether it could be opened; a file that is there stays as it is, and none is left otherwise. */
pal_status training_log_check(const char *path);
pal_status training_log_add(training_log *log, const log_line *line);
void training_log_close(training_log *log);

#endif
