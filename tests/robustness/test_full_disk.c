/* The command when there is no room: files limited to every size up to what it writes, and a full
 * file system where one can be mounted.
 *
 *     test_full_disk COMMAND SEEDS SAMPLES */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "targets.h"

static void check_run(const target *t, const char *what, long size, const outcome *now,
                      uint64_t before, uint64_t after)
{
    uint64_t hash = target_hash(t);
    CHECK(now->code == 0 || now->code == 1, "%s, %s %ld: exit code %d: %s", t->title, what, size,
          now->code, now->err);
    CHECK(hash == (now->code ? before : after), "%s, %s %ld: exit code %d, but the output is %s",
          t->title, what, size, now->code, hash == before ? "the old one" : "damaged");
    CHECK(now->code ? is_one_line(now->err) : !*now->err, "%s, %s %ld: not one line: \"%s\"",
          t->title, what, size, now->err);
    CHECK(target_strangers(t, OLD_OUTPUT) == 0, "%s, %s %ld: left something behind", t->title, what,
          size);
}

/* Runs the command as it should, for the hashes of the old output and the new one. */
static void find_hashes(const target *t, const invocation *invocation, uint64_t *before,
                        uint64_t *after)
{
    static outcome now;
    target_reset(t, OLD_OUTPUT);
    *before = target_hash(t);
    run_well(invocation, &now);
    *after = target_hash(t);
}

/* Files of at most `limit` bytes, for every limit that matters. */
static void limit_files(const target *t, const char *command)
{
    static outcome now;
    const long step = is_full() ? 1 : 61;
    long limit = 1, runs = 0;
    uint64_t before, after;
    invocation invocation = target_compress(t, command, OLD_OUTPUT);
    find_hashes(t, &invocation, &before, &after);
    do {
        target_reset(t, OLD_OUTPUT);
        invocation.file_limit = limit;
        run(&invocation, &now);
        check_run(t, "file size", limit, &now, before, after);
        limit += step;
        runs++;
    } while (now.code != 0 && limit < 1 << 20);
    CHECK(now.code == 0 && runs > 10, "%s: no limit was large enough, or the first was", t->title);
    printf("%s: file size: %ld limits up to %ld bytes\n", t->title, runs, limit - step);
}

static int fill_file_system(const target *t, const char *command)
{
    static outcome now;
    const long page = sysconf(_SC_PAGESIZE);
    long runs = 0, pages = 1;
    uint64_t before, after;
    const invocation invocation = target_compress(t, command, OLD_OUTPUT);
    find_hashes(t, &invocation, &before, &after);
    for (bool fits = false; !fits && pages < 200; pages++) {
        char options[64];
        snprintf(options, sizeof options, "size=%ld", pages * page);
        tree_remove(t->folder);
        make_folder(t->folder);
        if (mount("tmpfs", t->folder, "tmpfs", 0, options) < 0)
            return SKIPPED;
        if (tree_fits(t->before[OLD_OUTPUT], t->folder)) {
            run(&invocation, &now);
            check_run(t, "file system of pages:", pages, &now, before, after);
            fits = now.code == 0;
            runs++;
        }
        umount2(t->folder, MNT_DETACH);
    }
    CHECK(now.code == 0 && runs > 1, "%s: no file system was large enough, or the first was",
          t->title);
    printf("%s: file system: %ld sizes up to %ld pages\n", t->title, runs, pages - 1);
    return 0;
}

/* In a name space of its own, so that the file systems go with the process. Returns 77 where that
 * is not permitted. */
static int fill_file_systems(const target *targets, const char *command)
{
    int code = 0;
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return SKIPPED;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return SKIPPED;
    for (size_t i = 0; !code && i < TARGETS; i++)
        code = fill_file_system(&targets[i], command);
    return code;
}

int main(int argc, char **argv)
{
    target targets[TARGETS];
    if (argc != 4) {
        fprintf(stderr, "usage: test_full_disk COMMAND SEEDS SAMPLES\n");
        return 2;
    }
    targets_make(argv[1], argv[2], argv[3], targets);
    for (size_t i = 0; i < TARGETS; i++)
        limit_files(&targets[i], argv[1]);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int code = fill_file_systems(targets, argv[1]);
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
    const int result = checks_finish();
    return result ? result : code == SKIPPED ? SKIPPED : 0;
}
