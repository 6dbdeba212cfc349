/* The command when one system call fails that changes files, and when it is killed right before or
 * after one. Each call has its turn, with nothing, an old package, or the input itself in the place
 * of the output.
 *
 *     test_writes COMMAND PRELOAD SEEDS */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

enum destination { ABSENT, EXISTING, IN_PLACE, DESTINATIONS };

static const char *const destination_names[] = {"no output yet", "an old output", "in place"};

typedef struct setting {
    char source[512], old[512];
    const char *folder, *output, *count_file;
    invocation invocation;
    enum destination destination;
    uint64_t before, after; /* hashes of the output */
} setting;

static void prepare(const setting *s)
{
    tree_remove(s->output);
    if (s->destination == EXISTING)
        tree_copy(s->old, s->output);
    else if (s->destination == IN_PLACE)
        tree_copy(s->source, s->output);
}

static unsigned long count_calls(const setting *s)
{
    unsigned long count = 0;
    FILE *file = fopen(s->count_file, "r");
    if (!file || fscanf(file, "%lu", &count) != 1)
        count = 0;
    if (file)
        fclose(file);
    return count;
}

/* One call fails. Before the new package is in its place that must undo everything; what comes
 * afterwards does not matter, nor does a call for which there is another way. */
static void check_failure(const setting *s, unsigned long n, int error, const outcome *now)
{
    uint64_t hash = tree_hash(s->output);
    CHECK(now->code == 0 || now->code == 1, "%s, call %lu: exit code %d: %s",
          destination_names[s->destination], n, now->code, now->err);
    CHECK(hash == (now->code ? s->before : s->after),
          "%s, call %lu, errno %d: exit code %d, but %s", destination_names[s->destination], n,
          error, now->code,
          hash == s->before  ? "the output is the old one"
          : hash == s->after ? "the output is the new one"
                             : "the output is damaged");
    CHECK(now->code ? is_one_line(now->err) : !*now->err, "%s, call %lu: not one line: \"%s\"",
          destination_names[s->destination], n, now->err);
    CHECK(remove_strangers(s->folder, "out.mlpackage") == 0, "%s, call %lu: left something behind",
          destination_names[s->destination], n);
}

/* Killed at one call: the output is the old or the new one, and the next run works. */
static void check_killed(const setting *s, unsigned long n, const outcome *now)
{
    static outcome again;
    uint64_t hash = tree_hash(s->output);
    CHECK(now->code == KILLED, "%s, killed at call %lu: exit code %d",
          destination_names[s->destination], n, now->code);
    CHECK(hash == s->before || hash == s->after, "%s, killed at call %lu: the output is damaged",
          destination_names[s->destination], n);
    remove_strangers(s->folder, "out.mlpackage");
    if (n % 8 == 0 && (s->destination != IN_PLACE || hash == s->before)) {
        invocation next = s->invocation;
        memset(next.environment, 0, sizeof next.environment);
        run_well(&next, &again);
        CHECK(tree_hash(s->output) == s->after, "the run after a kill differs");
    }
}

static void run_destination(setting *s)
{
    static outcome now;
    static const int errors[] = {ENOSPC, EIO};
    char fail_at[64] = "FAIL_AT=0", fail_how[64] = "FAIL_ERRNO=0";
    s->invocation.environment[2] = fail_at;
    s->invocation.environment[3] = fail_how;
    prepare(s);
    s->before = tree_hash(s->output);
    run_well(&s->invocation, &now);
    s->after = tree_hash(s->output);
    CHECK(s->after && s->after != s->before, "nothing was written");
    unsigned long total = count_calls(s), failed = 0, runs = 0;
    CHECK(total > 5 && total < 10000, "%lu calls", total);
    for (size_t e = 0; e < 2; e++) {
        for (unsigned long n = 1; n <= total; n++, runs++) {
            snprintf(fail_at, sizeof fail_at, "FAIL_AT=%lu", n);
            snprintf(fail_how, sizeof fail_how, "FAIL_ERRNO=%d", errors[e]);
            prepare(s);
            run(&s->invocation, &now);
            check_failure(s, n, errors[e], &now);
            failed += now.code != 0;
        }
    }
    for (int when = 1; when <= 2; when++) {
        snprintf(fail_at, sizeof fail_at, "FAIL_AT=0");
        snprintf(fail_how, sizeof fail_how, "FAIL_KILL=%d", when);
        prepare(s);
        run_well(&s->invocation, &now);
        unsigned long moments = count_calls(s);
        for (unsigned long n = 1; n <= moments; n++, runs++) {
            snprintf(fail_at, sizeof fail_at, "FAIL_AT=%lu", n);
            prepare(s);
            run(&s->invocation, &now);
            check_killed(s, n, &now);
        }
    }
    printf("%s: %lu calls that change files, %lu runs; %lu of %lu failures ended the run\n",
           destination_names[s->destination], total, runs, failed, 2 * total);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: test_writes COMMAND PRELOAD SEEDS\n");
        return 2;
    }
    char preload[512], count_file[512];
    setting s = {.folder = in_scratch("folder"),
                 .output = in_scratch("folder/out.mlpackage"),
                 .count_file = in_scratch("count")};
    make_folder(s.folder);
    snprintf(s.source, sizeof s.source, "%s/dense-ios18.mlpackage", argv[3]);
    snprintf(s.old, sizeof s.old, "%s/immediate-ios16.mlpackage", argv[3]);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", argv[2]);
    snprintf(count_file, sizeof count_file, "FAIL_COUNT_FILE=%s", s.count_file);
    for (s.destination = ABSENT; s.destination < DESTINATIONS; s.destination++) {
        s.invocation = (invocation){
            .arguments = {argv[1], "compress", s.destination == IN_PLACE ? s.output : s.source,
                          "-o", s.output, "--nbits", "4", "--weight-threshold", "0", "--quiet"},
            .environment = {preload, count_file},
        };
        run_destination(&s);
    }
    return checks_finish();
}
