/* What the files of the mutation fuzzer share.
 *
 *   fuzz_packages.c  arguments, the loop, the summary
 *   seeds.c          packages in memory, and writing them into the scratch folder
 *   mutate.c         what is changed in a package
 *   wire.c           changes that know the wire format of protobuf
 *   exercise.c       the calls to the library, and what must hold after each
 *   limits.c         time, memory and crashes */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---------------------------------------------------------------- random numbers */

typedef struct rng {
    uint64_t state;
} rng;

/* splitmix64 */
static inline uint64_t rng_next(rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
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

enum file_kind { FILE_MANIFEST, FILE_MODEL, FILE_WEIGHTS, FILE_KINDS };

typedef struct seed_file {
    char *relative; /* path inside the package */
    char *path;     /* in the scratch folder */
    enum file_kind kind;
    bytes original, mutated;
    bool changed, removed; /* in this iteration */
} seed_file;

typedef struct seed {
    char *name, *path; /* path: in the scratch folder */
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

/* Adds a package, or all packages of a folder. Packages above LARGEST_SEED are left out. */
bool corpus_add(corpus *corpus, const char *path, const char *scratch);
void corpus_sort(corpus *corpus);
void corpus_free(corpus *corpus);
const seed_file *seed_file_of(const seed *seed, enum file_kind kind);
/* Writes the changed files; afterwards seed_restore brings the old ones back. */
bool seed_write(seed *seed);
bool seed_restore(seed *seed);
/* Bytes of the package as it is in this iteration. */
size_t seed_size(const seed *seed);
bool copy_tree(const char *from, const char *to);
void remove_tree(const char *path);
char *join(const char *directory, const char *name);

/* ---------------------------------------------------------------- mutate.c and wire.c */

/* Changes one or several files of the seed in memory. */
void mutate_seed(rng *r, const corpus *corpus, seed *seed);
/* One change to a protobuf message; `donor` is another one to take pieces from. */
void mutate_wire(rng *r, bytes *message, const bytes *donor);
/* One change that knows nothing of the format. */
void mutate_bytes(rng *r, bytes *b, const bytes *donor);

/* ---------------------------------------------------------------- limits.c */

/* From here on a crash or a hang says which iteration it was and where the input is. */
void limits_install(unsigned seconds);
void limits_begin(uint64_t seed, uint64_t iteration, const char *input);
/* Most bytes that were allocated at a time since limits_begin(); 0 where that is not known. */
size_t limits_end(void);
bool limits_count_memory(void);

/* ---------------------------------------------------------------- exercise.c */

typedef struct counts {
    uint64_t opened, rejected, compressed, decompressed, saved, cancelled;
} counts;

/* Calls the library with the package at `path`; `out` is a folder for what it writes. Returns NULL,
 * or what went wrong. */
const char *exercise(rng *r, const char *path, const char *out, counts *counts);

#endif
