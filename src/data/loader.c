#include "data/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/dataset_order.h"

/* Samples that a thread takes at once at most, so that threads seldom meet at the lock. */
enum { CHUNK = 16 };

/* Room for a batch. Batch b has slot b % slots. */
typedef struct slot {
    void **buffers;  /* for each input */
    int64_t *labels; /* or NULL */
    size_t left;     /* samples that are still to be read */
    /* The failure of the first sample that failed: */
    pal_status status;
    uint64_t failed;
    status_message message;
} slot;

struct loader {
    const dataset *data;
    data_input *inputs;
    size_t input_count;
    size_t *sample_bytes; /* of each input */
    size_t batch, chunk;
    uint64_t *order; /* of this epoch */
    uint64_t count, batches;
    uint64_t epoch;
    const augmentation *how; /* NULL: samples as they are */

    slot *slots;
    size_t slot_count;
    pthread_t *threads;
    int thread_count, running;

    pthread_mutex_t lock; /* of all below, and of the slots' last four fields */
    pthread_cond_t room;  /* for threads: a slot is free, or all is over */
    pthread_cond_t ready; /* for the consumer: a batch is complete */
    uint64_t next;        /* the first sample that no thread has taken */
    uint64_t consumed;    /* batches that the consumer gave back */
    uint64_t given;       /* batches that it was given */
    uint64_t last_batch;  /* no batch after this is begun: one has failed */
    bool stop;
};

static uint64_t batch_end(const loader *loader, uint64_t b)
{
    return b + 1 < loader->batches ? (b + 1) * loader->batch : loader->count;
}

/* ---------------------------------------------------------------- the threads */

/* Takes samples to read, *begin .. *end of one batch; false when there is nothing left to do. Call
 * it with the lock. */
static bool take_work(loader *loader, uint64_t *begin, uint64_t *end)
{
    for (;;) {
        const uint64_t b = loader->next / loader->batch;
        if (loader->stop || loader->next >= loader->count || b > loader->last_batch)
            return false;
        if (b < loader->consumed + loader->slot_count) {
            slot *slot = &loader->slots[b % loader->slot_count];
            const uint64_t rest = batch_end(loader, b) - loader->next;
            if (loader->next == b * loader->batch) {
                slot->left = (size_t)rest;
                slot->status = PAL_OK;
            }
            *begin = loader->next;
            *end = loader->next + (rest < loader->chunk ? rest : loader->chunk);
            loader->next = *end;
            return true;
        }
        pthread_cond_wait(&loader->room, &loader->lock);
    }
}

static pal_status read_sample(loader *loader, slot *slot, uint64_t i, void **buffers)
{
    const size_t place = (size_t)(i % loader->batch);
    const uint64_t sample = loader->order[i];
    for (size_t k = 0; k < loader->input_count; k++)
        buffers[k] = (unsigned char *)slot->buffers[k] + place * loader->sample_bytes[k];
    if (slot->labels)
        slot->labels[place] = dataset_label_source(loader->data, sample);
    return dataset_read_source(loader->data, sample, loader->how, loader->epoch, loader->inputs,
                               loader->input_count, buffers);
}

static void keep_failure(loader *loader, slot *slot, uint64_t i, pal_status status)
{
    if (slot->status && slot->failed < i)
        return;
    slot->status = status;
    slot->failed = i;
    status_message_take(&slot->message);
    if (i / loader->batch < loader->last_batch)
        loader->last_batch = i / loader->batch;
    pthread_cond_broadcast(&loader->room);
}

static void *work(void *user)
{
    loader *loader = user;
    void **buffers = mem_array(loader->input_count, sizeof *buffers);
    uint64_t begin, end;
    pthread_mutex_lock(&loader->lock);
    while (take_work(loader, &begin, &end)) {
        slot *slot = &loader->slots[begin / loader->batch % loader->slot_count];
        pthread_mutex_unlock(&loader->lock);
        pal_status status = buffers ? PAL_OK : fail_memory("reading samples");
        uint64_t i = begin;
        for (; !status && i < end; i++)
            status = read_sample(loader, slot, i, buffers);
        pthread_mutex_lock(&loader->lock);
        if (status)
            keep_failure(loader, slot, i > begin ? i - 1 : begin, status);
        slot->left -= (size_t)(end - begin);
        if (!slot->left)
            pthread_cond_signal(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    free(buffers);
    return NULL;
}

static void stop_threads(loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->room);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->running; i++)
        pthread_join(loader->threads[i], NULL);
    loader->running = 0;
}

pal_status loader_restart(loader *loader, uint64_t epoch)
{
    return loader_seek(loader, epoch, 0);
}

void loader_augment(loader *loader, const augmentation *how)
{
    stop_threads(loader);
    loader->how = how;
}

pal_status loader_seek(loader *loader, uint64_t epoch, uint64_t batch)
{
    stop_threads(loader);
    dataset_order(loader->data, epoch, loader->order);
    loader->epoch = epoch;
    loader->consumed = loader->given = batch < loader->batches ? batch : loader->batches;
    loader->next = loader->given < loader->batches ? loader->given * loader->batch : loader->count;
    loader->last_batch = loader->batches;
    loader->stop = false;
    for (; loader->running < loader->thread_count; loader->running++)
        if (pthread_create(&loader->threads[loader->running], NULL, work, loader)) {
            stop_threads(loader);
            return fail(PAL_ERROR_MEMORY, "cannot start a thread to read samples");
        }
    return PAL_OK;
}

/* ---------------------------------------------------------------- opening */

static pal_status measure(loader *loader, size_t k)
{
    uint64_t bytes = pal_dtype_bits(loader->inputs[k].dtype) / 8, all;
    for (size_t d = 0; d < loader->inputs[k].rank; d++)
        if (!mem_multiply(bytes, loader->inputs[k].shape[d], &bytes))
            return fail(PAL_ERROR_ARGUMENT, "input %s is beyond 64 bits", loader->inputs[k].name);
    if (!mem_multiply(bytes, loader->batch, &all) || all > SIZE_MAX / 2)
        return fail(PAL_ERROR_ARGUMENT, "a batch of %zu is too large for input %s", loader->batch,
                    loader->inputs[k].name);
    loader->sample_bytes[k] = (size_t)bytes;
    return PAL_OK;
}

static pal_status make_slot(const loader *loader, slot *slot)
{
    slot->buffers = mem_zeroed(loader->input_count, sizeof *slot->buffers);
    if (!slot->buffers)
        return fail_memory("making room for batches");
    for (size_t k = 0; k < loader->input_count; k++) {
        slot->buffers[k] = mem_array(loader->batch, loader->sample_bytes[k]);
        if (!slot->buffers[k])
            return fail_memory("making room for batches");
    }
    if (dataset_has_labels(loader->data)) {
        slot->labels = mem_array(loader->batch, sizeof *slot->labels);
        if (!slot->labels)
            return fail_memory("making room for batches");
    }
    return PAL_OK;
}

static pal_status make_room(loader *loader, int threads)
{
    loader->slots = mem_zeroed(loader->slot_count, sizeof *loader->slots);
    loader->order = mem_array((size_t)loader->count, sizeof *loader->order);
    loader->threads = mem_array((size_t)threads, sizeof *loader->threads);
    if (!loader->slots || !loader->order || !loader->threads)
        return fail_memory("making room for batches");
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < loader->slot_count; i++)
        status = make_slot(loader, &loader->slots[i]);
    return status;
}

/* The rest, once there is a loader to close. */
static pal_status begin(loader *loader, const data_input *inputs, int threads)
{
    loader->inputs = mem_array(loader->input_count, sizeof *inputs);
    loader->sample_bytes = mem_array(loader->input_count, sizeof *loader->sample_bytes);
    if (!loader->inputs || !loader->sample_bytes)
        return fail_memory("making room for batches");
    if (loader->input_count)
        memcpy(loader->inputs, inputs, loader->input_count * sizeof *inputs);
    pal_status status = dataset_resolve(loader->data, 0, loader->inputs, loader->input_count);
    for (size_t k = 0; !status && k < loader->input_count; k++)
        status = measure(loader, k);
    if (!status)
        status = make_room(loader, threads);
    return status ? status : loader_restart(loader, 0);
}

pal_status loader_open(const dataset *data, const data_input *inputs, size_t count, size_t batch,
                       int threads, size_t depth, loader **out)
{
    if (batch < 1 || threads < 1 || depth < 1)
        return fail(PAL_ERROR_ARGUMENT, "batch, threads and depth are 1 or more");
    loader *made = mem_zeroed(1, sizeof *made);
    if (!made)
        return fail_memory("opening a loader");
    made->data = data;
    made->input_count = count;
    made->count = dataset_count(data);
    made->batch = batch < made->count ? batch : (size_t)made->count;
    made->batches = (made->count - 1) / made->batch + 1;
    /* One slot is the consumer's, and no more are of use than there are batches. */
    made->slot_count = depth < made->batches ? depth + 1 : (size_t)made->batches;
    const size_t share = made->batch / 2 / (size_t)threads;
    made->chunk = share < 1 ? 1 : share < CHUNK ? share : CHUNK;
    made->thread_count = threads;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->room, NULL);
    pthread_cond_init(&made->ready, NULL);
    pal_status status = begin(made, inputs, threads);
    if (status)
        loader_close(made);
    else
        *out = made;
    return status;
}

void loader_close(loader *loader)
{
    if (!loader)
        return;
    stop_threads(loader);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->room);
    pthread_mutex_destroy(&loader->lock);
    for (size_t i = 0; loader->slots && i < loader->slot_count; i++) {
        for (size_t k = 0; loader->slots[i].buffers && k < loader->input_count; k++)
            free(loader->slots[i].buffers[k]);
        free(loader->slots[i].buffers);
        free(loader->slots[i].labels);
    }
    free(loader->slots);
    free(loader->threads);
    free(loader->order);
    free(loader->sample_bytes);
    free(loader->inputs);
    free(loader);
}

/* ---------------------------------------------------------------- the consumer */

const data_input *loader_inputs(const loader *loader)
{
    return loader->inputs;
}

pal_status loader_next(loader *loader, loader_batch *out)
{
    const uint64_t b = loader->given;
    if (loader->running == 0)
        return fail(PAL_ERROR_ARGUMENT, "the loader was not restarted");
    if (b == loader->batches) {
        *out = (loader_batch){.first = loader->count};
        return PAL_OK;
    }
    slot *slot = &loader->slots[b % loader->slot_count];
    pthread_mutex_lock(&loader->lock);
    if (loader->consumed < b) {
        loader->consumed = b;
        pthread_cond_broadcast(&loader->room);
    }
    while (loader->next < batch_end(loader, b) || slot->left)
        pthread_cond_wait(&loader->ready, &loader->lock);
    const pal_status status = slot->status;
    if (status)
        status_message_put(&slot->message);
    pthread_mutex_unlock(&loader->lock);
    if (status)
        return status;
    *out = (loader_batch){
        .first = b * loader->batch,
        .count = (size_t)(batch_end(loader, b) - b * loader->batch),
        .inputs = slot->buffers,
        .labels = slot->labels,
        .samples = loader->order + b * loader->batch,
    };
    loader->given = b + 1;
    return PAL_OK;
}
