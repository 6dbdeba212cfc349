/* The paths of a command: that none is written over another, and that what comes out of long work
 * can be written. */
#define _XOPEN_SOURCE 700 /* realpath */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "report/page.h"

/* ---------------------------------------------------------------- the same file */

/* Where a file is, or would be if it existed, by one spelling; in fresh memory. NULL where not even
 * its folder exists. */
static char *place_of(const char *path)
{
    char *real = realpath(path, NULL);
    if (real)
        return real;
    char *folder = strdup(path), *place = NULL;
    if (!folder)
        return NULL;
    for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/'; n--)
        folder[n - 1] = 0;
    char *slash = strrchr(folder, '/');
    const char *name = slash ? slash + 1 : folder;
    char *parent = realpath(!slash ? "." : slash == folder ? "/" : (*slash = 0, folder), NULL);
    if (parent) {
        const size_t size = strlen(parent) + strlen(name) + 2;
        place = malloc(size);
        if (place)
            snprintf(place, size, "%s/%s", parent, name);
    }
    free(parent);
    free(folder);
    return place;
}

bool same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;
    if (strcmp(a, b) == 0)
        return true;
    if (stat(a, &of_a) == 0 && stat(b, &of_b) == 0)
        return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
    char *place_a = place_of(a), *place_b = place_of(b);
    const bool same = place_a && place_b && strcmp(place_a, place_b) == 0;
    free(place_a);
    free(place_b);
    return same;
}

/* ---------------------------------------------------------------- one over another */

/* A path on the command line. */
typedef struct named_path {
    const char *name; /* as it is told: "--json" */
    const char *path;
    bool is_input, is_output; /* of these one may replace the other */
    bool written;             /* by the command itself */
} named_path;

enum { FLAG_PATHS = 6, METHOD_PATHS = 5 };

static bool writes_model(const command *command)
{
    return command->needs && strcmp(command->needs, "output") == 0 && command != &command_report;
}

/* The i-th of the paths that options name; path NULL where the option is not given. */
static named_path path_of_option(const arguments *arguments, size_t i)
{
    static const struct {
        const char *flag, *name;
        bool written;
    } flags[FLAG_PATHS] = {{"output", "-o", true},       {"json", "--json", true},
                           {"report", "--report", true}, {"config", "--config", false},
                           {"data", "--data", false},    {"reference", "--reference", false}};
    static const struct {
        const char *option, *name;
    } of_method[METHOD_PATHS] = {{"load_sensitivity", "--load-sensitivity"},
                                 {"save_sensitivity", "--save-sensitivity"},
                                 {"checkpoint", "--checkpoint"},
                                 {"resume", "--resume"},
                                 {"log", "--log"}};
    if (i >= FLAG_PATHS) {
        const pal_method_options *options = arguments->method_options;
        const char *option = of_method[i - FLAG_PATHS].option;
        return (named_path){.name = of_method[i - FLAG_PATHS].name,
                            .path = pal_method_options_given(options, option)
                                        ? pal_method_options_value(options, option)
                                        : NULL};
    }
    const char *path = flag_value(arguments, flags[i].flag);
    const bool output = strcmp(flags[i].flag, "output") == 0;
    const bool to_stdout = path && strcmp(flags[i].flag, "json") == 0 && strcmp(path, "-") == 0;
    if (!path || !*path || to_stdout ||
        (output && !writes_model(arguments->command) && arguments->command != &command_report))
        return (named_path){0}; /* --output of eval is a name in the model */
    return (named_path){.name = flags[i].name,
                        .path = path,
                        .is_output = output && writes_model(arguments->command),
                        .written = flags[i].written};
}

static bool clash(const named_path *a, const named_path *b)
{
    struct stat info;
    if (!a->path || !b->path || (!a->written && !b->written) || (a->is_input && b->is_output) ||
        !same_file(a->path, b->path))
        return false;
    /* Terminals and pipes take what comes, one after the other. */
    return stat(a->path, &info) != 0 || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode);
}

int check_paths(const arguments *arguments)
{
    named_path options[FLAG_PATHS + METHOD_PATHS];
    for (size_t i = 0; i < FLAG_PATHS + METHOD_PATHS; i++) {
        options[i] = path_of_option(arguments, i);
        const named_path *option = &options[i];
        if (option->written && strcmp(option->path, "-") == 0)
            return say_error("%s takes the name of a file, not -; a file of that name is ./-",
                             option->name),
                   EXIT_BAD_USAGE;
        for (size_t j = 0; j < arguments->input_count; j++) {
            const named_path input = {"the input", arguments->inputs[j], .is_input = true};
            if (clash(&input, option))
                return say_error("%s: is %s, and %s would write over it", input.path, input.name,
                                 option->name),
                       EXIT_BAD_USAGE;
        }
        for (size_t j = 0; j < i; j++)
            if (clash(&options[j], option))
                return say_error("%s: both %s and %s", option->path, options[j].name, option->name),
                       EXIT_BAD_USAGE;
    }
    return 0;
}

/* ---------------------------------------------------------------- before long work */

/* A model that is named as one of another kind would be opened as that. */
static int check_ending(const char *path, const char *format)
{
    static const char *const endings[][2] = {
        {".mlpackage", "coreml"}, {".onnx", "onnx"}, {".safetensors", "safetensors"}};
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t n = strlen(endings[i][0]);
        if (length >= n && strncasecmp(path + length - n, endings[i][0], n) == 0 &&
            strcmp(endings[i][1], format) != 0)
            return say_error("%s: palettize keeps the format of the input, which is %s, not %s",
                             path, format, endings[i][1]),
                   EXIT_BAD_USAGE;
    }
    return 0;
}

/* Whether a file can be opened for writing. It stays as it is, and where there was none, there is
 * none afterwards. */
static int check_json(const char *path)
{
    struct stat info;
    const bool exists = stat(path, &info) == 0;
    if (strcmp(path, "-") == 0 || (!exists && lstat(path, &info) == 0))
        return 0; /* of a link that leads nowhere only writing can tell */
    if (exists && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
        if (access(path, W_OK) == 0) /* opening it could wait, or be noticed */
            return 0;
    } else {
        const int fd = open(path, O_WRONLY | O_CLOEXEC | (exists ? 0 : O_CREAT), 0666);
        if (fd >= 0) {
            close(fd);
            if (!exists)
                unlink(path);
            return 0;
        }
    }
    say_error("%s: cannot write: %s", path, strerror(errno));
    return EXIT_BAD_INPUT;
}

int check_outputs(const arguments *arguments, const pal_model *model)
{
    const char *json = flag_value(arguments, "json"), *report = flag_value(arguments, "report");
    const char *output = model ? flag_value(arguments, "output") : NULL;
    int code = output ? check_ending(output, pal_model_format(model)) : 0;
    pal_status status = PAL_OK;
    if (!code && output)
        status = pal_model_check_destination(model, output);
    if (!code && !status && report)
        status = page_check(report);
    if (status)
        return report_failure(status);
    return !code && json ? check_json(json) : code;
}
