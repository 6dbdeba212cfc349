/* Packages and outputs in odd places: behind links, made of links, in an empty directory.
 *
 *     test_places COMMAND SEEDS */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static const char *command;

/* Runs compress with 4 bits and checks the exit code, and the message if it must fail. */
static void compress(const char *in, const char *out, const char *bits, const char *complaint)
{
    static outcome now;
    run(&(invocation){.arguments = {command, "compress", in, "-o", out, "--nbits", bits,
                                    "--weight-threshold", "0", "--quiet"}},
        &now);
    CHECK(now.code == (complaint ? 1 : 0), "%s to %s: exit code %d: %s", in, out, now.code,
          now.err);
    CHECK(!complaint || strstr(now.err, complaint), "%s to %s: says %s", in, out, now.err);
}

static void link_to(const char *target, const char *path)
{
    CHECK(symlink(target, path) == 0, "cannot link %s", path);
}

/* A package whose weight folder lies elsewhere is refused, and nothing is written there. */
static void linked_folder(const char *source)
{
    const char *in = in_scratch("linked-folder.mlpackage"), *elsewhere = in_scratch("elsewhere");
    const char *weights = in_scratch("linked-folder.mlpackage/Data/com.apple.CoreML/weights");
    tree_copy(source, in);
    tree_copy(weights, elsewhere);
    tree_remove(weights);
    link_to(elsewhere, weights);
    uint64_t before = tree_hash(elsewhere);
    compress(in, in_scratch("refused.mlpackage"), "4", "a link to a directory");
    compress(in, in, "4", "a link to a directory");
    CHECK(tree_hash(elsewhere) == before, "a file outside of the package was changed");
    CHECK(tree_hash(in_scratch("refused.mlpackage")) == 0, "a refused package has an output");
}

/* A package of links to files, as download caches keep them, becomes one of files. */
static void linked_files(const char *source, uint64_t expected)
{
    static const char *const files[] = {"Manifest.json", "Data/com.apple.CoreML/model.mlmodel",
                                        "Data/com.apple.CoreML/weights/weight.bin"};
    static const char *const up[] = {"../../", "../../../../", "../../../../../"};
    const char *out = in_scratch("from-links.mlpackage");
    make_folder(in_scratch("cache"));
    make_folder(in_scratch("cache/a"));
    tree_copy(source, in_scratch("cache/a/links.mlpackage"));
    for (size_t i = 0; i < 3; i++) {
        char name[256], blob[64], target[512];
        snprintf(name, sizeof name, "cache/a/links.mlpackage/%s", files[i]);
        snprintf(blob, sizeof blob, "cache/blob-%zu", i);
        snprintf(target, sizeof target, "%sblob-%zu", up[i], i);
        tree_copy(in_scratch(name), in_scratch(blob));
        tree_remove(in_scratch(name));
        link_to(target, in_scratch(name));
    }
    compress(in_scratch("cache/a/links.mlpackage"), out, "4", NULL);
    CHECK(tree_hash(out) == expected, "a package of links gives another output");
}

/* An output that is a link to a package: the package is replaced, the link stays. */
static void linked_output(const char *source, uint64_t expected)
{
    struct stat info;
    const char *link = in_scratch("link.mlpackage"), *target = in_scratch("target.mlpackage");
    tree_copy(source, target);
    link_to("target.mlpackage", link);
    compress(source, link, "4", NULL);
    CHECK(lstat(link, &info) == 0 && S_ISLNK(info.st_mode), "the link was replaced");
    CHECK(tree_hash(target) == expected, "what the link leads to was not");
    compress(link, in_scratch("twice.mlpackage"), "4", NULL);
}

/* An empty folder may be replaced, but not before there is something to replace it. */
static void empty_folder(const char *source, uint64_t expected)
{
    const char *out = in_scratch("empty.mlpackage"), *bad = in_scratch("bad.mlpackage");
    make_folder(out);
    uint64_t before = tree_hash(out);
    tree_copy(source, bad);
    tree_remove(in_scratch("bad.mlpackage/Data/com.apple.CoreML/weights/weight.bin"));
    compress(bad, out, "4", "weight.bin");
    compress(source, out, "3", "iOS18");
    CHECK(mkfifo(in_scratch("linked-folder.mlpackage/fifo"), 0600) == 0, "cannot make a fifo");
    tree_remove(in_scratch("linked-folder.mlpackage/Data/com.apple.CoreML/weights"));
    tree_copy(in_scratch("elsewhere"),
              in_scratch("linked-folder.mlpackage/Data/com.apple.CoreML/weights"));
    compress(in_scratch("linked-folder.mlpackage"), out, "4", "neither a file nor a directory");
    CHECK(tree_hash(out) == before, "a failed run removed the empty folder");
    compress(source, out, "4", NULL);
    CHECK(tree_hash(out) == expected, "the empty folder was not replaced");
}

int main(int argc, char **argv)
{
    char source[512];
    if (argc != 3) {
        fprintf(stderr, "usage: test_places COMMAND SEEDS\n");
        return 2;
    }
    command = argv[1];
    snprintf(source, sizeof source, "%s/dense-ios16.mlpackage", argv[2]);
    compress(source, in_scratch("plain.mlpackage"), "4", NULL);
    uint64_t expected = tree_hash(in_scratch("plain.mlpackage"));
    compress(source, in_scratch("slash.mlpackage/"), "4", NULL);
    CHECK(tree_hash(in_scratch("slash.mlpackage")) == expected, "a slash at the end matters");
    linked_folder(source);
    linked_files(source, expected);
    linked_output(source, expected);
    empty_folder(source, expected);
    return checks_finish();
}
