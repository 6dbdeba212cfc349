#include "method/train/training_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static pal_status keep_lines(training_log *log, uint64_t from)
{
    char line[1024];
    long keep = 0;
    rewind(log->file);
    while (fgets(line, sizeof line, log->file)) {
        const char *number = log->json ? strchr(line, ':') : line;
        char *end = line;
        const unsigned long long step = number ? strtoull(number + log->json, &end, 10) : 0;
        const bool heading = !log->json && keep == 0;
        if (!ends_with(line, "\n") || (!heading && (end == line || step > from)))
            break;
        keep = ftell(log->file);
    }
    if (keep < 0 || fseek(log->file, keep, SEEK_SET) || ftruncate(fileno(log->file), keep))
        return fail_errno(log->path, "cannot continue the log");
    return PAL_OK;
}

pal_status training_log_check(const char *path)
{
    struct stat info;
    const bool there = stat(path, &info) == 0;
    if (!*path || (there && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)))
        return PAL_OK; /* a pipe would notice */
    FILE *file = fopen(path, "a");
    if (!file)
        return fail_errno(path, "cannot write");
    fclose(file);
    if (!there)
        unlink(path);
    return PAL_OK;
}

pal_status training_log_open(const char *path, uint64_t from, training_log *out)
{
    training_log log = {.json = ends_with(path, ".json") || ends_with(path, ".jsonl")};
    *out = log;
    if (!*path)
        return PAL_OK;
    log.path = strdup(path);
    if (!log.path)
        return fail_memory("opening a log");
    log.file = from ? fopen(path, "r+") : NULL;
    pal_status status = log.file ? keep_lines(&log, from) : PAL_OK;
    if (!log.file && !(log.file = fopen(path, "w")))
        status = fail_errno(path, "cannot write");
    if (!status && !log.json && ftell(log.file) == 0 &&
        fputs("step,epoch,loss,lr,tau,gradient_norm,samples_per_second,seconds,validation_loss,"
              "validation_top1\n",
              log.file) < 0)
        status = fail_errno(path, "cannot write");
    *out = log;
    if (status)
        training_log_close(out);
    return status;
}

/* A number, or nothing (null) where there is none. */
static void number(training_log *log, const char *name, double value)
{
    if (log->json)
        fprintf(log->file, ", \"%s\": ", name);
    else
        fputc(',', log->file);
    if (isfinite(value))
        fprintf(log->file, "%.9g", value);
    else if (log->json)
        fputs("null", log->file);
}

pal_status training_log_add(training_log *log, const log_line *line)
{
    if (!log->file)
        return PAL_OK;
    if (log->json)
        fprintf(log->file, "{\"step\": %llu, \"epoch\": %llu", (unsigned long long)line->step,
                (unsigned long long)line->epoch);
    else
        fprintf(log->file, "%llu,%llu", (unsigned long long)line->step,
                (unsigned long long)line->epoch);
    number(log, "loss", line->loss);
    number(log, "lr", line->lr);
    number(log, "tau", line->tau);
    number(log, "gradient_norm", line->gradient_norm);
    number(log, "samples_per_second", line->samples_per_second);
    number(log, "seconds", line->seconds);
    number(log, "validation_loss", line->validation_loss);
    number(log, "validation_top1", line->validation_top1);
    fputs(log->json ? "}\n" : "\n", log->file);
    if (fflush(log->file) || ferror(log->file))
        return fail_errno(log->path, "cannot write");
    return PAL_OK;
}

void training_log_close(training_log *log)
{
    if (log->file)
        fclose(log->file);
    free(log->path);
    *log = (training_log){0};
}
