/* The command when one system call fails that changes files, and when it is killed right before or
 * after one. Each call has its turn, for each kind of output, with nothing, an old output, or the
 * input itself in its place.
 *
 *     test_writes COMMAND PRELOAD SEEDS SAMPLES */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "targets.h"

static const char *const state_names[] = {"no output yet", "an old output", "in place"};

typedef struct setting {
    const target *target;
    const char *count_file;
    invocation invocation;
    enum target_state state;
    uint64_t before, after; /* hashes of the output */
} setting;

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

static const char *setting_name(const setting *s)
{
    static char name[128];
    snprintf(name, sizeof name, "%s, %s", s->target->title, state_names[s->state]);
    return name;
}

/* One call fails. Before the new package is in its place that must undo everything; what comes
 * afterwards does not matter, nor does a call for which there is another way. */
static void check_failure(const setting *s, unsigned long n, int error, const outcome *now)
{
    const char *name = setting_name(s);
    uint64_t hash = target_hash(s->target);
    CHECK(now->code == 0 || now->code == 1, "%s, call %lu: exit code %d: %s", name, n, now->code,
          now->err);
    CHECK(hash == (now->code ? s->before : s->after),
          "%s, call %lu, errno %d: exit code %d, but %s", name, n, error, now->code,
          hash == s->before  ? "the output is the old one"
          : hash == s->after ? "the output is the new one"
                             : "the output is damaged");
    CHECK(now->code ? is_one_line(now->err) : !*now->err, "%s, call %lu: not one line: \"%s\"",
          name, n, now->err);
    CHECK(target_strangers(s->target, s->state) == 0, "%s, call %lu: left something behind", name,
          n);
}

/* Killed at one call: the output is the old or the new one, and the next run works. */
static void check_killed(const setting *s, unsigned long n, const outcome *now)
{
    static outcome again;
    const char *name = setting_name(s);
    uint64_t hash = target_hash(s->target);
    CHECK(now->code == KILLED, "%s, killed at call %lu: exit code %d", name, n, now->code);
    CHECK(hash == s->before || hash == s->after, "%s, killed at call %lu: the output is damaged",
          name, n);
    target_strangers(s->target, s->state);
    if (n % 8 == 0 && (s->state != IN_PLACE || hash == s->before)) {
        invocation next = s->invocation;
        memset(next.environment, 0, sizeof next.environment);
        run_well(&next, &again);
        CHECK(target_hash(s->target) == s->after, "%s: the run after a kill differs", name);
    }
}

static void run_state(setting *s)
{
    static outcome now;
    static const int errors[] = {ENOSPC, EIO};
    char fail_at[64] = "FAIL_AT=0", fail_how[64] = "FAIL_ERRNO=0";
    s->invocation.environment[2] = fail_at;
    s->invocation.environment[3] = fail_how;
    target_reset(s->target, s->state);
    s->before = target_hash(s->target);
    run_well(&s->invocation, &now);
    s->after = target_hash(s->target);
    CHECK(s->after && s->after != s->before, "nothing was written");
    unsigned long total = count_calls(s), failed = 0, runs = 0;
    CHECK(total > 4 && total < 10000, "%lu calls", total);
    for (size_t e = 0; e < 2; e++) {
        for (unsigned long n = 1; n <= total; n++, runs++) {
            snprintf(fail_at, sizeof fail_at, "FAIL_AT=%lu", n);
            snprintf(fail_how, sizeof fail_how, "FAIL_ERRNO=%d", errors[e]);
            target_reset(s->target, s->state);
            run(&s->invocation, &now);
            check_failure(s, n, errors[e], &now);
            failed += now.code != 0;
        }
    }
    for (int when = 1; when <= 2; when++) {
        snprintf(fail_at, sizeof fail_at, "FAIL_AT=0");
        snprintf(fail_how, sizeof fail_how, "FAIL_KILL=%d", when);
        target_reset(s->target, s->state);
        run_well(&s->invocation, &now);
        unsigned long moments = count_calls(s);
        for (unsigned long n = 1; n <= moments; n++, runs++) {
            snprintf(fail_at, sizeof fail_at, "FAIL_AT=%lu", n);
            target_reset(s->target, s->state);
            run(&s->invocation, &now);
            check_killed(s, n, &now);
        }
    }
    printf("%s: %lu calls that change files, %lu runs; %lu of %lu failures ended the run\n",
           setting_name(s), total, runs, failed, 2 * total);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: test_writes COMMAND PRELOAD SEEDS SAMPLES\n");
        return 2;
    }
    char preload[512], count_file[512];
    target targets[TARGETS];
    setting s = {.count_file = in_scratch("count")};
    targets_make(argv[1], argv[3], argv[4], targets);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", argv[2]);
    snprintf(count_file, sizeof count_file, "FAIL_COUNT_FILE=%s", s.count_file);
    for (size_t i = 0; i < TARGETS; i++) {
        s.target = &targets[i];
        for (s.state = NOTHING; s.state < TARGET_STATES; s.state++) {
            s.invocation = target_compress(s.target, argv[1], s.state);
            s.invocation.environment[0] = preload;
            s.invocation.environment[1] = count_file;
            run_state(&s);
        }
    }
    return checks_finish();
}
