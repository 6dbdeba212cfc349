#include "method/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "method/pattern.h"

static const pal_option table[] = {
    {"nbits", PAL_OPTION_INTEGER, NULL, 1, 8, "1|2|3|4|6|8", "N",
     "Bits for each weight: 1, 2, 3, 4, 6 or 8; the look-up table has 2^N entries. Must be given "
     "for the modes kmeans and uniform; unique and custom have their own. 3 bit needs iOS18."},
    {"mode", PAL_OPTION_CHOICE, "kmeans", 0, 0, "kmeans|uniform|unique|custom", "MODE",
     "How the look-up table is chosen. kmeans: the entries of least squared error, the global "
     "optimum. uniform: entries at equal distances between the least and the greatest weight, or "
     "at that distance rounded to the type of the weight, where the error is lower. unique: the "
     "distinct values themselves, without loss, with the fewest bits that hold them; weights with "
     "more than 256 distinct values (or vectors) are left as they are. custom: the entries that "
     "the option lut gives; each weight takes the nearest."},
    {"lut", PAL_OPTION_TABLE, NULL, 0, 0, NULL, "TABLE",
     "The look-up table of mode custom: the path of a NumPy file (.npy) or a list of numbers in "
     "brackets, as in [-1, -0.3, 0.3, 1]. It has 2, 4, 8, 16, 64 or 256 entries, which makes 1, 2, "
     "3, 4, 6 or 8 bit; with cluster_dim above 1 each entry is a vector, a row of the file's "
     "second "
     "dimension or a list of its own. Every group of channels takes the same table. Entries are "
     "rounded to the type of the weight."},
    {"granularity", PAL_OPTION_CHOICE, "per_tensor", 0, 0, "per_tensor|per_grouped_channel", "G",
     "per_tensor: one look-up table for each weight. per_grouped_channel: one for each group of "
     "group_size channels; needs iOS18."},
    {"group_size", PAL_OPTION_INTEGER, "32", 1, INT32_MAX, NULL, "G",
     "Channels that share a look-up table under per_grouped_channel. Where it does not divide the "
     "number of channels, the largest divisor below it is taken, and reported."},
    {"channel_axis", PAL_OPTION_INTEGER, NULL, -PAL_MAX_RANK, PAL_MAX_RANK - 1, NULL, "A",
     "The dimension that holds the channels to be grouped; negative ones count from the last. By "
     "default the output channels of the operator that uses the weight: 1 for conv_transpose, the "
     "last or last but one for matmul, otherwise 0."},
    {"cluster_dim", PAL_OPTION_INTEGER, "1", 1, 64, NULL, "D",
     "Length of the vectors that an index stands for. Above 1, D weights that follow each other "
     "along the channel axis share an index, so that a weight takes nbits / D bits. The tables of "
     "mode kmeans are then found by k-means++, Lloyd's iterations and moves of single clusters: "
     "good, but no proven optimum. Not for mode uniform; needs iOS18. Weights whose channels D "
     "does "
     "not divide are left as they are."},
    {"enable_per_channel_scale", PAL_OPTION_CHOICE, "false", 0, 0, "false|true", "B",
     "true: before clustering, weights are divided by scales, which the file then holds beside the "
     "table: the largest magnitude along the channel axis, one for each position in the other "
     "dimensions, as coremltools' palettize_weights has it. In Core ML packages before iOS26 the "
     "table is repeated for each scale, which can take more space than it saves. Needs iOS18."},
    {"lut_dtype", PAL_OPTION_CHOICE, NULL, 0, 0, "int8|uint8", "TYPE",
     "Type of the entries of the look-up tables. int8: whole numbers, with a scale for each table. "
     "uint8: with an offset as well. By default that of the weight. Clustering chooses among what "
     "such a table can hold. Not for mode unique; needs iOS18; in Core ML packages not together "
     "with enable_per_channel_scale."},
    {"weight_threshold", PAL_OPTION_INTEGER, "2048", 0, INT64_MAX, NULL, "T",
     "Only weights with more than T elements are palettized."},
    {"embeddings", PAL_OPTION_CHOICE, "skip", 0, 0, "skip|palettize", "E",
     "What to do with the embedding tables of a safetensors checkpoint, which are known by their "
     "names (embed_tokens, wte, wpe, ...): skip leaves them as they are, palettize treats them "
     "like "
     "other matrices. Formats that tell how a weight is used palettize them always."},
    {"threads", PAL_OPTION_INTEGER, "0", 0, 1024, NULL, "K",
     "Threads to work with; 0 takes as many as there are processors. The output does not depend on "
     "it, except that of method dkm and, of the very largest models, of method sensitive."},
};

enum {
    OPTIONS = sizeof table / sizeof *table,
    VALUE_SIZE = 32,
};

enum {
    NBITS,
    MODE,
    LUT,
    GRANULARITY,
    GROUP_SIZE,
    CHANNEL_AXIS,
    CLUSTER_DIM,
    PER_CHANNEL_SCALE,
    LUT_DTYPE,
    WEIGHT_THRESHOLD,
    EMBEDDINGS,
    THREADS
};

/* One set of options and what it is for. */
typedef struct rule {
    rule_scope scope;
    char *key;
    pattern *pattern; /* RULE_OP_NAME: the key as a regular expression; NULL if it is none */
    bool none;
    char value[OPTIONS][VALUE_SIZE]; /* "" where unset; that of the table is in */
    user_table table;
} rule;

struct pal_options {
    rule *rules; /* the global one, and then in the order of the file */
    size_t count, capacity;
    size_t spent; /* by patterns */
};

const pal_option *pal_option_get(size_t i)
{
    return i < OPTIONS ? &table[i] : NULL;
}

static void set_defaults(rule *rule)
{
    for (size_t i = 0; i < OPTIONS; i++)
        snprintf(rule->value[i], VALUE_SIZE, "%s",
                 table[i].default_value ? table[i].default_value : "");
}

pal_status pal_options_new(pal_options **out)
{
    pal_options *options = mem_zeroed(1, sizeof *options);
    if (!options ||
        !mem_grow((void **)&options->rules, &options->capacity, 1, sizeof *options->rules)) {
        free(options);
        return fail_memory("making options");
    }
    options->rules[0] = (rule){.scope = RULE_GLOBAL};
    options->count = 1;
    set_defaults(&options->rules[0]);
    *out = options;
    return PAL_OK;
}

void pal_options_free(pal_options *options)
{
    if (!options)
        return;
    for (size_t i = 0; i < options->count; i++) {
        free(options->rules[i].key);
        user_table_free(&options->rules[i].table);
        pattern_free(options->rules[i].pattern);
    }
    free(options->rules);
    free(options);
}

/* ---------------------------------------------------------------- setting */

static size_t find_option(const char *name)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        const char *a = table[i].name, *b = name;
        while (*a && (*a == *b || (*a == '_' && *b == '-')))
            a++, b++;
        if (!*a && !*b)
            return i;
    }
    return OPTIONS;
}

/* Copies the word in `choices`, "a|b|c", that `value` is, whatever the case of its letters. */
static bool find_choice(const char *choices, const char *value, char found[VALUE_SIZE])
{
    size_t n = strlen(value);
    for (const char *word = choices; *word;) {
        size_t length = strcspn(word, "|");
        if (length == n && n < VALUE_SIZE && strncasecmp(word, value, n) == 0) {
            memcpy(found, word, n);
            found[n] = 0;
            return true;
        }
        word += length;
        word += *word == '|';
    }
    return false;
}

static bool parse_integer(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)*text))
        return false;
    *out = number;
    return true;
}

static pal_status set_value(rule *rule, const char *name, const char *value)
{
    size_t i = find_option(name);
    if (i == OPTIONS)
        return fail(PAL_ERROR_ARGUMENT, "there is no option %s", name);
    const pal_option *option = &table[i];
    char number[VALUE_SIZE], word[VALUE_SIZE];
    if (option->type == PAL_OPTION_TABLE) {
        user_table read;
        pal_status status = user_table_read(value, &read);
        if (status)
            return fail_context(status, "%s", option->name);
        user_table_free(&rule->table);
        rule->table = read;
        return PAL_OK;
    }
    if (option->type == PAL_OPTION_INTEGER) {
        int64_t integer;
        if (!parse_integer(value, &integer))
            return fail(PAL_ERROR_ARGUMENT, "%s: %s is not an integer", option->name, value);
        snprintf(number, sizeof number, "%lld", (long long)integer);
        if (!option->choices && integer < option->minimum && option->maximum == INT64_MAX)
            return fail(PAL_ERROR_ARGUMENT, "%s: %s is less than %lld", option->name, value,
                        (long long)option->minimum);
        if (!option->choices && (integer < option->minimum || integer > option->maximum))
            return fail(PAL_ERROR_ARGUMENT, "%s: %s is not between %lld and %lld", option->name,
                        value, (long long)option->minimum, (long long)option->maximum);
        value = number;
    }
    if (option->choices && !find_choice(option->choices, value, word))
        return fail(PAL_ERROR_ARGUMENT, "%s: %s is not one of %s", option->name, value,
                    option->choices);
    snprintf(rule->value[i], VALUE_SIZE, "%s", option->choices ? word : value);
    return PAL_OK;
}

pal_status pal_options_set(pal_options *options, const char *name, const char *value)
{
    if (!options || !name || !value)
        return fail(PAL_ERROR_ARGUMENT, "pal_options_set: no options, name or value");
    pal_status status = set_value(&options->rules[0], name, value);
    if (!status && find_option(name) != THREADS) /* which says nothing of any weight */
        options->rules[0].none = false;
    return status;
}

const char *pal_options_value(const pal_options *options, const char *name)
{
    size_t i = options && name ? find_option(name) : OPTIONS;
    const char *value = i < OPTIONS ? options_rule_value(options, 0, i) : "";
    return *value ? value : NULL;
}

/* ---------------------------------------------------------------- rules */

pal_status options_rule_begin(pal_options *options, rule_scope scope, const char *key,
                              size_t *index)
{
    rule fresh = {.scope = scope};
    set_defaults(&fresh);
    if (scope == RULE_GLOBAL) {
        user_table_free(&options->rules[0].table);
        options->rules[0] = fresh;
        *index = 0;
        return PAL_OK;
    }
    for (size_t i = 1; i < options->count; i++)
        if (options->rules[i].scope == scope && strcmp(options->rules[i].key, key) == 0)
            return fail(PAL_ERROR_ARGUMENT, "%.100s is there twice", key);
    if (!mem_grow((void **)&options->rules, &options->capacity, options->count + 1,
                  sizeof *options->rules) ||
        !(fresh.key = strdup(key)))
        return fail_memory("making options");
    pal_status status = PAL_OK;
    if (scope == RULE_OP_NAME)
        status = pattern_new(fresh.key, &options->spent, &fresh.pattern);
    if (status) {
        free(fresh.key);
        return status;
    }
    *index = options->count;
    options->rules[options->count++] = fresh;
    return PAL_OK;
}

pal_status options_rule_set(pal_options *options, size_t i, const char *name, const char *value)
{
    return set_value(&options->rules[i], name, value);
}

bool options_takes_list(const char *name)
{
    size_t i = find_option(name);
    return i < OPTIONS && table[i].type == PAL_OPTION_TABLE;
}

void options_rule_none(pal_options *options, size_t i)
{
    options->rules[i].none = true;
}

void options_swap(pal_options *a, pal_options *b)
{
    pal_options kept = *a;
    *a = *b;
    *b = kept;
}

bool options_rule_get(const pal_options *options, size_t i, rule_scope *scope, const char **key,
                      bool *none)
{
    if (i >= options->count)
        return false;
    *scope = options->rules[i].scope;
    *key = options->rules[i].key;
    *none = options->rules[i].none;
    return true;
}

const char *options_rule_value(const pal_options *options, size_t i, size_t option)
{
    const rule *rule = &options->rules[i];
    if (option == LUT)
        return rule->table.text ? rule->table.text : "";
    return rule->value[option];
}

/* ---------------------------------------------------------------- reading */

static int64_t integer_value(const rule *rule, size_t i)
{
    int64_t number = 0;
    parse_integer(rule->value[i], &number);
    return number;
}

/* Bits of a user's table; 0 if it has not a power of two of entries, or none of this length. */
static unsigned table_bits(const user_table *table, size_t cluster_dim)
{
    static const unsigned widths[] = {1, 2, 3, 4, 6, 8};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (table->count == cluster_dim << widths[i] &&
            (table->dim ? table->dim : 1) == (table->dim ? cluster_dim : 1))
            return widths[i];
    return 0;
}

static settings settings_of(const rule *rule)
{
    settings out = {
        .nbits = (unsigned)integer_value(rule, NBITS),
        .group_size = (uint64_t)integer_value(rule, GROUP_SIZE),
        .has_channel_axis = *rule->value[CHANNEL_AXIS] != 0,
        .channel_axis = (int)integer_value(rule, CHANNEL_AXIS),
        .cluster_dim = (size_t)integer_value(rule, CLUSTER_DIM),
        .weight_threshold = (uint64_t)integer_value(rule, WEIGHT_THRESHOLD),
        .palettize_embeddings = strcmp(rule->value[EMBEDDINGS], "palettize") == 0,
        .per_channel_scale = strcmp(rule->value[PER_CHANNEL_SCALE], "true") == 0,
        .table = &rule->table,
    };
    if (strcmp(rule->value[LUT_DTYPE], "int8") == 0)
        out.lut_dtype = PAL_INT8;
    else if (strcmp(rule->value[LUT_DTYPE], "uint8") == 0)
        out.lut_dtype = PAL_UINT8;
    if (strcmp(rule->value[MODE], "uniform") == 0)
        out.mode = MODE_UNIFORM;
    else if (strcmp(rule->value[MODE], "unique") == 0)
        out.mode = MODE_UNIQUE;
    else if (strcmp(rule->value[MODE], "custom") == 0)
        out.mode = MODE_CUSTOM;
    if (out.mode == MODE_CUSTOM && !out.nbits)
        out.nbits = table_bits(&rule->table, out.cluster_dim);
    if (strcmp(rule->value[GRANULARITY], "per_grouped_channel") == 0)
        out.granularity = GRANULARITY_PER_GROUPED_CHANNEL;
    return out;
}

bool options_rule_covers(const pal_options *options, size_t i, const model_weight *weight)
{
    const rule *rule = &options->rules[i];
    if (rule->scope == RULE_OP_NAME &&
        (strcmp(rule->key, weight->info.name) == 0 ||
         (rule->pattern && pattern_matches(rule->pattern, weight->info.name))))
        return true;
    for (size_t u = 0; u < weight->info.consumers; u++) {
        const weight_use *use = &weight->uses[u];
        if (strcmp(rule->key, rule->scope == RULE_OP_NAME ? use->name : use->op) == 0)
            return true;
    }
    return false;
}

bool options_rule_ignores_groups(const pal_options *options, size_t i)
{
    const rule *rule = &options->rules[i];
    return strcmp(rule->value[GROUP_SIZE], table[GROUP_SIZE].default_value) != 0 &&
           settings_of(rule).granularity == GRANULARITY_PER_TENSOR;
}

/* The rule that covers a weight by its own name, or NULL. */
static const rule *rule_by_name(const pal_options *options, const char *name)
{
    const rule *by_pattern = NULL;
    for (size_t i = 1; i < options->count; i++) {
        const rule *rule = &options->rules[i];
        if (rule->scope != RULE_OP_NAME)
            continue;
        if (strcmp(rule->key, name) == 0)
            return rule;
        if (!by_pattern && rule->pattern && pattern_matches(rule->pattern, name))
            by_pattern = rule;
    }
    return by_pattern;
}

/* The rule that covers what an operator uses; as in coremltools, its name must be spelled out. */
static const rule *rule_by_use(const pal_options *options, const weight_use *use)
{
    const rule *by_type = NULL;
    for (size_t i = 1; i < options->count; i++) {
        const rule *rule = &options->rules[i];
        if (rule->scope == RULE_OP_NAME && *use->name && strcmp(rule->key, use->name) == 0)
            return rule;
        if (rule->scope == RULE_OP_TYPE && !by_type && strcmp(rule->key, use->op) == 0)
            by_type = rule;
    }
    return by_type ? by_type : &options->rules[0];
}

static bool same_options(const rule *a, const rule *b)
{
    bool same = a->none == b->none && user_table_equal(&a->table, &b->table);
    for (size_t i = 0; same && i < OPTIONS; i++)
        same = strcmp(a->value[i], b->value[i]) == 0;
    return same || (a->none && b->none);
}

/* The rule that covers a weight; *other is a use for which a rule with other options holds. */
static const rule *find_rule(const pal_options *options, const model_weight *weight,
                             const weight_use **other)
{
    *other = NULL;
    const rule *rule = rule_by_name(options, weight->info.name);
    if (rule)
        return rule;
    rule = &options->rules[0];
    for (size_t i = 0; i < weight->info.consumers; i++) {
        const struct rule *covers = rule_by_use(options, &weight->uses[i]);
        if (i == 0)
            rule = covers;
        else if (!*other && !same_options(rule, covers))
            *other = &weight->uses[i];
    }
    return rule;
}

void options_for(const pal_options *options, const model_weight *weight, settings *out,
                 char refusal[160])
{
    rule defaults = {.scope = RULE_GLOBAL};
    const rule *rule = &defaults;
    const weight_use *other = NULL;
    if (options)
        rule = find_rule(options, weight, &other);
    else
        set_defaults(&defaults);
    *out = settings_of(rule);
    if (!options)
        out->table = NULL;
    *refusal = 0;
    if (other)
        snprintf(refusal, 160,
                 "its operators %.40s and %.40s have different options; name it in op_name_configs",
                 weight->uses[0].op, other->op);
    else if (rule->none)
        snprintf(refusal, 160, "the configuration leaves it out");
}

int options_threads(const pal_options *options)
{
    return options ? (int)integer_value(&options->rules[0], THREADS) : 0;
}

/* What is wrong with a table that gives no number of bits. */
static pal_status check_table(const user_table *table, size_t cluster_dim)
{
    if (table->dim && table->dim != cluster_dim)
        return fail(PAL_ERROR_ARGUMENT, "lut: entries of %zu values; cluster_dim is %zu",
                    table->dim, cluster_dim);
    return fail(
        PAL_ERROR_ARGUMENT,
        "lut: %zu values; with cluster_dim %zu a table has 2, 4, 8, 16, 64 or 256 times %zu",
        table->count, cluster_dim, cluster_dim);
}

static pal_status check_rule(const rule *rule)
{
    const settings settings = settings_of(rule);
    if (rule->none)
        return PAL_OK;
    if (settings.mode == MODE_UNIQUE && settings.nbits)
        return fail(PAL_ERROR_ARGUMENT, "nbits: mode unique finds its own number of bits");
    if (settings.mode == MODE_CUSTOM && *rule->value[NBITS])
        return fail(PAL_ERROR_ARGUMENT, "nbits: mode custom has that of the table");
    if (settings.mode == MODE_CUSTOM && !rule->table.count)
        return fail(PAL_ERROR_ARGUMENT, "lut: must be given for mode custom");
    if (settings.mode != MODE_CUSTOM && rule->table.count)
        return fail(PAL_ERROR_ARGUMENT, "lut: only in mode custom");
    if (settings.mode == MODE_CUSTOM && !settings.nbits)
        return check_table(&rule->table, settings.cluster_dim);
    if (settings.mode == MODE_UNIFORM && settings.cluster_dim > 1)
        return fail(PAL_ERROR_ARGUMENT, "cluster_dim: not above 1 in mode uniform");
    if (settings.mode == MODE_UNIQUE && settings.lut_dtype)
        return fail(PAL_ERROR_ARGUMENT, "lut_dtype: mode unique keeps the values as they are");
    if (settings.mode != MODE_UNIQUE && !settings.nbits)
        return fail(PAL_ERROR_ARGUMENT, "nbits: must be given for mode %s", rule->value[MODE]);
    return PAL_OK;
}

pal_status options_rule_check(const pal_options *options, size_t i)
{
    return check_rule(&options->rules[i]);
}

pal_status pal_options_check(const pal_options *options)
{
    rule defaults = {.scope = RULE_GLOBAL};
    if (!options) {
        set_defaults(&defaults);
        return check_rule(&defaults);
    }
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < options->count; i++) {
        status = check_rule(&options->rules[i]);
        if (status && i)
            fail_context(status, "%s", options->rules[i].key);
    }
    return status;
}
