/* Staged output, copying, and paths that come out of files. */
#define _GNU_SOURCE /* syscall */
#include "testing.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"

/* A path in the scratch folder, of which nothing is made. */
static const char *at(const char *name)
{
    const size_t room = strlen(directory) + strlen(name) + 2;
    char *path = keep_memory(room);
    snprintf(path, room, "%s/%s", directory, name);
    return path;
}

static void assert_text(const char *path, const char *text)
{
    file_map map;
    assert_ok(file_map_open(path, &map));
    assert_int_equal(map.size, strlen(text));
    assert_memory_equal(map.data, text, map.size);
    file_map_close(&map);
}

/* A package "name" with one file that holds `text`. */
static void stage_package(const char *path, const char *text, bool commit)
{
    staged_output stage;
    assert_ok(stage_directory(&stage, path));
    char *file = path_join(stage.temporary, "file");
    write_text(file, text);
    free(file);
    if (commit)
        assert_ok(stage_commit(&stage));
    else
        stage_abandon(&stage);
}

static size_t entries_in(void)
{
    size_t count = 0;
    char command[64];
    snprintf(command, sizeof command, "ls -A %s", directory);
    FILE *pipe = popen(command, "r");
    for (int c; (c = fgetc(pipe)) != EOF;)
        count += c == '\n';
    pclose(pipe);
    return count;
}

static void test_stage_directory(void **state)
{
    (void)state;
    const char *path = at("a.pkg"), *file = at("a.pkg/file");
    const char *slash = at("a.pkg/");
    stage_package(path, "first", true);
    assert_text(file, "first");
    stage_package(path, "never", false);
    assert_text(file, "first");
    stage_package(slash, "second", true); /* over a full directory */
    assert_text(file, "second");
    assert_int_equal(entries_in(), 1); /* no temporary is left */
    path_remove(path);
}

static void test_stage_file(void **state)
{
    (void)state;
    const char *path = at("b");
    for (int i = 0; i < 2; i++) {
        staged_output stage;
        assert_ok(stage_file(&stage, path));
        write_text(stage.temporary, i ? "two" : "one");
        assert_ok(stage_commit(&stage));
        assert_text(path, i ? "two" : "one");
    }
    path_remove(path);
}

/* A folder in the place of a file is kept, and what it holds. */
static void test_stage_file_over_a_folder(void **state)
{
    (void)state;
    staged_output stage;
    const char *path = at("folder"), *inside = at("folder/kept");
    assert_int_equal(mkdir(path, 0777), 0);
    write_text(inside, "kept");
    assert_int_equal(stage_file(&stage, path), PAL_ERROR_IO);
    assert_non_null(strstr(pal_error_message(), path));
    assert_text(inside, "kept");
    path_remove(path);
}

static void test_stage_nowhere(void **state)
{
    (void)state;
    staged_output stage;
    const char *path = at("missing/out");
    assert_int_equal(stage_directory(&stage, path), PAL_ERROR_IO);
    assert_non_null(strstr(pal_error_message(), path));
}

static mode_t mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 0777;
}

#ifdef __linux__
static int umask_calls;

/* In the place of the C library's: to see who calls it. */
mode_t umask(mode_t mask)
{
    umask_calls++;
    return (mode_t)syscall(SYS_umask, mask);
}
#endif

/* Outputs have the permissions that the process gives, and its mask is left alone: what another
 * thread creates meanwhile would have too many. */
static void test_stage_permissions(void **state)
{
    (void)state;
    const char *file = at("mode"), *folder = at("mode.pkg");
    const mode_t before = umask(027);
    staged_output stage;
#ifdef __linux__
    umask_calls = 0;
#endif
    assert_ok(stage_file(&stage, file));
    assert_ok(stage_commit(&stage));
    stage_package(folder, "content", true);
#ifdef __linux__
    assert_int_equal(umask_calls, 0);
#endif
    assert_int_equal(mode_of(file), 0640);
    assert_int_equal(mode_of(folder), 0750);
    umask(before);
    path_remove(file);
    path_remove(folder);
}

/* Several at once for the same place have temporaries of their own. */
static void test_stage_twice(void **state)
{
    (void)state;
    const char *path = at("c");
    staged_output stages[20];
    for (size_t i = 0; i < 20; i++) {
        assert_ok(stage_file(&stages[i], path));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(stages[i].temporary, stages[j].temporary);
    }
    assert_int_equal(entries_in(), 20);
    for (size_t i = 0; i < 20; i++)
        stage_abandon(&stages[i]);
    assert_int_equal(entries_in(), 0);
}

static void test_refuse_inside(void **state)
{
    (void)state;
    const char *source = at("source"), *beside = at("source2"), *inner = at("source/inner");
    const char *away = at("away"), *link = at("link"), *missing = at("missing/out");
    assert_int_equal(mkdir(source, 0777), 0);
    assert_int_equal(mkdir(inner, 0777), 0);
    assert_int_equal(symlink(inner, away), 0);
    assert_int_equal(symlink(source, link), 0);
    assert_ok(stage_refuse_inside(source, source)); /* in its place */
    assert_ok(stage_refuse_inside(source, link));
    assert_ok(stage_refuse_inside(link, source));
    assert_ok(stage_refuse_inside(source, beside));
    assert_ok(stage_refuse_inside(source, missing));
    const char *const refused[] = {inner,          at("source/new"),       at("source/new/"),
                                   at("link/new"), at("source/inner/new"), away,
                                   at("away/new")};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_fails(stage_refuse_inside(source, refused[i]), PAL_ERROR_ARGUMENT,
                     "lies inside the input");
    assert_fails(stage_refuse_inside(link, inner), PAL_ERROR_ARGUMENT, "lies inside the input");
    path_remove(away);
    path_remove(link);
    path_remove(source);
}

/* A pipe that nobody writes into is no file, and is not waited for. */
static void test_pipe(void **state)
{
    (void)state;
    const char *path = at("pipe");
    file_map map;
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(60); /* rather than to wait for ever */
    assert_fails(file_map_open(path, &map), PAL_ERROR_IO, "not a regular file");
    alarm(0);
    path_remove(path);
}

static bool skip_b(void *user, const char *relative)
{
    (void)user;
    return strcmp(relative, "sub/b") == 0;
}

static void test_copy(void **state)
{
    (void)state;
    const char *from = at("from"), *to = at("to"), *sub = at("from/sub");
    const char *a = at("from/sub/a"), *b = at("from/sub/b");
    const char *copied = at("to/sub/a"), *skipped = at("to/sub/b");
    uint64_t bytes;
    assert_int_equal(mkdir(from, 0777), 0);
    assert_int_equal(mkdir(sub, 0777), 0);
    write_text(a, "content");
    write_text(b, "other");
    assert_ok(path_copy(from, to, skip_b, NULL));
    assert_text(copied, "content");
    assert_int_not_equal(access(skipped, F_OK), 0);
    assert_ok(path_total_bytes(from, &bytes));
    assert_int_equal(bytes, 12);
    path_remove(from);
    path_remove(to);
}

static void test_path_is_inside(void **state)
{
    (void)state;
    assert_true(path_is_inside("weights/weight.bin"));
    assert_true(path_is_inside("..weights"));
    assert_false(path_is_inside(""));
    assert_false(path_is_inside("/etc/passwd"));
    assert_false(path_is_inside("../x"));
    assert_false(path_is_inside("a/../../x"));
    assert_false(path_is_inside("a/.."));
    assert_false(path_is_inside("./a"));
    assert_false(path_is_inside("a//b"));
}

static void test_writer(void **state)
{
    (void)state;
    enum { BIG = 700 * 1024 };
    const char *path = at("w");
    unsigned char *data = malloc(BIG);
    uint64_t seed = 5;
    for (size_t i = 0; i < BIG; i++)
        data[i] = (unsigned char)random_bits(&seed);
    file_writer writer;
    assert_ok(writer_open(&writer, path));
    writer_write(&writer, data, 3);
    writer_align(&writer, 64);
    assert_int_equal(writer.position, 64);
    writer_write(&writer, data, BIG);
    writer_patch(&writer, 1, "\xff", 1);
    assert_ok(writer_close(&writer));
    file_map map;
    assert_ok(file_map_open(path, &map));
    assert_int_equal(map.size, 64 + BIG);
    assert_int_equal(map.data[0], data[0]);
    assert_int_equal(map.data[1], 0xff);
    assert_int_equal(map.data[3], 0);
    assert_memory_equal(map.data + 64, data, BIG);
    file_map_discard(&map, map.data, map.size);
    assert_memory_equal(map.data + 64, data, BIG);
    /* Around both ends, and where it is no memory of the map's, which must stay as it is. */
    file_map_discard_around(&map, map.data, 1);
    file_map_discard_around(&map, map.data + map.size - 1, 1);
    file_map_discard_around(&map, data, BIG);
    assert_memory_equal(map.data + 64, data, BIG);
    file_map_close(&map);
    path_remove(path);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage_directory),
        cmocka_unit_test(test_stage_file),
        cmocka_unit_test(test_stage_file_over_a_folder),
        cmocka_unit_test(test_stage_nowhere),
        cmocka_unit_test(test_stage_permissions),
        cmocka_unit_test(test_stage_twice),
        cmocka_unit_test(test_refuse_inside),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_path_is_inside),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
