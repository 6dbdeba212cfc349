/* The command when an allocation fails, each one in its turn: it ends with 1 and one line, or goes
 * on to the right result; it does not crash, and what it was to write is complete or not there.
 *
 *     test_memory COMMAND PRELOAD SEEDS */
#include <stdio.h>
#include <string.h>

#include "harness.h"

/* The old output is removed once the new one is in its place. Opening a directory takes memory, so
 * for each directory of it there is one failure that leaves it behind. */
enum { MOST_ALLOCATIONS = 100000, MOST_LEFTOVERS = 4 };

typedef struct scenario {
    const char *name, *input; /* a seed */
    bool has_output, old_output;
    const char *arguments[12]; /* command first */
} scenario;

static const scenario scenarios[] = {
    {"compress",
     "dense-ios16",
     true,
     false,
     {"compress", "--nbits", "4", "--weight-threshold", "0", "--threads", "1"}},
    {"compress grouped over an old output",
     "operators-ios18",
     true,
     true,
     {"compress", "--nbits", "2", "--weight-threshold", "0", "--threads", "1", "--granularity",
      "per_grouped_channel", "--group-size", "2"}},
    {"compress with integer tables",
     "dense-ios18",
     true,
     false,
     {"compress", "--nbits", "4", "--weight-threshold", "0", "--threads", "1", "--lut-dtype",
      "uint8"}},
    {"compress what is pruned",
     "sparse-ios18",
     true,
     false,
     {"compress", "--nbits", "4", "--weight-threshold", "0", "--threads", "1"}},
    {"compress to JSON",
     "float32-ios16",
     true,
     false,
     {"compress", "--mode", "unique", "--weight-threshold", "0", "--threads", "1", "--json", "-"}},
    {"decompress", "grouped2-ios18", true, true, {"decompress"}},
    {"inspect", "functions-ios18", false, false, {"inspect"}},
    {"inspect to JSON", "vectors-ios18", false, false, {"inspect", "--json"}},
};

typedef struct place {
    const char *command, *preload, *seeds;
    const char *input, *folder, *output, *old, *count_file;
} place;

static void prepare(const scenario *s, const place *p)
{
    tree_remove(p->output);
    if (s->old_output)
        tree_copy(p->old, p->output);
}

static unsigned long read_count(const char *path)
{
    unsigned long count = 0;
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%lu", &count) != 1)
            count = 0;
        fclose(file);
    }
    return count;
}

static void fill_invocation(const scenario *s, const place *p, invocation *out)
{
    size_t n = 0;
    out->arguments[n++] = p->command;
    for (size_t i = 0; s->arguments[i]; i++)
        out->arguments[n++] = s->arguments[i];
    out->arguments[n++] = p->input;
    if (s->has_output) {
        out->arguments[n++] = "-o";
        out->arguments[n++] = p->output;
    }
}

typedef struct sums {
    unsigned long runs, recovered, leftovers;
} sums;

static void check_run(const scenario *s, const place *p, unsigned long n, outcome *now,
                      const outcome *reference, const uint64_t *hashes, sums *sums)
{
    uint64_t hash = s->has_output ? tree_hash(p->output) : 0;
    CHECK(now->code == 0 || now->code == 1, "%s, allocation %lu: exit code %d: %s", s->name, n,
          now->code, now->err);
    if (now->code == 0) {
        sums->recovered++;
        CHECK(hash == hashes[1], "%s, allocation %lu: success, but not the right output", s->name,
              n);
        strike_seconds(now->out);
        CHECK(strcmp(now->out, reference->out) == 0,
              "%s, allocation %lu: success, but another text: %.200s", s->name, n, now->out);
        CHECK(!*now->err, "%s, allocation %lu: success, but it says %s", s->name, n, now->err);
    } else {
        CHECK(is_one_line(now->err), "%s, allocation %lu: not one line: \"%s\"", s->name, n,
              now->err);
        CHECK(hash == hashes[0] || hash == hashes[1], "%s, allocation %lu: output is damaged: %s",
              s->name, n, now->err);
    }
    if (s->has_output && remove_strangers(p->folder, "out.mlpackage") > 0) {
        sums->leftovers++;
        CHECK(now->code == 0, "%s, allocation %lu: left something behind (%s)", s->name, n,
              now->err);
    }
}

static void run_scenario(const scenario *s, place *p)
{
    static outcome reference, now;
    char input[512], preload[512], fail_at[64], count_file[512];
    snprintf(input, sizeof input, "%s/%s.mlpackage", p->seeds, s->input);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", p->preload);
    snprintf(count_file, sizeof count_file, "FAIL_COUNT_FILE=%s", p->count_file);
    p->input = input;
    /* jansson, up to 2.14 at least, reads past its buffer when an allocation fails as it parses. */
    invocation invocation = {
        .environment = {preload, count_file, fail_at, "FAIL_EXCEPT=json_loadb"}};
    fill_invocation(s, p, &invocation);
    snprintf(fail_at, sizeof fail_at, "FAIL_AT=0");
    prepare(s, p);
    uint64_t hashes[2] = {s->has_output ? tree_hash(p->output) : 0};
    run_well(&invocation, &reference);
    hashes[1] = s->has_output ? tree_hash(p->output) : 0;
    strike_seconds(reference.out);
    unsigned long total = read_count(p->count_file);
    CHECK(total > 0 && total < MOST_ALLOCATIONS, "%s: %lu allocations", s->name, total);
    sums sums = {0};
    for (unsigned long n = 1; n <= total && total < MOST_ALLOCATIONS; n++, sums.runs++) {
        snprintf(fail_at, sizeof fail_at, "FAIL_AT=%lu", n);
        prepare(s, p);
        run(&invocation, &now);
        check_run(s, p, n, &now, &reference, hashes, &sums);
    }
    printf("%s: %lu allocations, each failed once; %lu did not matter, %lu left something behind\n",
           s->name, sums.runs, sums.recovered, sums.leftovers);
    CHECK(sums.leftovers <= MOST_LEFTOVERS, "%s: %lu times something was left behind", s->name,
          sums.leftovers);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: test_memory COMMAND PRELOAD SEEDS\n");
        return 2;
    }
    char old[512];
    place p = {.command = argv[1], .preload = argv[2], .seeds = argv[3]};
    snprintf(old, sizeof old, "%s/immediate-ios16.mlpackage", p.seeds);
    p.old = old;
    p.folder = in_scratch("folder");
    p.output = in_scratch("folder/out.mlpackage");
    p.count_file = in_scratch("count");
    make_folder(p.folder);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        run_scenario(&scenarios[i], &p);
    return checks_finish();
}
