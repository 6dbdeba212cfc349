/* Computing again on the way back what the way forward has given up, so that training needs less
 * memory: Chen et al., arXiv 1604.06174.
 *
 * The steps forward are cut into segments (plan_segments.c). What does not leave its segment is
 * dropped: before the first step backward that reads it, those steps of the segment that lead to it
 * are appended once more, with buffers of their own, and the way back reads these. A repeated step
 * has the state of the first one and so computes the same bits. What is kept is simply what is read
 * late; memory is laid out by lifetimes afterwards, as ever.
 *
 * Two ways to hold what was computed again. One holds everything until its last use, so that
 * nothing is computed a third time. The lean one holds what is costly; the rest, results of norms
 * and activation functions, is computed again from that whenever it is needed, because a segment
 * has many of them and needs each for a short time only. There are thus many rewritten lists, by
 * the way and by the limit that segments are cut for; all are tried, and the one with the least
 * memory is taken, or one that is nearly as small and has less work. */
#include <stdlib.h>
#include <string.h>

#include "engine/plan_segments.h"

/* With the lean way: how many steps something that is not costly is held without being read. */
enum { LEAN_STEPS = 6 };

/* A list of steps in the making. */
typedef struct rewriting {
    plan *plan;
    const segments *segments;
    bool lean;
    mem_arena *arena; /* for buffers */
    step *steps;
    size_t count, capacity;
    buffer **again; /* by number of what was dropped: where it is by now, or NULL */
    size_t *used;   /* and by which step it was last */
    bool *wanted;   /* it is to be made */
    bool *repeats;  /* by step forward: it is to be appended */
    size_t pending; /* how many wanted ones begin with an earlier step than what was looked at */
    size_t top;     /* the last step that writes a wanted one, plus one */
    double work;    /* of repeated steps, in bytes read and written */
} rewriting;

static pal_status append(rewriting *it, const step *step)
{
    if (!mem_grow((void **)&it->steps, &it->capacity, it->count + 1, sizeof *it->steps))
        return fail_memory("a plan");
    it->steps[it->count++] = *step;
    return PAL_OK;
}

/* ---------------------------------------------------------------- buffers */

/* A buffer like another, with memory of its own or that of `base`. */
static buffer *buffer_like(rewriting *it, const buffer *like, buffer *base)
{
    plan *plan = it->plan;
    buffer *made = arena_alloc(it->arena, sizeof *made);
    if (!made || !mem_grow((void **)&plan->buffers, &plan->buffer_capacity, plan->buffer_count + 1,
                           sizeof *plan->buffers)) {
        fail_memory("a plan");
        return NULL;
    }
    *made = *like;
    made->base = base;
    made->data = made->owned = NULL;
    made->pinned = false;
    made->first = SIZE_MAX;
    made->last = made->offset = 0;
    made->number = plan->buffer_count;
    plan->buffers[plan->buffer_count++] = made;
    return made;
}

/* The same view of other memory. */
static buffer *view_of(rewriting *it, buffer *view, buffer *root)
{
    return view->base ? buffer_like(it, view, root) : root;
}

/* Puts in the place of a dropped buffer the one that holds it now. */
static pal_status redirect_read(rewriting *it, buffer **place)
{
    buffer *root = *place ? buffer_root(*place) : NULL;
    if (!root || !segments_drop(it->segments, root))
        return PAL_OK;
    it->used[root->number] = it->count;
    *place = view_of(it, *place, it->again[root->number]);
    return *place ? PAL_OK : PAL_ERROR_MEMORY;
}

static pal_status redirect_reads(rewriting *it, step *step)
{
    pal_status status = PAL_OK;
    for (size_t b = 0; !status && b < STEP_MAX_BUFFERS; b++)
        status = redirect_read(it, &step->reads[b]);
    if (status || !step->more_count)
        return status;
    buffer **more = arena_alloc(it->arena, step->more_count * sizeof *more);
    if (!more)
        return fail_memory("a plan");
    memcpy(more, step->more, step->more_count * sizeof *more);
    step->more = more;
    for (size_t b = 0; !status && b < step->more_count; b++)
        status = redirect_read(it, &more[b]);
    return status;
}

/* What a repeated step writes: what is wanted, and what nobody looks at. */
static pal_status redirect_write(rewriting *it, size_t number, const step *step, buffer **place)
{
    buffer *root = *place ? buffer_root(*place) : NULL;
    if (!root || (root->pinned && step->repeat))
        return PAL_OK;
    const forward_life *life = &it->segments->lives[root->number];
    const bool dropped = segments_drop(it->segments, root);
    const bool part = life->begin != life->written;
    buffer *to = NULL;
    if (dropped && it->wanted[root->number] && number != life->begin)
        to = it->again[root->number];
    else
        to = buffer_like(it, root, NULL);
    if (!to)
        return PAL_ERROR_MEMORY;
    if (dropped && (it->wanted[root->number] || !part)) {
        it->again[root->number] = to;
        it->used[root->number] = it->count;
        it->wanted[root->number] = it->wanted[root->number] && number != life->written;
    }
    *place = view_of(it, *place, to);
    return *place ? PAL_OK : PAL_ERROR_MEMORY;
}

/* ---------------------------------------------------------------- repeated steps */

static void add_bytes(void *to, const step *step, size_t at, buffer *root)
{
    enum { COSTLY = 8 }; /* times the work of a step that is bound by memory */
    (void)at;
    *(double *)to += (double)root->bytes * (step->costly ? COSTLY : 1);
}

static pal_status repeat(rewriting *it, size_t number)
{
    step step = it->plan->steps[number];
    visit_reads(&step, number, add_bytes, &it->work);
    visit_writes(&step, number, add_bytes, &it->work);
    pal_status status = redirect_reads(it, &step);
    for (size_t b = 0; !status && b < STEP_MAX_BUFFERS; b++)
        status = redirect_write(it, number, &step, &step.writes[b]);
    if (!status && step.scratch) {
        step.scratch = buffer_like(it, step.scratch, NULL);
        status = step.scratch ? PAL_OK : PAL_ERROR_MEMORY;
    }
    step.release = NULL; /* the state is the first one's */
    step.run = step.repeat ? step.repeat : step.run;
    return status ? status : append(it, &step);
}

static bool is_there(const rewriting *it, size_t number)
{
    return it->again[number] && (!it->lean || it->segments->lives[number].costly ||
                                 it->count - it->used[number] <= LEAN_STEPS);
}

static void want(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    rewriting *it = to;
    if (!segments_drop(it->segments, root) || it->wanted[root->number] ||
        is_there(it, root->number))
        return;
    const size_t written = it->segments->lives[root->number].written;
    it->wanted[root->number] = true;
    it->top = written >= it->top ? written + 1 : it->top;
    it->pending++;
}

static void look_for_wanted(void *to, const step *step, size_t at, buffer *root)
{
    (void)step;
    rewriting *it = to;
    if (!segments_drop(it->segments, root) || !it->wanted[root->number])
        return;
    it->repeats[at] = true;
    it->pending -= it->segments->lives[root->number].begin == at;
}

/* Appends the steps that lead to what is wanted: back from its last writer for what those read,
 * then in their own order. */
static pal_status make_wanted(rewriting *it)
{
    const step *steps = it->plan->steps;
    const size_t top = it->top;
    size_t at = top;
    pal_status status = PAL_OK;
    while (it->pending) {
        at--;
        visit_writes(&steps[at], at, look_for_wanted, it);
        if (it->repeats[at])
            visit_reads(&steps[at], at, want, it);
    }
    for (; !status && at < top; at++)
        if (it->repeats[at]) {
            status = repeat(it, at);
            it->repeats[at] = false;
        }
    it->top = 0;
    return status;
}

/* ---------------------------------------------------------------- the whole list */

static pal_status begin(rewriting *it)
{
    const size_t buffers = it->segments->buffer_count;
    it->again = mem_zeroed(buffers, sizeof *it->again);
    it->used = mem_zeroed(buffers, sizeof *it->used);
    it->wanted = mem_zeroed(buffers, sizeof *it->wanted);
    it->repeats = mem_zeroed(it->segments->step_count, sizeof *it->repeats);
    return it->again && it->used && it->wanted && it->repeats ? PAL_OK : fail_memory("a plan");
}

/* Makes the list. The plan gets the buffers, which lie in `arena`, but not yet the steps. */
static pal_status rewrite(rewriting *it)
{
    const plan *plan = it->plan;
    pal_status status = begin(it);
    for (size_t i = 0; !status && i < plan->step_count; i++) {
        step step = plan->steps[i];
        if (i >= plan->forward_count) {
            visit_reads(&step, i, want, it);
            status = make_wanted(it);
            if (!status)
                status = redirect_reads(it, &step);
        }
        if (!status)
            status = append(it, &step);
    }
    free(it->again);
    free(it->used);
    free(it->wanted);
    free(it->repeats);
    return status;
}

/* ---------------------------------------------------------------- choosing */

typedef struct choice {
    size_t limit;
    bool lean;
    size_t bytes; /* most alive */
    double work;
} choice;

static void exchange_steps(plan *plan, rewriting *it)
{
    step *const steps = plan->steps;
    const size_t count = plan->step_count, capacity = plan->step_capacity;
    plan->steps = it->steps;
    plan->step_count = it->count;
    plan->step_capacity = it->capacity;
    it->steps = steps;
    it->count = count;
    it->capacity = capacity;
}

/* What a choice would need; the plan is left as it was. */
static pal_status measure(plan *plan, const segments *segments, choice *choice)
{
    const size_t buffers = plan->buffer_count;
    mem_arena arena;
    arena_init(&arena, SIZE_MAX / 4);
    rewriting it = {.plan = plan, .segments = segments, .lean = choice->lean, .arena = &arena};
    pal_status status = rewrite(&it);
    if (!status) {
        exchange_steps(plan, &it);
        status = plan_most_alive(plan, &choice->bytes);
        exchange_steps(plan, &it);
    }
    choice->work = it.work;
    plan->buffer_count = buffers;
    free(it.steps);
    arena_free(&arena);
    return status;
}

static pal_status apply(plan *plan, segments *segments, const choice *choice)
{
    bool fits;
    pal_status status = segments_cut(segments, choice->limit, choice->lean, &fits);
    rewriting it = {
        .plan = plan, .segments = segments, .lean = choice->lean, .arena = &plan->arena};
    if (!status)
        status = rewrite(&it);
    if (!status)
        exchange_steps(plan, &it);
    free(it.steps);
    return status;
}

enum { LIMITS = 48 };
/* From each limit that is tried to the next; how much more memory than the least is taken for less
 * work. */
static const double limit_factor = 0.95, nearly = 1.1;

/* The least memory, or nearly that with the least work; without work: nothing is repeated. */
static const choice *best_of(const choice *list, size_t count)
{
    const choice *best = &list[0];
    size_t least = best->bytes;
    for (size_t i = 1; i < count; i++)
        least = list[i].bytes < least ? list[i].bytes : least;
    for (size_t i = 1; i < count; i++) {
        const double most = nearly * (double)least;
        const bool fits = (double)list[i].bytes <= most;
        if (fits && ((double)best->bytes > most || list[i].work < best->work))
            best = &list[i];
    }
    return best;
}

pal_status plan_recompute(plan *plan)
{
    choice list[1 + 2 * LIMITS] = {{0}};
    size_t count = 1;
    segments segments;
    pal_status status = segments_new(plan, &segments);
    if (status)
        return status;
    status = plan_most_alive(plan, &list[0].bytes);
    for (int lean = 0; lean < 2; lean++) {
        double limit = (double)list[0].bytes;
        for (int i = 0; !status && i < LIMITS; i++, limit *= limit_factor) {
            bool fits = false;
            list[count] = (choice){.limit = (size_t)limit, .lean = lean};
            status = segments_cut(&segments, (size_t)limit, lean, &fits);
            if (!status && fits)
                status = measure(plan, &segments, &list[count++]);
        }
    }
    const choice *best = best_of(list, count);
    if (!status && best->limit)
        status = apply(plan, &segments, best);
    segments_free(&segments);
    return status;
}
