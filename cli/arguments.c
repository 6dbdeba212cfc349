#include <stdarg.h>
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
    if (strcmp(flag->name, "output") == 0)
        out->output = value;
    else if (strcmp(flag->name, "config") == 0)
        out->config = value;
    else if (strcmp(flag->name, "print-config") == 0)
        out->print_config = true;
    else if (strcmp(flag->name, "json") == 0)
        out->json = value ? value : "";
    else if (strcmp(flag->name, "quiet") == 0)
        out->quiet = true;
    else if (strcmp(flag->name, "man") == 0)
        out->man = true;
    else if (strcmp(flag->name, "markdown") == 0)
        out->markdown = true;
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
    bool library = false;
    char option[64];
    if (!flag && is_long && command->library_options && length < sizeof option) {
        memcpy(option, name, length);
        option[length] = 0;
        for (char *c = option; *c; c++)
            *c = *c == '-' ? '_' : *c;
        const pal_option *found;
        for (size_t o = 0; !library && (found = pal_option_get(o)); o++)
            library = strcmp(found->name, option) == 0;
    }
    if (!flag && !library)
        return complain(command, "unknown option %s", text);
    if (flag && !flag->argument) {
        if (value)
            return complain(command, "--%s takes no value", flag->name);
        set_flag(out, flag, NULL);
        return 0;
    }
    if (!value) {
        if (*i + 1 >= argc)
            return complain(command, "%s needs a value", text);
        value = argv[++*i];
    }
    if (flag) {
        set_flag(out, flag, value);
        return 0;
    }
    if (pal_options_set(out->options, option, value))
        return complain(command, "%s", pal_error_message());
    return 0;
}

/* Loads the file of --config before anything else, so that options on the command line hold against
 * it wherever they stand. */
static pal_status load_config(const command *command, int argc, char **argv, pal_options *options)
{
    static const char name[] = "--config";
    for (int i = 0; i < argc && find_flag(command, "config", 6, 0); i++) {
        const char *path = NULL;
        if (strcmp(argv[i], "--") == 0)
            break;
        if (strcmp(argv[i], name) == 0 && i + 1 < argc)
            path = argv[i + 1];
        else if (strncmp(argv[i], name, sizeof name - 1) == 0 && argv[i][sizeof name - 1] == '=')
            path = argv[i] + sizeof name;
        if (path)
            return pal_options_load(options, path);
    }
    return PAL_OK;
}

int arguments_parse(const command *command, int argc, char **argv, arguments *out, bool *done)
{
    int inputs = 0, code = 0;
    bool only_inputs = false; /* after -- */
    *out = (arguments){.command = command};
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_usage(stdout, command);
            *done = true;
            return 0;
        }
    }
    pal_status status = pal_options_new(&out->options);
    if (!status)
        status = load_config(command, argc, argv, out->options);
    if (status)
        return report_failure(status);
    for (int i = 0; i < argc && !code; i++) {
        if (!only_inputs && strcmp(argv[i], "--") == 0)
            only_inputs = true;
        else if (!only_inputs && argv[i][0] == '-' && argv[i][1])
            code = parse_option(command, argc, argv, &i, out);
        else if (inputs++ == 0)
            out->input = argv[i];
    }
    if (code || out->print_config)
        return code;
    if (command->inputs >= 0 && inputs < command->inputs)
        return complain(command, "no input file");
    if (inputs > 1)
        return complain(command, "one input at a time");
    if (find_flag(command, "output", 6, 0) && (!out->output || !*out->output))
        return complain(command, "no output: give it with -o");
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
    pal_options_free(arguments->options);
}
