#include "data/dataset.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/dataset_order.h"
#include "data/preprocess.h"
#include "data/shuffle.h"
#include "data/source.h"

struct dataset {
    source *source;
    preprocessing preprocessing; /* for images */
    uint64_t *order;             /* of epoch 0: numbers of the source's samples */
    uint64_t count;
    bool part; /* of another dataset, whose source it reads */
};

/* ---------------------------------------------------------------- opening */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static pal_status open_source(const char *path, const char *split, source **out)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return fail_errno(path, "cannot open");
    if (S_ISDIR(info.st_mode)) {
        bool idx;
        pal_status status = is_idx_folder(path, &idx);
        if (status)
            return status;
        return idx ? idx_open(path, split, out) : image_folder_open(path, split, out);
    }
    if (ends_with(path, ".npz"))
        return npz_open(path, split, out);
    if (ends_with(path, ".tar") || ends_with(path, ".tar.gz") || ends_with(path, ".tgz"))
        return image_tar_open(path, split, out);
    if (is_idx_name(path))
        return idx_open(path, split, out);
    if (is_image_name(path))
        return image_file_open(path, split, out);
    return fail(
        PAL_ERROR_UNSUPPORTED,
        "%s: not a kind of data that is read: an image, a folder of them, .tar, .tar.gz, .tgz, "
        "*-images-idx3-ubyte, *-images-idx3-ubyte.gz or .npz",
        path);
}

/* Which samples there are, and their order in epoch 0. */
static pal_status choose_samples(const data_options *options, dataset *data)
{
    const uint64_t all = data->source->count;
    data->count = options->limit && options->limit < all ? options->limit : all;
    data->order = all <= SIZE_MAX ? mem_array((size_t)all, sizeof *data->order) : NULL;
    if (!data->order)
        return fail_memory("ordering samples");
    if (options->shuffle) {
        for (uint64_t i = 0; i < all; i++)
            data->order[i] = i;
        shuffle_numbers(data->order, all, options->seed, 0);
        return PAL_OK;
    }
    /* floor(i * all / count), which a product of 64 bits might not hold */
    const uint64_t step = all / data->count, rest = all % data->count;
    uint64_t whole = 0, part = 0;
    for (uint64_t i = 0; i < data->count; i++) {
        data->order[i] = whole;
        whole += step;
        part += rest;
        if (part >= data->count) {
            part -= data->count;
            whole++;
        }
    }
    return PAL_OK;
}

pal_status dataset_open(const char *path, const data_options *options, dataset **out)
{
    pal_status status = data_options_check(options);
    if (status)
        return status;
    dataset *data = mem_zeroed(1, sizeof *data);
    if (!data)
        return fail_memory("opening data");
    status = open_source(path, options->split, &data->source);
    if (!status && options->for_images && !data->source->kind->image)
        status = fail(PAL_ERROR_ARGUMENT,
                      "%s: scale, mean, std, resize, crop, layout and colour are for images", path);
    if (!status) {
        preprocessing_make(options, data->source->channels, &data->preprocessing);
        status = choose_samples(options, data);
    }
    if (status)
        dataset_close(data);
    else
        *out = data;
    return status;
}

pal_status dataset_part(const dataset *whole, uint64_t first, uint64_t count, dataset **out)
{
    if (!count || first > whole->count || count > whole->count - first)
        return fail(PAL_ERROR_ARGUMENT, "samples %llu to %llu of %llu", (unsigned long long)first,
                    (unsigned long long)(first + count), (unsigned long long)whole->count);
    dataset *data = mem_zeroed(1, sizeof *data);
    if (!data)
        return fail_memory("opening data");
    *data = *whole;
    data->part = true;
    data->count = count;
    data->order = mem_array((size_t)count, sizeof *data->order);
    if (!data->order) {
        free(data);
        return fail_memory("ordering samples");
    }
    memcpy(data->order, whole->order + first, (size_t)count * sizeof *data->order);
    *out = data;
    return PAL_OK;
}

pal_status dataset_select(const dataset *whole, const uint64_t *samples, uint64_t count,
                          uint64_t seed, dataset **out)
{
    pal_status status = dataset_part(whole, 0, count, out);
    for (uint64_t i = 0; !status && i < count; i++)
        (*out)->order[i] = whole->order[samples[i]];
    if (!status) {
        (*out)->preprocessing.options.shuffle = true;
        (*out)->preprocessing.options.seed = seed;
    }
    return status;
}

void dataset_close(dataset *data)
{
    if (!data)
        return;
    if (!data->part)
        source_free(data->source);
    free(data->order);
    free(data);
}

/* ---------------------------------------------------------------- what there is */

bool dataset_is_shuffled(const dataset *data)
{
    return data->preprocessing.options.shuffle;
}

uint64_t dataset_count(const dataset *data)
{
    return data->count;
}

bool dataset_has_labels(const dataset *data)
{
    return data->source->labels != NULL;
}

size_t dataset_class_count(const dataset *data)
{
    return data->source->class_count;
}

const char *dataset_class_name(const dataset *data, size_t i)
{
    const source *source = data->source;
    return source->class_names && i < source->class_count ? source->class_names[i] : NULL;
}

const char *dataset_sample_name(const dataset *data, uint64_t i, char *out, size_t size)
{
    data->source->kind->name(data->source, data->order[i], out, size);
    return out;
}

int64_t dataset_label(const dataset *data, uint64_t i)
{
    return dataset_label_source(data, data->order[i]);
}

int64_t dataset_label_source(const dataset *data, uint64_t sample)
{
    return data->source->labels ? data->source->labels[sample] : -1;
}

uint64_t dataset_source_count(const dataset *data)
{
    return data->source->count;
}

void dataset_order(const dataset *data, uint64_t epoch, uint64_t *order)
{
    memcpy(order, data->order, data->count * sizeof *order);
    if (data->preprocessing.options.shuffle && epoch)
        shuffle_numbers(order, data->count, data->preprocessing.options.seed, epoch);
}

/* ---------------------------------------------------------------- reading */

/* What any kind of data needs of the inputs. */
static pal_status check_inputs(const dataset *data, const data_input *inputs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (inputs[i].dtype != PAL_FLOAT32 && inputs[i].dtype != PAL_INT64)
            return fail(PAL_ERROR_UNSUPPORTED, "input %s takes %s, where data has float32 or int64",
                        inputs[i].name, pal_dtype_name(inputs[i].dtype));
        if (inputs[i].rank > PAL_MAX_RANK)
            return fail(PAL_ERROR_ARGUMENT, "input %s has more than %d dimensions", inputs[i].name,
                        PAL_MAX_RANK);
    }
    if (data->source->kind->image && count != 1)
        return fail(PAL_ERROR_UNSUPPORTED,
                    "images are for a model with one input, not for one with %zu; use an .npz",
                    count);
    return PAL_OK;
}

pal_status dataset_resolve(const dataset *data, uint64_t i, data_input *inputs, size_t count)
{
    const source *source = data->source;
    pal_status status = check_inputs(data, inputs, count);
    if (status)
        return status;
    if (source->kind->image) {
        image image = {0};
        status = source->kind->image(source, data->order[i], &image);
        if (!status)
            status = preprocess_shape(&data->preprocessing, &image, inputs);
        image_free(&image);
        return status;
    }
    for (size_t k = 0; !status && k < count; k++)
        status = source->kind->shape(source, &inputs[k]);
    return status;
}

pal_status dataset_read_source(const dataset *data, uint64_t sample, const augmentation *how,
                               uint64_t epoch, const data_input *inputs, size_t count,
                               void *const *buffers)
{
    const source *source = data->source;
    pal_status status = check_inputs(data, inputs, count);
    for (size_t k = 0; !status && k < count; k++)
        for (size_t d = 0; !status && d < inputs[k].rank; d++)
            if (!inputs[k].shape[d])
                status = fail(PAL_ERROR_ARGUMENT, "input %s has a free extent", inputs[k].name);
    if (status)
        return status;
    if (source->kind->image) {
        image image = {0};
        status = source->kind->image(source, sample, &image);
        if (!status) {
            status = preprocess(&data->preprocessing, how,
                                how ? augmentation_key(how, epoch, sample) : 0, &image, inputs,
                                buffers[0]);
            if (status)
                source_fail(source, sample, status);
        }
        image_free(&image);
        return status;
    }
    if (how)
        return fail(PAL_ERROR_ARGUMENT, "augment is for images; this data holds arrays");
    for (size_t k = 0; !status && k < count; k++)
        status = source->kind->values(source, sample, &inputs[k], buffers[k]);
    return status;
}

pal_status dataset_read(const dataset *data, uint64_t i, const data_input *inputs, size_t count,
                        void *const *buffers)
{
    return dataset_read_source(data, data->order[i], NULL, 0, inputs, count, buffers);
}
