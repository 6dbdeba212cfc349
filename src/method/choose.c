#include "method/choose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/scratch.h"
#include "method/judge.h"

/* Multiplications that trying weights one by one may cost, about: some seconds of a processor. A
 * count of work and not of time, so that the result does not depend on the machine. */
#define WORK 1.5e12

/* Fewer samples than this do not tell palettes apart. */
#define FEWEST 32

/* A weight whose palettes differ, the source of those that share it. */
typedef struct turn {
    size_t weight, place; /* where it, or what shares its palette, first takes part in a run */
} turn;

typedef struct choice {
    compression *candidates;
    size_t count;
    const choose_options *options;
    judge *judge;
    const pal_model *model;
    turn *turns; /* in the order of the run */
    size_t turn_count;
    size_t block;          /* so many of them change together */
    size_t *chosen;        /* by weight of the model: its candidate */
    uint64_t samples;      /* that weights are tried on */
    double distance;       /* with what is chosen */
    void *dense;           /* room for one weight, as it is stored, */
    float *values;         /* and as numbers */
    uint64_t tried, total; /* runs over the samples */
} choice;

/* ---------------------------------------------------------------- palettes into the model */

/* Gives the weight, and those that share its palette, the values of a candidate. */
static pal_status install(choice *c, size_t source, size_t candidate)
{
    const compression *from = &c->candidates[candidate];
    const target *t = &from->targets[source];
    pal_status status = palette_decode(t->palette, c->dense);
    palette_release(t->palette);
    for (uint64_t e = 0; !status && e < c->model->weights[source].info.elements; e++)
        c->values[e] = grid_get(t->grid, c->dense, e);
    for (size_t i = source; !status && i < c->model->weight_count; i++) {
        if (from->targets[i].wanted && from->targets[i].source == source)
            judge_set(c->judge, i, c->values);
    }
    return status;
}

static pal_status install_all(choice *c, size_t candidate)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < c->model->weight_count; i++) {
        const target *t = &c->candidates[candidate].targets[i];
        if (t->wanted && t->source == i)
            status = install(c, i, candidate);
    }
    return status;
}

static pal_status install_block(choice *c, size_t first, size_t candidate)
{
    pal_status status = PAL_OK;
    for (size_t i = first; !status && i < first + c->block && i < c->turn_count; i++)
        status = install(c, c->turns[i].weight, candidate);
    return status;
}

/* ---------------------------------------------------------------- before */

static size_t first_place(const choice *c, size_t source)
{
    const target *targets = c->candidates[0].targets;
    size_t first = SIZE_MAX;
    for (size_t i = source; i < c->model->weight_count; i++) {
        if (!targets[i].wanted || targets[i].source != source)
            continue;
        const size_t place = judge_place(c->judge, i);
        first = place < first ? place : first;
    }
    return first;
}

/* Only where sensitivities count do candidates differ. */
static pal_status list_turns(choice *c)
{
    const compression *last = &c->candidates[c->count - 1];
    const size_t count = c->model->weight_count;
    uint64_t largest = 0;
    c->turns = mem_array(count, sizeof *c->turns);
    c->chosen = mem_zeroed(count, sizeof *c->chosen);
    if (!c->turns || !c->chosen)
        return fail_memory("choosing palettes");
    for (size_t i = 0; i < count; i++) {
        const target *t = &last->targets[i];
        if (!t->wanted || t->source != i)
            continue;
        if (c->model->weights[i].info.elements > largest)
            largest = c->model->weights[i].info.elements;
        if (!t->weighted || !judge_runs(c->judge, i))
            continue;
        const turn added = {i, first_place(c, i)};
        size_t at = c->turn_count++;
        for (; at > 0 && c->turns[at - 1].place > added.place; at--)
            c->turns[at] = c->turns[at - 1];
        c->turns[at] = added;
    }
    c->dense = scratch_zeroed(largest, sizeof(float));
    c->values = scratch_zeroed(largest, sizeof(float));
    return c->dense && c->values ? PAL_OK : fail_memory("choosing palettes");
}

static pal_status open_judge(choice *c)
{
    const size_t count = c->model->weight_count;
    bool *changing = mem_zeroed(count, sizeof *changing);
    if (!changing)
        return fail_memory("choosing palettes");
    for (size_t i = 0; i < count; i++) {
        const target *targets = c->candidates[0].targets;
        changing[i] = targets[i].wanted && targets[targets[i].source].wanted;
    }
    const judge_options options = {.weights = changing,
                                   .output = c->options->output,
                                   .batch = c->options->batch,
                                   .threads = c->options->threads};
    pal_status status = judge_open(c->candidates[0].model, c->options->data, &options, &c->judge);
    free(changing);
    return status;
}

/* How many samples, and how many weights at once, the work allows. */
static void plan_sweeps(choice *c)
{
    const double work = judge_work(c->judge), others = (double)(c->count - 1);
    const double runs = work > 0 ? WORK / work : 0; /* of one sample */
    const double samples = floor(runs / ((double)c->turn_count * others));
    c->samples = judge_samples(c->judge);
    c->block = 1;
    if (samples >= (double)c->samples)
        return;
    c->samples = c->samples < FEWEST ? c->samples : FEWEST;
    if (samples > (double)c->samples)
        c->samples = (uint64_t)samples;
    const double blocks = floor(runs / (others * (double)c->samples));
    c->block = blocks < 2
                   ? c->turn_count
                   : (size_t)ceil((double)c->turn_count / fmin(blocks, (double)c->turn_count));
}

/* ---------------------------------------------------------------- choosing */

static pal_status count_run(choice *c)
{
    const choose_options *options = c->options;
    c->tried++;
    return !options->progress || options->progress(options->user, c->tried, c->total, "choosing")
               ? PAL_OK
               : fail(PAL_ERROR_CANCELLED, "cancelled");
}

static pal_status choose_for_all(choice *c, size_t *best)
{
    pal_status status = PAL_OK;
    c->distance = INFINITY;
    *best = 0;
    for (size_t k = 0; !status && k < c->count; k++) {
        double distance;
        status = install_all(c, k);
        if (!status)
            status = judge_distance(c->judge, judge_samples(c->judge), c->distance, &distance);
        if (!status)
            status = count_run(c);
        if (!status && distance < c->distance) {
            c->distance = distance;
            *best = k;
        }
    }
    return status ? status : install_all(c, *best);
}

/* The weights of a block that starts with `first`. */
static pal_status choose_for_block(choice *c, size_t first, bool *changed)
{
    const size_t before = c->chosen[c->turns[first].weight];
    size_t best = before, installed = before;
    pal_status status = judge_begin_at(c->judge, c->turns[first].place, c->samples);
    for (size_t k = 0; !status && k < c->count; k++) {
        double distance;
        if (k == before)
            continue;
        status = install_block(c, first, k);
        installed = k;
        if (!status)
            status = judge_distance(c->judge, c->samples, c->distance, &distance);
        if (!status)
            status = count_run(c);
        if (!status && distance < c->distance) {
            c->distance = distance;
            best = k;
        }
    }
    if (!status && installed != best)
        status = install_block(c, first, best);
    for (size_t i = first; i < first + c->block && i < c->turn_count; i++)
        c->chosen[c->turns[i].weight] = best;
    *changed = *changed || best != before;
    return status;
}

static pal_status sweep(choice *c)
{
    pal_status status = judge_distance(c->judge, c->samples, INFINITY, &c->distance);
    if (!status)
        status = judge_farthest_first(c->judge, c->samples);
    bool changed = true;
    for (uint64_t s = 0; !status && changed && s < c->options->sweeps; s++) {
        changed = false;
        for (size_t i = 0; !status && i < c->turn_count; i += c->block)
            status = choose_for_block(c, i, &changed);
    }
    return status;
}

static pal_status choose(choice *c)
{
    size_t best;
    pal_status status = open_judge(c);
    if (!status)
        status = list_turns(c);
    if (status || !c->turn_count)
        return status;
    plan_sweeps(c);
    const uint64_t blocks = (c->turn_count + c->block - 1) / c->block;
    const bool sweeps = c->options->sweeps > 0 && blocks > 1 &&
                        !(c->options->statistics && judge_normalised(c->judge) > 0.5);
    c->total = c->count + (sweeps ? c->options->sweeps * blocks * (c->count - 1) : 0);
    status = choose_for_all(c, &best);
    for (size_t i = 0; i < c->model->weight_count; i++) /* what nothing that runs uses, too */
        c->chosen[i] = best;
    if (!status && sweeps && c->distance > c->options->enough)
        status = sweep(c);
    for (size_t i = 0; !status && i < c->model->weight_count; i++) {
        const size_t from = c->chosen[i];
        target *first = &c->candidates[0].targets[i], kept = *first;
        if (from == 0 || !first->wanted || first->source != i)
            continue;
        *first = c->candidates[from].targets[i];
        c->candidates[from].targets[i] = kept;
    }
    return status;
}

pal_status choose_palettes(compression *candidates, size_t count, const choose_options *options)
{
    choice c = {
        .candidates = candidates, .count = count, .options = options, .model = candidates[0].model};
    pal_status status = choose(&c);
    judge_free(c.judge);
    scratch_free(c.dense);
    scratch_free(c.values);
    free(c.turns);
    free(c.chosen);
    return status;
}
