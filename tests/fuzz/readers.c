/* The calls that the fuzzer makes on a configuration and on an array. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/npy.h"
#include "fuzz.h"
#include "method/options.h"

/* ---------------------------------------------------------------- configurations */

/* Printed and read again, a configuration is the same. */
static const char *print_and_read(const pal_options *options, const char *out)
{
    char *text = NULL, *again = NULL, *path = join(out, "out.yaml");
    const char *wrong = NULL;
    pal_options *other = NULL;
    FILE *file = fopen(path, "w");
    if (!file || pal_options_text(options, &text) || pal_options_new(&other))
        abort();
    fputs(text, file);
    fclose(file);
    if (pal_options_load(other, path))
        wrong = say("what was printed cannot be read: %s", pal_error_message());
    else if (pal_options_text(other, &again))
        abort();
    else if (strcmp(text, again) != 0)
        wrong = "what was printed reads differently";
    pal_options_free(other);
    pal_free(text);
    pal_free(again);
    free(path);
    return wrong;
}

/* Finds the settings of weights with ordinary names, which one or two operators use. */
static const char *apply(const pal_options *options)
{
    static const char *const names[] = {"layers.0.q_proj.weight", "layers.11.up_proj.weight",
                                        "lm_head.weight", "aaaaaaaaaaaaaaaaaaaaaaaa", ""};
    static const char *const operators[] = {"linear", "gather", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (size_t o = 0; o < sizeof operators / sizeof *operators; o++) {
            weight_use uses[] = {{operators[o], "layers.0.q_proj"}, {"linear", ""}};
            const model_weight weight = {
                .info = {.name = names[i], .op = operators[o], .consumers = 1 + (i + o) % 2},
                .uses = uses,
            };
            settings settings;
            char refusal[160];
            options_for(options, &weight, &settings, refusal);
            if (!*refusal && (settings.nbits > 8 || settings.cluster_dim < 1 ||
                              settings.cluster_dim > 64 || settings.group_size < 1))
                return "settings out of their range";
        }
    }
    return NULL;
}

const char *exercise_config(rng *r, const char *path, const char *out, counts *counts)
{
    (void)r;
    pal_options *options = NULL;
    const char *wrong = NULL;
    if (pal_options_new(&options) || pal_options_set(options, "nbits", "3"))
        abort();
    pal_status status = pal_options_load(options, path);
    if (status) {
        counts->rejected++;
        wrong = check_failure("pal_options_load", status, path, path);
        if (!wrong && strcmp(pal_options_value(options, "nbits"), "3") != 0)
            wrong = "a configuration that is refused changes the options";
    } else {
        counts->opened++;
        if (pal_options_check(options))
            wrong = say("options that do not agree: %s", pal_error_message());
        if (!wrong)
            wrong = apply(options);
        if (!wrong)
            wrong = print_and_read(options, out);
    }
    pal_options_free(options);
    return wrong;
}

/* ---------------------------------------------------------------- arrays */

/* Reads all values, and checks that there are as many as the shape says. */
static const char *read_values(const npy_array *array)
{
    uint64_t elements = 1;
    double sum = 0;
    if (array->rank > PAL_MAX_RANK)
        return "an array of too many dimensions";
    for (size_t d = 0; d < array->rank; d++)
        elements *= array->shape[d];
    if (elements != array->elements)
        return "an array whose shape and elements disagree";
    for (uint64_t i = 0; i < elements; i++)
        sum += npy_value(array, i);
    return elements == 0 && sum != 0 ? "values of an empty array" : NULL;
}

const char *exercise_array(rng *r, const char *path, const char *out, counts *counts)
{
    (void)r, (void)out;
    file_map map;
    npy_array array;
    user_table table;
    const char *wrong = NULL;
    pal_status status = file_map_open(path, &map);
    if (!status)
        status = npy_parse(path, map.data, map.size, &array);
    if (status) {
        counts->rejected++;
        wrong = check_failure("npy_parse", status, path, path);
    } else {
        counts->opened++;
        wrong = read_values(&array);
    }
    file_map_close(&map);
    /* As a look-up table. */
    const bool sound = status == PAL_OK;
    status = user_table_read(path, &table);
    if (!wrong && status)
        wrong = check_failure("user_table_read", status, path, path);
    else if (!wrong && !sound)
        wrong = "a look-up table from a damaged array";
    if (!status)
        user_table_free(&table);
    return wrong;
}
