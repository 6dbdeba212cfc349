#include <signal.h>
#include <string.h>

#include "cli.h"

const command *const commands[] = {
    &command_compress, &command_decompress, &command_inspect, &command_eval,
    &command_compare,  &command_report,     &command_help,    NULL};

static const command *find_command(const char *name)
{
    for (const command *const *c = commands; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

static int complain_unknown(const char *name)
{
    suggestion meant = suggestion_begin(name, strlen(name));
    for (const command *const *c = commands; *c; c++)
        suggestion_offer(&meant, (*c)->name);
    if (*meant.best)
        say_error("there is no command %s, perhaps %s; try palettize --help", name, meant.best);
    else
        say_error("there is no command %s; try palettize --help", name);
    return EXIT_BAD_USAGE;
}

static const flag help_flags[] = {
    {"man", 0, NULL, "Write the manual page in the language of man(7)."},
    {"completions", 0, "bash|zsh|fish",
     "Write completions for a shell. (Installed with the command.)"},
    {"markdown", 0, NULL, "Write the reference of the options of palettization in Markdown."},
    {0},
};

static int run_help(const arguments *arguments)
{
    const command *topic = arguments->inputs[0] ? find_command(arguments->inputs[0]) : NULL;
    if (arguments->inputs[0] && !topic)
        return complain_unknown(arguments->inputs[0]);
    const char *shell = flag_value(arguments, "completions");
    if (shell && !print_completions(stdout, shell)) {
        say_error("there are completions for bash, zsh and fish, not for %s", shell);
        return EXIT_BAD_USAGE;
    }
    if (shell)
        return 0;
    if (flag_value(arguments, "man"))
        print_manual_page(stdout);
    else if (flag_value(arguments, "markdown"))
        print_option_reference(stdout);
    else if (topic)
        print_usage(stdout, topic);
    else
        print_overview(stdout);
    return 0;
}

const command command_help = {
    .name = "help",
    .usage = "[COMMAND]",
    .summary = "explain palettize, or one of its commands",
    .details = "The same as COMMAND --help.",
    .flags = help_flags,
    .inputs = INPUTS_AT_MOST_ONE,
    .run = run_help,
};

int main(int argc, char **argv)
{
#ifdef SIGXFSZ
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a failed write, not a reason to die */
#endif
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_BAD_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0) {
        printf("palettize %s\n", pal_version());
        return 0;
    }
    const command *command = find_command(name);
    if (!command)
        return complain_unknown(name);
    arguments arguments;
    bool done = false;
    int code = arguments_parse(command, argc - 2, argv + 2, &arguments, &done);
    if (!code && !done && !flag_value(&arguments, "print-config"))
        code = check_paths(&arguments);
    if (!code && !done && flag_value(&arguments, "data"))
        wait_briefly(argv);
    if (!code && !done)
        code = command->run(&arguments);
    arguments_free(&arguments);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("palettize: standard output");
        return code ? code : EXIT_BAD_INPUT;
    }
    return code;
}
