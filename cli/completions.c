/* Completions for shells, from the declarations of commands and options. */
#include <string.h>

#include "cli.h"

/* The first sentence, with each character of `special` behind a backslash and each ' as a
 * shell ends, escapes and begins its quotes. */
static void print_summary(FILE *out, const char *text, const char *special, const char *quote)
{
    for (const char *c = text; *c && *c != '\n'; c++) {
        if (*c == '.' && (c[1] == ' ' || c[1] == 0))
            return;
        if (*c == '\'')
            fputs(quote, out);
        else if (strchr(special, *c))
            fprintf(out, "\\%c", *c);
        else
            fputc(*c, out);
    }
}

static void print_command_names(FILE *out)
{
    for (const command *const *c = commands; *c; c++)
        fprintf(out, "%s%s", c == commands ? "" : " ", (*c)->name);
}

/* ---------------------------------------------------------------- bash */

static void print_bash_command(FILE *out, const command *command)
{
    command_option option;
    for (size_t i = 0; command_option_get(command, i, &option); i++)
        if (option.choices) {
            fprintf(out, "    %s:--%s) words='", command->name, option.name);
            print_choices(out, option.choices, " ");
            fputs("' ;;\n", out);
        } else if (option.argument) {
            fprintf(out, "    %s:--%s", command->name, option.name);
            if (option.letter)
                fprintf(out, "|%s:-%c", command->name, option.letter);
            fputs(") return ;;\n", out); /* a path, or what only the user knows */
        }
    fprintf(out, "    %s:*) words='--help", command->name);
    for (size_t i = 0; command_option_get(command, i, &option); i++)
        fprintf(out, " --%s", option.name);
    fputs("' ;;\n", out);
}

static void print_bash(FILE *out)
{
    fputs("# bash completion for palettize; made by: palettize help --completions bash\n"
          "_palettize()\n{\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words\n"
          "    COMPREPLY=()\n"
          /* bash takes --name=value for three words */
          "    if [[ $current == = ]]; then\n        current=\n"
          "    elif [[ $previous == = ]] && ((COMP_CWORD > 2)); then\n"
          "        previous=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        COMPREPLY=($(compgen -W '",
          out);
    print_command_names(out);
    fputs(" --help --version' -- \"$current\"))\n        return\n    fi\n"
          "    case ${COMP_WORDS[1]}:$previous in\n",
          out);
    for (const command *const *c = commands; *c; c++)
        print_bash_command(out, *c);
    fprintf(out,
            "    *) return ;;\n    esac\n"
            "    if [[ ${COMP_WORDS[1]} == %s && $words == --* && $current != -* ]]; then\n"
            "        words='",
            command_help.name);
    print_command_names(out);
    /* Names of files are what bash completes where the answer is empty. */
    fputs("'\n    fi\n"
          "    if [[ $words != --* || $current == -* ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n    fi\n"
          "}\ncomplete -o default -F _palettize palettize\n",
          out);
}

/* ---------------------------------------------------------------- zsh */

static void print_zsh_option(FILE *out, const command_option *option)
{
    static const char quote[] = "'\\''";
    const char *sign = option->argument ? "=" : "";
    fputs(" \\\n      ", out);
    if (option->letter)
        fprintf(out, "'(-%c --%s)'{-%c%s,--%s%s}'[", option->letter, option->name, option->letter,
                option->argument ? "+" : "", option->name, sign);
    else
        fprintf(out, "'--%s%s[", option->name, sign);
    print_summary(out, option->help, "[]:\\", quote);
    fputc(']', out);
    if (option->choices) {
        fprintf(out, ":%s:(", option->name);
        print_choices(out, option->choices, " ");
        fputc(')', out);
    } else if (option->argument) {
        fprintf(out, "%s:%s:%s", *option->argument == '[' ? ":" : "", option->argument,
                command_option_is_path(option) ? "_files" : " ");
    }
    fputc('\'', out);
}

static void print_zsh(FILE *out)
{
    command_option option;
    fputs("#compdef palettize\n# Made by: palettize help --completions zsh\n"
          "_palettize() {\n  local -a commands\n  commands=(\n",
          out);
    for (const command *const *c = commands; *c; c++) {
        fprintf(out, "    '%s:", (*c)->name);
        print_summary(out, (*c)->summary, ":\\", "'\\''");
        fputs("'\n", out);
    }
    fputs("  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
          "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n",
          out);
    for (const command *const *c = commands; *c; c++) {
        fprintf(out, "    %s)\n      _arguments '(-h --help)'{-h,--help}'[explain the command]'",
                (*c)->name);
        for (size_t i = 0; command_option_get(*c, i, &option); i++)
            print_zsh_option(out, &option);
        fputs(" \\\n      ", out);
        if (*c == &command_help) {
            fputs("'1:command:(", out);
            print_command_names(out);
            fputs(")' ;;\n", out);
        } else {
            fputs("'*:file:_files' ;;\n", out);
        }
    }
    fputs("  esac\n}\n_palettize \"$@\"\n", out);
}

/* ---------------------------------------------------------------- fish */

static void print_fish_option(FILE *out, const command *command, const command_option *option)
{
    fprintf(out, "complete -c palettize -n '__fish_seen_subcommand_from %s'", command->name);
    if (option->letter)
        fprintf(out, " -s %c", option->letter);
    fprintf(out, " -l %s", option->name);
    if (option->choices) {
        fputs(" -x -a '", out);
        print_choices(out, option->choices, " ");
        fputc('\'', out);
    } else if (option->argument && *option->argument != '[') {
        fputs(command_option_is_path(option) ? " -r" : " -x", out);
    }
    fputs(" -d '", out);
    print_summary(out, option->help, "\\", "\\'");
    fputs("'\n", out);
}

static void print_fish(FILE *out)
{
    command_option option;
    fputs("# fish completion for palettize; made by: palettize help --completions fish\n", out);
    for (const command *const *c = commands; *c; c++) {
        fprintf(out, "complete -c palettize -n __fish_use_subcommand -f -a %s -d '", (*c)->name);
        print_summary(out, (*c)->summary, "\\", "\\'");
        fprintf(out,
                "'\ncomplete -c palettize -n '__fish_seen_subcommand_from %s' -s h -l help "
                "-d 'explain the command'\n",
                (*c)->name);
        for (size_t i = 0; command_option_get(*c, i, &option); i++)
            print_fish_option(out, *c, &option);
    }
    fprintf(out, "complete -c palettize -n '__fish_seen_subcommand_from %s' -f -a '",
            command_help.name);
    print_command_names(out);
    fputs("'\n", out);
}

bool print_completions(FILE *out, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        print_bash(out);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh(out);
    else if (strcmp(shell, "fish") == 0)
        print_fish(out);
    else
        return false;
    return true;
}
