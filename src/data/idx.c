/* IDX files as http://yann.lecun.com/exdb/mnist/ describes them: two zero bytes, a type, the number
 * of dimensions, their extents (big-endian), the values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "data/file_list.h"
#include "data/gzip.h"
#include "data/source.h"

enum {
    UNSIGNED_BYTES = 8, /* the type */
    RANK_MAX = 3,
    HEADER_MAX = 4 + 4 * RANK_MAX,
};

/* The values of a file, all of them bytes. */
typedef struct idx_file {
    file_map map;
    unsigned char *unpacked; /* scratch, or NULL where the values are in the map */
    const unsigned char *values;
    uint64_t shape[RANK_MAX];
} idx_file;

typedef struct idx_source {
    source base;
    char *path; /* of the images */
    idx_file images;
} idx_source;

/* ---------------------------------------------------------------- a file */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void idx_file_close(idx_file *file)
{
    scratch_free(file->unpacked);
    file_map_close(&file->map);
    *file = (idx_file){0};
}

/* Reads a header of this rank and finds how many bytes the whole file must have. */
static pal_status read_header(const char *path, const unsigned char *bytes, size_t size,
                              size_t rank, uint64_t shape[RANK_MAX], uint64_t *total)
{
    const size_t header = 4 + 4 * rank;
    if (size < 4 || bytes[0] || bytes[1])
        return fail(PAL_ERROR_FORMAT, "%s: not an IDX file", path);
    if (bytes[2] != UNSIGNED_BYTES || bytes[3] != rank)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "%s: IDX values of type 0x%02x in %u dimensions, where bytes (0x%02x) in %zu "
                    "are needed",
                    path, bytes[2], bytes[3], UNSIGNED_BYTES, rank);
    if (size < header)
        return fail(PAL_ERROR_FORMAT, "%s: its IDX header is cut off", path);
    uint64_t values = 1;
    for (size_t i = 0; i < rank; i++) {
        const unsigned char *at = bytes + 4 + 4 * i;
        shape[i] = (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
        if (!mem_multiply(values, shape[i], &values))
            return fail(PAL_ERROR_FORMAT, "%s: its extents are beyond 64 bits", path);
    }
    if (__builtin_add_overflow(values, header, total))
        return fail(PAL_ERROR_FORMAT, "%s: its extents are beyond 64 bits", path);
    return PAL_OK;
}

static pal_status wrong_size(const char *path, bool more)
{
    return fail(PAL_ERROR_FORMAT, "%s: %s values than its header says", path,
                more ? "more" : "fewer");
}

/* The header tells how much room the rest takes. */
static pal_status unpack(const char *path, gzip_reader *gzip, size_t rank, idx_file *file)
{
    unsigned char header[HEADER_MAX];
    const size_t header_size = 4 + 4 * rank;
    size_t size;
    uint64_t total;
    pal_status status = gzip_read(gzip, header, header_size, &size);
    if (status)
        return fail_context(status, "%s", path);
    status = read_header(path, header, size, rank, file->shape, &total);
    if (status)
        return status;
    if (total > gzip_limit(file->map.size))
        return wrong_size(path, false);
    /* One byte more than there should be, which also makes the reader see the end. */
    const size_t room = (size_t)total - header_size + 1;
    file->unpacked = scratch_zeroed(room, 1);
    if (!file->unpacked)
        return fail_memory("unpacking images");
    file->values = file->unpacked;
    status = gzip_read(gzip, file->unpacked, room, &size);
    if (status)
        return fail_context(status, "%s", path);
    return size == room - 1 ? PAL_OK : wrong_size(path, size == room);
}

static pal_status open_packed(const char *path, size_t rank, idx_file *file)
{
    gzip_reader *gzip;
    pal_status status = gzip_open(&file->map, &gzip);
    if (!status) {
        status = unpack(path, gzip, rank, file);
        gzip_close(gzip);
    }
    return status;
}

static pal_status idx_file_open(const char *path, size_t rank, idx_file *out)
{
    idx_file file = {0};
    pal_status status = file_map_open(path, &file.map);
    if (status)
        return status;
    if (is_gzip(&file.map)) {
        status = open_packed(path, rank, &file);
    } else {
        uint64_t total;
        status = read_header(path, file.map.data, file.map.size, rank, file.shape, &total);
        if (!status && total != file.map.size)
            status = wrong_size(path, file.map.size > total);
        file.values = file.map.data + 4 + 4 * rank;
    }
    if (status)
        idx_file_close(&file);
    else
        *out = file;
    return status;
}

/* ---------------------------------------------------------------- names */

static const char *const image_ends[] = {"images-idx3-ubyte", "images.idx3-ubyte"};
static const char *const label_ends[] = {"labels-idx1-ubyte", "labels.idx1-ubyte"};

/* The length of `path` without its end, SIZE_MAX where it has none of the ends above; *end tells
 * which. */
static size_t stem_length(const char *path, size_t *end)
{
    size_t n = strlen(path);
    if (ends_with(path, ".gz"))
        n -= 3;
    for (size_t i = 0; i < sizeof image_ends / sizeof *image_ends; i++) {
        const size_t m = strlen(image_ends[i]);
        if (n >= m && memcmp(path + n - m, image_ends[i], m) == 0) {
            *end = i;
            return n - m;
        }
    }
    return SIZE_MAX;
}

bool is_idx_name(const char *path)
{
    size_t end;
    return stem_length(path, &end) != SIZE_MAX;
}

/* Whether a file of images is of this split: "train-images..." of train, and
 * "emnist-letters-train-images..." as well. */
static bool is_split(const char *name, const char *split)
{
    size_t end, n = stem_length(name, &end);
    if (n > 0 && name[n - 1] == '-')
        n--;
    const char *spellings[] = {split, strcmp(split, "test") == 0 ? "t10k" : split};
    for (size_t i = 0; i < 2; i++) {
        const size_t m = strlen(spellings[i]);
        if (n >= m && memcmp(name + n - m, spellings[i], m) == 0 &&
            (n == m || name[n - m - 1] == '-' || name[n - m - 1] == '/'))
            return true;
    }
    return false;
}

/* The labels' file beside that of the images, packed or not; *out is NULL where there is none. */
static pal_status find_labels(const char *images, char **out)
{
    size_t end;
    const size_t stem = stem_length(images, &end);
    *out = NULL;
    for (int packed = 0; packed < 2; packed++) {
        const size_t size = stem + strlen(label_ends[end]) + sizeof ".gz";
        char *path = mem_array(size, 1);
        if (!path)
            return fail_memory("looking for labels");
        snprintf(path, size, "%.*s%s%s", (int)stem, images, label_ends[end], packed ? ".gz" : "");
        struct stat info;
        if (stat(path, &info) == 0) {
            *out = path;
            return PAL_OK;
        }
        free(path);
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- a folder */

typedef struct choice {
    const char *split;
    char *name;      /* the first file that fits */
    bool ambiguous;  /* another one does as well, and is not the same packed */
    char words[256]; /* that tell the files apart: "test, train" */
} choice;

/* Adds what split takes for a file of images: its name up to "images", and test for MNIST's t10k. A
 * file and the same packed, which follows it, have one word. */
static void add_word(choice *choice, const char *name)
{
    size_t end, n = stem_length(name, &end);
    if (n > 0 && name[n - 1] == '-')
        n--;
    const bool test = n == 4 && memcmp(name, "t10k", 4) == 0;
    const char *word = test ? "test" : name;
    n = test ? 4 : n;
    const size_t used = strlen(choice->words);
    const bool known = used >= n && memcmp(choice->words + used - n, word, n) == 0 &&
                       (used == n || choice->words[used - n - 1] == ' ');
    if (n > 0 && !known)
        snprintf(choice->words + used, sizeof choice->words - used, "%s%.*s", used ? ", " : "",
                 (int)n, word);
}

static pal_status consider(void *user, const char *name)
{
    choice *choice = user;
    if (!is_idx_name(name) || file_is_hidden(name))
        return PAL_OK;
    add_word(choice, name);
    if (*choice->split && !is_split(name, choice->split))
        return PAL_OK;
    if (!choice->name) {
        choice->name = strdup(name);
        return choice->name ? PAL_OK : fail_memory("looking for images");
    }
    const size_t n = strlen(choice->name);
    choice->ambiguous |= strncmp(name, choice->name, n) != 0 || strcmp(name + n, ".gz") != 0;
    return PAL_OK;
}

pal_status is_idx_folder(const char *path, bool *out)
{
    choice found = {.split = ""};
    pal_status status = directory_walk(path, consider, &found);
    *out = found.name != NULL;
    free(found.name);
    return status;
}

static pal_status choose_file(const char *folder, const char *split, char **out)
{
    choice choice = {.split = split};
    pal_status status = directory_walk(folder, consider, &choice);
    if (!status && choice.ambiguous)
        status = fail(PAL_ERROR_ARGUMENT, "%s: say with --split which to take of %s", folder,
                      choice.words);
    if (!status && !choice.name)
        status =
            fail(PAL_ERROR_ARGUMENT, "%s: no split %s; there are %s", folder, split, choice.words);
    if (!status) {
        *out = path_join(folder, choice.name);
        if (!*out)
            status = fail_memory("looking for images");
    }
    free(choice.name);
    return status;
}

/* ---------------------------------------------------------------- the source */

static pal_status idx_image(const source *source, uint64_t i, image *out)
{
    const idx_source *idx = (const idx_source *)source;
    const uint64_t height = idx->images.shape[1], width = idx->images.shape[2];
    pal_status status = image_check_size(width, height, SIZE_MAX);
    if (!status)
        status = image_allocate(out, (size_t)width, (size_t)height, 1);
    if (status)
        return source_fail(source, i, status);
    const size_t pixels = (size_t)(width * height);
    memcpy(out->pixels, idx->images.values + i * pixels, pixels);
    return PAL_OK;
}

static void idx_name(const source *source, uint64_t i, char *out, size_t size)
{
    snprintf(out, size, "%s: image %llu", ((const idx_source *)source)->path,
             (unsigned long long)i);
}

static void idx_close(source *source)
{
    idx_source *idx = (idx_source *)source;
    idx_file_close(&idx->images);
    free(idx->path);
}

static const source_kind idx_kind = {.image = idx_image, .name = idx_name, .close = idx_close};

static pal_status read_labels(idx_source *idx)
{
    char *path;
    pal_status status = find_labels(idx->path, &path);
    if (status || !path)
        return status;
    idx_file file;
    status = idx_file_open(path, 1, &file);
    if (!status) {
        if (file.shape[0] != idx->base.count)
            status = fail(PAL_ERROR_FORMAT, "%s: %llu labels for %llu images", path,
                          (unsigned long long)file.shape[0], (unsigned long long)idx->base.count);
        for (uint64_t i = 0; !status && i < idx->base.count; i++)
            status = source_set_label(&idx->base, i, file.values[i]);
        idx_file_close(&file);
    }
    free(path);
    return status;
}

/* Takes the path over. */
static pal_status open_file(char *path, source **out)
{
    idx_source *idx = mem_zeroed(1, sizeof *idx);
    if (!idx) {
        free(path);
        return fail_memory("opening images");
    }
    idx->base = (source){.kind = &idx_kind, .channels = 1};
    idx->path = path;
    pal_status status = idx_file_open(path, 3, &idx->images);
    if (!status) {
        idx->base.count = idx->images.shape[0];
        if (!idx->base.count || !idx->images.shape[1] || !idx->images.shape[2])
            status = fail(PAL_ERROR_FORMAT, "%s: it holds no image", path);
    }
    if (!status)
        status = read_labels(idx);
    if (status)
        source_free(&idx->base);
    else
        *out = &idx->base;
    return status;
}

pal_status idx_open(const char *path, const char *split, source **out)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return fail_errno(path, "cannot open");
    char *file = NULL;
    if (S_ISDIR(info.st_mode)) {
        pal_status status = choose_file(path, split, &file);
        return status ? status : open_file(file, out);
    }
    if (*split && !is_split(path, split))
        return fail(PAL_ERROR_ARGUMENT, "%s: its name is not that of split %s", path, split);
    file = strdup(path);
    return file ? open_file(file, out) : fail_memory("opening images");
}
