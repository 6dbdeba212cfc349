#include "method/lookup.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/npy.h"

void user_table_free(user_table *table)
{
    free(table->text);
    free(table->values);
    *table = (user_table){0};
}

bool user_table_equal(const user_table *a, const user_table *b)
{
    return a->count == b->count && a->dim == b->dim &&
           (a->count == 0 || memcmp(a->values, b->values, a->count * sizeof *a->values) == 0);
}

static pal_status check_size(const char *name, uint64_t count)
{
    if (count < 2 || count > USER_TABLE_MOST)
        return fail(PAL_ERROR_ARGUMENT, "%s: %llu values; a look-up table has 2 to %d", name,
                    (unsigned long long)count, USER_TABLE_MOST);
    return PAL_OK;
}

static pal_status add_value(const char *name, double value, user_table *out)
{
    if (!isfinite(value))
        return fail(PAL_ERROR_ARGUMENT, "%s: entry %zu is not finite", name, out->count);
    out->values[out->count++] = value;
    return PAL_OK;
}

/* ---------------------------------------------------------------- .npy files */

static pal_status read_array(const char *path, const file_map *map, user_table *out)
{
    npy_array array;
    pal_status status = npy_parse(path, map->data, map->size, &array);
    if (status)
        return status;
    if (array.rank < 1 || array.rank > 2)
        return fail(PAL_ERROR_ARGUMENT, "%s: %zu dimensions; a look-up table has one or two", path,
                    array.rank);
    status = check_size(path, array.elements);
    if (status)
        return status;
    out->values = mem_array(array.elements, sizeof *out->values);
    if (!out->values)
        return fail_memory("reading a look-up table");
    for (uint64_t i = 0; !status && i < array.elements; i++)
        status = add_value(path, npy_value(&array, i), out);
    out->dim = array.rank == 2 ? array.shape[1] : 0;
    return status;
}

static pal_status read_file(const char *path, user_table *out)
{
    file_map map;
    pal_status status = file_map_open(path, &map);
    if (status)
        return status;
    status = read_array(path, &map, out);
    file_map_close(&map);
    return status;
}

/* ---------------------------------------------------------------- lists */

static pal_status add_row(const json_t *row, user_table *out)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < json_array_size(row); i++) {
        const json_t *value = json_array_get(row, i);
        status = json_is_number(value)
                     ? add_value("the list", json_number_value(value), out)
                     : fail(PAL_ERROR_ARGUMENT, "the list: entry %zu is not a number", out->count);
    }
    return status;
}

static pal_status read_rows(const json_t *list, user_table *out)
{
    const json_t *first = json_array_get(list, 0);
    const size_t rows = json_array_size(list);
    const size_t dim = json_is_array(first) ? json_array_size(first) : 0;
    if (rows > USER_TABLE_MOST || dim > USER_TABLE_MOST)
        return check_size("the list", USER_TABLE_MOST + 1);
    pal_status status = check_size("the list", rows * (json_is_array(first) ? dim : 1));
    if (status)
        return status;
    out->values = mem_array(rows * (dim ? dim : 1), sizeof *out->values);
    if (!out->values)
        return fail_memory("reading a look-up table");
    out->dim = dim;
    if (!dim)
        return add_row(list, out);
    for (size_t i = 0; !status && i < rows; i++) {
        const json_t *row = json_array_get(list, i);
        status = json_array_size(row) == dim
                     ? add_row(row, out)
                     : fail(PAL_ERROR_ARGUMENT, "the list: entry %zu is not a list of %zu numbers",
                            i, dim);
    }
    return status;
}

static pal_status read_list(const char *text, user_table *out)
{
    json_error_t error;
    json_t *list = json_loadb(text, strlen(text), 0, &error);
    if (!list) /* the parser says what is wrong with the text, but not when it is out of memory */
        return *error.text ? fail(PAL_ERROR_ARGUMENT, "not a list of numbers: %s", error.text)
                           : fail_memory("reading a look-up table");
    pal_status status = json_is_array(list) ? read_rows(list, out)
                                            : fail(PAL_ERROR_ARGUMENT, "not a list of numbers");
    json_decref(list);
    return status;
}

pal_status user_table_read(const char *text, user_table *out)
{
    user_table table = {.text = strdup(text)};
    if (!table.text)
        return fail_memory("reading a look-up table");
    pal_status status =
        text[strspn(text, " \t")] == '[' ? read_list(text, &table) : read_file(text, &table);
    if (status) {
        user_table_free(&table);
        return status;
    }
    *out = table;
    return PAL_OK;
}
