/* What the files of the command share. One file for each subcommand; each is written against the
 * public header alone. */
#ifndef PAL_CLI_CLI_H
#define PAL_CLI_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "palettize.h"

enum {
    EXIT_BAD_INPUT = 1,
    EXIT_BAD_USAGE = 2,
    EXIT_INTERRUPTED = 130,
};

/* ---------------------------------------------------------------- arguments.c */

/* An option of the command itself, as opposed to those of the library. */
typedef struct flag {
    const char *name;     /* "output" */
    char letter;          /* 'o', or 0 */
    const char *argument; /* placeholder, or NULL if it takes none */
    const char *help;
} flag;

typedef struct arguments arguments;

typedef struct command {
    const char *name;
    const char *usage;   /* what follows the name: "IN -o OUT --nbits N [options]" */
    const char *summary; /* one line */
    const char *details; /* paragraphs, separated by blank lines */
    const flag *flags;   /* ends with a NULL name */
    bool library_options;
    int inputs; /* positional arguments, exactly */
    int (*run)(const arguments *arguments);
} command;

struct arguments {
    const command *command;
    const char *input;
    const char *output;
    const char *config;
    const char *json; /* "" if given without a file */
    bool quiet, man, markdown, print_config;
    pal_options *options;
};

/* --config and --print-config, for the commands that take the options of the library. */
#define CONFIG_FLAGS                                                                               \
    {"config", 0, "FILE",                                                                          \
     "Read options for all weights, for types of operators and for single weights from a YAML "    \
     "file with the layout of coremltools' OptimizationConfig. Options on the command line "       \
     "change its global_config."},                                                                 \
    {                                                                                              \
        "print-config", 0, NULL,                                                                   \
            "Write the effective configuration as such a file to standard output, and do nothing " \
            "else."                                                                                \
    }

/* Writes the effective configuration; returns an exit code. */
int print_config(const arguments *arguments);

extern const command command_compress, command_decompress, command_inspect, command_help;
extern const command *const commands[];

/* Parses what follows the subcommand. Returns 0, or the exit code after saying what is wrong. Asks
 * for help are answered here: *done becomes true. */
int arguments_parse(const command *command, int argc, char **argv, arguments *out, bool *done);
void arguments_free(arguments *arguments);

/* Says something on standard error, in one line whatever the arguments hold. */
void say_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says pal_error_message() on standard error; returns the exit code for the status. */
int report_failure(pal_status status);

/* ---------------------------------------------------------------- manual.c */

void print_usage(FILE *out, const command *command);
void print_overview(FILE *out);
void print_manual_page(FILE *out);
/* Words of `text`, wrapped, each line after `indent` spaces; a blank line in the text stays. */
void print_wrapped(FILE *out, const char *text, int indent);

/* ---------------------------------------------------------------- reference.c */

void print_option_reference(FILE *out);

/* ---------------------------------------------------------------- progress.c */

/* A bar on standard error, if that is a terminal and the work takes long enough to matter. */
typedef struct progress {
    bool visible, drawn;
    double started, updated;
} progress;

void progress_start(progress *progress, bool quiet);
/* A pal_progress; user is a struct progress. Also notices that the user pressed ^C. */
bool progress_update(void *user, uint64_t done, uint64_t total, const char *what);
void progress_stop(progress *progress);
/* Seconds since some moment. */
double now_seconds(void);
/* From here on ^C asks the work to stop rather than killing the program. */
void watch_interrupts(void);

/* ---------------------------------------------------------------- table.c */

/* Totals of a run that wrote a file. */
typedef struct totals {
    const char *verb; /* "compressed" */
    uint64_t bytes_before, bytes_after;
    double seconds;
} totals;

/* Both return an exit code. */
int print_report(FILE *out, const pal_report *report, const totals *totals);
int print_weights(FILE *out, pal_model *model, const pal_options *options);

/* ---------------------------------------------------------------- json.c */

json_t *json_from_report(const pal_report *report, const totals *totals);
json_t *json_from_model(pal_model *model, const pal_options *options);
/* Writes to a file, or to standard output for "-". Takes over the reference. Returns 0 or an exit
 * code. */
int json_write(json_t *json, const char *path);

#endif
