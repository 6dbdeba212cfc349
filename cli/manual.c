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

static void print_option(FILE *out, const command_option *option)
{
    fputs("  ", out);
    if (option->letter)
        fprintf(out, "-%c, ", option->letter);
    fprintf(out, "--%s", option->name);
    if (option->argument)
        fprintf(out, " %s", option->argument);
    if (option->usual)
        fprintf(out, "  (default %s)", option->usual);
    fputc('\n', out);
    print_wrapped(out, option->help, 8);
}

void print_usage(FILE *out, const command *command)
{
    fprintf(out, "palettize %s %s\n\n", command->name, command->usage);
    print_wrapped(out, command->details, 0);
    fputs("\nOptions:\n", out);
    command_option option;
    for (size_t i = 0; command_option_get(command, i, &option); i++)
        print_option(out, &option);
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
          "Exit status: 0 done; 1 bad input, or it could not be read or written; 2 wrong usage;\n"
          "130 interrupted.\n",
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

static void print_roff_option(FILE *out, const command_option *option)
{
    fputs(".TP\n.B ", out);
    if (option->letter)
        fprintf(out, "\\-%c, ", option->letter);
    fputs("\\-\\-", out);
    for (const char *c = option->name; *c; c++)
        fprintf(out, *c == '-' ? "\\-" : "%c", *c);
    if (option->argument)
        fprintf(out, " \\fI%s\\fR", option->argument);
    if (option->usual)
        fprintf(out, " (default %s)", option->usual);
    fputc('\n', out);
    print_roff(out, option->help);
}

static void print_roff_command(FILE *out, const command *command)
{
    command_option option;
    fprintf(out, ".SS palettize %s ", command->name);
    print_roff(out, command->usage);
    print_roff(out, command->details);
    for (size_t i = 0; command_option_get(command, i, &option); i++)
        if (option.source == SOURCE_COMMAND)
            print_roff_option(out, &option);
    if (command->library_options)
        fputs(".PP\nand the options of palettization below.\n", out);
    if (command->method_options)
        fputs(".PP\nand the options of methods below.\n", out);
    if (command->data_options)
        fputs(".PP\nand the options of data below.\n", out);
}

/* The options of one source; compress takes them all. */
static void print_roff_options(FILE *out, const char *title, int source)
{
    command_option option;
    fprintf(out, ".SH %s\n", title);
    for (size_t i = 0; command_option_get(&command_compress, i, &option); i++)
        if ((int)option.source == source)
            print_roff_option(out, &option);
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
    print_roff_options(out, "OPTIONS OF PALETTIZATION", SOURCE_LIBRARY);
    print_roff_options(out, "OPTIONS OF METHODS", SOURCE_METHOD);
    print_roff_options(out, "OPTIONS OF DATA", SOURCE_DATA);
    fputs(
        ".SH FIGURES\n"
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
        "    \\-\\-granularity per_grouped_channel \\-\\-group\\-size 8 \\-\\-report report.html\n"
        "palettize decompress small.mlpackage \\-o plain.mlpackage\n"
        "palettize eval small.mlpackage \\-\\-data images/ \\-\\-reference model.mlpackage\n"
        ".fi\n",
        out);
}
