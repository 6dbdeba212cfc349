/* Every allocation of the library fails once while data is opened and read: the answer is
 * PAL_ERROR_MEMORY or, where the library can do without, the usual one. Leaks are for the address
 * sanitizer. */
#include "data_files.h"

#include <png.h>

#include "data/loader.h"
#include "failing_memory.h"

/* Opens a dataset and reads all of it, through the loader and without. */
static pal_status use(const char *path, const data_options *options, data_input input)
{
    float values[3 * 16];
    void *buffer = values;
    dataset *data;
    loader *loader;
    pal_status status = dataset_open(path, options, &data);
    if (status)
        return status;
    status = dataset_read(data, 0, &input, 1, &buffer);
    if (!status)
        status = loader_open(data, &input, 1, 1, 2, 1, &loader);
    if (!status) {
        loader_batch batch = {.count = 1};
        while (!status && batch.count)
            status = loader_next(loader, &batch);
        loader_close(loader);
    }
    dataset_close(data);
    return status;
}

static void every_allocation(const char *path, data_input input)
{
    data_options options = default_options();
    if (input.rank == 3) {
        assert_ok(data_options_set(&options, "resize", "5"));
        assert_ok(data_options_set(&options, "crop", "4"));
    }
    options.shuffle = true;
    assert_ok(use(path, &options, input));
    long failures = 0, n = 0;
    for (bool reached = true; reached; n++) {
        memory_fail_after(n);
        const pal_status status = use(path, &options, input);
        reached = memory_failed();
        if (status)
            assert_fails(status, PAL_ERROR_MEMORY, "out of memory");
        failures += status != PAL_OK;
    }
    assert_true(failures > 10);
}

static void all_kinds(void **state)
{
    (void)state;
    const data_input image = image_input(3, 4, 4);
    const member images[] = {
        {"b/1.jpg", make_gray_jpeg(8, 8, 40)},
        {"a/1.png",
         make_png(8, 8, (png_form){PNG_COLOR_TYPE_PALETTE, 8, true, true}, random_pixels(64, 2))},
        {"c/1.jpg", make_jpeg(8, 8, 4, 90, true, random_pixels(256, 2))},
    };
    for (size_t i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "folder/%s", images[i].name);
        write_bytes(in(name), images[i].content);
    }
    every_allocation(in("folder"), image);
    make_archive(in("a.tar"), TAR, images, 3);
    every_allocation(in("a.tar"), image);
    make_archive(in("a.tar.gz"), TAR_GZ, images, 3);
    every_allocation(in("a.tar.gz"), image);
    static const unsigned shape[] = {2, 5, 6};
    write_bytes(in("idx/x-images-idx3-ubyte.gz"), gzip(make_idx(3, shape, random_pixels(60, 1))));
    write_bytes(in("idx/x-labels-idx1-ubyte"), make_idx(1, shape, (const unsigned char *)"\1\2"));
    every_allocation(in("idx"), image);
    static const int16_t values[6];
    const member arrays[] = {
        {"x.npy", make_npy("'descr': '<i2', 'shape': (3, 2)", values, sizeof values)},
        {"labels.npy", make_npy("'descr': '<i2', 'shape': (3,)", values, 6)},
    };
    make_archive(in("a.npz"), ZIP_DEFLATED, arrays, 2);
    every_allocation(in("a.npz"), (data_input){"x", PAL_FLOAT32, 1, {2}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
