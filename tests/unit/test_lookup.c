/* Tables that users bring: lists, and files of NumPy. */
#include "testing.h"

#include <unistd.h>

#include "method/lookup.h"

static char path[] = "/tmp/palettize-table-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

/* A .npy file of this type and shape. */
static void write_array(const char *type, const char *shape, const void *values, size_t size)
{
    unsigned char head[128];
    memset(head, ' ', sizeof head);
    memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
    int n = snprintf((char *)head + 10, sizeof head - 10,
                     "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", type, shape);
    head[10 + n] = ' ';
    head[127] = '\n';
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head, 1, sizeof head, file), sizeof head);
    assert_int_equal(fwrite(values, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void test_lists(void **state)
{
    (void)state;
    user_table table;
    assert_ok(user_table_read(" [1, -2.5,3e1, 0]", &table));
    assert_int_equal(table.count, 4);
    assert_int_equal(table.dim, 0);
    assert_true(table.values[0] == 1 && table.values[1] == -2.5 && table.values[2] == 30);
    assert_string_equal(table.text, " [1, -2.5,3e1, 0]");
    user_table_free(&table);
    assert_ok(user_table_read("[[1, 2, 3], [4, 5, 6]]", &table));
    assert_int_equal(table.count, 6);
    assert_int_equal(table.dim, 3);
    assert_true(table.values[3] == 4);
    user_table_free(&table);
}

static void test_files(void **state)
{
    (void)state;
    static const float singles[] = {1, 2, 3, 4};
    static const double doubles[] = {0.1, -0.1, 0.2, -0.2, 7, 8};
    user_table table, list;
    write_array("<f4", "(4,)", singles, sizeof singles);
    assert_ok(user_table_read(path, &table));
    assert_ok(user_table_read("[1, 2, 3, 4]", &list));
    assert_true(user_table_equal(&table, &list));
    user_table_free(&table);
    write_array("<f8", "(2, 3)", doubles, sizeof doubles);
    assert_ok(user_table_read(path, &table));
    assert_int_equal(table.dim, 3);
    assert_memory_equal(table.values, doubles, sizeof doubles);
    assert_false(user_table_equal(&table, &list));
    user_table_free(&table);
    user_table_free(&list);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        {"[]", "0 values"},
        {"[1]", "1 values"},
        {"[1, 2", "not a list"},
        {"[1, \"2\"]", "not a number"},
        {"[1, [2]]", "not a number"},
        {"[[1, 2], 3]", "not a list of 2"},
        {"[[], []]", "0 values"},
        {"[1, 1e999]", "not a list"},
        {"[[[1]], [[2]]]", "not a number"},
    };
    static const float infinite[] = {1, INFINITY};
    user_table table = {0};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        assert_int_equal(user_table_read(lists[i][0], &table), PAL_ERROR_ARGUMENT);
        if (!strstr(pal_error_message(), lists[i][1]))
            print_error("%s: %s\n", lists[i][0], pal_error_message());
        assert_non_null(strstr(pal_error_message(), lists[i][1]));
        assert_null(table.values); /* untouched */
    }
    write_array("<f4", "(2,)", infinite, sizeof infinite);
    assert_int_equal(user_table_read(path, &table), PAL_ERROR_ARGUMENT);
    assert_non_null(strstr(pal_error_message(), "entry 1 is not finite"));
    write_array("<f4", "(1, 1, 2)", infinite, sizeof infinite);
    assert_int_equal(user_table_read(path, &table), PAL_ERROR_ARGUMENT);
    assert_non_null(strstr(pal_error_message(), path));
    write_array("<f4", "(2,)", infinite, 4);
    assert_int_equal(user_table_read(path, &table), PAL_ERROR_FORMAT);
    assert_int_equal(user_table_read("/nowhere.npy", &table), PAL_ERROR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
