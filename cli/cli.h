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
    const char *name; /* "output" */
    char letter;      /* 'o', or 0 */
    /* Placeholder, or the words to choose from; NULL if it takes none. In brackets: it may be left
     * out, and a word that follows is one only if it is "-" or ends in ".json". */
    const char *argument;
    const char *help;
} flag;

typedef struct arguments arguments;

typedef struct command {
    const char *name;
    const char *usage;    /* what follows the name: "IN -o OUT --nbits N [options]" */
    const char *summary;  /* one line */
    const char *details;  /* paragraphs, separated by blank lines */
    const flag *flags;    /* ends with a NULL name */
    const char *needs;    /* the flag that must be given, which has a letter, or NULL */
    bool library_options; /* takes the options of palettization */
    bool data_options;    /* takes the options of data */
    bool method_options;  /* takes the options of methods */
    int inputs;           /* positional arguments, exactly; or one of these */
    int (*run)(const arguments *arguments);
} command;

enum { MAX_FLAGS = 16, INPUTS_AT_MOST_ONE = -1, INPUTS_AT_LEAST_ONE = -2 };

struct arguments {
    const command *command;
    const char **inputs; /* NULL after the last */
    size_t input_count;
    const char *values[MAX_FLAGS]; /* by flag of the command; "" for those without an argument */
    char data_option[64];          /* the first option of data that was given, as it is typed */
    pal_options *options;
    pal_data_options *data_options;
    pal_method_options *method_options;
};

/* What was given for a flag of the command: NULL if it was not, "" if it takes no argument. */
const char *flag_value(const arguments *arguments, const char *name);
/* The same as a number of at least `least`; `number` stays where the flag is not given. Returns 0
 * or an exit code. */
int flag_number(const arguments *arguments, const char *name, long least, long *number);

/* Whether there is a table to print: not when quiet, nor when JSON takes its place. */
bool wants_table(const arguments *arguments);

/* Flags that several commands have. */
#define QUIET_FLAG                                                                                 \
    {                                                                                              \
        "quiet", 'q', NULL, "No table and no progress bar."                                        \
    }

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

extern const command command_compress, command_decompress, command_inspect;
extern const command command_eval, command_compare, command_report, command_help;
extern const command *const commands[];

/* Parses what follows the subcommand. Returns 0, or the exit code after saying what is wrong. Asks
 * for help are answered here: *done becomes true. */
int arguments_parse(const command *command, int argc, char **argv, arguments *out, bool *done);
void arguments_free(arguments *arguments);

/* ---------------------------------------------------------------- command_options.c */

/* An option of a command, wherever it is declared. */
typedef struct command_option {
    char name[64];        /* as it is typed after the two dashes: "group-size" */
    char letter;          /* 0: none */
    const char *argument; /* placeholder, or the words to choose from; NULL if it takes none */
    const char *choices;  /* the words, separated by "|", or NULL */
    const char *usual;    /* its default; NULL: none, or it is told in the help */
    const char *help;
    enum { SOURCE_LIBRARY, SOURCE_COMMAND, SOURCE_METHOD, SOURCE_DATA } source;
} command_option;

/* The i-th option of a command: those of the library, its own, those of methods, those of data.
 * False past the last. */
bool command_option_get(const command *command, size_t i, command_option *out);
/* The option of that name, of so many characters, in which "_" counts as "-". */
bool command_option_find(const command *command, const char *name, size_t length,
                         command_option *out);
/* Writes the words of "a|b|c" with something else between them. */
void print_choices(FILE *out, const char *choices, const char *between);
/* Whether its argument is a path. */
bool command_option_is_path(const command_option *option);

/* ---------------------------------------------------------------- completions.c */

/* Completions for a shell: "bash", "zsh", "fish". False if there is no such shell. */
bool print_completions(FILE *out, const char *shell);

/* ---------------------------------------------------------------- suggest.c */

/* The nearest of the words that are offered; best is "" where none is near. */
typedef struct suggestion {
    const char *given;
    size_t length, limit;
    char best[64];
} suggestion;

suggestion suggestion_begin(const char *given, size_t length);
void suggestion_offer(suggestion *suggestion, const char *word);

/* ---------------------------------------------------------------- paths.c */

/* Whether two paths name one file, or would if it existed. */
bool same_file(const char *a, const char *b);
/* Refuses to write a file over another one of the command, and "-" where a file is needed. Returns
 * 0 or an exit code. */
int check_paths(const arguments *arguments);
/* Whether what the command will write can be written, asked before long work: the model, if it
 * writes one (otherwise NULL), and what --json and --report name. Leaves everything as it is.
 * Returns 0 or an exit code. */
int check_outputs(const arguments *arguments, const pal_model *model);

/* ---------------------------------------------------------------- messages */

/* Says something on standard error, in one line whatever the arguments hold. */
void say_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says pal_error_message() on standard error; returns the exit code for the status. */
int report_failure(pal_status status);

/* ---------------------------------------------------------------- scoring.c */

/* Flags of the commands that run models on data. */
#define DATA_FLAG                                                                                  \
    {                                                                                              \
        "data", 'd', "DATA",                                                                       \
            "The samples: a folder of images in which each subfolder is a class, the same in a "   \
            ".tar, IDX files as MNIST has them, an .npz whose arrays are named as the model's "    \
            "inputs, with or without labels, or a single image. Must be given."                    \
    }
#define RUN_FLAGS                                                                                  \
    {"batch", 'b', "N", "Samples to run at once. (default 32)"},                                   \
    {                                                                                              \
        "threads", 0, "N", "How many threads work. (default: one for each processor)"              \
    }

/* Opens what --data names, and reads --batch, --threads and --output. Returns 0 or an exit code. */
int open_data(const arguments *arguments, pal_data **data, pal_score_options *options);
/* Starts the program anew with another setting of GNU's OpenMP, if its user has chosen none:
 * threads that wait for others sleep after some microseconds. By default they spin for
 * milliseconds, which gains 3 % on an idle machine, and on one where others work too makes models
 * many times slower: who spins has used up his time when there is work. The setting is only read
 * when a program starts. */
void wait_briefly(char **argv);
/* The most memory that the process has had resident, in bytes. */
uint64_t peak_bytes(void);

/* ---------------------------------------------------------------- held_back.c */

/* Of the file that was written, and of the one before. */
typedef struct held_back {
    pal_data *samples; /* NULL: there are none */
    pal_model *model;  /* the original, opened before the output may have taken its place */
    pal_score written, original;
} held_back;

/* Makes ready to score the output on what its method holds back of the data, which must outlive
 * that. Returns 0 or an exit code; either way held_back_close() gives back what there is. */
int held_back_open(const arguments *arguments, const pal_data *data, held_back *out);
/* Reads the output again and scores it. Returns 0 or an exit code. */
int held_back_score(const arguments *arguments, held_back *held_back);
void held_back_print(FILE *out, const held_back *held_back);
void held_back_close(held_back *held_back);

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
void print_score(FILE *out, const pal_score *score, uint64_t peak_bytes);
int print_comparison(FILE *out, const pal_comparison *comparison);

/* ---------------------------------------------------------------- json.c */

json_t *json_from_report(const pal_report *report, const totals *totals);
json_t *json_from_model(pal_model *model, const pal_options *options);
json_t *json_from_score(const pal_score *score, uint64_t peak_bytes);
json_t *json_from_comparison(const pal_comparison *comparison);
/* Building JSON; json_write() refuses to write if anything was lost for want of memory. Both take
 * over the reference to the value. */
void json_put(json_t *object, const char *key, json_t *value);
void json_append(json_t *array, json_t *value);
/* Whether nothing was lost so far. */
bool json_complete(void);
/* A string from a file: bytes that are no UTF-8 become question marks. */
void json_put_text(json_t *object, const char *key, const char *text);
/* JSON has no infinity: null. */
json_t *json_finite(double value);
/* Writes to a file, or to standard output for "-". Takes over the reference. Returns 0 or an exit
 * code. */
int json_write(json_t *json, const char *path);

/* ---------------------------------------------------------------- run.c */

/* How the values of the weights were spread before they were palettized. */
typedef struct observed {
    pal_histogram *histograms; /* one for each weight */
    bool *taken;
} observed;

/* Looks at the weights that the options would palettize. Returns 0 or an exit code; either way
 * observed_free() gives back what there is. */
int observe(pal_model *model, const pal_options *options, observed *out);
void observed_free(observed *observed);
/* The report with all that `palettize report` shows: paths, method and options, values and tables,
 * and the training log if the method wrote one. */
json_t *json_from_run(const arguments *arguments, const pal_model *model, const pal_report *report,
                      const observed *observed, const totals *totals);

/* ---------------------------------------------------------------- training_log.c */

/* Reads a log: CSV with a line of names, JSON objects one a line, or an array of such. Gives an
 * array of objects; NULL after saying why not. */
json_t *training_log_read(const char *path);

/* ---------------------------------------------------------------- report_runs.c */

/* Runs for a page, from the JSON of compress and eval. */
typedef struct report_runs report_runs;

/* NULL when out of memory, after saying so. */
report_runs *report_runs_new(void);
void report_runs_free(report_runs *runs);
/* All return 0 or an exit code. Adding takes over the reference; `path` says where it came from. */
int report_runs_add(report_runs *runs, json_t *json, const char *path);
int report_runs_add_file(report_runs *runs, const char *path);
int report_runs_write(report_runs *runs, const char *path);

#endif
