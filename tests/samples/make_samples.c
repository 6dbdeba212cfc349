/* Writes all samples into a folder, one folder for each below one for each kind:
 *
 *     make_samples FOLDER
 *
 * FOLDER/onnx/NAME/model.onnx, FOLDER/safetensors/NAME (single.safetensors, or a folder as the
 * Hugging Face libraries write it), FOLDER/config/NAME/config.yaml, FOLDER/npy/NAME/array.npy. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/format.h"
#include "samples.h"

static const char *root;

/* "ROOT/KIND/NAME", made if it is not there; with `file`, a path in it. The text lives until four
 * more calls. */
static const char *place(const char *kind, const char *name, const char *file)
{
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    const char *const parts[] = {kind, name};
    int n = snprintf(path, sizeof *paths, "%s", root);
    for (size_t i = 0; i < 2; i++) {
        n += snprintf(path + n, sizeof *paths - (size_t)n, "/%s", parts[i]);
        sample_need(n < 400 && (mkdir(path, 0777) == 0 || errno == EEXIST), path);
    }
    if (file)
        snprintf(path + n, sizeof *paths - (size_t)n, "/%s", file);
    return path;
}

/* ---------------------------------------------------------------- palettized */

static const struct {
    const char *name;
    const char *options[9]; /* names and values */
} methods[] = {
    {"1bit", {"nbits", "1"}},
    {"4bit", {"nbits", "4"}},
    {"8bit", {"nbits", "8", "mode", "uniform"}},
    {"unique", {"mode", "unique"}},
    {"grouped3", {"nbits", "3", "granularity", "per_grouped_channel", "group_size", "4"}},
    {"grouped6", {"nbits", "6", "granularity", "per_grouped_channel", "group_size", "2"}},
    {"vectors2", {"nbits", "2", "cluster_dim", "2"}},
};

static void compress(const char *from, const char *to, const char *const *options)
{
    pal_model *model = NULL;
    pal_options *set = NULL;
    sample_need(!pal_model_open(from, &model) && !pal_options_new(&set) &&
                    !pal_options_set(set, "weight_threshold", "0") &&
                    !pal_options_set(set, "embeddings", "palettize"),
                from);
    for (; *options; options += 2)
        sample_need(!pal_options_set(set, options[0], options[1]), options[0]);
    sample_need(!pal_compress(model, set, NULL, NULL, NULL) && !pal_model_save(model, to, NULL),
                to);
    pal_options_free(set);
    pal_model_free(model);
}

/* Whether vectors and tables of this form divide the weight. */
static bool fits(const sample_form *form, const pal_weight *w)
{
    for (size_t d = 0; d < w->rank; d++) {
        const uint64_t vector = d == form->vector_axis ? form->vector_size : 1;
        const uint64_t blocks = d < 4 && form->blocks[d] ? form->blocks[d] : 1;
        if (w->shape[d] % vector || w->shape[d] / vector % blocks)
            return false;
    }
    return w->rank > 1;
}

/* Palettes of forms that compressing does not make, in the place of every matrix. */
static void replace(const char *from, const char *to, const sample_form *form)
{
    pal_model *model = NULL;
    uint64_t seed = 5;
    sample_need(!pal_model_open(from, &model), from);
    for (size_t i = 0; i < pal_model_weight_count(model); i++) {
        const pal_weight *w = pal_model_weight(model, i);
        if (w->storage != PAL_STORAGE_DENSE || !model->format->lut_dtype_ok(w->dtype) ||
            !fits(form, w))
            continue;
        replacement r = {.weight = i};
        r.palette = sample_palette(form, w->dtype, w->rank, w->shape, &seed);
        sample_need(!model->format->replace(model, &r, 1), w->name);
    }
    sample_need(!pal_model_save(model, to, NULL), to);
    pal_model_free(model);
}

static const struct {
    const char *name;
    sample_form form;
} forms[] = {
    {"integers", {4, {2}, 1, 0, PAL_INT8, true, false, 0}},
    {"scaled", {3, {1}, 1, 0, PAL_DTYPE_OTHER, false, true, 0}},
    {"everything", {2, {1, 2}, 2, 0, PAL_UINT8, true, true, 5}},
};

/* Everything that can become of the sample `base`, under names that begin with its own. */
static void palettize(const char *kind, const char *base, const char *file)
{
    char name[64];
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        snprintf(name, sizeof name, "%s-%s", base, methods[i].name);
        compress(place(kind, base, file), place(kind, name, file), methods[i].options);
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(name, sizeof name, "%s-%s", base, forms[i].name);
        replace(place(kind, base, file), place(kind, name, file), &forms[i].form);
    }
}

/* ---------------------------------------------------------------- the kinds */

static void make_models(void)
{
    static const struct {
        const char *name;
        sample_model model;
        bool palettized;
    } models[] = {
        {"raw", {17, 8, PAL_FLOAT32, STORED_RAW, false, 0, NULL}, true},
        {"few", {17, 8, PAL_FLOAT32, STORED_RAW, false, 7, NULL}, false},
        {"floats", {13, 7, PAL_FLOAT32, STORED_FLOATS, true, 0, NULL}, false},
        {"half", {11, 5, PAL_FLOAT16, STORED_RAW, false, 0, NULL}, false},
        {"inputs", {11, 3, PAL_FLOAT32, STORED_RAW, false, 0, NULL}, true},
        {"constants", {13, 8, PAL_BFLOAT16, STORED_CONSTANTS, true, 0, NULL}, true},
        {"external", {21, 10, PAL_FLOAT16, STORED_EXTERNAL, true, 0, NULL}, true},
        {"old", {10, 4, PAL_FLOAT32, STORED_RAW, false, 0, NULL}, false},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        sample_onnx(place("onnx", models[i].name, NULL), &models[i].model);
        if (models[i].palettized)
            palettize("onnx", models[i].name, "model.onnx");
    }
}

static const sample_tensor tensors[] = {
    {"model.embed_tokens.weight", PAL_BFLOAT16, 24, 8},
    {"layers.0.q_proj.weight", PAL_BFLOAT16, 16, 12},
    {"layers.0.k_proj.weight", PAL_FLOAT16, 6, 20},
    {"layers.0.up_proj.weight", PAL_FLOAT32, 10, 4},
    {"layers.0.input_layernorm.weight", PAL_BFLOAT16, 8, 0},
    {"layers.0.double.weight", PAL_FLOAT64, 8, 8},
    {"layers.0.small.weight", PAL_FLOAT8E4M3FN, 8, 8},
    {"position_ids", PAL_INT64, 5, 0},
    {"lm_head.weight", PAL_BFLOAT16, 24, 8},
};

enum { TENSORS = sizeof tensors / sizeof *tensors, SPLIT = 3 };

static void make_checkpoints(void)
{
    static const char *const files[] = {"a-00001-of-00002.safetensors",
                                        "a-00002-of-00002.safetensors"};
    const char single[] = "single.safetensors";
    sample_checkpoint(place("safetensors", "file", single), tensors, TENSORS, 0, 8, 1);
    sample_checkpoint(place("safetensors", "few", single), tensors, TENSORS, 7, 8, 2);
    sample_checkpoint(place("safetensors", "odd", single), tensors, TENSORS, 0, 3, 3);
    sample_checkpoint(place("safetensors", "one", "model.safetensors"), tensors, TENSORS, 0, 8, 4);
    sample_write(place("safetensors", "one", "config.json"), "{}\n", 3);
    uint64_t total =
        sample_checkpoint(place("safetensors", "shards", files[0]), tensors, SPLIT, 0, 8, 5);
    total += sample_checkpoint(place("safetensors", "shards", files[1]), tensors + SPLIT,
                               TENSORS - SPLIT, 0, 8, 6);
    sample_index(place("safetensors", "shards", "model.safetensors.index.json"), tensors, TENSORS,
                 SPLIT, files, total);
    sample_write(place("safetensors", "shards", "config.json"), "{}\n", 3);
    palettize("safetensors", "file", single);
    palettize("safetensors", "shards", NULL);
}

static void make_configs(void)
{
    static const struct {
        const char *name, *text;
    } texts[] = {
        {"flow", "{global_config: {nbits: 4, mode: kmeans}, op_type_configs: {gather: null}}\n"},
        {"block", "config_type: OpPalettizerConfig\n"
                  "global_config:\n"
                  "  mode: kmeans\n"
                  "  nbits: 4\n"
                  "  num_kmeans_workers: 4\n"
                  "op_type_configs:\n"
                  "  linear: {nbits: 8, group_size: 16, granularity: per_grouped_channel}\n"
                  "  gather: null\n"
                  "op_name_configs:\n"
                  "  \"layers\\\\.[0-9]+\\\\..*\": {nbits: 2, cluster_dim: 2}\n"
                  "  lm_head.weight: {mode: unique, nbits: ~}\n"
                  "  'layers.(0|1).(q|k)_proj.weight': {nbits: 1, weight_threshold: 0}\n"},
        {"names", "---\n"
                  "# every weight by its name\n"
                  "op_name_configs:\n"
                  "  ? layers.0.q_proj.weight\n"
                  "  : nbits: 6\n"
                  "    granularity: \"per_grouped_channel\"\n"
                  "    group_size: 3\n"
                  "    channel_axis: -1\n"
                  "  layers.[0-9]{1,3}.up_proj.weight: !!map {nbits: !!int \"3\"}\n"
                  "  model.embed_tokens.weight: {nbits: 4, embeddings: palettize}\n"
                  "...\n"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        sample_write(place("config", texts[i].name, "config.yaml"), texts[i].text,
                     strlen(texts[i].text));
}

static void make_arrays(void)
{
    static const struct {
        const char *name, *header;
        unsigned version;
        size_t bytes;
    } arrays[] = {
        {"matrix", "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 6), }", 1, 96},
        {"vector", "{\"shape\": (8,), \"fortran_order\": True, \"descr\": \"<i8\"}", 2, 64},
        {"number", "{'descr': '|u1', 'fortran_order': False, 'shape': ()}", 3, 1},
        {"half", "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1, 3, 2), }", 1, 24},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        buffer file = {0};
        uint64_t seed = i;
        const size_t start = arrays[i].version == 1 ? 10 : 12;
        const size_t length = (start + strlen(arrays[i].header) + 64) / 64 * 64 - start;
        const unsigned char size[4] = {(unsigned char)length, (unsigned char)(length >> 8)};
        buffer_add(&file, "\x93NUMPY", 6);
        buffer_add(&file, &(unsigned char[]){(unsigned char)arrays[i].version, 0}, 2);
        buffer_add(&file, size, start - 8);
        buffer_print(&file, "%-*s\n", (int)length - 1, arrays[i].header);
        sample_values(&file, PAL_UINT8, arrays[i].bytes, 0, &seed);
        sample_write(place("npy", arrays[i].name, "array.npy"), file.data, file.size);
        buffer_free(&file);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_samples FOLDER\n");
        return 2;
    }
    root = argv[1];
    sample_need(mkdir(root, 0777) == 0 || errno == EEXIST, root);
    make_models();
    make_checkpoints();
    make_configs();
    make_arrays();
    return 0;
}
