/* Files of data with bytes changed, inserted, removed and cut off: every outcome but a crash, a
 * hang or a status without a message will do. Of most use under the sanitizers. DATA_DAMAGE_COUNT
 * in the environment sets how many variants of each file are tried. */
#include "data_files.h"

#include <png.h>

#include "data/image.h"

static unsigned variants(void)
{
    const char *text = getenv("DATA_DAMAGE_COUNT");
    return text ? (unsigned)atoi(text) : 400;
}

/* A damaged copy; mostly a few bytes, with favour for the beginning, where headers are. */
static bytes damage(bytes from, unsigned char *room, uint64_t *seed)
{
    static const unsigned char telling[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, '/', '9'};
    bytes out = {room, from.size};
    memcpy(room, from.data, from.size);
    const unsigned count = 1 + random_below(seed, 4);
    for (unsigned i = 0; i < count; i++) {
        const size_t range = random_below(seed, 2) && out.size > 64 ? 64 : out.size;
        const size_t at = random_below(seed, (unsigned)range);
        switch (random_below(seed, 6)) {
        case 0: room[at] = (unsigned char)random_bits(seed); break;
        case 1: room[at] ^= (unsigned char)(1u << random_below(seed, 8)); break;
        case 2: room[at] = telling[random_below(seed, sizeof telling)]; break;
        case 3: memset(room + at, 0xff, out.size - at < 4 ? out.size - at : 4); break;
        case 4: /* a part again */
            if (out.size > 16)
                memmove(room + at, room + random_below(seed, (unsigned)out.size - 8),
                        out.size - at < 8 ? out.size - at : 8);
            break;
        default: out.size = at + 1; break;
        }
    }
    return out;
}

static size_t big_endian(const unsigned char *at)
{
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

/* As zlib has it, whose header cannot be included beside those here. */
static uint32_t crc32_of(const unsigned char *data, size_t size)
{
    uint32_t sum = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        sum ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320U : 0);
    }
    return ~sum;
}

/* Makes the checksums of a PNG's parts right again, so that damage gets further than to them. */
static void mend_png(bytes file)
{
    for (size_t at = 8; at < file.size && file.size - at >= 12;) {
        const size_t length = big_endian(file.data + at);
        if (length > file.size - at - 12)
            return;
        unsigned char *end = file.data + at + 8 + length;
        const uint32_t sum = crc32_of(file.data + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            end[i] = (unsigned char)(sum >> (24 - 8 * i));
        at += 12 + length;
    }
}

/* Returns how many variants could be decoded, which are never all. */
static unsigned try_images(bytes file, uint64_t seed)
{
    unsigned char *room = malloc(file.size);
    unsigned decoded = 0;
    for (unsigned i = 0; i < variants(); i++) {
        const bytes damaged = damage(file, room, &seed);
        if (i % 2 && damaged.size > 4 && memcmp(damaged.data + 1, "PNG", 3) == 0)
            mend_png(damaged);
        /* exactly as large as it is, so that a read past the end is seen */
        unsigned char *exact = malloc(damaged.size);
        memcpy(exact, damaged.data, damaged.size);
        image image;
        if (image_decode(exact, damaged.size, &image) == PAL_OK) {
            unsigned sum = 0;
            for (size_t k = 0; k < image.width * image.height * image.channels; k++)
                sum += image.pixels[k];
            assert_true(sum < UINT32_MAX);
            decoded++;
            image_free(&image);
        } else {
            assert_true(*pal_error_message() != 0);
        }
        free(exact);
    }
    free(room);
    assert_true(decoded < variants());
    return decoded;
}

static void images(void **state)
{
    (void)state;
    const unsigned char *pixels = random_pixels(24 * 20 * 8, 1);
    for (int channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1)
        for (int progressive = 0; progressive < 2; progressive++)
            assert_true(try_images(make_jpeg(24, 20, channels, 80, progressive, pixels),
                                   (uint64_t)channels) > 0);
    static const png_form forms[] = {
        {PNG_COLOR_TYPE_GRAY, 1, true, false},      {PNG_COLOR_TYPE_RGB, 16, false, false},
        {PNG_COLOR_TYPE_PALETTE, 4, true, true},    {PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, false},
        {PNG_COLOR_TYPE_RGB_ALPHA, 8, true, false},
    };
    unsigned decoded = 0; /* few of each: the packed pixels have a checksum, too */
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        decoded += try_images(make_png(24, 20, forms[i], pixels), i);
    assert_true(decoded > 0);
}

/* Puts a damaged file to where a dataset is opened: as it is, or packed, which makes checksums
 * right. */
typedef void (*put)(const char *path, bytes file);

/* Opens and reads what can be read: some variants, but not all. */
static void try_dataset(const char *path, bytes file, put put, data_input input, uint64_t seed)
{
    unsigned char *room = malloc(file.size);
    unsigned opened = 0;
    for (unsigned i = 0; i < variants(); i++) {
        const data_options options = default_options();
        put(path, damage(file, room, &seed));
        dataset *data;
        if (dataset_open(path, &options, &data)) {
            assert_true(*pal_error_message() != 0);
            continue;
        }
        opened++;
        for (uint64_t k = 0; k < dataset_count(data) && k < 8; k++) {
            data_input actual = input;
            float values[256];
            void *buffer = values;
            uint64_t count = 1;
            if (dataset_resolve(data, k, &actual, 1))
                continue;
            for (size_t d = 0; d < actual.rank; d++)
                count = actual.shape[d] > 256 ? 257 : count * actual.shape[d];
            if (count <= 256 && dataset_read(data, k, &actual, 1, &buffer))
                assert_true(*pal_error_message() != 0);
        }
        dataset_close(data);
    }
    free(room);
    assert_true(opened > 0 && opened < variants());
}

static void put_gzip(const char *path, bytes file)
{
    write_bytes(path, gzip(file));
}

static void put_npz(const char *path, bytes file)
{
    const member member = {"x.npy", file};
    make_archive(path, ZIP_DEFLATED, &member, 1);
}

static bytes read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    bytes content = {keep_memory(1 << 16), 0};
    content.size = fread(content.data, 1, 1 << 16, file);
    assert_true(content.size < 1 << 16);
    fclose(file);
    return content;
}

static void arrays(void **state)
{
    (void)state;
    static const unsigned shape[] = {4, 3, 2};
    const bytes idx = make_idx(3, shape, random_pixels(24, 1));
    const data_input image = image_input(1, 0, 0);
    try_dataset(in("a-images-idx3-ubyte"), idx, write_bytes, image, 1);
    try_dataset(in("a-images-idx3-ubyte.gz"), gzip(idx), write_bytes, image, 2);
    try_dataset(in("b-images-idx3-ubyte.gz"), idx, put_gzip, image, 2);
    static const float values[12] = {1, 2, 3};
    static const int64_t labels[4] = {3, 2, 1, 0};
    const member members[] = {
        {"x.npy", make_npy("'descr': '<f4', 'shape': (4, 3)", values, sizeof values)},
        {"labels.npy", make_npy("'descr': '<i8', 'shape': (4,)", labels, sizeof labels)},
    };
    const data_input input = {"x", PAL_FLOAT32, 1, {0}};
    for (packing packing = ZIP_STORED; packing <= ZIP_DEFLATED; packing++) {
        const char *path = in("a.npz");
        make_archive(path, packing, members, 2);
        try_dataset(path, read_file(path), write_bytes, input, 3);
    }
    try_dataset(in("b.npz"), members[0].content, put_npz, input, 3);
}

static void tars(void **state)
{
    (void)state;
    const member members[] = {
        {"b/", {NULL, 0}},
        {"b/2.jpg", make_gray_jpeg(8, 8, 40)},
        {"a/1.png",
         make_png(8, 8, (png_form){PNG_COLOR_TYPE_GRAY, 8, false, false}, random_pixels(64, 2))},
    };
    for (packing packing = TAR; packing <= TAR_GZ; packing++) {
        const char *path = in(packing == TAR ? "a.tar" : "a.tar.gz");
        make_archive(path, packing, members, 3);
        try_dataset(path, read_file(path), write_bytes, image_input(1, 0, 0), 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images),
        cmocka_unit_test(arrays),
        cmocka_unit_test(tars),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
