/* The command when an allocation fails, each one in its turn: it ends with 1 and one line, or goes
 * on to the right result; it does not crash, and what it was to write is complete or not there.
 *
 *     test_memory COMMAND PRELOAD SEEDS SAMPLES */
#include <stdio.h>
#include <string.h>

#include "targets.h"

/* The old output is removed once the new one is in its place. Opening a directory takes memory, so
 * for each directory of it there is one failure that leaves it behind. */
enum { MOST_ALLOCATIONS = 100000, MOST_LEFTOVERS = 4 };

/* What is written, if anything. */
typedef enum kind { PACKAGE, ONNX, ONNX_SAME_DATA, CHECKPOINT, SAFETENSORS, NONE } kind;

typedef struct scenario {
    const char *name, *input; /* a seed or a sample */
    kind output;
    enum target_state state;
    const char *arguments[14]; /* command first */
} scenario;

static const char config[] = "global_config: {nbits: 2, weight_threshold: 0}\n"
                             "op_name_configs:\n"
                             "  \".*[kq]_proj.*\": {nbits: 4, granularity: per_grouped_channel}\n"
                             "  lm_head.weight: null\n";

#define COMPRESS "compress", "--weight-threshold", "0", "--threads", "1"

static const scenario scenarios[] = {
    {"compress", "seeds/dense-ios16.mlpackage", PACKAGE, NOTHING, {COMPRESS, "--nbits", "4"}},
    {"compress grouped over an old output",
     "seeds/operators-ios18.mlpackage",
     PACKAGE,
     OLD_OUTPUT,
     {COMPRESS, "--nbits", "2", "--granularity", "per_grouped_channel", "--group-size", "2"}},
    {"compress with integer tables",
     "seeds/dense-ios18.mlpackage",
     PACKAGE,
     NOTHING,
     {COMPRESS, "--nbits", "4", "--lut-dtype", "uint8"}},
    {"compress what is pruned",
     "seeds/sparse-ios18.mlpackage",
     PACKAGE,
     NOTHING,
     {COMPRESS, "--nbits", "4"}},
    {"compress to JSON",
     "seeds/float32-ios16.mlpackage",
     PACKAGE,
     NOTHING,
     {COMPRESS, "--mode", "unique", "--json", "-"}},
    {"decompress", "seeds/grouped2-ios18.mlpackage", PACKAGE, OLD_OUTPUT, {"decompress"}},
    {"inspect", "seeds/functions-ios18.mlpackage", NONE, NOTHING, {"inspect"}},
    {"inspect to JSON", "seeds/vectors-ios18.mlpackage", NONE, NOTHING, {"inspect", "--json"}},
    {"compress ONNX", "samples/onnx/floats/model.onnx", ONNX, NOTHING, {COMPRESS, "--nbits", "3"}},
    {"compress ONNX with data over an old output",
     "samples/onnx/external/model.onnx",
     ONNX,
     OLD_OUTPUT,
     {"compress", "--weight-threshold", "300", "--threads", "1", "--nbits", "4"}},
    {"compress ONNX with data over an output with the same",
     "samples/onnx/external/model.onnx",
     ONNX_SAME_DATA,
     OLD_OUTPUT,
     {"compress", "--weight-threshold", "300", "--threads", "1", "--nbits", "4"}},
    {"decompress ONNX", "samples/onnx/inputs-everything/model.onnx", ONNX, NOTHING, {"decompress"}},
    {"inspect ONNX", "samples/onnx/constants-grouped6/model.onnx", NONE, NOTHING, {"inspect"}},
    {"compress safetensors",
     "samples/safetensors/odd/single.safetensors",
     SAFETENSORS,
     OLD_OUTPUT,
     {COMPRESS, "--nbits", "6"}},
    {"decompress safetensors",
     "samples/safetensors/file-everything/single.safetensors",
     SAFETENSORS,
     NOTHING,
     {"decompress"}},
    {"compress a folder with a configuration",
     "samples/safetensors/shards",
     CHECKPOINT,
     OLD_OUTPUT,
     {"compress", "--threads", "1", "--config", "CONFIG"}},
    {"decompress a folder",
     "samples/safetensors/shards-grouped3",
     CHECKPOINT,
     NOTHING,
     {"decompress"}},
};

typedef struct place {
    const char *command, *preload, *seeds, *samples, *config;
    const char *input, *count_file;
    target targets[TARGETS];
    const target *target; /* NULL: nothing is written */
} place;

static uint64_t output_hash(const place *p)
{
    return p->target ? target_hash(p->target) : 0;
}

static void prepare(const scenario *s, const place *p)
{
    if (p->target)
        target_reset(p->target, s->state);
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
        out->arguments[n++] = strcmp(s->arguments[i], "CONFIG") == 0 ? p->config : s->arguments[i];
    out->arguments[n++] = p->input;
    if (p->target) {
        out->arguments[n++] = "-o";
        out->arguments[n++] = p->target->output;
    }
}

typedef struct sums {
    unsigned long runs, recovered, leftovers;
} sums;

static void check_run(const scenario *s, const place *p, unsigned long n, outcome *now,
                      const outcome *reference, const uint64_t *hashes, sums *sums)
{
    uint64_t hash = output_hash(p);
    CHECK(now->code == 0 || now->code == 1, "%s, allocation %lu: exit code %d: %s", s->name, n,
          now->code, now->err);
    if (now->code == 0) {
        sums->recovered++;
        CHECK(hash == hashes[1], "%s, allocation %lu: success, but not the right output", s->name,
              n);
        strike_measured(now->out);
        CHECK(strcmp(now->out, reference->out) == 0,
              "%s, allocation %lu: success, but another text: %.200s", s->name, n, now->out);
        CHECK(!*now->err, "%s, allocation %lu: success, but it says %s", s->name, n, now->err);
    } else {
        CHECK(is_one_line(now->err), "%s, allocation %lu: not one line: \"%s\"", s->name, n,
              now->err);
        CHECK(hash == hashes[0] || hash == hashes[1], "%s, allocation %lu: output is damaged: %s",
              s->name, n, now->err);
    }
    if (p->target && target_strangers(p->target, s->state) > 0) {
        sums->leftovers++;
        CHECK(now->code == 0, "%s, allocation %lu: left something behind (%s)", s->name, n,
              now->err);
    }
}

static void run_scenario(const scenario *s, place *p)
{
    static outcome reference, now;
    char input[512], preload[512], fail_at[64], count_file[512];
    const bool seed = strncmp(s->input, "seeds/", 6) == 0;
    snprintf(input, sizeof input, "%s/%s", seed ? p->seeds : p->samples, strchr(s->input, '/') + 1);
    p->target = s->output == NONE ? NULL : &p->targets[s->output];
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", p->preload);
    snprintf(count_file, sizeof count_file, "FAIL_COUNT_FILE=%s", p->count_file);
    p->input = input;
    /* jansson, up to 2.14 at least, reads past its buffer when an allocation fails as it parses. */
    invocation invocation = {
        .environment = {preload, count_file, fail_at, "FAIL_EXCEPT=json_loadb"}};
    fill_invocation(s, p, &invocation);
    snprintf(fail_at, sizeof fail_at, "FAIL_AT=0");
    prepare(s, p);
    uint64_t hashes[2] = {output_hash(p)};
    run_well(&invocation, &reference);
    hashes[1] = output_hash(p);
    strike_measured(reference.out);
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
    if (argc != 5) {
        fprintf(stderr, "usage: test_memory COMMAND PRELOAD SEEDS SAMPLES\n");
        return 2;
    }
    place p = {.command = argv[1], .preload = argv[2], .seeds = argv[3], .samples = argv[4]};
    targets_make(p.command, p.seeds, p.samples, p.targets);
    p.count_file = in_scratch("count");
    p.config = in_scratch("config.yaml");
    FILE *file = fopen(p.config, "w");
    if (!file || fputs(config, file) < 0 || fclose(file) != 0)
        return 2;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        run_scenario(&scenarios[i], &p);
    return checks_finish();
}
