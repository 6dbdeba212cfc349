/* The command when there is no room: files limited to every size up to what it writes, and a full
 * file system where one can be mounted.
 *
 *     test_full_disk COMMAND SEEDS */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

typedef struct setting {
    char source[512], old[512];
    const char *command;
} setting;

static invocation compress_to(const setting *s, const char *output)
{
    return (invocation){.arguments = {s->command, "compress", s->source, "-o", output, "--nbits",
                                      "4", "--weight-threshold", "0", "--quiet"}};
}

static void check_run(const char *what, long size, const outcome *now, const char *folder,
                      const char *output, uint64_t before, uint64_t after)
{
    uint64_t hash = tree_hash(output);
    CHECK(now->code == 0 || now->code == 1, "%s %ld: exit code %d: %s", what, size, now->code,
          now->err);
    CHECK(hash == (now->code ? before : after), "%s %ld: exit code %d, but the output is %s", what,
          size, now->code, hash == before ? "the old one" : "damaged");
    CHECK(now->code ? is_one_line(now->err) : !*now->err, "%s %ld: not one line: \"%s\"", what,
          size, now->err);
    CHECK(remove_strangers(folder, "out.mlpackage") == 0, "%s %ld: left something behind", what,
          size);
}

/* Files of at most `limit` bytes, for every limit that matters. */
static void limit_files(const setting *s)
{
    static outcome now;
    const char *folder = in_scratch("limit"), *output = in_scratch("limit/out.mlpackage");
    const long step = is_full() ? 1 : 61;
    long limit = 1, runs = 0;
    make_folder(folder);
    invocation invocation = compress_to(s, output);
    run_well(&invocation, &now);
    uint64_t after = tree_hash(output), before = tree_hash(s->old);
    do {
        tree_remove(output);
        tree_copy(s->old, output);
        invocation.file_limit = limit;
        run(&invocation, &now);
        check_run("file size", limit, &now, folder, output, before, after);
        limit += step;
        runs++;
    } while (now.code != 0 && limit < 1 << 20);
    CHECK(now.code == 0 && runs > 10, "no limit was large enough, or the first was");
    printf("file size: %ld limits up to %ld bytes\n", runs, limit - step);
}

/* In a name space of its own, so that the file system goes with the process. Returns 77 where that
 * is not permitted. */
static int fill_file_system(const setting *s)
{
    static outcome now;
    const char *folder = in_scratch("full"), *output = in_scratch("full/out.mlpackage");
    const char *aside = in_scratch("aside.mlpackage");
    const long page = sysconf(_SC_PAGESIZE);
    long runs = 0, pages = 4;
    make_folder(folder);
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return SKIPPED;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return SKIPPED;
    invocation invocation = compress_to(s, aside);
    run_well(&invocation, &now);
    uint64_t after = tree_hash(aside), before = tree_hash(s->old);
    invocation = compress_to(s, output);
    for (bool fits = false; !fits && pages < 200; pages++, runs++) {
        char options[64];
        snprintf(options, sizeof options, "size=%ld", pages * page);
        if (mount("tmpfs", folder, "tmpfs", 0, options) < 0)
            return SKIPPED;
        tree_copy(s->old, output);
        run(&invocation, &now);
        check_run("file system of pages:", pages, &now, folder, output, before, after);
        fits = now.code == 0;
        umount2(folder, MNT_DETACH);
    }
    CHECK(now.code == 0 && runs > 1, "no file system was large enough, or the first was");
    printf("file system: %ld sizes up to %ld pages\n", runs, pages - 1);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: test_full_disk COMMAND SEEDS\n");
        return 2;
    }
    setting s = {.command = argv[1]};
    snprintf(s.source, sizeof s.source, "%s/dense-ios18.mlpackage", argv[2]);
    snprintf(s.old, sizeof s.old, "%s/immediate-ios16.mlpackage", argv[2]);
    limit_files(&s);
    fflush(stdout);
    scratch();
    pid_t child = fork();
    if (child == 0) {
        int code = fill_file_system(&s);
        fflush(stdout);
        _exit(code == 0 ? checks_finish() : code);
    }
    int status = 0;
    waitpid(child, &status, 0);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (code == SKIPPED)
        printf("file system: skipped, mounting one is not permitted here\n");
    else
        CHECK(code == 0, "the test on a full file system failed");
    return checks_finish();
}
