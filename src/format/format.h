/* What every kind of model file offers: a list of weights, and a way to replace one.
 *
 * A format keeps the original file and edits it. It says where each weight's values lie (in the
 * mapped file, never a copy), can put a palette or other dense values in a weight's place, and
 * writes the file again with everything that it does not understand unchanged. It needs no
 * knowledge of what the operators compute. */
#ifndef PAL_FORMAT_FORMAT_H
#define PAL_FORMAT_FORMAT_H

#include "base/status.h"
#include "palette/palette.h"

/* An operator that uses a weight. */
typedef struct weight_use {
    const char *op;   /* its type */
    const char *name; /* "" if it has none */
} weight_use;

/* The values of a pruned weight. */
typedef struct pruned_values {
    const uint8_t *mask; /* a bit for each element, packed like indices; 0: the element is 0 */
    const void *values;  /* the others in their order, row-major */
    uint64_t count;
} pruned_values;

typedef struct model_weight {
    pal_weight info;
    const void *dense;    /* its values if stored dense in a type of whole bytes, else NULL */
    pruned_values pruned; /* the same if stored sparse; mask NULL if not, or in an unknown form */
    weight_use *uses;     /* info.consumers of them */
    uint64_t op_groups;   /* of a grouped convolution that uses it; 0 or 1: none */
    const char *locked;   /* why this format cannot replace it, or NULL */
    bool embedding; /* a table of which an operator takes rows, as far as the format can tell */
    size_t same_as; /* the first weight that has the very same stored values; itself if none */
} model_weight;

/* New content for a weight: exactly one of the two is set. */
typedef struct replacement {
    size_t weight;
    palette *palette; /* several weights may share one */
    void *dense;      /* values in the weight's type, row-major, in scratch memory */
} replacement;

struct pal_model {
    const struct format *format;
    char *path;
    uint64_t bytes;
    model_weight *weights;
    size_t weight_count;
    void *state;          /* the format's own */
    char description[64]; /* filled by open() */
    char text[160];       /* what pal_model_skip_reason() returned last */
};

typedef struct format {
    const char *name;
    /* Whether the path holds this kind of file; a cheap look. */
    bool (*probe)(const char *path);
    /* Reads the file at model->path: fills weights and state. On failure close() is called. */
    pal_status (*open)(pal_model *model);
    void (*close)(pal_model *model);
    /* Whether a look-up table can hold this type. */
    bool (*lut_dtype_ok)(pal_dtype dtype);
    /* Whether this file's version can express such a palette of the weight. Otherwise
     * PAL_ERROR_UNSUPPORTED, naming the option and the version that it needs. */
    pal_status (*can_express)(const pal_model *model, size_t weight, const palette_form *form);
    /* The palette of a weight whose storage is PAL_STORAGE_PALETTIZED. Its LUT and indices may
     * point into the file. */
    pal_status (*read_palette)(const pal_model *model, size_t weight, palette **out);
    /* Replaces all the listed weights or, on failure, none. On success the palettes and dense
     * buffers belong to the model, and infos are up to date. */
    pal_status (*replace)(pal_model *model, const replacement *list, size_t count);
    /* A hint that the stored values of a weight are not needed soon. */
    void (*release)(const pal_model *model, size_t weight);
    /* Refuses a path that save() would not write to; leaves nothing there. */
    pal_status (*check_destination)(const pal_model *model, const char *path);
    pal_status (*save)(pal_model *model, const char *path, uint64_t *bytes);
} format;

extern const format format_coreml;
extern const format format_onnx;
extern const format format_safetensors;

#endif
