/* The public door to datasets. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "method/feed.h"

struct pal_data_options {
    data_options options;
};

const pal_data_option *pal_data_option_get(size_t i)
{
    return data_option_get(i);
}

pal_status pal_data_options_new(pal_data_options **out)
{
    pal_data_options *options = mem_zeroed(1, sizeof *options);
    if (!options)
        return fail_memory("options");
    data_options_default(&options->options);
    *out = options;
    return PAL_OK;
}

void pal_data_options_free(pal_data_options *options)
{
    free(options);
}

pal_status pal_data_options_set(pal_data_options *options, const char *name, const char *value)
{
    return data_options_set(&options->options, name, value);
}

/* Takes over the dataset that `opened` tells of. */
static pal_status wrap(pal_status opened, dataset *set, pal_data **out)
{
    if (opened)
        return opened;
    pal_data *data = mem_zeroed(1, sizeof *data);
    if (!data) {
        dataset_close(set);
        return fail_memory("a dataset");
    }
    data->set = set;
    *out = data;
    return PAL_OK;
}

pal_status data_open_sampled(const char *path, const pal_data_options *options, uint64_t samples,
                             uint64_t seed, pal_data **out)
{
    data_options sampled;
    data_options_default(&sampled);
    if (options)
        sampled = options->options;
    if (!sampled.limit && !sampled.shuffle)
        sampled.seed = seed;
    if (!sampled.limit) {
        sampled.limit = samples;
        sampled.shuffle = true;
    }
    dataset *set = NULL;
    const pal_status status = dataset_open(path, &sampled, &set);
    return wrap(status, set, out);
}

pal_status pal_data_open(const char *path, const pal_data_options *options, pal_data **out)
{
    data_options defaults;
    data_options_default(&defaults);
    dataset *set = NULL;
    const pal_status status = dataset_open(path, options ? &options->options : &defaults, &set);
    return wrap(status, set, out);
}

pal_status data_part(const pal_data *whole, uint64_t first, uint64_t count, pal_data **out)
{
    dataset *set = NULL;
    const pal_status status = dataset_part(whole->set, first, count, &set);
    return wrap(status, set, out);
}

pal_status data_select(const pal_data *whole, const uint64_t *samples, uint64_t count,
                       uint64_t seed, pal_data **out)
{
    dataset *set = NULL;
    const pal_status status = dataset_select(whole->set, samples, count, seed, &set);
    return wrap(status, set, out);
}

void pal_data_free(pal_data *data)
{
    if (!data)
        return;
    dataset_close(data->set);
    free(data);
}

uint64_t pal_data_count(const pal_data *data)
{
    return dataset_count(data->set);
}

int64_t pal_data_label(const pal_data *data, uint64_t i)
{
    return i < dataset_count(data->set) ? dataset_label(data->set, i) : -1;
}

const char *pal_data_class_name(const pal_data *data, size_t label)
{
    return label < dataset_class_count(data->set) ? dataset_class_name(data->set, label) : NULL;
}

pal_status pal_data_read(const pal_data *data, uint64_t i, pal_tensor *inputs, size_t count,
                         void *const *values)
{
    if (i >= dataset_count(data->set))
        return fail(PAL_ERROR_ARGUMENT, "sample %llu of %llu", (unsigned long long)i,
                    (unsigned long long)dataset_count(data->set));
    data_input *wanted = mem_zeroed(count, sizeof *wanted);
    if (!wanted)
        return fail_memory("a sample");
    pal_status status = PAL_OK;
    for (size_t k = 0; !status && k < count; k++)
        status = data_input_of(&inputs[k], &wanted[k]);
    if (!status)
        status = dataset_resolve(data->set, i, wanted, count);
    for (size_t k = 0; !status && k < count; k++)
        for (size_t d = 0; d < wanted[k].rank; d++)
            inputs[k].shape[d + 1] = (int64_t)wanted[k].shape[d];
    if (!status && values)
        status = dataset_read(data->set, i, wanted, count, values);
    free(wanted);
    return status;
}
