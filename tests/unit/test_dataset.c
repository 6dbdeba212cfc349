/* Datasets of images: folders and tars, classes, splits, order, and the way to a model's input. */
#include "data_files.h"

#include <png.h>
#include <sys/stat.h>
#include <unistd.h>

static const data_input any = {"image", PAL_FLOAT32, 3, {0}};

static dataset *open_data(const char *path, const data_options *options)
{
    dataset *data = NULL;
    assert_ok(dataset_open(path, options, &data));
    return data;
}

/* The images that a test's folder or tar holds: each is of one gray, by which it is known. */
typedef struct picture {
    const char *name;
    int gray;
} picture;

static const char *make_tree(bool tar, packing packing, const char *name, const picture *pictures,
                             size_t count)
{
    member *members = keep_memory(count * sizeof *members);
    for (size_t i = 0; i < count; i++) {
        const size_t n = strlen(pictures[i].name);
        members[i].name = pictures[i].name;
        if (pictures[i].name[n - 1] != '/')
            members[i].content = make_gray_jpeg(8, 8, (unsigned char)pictures[i].gray);
        if (!tar) {
            char *path = keep_memory(strlen(name) + n + 2);
            sprintf(path, "%s/%s", name, pictures[i].name);
            const char *whole = in(path); /* makes folders */
            if (pictures[i].name[n - 1] != '/')
                write_bytes(whole, members[i].content);
        }
    }
    if (tar)
        make_archive(in(name), packing, members, count);
    return in(name);
}

static void expect_sample(const dataset *data, uint64_t i, int gray, int64_t label)
{
    float values[3 * 8 * 8];
    void *buffer = values;
    const data_input input = image_input(3, 8, 8);
    assert_ok(dataset_read(data, i, &input, 1, &buffer));
    for (size_t k = 0; k < 3 * 8 * 8; k++)
        assert_true(fabsf(values[k] * 255 - (float)gray) <= 1.01F);
    assert_int_equal(dataset_label(data, i), label);
}

static const picture tree[] = {
    {"test/b/2.jpg", 20},    {"test/b/1.JPG", 30},
    {"test/a-b/x.png", 40},  {"test/a/z/deep/1.jpg", 5},
    {"test/a/y.jfif", 60},   {"train/a/1.jpg", 200},
    {"test/b/notes.txt", 1}, {"test/.hidden/1.jpg", 2},
    {"test/b/._1.jpg", 3},   {"read me", 1},
    {"train/", 0},
};

static void expect_tree(const char *path, bool tar)
{
    data_options options = default_options();
    assert_ok(data_options_set(&options, "split", "test"));
    dataset *data = open_data(path, &options);
    assert_int_equal(dataset_count(data), 5);
    assert_true(dataset_has_labels(data));
    assert_int_equal(dataset_class_count(data), 3);
    assert_string_equal(dataset_class_name(data, 0), "a");
    assert_string_equal(dataset_class_name(data, 1), "a-b");
    assert_string_equal(dataset_class_name(data, 2), "b");
    assert_null(dataset_class_name(data, 3));
    expect_sample(data, 0, 60, 0);
    expect_sample(data, 1, 5, 0);
    expect_sample(data, 2, 40, 1);
    expect_sample(data, 3, 30, 2);
    expect_sample(data, 4, 20, 2);
    char name[256], expected[256];
    snprintf(expected, sizeof expected, "%s%stest/a/z/deep/1.jpg", path, tar ? ": " : "/");
    assert_string_equal(dataset_sample_name(data, 1, name, sizeof name), expected);
    dataset_close(data);

    options = default_options();
    assert_fails(dataset_open(path, &options, &data), PAL_ERROR_ARGUMENT,
                 "say with --split which to take of test, train");
    assert_ok(data_options_set(&options, "split", "val"));
    assert_fails(dataset_open(path, &options, &data), PAL_ERROR_ARGUMENT,
                 "no split val; there are test, train");
    assert_ok(data_options_set(&options, "split", "train"));
    data = open_data(path, &options);
    assert_int_equal(dataset_count(data), 1);
    expect_sample(data, 0, 200, 0);
    dataset_close(data);
}

static void folder(void **state)
{
    (void)state;
    const size_t count = sizeof tree / sizeof *tree;
    expect_tree(make_tree(false, TAR, "tree", tree, count), false);
    data_options options = default_options();
    dataset *data = open_data(in("tree/test"), &options); /* the split as the root */
    assert_int_equal(dataset_count(data), 5);
    dataset_close(data);
}

static void tar(void **state)
{
    (void)state;
    const size_t count = sizeof tree / sizeof *tree;
    expect_tree(make_tree(true, TAR, "tree.tar", tree, count), true);
    expect_tree(make_tree(true, TAR_GZ, "tree.tar.gz", tree, count), true);
    expect_tree(make_tree(true, TAR_GZ, "tree.tgz", tree, count), true);
}

/* One bit in the checksum that follows all that a tar needs. */
static void damaged_gzip(void **state)
{
    (void)state;
    static const picture pictures[] = {{"a/1.jpg", 9}, {"b/1.jpg", 7}};
    const char *path = make_tree(true, TAR_GZ, "damaged.tar.gz", pictures, 2);
    unsigned char content[8192];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(content, 1, sizeof content, file);
    fclose(file);
    size_t end = size; /* libarchive fills up the last block */
    while (end && !content[end - 1])
        end--;
    content[end - 6] ^= 1;
    write_bytes(path, (bytes){content, size});
    data_options options = default_options();
    dataset *data;
    assert_fails(dataset_open(path, &options, &data), PAL_ERROR_FORMAT,
                 "damaged.tar.gz: its gzip data is damaged: incorrect");
    write_bytes(path, (bytes){content, end / 2});
    assert_fails(dataset_open(path, &options, &data), PAL_ERROR_FORMAT,
                 "damaged.tar.gz: its gzip data is cut off");
}

/* Cut off between two files: what is there is whole, but it is not all. */
static void cut_tar(void **state)
{
    (void)state;
    static const picture pictures[] = {{"a/1.jpg", 9}, {"b/1.jpg", 7}};
    const char *path = make_tree(true, TAR, "cut.tar", pictures, 2);
    static unsigned char content[1 << 16];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(content, 1, sizeof content, file);
    fclose(file);
    assert_true(size < sizeof content);
    while (size && !content[size - 1])
        size--;
    write_bytes(path, (bytes){content, (size + 511) / 512 * 512});
    data_options options = default_options();
    dataset *data;
    assert_fails(dataset_open(path, &options, &data), PAL_ERROR_FORMAT, "cut.tar: its end");
}

static void outside_tar(void **state)
{
    (void)state;
    static const picture pictures[] = {{"a/1.jpg", 9}, {"../b/1.jpg", 7}};
    data_options options = default_options();
    dataset *data;
    assert_fails(dataset_open(make_tree(true, TAR, "outside.tar", pictures, 2), &options, &data),
                 PAL_ERROR_UNSUPPORTED, "outside.tar: an entry that lies outside: ../b/1.jpg");
}

/* A tar of a folder; names that begin with "./"; a file that was added a second time. */
static void wrapped_tar(void **state)
{
    (void)state;
    static const picture pictures[] = {
        {"./", 0}, {"./w/", 0}, {"./w/b/1.jpg", 9}, {"./w/a/1.jpg", 7}, {"./w/b/1.jpg", 90}};
    data_options options = default_options();
    dataset *data = open_data(make_tree(true, TAR, "wrapped.tar", pictures, 5), &options);
    assert_int_equal(dataset_count(data), 2);
    assert_string_equal(dataset_class_name(data, 0), "a");
    expect_sample(data, 0, 7, 0);
    expect_sample(data, 1, 90, 1);
    dataset_close(data);
}

static void flat(void **state)
{
    (void)state;
    static const picture pictures[] = {{"b.jpg", 9}, {"a.jpg", 7}, {"text.txt", 0}, {"empty/", 0}};
    data_options options = default_options();
    for (int packed = 0; packed < 2; packed++) {
        dataset *data =
            open_data(make_tree(packed, TAR, packed ? "flat.tar" : "flat", pictures, 4), &options);
        assert_int_equal(dataset_count(data), 2);
        assert_false(dataset_has_labels(data));
        assert_int_equal(dataset_class_count(data), 0);
        expect_sample(data, 0, 7, -1);
        expect_sample(data, 1, 9, -1);
        dataset_close(data);
    }
}

static void unusable(void **state)
{
    (void)state;
    static const struct {
        picture pictures[3];
        pal_status status;
        const char *text;
    } cases[] = {
        {{{"empty/", 0}, {"a/1.jpg", 1}, {"a/2.jpg", 1}}, PAL_ERROR_FORMAT, "class folder empty "},
        {{{"a/1.txt", 0}, {"a/", 0}, {"a/", 0}}, PAL_ERROR_FORMAT, "no JPEG or PNG image"},
        {{{"a.txt", 0}, {"b.txt", 1}, {"c.txt", 1}}, PAL_ERROR_FORMAT, "no JPEG or PNG image"},
        {{{"a/1.jpg", 0}, {"b.jpg", 1}, {"c/2.jpg", 1}}, PAL_ERROR_FORMAT, "beside folders"},
        {{{"a/1.jpg", 0}, {"a/2.webp", 1}, {"c/2.jpg", 1}}, PAL_ERROR_UNSUPPORTED, "a/2.webp: "},
    };
    data_options options = default_options();
    dataset *data = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        for (int packed = 0; packed < 2; packed++) {
            snprintf(name, sizeof name, "bad%zu%s", i, packed ? ".tar" : "");
            const char *path = make_tree(packed, TAR, name, cases[i].pictures, 3);
            assert_fails(dataset_open(path, &options, &data), cases[i].status, cases[i].text);
            assert_non_null(strstr(pal_error_message(), name));
        }
    }
    in("nothing/");
    assert_fails(dataset_open(in("nothing"), &options, &data), PAL_ERROR_FORMAT, "no JPEG");
    assert_fails(dataset_open(in("absent"), &options, &data), PAL_ERROR_IO, "absent: ");
    assert_fails(dataset_open(in("absent.tar"), &options, &data), PAL_ERROR_IO, "absent.tar: ");
    write_bytes(in("words.txt"), (bytes){(unsigned char *)"words", 5});
    assert_fails(dataset_open(in("words.txt"), &options, &data), PAL_ERROR_UNSUPPORTED, ".npz");
    write_bytes(in("words.tar"), (bytes){(unsigned char *)"words", 5});
    assert_fails(dataset_open(in("words.tar"), &options, &data), PAL_ERROR_FORMAT, "words.tar: ");
    write_bytes(in("none.tar"), (bytes){(unsigned char *)"", 0});
    assert_fails(dataset_open(in("none.tar"), &options, &data), PAL_ERROR_FORMAT, "none.tar: ");
    assert_null(data);
}

/* Folders that lead back to themselves end in an error, not in a hang. */
static void endless_links(void **state)
{
    (void)state;
    in("loop/a/1.jpg");
    assert_int_equal(symlink("..", in("loop/a/up")), 0);
    data_options options = default_options();
    dataset *data;
    assert_fails(dataset_open(in("loop"), &options, &data), PAL_ERROR_FORMAT, "too deeply");
}

/* ---------------------------------------------------------------- order */

static void limits(void **state)
{
    (void)state;
    picture pictures[12];
    for (int i = 0; i < 12; i++) {
        char *name = keep_memory(16);
        sprintf(name, "%c/%02d.jpg", 'a' + i / 4, i);
        pictures[i] = (picture){name, 10 * i};
    }
    const char *path = make_tree(false, TAR, "dozen", pictures, 12);
    for (uint64_t limit = 0; limit < 15; limit++) {
        data_options options = default_options();
        options.limit = limit;
        dataset *data = open_data(path, &options);
        const uint64_t count = limit && limit < 12 ? limit : 12;
        assert_int_equal(dataset_count(data), count);
        assert_int_equal(dataset_class_count(data), 3);
        for (uint64_t i = 0; i < count; i++) { /* evenly spread */
            const uint64_t sample = i * 12 / count;
            expect_sample(data, i, 10 * (int)sample, (int64_t)sample / 4);
        }
        dataset_close(data);
    }
    unsigned seen[12] = {0}, moved = 0;
    uint64_t order[2][12];
    for (int turn = 0; turn < 2; turn++) { /* twice the same, and every sample once */
        data_options options = default_options();
        options.shuffle = true;
        options.seed = 7;
        dataset *data = open_data(path, &options);
        for (uint64_t i = 0; i < 12; i++) {
            char name[256];
            order[turn][i] =
                (uint64_t)atoi(strrchr(dataset_sample_name(data, i, name, sizeof name), '/') + 1);
            seen[order[turn][i]]++;
            moved += order[turn][i] != i;
            expect_sample(data, i, 10 * (int)order[turn][i], (int64_t)order[turn][i] / 4);
        }
        dataset_close(data);
    }
    for (int i = 0; i < 12; i++) {
        assert_int_equal(seen[i], 2);
        assert_int_equal(order[0][i], order[1][i]);
    }
    assert_true(moved > 12);
    /* The order is a promise: it must not change with a version. */
    static const uint64_t promised[12] = {2, 8, 7, 11, 0, 1, 5, 10, 3, 9, 6, 4};
    for (int i = 0; i < 12; i++)
        assert_int_equal(order[0][i], promised[i]);
}

/* ---------------------------------------------------------------- inputs */

enum { W = 5, H = 4 };

/* A dataset of one random colour image, whose pixels come back in `rgb`. */
static const char *one_image(const unsigned char **rgb)
{
    *rgb = random_pixels(W * H * 3, 5);
    write_bytes(in("one/only.png"),
                make_png(W, H, (png_form){PNG_COLOR_TYPE_RGB, 8, false, false}, *rgb));
    return in("one");
}

static void read_one(const char *path, const data_options *options, data_input input, float *out)
{
    dataset *data = open_data(path, options);
    void *buffer = out;
    assert_ok(dataset_resolve(data, 0, &input, 1));
    assert_ok(dataset_read(data, 0, &input, 1, &buffer));
    dataset_close(data);
}

static void layouts_and_colours(void **state)
{
    (void)state;
    const unsigned char *rgb;
    const char *path = one_image(&rgb);
    float values[W * H * 3];
    for (int layout = 0; layout < 2; layout++)
        for (int colour = COLOUR_AUTO; colour <= COLOUR_GRAY; colour++) {
            data_options options = default_options();
            options.layout = (data_layout)layout;
            options.colour = (data_colour)colour;
            assert_ok(data_options_set(&options, "mean", "0.1 0.2 0.3"));
            assert_ok(data_options_set(&options, "std", "0.5 2 0.25"));
            read_one(path, &options, layout ? image_input(H, W, 3) : image_input(3, H, W), values);
            for (size_t p = 0; p < W * H; p++)
                for (size_t c = 0; c < 3; c++) {
                    const unsigned char *pixel = rgb + 3 * p;
                    double value = pixel[colour == COLOUR_BGR ? 2 - c : c];
                    if (colour == COLOUR_GRAY)
                        value = round(0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]);
                    static const double mean[] = {0.1, 0.2, 0.3}, std[] = {0.5, 2, 0.25};
                    const double expected = (value / 255 - mean[c]) / std[c];
                    const double slack = colour == COLOUR_GRAY ? 1 / 255. / std[c] : 0;
                    assert_true(fabs(values[layout ? 3 * p + c : c * W * H + p] - expected) <=
                                slack + 1e-6);
                }
        }
}

/* Inputs of one and two dimensions, and such as leave extents open. */
static void shapes(void **state)
{
    (void)state;
    const unsigned char *rgb;
    const char *path = one_image(&rgb);
    data_options options = default_options();
    assert_ok(data_options_set(&options, "scale", "1"));
    float values[W * H * 3], flat[W * H * 3];
    dataset *data = open_data(path, &options);
    static const struct {
        data_input input;
        uint64_t shape[3];
    } cases[] = {
        {{"x", PAL_FLOAT32, 3, {0, 0, 0}}, {3, H, W}},
        {{"x", PAL_FLOAT32, 3, {1, 0, 0}}, {1, H, W}},
        {{"x", PAL_FLOAT32, 3, {0, 9, 0}}, {3, 9, W}},
        {{"x", PAL_FLOAT32, 2, {0, 0}}, {H, W}},
        {{"x", PAL_FLOAT32, 1, {0}}, {3 * H * W}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        data_input input = cases[i].input;
        assert_ok(dataset_resolve(data, 0, &input, 1));
        for (size_t d = 0; d < input.rank; d++)
            assert_int_equal(input.shape[d], cases[i].shape[d]);
    }
    dataset_close(data);
    read_one(path, &options, image_input(3, H, W), values);
    read_one(path, &options, (data_input){"x", PAL_FLOAT32, 1, {3 * H * W}}, flat);
    assert_memory_equal(values, flat, sizeof values);
    read_one(path, &options, image_input(1, 0, 0), values);
    read_one(path, &options, (data_input){"x", PAL_FLOAT32, 2, {H, W}}, flat);
    assert_memory_equal(values, flat, W * H * sizeof *values);
}

static void misfits(void **state)
{
    (void)state;
    const unsigned char *rgb;
    const char *path = one_image(&rgb);
    float values[64];
    void *buffer = values;
    static const struct {
        const char *option, *value;
        data_input input;
        const char *text;
    } cases[] = {
        {"scale", "1", {"x", PAL_FLOAT32, 3, {3, 8, 8}}, "5x4 pixels, where input x takes 8x8"},
        {"scale", "1", {"x", PAL_FLOAT32, 3, {4, 4, 5}}, "takes 4 channels in layout nchw"},
        {"scale", "1", {"x", PAL_FLOAT32, 4, {1, 3, 4, 5}}, "4 dimensions"},
        {"scale", "1", {"x", PAL_FLOAT32, 1, {17}}, "do not make the 17 values"},
        {"scale", "1", {"x", PAL_INT64, 3, {3, 4, 5}}, "integers"},
        {"scale", "1", {"x", PAL_FLOAT16, 3, {3, 4, 5}}, "float16"},
        {"scale", "1", {"x", PAL_FLOAT32, 3, {3, 0, 5}}, "free"},
        {"mean", "1 2 3", {"x", PAL_FLOAT32, 3, {1, 4, 5}}, "for 3 channels"},
        {"colour", "rgb", {"x", PAL_FLOAT32, 3, {1, 4, 5}}, "gray"},
        {"crop", "6", {"x", PAL_FLOAT32, 3, {3, 6, 6}}, "6x6 is larger than the image, 5x4"},
        {"resize", "65536", {"x", PAL_FLOAT32, 3, {3, 6, 6}}, "more than"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        data_options options = default_options();
        assert_ok(data_options_set(&options, cases[i].option, cases[i].value));
        dataset *data = open_data(path, &options);
        assert_int_not_equal(dataset_read(data, 0, &cases[i].input, 1, &buffer), PAL_OK);
        if (!strstr(pal_error_message(), cases[i].text))
            print_error("%s\n", pal_error_message());
        assert_non_null(strstr(pal_error_message(), cases[i].text));
        dataset_close(data);
    }
    data_options options = default_options();
    dataset *data = open_data(path, &options);
    const data_input two[2] = {image_input(3, H, W), image_input(3, H, W)};
    void *buffers[2] = {values, values};
    assert_fails(dataset_read(data, 0, two, 2, buffers), PAL_ERROR_UNSUPPORTED, "one input");
    dataset_close(data);
    options.std_count = 1;
    assert_fails(dataset_open(path, &options, &data), PAL_ERROR_ARGUMENT, "std");
}

/* Resized to 10x8, cropped to 4x6: the corner of the crop is where it should be. */
static void resized_and_cropped(void **state)
{
    (void)state;
    const unsigned char *rgb;
    const char *path = one_image(&rgb);
    float whole[3 * 10 * 8], part[3 * 4 * 6];
    data_options options = default_options();
    assert_ok(data_options_set(&options, "resize", "8"));
    read_one(path, &options, image_input(3, 8, 10), whole);
    assert_ok(data_options_set(&options, "crop", "4x6"));
    read_one(path, &options, any, part);
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < 6; y++)
            for (size_t x = 0; x < 4; x++)
                assert_true(part[(c * 6 + y) * 4 + x] == whole[(c * 8 + y + 1) * 10 + x + 3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder),
        cmocka_unit_test(tar),
        cmocka_unit_test(damaged_gzip),
        cmocka_unit_test(cut_tar),
        cmocka_unit_test(outside_tar),
        cmocka_unit_test(wrapped_tar),
        cmocka_unit_test(flat),
        cmocka_unit_test(unusable),
        cmocka_unit_test(endless_links),
        cmocka_unit_test(limits),
        cmocka_unit_test(layouts_and_colours),
        cmocka_unit_test(shapes),
        cmocka_unit_test(misfits),
        cmocka_unit_test(resized_and_cropped),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
