#include "method/feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/loader.h"

/* Batches that are read ahead. */
#define DEPTH 2

struct feed {
    loader *loader;
    size_t batch, input_count;
    pal_tensor *tensors;
    void **padded; /* for each input: room for a batch that the data does not fill, or NULL */
    size_t *bytes; /* of one sample of each input */
};

void feed_close(feed *feed)
{
    if (!feed)
        return;
    loader_close(feed->loader);
    for (size_t i = 0; feed->padded && i < feed->input_count; i++)
        free(feed->padded[i]);
    free(feed->padded);
    free(feed->tensors);
    free(feed->bytes);
    free(feed);
}

pal_status data_input_of(const pal_tensor *input, data_input *out)
{
    if (input->rank == 0)
        return fail(PAL_ERROR_UNSUPPORTED, "the model's input '%s' is a single number: no samples",
                    input->name);
    if (input->dtype == PAL_UINT8)
        return fail(PAL_ERROR_UNSUPPORTED, "the model's input '%s' is of booleans", input->name);
    *out = (data_input){.name = input->name, .dtype = input->dtype, .rank = input->rank - 1};
    for (size_t d = 1; d < input->rank; d++)
        out->shape[d - 1] = input->shape[d] == PAL_ANY ? 0 : (uint64_t)input->shape[d];
    return PAL_OK;
}

/* A multiple of what the model fixes, near what was asked for. */
static size_t batch_size(const pal_session *session, size_t asked, uint64_t samples)
{
    size_t fixed = 1;
    const pal_tensor *input;
    for (size_t i = 0; (input = pal_session_input(session, i)); i++)
        if (input->rank && input->shape[0] > 0)
            fixed = (size_t)input->shape[0];
    if (asked > samples)
        asked = (size_t)samples;
    return asked <= fixed ? fixed : (asked + fixed - 1) / fixed * fixed;
}

static pal_status describe(feed *feed)
{
    const data_input *inputs = loader_inputs(feed->loader);
    for (size_t i = 0; i < feed->input_count; i++) {
        pal_tensor *tensor = &feed->tensors[i];
        tensor->name = inputs[i].name;
        tensor->dtype = inputs[i].dtype;
        tensor->rank = inputs[i].rank + 1;
        tensor->shape[0] = (int64_t)feed->batch;
        feed->bytes[i] = pal_dtype_bits(inputs[i].dtype) / 8;
        for (size_t d = 0; d < inputs[i].rank; d++) {
            tensor->shape[d + 1] = (int64_t)inputs[i].shape[d];
            feed->bytes[i] *= (size_t)inputs[i].shape[d];
        }
    }
    return PAL_OK;
}

pal_status feed_open(const pal_data *data, const pal_session *session, size_t batch, int threads,
                     feed **out)
{
    size_t count = 0;
    while (pal_session_input(session, count))
        count++;
    if (!count)
        return fail(PAL_ERROR_UNSUPPORTED, "the model has no inputs: nothing can be asked of it");
    feed *feed = mem_zeroed(1, sizeof *feed);
    data_input *inputs = mem_zeroed(count, sizeof *inputs);
    pal_status status = feed && inputs ? PAL_OK : fail_memory("samples");
    if (!status) {
        feed->input_count = count;
        feed->batch = batch_size(session, batch, dataset_count(data->set));
        feed->tensors = mem_zeroed(count, sizeof *feed->tensors);
        feed->padded = mem_zeroed(count, sizeof *feed->padded);
        feed->bytes = mem_zeroed(count, sizeof *feed->bytes);
        if (!feed->tensors || !feed->padded || !feed->bytes)
            status = fail_memory("samples");
    }
    for (size_t i = 0; !status && i < count; i++)
        status = data_input_of(pal_session_input(session, i), &inputs[i]);
    if (!status)
        status = loader_open(data->set, inputs, count, feed->batch, threads > 2 ? threads / 2 : 1,
                             DEPTH, &feed->loader);
    if (!status)
        status = describe(feed);
    free(inputs);
    if (status) {
        feed_close(feed);
        return status;
    }
    *out = feed;
    return PAL_OK;
}

/* The samples of an input, and the last of them until the batch is full. */
static pal_status pad(feed *feed, size_t i, const void *samples, size_t count)
{
    const size_t bytes = feed->bytes[i];
    if (!feed->padded[i] && !(feed->padded[i] = mem_array(feed->batch, bytes ? bytes : 1)))
        return fail_memory("samples");
    unsigned char *to = feed->padded[i];
    memcpy(to, samples, count * bytes);
    for (size_t s = count; s < feed->batch; s++)
        memcpy(to + s * bytes, (const unsigned char *)samples + (count - 1) * bytes, bytes);
    return PAL_OK;
}

pal_status feed_begin(feed *feed, uint64_t epoch, uint64_t batch, const augmentation *how)
{
    loader_augment(feed->loader, how);
    return loader_seek(feed->loader, epoch, batch);
}

const pal_tensor *feed_inputs(const feed *feed, size_t *count)
{
    *count = feed->input_count;
    return feed->tensors;
}

pal_status feed_next(feed *feed, feed_batch *out)
{
    loader_batch batch;
    pal_status status = loader_next(feed->loader, &batch);
    for (size_t i = 0; !status && batch.count && i < feed->input_count; i++) {
        feed->tensors[i].data = batch.inputs[i];
        if (batch.count == feed->batch)
            continue;
        status = pad(feed, i, batch.inputs[i], batch.count);
        feed->tensors[i].data = feed->padded[i];
    }
    if (status)
        return status;
    *out = (feed_batch){.count = batch.count,
                        .inputs = feed->tensors,
                        .input_count = feed->input_count,
                        .labels = batch.labels,
                        .samples = batch.samples};
    return PAL_OK;
}
