/* What the files of the mutation fuzzer share.
 *
 *   fuzz.c      arguments, the loop, the summary
 *   seeds.c     inputs in memory, and writing them into the scratch folder
 *   mutate.c    what is changed in an input, by the kind of file
 *   words.c     words that mean something in each kind of file
 *   wire.c      changes that know the wire format of protobuf
 *   text.c      changes that know words, numbers and brackets: JSON, YAML, NumPy's headers
 *   exercise.c  the calls to the library with a model, and what must hold after each
 *   running.c   the same for sessions
 *   readers.c   the same for configurations and arrays
 *   limits.c    time, memory and crashes
 *   mapped.c    files as memory whose end is watched */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "palettize.h"
#include "random.h"

/* ---------------------------------------------------------------- random numbers */

typedef struct rng {
    uint64_t state;
} rng;

static inline uint64_t rng_next(rng *r)
{
    return random_bits(&r->state);
}

/* 0 .. n - 1; 0 for n = 0. */
static inline size_t rng_below(rng *r, size_t n)
{
    return n ? (size_t)(rng_next(r) % n) : 0;
}

static inline bool rng_chance(rng *r, unsigned percent)
{
    return rng_below(r, 100) < percent;
}

/* A number that tends to lie at the edge of something; `scale` is a size in the neighbourhood. */
uint64_t rng_interesting(rng *r, uint64_t scale);

/* ---------------------------------------------------------------- bytes */

typedef struct bytes {
    unsigned char *data;
    size_t size, capacity;
} bytes;

/* Replaces `removed` bytes at `at` by `n` others, which may not lie in `b`. Sizes are capped at
 * MAX_FILE: beyond that nothing happens. */
enum { MAX_FILE = 16 << 20 };
void bytes_replace(bytes *b, size_t at, size_t removed, const void *with, size_t n);
void bytes_copy(bytes *to, const bytes *from);

/* ---------------------------------------------------------------- seeds.c */

enum { MAX_SEED_FILES = 8 };

enum file_kind {
    FILE_MANIFEST,    /* Manifest.json of a package */
    FILE_MLMODEL,     /* .mlmodel */
    FILE_WEIGHTS,     /* .bin of a package */
    FILE_ONNX,        /* .onnx */
    FILE_DATA,        /* .data of an ONNX model */
    FILE_SAFETENSORS, /* .safetensors */
    FILE_JSON,        /* .json: the index of a checkpoint, and what else is in its folder */
    FILE_CONFIG,      /* .yaml */
    FILE_ARRAY,       /* .npy */
    FILE_KINDS
};

typedef struct seed_file {
    char *relative; /* path inside the seed's folder */
    char *path;     /* in the scratch folder */
    enum file_kind kind;
    bytes original, mutated;
    bool changed, removed; /* in this iteration */
} seed_file;

/* An input: a folder, of which the library is given all or one file. */
typedef struct seed {
    char *name;
    char *folder, *path; /* in the scratch folder; path: what the library is given */
    seed_file files[MAX_SEED_FILES];
    size_t file_count;
    size_t bytes;
} seed;

typedef struct corpus {
    seed *seeds;
    size_t count;
    size_t small; /* the first ones; large ones follow */
} corpus;

enum { SMALL_SEED = 64 << 10, LARGEST_SEED = 2 << 20 };

/* Adds the input at `path` (a file; a package; a folder that holds a checkpoint, model.onnx or the
 * like), or else all ONNX models and inputs that are folders in that folder. What is above
 * LARGEST_SEED is left out. */
bool corpus_add(corpus *corpus, const char *path, const char *scratch);
void corpus_sort(corpus *corpus);
void corpus_free(corpus *corpus);
/* Writes the changed files; afterwards seed_restore brings the old ones back. */
bool seed_write(seed *seed);
bool seed_restore(seed *seed);
/* Bytes of the input as it is in this iteration. */
size_t seed_size(const seed *seed);
bool copy_tree(const char *from, const char *to);
void remove_tree(const char *path);
char *join(const char *directory, const char *name);

/* ---------------------------------------------------------------- mutate.c, wire.c, text.c */

typedef struct word_list {
    const char *const *words;
    size_t count;
} word_list;

extern const word_list words_of[FILE_KINDS]; /* words.c */

/* Changes one or several files of the seed in memory. */
void mutate_seed(rng *r, const corpus *corpus, seed *seed);
/* One change to a protobuf message; `donor` is another one to take pieces from. */
void mutate_wire(rng *r, bytes *message, const bytes *donor, const word_list *words);
/* One change to a text. */
void mutate_text(rng *r, bytes *text, const bytes *donor, const word_list *words);
/* One change that knows nothing of the format. */
void mutate_bytes(rng *r, bytes *b, const bytes *donor);

/* ---------------------------------------------------------------- limits.c */

/* From here on a crash or a hang says which iteration it was and where the input is. */
void limits_install(unsigned seconds);
void limits_begin(uint64_t seed, uint64_t iteration, const char *input);
/* Most bytes that were allocated at a time since limits_begin(); 0 where that is not known. */
size_t limits_end(void);
bool limits_count_memory(void);

/* Memory that is none of malloc's counts as well. */
void limits_count(ptrdiff_t bytes);
/* What this thread allocates and frees meanwhile does not count. */
void limits_ignore(bool ignore);

/* ---------------------------------------------------------------- exercise.c, running.c and
 * readers.c */

typedef struct counts {
    uint64_t opened, rejected, compressed, decompressed, saved, cancelled, ran;
} counts;

/* Calls the library with what is at `path`; `out` is a folder for what it writes. Returns NULL, or
 * what went wrong. */
typedef const char *(*exercise)(rng *r, const char *path, const char *out, counts *counts);
const char *exercise_model(rng *r, const char *path, const char *out, counts *counts);
const char *exercise_session(rng *r, const char *path, const char *out, counts *counts);
const char *exercise_config(rng *r, const char *path, const char *out, counts *counts);
const char *exercise_array(rng *r, const char *path, const char *out, counts *counts);

/* What went wrong, in words. */
const char *say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A failure must be a known status with one line of text that names a file of the input or the
 * output. */
const char *check_failure(const char *call, pal_status status, const char *path,
                          const char *output);

#endif
