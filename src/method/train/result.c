#include "method/train/result.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"

static size_t lut_length(const dkm_config *config)
{
    return config->groups * config->clusters * config->dim;
}

pal_status result_new(const parameters *parameters, const statistics *statistics, result *out)
{
    result it = {.weight_count = parameters->count, .norm_count = statistics->count};
    it.weights = mem_zeroed(it.weight_count, sizeof *it.weights);
    it.means = mem_zeroed(it.norm_count, sizeof *it.means);
    it.variances = mem_zeroed(it.norm_count, sizeof *it.variances);
    bool made = it.weights && it.means && it.variances;
    for (size_t i = 0; made && i < it.weight_count; i++) {
        const parameter *p = &parameters->list[i];
        result_weight *w = &it.weights[i];
        if (p->shares != i)
            continue;
        if (p->layer) {
            const dkm_config *config = dkm_configuration(p->layer);
            w->lut = mem_array(lut_length(config), sizeof *w->lut);
            w->indices = scratch_zeroed(p->elements / config->dim, 1);
            made = w->lut && w->indices;
        } else {
            w->values = scratch_zeroed(p->elements, sizeof *w->values);
            made = w->values;
        }
    }
    for (size_t i = 0; made && i < it.norm_count; i++) {
        const size_t channels = (size_t)statistics->norms[i].channels;
        it.means[i] = mem_array(channels, sizeof **it.means);
        it.variances[i] = mem_array(channels, sizeof **it.variances);
        made = it.means[i] && it.variances[i];
    }
    if (!made) {
        result_free(&it);
        return fail_memory("training");
    }
    *out = it;
    return PAL_OK;
}

void result_free(result *it)
{
    for (size_t i = 0; it->weights && i < it->weight_count; i++) {
        free(it->weights[i].lut);
        scratch_free(it->weights[i].indices);
        scratch_free(it->weights[i].values);
    }
    for (size_t i = 0; i < it->norm_count; i++) {
        if (it->means)
            free(it->means[i]);
        if (it->variances)
            free(it->variances[i]);
    }
    free(it->weights);
    free(it->means);
    free(it->variances);
    *it = (result){0};
}

/* ---------------------------------------------------------------- from training */

pal_status result_show(const parameters *parameters)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < parameters->count; i++) {
        const parameter *p = &parameters->list[i], *first = &parameters->list[p->shares];
        if (p->layer)
            status = dkm_harden(p->layer, parameters->workspaces[0], p->values, parameters->threads,
                                p->variable, NULL);
        else if (p != first)
            memcpy(p->variable, first->variable, (size_t)p->elements * sizeof *p->variable);
    }
    return status;
}

static void keep_table(const dkm *layer, float *to)
{
    const dkm_config *config = dkm_configuration(layer);
    const size_t each = config->clusters * config->dim;
    dkm_lut lut;
    for (size_t g = 0; g < config->groups; g++) {
        dkm_table(layer, g, &lut);
        memcpy(to + g * each, lut.value, each * sizeof *to);
    }
}

/* From the layer's order, group by group, to that of the tensor. */
static pal_status keep_indices(const parameters *parameters, const parameter *p, uint8_t *to)
{
    const dkm_config *config = dkm_configuration(p->layer);
    const size_t run = config->channels / config->dim * config->inner;
    const bool moves = config->outer > 1 && config->groups > 1;
    uint8_t *grouped = moves ? mem_array((size_t)p->elements / config->dim, 1) : to;
    if (!grouped)
        return fail_memory("training");
    pal_status status = dkm_harden(p->layer, parameters->workspaces[0], p->values,
                                   parameters->threads, NULL, grouped);
    for (size_t g = 0; moves && !status && g < config->groups; g++)
        for (size_t o = 0; o < config->outer; o++)
            memcpy(to + (o * config->groups + g) * run, grouped + (g * config->outer + o) * run,
                   run);
    if (moves)
        free(grouped);
    return status;
}

pal_status result_keep(result *it, const parameters *parameters, const statistics *statistics)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < it->weight_count; i++) {
        const parameter *p = &parameters->list[i];
        result_weight *w = &it->weights[i];
        if (w->lut) {
            keep_table(p->layer, w->lut);
            status = keep_indices(parameters, p, w->indices);
            scratch_release(w->indices);
        } else if (w->values) {
            memcpy(w->values, p->values, (size_t)p->elements * sizeof *w->values);
            scratch_release(w->values);
        }
    }
    for (size_t i = 0; !status && i < it->norm_count; i++) {
        const norm_statistics *norm = &statistics->norms[i];
        memcpy(it->means[i], norm->mean, (size_t)norm->channels * sizeof(float));
        memcpy(it->variances[i], norm->variance, (size_t)norm->channels * sizeof(float));
    }
    it->any = !status;
    return status;
}

/* ---------------------------------------------------------------- to the file */

pal_status result_apply(const result *it, const parameters *parameters,
                        const statistics *statistics, compression *compression)
{
    static const char trained[] = "trained", measured[] = "measured anew";
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < it->weight_count; i++) {
        const parameter *p = &parameters->list[i];
        const result_weight *w = &it->weights[p->shares];
        if (w->values && it->step)
            status = compression_adjust(compression, p->weight, w->values, trained);
        else if (!w->values && p->shares == i)
            status = compression_solve(compression, compression->targets[p->weight].source, w->lut,
                                       NULL, w->indices);
    }
    for (size_t i = 0; !status && it->step && i < it->norm_count; i++) {
        const norm_statistics *norm = &statistics->norms[i];
        status = compression_adjust(compression, norm->mean_weight, it->means[i], measured);
        if (!status)
            status =
                compression_adjust(compression, norm->variance_weight, it->variances[i], measured);
    }
    return status;
}
