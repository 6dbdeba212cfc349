/* All options of a command in one list, from the four places where they are declared. */
#include <string.h>

#include "cli.h"

static void set_name(command_option *out, const char *name)
{
    snprintf(out->name, sizeof out->name, "%s", name);
    for (char *c = out->name; *c; c++)
        *c = *c == '_' ? '-' : *c;
}

static void from_library(const pal_option *option, command_option *out)
{
    set_name(out, option->name);
    out->choices = option->choices;
    out->argument = option->choices    ? option->choices
                    : option->argument ? option->argument
                                       : "VALUE";
    out->usual = option->default_value;
    out->help = option->help;
}

static void from_flag(const flag *flag, command_option *out)
{
    set_name(out, flag->name);
    out->letter = flag->letter;
    out->argument = flag->argument;
    out->choices = flag->argument && strchr(flag->argument, '|') ? flag->argument : NULL;
    out->help = flag->help;
}

static void from_method(const pal_method_option *option, command_option *out)
{
    set_name(out, option->name);
    out->choices = option->choices;
    out->argument = option->argument;
    out->usual = option->default_value;
    out->help = option->help;
}

static void from_data(const pal_data_option *option, command_option *out)
{
    set_name(out, option->name);
    out->argument = option->argument;
    out->usual = option->default_value;
    out->help = option->help;
}

bool command_option_get(const command *command, size_t i, command_option *out)
{
    *out = (command_option){.source = SOURCE_LIBRARY};
    for (size_t k = 0; command->library_options && pal_option_get(k); k++)
        if (i-- == 0)
            return from_library(pal_option_get(k), out), true;
    out->source = SOURCE_COMMAND;
    for (size_t k = 0; command->flags[k].name; k++)
        if (i-- == 0)
            return from_flag(&command->flags[k], out), true;
    out->source = SOURCE_METHOD;
    for (size_t k = 0; command->method_options && pal_method_option_get(k); k++)
        if (i-- == 0)
            return from_method(pal_method_option_get(k), out), true;
    out->source = SOURCE_DATA;
    for (size_t k = 0; command->data_options && pal_data_option_get(k); k++)
        if (i-- == 0)
            return from_data(pal_data_option_get(k), out), true;
    return false;
}

bool command_option_find(const command *command, const char *name, size_t length,
                         command_option *out)
{
    for (size_t i = 0; command_option_get(command, i, out); i++) {
        size_t n = 0;
        while (n < length && out->name[n] &&
               (out->name[n] == name[n] || (out->name[n] == '-' && name[n] == '_')))
            n++;
        if (n == length && !out->name[n])
            return true;
    }
    return false;
}

void print_choices(FILE *out, const char *choices, const char *between)
{
    for (const char *c = choices; *c; c++) {
        if (*c == '|')
            fputs(between, out);
        else
            fputc(*c, out);
    }
}

bool command_option_is_path(const command_option *option)
{
    static const char *const paths[] = {"FILE", "OUT", "DATA", "MODEL", "TABLE", "FOLDER"};
    for (size_t i = 0; option->argument && i < sizeof paths / sizeof *paths; i++)
        if (strstr(option->argument, paths[i]))
            return true;
    return false;
}
