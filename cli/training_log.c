/* Logs of training: CSV with a line of names, JSON objects one a line, or an array of such. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { LINE = 4096, COLUMNS = 32 };

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r\n")] == 0;
}

/* Cuts a line at its commas, in place; cells lose blanks and quotes around them. */
static size_t cut(char *line, char *cells[COLUMNS])
{
    size_t count = 0;
    for (char *next = line; next && count < COLUMNS;) {
        char *cell = next, *comma = strchr(next, ',');
        next = comma ? comma + 1 : NULL;
        if (comma)
            *comma = 0;
        cell += strspn(cell, " \t\"");
        size_t length = strlen(cell);
        while (length && strchr(" \t\r\n\"", cell[length - 1]))
            cell[--length] = 0;
        cells[count++] = cell;
    }
    return count;
}

static void add_row(json_t *rows, char *const names[], char *const cells[], size_t count)
{
    json_t *row = json_object();
    for (size_t i = 0; i < count; i++) {
        char *end;
        const double value = strtod(cells[i], &end);
        if (end != cells[i] && *end == 0)
            json_put(row, names[i], json_finite(value));
        else
            json_put_text(row, names[i], cells[i]);
    }
    json_append(rows, row);
}

/* `names` is the first line, which stays as long as its cells are in use. */
static json_t *read_csv(FILE *file, const char *path, char *names)
{
    char line[LINE], *columns[COLUMNS], *cells[COLUMNS];
    const size_t width = cut(names, columns);
    json_t *rows = json_array();
    for (size_t number = 2; fgets(line, sizeof line, file); number++) {
        if (is_blank(line))
            continue;
        const size_t count = cut(line, cells);
        if (count != width) {
            say_error("%s: line %zu: %zu columns, where the first line has %zu", path, number,
                      count, width);
            json_decref(rows);
            return NULL;
        }
        add_row(rows, columns, cells, width);
    }
    return rows;
}

static json_t *read_json_lines(FILE *file, const char *path, const char *first)
{
    char line[LINE];
    json_t *rows = json_array();
    snprintf(line, sizeof line, "%s", first);
    for (size_t number = 1; rows; number++) {
        json_error_t error;
        json_t *row = is_blank(line) ? NULL : json_loads(line, 0, &error);
        if (row) {
            json_append(rows, row);
        } else if (!is_blank(line)) {
            say_error("%s: line %zu: %s", path, number, error.text);
            json_decref(rows);
            return NULL;
        }
        if (!fgets(line, sizeof line, file))
            break;
    }
    return rows;
}

json_t *training_log_read(const char *path)
{
    char line[LINE];
    json_t *rows = NULL;
    FILE *file = fopen(path, "r");
    if (!file) {
        say_error("%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    if (!fgets(line, sizeof line, file)) {
        say_error("%s: the log is empty", path);
    } else if (line[strspn(line, " \t\r\n")] == '[') {
        json_error_t error;
        rewind(file);
        rows = json_loadf(file, 0, &error);
        if (!rows)
            say_error("%s: line %d: %s", path, error.line, error.text);
    } else if (line[strspn(line, " \t")] == '{') {
        rows = read_json_lines(file, path, line);
    } else {
        rows = read_csv(file, path, line);
    }
    fclose(file);
    if (rows && !json_complete()) {
        say_error("%s: out of memory reading the log", path);
        json_decref(rows);
        rows = NULL;
    }
    return rows;
}
