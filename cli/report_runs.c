/* Gathers runs, their scores and their logs of training for a page. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report_json.h"

typedef struct entry {
    json_t *json;
    const char *path;
    page_run shown;
} entry;

struct report_runs {
    entry *entries;
    size_t count;
    json_t **scores; /* of models, by their "model" */
    const char **score_paths;
    size_t score_count;
    keeper memory; /* of the runs shown */
};

static int no_memory(void)
{
    say_error("out of memory making a report");
    return EXIT_BAD_INPUT;
}

report_runs *report_runs_new(void)
{
    report_runs *runs = calloc(1, sizeof *runs);
    if (!runs)
        no_memory();
    return runs;
}

void report_runs_free(report_runs *runs)
{
    if (!runs)
        return;
    for (size_t i = 0; i < runs->count; i++)
        json_decref(runs->entries[i].json);
    for (size_t i = 0; i < runs->score_count; i++)
        json_decref(runs->scores[i]);
    keeper_free(&runs->memory);
    free(runs->entries);
    free(runs->scores);
    free(runs->score_paths);
    free(runs);
}

/* ---------------------------------------------------------------- adding */

static int add_score(report_runs *runs, json_t *json, const char *path)
{
    json_t **scores = realloc(runs->scores, (runs->score_count + 1) * sizeof *scores);
    if (scores)
        runs->scores = scores;
    const char **paths = realloc(runs->score_paths, (runs->score_count + 1) * sizeof *paths);
    if (paths)
        runs->score_paths = paths;
    if (!scores || !paths) {
        json_decref(json);
        return no_memory();
    }
    runs->scores[runs->score_count] = json;
    runs->score_paths[runs->score_count++] = path;
    return 0;
}

static int add_training(report_runs *runs, json_t *rows, const char *path)
{
    json_t *run = runs->count ? runs->entries[runs->count - 1].json : NULL;
    if (!run) {
        json_decref(rows);
        say_error("%s: a log of training comes after the run that it belongs to", path);
        return EXIT_BAD_USAGE;
    }
    json_put(run, "training", rows);
    return 0;
}

int report_runs_add(report_runs *runs, json_t *json, const char *path)
{
    if (!json)
        return no_memory();
    if (!json_is_array(json_object_get(json, "weights")) && json_object_get(json, "samples") &&
        *json_text_of(json, "model"))
        return add_score(runs, json, path);
    if (!json_is_array(json_object_get(json, "weights")) ||
        isnan(json_number_of(json, "bytes_before")) || isnan(json_number_of(json, "bytes_after"))) {
        json_decref(json);
        say_error("%s: not what compress --json or eval --json writes", path);
        return EXIT_BAD_INPUT;
    }
    entry *larger = realloc(runs->entries, (runs->count + 1) * sizeof *larger);
    if (!larger) {
        json_decref(json);
        return no_memory();
    }
    runs->entries = larger;
    runs->entries[runs->count++] = (entry){.json = json, .path = path};
    return 0;
}

int report_runs_add_file(report_runs *runs, const char *path)
{
    json_error_t error;
    FILE *file = fopen(path, "r");
    if (!file) {
        say_error("%s: cannot open: %s", path, strerror(errno));
        return EXIT_BAD_INPUT;
    }
    errno = 0;
    json_t *json = json_loadf(file, 0, &error);
    const bool memory = json || errno != ENOMEM; /* jansson's error does not always tell */
    fclose(file);
    if (!memory)
        return no_memory();
    const bool run =
        json_is_object(json) && !json_object_get(json, "step") && !json_object_get(json, "epoch");
    if (run)
        return report_runs_add(runs, json, path);
    json_decref(json); /* a log, which need not be JSON as a whole */
    json = training_log_read(path);
    return json ? add_training(runs, json, path) : EXIT_BAD_INPUT;
}

/* ---------------------------------------------------------------- putting together */

/* A score belongs to the runs that wrote that model, or began with it. */
static int place_scores(report_runs *runs)
{
    for (size_t s = 0; s < runs->score_count; s++) {
        const char *model = json_text_of(runs->scores[s], "model");
        bool used = false;
        for (size_t i = 0; i < runs->count; i++) {
            page_run *run = &runs->entries[i].shown;
            const bool after = same_file(model, run->output);
            if (!after && !same_file(model, run->model))
                continue;
            *(after ? &run->score : &run->score_before) = score_from_json(runs->scores[s]);
            used = true;
        }
        if (!used) {
            say_error("%s: scores %s, which is neither input nor output of these runs",
                      runs->score_paths[s], model);
            return EXIT_BAD_INPUT;
        }
    }
    return 0;
}

static const char *setting(const page_run *run, const char *name, const char *otherwise)
{
    for (size_t i = 0; i < run->setting_count; i++)
        if (strcmp(run->settings[i].name, name) == 0)
            return run->settings[i].value;
    return otherwise;
}

/* The most channels that share a table, 0 where each weight has one. */
static double channels_together(const page_run *run)
{
    double most = 0;
    for (size_t i = 0; i < run->weight_count; i++)
        most = fmax(most, run->weights[i].palettized ? run->weights[i].group_size : 0);
    return most;
}

/* Runs that differ in their bits alone make one line: it is named after method and groups, and the
 * model where there are several. */
static bool name_series(report_runs *runs)
{
    bool several = false;
    for (size_t i = 1; i < runs->count; i++)
        several =
            several || strcmp(runs->entries[i].shown.model, runs->entries[0].shown.model) != 0;
    for (size_t i = 0; i < runs->count; i++) {
        page_run *run = &runs->entries[i].shown;
        const char *mode = setting(run, "mode", "kmeans");
        const bool plain = strcmp(run->method, "kmeans") == 0;
        const char *model = several ? path_name(run->model) : "";
        const double together = channels_together(run);
        char groups[32] = "";
        if (together > 0)
            snprintf(groups, sizeof groups, ", groups of %.0f", together);
        const size_t size = strlen(model) + strlen(run->method) + strlen(mode) + sizeof groups + 8;
        char *series = keep(&runs->memory, size, 1);
        if (!series)
            return false;
        snprintf(series, size, "%s%s%s%s", model, several ? ": " : "", plain ? mode : run->method,
                 groups);
        run->series = series;
    }
    return true;
}

int report_runs_write(report_runs *runs, const char *path)
{
    bool fine = true;
    for (size_t i = 0; fine && i < runs->count; i++)
        fine = run_from_json(&runs->memory, runs->entries[i].json, runs->entries[i].path,
                             &runs->entries[i].shown);
    if (!fine || !name_series(runs) || !json_complete())
        return no_memory();
    const int code = place_scores(runs);
    if (code)
        return code;
    page_run *shown = keep(&runs->memory, runs->count, sizeof *shown);
    if (!shown)
        return no_memory();
    for (size_t i = 0; i < runs->count; i++)
        shown[i] = runs->entries[i].shown;
    const pal_status status = page_write(path, shown, runs->count);
    return status ? report_failure(status) : 0;
}
