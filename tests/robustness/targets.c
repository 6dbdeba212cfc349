#define _GNU_SOURCE /* memmem */
#include "targets.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const state_names[] = {"nothing", "old", "same"};

/* Where the harness keeps a text of its own. */
static const char *keep(const char *format, const char *a, const char *b)
{
    char text[256];
    snprintf(text, sizeof text, format, a, b);
    return in_scratch(text);
}

/* ---------------------------------------------------------------- making */

static void make(target *t, const char *title, const char *name)
{
    *t = (target){.title = title, .name = name, .folder = keep("%s%s", "target-", name)};
    t->output = keep("target-%s/%s", name, name);
    for (int s = 0; s < TARGET_STATES; s++) {
        t->before[s] = keep("%s-%s", state_names[s], name);
        make_folder(t->before[s]);
    }
    make_folder(t->folder);
}

static const char *path_of(const target *t, enum target_state state, const char *name)
{
    static char paths[4][600];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof *paths, "%s/%s", t->before[state], name);
    return path;
}

/* A path below a folder of seeds or samples, which lives as long as the test. */
static const char *below(const char *folder, const char *name)
{
    static char paths[32][512];
    static size_t count;
    if (count == sizeof paths / sizeof *paths)
        abort();
    snprintf(paths[count], sizeof *paths, "%s/%s", folder, name);
    return paths[count++];
}

/* With data beside the model. The old output was made here, from weights above that size: so it has
 * data of its own name, the same as the new output or other. */
static void make_onnx(target *t, const char *title, const char *name, const char *old_threshold,
                      const char *command, const char *samples)
{
    static outcome done;
    make(t, title, name);
    t->source = below(samples, "onnx/external/model.onnx");
    t->threshold = "300"; /* some stay as they are, as data beside the model */
    tree_copy(t->source, path_of(t, IN_PLACE, t->name));
    tree_copy(below(samples, "onnx/external/model.data"), path_of(t, IN_PLACE, "model.data"));
    const invocation old = {.arguments = {command, "compress", t->source, "-o",
                                          path_of(t, OLD_OUTPUT, t->name), "--nbits", "1",
                                          "--weight-threshold", old_threshold, "--quiet"}};
    run_well(&old, &done);
}

static void make_plain(target *t, const char *title, const char *name, const char *source,
                       const char *old)
{
    make(t, title, name);
    t->source = source;
    t->threshold = "0";
    tree_copy(source, path_of(t, IN_PLACE, name));
    tree_copy(old, path_of(t, OLD_OUTPUT, name));
}

void targets_make(const char *command, const char *seeds, const char *samples,
                  target targets[TARGETS])
{
    make_plain(&targets[0], "Core ML package", "out.mlpackage",
               below(seeds, "dense-ios18.mlpackage"), below(seeds, "immediate-ios16.mlpackage"));
    make_onnx(&targets[1], "ONNX model over other data", "out.onnx", "200", command, samples);
    make_onnx(&targets[2], "ONNX model over the same data", "same.onnx", "300", command, samples);
    make_plain(&targets[3], "checkpoint folder", "out.checkpoint",
               below(samples, "safetensors/shards"), below(samples, "safetensors/one"));
    make_plain(&targets[4], "safetensors file", "out.safetensors",
               below(samples, "safetensors/file/single.safetensors"),
               below(samples, "safetensors/few/single.safetensors"));
}

/* ---------------------------------------------------------------- using */

invocation target_compress(const target *t, const char *command, enum target_state state)
{
    return (invocation){.arguments = {command, "compress",
                                      state == IN_PLACE ? t->output : t->source, "-o", t->output,
                                      "--nbits", "4", "--weight-threshold", t->threshold, "--quiet",
                                      "--threads", "1"}};
}

void target_reset(const target *t, enum target_state state)
{
    tree_remove(t->folder);
    tree_copy(t->before[state], t->folder);
}

/* The name of the data that the output refers to, "out.onnx.0123456789abcdef.data". */
static bool find_data(const target *t, char *name, size_t size)
{
    static char content[1 << 16];
    char begin[64];
    FILE *file = strstr(t->name, ".onnx") ? fopen(t->output, "rb") : NULL;
    size_t length = file ? fread(content, 1, sizeof content, file) : 0;
    if (file)
        fclose(file);
    snprintf(begin, sizeof begin, "%s.", t->name);
    const char *found = memmem(content, length, begin, strlen(begin));
    const size_t whole = strlen(begin) + 16 + strlen(".data");
    if (!found || (size_t)(content + length - found) < whole || whole >= size)
        return false;
    snprintf(name, size, "%.*s", (int)whole, found);
    return true;
}

uint64_t target_hash(const target *t)
{
    char name[128], path[512];
    uint64_t hash = tree_hash(t->output);
    if (!find_data(t, name, sizeof name))
        return hash;
    snprintf(path, sizeof path, "%s/%s", t->folder, name);
    return hash * 31 + tree_hash(path);
}

/* Whether the name is that of data of a model of the output's name. */
static bool is_data(const target *t, const char *name)
{
    return strncmp(name, t->name, strlen(t->name)) == 0 && strstr(name, ".data");
}

size_t target_strangers(const target *t, enum target_state state)
{
    char data[128] = "", path[512];
    struct dirent **entries;
    size_t strangers = 0;
    find_data(t, data, sizeof data);
    int count = scandir(t->folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        const bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        const bool there = access(path_of(t, state, name), F_OK) == 0 && !is_data(t, name);
        if (!dots && !there && strcmp(name, t->name) != 0 && strcmp(name, data) != 0) {
            snprintf(path, sizeof path, "%s/%s", t->folder, name);
            tree_remove(path);
            strangers++;
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return strangers;
}
