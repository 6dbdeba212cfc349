/* From the JSON of a run to what the page shows. Whatever is missing is left out, so that JSON of
 * other versions can be read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report_json.h"

void *keep(keeper *memory, size_t count, size_t size)
{
    void **larger = realloc(memory->blocks, (memory->count + 1) * sizeof *larger);
    if (!larger)
        return NULL;
    memory->blocks = larger;
    return memory->blocks[memory->count++] = calloc(count + 1, size);
}

void keeper_free(keeper *memory)
{
    for (size_t i = 0; i < memory->count; i++)
        free(memory->blocks[i]);
    free(memory->blocks);
}

/* ---------------------------------------------------------------- members */

double json_number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double number_or(const json_t *object, const char *key, double otherwise)
{
    const double value = json_number_of(object, key);
    return isnan(value) ? otherwise : value;
}

const char *json_text_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static const char *string_or(const json_t *object, const char *key, const char *otherwise)
{
    const char *value = json_text_of(object, key);
    return *value ? value : otherwise;
}

/* The numbers of an array; what is none becomes NAN. */
static const double *numbers(keeper *memory, const json_t *array)
{
    double *list = keep(memory, json_array_size(array), sizeof *list);
    for (size_t i = 0; list && i < json_array_size(array); i++) {
        const json_t *value = json_array_get(array, i);
        list[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return list;
}

/* ---------------------------------------------------------------- weights */

static const char *shape_text(keeper *memory, const json_t *shape)
{
    const size_t size = json_array_size(shape) * 24;
    char *text = keep(memory, size, 1);
    for (size_t d = 0, n = 0; text && d < json_array_size(shape); d++)
        n += (size_t)snprintf(text + n, size - n, "%s%" JSON_INTEGER_FORMAT, d ? "x" : "",
                              json_integer_value(json_array_get(shape, d)));
    return text;
}

static bool read_histogram(keeper *memory, const json_t *weight, page_histogram *out)
{
    const json_t *from = json_object_get(weight, "histogram");
    const json_t *counts = json_object_get(from, "counts");
    const json_t *entries = json_object_get(weight, "luts");
    *out = (page_histogram){.low = json_number_of(from, "low"),
                            .high = json_number_of(from, "high"),
                            .below = number_or(from, "below", 0),
                            .above = number_or(from, "above", 0)};
    if (isnan(out->low) || isnan(out->high) || !json_array_size(counts))
        return true;
    out->counts = numbers(memory, counts);
    out->entries = numbers(memory, entries);
    out->bins = json_array_size(counts);
    out->entry_count = json_array_size(entries);
    return out->counts && out->entries;
}

static bool read_weight(keeper *memory, const json_t *from, page_weight *to)
{
    const bool palettized = strcmp(json_text_of(from, "status"), "compressed") == 0;
    const double mse = json_number_of(from, "mse"), psnr = json_number_of(from, "psnr");
    *to = (page_weight){
        .name = json_text_of(from, "name"),
        .op = json_text_of(from, "op"),
        .type = json_text_of(from, "dtype"),
        .shape = shape_text(memory, json_object_get(from, "shape")),
        .reason = json_text_of(from, "reason"),
        .palettized = palettized,
        .nbits = (unsigned)fmin(fmax(number_or(from, "nbits", 0), 0), 64),
        .tables = number_or(from, "num_luts", 0),
        .group_size = number_or(from, "group_size", 0),
        .bytes_before = number_or(from, "bytes_before", 0),
        .bytes_after = number_or(from, "bytes", 0),
        .mse = mse,
        .psnr = palettized && mse == 0 ? INFINITY : psnr,
    };
    return to->shape && read_histogram(memory, from, &to->histogram);
}

static bool read_weights(keeper *memory, const json_t *from, page_run *to)
{
    const size_t count = json_array_size(from);
    page_weight *weights = keep(memory, count, sizeof *weights);
    unsigned nbits = 0;
    bool same = true;
    for (size_t i = 0; weights && i < count; i++) {
        if (!read_weight(memory, json_array_get(from, i), &weights[i]))
            return false;
        if (!weights[i].palettized)
            continue;
        same = same && (!nbits || nbits == weights[i].nbits);
        nbits = weights[i].nbits;
    }
    to->weights = weights;
    to->weight_count = count;
    to->nbits = same ? nbits : 0;
    return weights != NULL;
}

/* ---------------------------------------------------------------- training */

static bool is_one_of(const char *name, const char *const *list)
{
    while (*list && strcmp(name, *list) != 0)
        list++;
    return *list != NULL;
}

/* "learning rate" for learning_rate */
static const char *words(keeper *memory, const char *name)
{
    const size_t length = strlen(name);
    char *text = keep(memory, length + 1, 1);
    for (size_t i = 0; text && i < length; i++)
        text[i] = name[i] == '_' ? ' ' : name[i];
    return text;
}

static const double *column(keeper *memory, const json_t *rows, const char *name)
{
    double *values = keep(memory, json_array_size(rows), sizeof *values);
    for (size_t i = 0; values && i < json_array_size(rows); i++)
        values[i] = name ? json_number_of(json_array_get(rows, i), name) : (double)(i + 1);
    return values;
}

/* What curves are drawn over: the first of these that the log has. */
static const char *const steps[] = {"step", "iteration", "epoch", NULL};
/* What makes no curve worth looking at. */
static const char *const clocks[] = {"time",      "seconds",      "elapsed",
                                     "time_left", "seconds_left", NULL};

/* The names of all columns of numbers, as members of an object; not every row has all of them. */
static json_t *find_columns(const json_t *rows)
{
    json_t *names = json_object();
    const char *key;
    json_t *value;
    for (size_t i = 0; names && i < json_array_size(rows); i++)
        json_object_foreach(json_array_get(rows, i), key, value)
        {
            if (json_is_number(value) && !is_one_of(key, steps) && !is_one_of(key, clocks))
                json_put(names, key, json_true());
        }
    return names;
}

static bool read_training(keeper *memory, const json_t *rows, page_training *out)
{
    const json_t *first = json_array_get(rows, 0);
    const char *x = NULL, *key;
    json_t *value, *names = find_columns(rows);
    page_series *series = keep(memory, json_object_size(names), sizeof *series);
    size_t count = 0;
    bool fine = names && series;
    for (size_t i = 0; steps[i] && !x; i++)
        x = json_is_number(json_object_get(first, steps[i])) ? steps[i] : NULL;
    json_object_foreach(names, key, value)
    {
        if (!fine)
            break;
        series[count] = (page_series){words(memory, key), column(memory, rows, key)};
        fine = series[count].name && series[count].values;
        count++;
    }
    *out = (page_training){.x_name = x ? x : "line of the log",
                           .x = column(memory, rows, x),
                           .series = series,
                           .series_count = count,
                           .points = count ? json_array_size(rows) : 0};
    json_decref(names);
    return fine && out->x;
}

/* ---------------------------------------------------------------- runs */

page_score score_from_json(const json_t *from)
{
    return (page_score){.known = json_is_object(from),
                        .samples = number_or(from, "samples", 0),
                        .top1 = json_number_of(from, "top1"),
                        .top5 = json_number_of(from, "top5"),
                        .agreement = json_number_of(from, "agreement"),
                        .psnr = json_number_of(from, "psnr"),
                        .kl_divergence = json_number_of(from, "kl_divergence")};
}

static bool read_settings(keeper *memory, const json_t *from, page_run *to)
{
    page_setting *list = keep(memory, json_object_size(from), sizeof *list);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)from, key, value) if (list && json_is_string(value))
        list[to->setting_count++] = (page_setting){key, json_string_value(value)};
    to->settings = list;
    return list != NULL;
}

bool run_from_json(keeper *memory, const json_t *json, const char *path, page_run *run)
{
    *run = (page_run){.model = string_or(json, "model", path),
                      .output = string_or(json, "output", path),
                      .method = string_or(json, "method", "kmeans"),
                      .bytes_before = json_number_of(json, "bytes_before"),
                      .bytes_after = json_number_of(json, "bytes_after"),
                      .seconds = json_number_of(json, "seconds"),
                      .peak_bytes = json_number_of(json, "peak_bytes"),
                      .score = score_from_json(json_object_get(json, "score")),
                      .score_before = score_from_json(json_object_get(json, "score_before")),
                      .held_back = score_from_json(json_object_get(json, "held_back"))};
    return read_settings(memory, json_object_get(json, "options"), run) &&
           read_weights(memory, json_object_get(json, "weights"), run) &&
           read_training(memory, json_object_get(json, "training"), &run->training);
}
