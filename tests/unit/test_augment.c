/* Augmentation, against plain statements of what each part does. */
#include "data_files.h"

#include "data/augment.h"
#include "data/loader.h"

enum { WIDTH = 7, HEIGHT = 5, BYTES = WIDTH * HEIGHT * 3 };

static image numbered(void)
{
    image it;
    assert_ok(image_allocate(&it, WIDTH, HEIGHT, 3));
    for (int i = 0; i < BYTES; i++)
        it.pixels[i] = (unsigned char)(i + 1);
    return it;
}

static void words(void **state)
{
    (void)state;
    augmentation it = {.seed = 9};
    assert_ok(augmentation_parse("none", &it));
    assert_false(augmentation_is_any(&it));
    assert_ok(augmentation_parse("flip,crop,resized_crop=0.5,colour=0.25", &it));
    assert_true(it.flip && it.pad == 4 && it.least_area == 0.5 && it.colour == 0.25 &&
                it.seed == 9);
    assert_ok(augmentation_parse("crop=2", &it));
    assert_true(!it.flip && it.pad == 2 && it.least_area == 0);
    static const char *const wrong[] = {"flop",       "flip=1",        "crop=",  "crop=x",
                                        "crop=2y",    "colour=2",      "crop=0", ",flip",
                                        "flip,,crop", "resized_crop=0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(augmentation_parse(wrong[i], &it), PAL_ERROR_ARGUMENT, "augment");
    assert_true(it.pad == 2);
}

/* Flipped and moved: one of the images that there can be, and all of them turn up. */
static void moved(void **state)
{
    (void)state;
    enum { PAD = 2, SIDE = 2 * PAD + 1 };
    const augmentation it = {.flip = true, .pad = PAD, .seed = 3};
    bool seen[2][SIDE][SIDE] = {0};
    size_t found = 0;
    for (uint64_t sample = 0; sample < 2000; sample++) {
        image out = numbered(), in = numbered();
        assert_ok(augment(&it, augmentation_key(&it, 1, sample), &out));
        bool matched = false;
        for (int f = 0; f < 2 && !matched; f++)
            for (int dy = -PAD; dy <= PAD && !matched; dy++)
                for (int dx = -PAD; dx <= PAD && !matched; dx++) {
                    bool same = true;
                    for (int y = 0; y < HEIGHT; y++)
                        for (int x = 0; x < WIDTH; x++)
                            for (int c = 0; c < 3; c++) {
                                const int sy = y + dy, sx = x + dx;
                                const bool inside = sy >= 0 && sy < HEIGHT && sx >= 0 && sx < WIDTH;
                                const int at = f ? WIDTH - 1 - sx : sx;
                                same =
                                    same && out.pixels[(y * WIDTH + x) * 3 + c] ==
                                                (inside ? in.pixels[(sy * WIDTH + at) * 3 + c] : 0);
                            }
                    matched = same;
                    if (same && !seen[f][dy + PAD][dx + PAD]) {
                        seen[f][dy + PAD][dx + PAD] = true;
                        found++;
                    }
                }
        assert_true(matched);
        image_free(&in);
        image_free(&out);
    }
    assert_int_equal(found, 2 * SIDE * SIDE);
}

/* A picture whose value tells the place: what a cut-out shows is a part of it, in order. */
static void cut_out(void **state)
{
    (void)state;
    const augmentation it = {.least_area = 0.3, .seed = 1};
    double least = 1e9, most = 0;
    for (uint64_t sample = 0; sample < 300; sample++) {
        image out;
        bool done;
        assert_ok(image_allocate(&out, 100, 80, 1));
        for (int y = 0; y < 80; y++)
            for (int x = 0; x < 100; x++)
                out.pixels[y * 100 + x] = (unsigned char)(x + y);
        assert_ok(augment_cut(&it, augmentation_key(&it, 0, sample), 20, 20, &out, &done));
        assert_true(done && out.width == 20 && out.height == 20);
        /* From the slopes along both sides: the size of the part. */
        const double wide = (out.pixels[10 * 20 + 19] - out.pixels[10 * 20]) * 20.0 / 19;
        const double high = (out.pixels[19 * 20 + 10] - out.pixels[10]) * 20.0 / 19;
        assert_true(wide > 0 && wide < 106 && high > 0 && high < 86);
        least = fmin(least, wide * high / 8000);
        most = fmax(most, wide * high / 8000);
        image_free(&out);
    }
    assert_true(least > 0.2 && least < 0.4 && most > 0.85 && most < 1.15);
}

static void colours(void **state)
{
    (void)state;
    const augmentation it = {.colour = 0.2, .seed = 1};
    bool darker = false, lighter = false, grayer = false;
    for (uint64_t sample = 0; sample < 50; sample++) {
        image out;
        assert_ok(image_allocate(&out, 2, 1, 3));
        memcpy(out.pixels, (const unsigned char[]){100, 120, 140, 100, 120, 140}, 6);
        assert_ok(augment(&it, augmentation_key(&it, 0, sample), &out));
        assert_memory_equal(out.pixels, out.pixels + 3, 3);
        /* Two equal pixels: contrast about their mean changes nothing but by saturation. */
        assert_true(out.pixels[0] < out.pixels[1] && out.pixels[1] < out.pixels[2]);
        assert_true(out.pixels[1] > 85 && out.pixels[1] < 155);
        darker = darker || out.pixels[1] < 110;
        lighter = lighter || out.pixels[1] > 130;
        grayer = grayer || out.pixels[2] - out.pixels[0] < 36;
        image_free(&out);
    }
    assert_true(darker && lighter && grayer);
}

/* ---------------------------------------------------------------- in the loader */

enum { IMAGES = 23, SIDE = 8, BATCH = 5, BATCHES = 5 };

static const char *images(void)
{
    static unsigned char pixels[IMAGES * SIDE * SIDE], labels[IMAGES];
    for (int i = 0; i < IMAGES; i++)
        labels[i] = (unsigned char)(i % 10);
    memcpy(pixels, random_pixels(sizeof pixels, 4), sizeof pixels);
    write_bytes(in("t-images-idx3-ubyte"),
                make_idx(3, (const unsigned[]){IMAGES, SIDE, SIDE}, pixels));
    write_bytes(in("t-labels-idx1-ubyte"), make_idx(1, (const unsigned[]){IMAGES}, labels));
    return in("t-images-idx3-ubyte");
}

/* What an epoch holds from a batch on, at any number of threads and wherever one begins. */
static void in_batches(void **state)
{
    (void)state;
    const augmentation how = {.flip = true, .pad = 1, .seed = 5};
    data_options options = default_options();
    options.shuffle = true;
    dataset *data;
    assert_ok(dataset_open(images(), &options, &data));
    const data_input input = {"image", PAL_FLOAT32, 3, {1, SIDE, SIDE}};
    static float expected[2][BATCHES][BATCH * SIDE * SIDE];
    size_t differing = 0;
    for (int threads = 1; threads <= 3; threads++) {
        loader *loader;
        loader_batch batch;
        assert_ok(loader_open(data, &input, 1, BATCH, threads, 2, &loader));
        loader_augment(loader, &how);
        for (uint64_t epoch = 0; epoch < 2; epoch++)
            for (uint64_t first = 0; first <= BATCHES; first++) {
                assert_ok(loader_seek(loader, epoch, first));
                for (uint64_t b = first; b < BATCHES; b++) {
                    assert_ok(loader_next(loader, &batch));
                    const size_t size = batch.count * SIDE * SIDE * sizeof(float);
                    assert_int_equal(batch.first, b * BATCH);
                    if (threads == 1 && first == 0)
                        memcpy(expected[epoch][b], batch.inputs[0], size);
                    assert_memory_equal(expected[epoch][b], batch.inputs[0], size);
                }
                assert_ok(loader_next(loader, &batch));
                assert_int_equal(batch.count, 0);
            }
        /* And without augmentation they are others. */
        loader_augment(loader, NULL);
        assert_ok(loader_seek(loader, 1, 0));
        assert_ok(loader_next(loader, &batch));
        differing +=
            memcmp(batch.inputs[0], expected[1][0], BATCH * SIDE * SIDE * sizeof(float)) != 0;
        loader_close(loader);
    }
    assert_int_equal(differing, 3);
    dataset_close(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),   cmocka_unit_test(moved),      cmocka_unit_test(cut_out),
        cmocka_unit_test(colours), cmocka_unit_test(in_batches),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
