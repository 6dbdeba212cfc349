/* The command killed at random moments while it replaces an output: what stands there is always the
 * complete old or the complete new one.
 *
 *     test_kill COMMAND SEEDS SAMPLES */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "targets.h"

static void run_target(const target *t, const char *command, int rounds)
{
    static outcome now;
    invocation invocation = target_compress(t, command, OLD_OUTPUT);
    target_reset(t, OLD_OUTPUT);
    uint64_t before = target_hash(t);
    run_well(&invocation, &now);
    uint64_t after = target_hash(t);
    double latest = 1e6 * now.seconds; /* microseconds */
    int killed = 0, replaced = 0, leftovers = 0;
    for (int i = 0; i < rounds; i++) {
        target_reset(t, OLD_OUTPUT);
        /* From the start of the process to after its end; the latest moment is adapted so that the
         * process gets there now and then, however busy the machine is. */
        invocation.kill_after = 1 + (long)(latest * rand() / RAND_MAX);
        run(&invocation, &now);
        latest *= now.code == KILLED ? 1.03 : 0.9;
        uint64_t hash = target_hash(t);
        CHECK(hash == before || hash == after,
              "%s: killed after %ld microseconds: output is damaged", t->title,
              invocation.kill_after);
        CHECK(now.code == KILLED || (now.code == 0 && hash == after), "%s: exit code %d: %s",
              t->title, now.code, now.err);
        killed += now.code == KILLED;
        replaced += now.code == KILLED && hash == after;
        leftovers += target_strangers(t, OLD_OUTPUT) > 0;
    }
    printf("%s: killed %d of %d times, after the output was replaced %d times; something stayed "
           "behind %d times\n",
           t->title, killed, rounds, replaced, leftovers);
    CHECK(killed > 0, "%s: never killed in time", t->title);
}

int main(int argc, char **argv)
{
    target targets[TARGETS];
    if (argc != 4) {
        fprintf(stderr, "usage: test_kill COMMAND SEEDS SAMPLES\n");
        return 2;
    }
    targets_make(argv[1], argv[2], argv[3], targets);
    srand(1);
    for (size_t i = 0; i < TARGETS; i++)
        run_target(&targets[i], argv[1], is_full() ? 3000 : 100);
    return checks_finish();
}
