/* The loader: the same batches at any number of threads, and errors, ends and restarts. */
#include "data_files.h"

#include <time.h>

#include "data/dataset_order.h"
#include "data/loader.h"

enum { SAMPLES = 53 };

/* An .npz of SAMPLES samples, x = (i, -i) and label i. */
static const char *numbers(void)
{
    float x[SAMPLES][2];
    int16_t labels[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        x[i][0] = (float)i;
        x[i][1] = (float)-i;
        labels[i] = (int16_t)i;
    }
    const member members[] = {
        {"x.npy", make_npy("'descr': '<f4', 'shape': (53, 2)", x, sizeof x)},
        {"labels.npy", make_npy("'descr': '<i2', 'shape': (53,)", labels, sizeof labels)},
    };
    make_archive(in("numbers.npz"), ZIP_DEFLATED, members, 2);
    return in("numbers.npz");
}

static const data_input x_input = {"x", PAL_FLOAT32, 1, {0}};

static dataset *open_numbers(bool shuffled, uint64_t limit)
{
    data_options options = default_options();
    options.shuffle = shuffled;
    options.seed = 3;
    options.limit = limit;
    dataset *data = NULL;
    assert_ok(dataset_open(numbers(), &options, &data));
    return data;
}

/* Reads an epoch to its end; the labels in their order. */
static void read_epoch(const dataset *data, loader *loader, size_t batch, uint64_t count,
                       int64_t *labels)
{
    uint64_t done = 0;
    loader_batch out;
    for (;;) {
        assert_ok(loader_next(loader, &out));
        assert_int_equal(out.first, done);
        if (!out.count)
            break;
        assert_int_equal(out.count, count - done < batch ? count - done : batch);
        const float *x = out.inputs[0];
        for (size_t i = 0; i < out.count; i++) {
            labels[done++] = out.labels[i];
            assert_int_equal(out.labels[i], dataset_label_source(data, out.samples[i]));
            assert_true(x[2 * i] == (float)out.labels[i] && x[2 * i + 1] == -x[2 * i]);
        }
    }
    assert_int_equal(done, count);
    assert_ok(loader_next(loader, &out)); /* the end stays the end */
    assert_int_equal(out.count, 0);
}

static void every_number_of_threads(void **state)
{
    (void)state;
    static const size_t batches[] = {1, 7, 53, 1000};
    dataset *data = open_numbers(true, 0);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        int64_t expected[SAMPLES], labels[SAMPLES];
        bool first = true;
        for (size_t b = 0; b < 4; b++)
            for (int threads = 1; threads <= 5; threads++)
                for (size_t depth = 1; depth <= 4; depth += 3) {
                    loader *loader;
                    assert_ok(loader_open(data, &x_input, 1, batches[b], threads, depth, &loader));
                    assert_int_equal(loader_inputs(loader)->shape[0], 2);
                    if (epoch)
                        assert_ok(loader_restart(loader, epoch));
                    read_epoch(data, loader, batches[b], SAMPLES, first ? expected : labels);
                    if (!first)
                        assert_memory_equal(labels, expected, sizeof labels);
                    first = false;
                    loader_close(loader);
                }
        if (epoch == 0)
            for (uint64_t i = 0; i < SAMPLES; i++)
                assert_int_equal(expected[i], dataset_label(data, i));
    }
    dataset_close(data);
}

/* Each epoch has the same samples in an order of its own; without shuffling, in the same order. */
static void epochs(void **state)
{
    (void)state;
    for (int shuffled = 0; shuffled < 2; shuffled++) {
        dataset *data = open_numbers(shuffled, 20);
        loader *loader;
        assert_ok(loader_open(data, &x_input, 1, 6, 2, 2, &loader));
        int64_t orders[4][20];
        for (uint64_t epoch = 0; epoch < 4; epoch++) {
            assert_ok(loader_restart(loader, epoch % 3));
            read_epoch(data, loader, 6, 20, orders[epoch]);
        }
        assert_memory_equal(orders[0], orders[3], sizeof *orders);
        int in_first[SAMPLES] = {0}, in_second[SAMPLES] = {0};
        for (int i = 0; i < 20; i++) {
            in_first[orders[0][i]]++;
            in_second[orders[1][i]]++;
        }
        assert_memory_equal(in_first, in_second, sizeof in_first);
        const bool same = memcmp(orders[0], orders[1], sizeof *orders) == 0 &&
                          memcmp(orders[1], orders[2], sizeof *orders) == 0;
        assert_int_equal(same, !shuffled);
        loader_close(loader);
        dataset_close(data);
    }
}

static void left_early(void **state)
{
    (void)state;
    dataset *data = open_numbers(false, 0);
    for (int taken = 0; taken < 6; taken++)
        for (int threads = 1; threads < 5; threads++) {
            loader *loader;
            loader_batch out;
            assert_ok(loader_open(data, &x_input, 1, 4, threads, 2, &loader));
            for (int i = 0; i < taken; i++)
                assert_ok(loader_next(loader, &out));
            if (taken == 3) { /* and begun anew in the middle */
                int64_t labels[SAMPLES];
                assert_ok(loader_restart(loader, 0));
                read_epoch(data, loader, 4, SAMPLES, labels);
            }
            loader_close(loader);
        }
    loader_close(NULL);
    dataset_close(data);
}

/* The batch stays as it is while threads read on. */
static void valid_until_the_next(void **state)
{
    (void)state;
    dataset *data = open_numbers(false, 0);
    loader *loader;
    assert_ok(loader_open(data, &x_input, 1, 5, 3, 1, &loader));
    for (int b = 0; b < 3; b++) {
        loader_batch out;
        assert_ok(loader_next(loader, &out));
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(out.labels[i], 5 * b + (int)i);
    }
    loader_close(loader);
    dataset_close(data);
}

/* Images 9 and 14 of 30 are damaged: the batch with the first fails, by name, at any threads. */
static void damaged_samples(void **state)
{
    (void)state;
    member members[30];
    for (int i = 0; i < 30; i++) {
        char *name = keep_memory(16);
        sprintf(name, "c/%02d.jpg", i);
        members[i] = (member){name, make_gray_jpeg(8, 8, (unsigned char)i)};
        if (i == 9 || i == 14)
            members[i].content.size /= 2;
    }
    make_archive(in("damaged.tar"), TAR, members, 30);
    data_options options = default_options();
    dataset *data;
    assert_ok(dataset_open(in("damaged.tar"), &options, &data));
    const data_input input = image_input(1, 8, 8);
    for (int threads = 1; threads < 6; threads++)
        for (size_t batch = 1; batch < 20; batch += 3) {
            loader *loader;
            loader_batch out;
            assert_ok(loader_open(data, &input, 1, batch, threads, 3, &loader));
            for (size_t b = 0; b < 9 / batch; b++) {
                assert_ok(loader_next(loader, &out));
                assert_int_equal(out.count, batch);
                assert_null(out.labels);
            }
            for (int again = 0; again < 2; again++)
                assert_fails(loader_next(loader, &out), PAL_ERROR_FORMAT,
                             "damaged.tar: c/09.jpg: JPEG: ");
            assert_ok(loader_restart(loader, 1)); /* as usable as before */
            if (batch <= 9)
                assert_ok(loader_next(loader, &out));
            loader_close(loader);
        }
    dataset_close(data);
}

static void refused(void **state)
{
    (void)state;
    dataset *data = open_numbers(false, 0);
    const data_input other = {"y", PAL_FLOAT32, 1, {0}};
    loader *loader = NULL;
    assert_fails(loader_open(data, &other, 1, 1, 1, 1, &loader), PAL_ERROR_ARGUMENT, "input y");
    assert_fails(loader_open(data, &x_input, 1, 0, 1, 1, &loader), PAL_ERROR_ARGUMENT, "batch");
    assert_fails(loader_open(data, &x_input, 1, 1, 0, 1, &loader), PAL_ERROR_ARGUMENT, "threads");
    assert_fails(loader_open(data, &x_input, 1, 1, 1, 0, &loader), PAL_ERROR_ARGUMENT, "depth");
    assert_null(loader);
    dataset_close(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_threads),
        cmocka_unit_test(epochs),
        cmocka_unit_test(left_early),
        cmocka_unit_test(valid_until_the_next),
        cmocka_unit_test(damaged_samples),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
