/* docs/options.md, from the declarations of the options. */
#include "cli.h"

static const char INTRODUCTION[] =
    "<!-- Made by: palettize help --markdown > docs/options.md -->\n"
    "# Options\n"
    "\n"
    "Each option can be given\n"
    "\n"
    "- on the command line of `compress` and `inspect`, with dashes in the place of underscores:\n"
    "  `--group-size 16`;\n"
    "- in a configuration file (`--config FILE`), for all weights, for types of operators and for\n"
    "  single weights: `group_size: 16`;\n"
    "- in a program, with `pal_options_set(options, \"group_size\", \"16\")`.\n"
    "\n"
    "Names, defaults and meanings are those of coremltools' `OpPalettizerConfig`, where that has "
    "the\n"
    "option. What differs: `lut` is the data form of its `lut_function`; `threads` takes the place "
    "of\n"
    "`num_kmeans_workers`, which configuration files may have and which is ignored; `lut_dtype` "
    "is\n"
    "there an option of palettization in PyTorch, or the step `linear_quantize_weights` with\n"
    "`joint_compression` after palettization; and pruned weights of Core ML packages are "
    "palettized\n"
    "always (from iOS18 on, with single values and without scales), which there takes\n"
    "`joint_compression`. Their zeros stay; only the other values are clustered.\n"
    "\n"
    "A weight that an option cannot apply to is left as it is, and the report says why.\n";

static void print_values(FILE *out, const pal_option *option)
{
    fputs("- values: ", out);
    if (option->choices) {
        fputc('`', out);
        print_choices(out, option->choices, "`, `");
        fputc('`', out);
    } else if (option->type == PAL_OPTION_TABLE) {
        fputs("the path of a `.npy` file, or a list of numbers", out);
    } else if (option->maximum == INT64_MAX) {
        fprintf(out, "integers from %lld", (long long)option->minimum);
    } else {
        fprintf(out, "integers from %lld to %lld", (long long)option->minimum,
                (long long)option->maximum);
    }
    fputc('\n', out);
}

static void print_method_reference(FILE *out)
{
    const pal_method_option *option;
    fputs(
        "\n# Options of methods\n\n"
        "They hold for the whole model: on the command line of `compress`, and in a program with\n"
        "`pal_method_options_set(options, \"samples\", \"128\")`.\n",
        out);
    for (size_t i = 0; (option = pal_method_option_get(i)); i++) {
        fprintf(out, "\n## %s\n\n", option->name);
        if (option->choices) {
            fputs("- values: `", out);
            print_choices(out, option->choices, "`, `");
            fputs("`\n", out);
        }
        if (option->default_value)
            fprintf(out, "- default: `%s`\n", option->default_value);
        else
            fputs("- default: not set\n", out);
        fputc('\n', out);
        print_wrapped(out, option->help, 0);
    }
}

void print_option_reference(FILE *out)
{
    const pal_option *option;
    fputs(INTRODUCTION, out);
    for (size_t i = 0; (option = pal_option_get(i)); i++) {
        fprintf(out, "\n## %s\n\n", option->name);
        print_values(out, option);
        if (option->default_value)
            fprintf(out, "- default: `%s`\n", option->default_value);
        else
            fputs("- default: not set\n", out);
        fputc('\n', out);
        print_wrapped(out, option->help, 0);
    }
    print_method_reference(out);
}
