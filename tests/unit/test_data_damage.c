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

static void try_images(bytes file, uint64_t seed)
{
    unsigned char *room = malloc(file.size);
    for (unsigned i = 0; i < variants(); i++) {
        const bytes damaged = damage(file, room, &seed);
        /* exactly as large as it is, so that a read past the end is seen */
        unsigned char *exact = malloc(damaged.size);
        memcpy(exact, damaged.data, damaged.size);
        image image;
        if (image_decode(exact, damaged.size, &image) == PAL_OK) {
            unsigned sum = 0;
            for (size_t k = 0; k < image.width * image.height * image.channels; k++)
                sum += image.pixels[k];
            assert_true(sum < UINT32_MAX);
            image_free(&image);
        } else {
            assert_true(*pal_error_message() != 0);
        }
        free(exact);
    }
    free(room);
}

static void images(void **state)
{
    (void)state;
    const unsigned char *pixels = random_pixels(24 * 20 * 8, 1);
    for (int channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1)
        for (int progressive = 0; progressive < 2; progressive++)
            try_images(make_jpeg(24, 20, channels, 80, progressive, pixels), (uint64_t)channels);
    static const png_form forms[] = {
        {PNG_COLOR_TYPE_GRAY, 1, true, false},      {PNG_COLOR_TYPE_RGB, 16, false, false},
        {PNG_COLOR_TYPE_PALETTE, 4, true, true},    {PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, false},
        {PNG_COLOR_TYPE_RGB_ALPHA, 8, true, false},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        try_images(make_png(24, 20, forms[i], pixels), i);
}

/* Opens and reads what can be read. Returns how many variants could be opened. */
static unsigned try_dataset(const char *path, bytes file, data_input input, uint64_t seed)
{
    unsigned char *room = malloc(file.size);
    unsigned opened = 0;
    for (unsigned i = 0; i < variants(); i++) {
        const data_options options = default_options();
        write_bytes(path, damage(file, room, &seed));
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
    return opened;
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
    assert_true(try_dataset(in("a-images-idx3-ubyte"), idx, image, 1) < variants());
    assert_true(try_dataset(in("a-images-idx3-ubyte.gz"), gzip(idx), image, 2) < variants());
    static const float values[12] = {1, 2, 3};
    static const int64_t labels[4] = {3, 2, 1, 0};
    const member members[] = {
        {"x.npy", make_npy("'descr': '<f4', 'shape': (4, 3)", values, sizeof values)},
        {"labels.npy", make_npy("'descr': '<i8', 'shape': (4,)", labels, sizeof labels)},
    };
    for (packing packing = ZIP_STORED; packing <= ZIP_DEFLATED; packing++) {
        const char *path = in("a.npz");
        make_archive(path, packing, members, 2);
        const data_input input = {"x", PAL_FLOAT32, 1, {0}};
        assert_true(try_dataset(path, read_file(path), input, 3) < variants());
    }
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
        assert_true(try_dataset(path, read_file(path), image_input(1, 0, 0), 4) < variants());
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
