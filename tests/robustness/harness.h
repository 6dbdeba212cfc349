/* What the robustness tests share: running the command under difficult circumstances, looking at
 * what it left behind, and counting failures. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SKIPPED = 77, MOST_ARGUMENTS = 24 };

/* ---------------------------------------------------------------- checks */

/* Says where and what if the condition does not hold; the test goes on. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_failed(__FILE__, __LINE__, __VA_ARGS__);                                         \
    } while (0)

void check_failed(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The exit code of the test. Also removes the scratch folder. */
int checks_finish(void);
/* Whether the environment asks for the long loops. */
bool is_full(void);

/* ---------------------------------------------------------------- files */

/* A folder for this test, made at the first call. */
const char *scratch(void);
/* A path in it; the text belongs to the harness and lives as long as the test. */
const char *in_scratch(const char *name);
void make_folder(const char *path);
void tree_remove(const char *path);
void tree_copy(const char *from, const char *to); /* into a folder that may be there */
/* The same, but false if there is no room. */
bool tree_fits(const char *from, const char *to);
/* A number for all names and contents at and below a path; 0 if nothing is there. */
uint64_t tree_hash(const char *path);
/* Entries of a folder other than `name`; removes them. */
size_t remove_strangers(const char *folder, const char *name);

/* ---------------------------------------------------------------- running */

typedef struct invocation {
    const char *arguments[MOST_ARGUMENTS]; /* the program first; NULL at the end */
    const char *environment[8];            /* "NAME=value", in addition */
    long file_limit;                       /* RLIMIT_FSIZE; 0: none */
    long kill_after;                       /* microseconds; 0: never */
} invocation;

typedef struct outcome {
    int code; /* exit code; 1000 + the signal if killed by one */
    char out[1 << 16], err[1 << 14];
    double seconds;
} outcome;

enum { KILLED = 1009 };

void run(const invocation *invocation, outcome *outcome);
/* Whether a text is exactly one line. */
bool is_one_line(const char *text);
/* What differs from run to run is struck out: the time that it took. */
void strike_measured(char *text);
/* Runs the command as it should, and fails the test if that does not work. */
void run_well(const invocation *invocation, outcome *outcome);

#endif
