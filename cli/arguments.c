#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static void say(const char *before, const char *format, va_list arguments, const char *after)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, arguments);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    fprintf(stderr, "palettize%s: %s%s\n", before, text, after);
}

void say_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("", format, arguments, "");
    va_end(arguments);
}

int report_failure(pal_status status)
{
    say_error("%s", pal_error_message());
    if (status == PAL_ERROR_CANCELLED)
        return EXIT_INTERRUPTED;
    return status == PAL_ERROR_ARGUMENT ? EXIT_BAD_USAGE : EXIT_BAD_INPUT;
}

static int complain(const command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int complain(const command *command, const char *format, ...)
{
    char before[32], after[64];
    va_list arguments;
    snprintf(before, sizeof before, " %s", command->name);
    snprintf(after, sizeof after, "; try palettize %s --help", command->name);
    va_start(arguments, format);
    say(before, format, arguments, after);
    va_end(arguments);
    return EXIT_BAD_USAGE;
}

static const flag *find_flag(const command *command, const char *name, size_t length, char letter)
{
    for (const flag *flag = command->flags; flag->name; flag++)
        if (letter ? flag->letter == letter
                   : strlen(flag->name) == length && strncmp(flag->name, name, length) == 0)
            return flag;
    return NULL;
}

static void set_flag(arguments *out, const flag *flag, const char *value)
{
    out->values[flag - out->command->flags] = value;
}

const char *flag_value(const arguments *arguments, const char *name)
{
    const flag *flag = find_flag(arguments->command, name, strlen(name), 0);
    return flag ? arguments->values[flag - arguments->command->flags] : NULL;
}

bool wants_table(const arguments *arguments)
{
    const char *json = flag_value(arguments, "json");
    return !flag_value(arguments, "quiet") && !(json && strcmp(json, "-") == 0);
}

int flag_number(const arguments *arguments, const char *name, long least, long *number)
{
    const char *text = flag_value(arguments, name);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least)
        return complain(arguments->command, "--%s takes a whole number from %ld up, not '%s'", name,
                        least, text);
    *number = value;
    return 0;
}

/* "--group-sise" is perhaps --group-size. */
static int complain_unknown(const command *command, const char *text, const char *name,
                            size_t length)
{
    suggestion meant = suggestion_begin(name, length);
    command_option option;
    for (size_t i = 0; text[1] == '-' && command_option_get(command, i, &option); i++)
        suggestion_offer(&meant, option.name);
    if (*meant.best)
        return complain(command, "unknown option %s, perhaps --%s", text, meant.best);
    return complain(command, "unknown option %s", text);
}

static pal_status set_option(arguments *out, const command_option *option, const char *value)
{
    switch (option->source) {
    case SOURCE_LIBRARY: return pal_options_set(out->options, option->name, value);
    case SOURCE_METHOD: return pal_method_options_set(out->method_options, option->name, value);
    case SOURCE_DATA:
    case SOURCE_COMMAND: break;
    }
    if (!*out->data_option)
        snprintf(out->data_option, sizeof out->data_option, "%s", option->name);
    return pal_data_options_set(out->data_options, option->name, value);
}

static bool may_lack_value(const flag *flag)
{
    return flag && flag->argument && *flag->argument == '[';
}

/* Whether a word is the value of a flag that may lack one: no model has such a name. */
static bool is_json_path(const char *word)
{
    const size_t length = strlen(word);
    return strcmp(word, "-") == 0 || (length > 5 && strcmp(word + length - 5, ".json") == 0);
}

/* One "--name", "--name=value", "--name value", "-l" or "-l value"; *i moves past a value taken. */
static int parse_option(const command *command, int argc, char **argv, int *i, arguments *out)
{
    const char *text = argv[*i];
    bool is_long = text[1] == '-';
    const char *name = is_long ? text + 2 : text + 1;
    size_t length = is_long ? strcspn(name, "=") : 1;
    const char *value = is_long && name[length] == '=' ? name + length + 1 : NULL;
    if (!is_long && name[1])
        value = name + 1;
    const flag *flag = find_flag(command, name, length, is_long ? 0 : *name);
    command_option option = {.source = SOURCE_COMMAND};
    if (!flag && (!is_long || !command_option_find(command, name, length, &option) ||
                  option.source == SOURCE_COMMAND))
        return complain_unknown(command, text, name, length);
    if (flag && !flag->argument) {
        if (value)
            return complain(command, "--%s takes no value", flag->name);
        set_flag(out, flag, "");
        return 0;
    }
    if (!value && may_lack_value(flag) && (*i + 1 >= argc || !is_json_path(argv[*i + 1]))) {
        set_flag(out, flag, "");
        return 0;
    }
    if (!value) {
        if (*i + 1 >= argc)
            return complain(command, "%s needs a value", text);
        value = argv[++*i];
    }
    if (flag)
        set_flag(out, flag, value);
    else if (set_option(out, &option, value))
        return complain(command, "%s", pal_error_message());
    return 0;
}

/* Loads the file of --config, the last of several, before anything else, so that options on the
 * command line hold against it wherever they stand. */
static pal_status load_config(const command *command, int argc, char **argv, pal_options *options)
{
    static const char name[] = "--config";
    const char *path = NULL;
    for (int i = 0; i < argc && find_flag(command, "config", 6, 0); i++) {
        if (strcmp(argv[i], "--") == 0)
            break;
        if (strcmp(argv[i], name) == 0 && i + 1 < argc)
            path = argv[i + 1];
        else if (strncmp(argv[i], name, sizeof name - 1) == 0 && argv[i][sizeof name - 1] == '=')
            path = argv[i] + sizeof name;
    }
    return path ? pal_options_load(options, path) : PAL_OK;
}

static int check_inputs(const arguments *arguments)
{
    const command *command = arguments->command;
    const char *const *inputs = arguments->inputs;
    const size_t count = arguments->input_count;
    const size_t least = command->inputs == INPUTS_AT_LEAST_ONE  ? 1
                         : command->inputs == INPUTS_AT_MOST_ONE ? 0
                                                                 : (size_t)command->inputs;
    const size_t most = command->inputs == INPUTS_AT_LEAST_ONE  ? SIZE_MAX
                        : command->inputs == INPUTS_AT_MOST_ONE ? 1
                                                                : (size_t)command->inputs;
    if (count < least)
        return complain(command, count ? "no second input file" : "no input file");
    for (const flag *flag = command->flags; count > most && flag->name; flag++)
        if (may_lack_value(flag) && flag_value(arguments, flag->name))
            return complain(command,
                            "%s is one input too many; if it is for --%s, give it as --%s=%s",
                            inputs[most], flag->name, flag->name, inputs[most]);
    if (count > most)
        return complain(command, "%s is one input too many", inputs[most]);
    return 0;
}

int arguments_parse(const command *command, int argc, char **argv, arguments *out, bool *done)
{
    int code = 0;
    bool only_inputs = false; /* after -- */
    *out = (arguments){.command = command};
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_usage(stdout, command);
            *done = true;
            return 0;
        }
    }
    out->inputs = calloc((size_t)argc + 1, sizeof *out->inputs);
    if (!out->inputs) {
        say_error("out of memory reading the command line");
        return EXIT_BAD_INPUT;
    }
    pal_status status = pal_options_new(&out->options);
    if (!status)
        status = pal_data_options_new(&out->data_options);
    if (!status)
        status = pal_method_options_new(&out->method_options);
    if (!status)
        status = load_config(command, argc, argv, out->options);
    if (status)
        return report_failure(status);
    for (int i = 0; i < argc && !code; i++) {
        if (!only_inputs && strcmp(argv[i], "--") == 0)
            only_inputs = true;
        else if (!only_inputs && argv[i][0] == '-' && argv[i][1])
            code = parse_option(command, argc, argv, &i, out);
        else
            out->inputs[out->input_count++] = argv[i];
    }
    if (code || flag_value(out, "print-config"))
        return code;
    if ((code = check_inputs(out)))
        return code;
    const char *needed = command->needs ? flag_value(out, command->needs) : "given";
    if (!needed || !*needed)
        return complain(command, "no %s: give it with -%c", command->needs,
                        find_flag(command, command->needs, strlen(command->needs), 0)->letter);
    return 0;
}

int print_config(const arguments *arguments)
{
    char *text = NULL;
    pal_status status = pal_options_text(arguments->options, &text);
    if (status)
        return report_failure(status);
    fputs(text, stdout);
    pal_free(text);
    return 0;
}

void arguments_free(arguments *arguments)
{
    free(arguments->inputs);
    pal_options_free(arguments->options);
    pal_data_options_free(arguments->data_options);
    pal_method_options_free(arguments->method_options);
}
