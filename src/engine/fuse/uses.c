/* Who uses what. All is counted once; after a rewrite only what it may have changed is: the node
 * that it began at, and those that it looked at, which are copied before it can change them. */
#include <stdlib.h>

#include "engine/fuse/fusing.h"

/* A node as it was: what it used, and then what it gave, in watch.values. */
typedef struct watched {
    size_t node, first, used, given;
} watched;

struct watch {
    watched *nodes;
    size_t count, capacity;
    size_t *values, value_count, value_capacity;
    size_t *dying, dying_capacity; /* nodes whose results nobody uses any more */
    size_t *turn_of, turn;         /* for each node: the rewrite at which it was copied last */
    pal_status failed;
};

static void use(fusing *f, size_t value)
{
    if (value != GRAPH_NONE)
        f->uses[value]++;
}

bool is_alive(const fusing *f, const graph_node *node)
{
    for (size_t i = 0; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE && f->uses[node->outputs[i]])
            return true;
    return false;
}

/* Adds what a node uses. */
static void use_inputs(fusing *f, const graph_node *node)
{
    for (size_t k = 0; k < node->input_count; k++)
        use(f, node->inputs[k]);
    for (size_t k = 0; k < node->post_count; k++)
        if (node->posts[k].kind == POST_ADD)
            use(f, node->posts[k].value);
}

static void set_producer(fusing *f, const graph_node *node, size_t producer)
{
    for (size_t k = 0; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE)
            f->producer[node->outputs[k]] = producer;
}

/* Room for all values of the graph; nobody uses those that are new. */
static bool follow_values(fusing *f)
{
    const size_t count = f->graph->value_count;
    if (!mem_grow((void **)&f->uses, &f->uses_capacity, count, sizeof *f->uses) ||
        !mem_grow((void **)&f->producer, &f->producer_capacity, count, sizeof *f->producer))
        return false;
    for (; f->value_count < count; f->value_count++) {
        f->uses[f->value_count] = 0;
        f->producer[f->value_count] = GRAPH_NONE;
    }
    return true;
}

pal_status uses_count(fusing *f)
{
    const graph *graph = f->graph;
    const size_t nodes = graph->main.node_count;
    f->watch = mem_zeroed(1, sizeof *f->watch);
    if (f->watch)
        f->watch->turn_of = mem_zeroed(nodes, sizeof *f->watch->turn_of);
    if (!f->watch || !f->watch->turn_of || !follow_values(f))
        return fail_memory("fusing operators");
    for (size_t i = 0; i < graph->output_count; i++)
        use(f, graph->main.outputs[i]);
    /* From the last node to the first, so that what leads to no output counts for nothing. */
    for (size_t i = nodes; i-- > 0;)
        if (is_alive(f, &graph->main.nodes[i])) {
            use_inputs(f, &graph->main.nodes[i]);
            set_producer(f, &graph->main.nodes[i], i);
        }
    return PAL_OK;
}

void uses_free(fusing *f)
{
    if (f->watch) {
        free(f->watch->nodes);
        free(f->watch->values);
        free(f->watch->dying);
        free(f->watch->turn_of);
    }
    free(f->watch);
    free(f->uses);
    free(f->producer);
}

/* ---------------------------------------------------------------- before a rewrite */

void uses_begin(fusing *f, size_t node)
{
    f->watch->count = f->watch->value_count = 0;
    f->watch->turn++;
    uses_watch(f, node);
}

bool uses_watch(const fusing *f, size_t at)
{
    watch *w = f->watch;
    const graph_node *node = &f->graph->main.nodes[at];
    const size_t most = node->input_count + node->post_count + node->output_count;
    if (w->turn_of[at] == w->turn)
        return true;
    if (!mem_grow((void **)&w->nodes, &w->capacity, w->count + 1, sizeof *w->nodes) ||
        !mem_grow((void **)&w->values, &w->value_capacity, w->value_count + most,
                  sizeof *w->values)) {
        w->failed = fail_memory("fusing operators");
        return false;
    }
    watched *it = &w->nodes[w->count++];
    *it = (watched){.node = at, .first = w->value_count};
    size_t *to = w->values + w->value_count;
    for (size_t k = 0; k < node->input_count; k++)
        to[it->used++] = node->inputs[k];
    for (size_t k = 0; k < node->post_count; k++)
        if (node->posts[k].kind == POST_ADD)
            to[it->used++] = node->posts[k].value;
    for (size_t k = 0; k < node->output_count; k++)
        to[it->used + it->given++] = node->outputs[k];
    w->value_count += it->used + it->given;
    w->turn_of[at] = w->turn;
    return true;
}

/* ---------------------------------------------------------------- after it */

/* One use less; a node whose results nobody uses any more is to be taken away. */
static bool drop(fusing *f, size_t value, size_t *dying)
{
    watch *w = f->watch;
    if (value == GRAPH_NONE || --f->uses[value] || f->producer[value] == GRAPH_NONE ||
        is_alive(f, &f->graph->main.nodes[f->producer[value]]))
        return true;
    if (!mem_grow((void **)&w->dying, &w->dying_capacity, *dying + 1, sizeof *w->dying))
        return false;
    w->dying[*dying] = f->producer[value];
    ++*dying;
    set_producer(f, &f->graph->main.nodes[f->producer[value]], GRAPH_NONE);
    return true;
}

static bool drop_inputs(fusing *f, const graph_node *node, size_t *dying)
{
    bool room = true;
    for (size_t k = 0; room && k < node->input_count; k++)
        room = drop(f, node->inputs[k], dying);
    for (size_t k = 0; room && k < node->post_count; k++)
        if (node->posts[k].kind == POST_ADD)
            room = drop(f, node->posts[k].value, dying);
    return room;
}

static pal_status update(fusing *f)
{
    const watch *w = f->watch;
    graph_node *nodes = f->graph->main.nodes;
    size_t dying = 0;
    bool room = follow_values(f);
    /* What is used now comes before what was, so that nothing dies in between. */
    for (size_t i = 0; room && i < w->count; i++) {
        const watched *it = &w->nodes[i];
        use_inputs(f, &nodes[it->node]);
        for (size_t k = 0; k < it->given; k++) {
            const size_t value = w->values[it->first + it->used + k];
            if (value != GRAPH_NONE)
                f->producer[value] = GRAPH_NONE;
        }
    }
    for (size_t i = 0; room && i < w->count; i++)
        set_producer(f, &nodes[w->nodes[i].node], w->nodes[i].node);
    for (size_t i = 0; room && i < w->count; i++)
        for (size_t k = 0; room && k < w->nodes[i].used; k++)
            room = drop(f, w->values[w->nodes[i].first + k], &dying);
    while (room && dying)
        room = drop_inputs(f, &nodes[w->dying[--dying]], &dying);
    return room ? PAL_OK : fail_memory("fusing operators");
}

pal_status uses_end(fusing *f, bool changed)
{
    if (f->failed || f->watch->failed)
        return f->failed ? f->failed : f->watch->failed;
    return changed ? update(f) : PAL_OK;
}
