/* What the fuzzer changes in a package: single bytes, pieces, and the fields of the weight file and
 * the manifest. */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

uint64_t rng_interesting(rng *r, uint64_t scale)
{
    static const uint64_t fixed[] = {
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        15,
        16,
        31,
        32,
        63,
        64,
        127,
        128,
        255,
        256,
        4096,
        65535,
        65536,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x100000000,
        0x7fffffffffffffff,
        0x8000000000000000,
        0x8000000000000001,
        0xffffffffffffffff,
        0xfffffffffffffff8,
        0xffffffffffffffc0,
        0x4000000000000000,
        0x2000000000000000,
        0xdeadbeef,
    };
    switch (rng_below(r, 4)) {
    case 0: return fixed[rng_below(r, sizeof fixed / sizeof *fixed)];
    case 1: return scale + rng_below(r, 129) - 64;
    case 2: return rng_below(r, scale + 1) / 64 * 64;
    default: return UINT64_C(1) << rng_below(r, 64);
    }
}

/* ---------------------------------------------------------------- any bytes */

static void overwrite(rng *r, bytes *b)
{
    static const size_t widths[] = {1, 2, 4, 8};
    size_t width = widths[rng_below(r, 4)];
    uint64_t value = rng_interesting(r, b->size);
    if (b->size >= width)
        memcpy(b->data + rng_below(r, b->size - width + 1), &value, width);
}

static size_t piece_size(rng *r, size_t most)
{
    size_t small = rng_chance(r, 70) ? 64 : 4096;
    return 1 + rng_below(r, most < small ? most : small);
}

static void move_piece(rng *r, bytes *b, const bytes *from, bool overwriting)
{
    if (from->size == 0)
        return;
    bytes piece = {0};
    size_t n = piece_size(r, from->size);
    bytes_replace(&piece, 0, 0, from->data + rng_below(r, from->size - n + 1), n);
    size_t at = rng_below(r, b->size + 1);
    size_t removed = !overwriting ? 0 : b->size - at < n ? b->size - at : n;
    bytes_replace(b, at, removed, piece.data, n);
    free(piece.data);
}

static void insert_noise(rng *r, bytes *b)
{
    unsigned char noise[64];
    size_t n = 1 + rng_below(r, sizeof noise);
    for (size_t i = 0; i < n; i++)
        noise[i] = (unsigned char)rng_next(r);
    bytes_replace(b, rng_below(r, b->size + 1), 0, noise, n);
}

void mutate_bytes(rng *r, bytes *b, const bytes *donor)
{
    if (b->size == 0) {
        insert_noise(r, b);
        return;
    }
    switch (rng_below(r, 9)) {
    case 0:
    case 1: b->data[rng_below(r, b->size)] ^= (unsigned char)(1u << rng_below(r, 8)); break;
    case 2:
    case 3: overwrite(r, b); break;
    case 4:
    case 5: {
        size_t n = piece_size(r, b->size);
        bytes_replace(b, rng_below(r, b->size - n + 1), n, NULL, 0);
        break;
    }
    case 6: insert_noise(r, b); break;
    case 7: move_piece(r, b, donor && donor->size ? donor : b, rng_chance(r, 50)); break;
    default:
        if (rng_chance(r, 30)) /* cut short */
            b->size = rng_below(r, b->size);
        else
            b->data[rng_below(r, b->size)] = (unsigned char)rng_next(r);
        break;
    }
}

/* ---------------------------------------------------------------- weight files */

/* A field of the 64-byte header or of the metadata of a blob. */
static void mutate_record(rng *r, bytes *b)
{
    static const unsigned char sentinel[4] = {0xef, 0xbe, 0xad, 0xde};
    static const struct {
        size_t at, size;
    } fields[] = {{0, 4}, {4, 4}, {8, 8}, {16, 8}, {24, 8}, {32, 8}};
    size_t records[256], count = 0;
    for (size_t at = 64; at + 64 <= b->size && count < 256; at += 64)
        if (memcmp(b->data + at, sentinel, sizeof sentinel) == 0)
            records[count++] = at;
    size_t record = count && rng_chance(r, 90) ? records[rng_below(r, count)] : 0;
    size_t field = rng_below(r, 6);
    uint64_t value = 0;
    if (record + 64 > b->size)
        return;
    unsigned char *place = b->data + record + fields[field].at;
    memcpy(&value, place, fields[field].size);
    if (record && fields[field].at == 4)
        value = rng_below(r, 20); /* the type */
    else if (rng_chance(r, 40))
        value += 8 * (rng_below(r, 5) - 2);
    else
        value = rng_interesting(r, rng_chance(r, 50) ? value : b->size);
    memcpy(place, &value, fields[field].size);
}

/* Values that are not finite, or all the same, in the data. */
static void mutate_values(rng *r, bytes *b)
{
    static const uint32_t values[] = {0x7c00,     0xfc00,     0x7e00,     0x7bff,
                                      0x8000,     0x0001,     0x7c007c00, 0x7f800000,
                                      0xff800000, 0x7fc00000, 0x7f7fffff, 0x00000001};
    uint32_t value = values[rng_below(r, sizeof values / sizeof *values)];
    size_t width = rng_chance(r, 50) ? 2 : 4;
    if (b->size < 132)
        return;
    size_t at = 128 + rng_below(r, (b->size - 128) / 4) * 4, times = 1;
    if (rng_chance(r, 40))
        times = rng_below(r, (b->size - at) / width) + 1;
    for (size_t i = 0; i < times && at + width <= b->size; i++, at += width)
        memcpy(b->data + at, &value, width);
}

static void mutate_weights(rng *r, bytes *b, const bytes *donor)
{
    switch (rng_below(r, 8)) {
    case 0: mutate_bytes(r, b, donor); break;
    case 1: b->size = rng_below(r, b->size + 1); break;
    case 2:
    case 3: mutate_values(r, b); break;
    default: mutate_record(r, b); break;
    }
}

/* ---------------------------------------------------------------- manifests */

static void mutate_manifest(rng *r, bytes *b, const bytes *donor)
{
    static const char *const paths[] = {
        "",
        "/",
        "..",
        "../model.mlmodel",
        "com.apple.CoreML/../../x",
        "/etc/hostname",
        "a\\nb",
        "com.apple.CoreML",
        "com.apple.CoreML/weights/weight.bin",
        "com.apple.CoreML//model.mlmodel",
        "com.apple.CoreML/model.mlmodel/",
        "./com.apple.CoreML/model.mlmodel",
        "\\u0000",
        "\\ud800",
        "com.apple.CoreML/model.mlmodel",
    };
    static const char old[] = "com.apple.CoreML/model.mlmodel";
    unsigned char *found = memmem(b->data, b->size, old, sizeof old - 1);
    switch (rng_below(r, 10)) {
    case 0:
    case 1:
        if (found) {
            const char *path = paths[rng_below(r, sizeof paths / sizeof *paths)];
            bytes_replace(b, (size_t)(found - b->data), sizeof old - 1, path, strlen(path));
        }
        break;
    case 2: { /* deep, or long */
        enum { LONGEST = 10000 };
        static char text[LONGEST];
        memset(text, "[{\"a/"[rng_below(r, 5)], sizeof text);
        bytes_replace(b, rng_below(r, b->size + 1), 0, text, rng_below(r, LONGEST));
        break;
    }
    default: mutate_bytes(r, b, donor); break;
    }
}

/* ---------------------------------------------------------------- packages */

static void mutate_file(rng *r, const corpus *corpus, seed_file *file)
{
    const seed *other = &corpus->seeds[rng_below(r, corpus->small ? corpus->small : corpus->count)];
    const seed_file *donor_file = seed_file_of(other, file->kind);
    const bytes *donor = donor_file ? &donor_file->original : NULL;
    if (!file->changed)
        bytes_copy(&file->mutated, &file->original);
    file->changed = true;
    if (rng_chance(r, 1)) { /* all of another one */
        if (donor)
            bytes_copy(&file->mutated, donor);
        return;
    }
    switch (file->kind) {
    case FILE_MANIFEST: mutate_manifest(r, &file->mutated, donor); break;
    case FILE_MODEL:
        if (rng_chance(r, 90))
            mutate_wire(r, &file->mutated, donor);
        else
            mutate_bytes(r, &file->mutated, donor);
        break;
    default: mutate_weights(r, &file->mutated, donor); break;
    }
}

void mutate_seed(rng *r, const corpus *corpus, seed *seed)
{
    static const unsigned char often[] = {1, 1, 1, 1, 2, 2, 3, 5, 10};
    size_t changes = often[rng_below(r, sizeof often)];
    for (size_t i = 0; i < changes; i++) {
        const size_t choice = rng_below(r, 100);
        enum file_kind kind = choice < 62 ? FILE_MODEL : choice < 96 ? FILE_WEIGHTS : FILE_MANIFEST;
        seed_file *file = (seed_file *)seed_file_of(seed, kind);
        if (file)
            mutate_file(r, corpus, file);
    }
    if (rng_chance(r, 1) && seed->file_count) {
        seed_file *file = &seed->files[rng_below(r, seed->file_count)];
        file->removed = true;
    }
}
