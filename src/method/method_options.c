#include "method/method_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum { K = 1 << METHOD_KMEANS, S = 1 << METHOD_SENSITIVE, L = 1 << METHOD_LAYERWISE };

static const char METHODS[] = "kmeans|sensitive|layerwise";

typedef enum value_kind {
    VALUE_CHOICE, /* an enum */
    VALUE_WHOLE,  /* uint64_t */
    VALUE_REAL,   /* double */
    VALUE_TEXT,   /* char[] */
} value_kind;

typedef struct row {
    pal_method_option shown;
    value_kind kind;
    size_t offset, size; /* in method_settings */
    double least, most;  /* of numbers, inclusive */
    unsigned methods;    /* that look at it */
} row;

#define FIELD(name) offsetof(method_settings, name), sizeof(((method_settings *)0)->name)

static const row table[] = {
    {{"method", METHODS, "kmeans", METHODS,
      "How tables are chosen. kmeans: from the weights alone. sensitive: an error counts as much "
      "as "
      "the loss feels it, measured on samples or read from a file (load_sensitivity). layerwise: "
      "layer after layer, "
      "such that with the inputs that the compressed network gives it, each computes what it did; "
      "needs samples, but no labels."},
     VALUE_CHOICE,
     FIELD(method),
     0,
     0,
     K | S | L},
    {{"samples", "N", "128", NULL,
      "How many samples of the data are used, chosen at random; 0 takes all."},
     VALUE_WHOLE,
     FIELD(samples),
     0,
     0x1p53,
     K | S | L},
    {{"held_back", "N", "64", NULL,
      "How many samples beside those are only looked at, to report what each step gave."},
     VALUE_WHOLE,
     FIELD(held_back),
     0,
     0x1p53,
     K | L},
    {{"seed", "N", "0", NULL, "Of all that is random."},
     VALUE_WHOLE,
     FIELD(seed),
     0,
     0x1p53,
     K | S | L},
    {{"batch", "N", "0", NULL, "Samples to run at once; 0: what suits the method."},
     VALUE_WHOLE,
     FIELD(batch),
     0,
     0x1p20,
     S},
    {{"correct", "C", "auto", "auto|on|off|scale",
      "Whether batch norms' statistics, and biases where there is no batch norm, make up for what "
      "compression shifts and scales, as calibration samples show it. auto: where there are "
      "samples (data). scale: where there is no batch norm, weights also get a scale for each "
      "output channel, which the file then holds beside the table."},
     VALUE_CHOICE,
     FIELD(correct),
     0,
     0,
     K | S | L},
    {{"loss_output", "NAME", NULL, NULL,
      "The model's output that the loss is of. By default its first."},
     VALUE_TEXT,
     FIELD(output),
     0,
     0,
     S},
    {{"save_sensitivity", "FILE", NULL, NULL,
      "Write the measured sensitivities to a safetensors file."},
     VALUE_TEXT,
     FIELD(save_sensitivity),
     0,
     0,
     S},
    {{"load_sensitivity", "FILE", NULL, NULL,
      "Read sensitivities from a safetensors file, in which they may come from anywhere: a tensor "
      "for each weight, of its name and shape."},
     VALUE_TEXT,
     FIELD(load_sensitivity),
     0,
     0,
     S},
};

enum { ROWS = sizeof table / sizeof *table };
_Static_assert((int)ROWS <= (int)METHOD_MAX_OPTIONS, "room for the texts of all options");

const pal_method_option *pal_method_option_get(size_t i)
{
    return i < ROWS ? &table[i].shown : NULL;
}

/* ---------------------------------------------------------------- setting */

static const row *find_row(const char *name)
{
    for (size_t i = 0; i < ROWS; i++) {
        const char *a = table[i].shown.name, *b = name;
        while (*a && (*a == *b || (*a == '_' && *b == '-')))
            a++, b++;
        if (!*a && !*b)
            return &table[i];
    }
    return NULL;
}

static pal_status set_choice(const row *row, const char *value, void *to)
{
    const size_t length = strlen(value);
    int number = 0;
    for (const char *word = row->shown.choices; *word; number++) {
        const size_t n = strcspn(word, "|");
        if (n == length && strncasecmp(word, value, n) == 0) {
            memcpy(to, &number, sizeof number);
            return PAL_OK;
        }
        word += n;
        word += *word == '|';
    }
    return fail(PAL_ERROR_ARGUMENT, "%s: '%s' is none of %s", row->shown.name, value,
                row->shown.choices);
}

static pal_status set_whole(const row *row, const char *value, void *to)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    if (errno || end == value || *end || *value < '0' || *value > '9' ||
        (double)number < row->least || (double)number > row->most)
        return fail(PAL_ERROR_ARGUMENT, "%s: '%s' is not a whole number from %.0f to %.0f",
                    row->shown.name, value, row->least, row->most);
    const uint64_t whole = number;
    memcpy(to, &whole, sizeof whole);
    return PAL_OK;
}

static pal_status set_real(const row *row, const char *value, void *to)
{
    char *end;
    const double number = strtod(value, &end);
    if (end == value || *end || !(number >= row->least && number <= row->most))
        return fail(PAL_ERROR_ARGUMENT, "%s: '%s' is not a number from %g to %g", row->shown.name,
                    value, row->least, row->most);
    memcpy(to, &number, sizeof number);
    return PAL_OK;
}

static pal_status set_text(const row *row, const char *value, void *to)
{
    if (strlen(value) >= row->size)
        return fail(PAL_ERROR_ARGUMENT, "%s: too long", row->shown.name);
    snprintf(to, row->size, "%s", value);
    return PAL_OK;
}

static pal_status set(method_settings *settings, const row *row, const char *value)
{
    void *to = (unsigned char *)settings + row->offset;
    switch (row->kind) {
    case VALUE_CHOICE: return set_choice(row, value, to);
    case VALUE_WHOLE: return set_whole(row, value, to);
    case VALUE_REAL: return set_real(row, value, to);
    case VALUE_TEXT: break;
    }
    return set_text(row, value, to);
}

pal_status pal_method_options_new(pal_method_options **out)
{
    pal_method_options *options = mem_zeroed(1, sizeof *options);
    pal_status status = options ? PAL_OK : fail_memory("making options");
    for (size_t i = 0; !status && i < ROWS; i++)
        if (table[i].shown.default_value)
            status = set(&options->settings, &table[i], table[i].shown.default_value);
    if (status) {
        free(options);
        return status;
    }
    *out = options;
    return PAL_OK;
}

void pal_method_options_free(pal_method_options *options)
{
    for (size_t i = 0; options && i < ROWS; i++)
        free(options->text[i]);
    free(options);
}

pal_status pal_method_options_set(pal_method_options *options, const char *name, const char *value)
{
    const row *row = find_row(name);
    if (!row)
        return fail(PAL_ERROR_ARGUMENT, "there is no option %s", name);
    const size_t size = strlen(value) + 1;
    char *copy = mem_array(size, 1);
    if (!copy)
        return fail_memory("setting an option");
    memcpy(copy, value, size);
    pal_status status = set(&options->settings, row, value);
    char **text = &options->text[row - table];
    free(status ? copy : *text);
    if (!status)
        *text = copy;
    return status;
}

bool pal_method_options_given(const pal_method_options *options, const char *name)
{
    const row *row = find_row(name);
    return row && options->text[row - table];
}

const char *pal_method_options_value(const pal_method_options *options, const char *name)
{
    const row *row = find_row(name);
    if (!row)
        return NULL;
    const char *text = options->text[row - table];
    return text ? text : row->shown.default_value;
}

bool pal_method_options_uses(const pal_method_options *options, const char *name)
{
    const row *row = find_row(name);
    return row && row->methods >> options->settings.method & 1;
}
