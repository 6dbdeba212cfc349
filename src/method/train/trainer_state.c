/* What goes from one step to the next, as pieces of memory: one list for writing and for reading.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/dataset_order.h"
#include "method/train/checkpoint.h"
#include "method/train/trainer.h"

typedef struct pieces {
    state_piece *list;
    size_t count, capacity;
    bool failed;
} pieces;

static void put(pieces *to, void *data, uint64_t bytes)
{
    if (!data || to->failed)
        return;
    to->failed = !mem_grow((void **)&to->list, &to->capacity, to->count + 1, sizeof *to->list);
    if (!to->failed)
        to->list[to->count++] = (state_piece){data, (size_t)bytes};
}

static void put_parameters(pieces *to, const parameters *parameters)
{
    for (size_t i = 0; i < parameters->count; i++) {
        const parameter *p = &parameters->list[i];
        const uint64_t bytes = p->elements * sizeof(float);
        if (p->shares != i)
            continue;
        put(to, p->values, bytes);
        for (size_t s = 0; s < OPTIMIZER_MOST_SLOTS; s++)
            put(to, p->slots[s], bytes);
    }
}

static void put_best(pieces *to, result *best, const parameters *parameters,
                     const statistics *statistics)
{
    put(to, &best->any, sizeof best->any);
    put(to, &best->least, sizeof best->least);
    put(to, &best->step, sizeof best->step);
    for (size_t i = 0; i < best->weight_count; i++) {
        const parameter *p = &parameters->list[i];
        const result_weight *w = &best->weights[i];
        if (w->lut) {
            const dkm_config *config = dkm_configuration(p->layer);
            put(to, w->lut, config->groups * config->clusters * config->dim * sizeof *w->lut);
            put(to, w->indices, p->elements / config->dim);
        }
        put(to, w->values, p->elements * sizeof *w->values);
    }
    for (size_t i = 0; i < best->norm_count; i++) {
        const uint64_t bytes = statistics->norms[i].channels * sizeof(float);
        put(to, best->means[i], bytes);
        put(to, best->variances[i], bytes);
    }
}

static pal_status list_pieces(pal_trainer *it, pieces *to)
{
    *to = (pieces){0};
    put(to, &it->step, sizeof it->step);
    put(to, &it->steps, sizeof it->steps);
    put_parameters(to, &it->parameters);
    put(to, it->network.answers.values,
        it->network.answers.samples * it->network.answers.width * sizeof(float));
    put(to, it->network.answers.known, it->network.answers.samples);
    put(to, it->centroids, it->centroid_count * sizeof *it->centroids);
    for (size_t i = 0; i < it->statistics.count; i++) {
        const norm_statistics *norm = &it->statistics.norms[i];
        put(to, norm->mean, norm->channels * sizeof(float));
        put(to, norm->variance, norm->channels * sizeof(float));
    }
    put_best(to, &it->best, &it->parameters, &it->statistics);
    return to->failed ? fail_memory("a checkpoint") : PAL_OK;
}

/* ---------------------------------------------------------------- centroids */

static size_t centroids_of(const dkm *layer)
{
    const dkm_config *config = dkm_configuration(layer);
    return config->groups * config->clusters * config->dim;
}

/* Which samples there are, in which order, with which labels; and the values of the first ones, as
 * the model gets them. */
static pal_status sum_data(pal_trainer *it)
{
    const dataset *set = it->training->set;
    const uint64_t count = dataset_count(set), all = dataset_source_count(set);
    uint64_t *order = mem_array((size_t)count, sizeof *order);
    feed_batch batch;
    if (!order)
        return fail_memory("training");
    dataset_order(set, 0, order);
    uint64_t sum = checkpoint_sum(0, &all, sizeof all);
    sum = checkpoint_sum(sum, order, (size_t)count * sizeof *order);
    free(order);
    for (uint64_t i = 0; i < count; i++) {
        const int64_t label = dataset_label(set, i);
        sum = checkpoint_sum(sum, &label, sizeof label);
    }
    pal_status status = feed_begin(it->feed, 0, 0, NULL);
    if (!status)
        status = feed_next(it->feed, &batch);
    for (size_t i = 0; !status && i < batch.input_count; i++) {
        const pal_tensor *input = &batch.inputs[i];
        size_t bytes = pal_dtype_bits(input->dtype) / 8;
        for (size_t d = 0; d < input->rank; d++)
            bytes *= (size_t)input->shape[d];
        sum = checkpoint_sum(sum, input->data, bytes);
    }
    it->data_sum = sum;
    return status;
}

pal_status trainer_state_new(pal_trainer *it)
{
    if (*it->recipe.checkpoint || *it->recipe.resume) {
        pal_status status = sum_data(it);
        if (status)
            return status;
    }
    it->centroid_count = 0;
    for (size_t i = 0; i < it->parameters.count; i++)
        if (it->parameters.list[i].layer)
            it->centroid_count += centroids_of(it->parameters.list[i].layer);
    it->centroids = mem_zeroed(it->centroid_count, sizeof *it->centroids);
    return it->centroids ? PAL_OK : fail_memory("training");
}

static void fetch_centroids(pal_trainer *it)
{
    double *to = it->centroids;
    for (size_t i = 0; i < it->parameters.count; i++) {
        const dkm *layer = it->parameters.list[i].layer;
        if (!layer)
            continue;
        memcpy(to, dkm_centroids(layer), centroids_of(layer) * sizeof *to);
        to += centroids_of(layer);
    }
}

static pal_status set_centroids(pal_trainer *it)
{
    const double *from = it->centroids;
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < it->parameters.count; i++) {
        dkm *layer = it->parameters.list[i].layer;
        if (!layer)
            continue;
        status = dkm_set_centroids(layer, from);
        from += centroids_of(layer);
    }
    return status;
}

/* ---------------------------------------------------------------- which run it is */

static uint64_t fingerprint(const pal_trainer *it)
{
    const recipe *r = &it->recipe;
    const pal_model *model = it->compression.model;
    const double numbers[] = {(double)r->epochs,
                              r->start,
                              r->optimizer,
                              r->schedule,
                              r->lr,
                              r->warmup,
                              r->weight_decay,
                              r->momentum,
                              r->clip,
                              r->label_smoothing,
                              r->distill,
                              r->temperature,
                              r->validation,
                              (double)it->seed,
                              it->enough,
                              (double)it->batch,
                              (double)it->micro_batches,
                              (double)it->epoch_steps,
                              (double)r->statistics,
                              r->assignment,
                              r->tau,
                              r->tau_end,
                              r->zero_threshold,
                              (double)r->iterations,
                              (double)pal_data_count(it->training),
                              (double)it->network.output};
    uint64_t sum = checkpoint_sum(it->data_sum, numbers, sizeof numbers);
    sum = checkpoint_sum(sum, r->augment, strlen(r->augment));
    for (size_t i = 0; i < it->parameters.count; i++) {
        const parameter *p = &it->parameters.list[i];
        const model_weight *weight = &model->weights[p->weight];
        const target *t = &it->compression.targets[p->weight];
        const double form[] = {t->wanted,
                               t->nbits,
                               (double)t->plan.groups,
                               (double)t->plan.axis,
                               (double)t->settings.cluster_dim,
                               t->settings.lut_dtype,
                               t->settings.per_channel_scale};
        sum = checkpoint_sum(sum, weight->info.name, strlen(weight->info.name));
        sum = checkpoint_sum(sum, form, sizeof form);
        sum =
            checkpoint_sum(sum, weight->dense,
                           (size_t)weight->info.elements * pal_dtype_bits(weight->info.dtype) / 8);
    }
    return sum;
}

pal_status trainer_save(pal_trainer *it)
{
    pieces pieces;
    fetch_centroids(it);
    pal_status status = list_pieces(it, &pieces);
    if (!status)
        status =
            checkpoint_write(it->recipe.checkpoint, fingerprint(it), pieces.list, pieces.count);
    free(pieces.list);
    if (!status)
        it->saved_step = it->step;
    return status;
}

pal_status trainer_restore(pal_trainer *it)
{
    pieces pieces;
    pal_status status = list_pieces(it, &pieces);
    if (!status)
        status = checkpoint_read(it->recipe.resume, fingerprint(it), pieces.list, pieces.count);
    free(pieces.list);
    if (!status)
        status = set_centroids(it);
    if (!status && it->step > it->steps)
        status = fail(PAL_ERROR_FORMAT, "%s: step %llu of %llu", it->recipe.resume,
                      (unsigned long long)it->step, (unsigned long long)it->steps);
    return status;
}
