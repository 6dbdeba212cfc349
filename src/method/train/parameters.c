#include "method/train/parameters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "method/train/start.h"

/* A tensor of at least so many weights has all threads to itself; smaller ones share them. */
#define LARGE_TENSOR (1u << 20)

/* ---------------------------------------------------------------- layers */

/* The scales by which a palette's values are multiplied, as floats. */
static pal_status scales_of(const target *t, float **out)
{
    *out = NULL;
    if (!t->palette->scale)
        return PAL_OK;
    const uint64_t count = palette_scale_elements(t->palette);
    *out = mem_array((size_t)count, sizeof **out);
    if (!*out)
        return fail_memory("training");
    for (uint64_t i = 0; i < count; i++)
        (*out)[i] = grid_get(t->grid, t->palette->scale, i);
    return PAL_OK;
}

/* A temperature in units of the variance, from one in units of what the variance is to a cluster:
 * neighbouring centroids are then equally soft at any number of them. */
static double relative_tau(const dkm_config *config, double tau)
{
    return tau / pow(config->clusters, 2.0 / config->dim);
}

static pal_status layer_new(const target *t, const recipe *recipe, dkm **out)
{
    dkm_config config = dkm_defaults(t->group_elements, 1u << t->nbits);
    float *scale;
    pal_status status = scales_of(t, &scale);
    if (status)
        return status;
    config.outer = t->outer;
    config.groups = (size_t)t->plan.groups;
    config.channels = t->channels / (size_t)t->plan.groups;
    config.inner = t->inner;
    config.dim = (unsigned)t->settings.cluster_dim;
    config.mode = recipe->assignment == ASSIGNMENT_SOFT ? DKM_SOFT : DKM_HARD;
    config.tau = relative_tau(&config, recipe->tau);
    config.relative = true;
    config.iterations = (unsigned)recipe->iterations;
    config.zero_threshold = recipe->zero_threshold;
    config.repair = true;
    config.weights = t->grid;
    config.table = target_lut_grid(t);
    config.scale = scale;
    config.scale_outer = t->inner; /* one for each position in the dimensions but the axis */
    config.scale_inner = 1;
    status = dkm_new(&config, out);
    free(scale);
    return status;
}

/* ---------------------------------------------------------------- making and freeing */

static void parameter_free(parameter *p)
{
    if (p->values != p->variable)
        free(p->values);
    free(p->sum);
    for (size_t s = 0; s < OPTIMIZER_MOST_SLOTS; s++)
        free(p->slots[s]);
    dkm_free(p->layer);
}

void parameters_free(parameters *it)
{
    for (size_t i = 0; it->list && i < it->count; i++)
        parameter_free(&it->list[i]);
    free(it->list);
    for (int t = 0; it->workspaces && t < it->threads; t++)
        dkm_workspace_free(it->workspaces[t]);
    free(it->workspaces);
    *it = (parameters){0};
}

/* The first parameter that holds the same values of the file as this one. */
static size_t find_shared(const parameters *it, size_t i)
{
    const compression *c = it->compression;
    const size_t weight = it->list[i].weight;
    const target *t = &c->targets[weight];
    for (size_t j = 0; j < i; j++) {
        const size_t other = it->list[j].weight;
        const bool same =
            t->wanted ? t->source == c->targets[other].source && c->targets[other].wanted
                      : c->model->weights[weight].same_as == c->model->weights[other].same_as &&
                            !c->targets[other].wanted;
        if (same && it->list[j].shares == j)
            return j;
    }
    return i;
}

/* Whether the file has one palette for this weight and for a parameter that is there. */
static bool has_palette_of_another(const parameters *it, const gradient_variable *variable)
{
    const target *targets = it->compression->targets;
    const size_t weight = variable->weight;
    for (size_t i = 0; targets[weight].wanted && i < it->count; i++) {
        const size_t other = it->list[i].weight;
        if (targets[other].wanted && targets[other].source == targets[weight].source)
            return true;
    }
    return false;
}

static pal_status parameter_new(parameters *it, const gradient_variable *variable, weight_role role,
                                const recipe *recipe, size_t micro_batches)
{
    const compression *c = it->compression;
    const target *t = &c->targets[c->targets[variable->weight].source];
    parameter *p = &it->list[it->count];
    *p = (parameter){.weight = variable->weight,
                     .role = role,
                     .elements = variable->elements,
                     .variable = variable->values,
                     .gradient = (float *)variable->gradient,
                     .values = variable->values};
    p->shares = find_shared(it, it->count++);
    if (p->shares != it->count - 1)
        return PAL_OK;
    if (t->wanted) {
        p->values = mem_array((size_t)p->elements, sizeof *p->values);
        if (!p->values)
            return fail_memory("training");
        memcpy(p->values, p->variable, (size_t)p->elements * sizeof *p->values);
        pal_status status = layer_new(t, recipe, &p->layer);
        if (!status)
            status = start_layer(t, recipe->start, p->layer, p->values);
        if (status)
            return fail_context(status, "%s", c->model->weights[p->weight].info.name);
    } else {
        compression_adjusted(c, p->weight, p->variable);
    }
    for (size_t s = 0; s < optimizer_slots(recipe->optimizer, recipe->momentum); s++)
        if (!(p->slots[s] = mem_zeroed((size_t)p->elements, sizeof(float))))
            return fail_memory("training");
    if (micro_batches > 1 && !(p->sum = mem_zeroed((size_t)p->elements, sizeof *p->sum)))
        return fail_memory("training");
    return PAL_OK;
}

/* ---------------------------------------------------------------- work on every layer */

typedef pal_status (*layer_work)(parameter *p, dkm_workspace *workspace, int threads);

typedef struct layer_job {
    const parameters *it;
    layer_work work;
} layer_job;

static pal_status run_layer(const layer_job *job, size_t i, int thread, int threads)
{
    parameter *p = &job->it->list[i];
    const pal_status status = job->work(p, job->it->workspaces[thread], threads);
    return status ? fail_context(status, "%s",
                                 job->it->compression->model->weights[p->weight].info.name)
                  : PAL_OK;
}

static pal_status run_small(void *user, int thread, size_t i)
{
    const layer_job *job = user;
    const parameter *p = &job->it->list[i];
    return p->layer && p->elements < LARGE_TENSOR ? run_layer(job, i, thread, 1) : PAL_OK;
}

static pal_status run_layers(const parameters *it, layer_work work)
{
    layer_job job = {it, work};
    const parallel_job small = {.user = &job, .item = run_small};
    pal_status status = parallel_run(&small, it->count, it->threads);
    for (size_t i = 0; !status && i < it->count; i++)
        if (it->list[i].layer && it->list[i].elements >= LARGE_TENSOR)
            status = run_layer(&job, i, 0, it->threads);
    return status;
}

static pal_status forward(parameter *p, dkm_workspace *workspace, int threads)
{
    return dkm_forward(p->layer, workspace, p->values, threads, p->variable);
}

static pal_status backward(parameter *p, dkm_workspace *workspace, int threads)
{
    return dkm_backward(p->layer, workspace, p->values, p->gradient, threads, p->gradient);
}

pal_status parameters_new(const compression *compression, const gradients *gradients,
                          const weight_role *roles, const recipe *recipe, size_t micro_batches,
                          parameters *out)
{
    const size_t most = gradients_variable_count(gradients);
    parameters it = {.compression = compression, .threads = compression->thread_count};
    it.list = mem_zeroed(most, sizeof *it.list);
    it.workspaces = mem_zeroed((size_t)it.threads, sizeof *it.workspaces);
    pal_status status = it.list && it.workspaces ? PAL_OK : fail_memory("training");
    for (int t = 0; !status && t < it.threads; t++)
        status = dkm_workspace_new(&it.workspaces[t]);
    /* What no gradient comes to is one only if it shares the values of another. */
    for (size_t i = 0; !status && i < 2 * most; i++) {
        const gradient_variable *variable = gradients_variable(gradients, i % most);
        const bool wanted = i < most ? variable->gradient != NULL
                                     : !variable->gradient && has_palette_of_another(&it, variable);
        if (wanted)
            status = parameter_new(&it, variable, roles[variable->weight], recipe, micro_batches);
    }
    if (!status && !it.count)
        status = fail(PAL_ERROR_UNSUPPORTED,
                      "%s: the output depends on no weight that can be "
                      "trained",
                      compression->model->path);
    if (status) {
        parameters_free(&it);
        return status;
    }
    *out = it;
    return PAL_OK;
}

/* ---------------------------------------------------------------- a step */

pal_status parameters_show(parameters *it, double tau)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < it->count; i++)
        if (it->list[i].layer)
            status = dkm_set_tau(it->list[i].layer,
                                 relative_tau(dkm_configuration(it->list[i].layer), tau));
    if (!status)
        status = run_layers(it, forward);
    for (size_t i = 0; !status && i < it->count; i++) {
        const parameter *p = &it->list[i], *first = &it->list[p->shares];
        if (p != first)
            memcpy(p->variable, first->variable, (size_t)p->elements * sizeof *p->variable);
    }
    return status;
}

static void add(float *to, const float *from, uint64_t count)
{
    for (uint64_t e = 0; e < count; e++)
        to[e] += from[e];
}

void parameters_gather(parameters *it, bool first)
{
    for (size_t i = 0; i < it->count; i++) {
        parameter *p = &it->list[i], *to = &it->list[p->shares];
        if (p != to && p->gradient)
            add(to->gradient, p->gradient, p->elements);
    }
    for (size_t i = 0; i < it->count; i++) {
        parameter *p = &it->list[i];
        if (!p->sum)
            continue;
        if (first)
            memset(p->sum, 0, (size_t)p->elements * sizeof *p->sum);
        add(p->sum, p->gradient, p->elements);
    }
}

pal_status parameters_lead_back(parameters *it)
{
    for (size_t i = 0; i < it->count; i++)
        if (it->list[i].sum)
            memcpy(it->list[i].gradient, it->list[i].sum,
                   (size_t)it->list[i].elements * sizeof(float));
    return run_layers(it, backward);
}

double parameters_norm(const parameters *it)
{
    double square = 0;
    for (size_t i = 0; i < it->count; i++) {
        const parameter *p = &it->list[i];
        for (uint64_t e = 0; p->shares == i && e < p->elements; e++)
            square += (double)p->gradient[e] * p->gradient[e];
    }
    return sqrt(square);
}

void parameters_update(parameters *it, const recipe *recipe, double lr, uint64_t step, double scale)
{
    for (size_t i = 0; i < it->count; i++) {
        parameter *p = &it->list[i];
        if (p->shares != i)
            continue;
        const optimizer optimizer = {.kind = recipe->optimizer,
                                     .momentum = recipe->momentum,
                                     .decay = p->role == ROLE_FACTOR ? recipe->weight_decay : 0,
                                     .lr = lr,
                                     .step = step};
        for (uint64_t e = 0; scale != 1 && e < p->elements; e++)
            p->gradient[e] *= (float)scale;
        optimizer_update(&optimizer, (size_t)p->elements, p->values, p->gradient, p->slots);
    }
    for (size_t i = 0; i < it->count; i++) {
        const parameter *p = &it->list[i], *first = &it->list[p->shares];
        if (p != first && !first->layer)
            memcpy(p->variable, first->values, (size_t)p->elements * sizeof *p->variable);
    }
}
