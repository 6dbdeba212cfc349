/* What the fuzzer changes in an input: single bytes, pieces, and what it knows of each kind of
 * file.
 */
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

/* Values that are not finite, or all the same, in the data from `begin` on. */
static void mutate_values(rng *r, bytes *b, size_t begin)
{
    static const uint32_t values[] = {0x7c00,     0xfc00,     0x7e00,     0x7bff,
                                      0x8000,     0x0001,     0x7c007c00, 0x7f800000,
                                      0xff800000, 0x7fc00000, 0x7f7fffff, 0x00000001};
    uint32_t value = values[rng_below(r, sizeof values / sizeof *values)];
    size_t width = rng_chance(r, 50) ? 2 : 4;
    if (b->size < begin + 4)
        return;
    size_t at = begin + rng_below(r, (b->size - begin) / 4) * 4, times = 1;
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
    case 3: mutate_values(r, b, 128); break;
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

/* ---------------------------------------------------------------- files with a text before data */

static uint64_t read_little(const unsigned char *from, size_t size)
{
    uint64_t value = 0;
    while (size-- > 0)
        value = value << 8 | from[size];
    return value;
}

static void write_little(unsigned char *to, size_t size, uint64_t value)
{
    for (size_t i = 0; i < size; i++, value >>= 8)
        to[i] = (unsigned char)value;
}

/* Changes a text that begins at `at` and whose length stands in the `size` bytes before it; mostly
 * the length is put right, and sometimes the start of the data stays where it was. */
static void mutate_header(rng *r, bytes *b, size_t at, size_t size, const bytes *donor,
                          const word_list *words)
{
    const uint64_t length = b->size < at ? 0 : read_little(b->data + at - size, size);
    if (b->size < at || length > b->size - at) {
        mutate_bytes(r, b, donor);
        return;
    }
    if (rng_chance(r, 5)) {
        write_little(b->data + at - size, size, rng_interesting(r, length));
        return;
    }
    bytes text = {0}, other = {0};
    bytes_replace(&text, 0, 0, b->data + at, (size_t)length);
    if (donor && donor->size > at)
        bytes_replace(&other, 0, 0, donor->data + at,
                      donor->size - at < 4096 ? donor->size - at : 4096);
    for (size_t n = 1 + rng_below(r, 2); n > 0; n--)
        mutate_text(r, &text, &other, words);
    bytes_replace(b, at, (size_t)length, text.data, text.size);
    if (rng_chance(r, 95))
        write_little(b->data + at - size, size, text.size);
    free(text.data);
    free(other.data);
}

static void mutate_safetensors(rng *r, bytes *b, const bytes *donor, const word_list *words)
{
    const uint64_t length = b->size < 8 ? 0 : read_little(b->data, 8);
    const size_t choice = rng_below(r, 20);
    if (choice == 0)
        mutate_bytes(r, b, donor);
    else if (choice == 1)
        b->size = rng_below(r, b->size + 1);
    else if (choice < 5 && b->size >= 8 && length < b->size - 8)
        mutate_values(r, b, 8 + (size_t)length);
    else
        mutate_header(r, b, 8, 8, donor, words);
}

static void mutate_array(rng *r, bytes *b, const bytes *donor, const word_list *words)
{
    const size_t choice = rng_below(r, 10);
    const bool wide = b->size > 6 && b->data[6] > 1;
    if (choice == 0)
        mutate_bytes(r, b, donor);
    else if (choice == 1)
        b->size = rng_below(r, b->size + 1);
    else if (choice == 2 && b->size > 8)
        b->data[6 + rng_below(r, 2)] = (unsigned char)rng_below(r, 5); /* the version */
    else
        mutate_header(r, b, wide ? 12 : 10, wide ? 4 : 2, donor, words);
}

/* ---------------------------------------------------------------- seeds */

static void change_file(rng *r, seed_file *file, const bytes *donor)
{
    bytes *b = &file->mutated;
    const word_list *words = &words_of[file->kind];
    switch (file->kind) {
    case FILE_MANIFEST: mutate_manifest(r, b, donor); break;
    case FILE_MLMODEL:
    case FILE_ONNX:
        if (rng_chance(r, 90))
            mutate_wire(r, b, donor, words);
        else
            mutate_bytes(r, b, donor);
        break;
    case FILE_DATA:
        if (rng_chance(r, 50))
            mutate_values(r, b, 0);
        else
            mutate_bytes(r, b, donor);
        break;
    case FILE_SAFETENSORS: mutate_safetensors(r, b, donor, words); break;
    case FILE_ARRAY: mutate_array(r, b, donor, words); break;
    case FILE_JSON:
    case FILE_CONFIG: mutate_text(r, b, donor, words); break;
    default: mutate_weights(r, b, donor); break;
    }
}

/* A file of that kind, or NULL. */
static const seed_file *any_file(rng *r, const seed *seed, enum file_kind kind)
{
    const seed_file *found = NULL;
    size_t count = 0;
    for (size_t i = 0; i < seed->file_count; i++)
        if (seed->files[i].kind == kind && rng_below(r, ++count) == 0)
            found = &seed->files[i];
    return found;
}

static void mutate_file(rng *r, const corpus *corpus, seed_file *file)
{
    const seed *other = &corpus->seeds[rng_below(r, corpus->small ? corpus->small : corpus->count)];
    const seed_file *donor = any_file(r, other, file->kind);
    if (!file->changed)
        bytes_copy(&file->mutated, &file->original);
    file->changed = true;
    if (!rng_chance(r, 1))
        change_file(r, file, donor ? &donor->original : NULL);
    else if (donor) /* all of another one */
        bytes_copy(&file->mutated, &donor->original);
}

/* Which file of a seed is changed: how often, for each kind. */
static seed_file *pick_file(rng *r, seed *seed)
{
    static const unsigned char often[FILE_KINDS] = {
        [FILE_MANIFEST] = 4, [FILE_MLMODEL] = 62, [FILE_WEIGHTS] = 34,
        [FILE_ONNX] = 80,    [FILE_DATA] = 20,    [FILE_SAFETENSORS] = 40,
        [FILE_JSON] = 20,    [FILE_CONFIG] = 100, [FILE_ARRAY] = 100,
    };
    size_t all = 0;
    for (size_t i = 0; i < seed->file_count; i++)
        all += often[seed->files[i].kind];
    size_t choice = rng_below(r, all);
    for (size_t i = 0; i < seed->file_count; i++) {
        if (choice < often[seed->files[i].kind])
            return &seed->files[i];
        choice -= often[seed->files[i].kind];
    }
    return NULL;
}

void mutate_seed(rng *r, const corpus *corpus, seed *seed)
{
    static const unsigned char often[] = {1, 1, 1, 1, 2, 2, 3, 5, 10};
    size_t changes = often[rng_below(r, sizeof often)];
    for (size_t i = 0; i < changes && seed->file_count; i++)
        mutate_file(r, corpus, pick_file(r, seed));
    if (rng_chance(r, 1) && seed->file_count)
        seed->files[rng_below(r, seed->file_count)].removed = true;
}
