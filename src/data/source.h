/* Where a dataset's samples come from: one file for each kind, behind this interface. Samples are
 * numbered in their sorted order; split and class were dealt with when the source was opened, order
 * and limit are the dataset's business. */
#ifndef PAL_DATA_SOURCE_H
#define PAL_DATA_SOURCE_H

#include "data/dataset.h"
#include "data/image.h"

typedef struct source source;

/* All are thread-safe but close. Messages name the sample. */
typedef struct source_kind {
    /* Images have this ... */
    pal_status (*image)(const source *source, uint64_t i, image *out);
    /* ... and arrays these two: fill the free extents of an input, and read its values. */
    pal_status (*shape)(const source *source, data_input *input);
    pal_status (*values)(const source *source, uint64_t i, const data_input *input, void *out);
    void (*name)(const source *source, uint64_t i, char *out, size_t size);
    void (*close)(source *source);
} source_kind;

struct source {
    const source_kind *kind;
    uint64_t count;
    int64_t *labels;    /* NULL: none */
    char **class_names; /* NULL: none, or classes are only numbers */
    size_t class_count;
    size_t channels; /* of images, where the model takes any number */
};

pal_status image_folder_open(const char *path, const char *split, source **out);
pal_status image_tar_open(const char *path, const char *split, source **out);
pal_status npz_open(const char *path, const char *split, source **out);
/* A file, or a folder that holds one for each split. */
pal_status idx_open(const char *path, const char *split, source **out);

pal_status image_file_open(const char *path, const char *split, source **out);

/* Whether a file's name is that of IDX images, and whether a folder has such files. */
bool is_idx_name(const char *path);
pal_status is_idx_folder(const char *path, bool *out);

/* "<name of sample i>: " before the message. */
pal_status source_fail(const source *source, uint64_t i, pal_status status);
/* Takes labels over from an array of integers, and counts the classes. */
pal_status source_set_label(source *source, uint64_t i, int64_t label);
/* Frees what `source` owns, and itself. */
void source_free(source *source);

#endif
