/* Configuration files: YAML with the layout of coremltools' OptimizationConfig, read as a stream of
 * events so that every complaint can name its line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/memory.h"
#include "method/options.h"

void pal_free(void *memory)
{
    free(memory);
}

/* ---------------------------------------------------------------- growing text */

typedef struct text {
    char *data;
    size_t used, capacity;
    bool failed;
} text;

static void add(text *t, const char *from, size_t n)
{
    if (t->failed || !mem_grow((void **)&t->data, &t->capacity, t->used + n + 1, 1)) {
        t->failed = true;
        return;
    }
    memcpy(t->data + t->used, from, n);
    t->used += n;
    t->data[t->used] = 0;
}

static void add_text(text *t, const char *from)
{
    add(t, from, strlen(from));
}

/* In double quotes, escaped. */
static void add_quoted(text *t, const char *from)
{
    add_text(t, "\"");
    for (; *from; from++) {
        char escaped[8];
        if ((unsigned char)*from < 32 || *from == 127)
            snprintf(escaped, sizeof escaped, "\\x%02X", (unsigned)(unsigned char)*from);
        else
            snprintf(escaped, sizeof escaped, *from == '"' || *from == '\\' ? "\\%c" : "%c", *from);
        add_text(t, escaped);
    }
    add_text(t, "\"");
}

/* ---------------------------------------------------------------- reading */

typedef struct reader {
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the one under consideration */
    pal_options *options;
} reader;

/* Fails at the line of the current event. */
#define fail_here(r, ...)                                                                          \
    fail_at((r)->path, (r)->event.start_mark.line + 1, fail(PAL_ERROR_ARGUMENT, __VA_ARGS__))

static pal_status fail_at(const char *path, size_t line, pal_status status)
{
    return fail_context(status, "%s:%zu", path, line);
}

static pal_status next(reader *r)
{
    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event)) {
        if (r->event.type == YAML_ALIAS_EVENT)
            return fail_here(r, "anchors and aliases are not supported");
        return PAL_OK;
    }
    memset(&r->event, 0, sizeof r->event);
    if (r->parser.error == YAML_MEMORY_ERROR)
        return fail_memory("reading a configuration");
    return fail(PAL_ERROR_ARGUMENT, "%s:%zu: not YAML: %s", r->path,
                r->parser.problem_mark.line + 1,
                r->parser.problem ? r->parser.problem : "unknown error");
}

/* The text of a scalar event; NULL for any other. */
static const char *scalar(const reader *r)
{
    return r->event.type == YAML_SCALAR_EVENT ? (const char *)r->event.data.scalar.value : NULL;
}

/* A plain null: the word, a tilde, or nothing. */
static bool is_null(const reader *r)
{
    const char *text = scalar(r);
    return text && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
            strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0 || strcmp(text, "None") == 0);
}

/* "[1, 2]" or "[[1, 2], [3, 4]]", as text of one line. The current event is its first; its last is
 * current on return. */
static pal_status read_list(reader *r, text *out)
{
    pal_status status = PAL_OK;
    for (size_t depth = 0;;) {
        const bool first = !out->used || out->data[out->used - 1] == '[';
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            add_text(out, "]");
            if (--depth == 0)
                return out->failed ? fail_memory("reading a configuration") : PAL_OK;
        } else {
            add_text(out, first ? "" : ", ");
            if (r->event.type == YAML_SEQUENCE_START_EVENT) {
                add_text(out, "[");
                depth++;
            } else if (scalar(r)) {
                add_text(out, scalar(r));
            } else {
                return fail_here(r, "expected numbers");
            }
        }
        if ((status = next(r)))
            return status;
    }
}

/* The value of one option, which is the current event. */
static pal_status read_value(reader *r, size_t rule, const char *key, const char *name)
{
    const size_t line = r->event.start_mark.line + 1;
    text list = {0};
    pal_status status = PAL_OK;
    if (r->event.type == YAML_SEQUENCE_START_EVENT && options_takes_list(name)) {
        if (!(status = read_list(r, &list)) &&
            (status = options_rule_set(r->options, rule, name, list.data)))
            fail_at(r->path, line, fail_context(status, "%.100s", key));
        free(list.data);
        return status;
    }
    if (!scalar(r))
        return fail_here(r, "%.100s: %s: expected a value", key, name);
    /* coremltools has it, and ours is the option threads. */
    if (strcmp(name, "num_kmeans_workers") == 0)
        return PAL_OK;
    status = options_rule_set(r->options, rule, name, scalar(r));
    return status ? fail_at(r->path, line, fail_context(status, "%.100s", key)) : PAL_OK;
}

/* "{nbits: 4, ...}" or null. The current event is its first; its last is current on return. */
static pal_status read_rule(reader *r, rule_scope scope, const char *key)
{
    const size_t line = r->event.start_mark.line + 1;
    size_t rule;
    pal_status status = options_rule_begin(r->options, scope, key, &rule);
    if (status)
        return fail_at(r->path, line, status);
    if (is_null(r)) {
        options_rule_none(r->options, rule);
        return PAL_OK;
    }
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return fail_here(r, "%.100s: expected options, or null", key);
    for (;;) {
        if ((status = next(r)))
            return status;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            break;
        char name[64];
        const char *text = scalar(r);
        if (!text)
            return fail_here(r, "%.100s: expected the name of an option", key);
        snprintf(name, sizeof name, "%s", text);
        if ((status = next(r)))
            return status;
        if (is_null(r))
            continue; /* its default */
        if ((status = read_value(r, rule, key, name)))
            return status;
    }
    status = options_rule_check(r->options, rule);
    return status ? fail_at(r->path, line, fail_context(status, "%.100s", key)) : PAL_OK;
}

/* A mapping from operator types or names to options. */
static pal_status read_rules(reader *r, rule_scope scope, const char *section)
{
    pal_status status = PAL_OK;
    if (is_null(r))
        return PAL_OK;
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return fail_here(r, "%s: expected a mapping", section);
    while (!status && !(status = next(r)) && r->event.type != YAML_MAPPING_END_EVENT) {
        const char *text = scalar(r);
        if (!text)
            return fail_here(r, "%s: expected a name", section);
        char *key = strdup(text);
        if (!key)
            return fail_memory("reading a configuration");
        status = next(r);
        if (!status)
            status = read_rule(r, scope, key);
        free(key);
    }
    return status;
}

static pal_status read_section(reader *r, bool *has_global)
{
    char section[64];
    const char *text = scalar(r);
    if (!text)
        return fail_here(r, "expected global_config, op_type_configs or op_name_configs");
    snprintf(section, sizeof section, "%s", text);
    const size_t line = r->event.start_mark.line + 1;
    pal_status status = next(r);
    if (status)
        return status;
    if (strcmp(section, "global_config") == 0) {
        *has_global = true;
        return read_rule(r, RULE_GLOBAL, section);
    }
    if (strcmp(section, "op_type_configs") == 0)
        return read_rules(r, RULE_OP_TYPE, section);
    if (strcmp(section, "op_name_configs") == 0)
        return read_rules(r, RULE_OP_NAME, section);
    if (strcmp(section, "config_type") == 0) {
        text = scalar(r);
        return text && strcmp(text, "OpPalettizerConfig") == 0
                   ? PAL_OK
                   : fail_here(r, "config_type: only OpPalettizerConfig");
    }
    return fail_at(r->path, line,
                   fail(PAL_ERROR_ARGUMENT,
                        "%s: there is no such section; there are global_config, op_type_configs, "
                        "op_name_configs and config_type",
                        section));
}

static pal_status read_document(reader *r)
{
    bool has_global = false;
    pal_status status = next(r); /* stream start */
    if (!status)
        status = next(r);
    if (!status && r->event.type != YAML_DOCUMENT_START_EVENT)
        return fail_here(r, "the file is empty");
    if (!status)
        status = next(r);
    if (!status && r->event.type != YAML_MAPPING_START_EVENT)
        return fail_here(r, "expected global_config, op_type_configs or op_name_configs");
    while (!status && !(status = next(r)) && r->event.type != YAML_MAPPING_END_EVENT)
        status = read_section(r, &has_global);
    if (!status && !has_global)
        options_rule_none(r->options, 0);
    return status;
}

pal_status pal_options_load(pal_options *options, const char *path)
{
    file_map map;
    if (!options || !path)
        return fail(PAL_ERROR_ARGUMENT, "pal_options_load: no options or no path");
    pal_status status = file_map_open(path, &map);
    if (status)
        return status;
    reader r = {.path = path};
    if (!yaml_parser_initialize(&r.parser)) {
        file_map_close(&map);
        return fail_memory("reading a configuration");
    }
    yaml_parser_set_input_string(&r.parser, map.data ? map.data : (const unsigned char *)"",
                                 map.size);
    /* Into fresh options first, so that a bad file changes nothing. */
    status = pal_options_new(&r.options);
    if (!status)
        status = read_document(&r);
    if (!status)
        options_swap(options, r.options);
    pal_options_free(r.options);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    file_map_close(&map);
    return status;
}

/* ---------------------------------------------------------------- writing */

/* A key before a colon must end within 1024 characters; one may be escaped as four. */
enum { LONGEST_SIMPLE_KEY = 250 };

static void add_rule(text *t, const pal_options *options, size_t i, bool none, const char *indent)
{
    if (none) {
        add_text(t, " null\n");
        return;
    }
    add_text(t, "\n");
    for (size_t o = 0; pal_option_get(o); o++) {
        const char *value = options_rule_value(options, i, o);
        if (!*value)
            continue;
        add_text(t, indent);
        add_text(t, pal_option_get(o)->name);
        add_text(t, ": ");
        if (pal_option_get(o)->type == PAL_OPTION_TABLE && value[strspn(value, " \t")] != '[')
            add_quoted(t, value);
        else
            add_text(t, value);
        add_text(t, "\n");
    }
}

pal_status pal_options_text(const pal_options *options, char **out)
{
    static const char *const sections[] = {"global_config:", "op_type_configs:\n",
                                           "op_name_configs:\n"};
    text t = {0};
    rule_scope scope;
    const char *key;
    bool none;
    for (int s = RULE_GLOBAL; s <= RULE_OP_NAME; s++) {
        bool begun = false;
        for (size_t i = 0; options_rule_get(options, i, &scope, &key, &none); i++) {
            if ((int)scope != s)
                continue;
            if (!begun)
                add_text(&t, sections[s]);
            begun = true;
            if (scope != RULE_GLOBAL) {
                const bool simple = strlen(key) < LONGEST_SIMPLE_KEY;
                add_text(&t, simple ? "  " : "  ? ");
                add_quoted(&t, key);
                add_text(&t, simple ? ":" : "\n  :");
            }
            add_rule(&t, options, i, none, scope == RULE_GLOBAL ? "  " : "    ");
        }
    }
    if (t.failed) {
        free(t.data);
        return fail_memory("writing a configuration");
    }
    *out = t.data;
    return PAL_OK;
}
