/* Where to cut the steps forward into segments, of which the way back keeps only what leaves them
 * (Chen et al., arXiv 1604.06174).
 *
 * On the way back of a segment there are alive: what is kept of the segments before, what is
 * computed again of this one, and gradients. Given a limit for their sum, the cuts that keep the
 * least are found by going over all segments in order: the less is kept before a cut, the better is
 * all that can come after it, so that one number for each cut is enough. */
#include "engine/plan_segments.h"

#include <stdlib.h>
#include <string.h>

/* Chains of buffers: those that begin with a step, and those that end with it. */
typedef struct segment_lists {
    size_t *begin, *next_begin, *end, *next_end; /* SIZE_MAX: the end of a chain */
} segment_lists;

/* ---------------------------------------------------------------- lives */

/* Whether the step also writes what it reads; *others: and something else, that a second run would
 * find no input for. */
static bool writes_too(const step *step, const buffer *root, bool *others)
{
    bool writes = false;
    for (size_t b = 0; b < STEP_MAX_BUFFERS; b++) {
        if (!step->writes[b])
            continue;
        if (buffer_root(step->writes[b]) == root)
            writes = true;
        else
            *others = true;
    }
    return writes;
}

typedef struct looking {
    segments *segments;
    bool *seen; /* by buffer: a step that does not write it has read it */
    bool repeatable;
} looking;

static void look_at_read(void *to, const step *step, size_t at, buffer *root)
{
    looking *it = to;
    forward_life *life = &it->segments->lives[root->number];
    bool others = false;
    life->end = at;
    if (!writes_too(step, root, &others))
        it->seen[root->number] = true;
    else if (life->begin == SIZE_MAX || others)
        life->unstable = true;
}

static void look_at_write(void *to, const step *step, size_t at, buffer *root)
{
    looking *it = to;
    forward_life *life = &it->segments->lives[root->number];
    life->unstable = life->unstable || it->seen[root->number];
    life->begin = life->begin == SIZE_MAX ? at : life->begin;
    life->written = life->end = at;
    life->costly = life->costly || step->costly;
}

static void look_back_read(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    ((segments *)to)->lives[root->number].needed = true;
}

static void look_back_write(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    forward_life *life = &((segments *)to)->lives[root->number];
    life->unstable = life->unstable || life->begin != SIZE_MAX;
}

static void find_unstable(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    looking *it = to;
    it->repeatable = it->repeatable && !it->segments->lives[root->number].unstable;
}

static void let_stay(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    ((segments *)to)->lives[root->number].stays = true;
}

static pal_status find_lives(segments *it)
{
    const plan *plan = it->plan;
    looking look = {.segments = it, .seen = mem_zeroed(it->buffer_count, sizeof *look.seen)};
    if (!look.seen)
        return fail_memory("a plan");
    for (size_t i = 0; i < it->step_count; i++) {
        visit_reads(&plan->steps[i], i, look_at_read, &look);
        visit_writes(&plan->steps[i], i, look_at_write, &look);
    }
    for (size_t i = it->step_count; i < plan->step_count; i++) {
        visit_reads(&plan->steps[i], i, look_back_read, it);
        visit_writes(&plan->steps[i], i, look_back_write, it);
    }
    for (size_t i = 0; i < it->step_count; i++) {
        look.repeatable = true;
        visit_reads(&plan->steps[i], i, find_unstable, &look);
        if (!look.repeatable)
            visit_writes(&plan->steps[i], i, let_stay, it);
    }
    const bool cheap = plan->options.recompute == RECOMPUTE_CHEAP;
    for (size_t b = 0; b < it->buffer_count; b++) {
        forward_life *life = &it->lives[b];
        life->stays = life->stays || life->unstable || plan->buffers[b]->pinned ||
                      plan->buffers[b]->constant || (cheap && life->costly);
    }
    free(look.seen);
    return PAL_OK;
}

/* Segments begin with an operator, and not where a buffer is written by parts. */
static void find_beginnings(segments *it)
{
    const step *steps = it->plan->steps;
    for (size_t i = 0; i < it->step_count; i++)
        it->may_begin[i] = !i || steps[i].node != steps[i - 1].node;
    for (size_t b = 0; b < it->buffer_count; b++)
        for (size_t i = it->lives[b].begin; i < it->lives[b].written; i++)
            it->may_begin[i + 1] = false;
}

/* ---------------------------------------------------------------- gradients */

typedef struct back_lives {
    const segments *segments;
    size_t *first, *last; /* by buffer; first is SIZE_MAX for those that steps forward give */
} back_lives;

static void live_back(void *to, const step *step, size_t at, buffer *root)
{
    (void)step;
    back_lives *it = to;
    if (it->segments->lives[root->number].begin != SIZE_MAX || root->pinned || root->constant)
        return;
    it->last[root->number] = at;
    if (it->first[root->number] == SIZE_MAX)
        it->first[root->number] = at;
}

/* The most that is alive in any step backward of each operator, into `most`, by node. */
static void find_most(const segments *it, const back_lives *lives, size_t *change, size_t *most)
{
    const plan *plan = it->plan;
    for (size_t b = 0; b < it->buffer_count; b++)
        if (lives->first[b] != SIZE_MAX) {
            change[lives->first[b]] += plan->buffers[b]->bytes;
            change[lives->last[b] + 1] -= plan->buffers[b]->bytes;
        }
    for (size_t i = it->step_count, alive = 0; i < plan->step_count; i++) {
        const step *step = &plan->steps[i];
        alive += change[i];
        if (!step->node)
            continue;
        size_t *of_node = &most[step->node - plan->graph->main.nodes];
        *of_node = alive > *of_node ? alive : *of_node;
    }
}

static pal_status find_gradients(segments *it)
{
    const plan *plan = it->plan;
    back_lives lives = {it, mem_array(it->buffer_count, sizeof *lives.first),
                        mem_zeroed(it->buffer_count, sizeof *lives.last)};
    size_t *change = mem_zeroed(plan->step_count + 1, sizeof *change);
    size_t *most = mem_zeroed(plan->graph->main.node_count, sizeof *most);
    const bool made = lives.first && lives.last && change && most;
    if (made) {
        memset(lives.first, 0xff, it->buffer_count * sizeof *lives.first);
        for (size_t i = it->step_count; i < plan->step_count; i++) {
            const step *step = &plan->steps[i];
            visit_reads(step, i, live_back, &lives);
            visit_writes(step, i, live_back, &lives);
            if (step->scratch)
                live_back(&lives, step, i, buffer_root(step->scratch));
        }
        find_most(it, &lives, change, most);
        for (size_t i = 0; i < it->step_count; i++)
            if (plan->steps[i].node)
                it->gradients[i] = most[plan->steps[i].node - plan->graph->main.nodes];
    }
    free(lives.first);
    free(lives.last);
    free(change);
    free(most);
    return made ? PAL_OK : fail_memory("a plan");
}

/* ---------------------------------------------------------------- making */

static void link_lives(segments *it)
{
    segment_lists *lists = it->lists;
    memset(lists->begin, 0xff, it->step_count * sizeof *lists->begin);
    memset(lists->end, 0xff, it->step_count * sizeof *lists->end);
    for (size_t b = 0; b < it->buffer_count; b++) {
        const forward_life *life = &it->lives[b];
        if (life->begin == SIZE_MAX || it->plan->buffers[b]->pinned)
            continue;
        lists->next_begin[b] = lists->begin[life->begin];
        lists->begin[life->begin] = b;
        lists->next_end[b] = lists->end[life->end];
        lists->end[life->end] = b;
    }
}

static pal_status make_room(segments *it)
{
    segment_lists *lists = it->lists = mem_zeroed(1, sizeof *lists);
    it->lives = mem_zeroed(it->buffer_count, sizeof *it->lives);
    it->may_begin = mem_zeroed(it->step_count, sizeof *it->may_begin);
    it->gradients = mem_zeroed(it->step_count, sizeof *it->gradients);
    it->end_of = mem_zeroed(it->step_count, sizeof *it->end_of);
    if (!lists || !it->lives || !it->may_begin || !it->gradients || !it->end_of)
        return fail_memory("a plan");
    lists->begin = mem_array(it->step_count, sizeof *lists->begin);
    lists->end = mem_array(it->step_count, sizeof *lists->end);
    lists->next_begin = mem_array(it->buffer_count, sizeof *lists->next_begin);
    lists->next_end = mem_array(it->buffer_count, sizeof *lists->next_end);
    for (size_t b = 0; b < it->buffer_count; b++)
        it->lives[b].begin = it->lives[b].written = SIZE_MAX;
    return lists->begin && lists->end && lists->next_begin && lists->next_end
               ? PAL_OK
               : fail_memory("a plan");
}

pal_status segments_new(const plan *plan, segments *out)
{
    segments it = {
        .plan = plan, .buffer_count = plan->buffer_count, .step_count = plan->forward_count};
    pal_status status = make_room(&it);
    if (!status)
        status = find_lives(&it);
    if (!status)
        status = find_gradients(&it);
    if (status) {
        segments_free(&it);
        return status;
    }
    find_beginnings(&it);
    link_lives(&it);
    *out = it;
    return PAL_OK;
}

void segments_free(segments *it)
{
    if (it->lists) {
        free(it->lists->begin);
        free(it->lists->end);
        free(it->lists->next_begin);
        free(it->lists->next_end);
    }
    free(it->lists);
    free(it->lives);
    free(it->may_begin);
    free(it->gradients);
    free(it->end_of);
    *it = (segments){0};
}

/* ---------------------------------------------------------------- cutting */

/* The best way to a cut before each step, and after the last. */
typedef struct route {
    size_t kept; /* bytes; SIZE_MAX: there is no way */
    size_t from; /* where the last segment on it begins */
} route;

/* A segment that grows step by step: bytes of what is kept, of what is held while its way back
 * runs, and of all that the way back needs. */
typedef struct growing {
    size_t kept, held, needed, gradients;
} growing;

static void grow(const segments *it, size_t begin, size_t at, bool lean, growing *to)
{
    const segment_lists *lists = it->lists;
    for (size_t b = lists->begin[at]; b != SIZE_MAX; b = lists->next_begin[b])
        if (!it->lives[b].stays || it->lives[b].needed)
            to->kept += it->plan->buffers[b]->bytes;
    for (size_t b = lists->end[at]; b != SIZE_MAX; b = lists->next_end[b]) {
        const forward_life *life = &it->lives[b];
        const size_t bytes = it->plan->buffers[b]->bytes;
        if (life->begin < begin || life->stays)
            continue;
        to->kept -= bytes;
        to->needed += life->needed ? bytes : 0;
        to->held += life->needed && (!lean || life->costly) ? bytes : 0;
    }
    to->gradients = it->gradients[at] > to->gradients ? it->gradients[at] : to->gradients;
}

static void extend(const segments *it, size_t begin, size_t limit, bool lean, route *routes)
{
    const size_t before = routes[begin].kept;
    growing g = {0};
    for (size_t at = begin; at < it->step_count && before + g.held <= limit; at++) {
        const size_t end = at + 1;
        grow(it, begin, at, lean, &g);
        const bool last = end == it->step_count;
        if (!last && !it->may_begin[end])
            continue;
        const size_t alive = before + g.kept + (last ? g.needed : g.held) + g.gradients;
        if (alive <= limit && before + g.kept < routes[end].kept)
            routes[end] = (route){before + g.kept, begin};
    }
}

pal_status segments_cut(segments *it, size_t limit, bool lean, bool *fits)
{
    route *routes = mem_array(it->step_count + 1, sizeof *routes);
    if (!routes)
        return fail_memory("a plan");
    for (size_t i = 0; i <= it->step_count; i++)
        routes[i] = (route){i ? SIZE_MAX : 0, 0};
    for (size_t i = 0; i < it->step_count; i++)
        if (routes[i].kept != SIZE_MAX)
            extend(it, i, limit, lean, routes);
    *fits = it->step_count && routes[it->step_count].kept != SIZE_MAX;
    for (size_t end = it->step_count; *fits && end > 0; end = routes[end].from)
        for (size_t i = routes[end].from; i < end; i++)
            it->end_of[i] = end;
    free(routes);
    return PAL_OK;
}

bool segments_drop(const segments *it, const buffer *root)
{
    if (root->number >= it->buffer_count)
        return false;
    const forward_life *life = &it->lives[root->number];
    return life->begin != SIZE_MAX && !life->stays && life->end < it->end_of[life->begin] &&
           it->end_of[life->begin] != it->step_count;
}
