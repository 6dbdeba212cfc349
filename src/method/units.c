/* Units of all weights are shared by the threads, the largest first; each writes to places of its
 * own, so the result is the same in any order. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "method/compression.h"
#include "palette/pack.h"

/* ---------------------------------------------------------------- cutting */

/* Groups that one unit takes: together they begin and end at whole bytes of packed indices, and are
 * enough work to be worth handing out. */
static uint64_t groups_per_unit(const target *t)
{
    enum { WORTHWHILE = 32768 };
    uint64_t count = WORTHWHILE / t->group_elements + 1;
    if (t->group_indices % 8)
        count = (count + 7) / 8 * 8;
    return count;
}

static int larger_unit_first(const void *a, const void *b)
{
    const unit *x = a, *y = b;
    if (x->elements != y->elements)
        return x->elements > y->elements ? -1 : 1;
    if (x->weight != y->weight)
        return x->weight < y->weight ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

pal_status units_make(compression *c)
{
    c->unit_count = 0;
    c->done = c->total = 0;
    for (size_t i = 0; i < c->model->weight_count; i++) {
        target *t = &c->targets[i];
        if (!t->wanted || t->solved || t->source != i ||
            (c->counting && t->settings.mode != MODE_UNIQUE))
            continue;
        const uint64_t most = groups_per_unit(t);
        t->units_left = 0;
        for (uint64_t first = 0; first < t->plan.groups; first += most) {
            uint64_t count = t->plan.groups - first < most ? t->plan.groups - first : most;
            if (!mem_grow((void **)&c->units, &c->unit_capacity, c->unit_count + 1,
                          sizeof *c->units))
                return fail_memory("planning");
            c->units[c->unit_count++] = (unit){i, first, count, count * t->group_elements};
            c->total += count * t->group_elements;
            t->units_left++;
        }
    }
    if (c->unit_count)
        qsort(c->units, c->unit_count, sizeof *c->units, larger_unit_first);
    return PAL_OK;
}

/* ---------------------------------------------------------------- running */

bool buffer_reserve(void **buffer, size_t *size, size_t needed)
{
    if (needed <= *size)
        return true;
    free(*buffer);
    *buffer = mem_array(needed, 1);
    *size = *buffer ? needed : 0;
    return *buffer != NULL;
}

uint8_t *group_place(const target *t, const unit *unit, uint64_t group, thread_state *thread)
{
    return thread->indices + (group - unit->first) * t->group_indices;
}

/* Puts the indices of one group where they belong among those of the others. */
static void scatter_indices(const target *t, uint64_t group, const uint8_t *indices)
{
    const size_t dim = t->settings.cluster_dim;
    for (size_t o = 0; o < t->outer; o++) {
        const size_t n = run_length(t, group, o) / dim;
        memcpy(t->indices + run_begin(t, group, o) / dim, indices, n);
        indices += n;
    }
}

static pal_status run_unit(void *user, int thread_number, size_t i)
{
    compression *c = user;
    const unit *unit = &c->units[i];
    const target *t = &c->targets[unit->weight];
    thread_state *thread = &c->threads[thread_number];
    const bool vectors = t->settings.cluster_dim > 1;
    const bool packs = (t->plan.groups > 1 || vectors) && !c->counting;
    const size_t indices = unit->count * t->group_indices;
    if (packs && !buffer_reserve((void **)&thread->indices, &thread->indices_size, indices))
        return fail_memory("clustering weights");
    pal_status status = PAL_OK;
    for (uint64_t g = unit->first; !status && g < unit->first + unit->count; g++) {
        status =
            vectors ? vectors_cluster(c, unit, g, thread) : scalars_cluster(c, unit, g, thread);
        if (!status && packs && t->indices)
            scatter_indices(t, g, group_place(t, unit, g, thread));
    }
    if (!status && packs && !t->indices)
        pack_indices(thread->indices, indices, t->nbits,
                     (uint8_t *)t->palette->indices +
                         unit->first * t->group_indices * t->nbits / 8);
    return status ? fail_context(status, "%s", c->model->weights[unit->weight].info.name) : PAL_OK;
}

static bool unit_done(void *user, size_t i)
{
    compression *c = user;
    const unit *unit = &c->units[i];
    target *t = &c->targets[unit->weight];
    const model_weight *weight = &c->model->weights[unit->weight];
    if (--t->units_left == 0) {
        if (t->indices && !c->counting) {
            pack_indices(t->indices, palette_index_count(t->palette), t->nbits,
                         (uint8_t *)t->palette->indices);
            free(t->indices);
            t->indices = NULL;
        }
        if (t->palette)
            palette_release(t->palette);
        c->model->format->release(c->model, unit->weight);
    }
    c->done += unit->elements;
    return c->counting || !c->progress ||
           c->progress(c->user, c->done, c->total, weight->info.name);
}

pal_status units_run(compression *c)
{
    c->threads = mem_zeroed((size_t)c->thread_count, sizeof *c->threads);
    if (!c->threads)
        return fail_memory("clustering weights");
    parallel_job job = {.user = c, .item = run_unit, .done = unit_done};
    pal_status status = parallel_run(&job, c->unit_count, c->thread_count);
    for (int i = 0; i < c->thread_count; i++) {
        scalar_workspace_free(&c->threads[i].clustering);
        free(c->threads[i].values);
        free(c->threads[i].indices);
        free(c->threads[i].importance);
    }
    free(c->threads);
    c->threads = NULL;
    return status;
}
