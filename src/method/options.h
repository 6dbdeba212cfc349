/* Options, declared once: the table in options.c serves the library, the command line and the
 * manual. */
#ifndef PAL_METHOD_OPTIONS_H
#define PAL_METHOD_OPTIONS_H

#include "format/format.h"
#include "method/lookup.h"

typedef enum mode {
    MODE_KMEANS,
    MODE_UNIFORM,
    MODE_UNIQUE,
    MODE_CUSTOM,
} mode;

typedef enum granularity {
    GRANULARITY_PER_TENSOR,
    GRANULARITY_PER_GROUPED_CHANNEL,
} granularity;

/* The options as numbers, after pal_options_check(). */
typedef struct settings {
    unsigned nbits; /* 0: unset; of mode custom, that of the table */
    mode mode;
    const user_table *table; /* of mode custom; it belongs to the options */
    pal_dtype lut_dtype;     /* PAL_DTYPE_OTHER: that of the weight */
    bool per_channel_scale;
    granularity granularity;
    uint64_t group_size;
    bool has_channel_axis;
    int channel_axis;
    size_t cluster_dim;
    uint64_t weight_threshold;
    bool palettize_embeddings;
} settings;

/* The settings for one weight: those of the first rule that covers it (its name, a pattern that its
 * name matches, the name of an operator that uses it, that operator's type), otherwise the global
 * ones. `refusal` is why it is to be left alone, "" if it is not. NULL options give the defaults.
 */
void options_for(const pal_options *options, const model_weight *weight, settings *out,
                 char refusal[160]);

/* Threads to use. */
int options_threads(const pal_options *options);

/* ---------------------------------------------------------------- for config.c */

typedef enum rule_scope {
    RULE_GLOBAL,
    RULE_OP_TYPE,
    RULE_OP_NAME,
} rule_scope;

/* Begins a rule, all of its options at their defaults. `rule` is for the calls below; the key of
 * the global rule is ignored. */
pal_status options_rule_begin(pal_options *options, rule_scope scope, const char *key,
                              size_t *rule);
pal_status options_rule_set(pal_options *options, size_t rule, const char *name, const char *value);
/* Whether an option's value may be a list. */
bool options_takes_list(const char *name);
/* What the rule covers is left alone. */
void options_rule_none(pal_options *options, size_t rule);
/* Whether its options agree with each other. */
pal_status options_rule_check(const pal_options *options, size_t rule);

/* Exchanges all that two sets of options hold. */
void options_swap(pal_options *a, pal_options *b);

/* For writing: rule i, 0 being the global one; false past the last. `value` is called for each
 * option that is set. */
bool options_rule_get(const pal_options *options, size_t i, rule_scope *scope, const char **key,
                      bool *none);
const char *options_rule_value(const pal_options *options, size_t i, size_t option);

/* Whether rule i is for a weight, be it by name or by an operator that uses it; another rule may
 * come before it. */
bool options_rule_covers(const pal_options *options, size_t i, const model_weight *weight);
/* Whether rule i sets group_size, and has no groups. */
bool options_rule_ignores_groups(const pal_options *options, size_t i);

#endif
