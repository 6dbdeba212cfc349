/* safetensors checkpoints: what the files of this folder share.
 *
 *   checkpoint.c  one file, or a folder of files with an index: open, close
 *   header.c      the header of one file: tensors, their types and places
 *   names.c       what a tensor's name says about its use
 *   palettes.c    the tensors that together hold a palette; replacing weights
 *   save.c        writing the files, the index, and what else is in the folder
 *
 * The format is described at https://github.com/huggingface/safetensors; the form of palettized
 * tensors is our own and is specified in docs/safetensors.md. */
#ifndef PAL_FORMAT_SAFETENSORS_SAFETENSORS_H
#define PAL_FORMAT_SAFETENSORS_SAFETENSORS_H

#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "format/format.h"
#include "format/weights.h"

/* ---------------------------------------------------------------- header.c */

/* As in the reference implementation. */
#define MAX_HEADER UINT64_C(100000000)

typedef struct element_type {
    const char *name; /* "BF16" */
    unsigned bits;
    pal_dtype dtype;
} element_type;

const element_type *element_type_of(pal_dtype dtype);

enum { MAX_STORED_RANK = PAL_MAX_RANK + 2 }; /* that of a look-up table */

/* One tensor as it is in a file. */
typedef struct stored {
    const char *name;
    json_t *description;      /* in the header */
    const element_type *type; /* NULL: one that we do not know */
    size_t rank;
    uint64_t shape[MAX_STORED_RANK]; /* of higher ranks, only the first dimensions */
    uint64_t elements;
    const unsigned char *data;
    uint64_t bytes;
} stored;

typedef struct shard {
    char *name; /* relative to the folder; NULL for a single file */
    char *path;
    file_map map;
    json_t *header;
    json_t *palettes; /* descriptions of the palettized tensors by name, or NULL */
    stored *tensors;  /* in the order of the data; with palettes, in that of the header */
    size_t tensor_count;
    json_t *places; /* name -> which of the tensors */
    size_t first_entry, entry_count;
} shard;

/* Reads and checks the header of the mapped file. */
pal_status shard_read(shard *shard);
/* Parses JSON, of which `what` in the file `path` consists. */
pal_status json_parse(const char *path, const char *what, const void *text, size_t size,
                      json_t **out);
/* Reads a dimension or an offset. */
bool json_to_size(const json_t *json, uint64_t *out);
/* A list of dimensions; NULL when out of memory. */
json_t *json_from_shape(const uint64_t *shape, size_t rank);
/* An object with the same members, or one without any for NULL; NULL when out of memory.
 * (json_copy() gives what it could copy before it ran out.) */
json_t *json_copy_members(json_t *object);
/* As compact text; NULL when out of memory. (json_dumps() leaves out what it has no room for.) */
char *json_text(const json_t *json);

/* ---------------------------------------------------------------- names.c */

/* Whether the tensor is an embedding, and why it is never palettized (or NULL), by its name. */
void name_tells(const char *name, bool *embedding, const char **locked);

/* ---------------------------------------------------------------- the state of a checkpoint */

/* A tensor of the checkpoint, whatever form it is stored in. */
typedef struct entry {
    const char *name;
    size_t shard;
    size_t weight;        /* SIZE_MAX if it is not listed as one */
    const stored *tensor; /* exactly one of the three is set: as it is in the file, */
    palette *palette;     /* palettized, in the file or by us, */
    void *dense;          /* or other dense values, in scratch memory */
} entry;

typedef struct safetensors {
    const char *path; /* of the model */
    bool folder;
    char *index_path; /* NULL if there is no index */
    json_t *index;
    shard *shards;
    size_t shard_count;
    entry *entries; /* those of the first shard, in its order, then those of the second, ... */
    size_t entry_count, entry_capacity;
    json_t *names; /* of all stored tensors -> the number of the shard */
    size_t *entry_of_weight;
    size_t weight_capacity, entry_of_weight_capacity;
    holdings held;
    mem_arena texts;
} safetensors;

/* The file that holds an index of a checkpoint folder, or its only file. */
extern const char INDEX_NAME[], SINGLE_NAME[];
bool safetensors_is_folder(const char *path);

/* The tensor's data, aligned for its type: in place, or a copy where the file has it elsewhere.
 * NULL when out of memory. */
const void *safetensors_aligned(safetensors *state, const shard *shard, const stored *tensor);
/* Lets the pages of a file go that hold this. Does nothing for other memory. */
void safetensors_discard(const shard *shard, const void *data, uint64_t bytes);

/* ---------------------------------------------------------------- palettes.c */

/* A tensor takes the place of NAME under NAME plus one of these. */
enum {
    PART_INDICES,
    PART_LUT,
    PART_LUT_SCALE,
    PART_LUT_OFFSET,
    PART_SCALE,
    PART_OUTLIER_INDICES,
    PART_OUTLIER_VALUES,
    PARTS
};
extern const char *const PART_SUFFIX[PARTS];
extern const char VERSION_KEY[], PALETTES_KEY[];
/* With outliers the version is the second: a reader of the first would not look for them. */
extern const char PALETTE_VERSION[], OUTLIER_VERSION[];

/* "NAME.palette_lut" in fresh memory; NULL when out of memory. */
char *safetensors_part_name(const char *name, int part);

/* Reads the palette of `name` in this shard, described by `description`. It belongs to the state.
 */
pal_status safetensors_read_parts(safetensors *state, const shard *shard, const char *name,
                                  const json_t *description, palette **out);
/* Describes a palette for the metadata; NULL when out of memory. */
json_t *safetensors_describe(const palette *palette);

pal_status safetensors_can_express(const pal_model *model, size_t weight, const palette_form *form);
pal_status safetensors_read_palette(const pal_model *model, size_t weight, palette **out);
pal_status safetensors_replace(pal_model *model, const replacement *list, size_t count);
/* Fills what depends on the form in which a weight is stored. */
void safetensors_update_info(pal_model *model, size_t weight);

/* ---------------------------------------------------------------- save.c */

pal_status safetensors_check_destination(const pal_model *model, const char *path);
pal_status safetensors_save(pal_model *model, const char *path, uint64_t *bytes);

#endif
