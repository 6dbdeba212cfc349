/* Wrong usage and bad input: the exit code, one line on standard error, nothing on standard output.
 *
 *     test_usage COMMAND SEEDS */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

enum { BAD_INPUT = 1, BAD_USAGE = 2 };

/* In arguments: IN is a sound package, OUT a place for one. */
typedef struct expectation {
    int code;
    const char *says; /* part of the message */
    const char *arguments[10];
} expectation;

#define IN  "<in>"
#define OUT "<out>"

static const expectation expectations[] = {
    {BAD_USAGE, "there is no command", {"squeeze"}},
    {BAD_USAGE, "there is no command", {""}},
    {BAD_USAGE, "there is no command", {"--nbits", "4"}},
    {BAD_USAGE, "there is no command", {"two\nlines"}},
    {BAD_USAGE, "no input", {"compress"}},
    {BAD_USAGE, "no input", {"compress", "-o", OUT, "--nbits", "4"}},
    {BAD_USAGE, "no output", {"compress", IN, "--nbits", "4"}},
    {BAD_USAGE, "no output", {"compress", IN, "-o", "", "--nbits", "4"}},
    {BAD_USAGE, "one input", {"compress", IN, IN, "-o", OUT, "--nbits", "4"}},
    {BAD_USAGE, "-o needs a value", {"compress", IN, "-o"}},
    {BAD_USAGE, "--nbits needs a value", {"compress", IN, "-o", OUT, "--nbits"}},
    {BAD_USAGE, "takes no value", {"compress", IN, "-o", OUT, "--nbits", "4", "--quiet=yes"}},
    {BAD_USAGE, "unknown option", {"compress", IN, "-o", OUT, "--bits", "4"}},
    {BAD_USAGE, "unknown option", {"compress", IN, "-o", OUT, "-x"}},
    {BAD_USAGE, "one input", {"compress", "--nbits=4", "-o", OUT, "--", IN, "--help"}},
    {BAD_USAGE, "there is no command", {"help", "squeeze"}},
    {BAD_USAGE, "unknown option", {"compress", IN, "-o", OUT, "--=4"}},
    {BAD_USAGE, "unknown option", {"compress", IN, "-o", OUT, "--a\nb"}},
    {BAD_USAGE, "unknown option", {"decompress", IN, "-o", OUT, "--nbits", "4"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--mode", "uniform"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--mode", "unique", "--nbits", "4"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", "5"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", "0"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", "-4"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", "four"}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", "4 "}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", ""}},
    {BAD_USAGE, "nbits", {"compress", IN, "-o", OUT, "--nbits", "99999999999999999999"}},
    {BAD_USAGE, "mode", {"compress", IN, "-o", OUT, "--nbits", "4", "--mode", "K-MEANS"}},
    {BAD_USAGE, "mode", {"compress", IN, "-o", OUT, "--nbits", "4", "--mode", "kmeans|uniform"}},
    {BAD_USAGE, "lut: must be given", {"compress", IN, "-o", OUT, "--mode", "custom"}},
    {BAD_USAGE, "lut: only in mode", {"compress", IN, "-o", OUT, "--nbits=1", "--lut", "[1, 2]"}},
    {BAD_USAGE,
     "lut: 3 values",
     {"compress", IN, "-o", OUT, "--mode=custom", "--lut", "[1, 2, 3]"}},
    {BAD_USAGE, "lut: not a list", {"compress", IN, "-o", OUT, "--mode=custom", "--lut", "[1, 2"}},
    {BAD_USAGE, "No such file", {"compress", IN, "-o", OUT, "--mode=custom", "--lut", "no.npy"}},
    {BAD_USAGE, "NumPy", {"compress", IN, "-o", OUT, "--mode=custom", "--lut", "<scratch>/file"}},
    {BAD_USAGE, "lut_dtype", {"compress", IN, "-o", OUT, "--nbits=4", "--lut-dtype", "int4"}},
    {BAD_USAGE, "granularity", {"compress", IN, "-o", OUT, "--nbits=4", "--granularity", "all"}},
    {BAD_USAGE, "group_size", {"compress", IN, "-o", OUT, "--nbits=4", "--group-size", "0"}},
    {BAD_USAGE, "channel_axis", {"compress", IN, "-o", OUT, "--nbits=4", "--channel-axis", "16"}},
    {BAD_USAGE, "threads", {"compress", IN, "-o", OUT, "--nbits=4", "--threads", "-1"}},
    {BAD_USAGE, "weight_threshold", {"inspect", IN, "--weight-threshold", "-1"}},
    {BAD_USAGE, "no input", {"inspect"}},
    {BAD_USAGE, "--json=b", {"inspect", IN, "--json", "b"}},
    {BAD_USAGE, "keeps the format", {"compress", IN, "-o", "<scratch>/out.onnx", "--nbits=4"}},
    {BAD_USAGE, "keeps the format", {"decompress", IN, "-o", "<scratch>/out.SAFETENSORS/"}},
    {BAD_USAGE, "-o takes the name of a file, not -", {"compress", IN, "-o", "-", "--nbits=4"}},
    {BAD_USAGE, "-o takes", {"report", "<scratch>/file", "-o", "-"}},
    {BAD_USAGE, "--report takes", {"compress", IN, "-o", OUT, "--nbits=4", "--report", "-"}},
    {BAD_USAGE,
     "both -o and --json",
     {"compress", IN, "-o", "<scratch>/same", "--nbits=4", "--json", "<scratch>/./same"}},
    {BAD_USAGE,
     "both --json and --report",
     {"compress", IN, "-o", OUT, "--nbits=4", "--json", "<scratch>/x", "--report", "<scratch>/x"}},
    {BAD_USAGE,
     "both --json and --log",
     {"compress", IN, "-o", OUT, "--nbits=4", "--json", "<scratch>/x", "--log", "<scratch>/x"}},
    {BAD_USAGE, "is the input", {"decompress", IN, "-o", OUT, "--json", IN}},
    {BAD_USAGE, "is the input", {"report", "<scratch>/file", "-o", "<scratch>/empty/../file"}},
    {BAD_USAGE, "is the input", {"inspect", "<scratch>/file", "--json=<scratch>/file"}},
    {BAD_USAGE,
     "--mean says how data is read",
     {"compress", IN, "-o", OUT, "--nbits=4", "--mean", "0.5", "--split", "banana"}},
    {BAD_USAGE, "samples is of no use", {"compress", IN, "-o", OUT, "--nbits=4", "--samples=3"}},
    {BAD_USAGE,
     "seed is of no use",
     {"compress", IN, "-o", OUT, "--nbits=4", "--method=KMeans", "--seed=3"}},
    {BAD_USAGE,
     "sweeps is of no use without data",
     {"compress", IN, "-o", OUT, "--nbits=4", "--method=sensitive", "--load-sensitivity=x",
      "--sweeps=1"}},
    {BAD_USAGE, "no input", {"decompress", "-o", OUT}},

    {BAD_INPUT, "No such file", {"inspect", "<scratch>/nothing.mlpackage"}},
    {BAD_INPUT, "No such file", {"inspect", ""}},
    {BAD_INPUT, "--nbits=4: cannot open", {"inspect", "--", "--nbits=4"}},
    {BAD_INPUT, "not a model", {"inspect", "<scratch>/empty"}},
    {BAD_INPUT, "not a model", {"inspect", "<scratch>/file"}},
    {BAD_INPUT, "not a model", {"inspect", "/dev/null"}},
    {BAD_INPUT, "not JSON", {"inspect", "<scratch>/empty-manifest"}},
    {BAD_INPUT, "cannot open", {"inspect", "<scratch>/no-model"}},
    {BAD_INPUT, "No such file", {"decompress", "<scratch>/new\nline", "-o", OUT}},
    {BAD_INPUT, "cannot create", {"compress", IN, "-o", "<scratch>/no/where", "--nbits=4"}},
    /* before the data is looked at, which would take long if it was there */
    {BAD_INPUT,
     "cannot create",
     {"compress", IN, "-o", "<scratch>/no/where", "--nbits=4", "--method=dkm", "--data=none"}},
    {BAD_INPUT,
     "/no/x.json: cannot write",
     {"compress", IN, "-o", OUT, "--nbits=4", "--method=dkm", "--data=none",
      "--json=<scratch>/no/x.json"}},
    {BAD_INPUT,
     "/no/x.html: cannot create",
     {"compress", IN, "-o", OUT, "--nbits=4", "--method=dkm", "--data=none",
      "--report=<scratch>/no/x.html"}},
    {BAD_INPUT, "cannot write", {"decompress", IN, "-o", OUT, "--json", "<scratch>"}},
    {BAD_INPUT, "cannot write", {"eval", IN, "--data", "none", "--json", "<scratch>/no/x"}},
    {BAD_INPUT, "cannot write", {"compare", IN, IN, "--data", "none", "--json", "<scratch>/no/x"}},
    {BAD_INPUT,
     "No such file",
     {"compress", IN, "-o", OUT, "--nbits=4", "--data=none", "--json", "<scratch>/file"}},
    {BAD_INPUT, "not replaced", {"compress", IN, "-o", "<scratch>/file", "--nbits=4"}},
    {BAD_INPUT, "not replaced", {"compress", IN, "-o", "<scratch>", "--nbits=4"}},
    {BAD_INPUT, "not replaced", {"decompress", IN, "-o", "/", "--quiet"}},
};

/* What stands for the placeholders, <scratch> at the end of "--option=" too; the text lives until
 * the fourth call from now. */
static const char *expand(const char *argument, const char *in, const char *out)
{
    static char texts[4][600];
    static int next;
    if (strcmp(argument, IN) == 0)
        return in;
    if (strcmp(argument, OUT) == 0)
        return out;
    const char *place = strstr(argument, "<scratch>");
    if (!place)
        return argument;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%.*s%s%s", (int)(place - argument), argument, scratch(),
             place + 9);
    return text;
}

static void write_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(content, file) >= 0 && fclose(file) == 0, "cannot write %s", path);
}

static void make_inputs(void)
{
    make_folder(in_scratch("empty"));
    make_folder(in_scratch("empty-manifest"));
    make_folder(in_scratch("no-model"));
    write_file(in_scratch("file"), "text\n");
    write_file(in_scratch("empty-manifest/Manifest.json"), "");
    write_file(in_scratch("no-model/Manifest.json"),
               "{\"rootModelIdentifier\": \"m\", \"itemInfoEntries\": {\"m\": {\"path\": \"x\"}}}");
}

/* Text and a non-zero exit code where standard output cannot take it. */
static void check_closed_output(const char *command, const char *in)
{
    static outcome now;
    char line[1500];
    if (access("/dev/full", W_OK) != 0)
        return;
    snprintf(line, sizeof line, "exec '%s' inspect '%s' >/dev/full", command, in);
    run(&(invocation){.arguments = {"/bin/sh", "-c", line}}, &now);
    CHECK(now.code == BAD_INPUT && is_one_line(now.err), "inspect to a full device: %d, \"%s\"",
          now.code, now.err);
}

int main(int argc, char **argv)
{
    static outcome now;
    char in[512];
    if (argc != 3) {
        fprintf(stderr, "usage: test_usage COMMAND SEEDS\n");
        return 2;
    }
    const char *out = in_scratch("out.mlpackage");
    snprintf(in, sizeof in, "%s/dense-ios16.mlpackage", argv[2]);
    make_inputs();
    uint64_t before = tree_hash(scratch());
    for (size_t i = 0; i < sizeof expectations / sizeof *expectations; i++) {
        const expectation *e = &expectations[i];
        invocation invocation = {.arguments = {argv[1]}};
        for (size_t j = 0; j < 10 && e->arguments[j]; j++)
            invocation.arguments[j + 1] = expand(e->arguments[j], in, out);
        run(&invocation, &now);
        CHECK(now.code == e->code && is_one_line(now.err) && strstr(now.err, e->says) && !*now.out,
              "%s %s (line %zu): expected %d and \"%s\", have %d and \"%s\"; output \"%.100s\"",
              e->arguments[0], e->arguments[1] ? e->arguments[1] : "", i, e->code, e->says,
              now.code, now.err, now.out);
    }
    CHECK(tree_hash(scratch()) == before, "something was written");
    run(&(invocation){.arguments = {argv[1]}}, &now);
    CHECK(now.code == BAD_USAGE && *now.err && !*now.out, "without arguments: %d", now.code);
    check_closed_output(argv[1], in);
    printf("%zu invocations\n", sizeof expectations / sizeof *expectations + 2);
    return checks_finish();
}
