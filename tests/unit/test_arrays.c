/* Datasets of arrays: .npz and IDX. */
#include "data_files.h"

static void expect_open(const char *path, const data_options *options, pal_status status,
                        const char *text)
{
    dataset *data = NULL;
    assert_fails(dataset_open(path, options, &data), status, text);
    assert_null(data);
}

static dataset *open_data(const char *path)
{
    data_options options = default_options();
    dataset *data = NULL;
    assert_ok(dataset_open(path, &options, &data));
    return data;
}

/* ---------------------------------------------------------------- npz */

static void several_inputs(void **state)
{
    (void)state;
    float x[3][2][2];
    int32_t ids[3][5];
    static const uint8_t labels[3] = {4, 0, 2};
    for (int i = 0; i < 12; i++)
        (&x[0][0][0])[i] = (float)i / 3;
    for (int i = 0; i < 15; i++)
        (&ids[0][0])[i] = 1000 - i * i;
    const member members[] = {
        {"x.npy", make_npy("'descr': '<f4', 'shape': (3, 2, 2)", x, sizeof x)},
        {"ids.npy", make_npy("'descr': '<i4', 'shape': (3, 5)", ids, sizeof ids)},
        {"labels.npy", make_npy("'descr': '|u1', 'shape': (3,)", labels, sizeof labels)},
        {"notes.txt", {(unsigned char *)"no array", 8}},
    };
    for (int deflated = 0; deflated < 2; deflated++) {
        const char *path = in(deflated ? "deflated.npz" : "stored.npz");
        make_archive(path, deflated ? ZIP_DEFLATED : ZIP_STORED, members, 4);
        dataset *data = open_data(path);
        assert_int_equal(dataset_count(data), 3);
        assert_int_equal(dataset_class_count(data), 5);
        assert_null(dataset_class_name(data, 0));
        data_input inputs[3] = {{"ids", PAL_INT64, 1, {0}},
                                {"x", PAL_FLOAT32, 2, {2, 0}},
                                {"ids", PAL_FLOAT32, 1, {5}}};
        assert_ok(dataset_resolve(data, 0, inputs, 3));
        assert_int_equal(inputs[0].shape[0], 5);
        assert_int_equal(inputs[1].shape[1], 2);
        for (uint64_t i = 0; i < 3; i++) {
            int64_t numbers[5];
            float values[4], floats[5];
            void *buffers[3] = {numbers, values, floats};
            assert_ok(dataset_read(data, i, inputs, 3, buffers));
            assert_memory_equal(values, x[i], sizeof values);
            for (int k = 0; k < 5; k++) {
                assert_int_equal(numbers[k], ids[i][k]);
                assert_true(floats[k] == (float)ids[i][k]);
            }
            assert_int_equal(dataset_label(data, i), labels[i]);
        }
        char name[256];
        assert_non_null(strstr(dataset_sample_name(data, 2, name, sizeof name), ".npz: sample 2"));
        dataset_close(data);
    }
}

/* One array "x" of two samples of one value, read as either type. */
static pal_status read_value(const char *descr, const void *values, size_t size, pal_dtype dtype,
                             void *out)
{
    char header[64];
    snprintf(header, sizeof header, "'descr': '%s', 'shape': (2, 1)", descr);
    const member member = {"x.npy", make_npy(header, values, size)};
    make_archive(in("value.npz"), ZIP_STORED, &member, 1);
    dataset *data = open_data(in("value.npz"));
    assert_false(dataset_has_labels(data));
    const data_input input = {"x", dtype, 1, {1}};
    pal_status status = dataset_read(data, 1, &input, 1, &out);
    dataset_close(data);
    return status;
}

static void types(void **state)
{
    (void)state;
    float f;
    int64_t i;
#define EXPECT(descr, type, value)                                                                 \
    do {                                                                                           \
        const type v[2] = {0, value};                                                              \
        assert_ok(read_value(descr, v, sizeof v, PAL_FLOAT32, &f));                                \
        assert_true(f == (float)v[1]);                                                             \
        assert_ok(read_value(descr, v, sizeof v, PAL_INT64, &i));                                  \
        assert_true(i == (int64_t)v[1]);                                                           \
    } while (0)
    EXPECT("|i1", int8_t, -128);
    EXPECT("|u1", uint8_t, 255);
    EXPECT("|b1", uint8_t, 1);
    EXPECT("<i2", int16_t, -32768);
    EXPECT("<u2", uint16_t, 65535);
    EXPECT("<i4", int32_t, INT32_MIN);
    EXPECT("<u4", uint32_t, UINT32_MAX);
    EXPECT("<i8", int64_t, INT64_MAX - 12345);
    EXPECT("<u8", uint64_t, INT64_MAX);
    EXPECT("<f4", float, -16777216);
    EXPECT("<f8", double, 1LL << 53);
    const uint16_t half[2] = {0, 0xc000};
    assert_ok(read_value("<f2", half, sizeof half, PAL_FLOAT32, &f));
    assert_true(f == -2);
    assert_ok(read_value("<f2", half, sizeof half, PAL_INT64, &i));
    assert_int_equal(i, -2);
    const float infinite[2] = {0, -INFINITY};
    assert_ok(read_value("<f4", infinite, sizeof infinite, PAL_FLOAT32, &f));
    assert_true(f == -INFINITY);
}

static void values_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        double value;
        pal_dtype dtype;
        const char *text;
    } cases[] = {
        {NAN, PAL_FLOAT32, "value.npz: sample 1: input x: value 0 is NaN"},
        {NAN, PAL_INT64, "NaN"},
        {1e300, PAL_FLOAT32, "too large for float32"},
        {0.5, PAL_INT64, "not an integer"},
        {0x1p63, PAL_INT64, "not an integer"},
        {INFINITY, PAL_INT64, "not an integer"},
    };
    int64_t out;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double v[2] = {0, cases[i].value};
        assert_fails(read_value("<f8", v, sizeof v, cases[i].dtype, &out), PAL_ERROR_VALUE,
                     cases[i].text);
    }
    const uint64_t large[2] = {0, UINT64_MAX};
    assert_fails(read_value("<u8", large, sizeof large, PAL_INT64, &out), PAL_ERROR_VALUE, "int64");
    const uint16_t half[2] = {0, 0x7e00};
    assert_fails(read_value("<f2", half, sizeof half, PAL_FLOAT32, &out), PAL_ERROR_VALUE, "NaN");
}

static void unusable_npz(void **state)
{
    (void)state;
    static const float x[6];
    static const int64_t labels[6] = {0, 1, -1, 1LL << 40, 0, 0};
    const bytes six = make_npy("'descr': '<f4', 'shape': (6, 1)", x, 24);
    const data_options options = default_options();
    const struct {
        member members[2];
        const char *text;
    } cases[] = {
        {{{"x.npy", six}, {"labels.npy", make_npy("'descr': '<U1', 'shape': (6,)", x, 24)}},
         "labels.npy: values of NumPy type"},
        {{{"x.npy", six}, {"labels.npy", make_npy("'descr': '<i8', 'shape': (6,)", labels, 48)}},
         "sample 2: label -1"},
        {{{"x.npy", make_npy("'descr': '<i8', 'shape': (3, 2)", labels, 48)},
          {"labels.npy", make_npy("'descr': '<i8', 'shape': (3, 2)", labels, 48)}},
         "more than one"},
        {{{"x.npy", make_npy("'descr': '<f4', 'shape': ()", x, 4)}, {"b.txt", {NULL, 0}}},
         "a single value"},
        {{{"x.npy", make_npy("'descr': '<f4', 'shape': (1000000000000, 0)", x, 0)},
          {"b.txt", {NULL, 0}}},
         "without values"},
        {{{"a.txt", {NULL, 0}}, {"b.txt", {NULL, 0}}}, "no array"},
        {{{"x.npy", {(unsigned char *)"PK", 2}}, {"b.txt", {NULL, 0}}}, "x.npy: not a NumPy array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_archive(in("bad.npz"), i % 2 ? ZIP_STORED : ZIP_DEFLATED, cases[i].members, 2);
        dataset *data = NULL;
        assert_int_not_equal(dataset_open(in("bad.npz"), &options, &data), PAL_OK);
        if (!strstr(pal_error_message(), cases[i].text))
            print_error("%s\n", pal_error_message());
        assert_non_null(strstr(pal_error_message(), cases[i].text));
        assert_non_null(strstr(pal_error_message(), "bad.npz: "));
    }
    write_bytes(in("no.npz"), (bytes){(unsigned char *)"no archive", 10});
    expect_open(in("no.npz"), &options, PAL_ERROR_FORMAT, "no.npz: ");

    const member member = {"x.npy", six};
    make_archive(in("x.npz"), ZIP_STORED, &member, 1);
    data_options changed = options;
    assert_ok(data_options_set(&changed, "mean", "1"));
    expect_open(in("x.npz"), &changed, PAL_ERROR_ARGUMENT, "for images");
    changed = options;
    assert_ok(data_options_set(&changed, "split", "test"));
    expect_open(in("x.npz"), &changed, PAL_ERROR_ARGUMENT, "no splits");
    dataset *data = open_data(in("x.npz"));
    float value;
    void *buffer = &value;
    const data_input other = {"other", PAL_FLOAT32, 1, {1}}, wide = {"x", PAL_FLOAT32, 2, {7, 1}};
    assert_fails(dataset_read(data, 0, &other, 1, &buffer), PAL_ERROR_ARGUMENT,
                 "no array for input other; there are x");
    assert_fails(dataset_read(data, 0, &wide, 1, &buffer), PAL_ERROR_ARGUMENT,
                 "samples of x have shape (1), the model takes (7, 1)");
    dataset_close(data);
}

/* What else an archive holds is in nobody's way, until somebody asks for it. */
static void other_arrays(void **state)
{
    (void)state;
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t labels[3] = {2, 0, 1};
    const data_options options = default_options();
    const member members[] = {
        {"classes.npy", make_npy("'descr': '<U1', 'shape': (3,)", x, 12)},
        {"version.npy", make_npy("'descr': '<f4', 'shape': ()", x, 4)},
        {"none.npy", make_npy("'descr': '<f4', 'shape': (3, 0)", x, 0)},
        {"mean.npy", make_npy("'descr': '<f4', 'shape': (2,)", x, 8)},
        {"x.npy", make_npy("'descr': '<f4', 'shape': (3, 2)", x, 24)},
        {"labels.npy", make_npy("'descr': '<i8', 'shape': (3,)", labels, 24)},
    };
    static const struct {
        data_input input;
        const char *text;
    } refused[] = {
        {{"classes", PAL_FLOAT32, 0, {0}}, "other.npz: classes.npy: values of NumPy type"},
        {{"version", PAL_FLOAT32, 0, {0}}, "version.npy: a single value"},
        {{"none", PAL_FLOAT32, 1, {2}}, "none.npy: an array without values"},
    };
    for (size_t labelled = 0; labelled < 2; labelled++) {
        make_archive(in("other.npz"), ZIP_STORED, members, 5 + labelled);
        dataset *data = NULL;
        assert_ok(dataset_open(in("other.npz"), &options, &data));
        assert_int_equal(dataset_count(data), 3);
        assert_int_equal(dataset_label(data, 0), labelled ? 2 : -1);
        float values[2];
        void *buffer = values;
        const data_input own = {"x", PAL_FLOAT32, 1, {2}}, mean = {"mean", PAL_FLOAT32, 0, {0}};
        assert_ok(dataset_read(data, 1, &own, 1, &buffer));
        assert_true(values[0] == 3 && values[1] == 4);
        assert_fails(dataset_read(data, 0, &mean, 1, &buffer), PAL_ERROR_FORMAT,
                     labelled ? "mean.npy: 2 samples, where labels has 3"
                              : "mean.npy: 2 samples, where x has 3");
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
            assert_int_not_equal(dataset_read(data, 0, &refused[i].input, 1, &buffer), PAL_OK);
            if (!strstr(pal_error_message(), refused[i].text))
                print_error("%s\n", pal_error_message());
            assert_non_null(strstr(pal_error_message(), refused[i].text));
        }
        dataset_close(data);
    }
}

/* ---------------------------------------------------------------- IDX */

static void write_pair(const char *images, const char *labels, unsigned count, uint64_t seed)
{
    const unsigned shape[3] = {count, 3, 4};
    const bytes image_file = make_idx(3, shape, random_pixels(count * 12, seed));
    const bytes label_file = make_idx(1, shape, (const unsigned char *)"\1\0\7\3\3\2");
    write_bytes(in(images), strstr(images, ".gz") ? gzip(image_file) : image_file);
    if (labels)
        write_bytes(in(labels), strstr(labels, ".gz") ? gzip(label_file) : label_file);
}

static void expect_idx(const char *path, const char *split, unsigned count, uint64_t seed,
                       bool labelled)
{
    data_options options = default_options();
    assert_ok(data_options_set(&options, "scale", "1"));
    if (split)
        assert_ok(data_options_set(&options, "split", split));
    dataset *data = NULL;
    assert_ok(dataset_open(path, &options, &data));
    assert_int_equal(dataset_count(data), count);
    assert_int_equal(dataset_has_labels(data), labelled);
    assert_int_equal(dataset_class_count(data), labelled ? 8 : 0);
    const unsigned char *pixels = random_pixels(count * 12, seed);
    data_input input = image_input(0, 0, 0);
    assert_ok(dataset_resolve(data, 0, &input, 1));
    assert_int_equal(input.shape[0], 1);
    assert_int_equal(input.shape[1], 3);
    assert_int_equal(input.shape[2], 4);
    for (uint64_t i = 0; i < count; i++) {
        float values[12], thrice[36];
        void *buffer = values;
        assert_ok(dataset_read(data, i, &input, 1, &buffer));
        for (size_t k = 0; k < 12; k++)
            assert_true(values[k] == pixels[i * 12 + k]);
        buffer = thrice;
        const data_input colour = image_input(3, 3, 4);
        assert_ok(dataset_read(data, i, &colour, 1, &buffer));
        for (size_t c = 0; c < 3; c++)
            assert_memory_equal(thrice + 12 * c, values, sizeof values);
        assert_int_equal(dataset_label(data, i), labelled ? "\1\0\7\3\3\2"[i] : -1);
    }
    char name[256];
    assert_non_null(strstr(dataset_sample_name(data, 1, name, sizeof name), ": image 1"));
    dataset_close(data);
}

static void idx(void **state)
{
    (void)state;
    write_pair("m/train-images-idx3-ubyte", "m/train-labels-idx1-ubyte", 6, 1);
    write_pair("m/t10k-images-idx3-ubyte.gz", "m/t10k-labels-idx1-ubyte.gz", 5, 2);
    expect_idx(in("m/train-images-idx3-ubyte"), NULL, 6, 1, true);
    expect_idx(in("m/t10k-images-idx3-ubyte.gz"), "test", 5, 2, true);
    expect_idx(in("m"), "train", 6, 1, true);
    expect_idx(in("m"), "test", 5, 2, true);
    expect_idx(in("m"), "t10k", 5, 2, true);
    write_pair("one/train-images.idx3-ubyte", NULL, 3, 3);
    expect_idx(in("one"), NULL, 3, 3, false);
    /* the same twice, packed and not */
    write_pair("two/train-images-idx3-ubyte", "two/train-labels-idx1-ubyte.gz", 4, 4);
    write_pair("two/train-images-idx3-ubyte.gz", NULL, 4, 5);
    expect_idx(in("two"), NULL, 4, 4, true);
}

static void unusable_idx(void **state)
{
    (void)state;
    data_options options = default_options();
    write_pair("n/train-images-idx3-ubyte", "n/train-labels-idx1-ubyte", 6, 1);
    write_pair("n/t10k-images-idx3-ubyte", NULL, 6, 1);
    expect_open(in("n"), &options, PAL_ERROR_ARGUMENT,
                "say with --split which to take of test, train");
    assert_ok(data_options_set(&options, "split", "val"));
    expect_open(in("n"), &options, PAL_ERROR_ARGUMENT, "no split val; there are test, train");
    expect_open(in("n/train-images-idx3-ubyte"), &options, PAL_ERROR_ARGUMENT, "not that of split");
    options = default_options();
    const unsigned seven[] = {7}, none[] = {0, 3, 4}, thin[] = {4000000000u, 0, 4};
    static const unsigned char zeros[12];
    write_bytes(in("n/train-labels-idx1-ubyte"), make_idx(1, seven, zeros));
    expect_open(in("n/train-images-idx3-ubyte"), &options, PAL_ERROR_FORMAT,
                "7 labels for 6 images");
    const char *path = in("bad-images-idx3-ubyte");
    write_bytes(path, make_idx(3, none, zeros));
    expect_open(path, &options, PAL_ERROR_FORMAT, "no image");
    write_bytes(path, make_idx(3, thin, zeros));
    expect_open(path, &options, PAL_ERROR_FORMAT, "no image");
    write_bytes(path, make_idx(1, seven, zeros));
    expect_open(path, &options, PAL_ERROR_UNSUPPORTED, "type 0x08 in 1 dimensions");
    const unsigned shape[] = {2, 2, 2};
    bytes file = make_idx(3, shape, zeros);
    for (size_t size = 0; size < file.size; size++) {
        write_bytes(path, (bytes){file.data, size});
        expect_open(path, &options, PAL_ERROR_FORMAT, "idx3-ubyte: ");
    }
    file.data[8] = 0x70; /* many more rows than there are bytes, packed or not */
    write_bytes(path, file);
    expect_open(path, &options, PAL_ERROR_FORMAT, "fewer values");
    write_bytes(in("bad-images-idx3-ubyte.gz"), gzip(file));
    expect_open(in("bad-images-idx3-ubyte.gz"), &options, PAL_ERROR_FORMAT, "fewer values");
    file.data[8] = 0;
    file.data[11] = 1; /* fewer rows */
    write_bytes(path, file);
    expect_open(path, &options, PAL_ERROR_FORMAT, "more values");
    write_bytes(in("bad-images-idx3-ubyte.gz"), gzip(file));
    expect_open(in("bad-images-idx3-ubyte.gz"), &options, PAL_ERROR_FORMAT, "more values");
    const bytes packed = gzip(make_idx(3, shape, zeros));
    path = in("bad-images-idx3-ubyte.gz");
    for (size_t size = 0; size < packed.size; size++) {
        write_bytes(path, (bytes){packed.data, size});
        expect_open(path, &options, PAL_ERROR_FORMAT, "ubyte.gz: ");
    }
    for (size_t i = 1; i <= 8; i++) { /* the checksum and the length */
        packed.data[packed.size - i] ^= 1;
        write_bytes(path, packed);
        expect_open(path, &options, PAL_ERROR_FORMAT, "gzip data is damaged: incorrect");
        packed.data[packed.size - i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_inputs),         cmocka_unit_test(types),
        cmocka_unit_test(values_that_do_not_fit), cmocka_unit_test(unusable_npz),
        cmocka_unit_test(other_arrays),           cmocka_unit_test(idx),
        cmocka_unit_test(unusable_idx),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
