#include "method/train/statistics.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* How far running statistics move with each batch. */
static const float follow = 0.1F;

void statistics_free(statistics *it)
{
    for (size_t i = 0; it->norms && i < it->count; i++) {
        free(it->norms[i].mean);
        free(it->norms[i].variance);
        free(it->norms[i].sums);
    }
    free(it->norms);
    *it = (statistics){0};
}

static bool weight_of(const pal_model *model, const graph *graph, size_t value, size_t *weight)
{
    *weight = graph->values[value].weight;
    return *weight < model->weight_count && graph->values[value].constant &&
           !model->weights[*weight].locked;
}

static pal_status norm_new(const compression *c, const graph *graph, const batch_statistics *of,
                           norm_statistics *out)
{
    const pal_model *model = c->model;
    const graph_value *mean = &graph->values[of->running_mean];
    const graph_value *variance = &graph->values[of->running_variance];
    const size_t bytes = (size_t)of->channels * sizeof *out->mean;
    if (!weight_of(model, graph, of->running_mean, &out->mean_weight) ||
        !weight_of(model, graph, of->running_variance, &out->variance_weight))
        return fail(PAL_ERROR_UNSUPPORTED,
                    "%s: the statistics of a batch norm ('%s') are no weights that can be replaced",
                    model->path, mean->name);
    out->channels = of->channels;
    out->mean = mem_array((size_t)of->channels, sizeof *out->mean);
    out->variance = mem_array((size_t)of->channels, sizeof *out->variance);
    out->sums = mem_zeroed((size_t)of->channels * 2, sizeof *out->sums);
    if (!out->mean || !out->variance || !out->sums)
        return fail_memory("training");
    memcpy(out->mean, mean->constant->data, bytes);
    memcpy(out->variance, variance->constant->data, bytes);
    compression_adjusted(c, out->mean_weight, out->mean);
    compression_adjusted(c, out->variance_weight, out->variance);
    return PAL_OK;
}

pal_status statistics_new(const compression *compression, gradients *gradients, statistics *out)
{
    const plan *plan = gradients_plan(gradients);
    statistics it = {.count = plan_batch_norm_count(plan)};
    it.norms = mem_zeroed(it.count, sizeof *it.norms);
    pal_status status = it.norms ? PAL_OK : fail_memory("training");
    for (size_t i = 0; !status && i < it.count; i++) {
        const batch_statistics of = plan_batch_statistics(plan, i);
        status = norm_new(compression, gradients_graph(gradients), &of, &it.norms[i]);
    }
    if (status) {
        statistics_free(&it);
        return status;
    }
    *out = it;
    return PAL_OK;
}

/* A variance from a batch understates that of all samples. */
static double unbiased(const batch_statistics *of, uint64_t channel)
{
    const double count = (double)of->count;
    return (double)of->variance[channel] * (count > 1 ? count / (count - 1) : 1);
}

void statistics_follow(statistics *it, gradients *gradients)
{
    for (size_t i = 0; i < it->count; i++) {
        norm_statistics *norm = &it->norms[i];
        const batch_statistics of = plan_batch_statistics(gradients_plan(gradients), i);
        for (uint64_t c = 0; c < norm->channels; c++) {
            norm->mean[c] += follow * (of.mean[c] - norm->mean[c]);
            norm->variance[c] += follow * ((float)unbiased(&of, c) - norm->variance[c]);
        }
    }
}

void statistics_begin(statistics *it)
{
    it->batches = 0;
    for (size_t i = 0; i < it->count; i++)
        memset(it->norms[i].sums, 0, (size_t)it->norms[i].channels * 2 * sizeof(double));
}

void statistics_add(statistics *it, gradients *gradients)
{
    it->batches++;
    for (size_t i = 0; i < it->count; i++) {
        norm_statistics *norm = &it->norms[i];
        const batch_statistics of = plan_batch_statistics(gradients_plan(gradients), i);
        for (uint64_t c = 0; c < norm->channels; c++) {
            norm->sums[c] += (double)of.mean[c];
            norm->sums[norm->channels + c] += unbiased(&of, c);
        }
    }
}

void statistics_take(statistics *it)
{
    for (size_t i = 0; it->batches && i < it->count; i++) {
        norm_statistics *norm = &it->norms[i];
        for (uint64_t c = 0; c < norm->channels; c++) {
            norm->mean[c] = (float)(norm->sums[c] / (double)it->batches);
            norm->variance[c] = (float)(norm->sums[norm->channels + c] / (double)it->batches);
        }
    }
}
