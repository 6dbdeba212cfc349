#include "engine/plan_cut.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/plan_state.h"

typedef struct search {
    const buffer *root;
    bool found;
} search;

static void look_for(void *to, const step *step, size_t at, buffer *root)
{
    search *it = to;
    (void)step, (void)at;
    it->found |= root == it->root;
}

size_t plan_first_reader(const plan *plan, size_t value)
{
    const value_buffers *held = &plan->values[value];
    search it = {.root = held->count ? buffer_root(held->list[0]) : NULL};
    size_t i = 0;
    for (; i < plan->forward_count; i++) {
        visit_reads(&plan->steps[i], i, look_for, &it);
        if (it.found)
            break;
    }
    return i;
}

/* ---------------------------------------------------------------- what is alive */

enum { WRITTEN = 1, NEEDED = 2 }; /* before the cut; behind it */

static void note_written(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    ((unsigned char *)to)[root->number] |= WRITTEN;
}

static void note_needed(void *to, const step *step, size_t at, buffer *root)
{
    (void)step, (void)at;
    ((unsigned char *)to)[root->number] |= NEEDED;
}

pal_status plan_cut_new(const plan *plan, size_t step, plan_cut *cut)
{
    const graph *graph = plan->graph;
    unsigned char *notes = mem_zeroed(plan->buffer_count, 1);
    *cut = (plan_cut){.step = step, .alive = mem_array(plan->buffer_count, sizeof *cut->alive)};
    if (!notes || !cut->alive) {
        free(notes);
        plan_cut_free(cut);
        return fail_memory("a plan");
    }
    for (size_t i = 0; i < graph->input_count; i++)
        note_written(notes, NULL, 0, buffer_root(plan->inputs[i]));
    for (size_t i = 0; i < graph->output_count; i++)
        note_needed(notes, NULL, 0, buffer_root(plan->outputs[i]));
    for (size_t i = 0; i < plan->forward_count; i++) {
        if (i < step)
            visit_writes(&plan->steps[i], i, note_written, notes);
        else
            visit_reads(&plan->steps[i], i, note_needed, notes);
    }
    for (size_t i = 0; i < plan->buffer_count; i++)
        if (notes[i] == (WRITTEN | NEEDED)) {
            cut->alive[cut->count++] = plan->buffers[i];
            cut->bytes += plan->buffers[i]->bytes;
        }
    free(notes);
    return PAL_OK;
}

void plan_cut_free(plan_cut *cut)
{
    free(cut->alive);
    *cut = (plan_cut){0};
}

void plan_cut_keep(const plan_cut *cut, unsigned char *to)
{
    for (size_t i = 0; i < cut->count; to += cut->alive[i++]->bytes)
        memcpy(to, cut->alive[i]->data, cut->alive[i]->bytes);
}

void plan_cut_restore(const plan_cut *cut, const unsigned char *from)
{
    for (size_t i = 0; i < cut->count; from += cut->alive[i++]->bytes)
        memcpy(cut->alive[i]->data, from, cut->alive[i]->bytes);
}
