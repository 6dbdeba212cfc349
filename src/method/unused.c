#include "method/unused.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST_NAME = 128 }; /* that is compared with others */

/* How many letters have to be changed, put in or left out; those of another case count nothing. */
static size_t edits(const char *a, const char *b)
{
    size_t row[LONGEST_NAME + 1];
    const size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST_NAME || m > LONGEST_NAME)
        return LONGEST_NAME;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t before = row[0]++;
        for (size_t j = 1; j <= m; j++) {
            const bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            const size_t changed = before + !same;
            before = row[j];
            const size_t other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = changed < other ? changed : other;
        }
    }
    return row[m];
}

typedef struct likeness {
    const char *key, *name; /* the nearest so far, or NULL */
    size_t edits;           /* of a name to be named: fewer */
} likeness;

static void compare(likeness *it, const char *name)
{
    const size_t needed = *name ? edits(it->key, name) : it->edits;
    if (needed < it->edits) {
        it->edits = needed;
        it->name = name;
    }
}

/* The name among those that a key of this kind may have that is most like it; NULL if none is. */
static const char *nearest(const pal_model *model, rule_scope scope, const char *key)
{
    likeness it = {.key = key, .edits = strlen(key) / 4 + 2};
    for (size_t w = 0; w < model->weight_count; w++) {
        const model_weight *weight = &model->weights[w];
        if (scope == RULE_OP_NAME)
            compare(&it, weight->info.name);
        for (size_t u = 0; u < weight->info.consumers; u++)
            compare(&it, scope == RULE_OP_NAME ? weight->uses[u].name : weight->uses[u].op);
    }
    return it.name;
}

static const char *section_of(rule_scope scope)
{
    return scope == RULE_OP_TYPE ? "op_type_configs" : "op_name_configs";
}

static pal_status note_key(const pal_model *model, rule_scope scope, const char *key,
                           pal_report *report)
{
    char text[400];
    const char *name = nearest(model, scope, key);
    const int at = snprintf(text, sizeof text, "%s: %.100s covers no weight of the model",
                            section_of(scope), key);
    if (name)
        snprintf(text + at, sizeof text - (size_t)at, "; there is %.100s", name);
    return report_add_note(report, text);
}

static pal_status note_groups(rule_scope scope, const char *key, pal_report *report)
{
    char rule[160] = "", text[320];
    if (scope != RULE_GLOBAL)
        snprintf(rule, sizeof rule, "%s: %.100s: ", section_of(scope), key);
    snprintf(text, sizeof text,
             "%sgroup_size is for granularity per_grouped_channel: there are no groups", rule);
    return report_add_note(report, text);
}

pal_status unused_note(const pal_options *options, const pal_model *model, pal_report *report)
{
    pal_status status = PAL_OK;
    rule_scope scope;
    const char *key;
    bool none;
    for (size_t i = 0; !status && options && options_rule_get(options, i, &scope, &key, &none);
         i++) {
        bool covers = scope == RULE_GLOBAL;
        for (size_t w = 0; !covers && w < model->weight_count; w++)
            covers = options_rule_covers(options, i, &model->weights[w]);
        if (!covers)
            status = note_key(model, scope, key, report);
        else if (!none && options_rule_ignores_groups(options, i))
            status = note_groups(scope, key, report);
    }
    return status;
}
