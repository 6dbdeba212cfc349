/* Where the buffers of a plan lie: offsets in one block, so that those whose lives overlap do not.
 *
 * Largest first, each at the lowest place that is free during its life: the greedy strategy by size
 * of Pisarchyk and Lee, arXiv 2001.03288, which for the networks at hand comes within a few percent
 * of the lower bound (the most that is alive at once). */
#include <stdlib.h>
#include <string.h>

#include "engine/plan_state.h"

#define ALIGNMENT 64

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void visit_reads(const step *step, size_t at, root_visit *visit, void *to)
{
    for (size_t b = 0; b < STEP_MAX_BUFFERS; b++)
        if (step->reads[b])
            visit(to, step, at, buffer_root(step->reads[b]));
    for (size_t b = 0; b < step->more_count; b++)
        if (step->more[b])
            visit(to, step, at, buffer_root(step->more[b]));
}

void visit_writes(const step *step, size_t at, root_visit *visit, void *to)
{
    for (size_t b = 0; b < STEP_MAX_BUFFERS; b++)
        if (step->writes[b])
            visit(to, step, at, buffer_root(step->writes[b]));
}

static void live_at(void *to, const step *step, size_t at, buffer *buffer)
{
    (void)to, (void)step;
    if (buffer->first == SIZE_MAX)
        buffer->first = at;
    buffer->last = at;
}

static size_t count_uses(const step *step, const buffer *root)
{
    size_t uses = 0;
    for (size_t b = 0; b < STEP_MAX_BUFFERS; b++)
        uses += step->reads[b] && buffer_root(step->reads[b]) == root;
    for (size_t b = 0; b < step->more_count; b++)
        uses += step->more[b] && buffer_root(step->more[b]) == root;
    return uses;
}

/* Lets steps that can write over their input do so, where it is their input's last use. */
static void merge_in_place(plan *plan)
{
    for (size_t i = 0; i < plan->step_count; i++) {
        const step *step = &plan->steps[i];
        if (!step->in_place || !step->reads[0] || !step->writes[0])
            continue;
        buffer *from = buffer_root(step->reads[0]), *to = step->writes[0];
        if (from->constant || from->pinned || to->pinned || to->base || from->last != i ||
            from->bytes < to->bytes || count_uses(step, from) != 1)
            continue;
        to->base = from;
        from->last = to->last;
    }
}

typedef struct placing {
    buffer **list; /* roots that share memory */
    size_t count;
} placing;

static int larger_first(const void *a, const void *b)
{
    const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int by_offset(const void *a, const void *b)
{
    const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The lowest offset that is free while `buffer` lives, given those placed before it, by offset. */
static size_t lowest_gap(buffer *const *placed, size_t count, const buffer *buffer)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (placed[i]->last < buffer->first || buffer->last < placed[i]->first)
            continue;
        if (placed[i]->offset >= at + aligned(buffer->bytes))
            break;
        const size_t end = placed[i]->offset + aligned(placed[i]->bytes);
        at = end > at ? end : at;
    }
    return at;
}

static size_t place_all(const placing *placing)
{
    size_t total = 0;
    qsort(placing->list, placing->count, sizeof *placing->list, larger_first);
    for (size_t i = 0; i < placing->count; i++) {
        buffer *buffer = placing->list[i];
        buffer->offset = lowest_gap(placing->list, i, buffer);
        const size_t end = buffer->offset + aligned(buffer->bytes);
        total = end > total ? end : total;
        /* Keep what is placed in the order of offsets. */
        size_t to = i;
        for (; to > 0 && by_offset(&placing->list[to - 1], &buffer) > 0; to--)
            placing->list[to] = placing->list[to - 1];
        placing->list[to] = buffer;
    }
    return total;
}

static pal_status give_pinned(buffer *buffer)
{
    const size_t bytes = aligned(buffer->bytes);
    buffer->owned = aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
    if (!buffer->owned)
        return fail_memory("a model's inputs and outputs");
    memset(buffer->owned, 0, bytes ? bytes : ALIGNMENT);
    buffer->data = buffer->owned;
    return PAL_OK;
}

static void find_lives(plan *plan)
{
    for (size_t i = 0; i < plan->step_count; i++) {
        const step *step = &plan->steps[i];
        visit_reads(step, i, live_at, NULL);
        visit_writes(step, i, live_at, NULL);
        if (step->scratch)
            live_at(NULL, step, i, buffer_root(step->scratch));
    }
    merge_in_place(plan);
}

pal_status plan_most_alive(plan *plan, size_t *bytes)
{
    /* What begins before a step and what has ended, as a sum that wraps around. */
    size_t *change = mem_zeroed(plan->step_count + 1, sizeof *change);
    buffer **bases = mem_array(plan->buffer_count, sizeof *bases);
    pal_status status = change && bases ? PAL_OK : fail_memory("a plan");
    for (size_t i = 0; !status && i < plan->buffer_count; i++)
        bases[i] = plan->buffers[i]->base;
    if (!status)
        find_lives(plan);
    for (size_t i = 0; !status && i < plan->buffer_count; i++) {
        buffer *buffer = plan->buffers[i];
        if (!buffer->base && !buffer->constant && !buffer->pinned && buffer->first != SIZE_MAX) {
            change[buffer->first] += aligned(buffer->bytes);
            change[buffer->last + 1] -= aligned(buffer->bytes);
        }
        buffer->first = SIZE_MAX;
        buffer->last = 0;
    }
    for (size_t i = 0; !status && i < plan->buffer_count; i++)
        plan->buffers[i]->base = bases[i];
    *bytes = 0;
    for (size_t i = 0, alive = 0; !status && i < plan->step_count; i++) {
        alive += change[i];
        *bytes = alive > *bytes ? alive : *bytes;
    }
    free(change);
    free(bases);
    return status;
}

pal_status plan_lay_out(plan *plan)
{
    pal_status status = PAL_OK;
    placing placing = {mem_array(plan->buffer_count, sizeof *placing.list), 0};
    if (!placing.list)
        return fail_memory("a plan");
    find_lives(plan);
    for (size_t i = 0; !status && i < plan->buffer_count; i++) {
        buffer *buffer = plan->buffers[i];
        if (buffer->base || buffer->constant)
            continue;
        if (buffer->pinned)
            status = give_pinned(buffer);
        else if (buffer->first != SIZE_MAX)
            placing.list[placing.count++] = buffer;
    }
    if (!status) {
        plan->memory_bytes = place_all(&placing);
        plan->memory =
            aligned_alloc(ALIGNMENT, plan->memory_bytes ? plan->memory_bytes : ALIGNMENT);
        status = plan->memory ? PAL_OK : fail_memory("a model's activations");
    }
    for (size_t i = 0; !status && i < placing.count; i++)
        placing.list[i]->data = plan->memory + placing.list[i]->offset;
    for (size_t i = 0; !status && i < plan->buffer_count; i++)
        if (plan->buffers[i]->base)
            plan->buffers[i]->data = buffer_root(plan->buffers[i])->data;
    free(placing.list);
    return status;
}
