/* The command killed at random moments while it replaces a package: what stands there is always the
 * complete old or the complete new one.
 *
 *     test_kill COMMAND SEEDS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

int main(int argc, char **argv)
{
    static outcome now;
    char source[512], old[512];
    if (argc != 3) {
        fprintf(stderr, "usage: test_kill COMMAND SEEDS\n");
        return 2;
    }
    const char *folder = in_scratch("folder"), *output = in_scratch("folder/out.mlpackage");
    const int rounds = is_full() ? 3000 : 300;
    snprintf(source, sizeof source, "%s/dense-ios18.mlpackage", argv[2]);
    snprintf(old, sizeof old, "%s/immediate-ios16.mlpackage", argv[2]);
    make_folder(folder);
    invocation invocation = {.arguments = {argv[1], "compress", source, "-o", output, "--nbits",
                                           "4", "--weight-threshold", "0", "--quiet", "--threads",
                                           "1"}};
    tree_copy(old, output);
    run_well(&invocation, &now);
    uint64_t before = tree_hash(old), after = tree_hash(output);
    double latest = 1e6 * now.seconds; /* microseconds */
    int killed = 0, replaced = 0, leftovers = 0;
    srand(1);
    for (int i = 0; i < rounds; i++) {
        tree_remove(output);
        tree_copy(old, output);
        /* From the start of the process to after its end; the latest moment is adapted so that the
         * process gets there now and then, however busy the machine is. */
        invocation.kill_after = 1 + (long)(latest * rand() / RAND_MAX);
        run(&invocation, &now);
        latest *= now.code == KILLED ? 1.03 : 0.9;
        uint64_t hash = tree_hash(output);
        CHECK(hash == before || hash == after, "killed after %ld microseconds: output is damaged",
              invocation.kill_after);
        CHECK(now.code == KILLED || (now.code == 0 && hash == after), "exit code %d: %s", now.code,
              now.err);
        killed += now.code == KILLED;
        replaced += now.code == KILLED && hash == after;
        leftovers += remove_strangers(folder, "out.mlpackage") > 0;
    }
    printf("killed %d of %d times, after the output was replaced %d times; a hidden folder stayed "
           "behind %d times\n",
           killed, rounds, replaced, leftovers);
    CHECK(killed > 0, "never killed in time");
    return checks_finish();
}
