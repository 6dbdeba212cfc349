/* Help and the manual page, from the declarations of commands and options. */
#include <string.h>

#include "cli.h"

enum { WIDTH = 79 };

void print_wrapped(FILE *out, const char *text, int indent)
{
    int column = 0;
    for (const char *word = text; *word;) {
        if (*word == '\n') {
            fputs("\n\n", out);
            column = 0;
            word += strspn(word, "\n ");
            continue;
        }
        int length = (int)strcspn(word, " \n");
        if (column && column + 1 + length > WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        column += column ? fprintf(out, " %.*s", length, word)
                         : fprintf(out, "%*s%.*s", indent, "", length, word);
        word += length;
        word += strspn(word, " ");
    }
    fputc('\n', out);
}

static const char *placeholder(const pal_option *option)
{
    return option->argument ? option->argument : "VALUE";
}

/* "--group-size" for group_size. */
static void option_name(char *to, size_t size, const char *name)
{
    snprintf(to, size, "--%s", name);
    for (char *c = to; *c; c++)
        *c = *c == '_' ? '-' : *c;
}

static void print_flag(FILE *out, const flag *flag)
{
    fputs("  ", out);
    if (flag->letter)
        fprintf(out, "-%c, ", flag->letter);
    fprintf(out, "--%s%s%s\n", flag->name, flag->argument ? " " : "",
            flag->argument ? flag->argument : "");
    print_wrapped(out, flag->help, 8);
}

static void print_data_option(FILE *out, const pal_data_option *option)
{
    char name[64];
    option_name(name, sizeof name, option->name);
    fprintf(out, "  %s %s", name, option->argument);
    if (option->default_value)
        fprintf(out, "  (default %s)", option->default_value);
    fputc('\n', out);
    print_wrapped(out, option->help, 8);
}

static void print_method_option(FILE *out, const pal_method_option *option)
{
    char name[64];
    option_name(name, sizeof name, option->name);
    fprintf(out, "  %s %s", name, option->argument);
    if (option->default_value)
        fprintf(out, "  (default %s)", option->default_value);
    fputc('\n', out);
    print_wrapped(out, option->help, 8);
}

static void print_library_option(FILE *out, const pal_option *option)
{
    char name[64];
    option_name(name, sizeof name, option->name);
    fprintf(out, "  %s %s", name, option->choices ? option->choices : placeholder(option));
    if (option->default_value)
        fprintf(out, "  (default %s)", option->default_value);
    fputc('\n', out);
    print_wrapped(out, option->help, 8);
}

void print_usage(FILE *out, const command *command)
{
    fprintf(out, "palettize %s %s\n\n", command->name, command->usage);
    print_wrapped(out, command->details, 0);
    fputs("\nOptions:\n", out);
    for (size_t i = 0; command->library_options && pal_option_get(i); i++)
        print_library_option(out, pal_option_get(i));
    for (const flag *flag = command->flags; flag->name; flag++)
        print_flag(out, flag);
    for (size_t i = 0; command->method_options && pal_method_option_get(i); i++)
        print_method_option(out, pal_method_option_get(i));
    for (size_t i = 0; command->data_options && pal_data_option_get(i); i++)
        print_data_option(out, pal_data_option_get(i));
    fputs("  -h, --help\n        This text.\n", out);
}

void print_overview(FILE *out)
{
    fputs("palettize: makes trained neural networks small by giving each weight tensor a\n"
          "look-up table of 2^n values and an n-bit index for each weight.\n\n"
          "  palettize compress model.mlpackage -o small.mlpackage --nbits 4\n\n"
          "Commands:\n",
          out);
    for (const command *const *c = commands; *c; c++)
        fprintf(out, "  %-12s%s\n", (*c)->name, (*c)->summary);
    fputs("\npalettize COMMAND --help tells more. palettize --version prints the version.\n"
          "Exit status: 0 done; 1 bad input, or it could not be read or written; 2 wrong usage.\n",
          out);
}

/* ---------------------------------------------------------------- man(7) */

/* Text with what roff would take for its own escaped. */
static void print_roff(FILE *out, const char *text)
{
    bool line_start = true;
    for (; *text; text++) {
        if (*text == '\n') {
            fputs("\n.PP\n", out);
            text += strspn(text, "\n ") - 1;
            line_start = true;
            continue;
        }
        if (line_start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '\\' || *text == '-')
            fputc('\\', out);
        fputc(*text == '\\' ? 'e' : *text, out);
        line_start = false;
    }
    fputc('\n', out);
}

static void print_roff_option(FILE *out, const char *name, const char *argument, const char *note,
                              const char *help)
{
    fputs(".TP\n.B ", out);
    for (; *name; name++)
        fprintf(out, *name == '-' ? "\\-" : "%c", *name);
    if (argument)
        fprintf(out, " \\fI%s\\fR", argument);
    if (note)
        fprintf(out, " (default %s)", note);
    fputc('\n', out);
    print_roff(out, help);
}

static void print_roff_command(FILE *out, const command *command)
{
    fprintf(out, ".SS palettize %s ", command->name);
    print_roff(out, command->usage);
    print_roff(out, command->details);
    for (const flag *flag = command->flags; flag->name; flag++) {
        char name[64];
        if (flag->letter)
            snprintf(name, sizeof name, "-%c, --%s", flag->letter, flag->name);
        else
            snprintf(name, sizeof name, "--%s", flag->name);
        print_roff_option(out, name, flag->argument, NULL, flag->help);
    }
    if (command->library_options) {
        fputs(".PP\nand the options of palettization below.\n", out);
    }
    if (command->method_options)
        fputs(".PP\nand the options of methods below.\n", out);
    if (command->data_options)
        fputs(".PP\nand the options of data below.\n", out);
}

void print_manual_page(FILE *out)
{
    fprintf(out,
            ".TH PALETTIZE 1 \"\" \"palettize %s\"\n"
            ".SH NAME\npalettize \\- make trained neural networks small\n"
            ".SH SYNOPSIS\n",
            pal_version());
    for (const command *const *c = commands; *c; c++) {
        fprintf(out, ".B palettize %s\n", (*c)->name);
        print_roff(out, (*c)->usage);
        fputs(".br\n", out);
    }
    fputs(
        ".SH DESCRIPTION\n"
        "Palettization replaces the values of a weight tensor by 2^n shared values, a look\\-up "
        "table, and an n\\-bit index for each weight. The result is a model file of the same kind, "
        "for the stock runtime. Models are Core ML packages (.mlpackage) that hold an ML Program "
        "of iOS15 or later (palettized weights need iOS16; 3 bit, several look\\-up tables for one "
        "weight, vectors, integer tables, per\\-channel scales and pruned weights need iOS18); "
        "ONNX models (.onnx) of opset 11 or later; and safetensors "
        "checkpoints, a file or a folder. The kind of file is found from its content.\n"
        ".SH COMMANDS\n",
        out);
    for (const command *const *c = commands; *c; c++)
        print_roff_command(out, *c);
    fputs(".SH OPTIONS OF PALETTIZATION\n", out);
    for (size_t i = 0; pal_option_get(i); i++) {
        const pal_option *option = pal_option_get(i);
        char name[64];
        option_name(name, sizeof name, option->name);
        print_roff_option(out, name, option->choices ? option->choices : placeholder(option),
                          option->default_value, option->help);
    }
    fputs(".SH OPTIONS OF METHODS\n", out);
    for (size_t i = 0; pal_method_option_get(i); i++) {
        const pal_method_option *option = pal_method_option_get(i);
        char name[64];
        option_name(name, sizeof name, option->name);
        print_roff_option(out, name, option->argument, option->default_value, option->help);
    }
    fputs(".SH OPTIONS OF DATA\n", out);
    for (size_t i = 0; pal_data_option_get(i); i++) {
        const pal_data_option *option = pal_data_option_get(i);
        char name[64];
        option_name(name, sizeof name, option->name);
        print_roff_option(out, name, option->argument, option->default_value, option->help);
    }
    fputs(".SH FIGURES\n"
          "mse is the mean over the elements of a weight of the squared difference between the "
          "original and the palettized value. psnr is 10 log10(peak^2 / mse) in decibels, peak the "
          "largest magnitude in the weight. The ratio of a run is that of all files of the model "
          "before and after.\n"
          ".SH EXIT STATUS\n"
          "0 done; 1 the input is bad or a file could not be read or written; 2 wrong usage; 130 "
          "interrupted. Every failure is one line on standard error that names the file, the place "
          "and the reason.\n"
          ".SH EXAMPLES\n"
          ".nf\n"
          "palettize inspect model.mlpackage\n"
          "palettize compress model.mlpackage \\-o small.mlpackage \\-\\-nbits 4\n"
          "palettize compress model.mlpackage \\-o small.mlpackage \\-\\-nbits 2 \\e\n"
          "    \\-\\-granularity per_grouped_channel \\-\\-group\\-size 8 \\-\\-json report.json\n"
          "palettize decompress small.mlpackage \\-o plain.mlpackage\n"
          "palettize eval small.mlpackage \\-\\-data images/ \\-\\-reference model.mlpackage\n"
          ".fi\n",
          out);
}
