#include "method/method_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum {
    K = 1 << METHOD_KMEANS,
    S = 1 << METHOD_SENSITIVE,
    L = 1 << METHOD_LAYERWISE,
    D = 1 << METHOD_DKM,
};

static const char METHODS[] = "kmeans|sensitive|layerwise|dkm";

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
      "needs samples, but no labels. dkm: differentiable k-means, tables and weights trained "
      "together on data."},
     VALUE_CHOICE,
     FIELD(method),
     0,
     0,
     K | S | L | D},
    {{"samples", "N", "128", NULL,
      "How many samples of the data are used, chosen at random; 0 takes all, and so does dkm where "
      "nothing is said."},
     VALUE_WHOLE,
     FIELD(samples),
     0,
     0x1p53,
     K | S | L | D},
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
     K | S | L | D},
    {{"batch", "N", "0", NULL,
      "Samples to run at once; 0: what suits the method (dkm: 128, "
      "of which each step is made)."},
     VALUE_WHOLE,
     FIELD(batch),
     0,
     0x1p20,
     S | D},
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
    {{"enough", "X", "0.001", NULL,
      "The distance from the float network, on samples, that is as good as none: there palettes "
      "are not chosen weight by weight (sensitive), layers are not reconstructed (layerwise), and "
      "training without labels, or with distill 1, ends or does not begin (dkm). In nats for each "
      "sample; of an output that holds no scores of classes, relative. 0: work in any case."},
     VALUE_REAL,
     FIELD(enough),
     0,
     1000,
     S | L | D},
    {{"loss_output", "NAME", NULL, NULL,
      "The model's output that the loss is of. By default its first."},
     VALUE_TEXT,
     FIELD(output),
     0,
     0,
     S | D},
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
    {{"shrinkage", "X", NULL, NULL,
      "How far sensitivities are drawn towards their mean within each weight: 0 takes them as they "
      "were measured, 1 is kmeans. By default it is chosen for each weight, by how near the "
      "compressed model's answers stay to the original's on the samples; without data, 0.7."},
     VALUE_REAL,
     FIELD(shrinkage),
     0,
     1,
     S},
    {{"sweeps", "N", "2", NULL,
      "How often that choice goes over all weights, at the most; 0 chooses one shrinkage for all "
      "of them, which is faster. Unless it is given, 0 also holds for networks most of whose work "
      "goes to batch norms whose statistics follow (correct): they make up for the same."},
     VALUE_WHOLE,
     FIELD(sweeps),
     0,
     100,
     S},
    {{"outliers", "X", "0", NULL,
      "The part of each weight's values that is kept exactly beside its palette, as in 0.0045: "
      "those whose errors the loss would feel most. ONNX and safetensors."},
     VALUE_REAL,
     FIELD(outliers),
     0,
     0.5,
     S},
    {{"epochs", "N", "2", NULL, "How often training sees each sample."},
     VALUE_WHOLE,
     FIELD(recipe.epochs),
     1,
     1000000.0,
     D},
    {{"start", "METHOD", "layerwise", "layerwise|sensitive|kmeans",
      "The method whose tables training begins with; layerwise and sensitive look at 128 of the "
      "training samples for it. layerwise is by far the nearest to the float model at few bits."},
     VALUE_CHOICE,
     FIELD(recipe.start),
     0,
     0,
     D},
    {{"optimizer", "sgd|adamw", "sgd", "sgd|adamw",
      "How gradients change weights. sgd: stochastic gradient descent with Nesterov's momentum. "
      "adamw: Adam with decoupled weight decay; its learning rates are some ten times smaller."},
     VALUE_CHOICE,
     FIELD(recipe.optimizer),
     0,
     0,
     D},
    {{"lr", "X", "0.02", NULL, "The learning rate, where it is highest."},
     VALUE_REAL,
     FIELD(recipe.lr),
     1e-12,
     1000.0,
     D},
    {{"schedule", "SCHEDULE", "cosine", "cosine|constant|step|one_cycle",
      "How the learning rate goes on. cosine: down to 0 along half a wave. step: a tenth of it "
      "after half of the steps, a hundredth after three quarters. one_cycle: up from 1/25 and down "
      "to nearly 0."},
     VALUE_CHOICE,
     FIELD(recipe.schedule),
     0,
     0,
     D},
    {{"warmup", "X", "0.05", NULL,
      "The part of the steps in which the learning rate rises from 0 (not of one_cycle)."},
     VALUE_REAL,
     FIELD(recipe.warmup),
     0,
     0.9,
     D},
    {{"weight_decay", "X", "0.0001", NULL,
      "Draws weights towards 0; biases and norms are left out."},
     VALUE_REAL,
     FIELD(recipe.weight_decay),
     0,
     1,
     D},
    {{"momentum", "X", "0.9", NULL,
      "Of the optimizer: how much of the last step's direction is kept."},
     VALUE_REAL,
     FIELD(recipe.momentum),
     0,
     0.9999,
     D},
    {{"clip", "X", "5", NULL,
      "Gradients are scaled down to this norm, all together, where it is larger; 0: never."},
     VALUE_REAL,
     FIELD(recipe.clip),
     0,
     1000000000.0,
     D},
    {{"label_smoothing", "X", "0", NULL,
      "The part of a label's probability that all classes share."},
     VALUE_REAL,
     FIELD(recipe.label_smoothing),
     0,
     0.999,
     D},
    {{"distill", "X", "0.5", NULL,
      "How much the float model's answers count beside the labels: 0 not at all, 1 alone. Without "
      "labels they are all there is."},
     VALUE_REAL,
     FIELD(recipe.distill),
     0,
     1,
     D},
    {{"distill_temperature", "X", "2", NULL,
      "By how much both answers are softened before they are compared."},
     VALUE_REAL,
     FIELD(recipe.temperature),
     0.1,
     100,
     D},
    {{"augment", "LIST", "none", NULL,
      "What is done to images at random in training: flip (left to right), crop=PIXELS (moved by "
      "up to so many, black where they leave), resized_crop=PART (a part of at least that area, "
      "brought to size), colour=PART (brightness, contrast and saturation changed by up to that "
      "part); several separated by commas."},
     VALUE_TEXT,
     FIELD(recipe.augment),
     0,
     0,
     D},
    {{"validation", "X", "0.02", NULL,
      "The part of the samples that is held back from training, to choose the best epoch and to "
      "score the file that is written."},
     VALUE_REAL,
     FIELD(recipe.validation),
     0,
     0.9,
     D},
    {{"micro_batch", "N", "0", NULL,
      "Samples that run at once; gradients are summed until the batch is full. Saves memory; 0 "
      "runs the whole batch. Batch norms see a micro-batch."},
     VALUE_WHOLE,
     FIELD(recipe.micro_batch),
     0,
     0x1p20,
     D},
    {{"recompute", "WHAT", "none", "none|cheap|all",
      "What the way back computes again instead of finding it kept, so that training takes less "
      "memory; the result is the same, byte for byte. cheap: all but the results of convolutions "
      "and other products, for about half of the memory of activations and hardly more time. all: "
      "those as well, for a third or less, and up to a third more time."},
     VALUE_CHOICE,
     FIELD(recipe.recompute),
     0,
     0,
     D},
    {{"statistics", "N", "50", NULL,
      "Batches on which the means and variances of batch norms are taken for the network as it "
      "will be written, of samples augmented as in training; 0 keeps the running ones of "
      "training."},
     VALUE_WHOLE,
     FIELD(recipe.statistics),
     0,
     0x1p20,
     D},
    {{"assignment", "KIND", "soft", "soft|hard",
      "soft: weights are mixtures of centroids, more and more of the nearest one. hard: always the "
      "nearest; gradients pass as if there was no rounding."},
     VALUE_CHOICE,
     FIELD(recipe.assignment),
     0,
     0,
     D},
    {{"tau", "X", "1", NULL,
      "Temperature of soft assignment at first, in units of a weight tensor's variance divided by "
      "the number of its centroids squared."},
     VALUE_REAL,
     FIELD(recipe.tau),
     1e-9,
     1000000.0,
     D},
    {{"tau_end", "X", "0.1", NULL, "The same at the end; it falls by equal factors."},
     VALUE_REAL,
     FIELD(recipe.tau_end),
     1e-9,
     1000000.0,
     D},
    {{"iterations", "N", "1", NULL, "How often centroids move in each step, at most."},
     VALUE_WHOLE,
     FIELD(recipe.iterations),
     1,
     100,
     D},
    {{"zero_threshold", "X", "1e-7", NULL, "The least part that any centroid has in a weight."},
     VALUE_REAL,
     FIELD(recipe.zero_threshold),
     0,
     0.001,
     D},
    {{"checkpoint", "FILE", NULL, NULL,
      "Write all that is needed to go on to this file, after each epoch; see resume."},
     VALUE_TEXT,
     FIELD(recipe.checkpoint),
     0,
     0,
     D},
    {{"checkpoint_steps", "N", "0", NULL, "And after every so many steps."},
     VALUE_WHOLE,
     FIELD(recipe.checkpoint_steps),
     0,
     0x1p53,
     D},
    {{"resume", "FILE", NULL, NULL,
      "Go on from a checkpoint of the same model, data and options: the result is the same, byte "
      "for byte, as if the run had not been interrupted."},
     VALUE_TEXT,
     FIELD(recipe.resume),
     0,
     0,
     D},
    {{"log", "FILE", NULL, NULL,
      "Write a line for each step: loss, learning rate, samples a second, score of what is held "
      "back. JSON objects where the name ends in .json or .jsonl, otherwise CSV."},
     VALUE_TEXT,
     FIELD(recipe.log),
     0,
     0,
     D},
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
