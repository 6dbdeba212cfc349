#include "method/layerwise/walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/scratch.h"
#include "engine/engine.h"
#include "engine/fuse.h"
#include "graph/infer.h"

enum {
    MOST_BATCH = WALK_MOST_BATCH,
    MOST_BYTES = 24 << 20,    /* of the largest activation of a chunk */
    MEMORY_BYTES = 384 << 20, /* of all activations: above, they lie in files */
};

/* ---------------------------------------------------------------- memory of activations */

static size_t value_bytes(const walk *w, size_t value)
{
    const graph_value *v = &w->graph->values[value];
    return (size_t)graph_elements(v) * graph_type_size(v->type);
}

static void *allocate(const walk *w, size_t bytes)
{
    return w->mapped ? scratch_zeroed(bytes, 1) : mem_array(bytes ? bytes : 1, 1);
}

static void release(const walk *w, void **memory)
{
    if (w->mapped)
        scratch_free(*memory);
    else
        free(*memory);
    *memory = NULL;
}

static void **place(const walk *w, int network, size_t chunk, size_t value)
{
    return &w->live[network][chunk * w->graph->value_count + value];
}

float *walk_values(const walk *w, network network, size_t chunk, size_t value)
{
    void *own = network == NETWORK_COMPRESSED ? *place(w, 1, chunk, value) : NULL;
    return own ? own : *place(w, 0, chunk, value);
}

size_t walk_count(const walk *w, size_t chunk)
{
    const uint64_t left = chunk < w->chunks
                              ? w->samples - (uint64_t)chunk * w->batch
                              : w->held_back - (uint64_t)(chunk - w->chunks) * w->batch;
    return left < w->batch ? (size_t)left : w->batch;
}

void walk_rest(const walk *w, size_t chunk, size_t value)
{
    for (int i = 0; w->mapped && i < 2; i++)
        scratch_release(*place(w, i, chunk, value));
}

/* ---------------------------------------------------------------- opening */

static void count_uses(walk *w)
{
    const graph *graph = w->graph;
    for (size_t i = 0; i < graph->main.node_count; i++)
        for (size_t k = 0; k < graph->main.nodes[i].input_count; k++)
            if (graph->main.nodes[i].inputs[k] != GRAPH_NONE)
                w->uses[graph->main.nodes[i].inputs[k]]++;
    for (size_t i = 0; i < graph->output_count; i++)
        w->uses[graph->main.outputs[i]]++; /* never used up */
}

/* The most bytes of one sample that are alive at once. */
static pal_status live_bytes(const walk *w, uint64_t *most)
{
    const graph *graph = w->graph;
    size_t *left = mem_array(graph->value_count, sizeof *left);
    uint64_t now = 0;
    if (!left)
        return fail_memory("calibration");
    memcpy(left, w->uses, graph->value_count * sizeof *left);
    *most = 0;
    for (size_t i = 0; i < graph->main.node_count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        for (size_t k = 0; k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                now += value_bytes(w, node->outputs[k]);
        *most = now > *most ? now : *most;
        for (size_t k = 0; k < node->input_count; k++)
            if (node->inputs[k] != GRAPH_NONE && --left[node->inputs[k]] == 0 &&
                !graph->values[node->inputs[k]].constant)
                now -=
                    value_bytes(w, node->inputs[k]) < now ? value_bytes(w, node->inputs[k]) : now;
    }
    *most = *most * w->all_chunks * 2;
    free(left);
    return PAL_OK;
}

static pal_status specialise(walk *w, const feed_batch *batch, bool *unproven)
{
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(batch->input_count, sizeof *shapes);
    if (!shapes)
        return fail_memory("calibration");
    for (size_t i = 0; i < batch->input_count; i++)
        memcpy(shapes[i], batch->inputs[i].shape, sizeof shapes[i]);
    const specialise_options options = {.shapes = (const int64_t(*)[PAL_MAX_RANK])shapes,
                                        .keep_weights = true,
                                        .evaluate = engine_evaluate};
    graph_free(w->graph);
    w->graph = NULL;
    pal_status status = graph_specialise(session_graph(w->session), &options, &w->graph, unproven);
    free(shapes);
    return status;
}

/* Whether a larger batch than the file's gives what its samples give alone: a session knows how to
 * find out. */
static pal_status prove_batch(pal_model *model, const feed_batch *batch, bool *trusted)
{
    pal_session *session;
    pal_status status = pal_session_open(model, 1, &session);
    if (status)
        return status;
    status = pal_session_run(session, batch->inputs, batch->input_count);
    *trusted = !session_one_by_one(session);
    pal_session_free(session);
    return status;
}

/* Room for what is known of each value, and of each in each chunk. */
static pal_status make_room(walk *w)
{
    const size_t values = w->graph->value_count;
    w->instead = mem_zeroed(values, sizeof *w->instead);
    w->differs = mem_zeroed(values, sizeof *w->differs);
    w->uses = mem_zeroed(values, sizeof *w->uses);
    uint64_t cells, bytes = 0;
    if (!mem_multiply(w->all_chunks, values, &cells) || !w->instead || !w->differs || !w->uses)
        return fail_memory("calibration");
    for (int i = 0; i < 2; i++)
        if (!(w->live[i] = mem_zeroed(cells, sizeof *w->live[i])))
            return fail_memory("calibration");
    count_uses(w);
    pal_status status = live_bytes(w, &bytes);
    w->mapped = bytes > MEMORY_BYTES;
    return status;
}

/* A batch whose largest activation is not too large; what the model fixes stays. */
static size_t better_batch(const walk *w, size_t batch)
{
    uint64_t largest = 1;
    for (size_t v = 0; v < w->graph->value_count; v++)
        if (!w->graph->values[v].constant && w->uses[v] && value_bytes(w, v) > largest)
            largest = value_bytes(w, v);
    const uint64_t fit = batch * (uint64_t)MOST_BYTES / largest;
    return fit >= batch ? batch : fit ? (size_t)fit : 1;
}

/* The values of a batch, which may be smaller than a chunk: its last sample is repeated then. */
static void fill(unsigned char *to, size_t bytes, const pal_tensor *from, size_t batch)
{
    const size_t sample = bytes / batch, have = sample * (size_t)from->shape[0];
    memcpy(to, from->data, have < bytes ? have : bytes);
    for (size_t at = have; at < bytes; at += sample)
        memcpy(to + at, (const unsigned char *)from->data + have - sample, sample);
}

/* The samples of a part of the data, in chunks from `chunk` on; `batch` has the first ones. */
static pal_status read_chunks(walk *w, feed *feed, feed_batch *batch, size_t chunk)
{
    pal_status status = PAL_OK;
    for (; !status && batch->count; chunk++) {
        for (size_t i = 0; i < batch->input_count; i++) {
            const size_t value = w->graph->inputs[i].value, bytes = value_bytes(w, value);
            void **to = place(w, 0, chunk, value);
            if (!w->uses[value])
                continue;
            if (!(*to = allocate(w, bytes)))
                return fail_memory("calibration");
            fill(*to, bytes, &batch->inputs[i], w->batch);
            walk_rest(w, chunk, value);
        }
        status = feed_next(feed, batch);
    }
    return status;
}

/* Batches of a part of the data, of the size that is found by now. */
static pal_status open_part(const walk *w, const pal_data *data, uint64_t first, uint64_t count,
                            size_t batch, pal_data **part, feed **feed, feed_batch *out)
{
    pal_status status = data_part(data, first, count, part);
    if (!status)
        status = feed_open(*part, w->session, batch, w->threads, feed);
    if (!status)
        status = feed_next(*feed, out);
    if (!status && !out->count)
        status = fail(PAL_ERROR_ARGUMENT, "there are no samples");
    return status;
}

static void close_part(pal_data *part, feed *feed)
{
    feed_close(feed);
    pal_data_free(part);
}

/* Held-back samples come in batches of the same size, or in a single smaller one. */
static pal_status read_held_back(walk *w, const pal_data *data)
{
    pal_data *part = NULL;
    feed *feed = NULL;
    feed_batch batch;
    pal_status status =
        open_part(w, data, w->samples, w->held_back, w->batch, &part, &feed, &batch);
    if (!status)
        status = read_chunks(w, feed, &batch, w->chunks);
    close_part(part, feed);
    return status;
}

static void forget(walk *w)
{
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; w->live[i] && k < w->all_chunks * w->graph->value_count; k++)
            release(w, &w->live[i][k]);
        free(w->live[i]);
        w->live[i] = NULL;
    }
    free(w->instead);
    free(w->differs);
    free(w->uses);
    w->instead = NULL;
    w->differs = NULL;
    w->uses = NULL;
}

/* All samples in chunks of `batch`; *better is the batch that would be more to the purpose. */
static pal_status try_batch(walk *w, pal_model *model, const pal_data *data, size_t batch,
                            size_t *better)
{
    pal_data *part = NULL;
    feed *feed = NULL;
    feed_batch first;
    bool unproven = false, trusted = true;
    forget(w);
    pal_status status = open_part(w, data, 0, w->samples, batch, &part, &feed, &first);
    if (!status)
        status = specialise(w, &first, &unproven);
    if (!status && unproven)
        status = prove_batch(model, &first, &trusted);
    if (!status) {
        w->batch = first.inputs[0].rank ? (size_t)first.inputs[0].shape[0] : 1;
        w->chunks = (size_t)((w->samples + w->batch - 1) / w->batch);
        w->all_chunks = w->chunks + (size_t)((w->held_back + w->batch - 1) / w->batch);
        status = make_room(w);
    }
    if (!status) {
        *better = trusted ? better_batch(w, w->batch) : 1;
        if (*better == w->batch || batch == *better)
            status = read_chunks(w, feed, &first, 0);
    }
    close_part(part, feed);
    return status;
}

pal_status walk_open(pal_model *model, const pal_data *data, uint64_t samples, uint64_t held_back,
                     int threads, walk *w)
{
    size_t better = MOST_BATCH;
    *w = (walk){.threads = threads,
                .samples = samples,
                .held_back = held_back,
                .threads_before = engine_set_threads(1)};
    pal_status status = pal_session_open(model, 1, &w->session);
    if (!status)
        status = try_batch(w, model, data, MOST_BATCH, &better);
    for (size_t batch = 0; !status && better != w->batch && better != batch;) {
        batch = better; /* the model's own may be larger: then there is no choice */
        status = try_batch(w, model, data, batch, &better);
    }
    if (!status && w->held_back)
        status = read_held_back(w, data);
    if (status)
        walk_close(w);
    return status;
}

void walk_close(walk *w)
{
    engine_set_threads(w->threads_before);
    forget(w);
    graph_free(w->graph);
    pal_session_free(w->session);
    *w = (walk){0};
}

pal_status walk_replace(walk *w, size_t value, float **values)
{
    const graph_value *of = &w->graph->values[value];
    graph_tensor *tensor = graph_add_tensor(w->graph, GRAPH_FLOAT, of->rank, of->shape);
    if (!tensor)
        return PAL_ERROR_MEMORY;
    w->instead[value] = tensor;
    *values = tensor->owned;
    return PAL_OK;
}

/* ---------------------------------------------------------------- a run of nodes */

typedef struct run {
    walk *walk;
    size_t first, count;
    bool last;
    struct side {
        bool wanted;
        graph *graph;
        plan **plans; /* by thread */
    } sides[2];
    size_t *inputs, *outputs, input_count, output_count; /* values, in the order of the plans' */
    size_t *own_uses;                                    /* by value: consumers in the run */
} run;

static void run_free(run *r)
{
    for (int i = 0; i < 2; i++) {
        for (int t = 0; r->sides[i].plans && t < r->walk->threads; t++)
            plan_free(r->sides[i].plans[t]);
        free(r->sides[i].plans);
        graph_free(r->sides[i].graph);
    }
    free(r->inputs);
    free(r->outputs);
    free(r->own_uses);
}

/* What goes into the run and what comes out of it. */
static pal_status find_ends(run *r)
{
    const graph *graph = r->walk->graph;
    bool *inside = mem_zeroed(graph->value_count, sizeof *inside);
    r->own_uses = mem_zeroed(graph->value_count, sizeof *r->own_uses);
    r->inputs = mem_array(graph->value_count, sizeof *r->inputs);
    r->outputs = mem_array(graph->value_count, sizeof *r->outputs);
    if (!inside || !r->own_uses || !r->inputs || !r->outputs) {
        free(inside);
        return fail_memory("calibration");
    }
    for (size_t i = r->first; i < r->first + r->count; i++) {
        const graph_node *node = &graph->main.nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            const size_t v = node->inputs[k];
            if (v != GRAPH_NONE && r->own_uses[v]++ == 0 && !inside[v] &&
                !graph->values[v].constant)
                r->inputs[r->input_count++] = v;
        }
        for (size_t k = 0; k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                inside[node->outputs[k]] = true;
    }
    for (size_t v = 0; v < graph->value_count; v++)
        if (inside[v] && r->walk->uses[v] > r->own_uses[v])
            r->outputs[r->output_count++] = v;
    free(inside);
    return PAL_OK;
}

/* Which values come out differently in the compressed network; whether any does. */
static bool find_differences(run *r)
{
    walk *w = r->walk;
    bool any = false;
    for (size_t i = r->first; i < r->first + r->count; i++) {
        const graph_node *node = &w->graph->main.nodes[i];
        bool differs = false;
        for (size_t k = 0; k < node->input_count; k++)
            differs = differs || (node->inputs[k] != GRAPH_NONE &&
                                  (w->differs[node->inputs[k]] || w->instead[node->inputs[k]]));
        for (size_t k = 0; differs && k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                w->differs[node->outputs[k]] = true;
        any = any || differs;
    }
    return any;
}

static pal_status add_value(const run *r, graph *to, int network, size_t value, size_t *map)
{
    const graph_value *from = &r->walk->graph->values[value];
    const graph_tensor *constant = from->constant;
    if (network == NETWORK_COMPRESSED && r->walk->instead[value])
        constant = r->walk->instead[value];
    if (constant) {
        map[value] = graph_add_constant(to, from->name, constant);
        return map[value] == GRAPH_NONE ? PAL_ERROR_MEMORY : PAL_OK;
    }
    map[value] = graph_add_value(to, from->name, from->type);
    if (map[value] == GRAPH_NONE)
        return PAL_ERROR_MEMORY;
    to->values[map[value]].rank = from->rank;
    memcpy(to->values[map[value]].shape, from->shape, sizeof from->shape);
    return PAL_OK;
}

static pal_status copy_node(const run *r, graph *to, int network, const graph_node *from,
                            size_t *map)
{
    pal_status status = PAL_OK;
    for (size_t k = 0; !status && k < from->input_count; k++)
        if (from->inputs[k] != GRAPH_NONE && map[from->inputs[k]] == GRAPH_NONE)
            status = add_value(r, to, network, from->inputs[k], map);
    for (size_t k = 0; !status && k < from->output_count; k++)
        if (from->outputs[k] != GRAPH_NONE)
            status = add_value(r, to, network, from->outputs[k], map);
    if (status)
        return status;
    graph_node *copy = graph_add_node(to, &to->main, from->op, from->name, from->type,
                                      from->input_count, from->output_count);
    if (!copy)
        return PAL_ERROR_MEMORY;
    copy->attributes = from->attributes;
    for (size_t k = 0; k < from->input_count; k++)
        copy->inputs[k] = from->inputs[k] == GRAPH_NONE ? GRAPH_NONE : map[from->inputs[k]];
    for (size_t k = 0; k < from->output_count; k++)
        copy->outputs[k] = from->outputs[k] == GRAPH_NONE ? GRAPH_NONE : map[from->outputs[k]];
    return PAL_OK;
}

static const graph_tensor *constant_of(const run *r, int network, size_t value)
{
    if (value == GRAPH_NONE)
        return NULL;
    return network == NETWORK_COMPRESSED && r->walk->instead[value]
               ? r->walk->instead[value]
               : r->walk->graph->values[value].constant;
}

static pal_status add_binary(graph *to, const graph_node *from, binary_kind kind, size_t a,
                             size_t b, size_t result)
{
    graph_node *node = graph_add_node(to, &to->main, OP_BINARY, from->name, from->type, 2, 1);
    if (!node || a == GRAPH_NONE || b == GRAPH_NONE)
        return PAL_ERROR_MEMORY;
    node->attributes = (op_attributes){.binary = {.kind = kind}};
    node->inputs[0] = a;
    node->inputs[1] = b;
    node->outputs[0] = result;
    return PAL_OK;
}

/* A batch norm as a product and a sum: oneDNN is slow at it where channels are no multiple of its
 * blocks or lie in plain order, as they do between runs. *done is false if it is none of constants.
 */
static pal_status copy_norm(const run *r, graph *to, int network, const graph_node *from,
                            size_t *map, bool *done)
{
    const graph_tensor *of[4];
    const graph_value *x = &r->walk->graph->values[from->inputs[0]];
    int64_t shape[PAL_MAX_RANK];
    *done = false;
    if (from->op != OP_BATCH_NORM || x->rank < 2)
        return PAL_OK;
    for (size_t i = 0; i < 4; i++)
        if (!(of[i] = constant_of(r, network, from->inputs[i + 1])))
            return PAL_OK;
    *done = true;
    for (size_t d = 0; d + 1 < x->rank; d++)
        shape[d] = d ? 1 : x->shape[1];
    graph_tensor *factor = graph_add_tensor(to, GRAPH_FLOAT, x->rank - 1, shape);
    graph_tensor *term = graph_add_tensor(to, GRAPH_FLOAT, x->rank - 1, shape);
    if (!factor || !term)
        return PAL_ERROR_MEMORY;
    for (uint64_t c = 0; c < factor->elements; c++) {
        const double deviation =
            sqrt((double)((const float *)of[3]->data)[c] + (double)from->attributes.norm.epsilon);
        const double by = (double)((const float *)of[0]->data)[c] / deviation;
        ((float *)factor->owned)[c] = (float)by;
        ((float *)term->owned)[c] = (float)((double)((const float *)of[1]->data)[c] -
                                            by * (double)((const float *)of[2]->data)[c]);
    }
    pal_status status = PAL_OK;
    if (map[from->inputs[0]] == GRAPH_NONE)
        status = add_value(r, to, network, from->inputs[0], map);
    if (!status)
        status = add_value(r, to, network, from->outputs[0], map);
    const size_t product = status ? GRAPH_NONE : graph_add_value(to, "", GRAPH_FLOAT);
    if (product == GRAPH_NONE)
        return PAL_ERROR_MEMORY;
    to->values[product].rank = x->rank;
    memcpy(to->values[product].shape, x->shape, sizeof x->shape);
    status = add_binary(to, from, BINARY_MUL, map[from->inputs[0]],
                        graph_add_constant(to, "", factor), product);
    if (!status)
        status = add_binary(to, from, BINARY_ADD, product, graph_add_constant(to, "", term),
                            map[from->outputs[0]]);
    return status;
}

/* The run as a graph of its own. */
static pal_status make_graph(run *r, int network)
{
    const graph *from = r->walk->graph;
    graph *to;
    size_t *map = mem_array(from->value_count, sizeof *map);
    pal_status status = map ? graph_new(&r->sides[network].graph) : fail_memory("calibration");
    to = r->sides[network].graph;
    for (size_t v = 0; !status && v < from->value_count; v++)
        map[v] = GRAPH_NONE;
    for (size_t i = 0; !status && i < r->input_count; i++) {
        const graph_value *value = &from->values[r->inputs[i]];
        const pal_dtype dtype = value->type == GRAPH_FLOAT ? PAL_FLOAT32
                                : value->type == GRAPH_INT ? PAL_INT64
                                                           : PAL_UINT8;
        size_t *added = &map[r->inputs[i]];
        status =
            graph_add_input(to, value->name, dtype, value->type, value->rank, value->shape, added);
        if (!status) {
            to->values[*added].rank = value->rank;
            memcpy(to->values[*added].shape, value->shape, sizeof value->shape);
        }
    }
    for (size_t i = 0; !status && i < r->count; i++) {
        const graph_node *node = &from->main.nodes[r->first + i];
        bool done;
        status = copy_norm(r, to, network, node, map, &done);
        if (!status && !done)
            status = copy_node(r, to, network, node, map);
    }
    if (!status) {
        size_t *outputs = arena_alloc(&to->arena, (r->output_count + 1) * sizeof *outputs);
        if (!outputs)
            status = fail_memory("calibration");
        for (size_t i = 0; !status && i < r->output_count; i++)
            outputs[i] = map[r->outputs[i]];
        to->main.outputs = outputs;
        to->output_count = status ? 0 : r->output_count;
    }
    free(map);
    if (!status)
        status = graph_drop_dead(to);
    return status ? status : graph_fuse(to);
}

static pal_status run_side(run *r, int network, plan *plan, size_t chunk)
{
    const walk *w = r->walk;
    for (size_t i = 0; i < r->input_count; i++) {
        const buffer *input = plan_model_input(plan, i);
        const void *from = walk_values(w, (enum network)network, chunk, r->inputs[i]);
        if (input->elements)
            memcpy(input->data, from, value_bytes(w, r->inputs[i]));
    }
    pal_status status = plan_run(plan, NULL);
    for (size_t i = 0; !status && i < r->output_count; i++) {
        const size_t value = r->outputs[i];
        void **to = place(w, network, chunk, value);
        if (network == NETWORK_COMPRESSED && !w->differs[value])
            continue;
        if (!*to && !(*to = allocate(w, value_bytes(w, value))))
            return fail_memory("calibration");
        memcpy(*to, plan_model_output(plan, i)->data, value_bytes(w, value));
    }
    return status;
}

static pal_status run_chunk(void *user, int thread, size_t chunk)
{
    run *r = user;
    const walk *w = r->walk;
    pal_status status = PAL_OK;
    for (int i = 0; !status && i < 2; i++) {
        struct side *side = &r->sides[i];
        if (!side->wanted)
            continue;
        if (!side->plans[thread])
            status = plan_new(side->graph, &(plan_options){.threads = 1}, &side->plans[thread]);
        if (!status)
            status = run_side(r, i, side->plans[thread], chunk);
    }
    for (size_t i = 0; !status && i < r->input_count; i++) {
        const size_t value = r->inputs[i];
        if (!r->last || w->uses[value] > r->own_uses[value]) {
            walk_rest(w, chunk, value);
            continue;
        }
        release(w, place(w, 0, chunk, value));
        release(w, place(w, 1, chunk, value));
    }
    for (size_t i = 0; i < r->output_count; i++)
        walk_rest(w, chunk, r->outputs[i]);
    return status;
}

pal_status walk_run(walk *w, size_t first, size_t count, int networks, bool last)
{
    run r = {.walk = w, .first = first, .count = count, .last = last};
    if (!count)
        return PAL_OK;
    pal_status status = find_ends(&r);
    if (!status) {
        r.sides[0].wanted = networks & RUN_FLOAT;
        r.sides[1].wanted = (networks & RUN_COMPRESSED) && find_differences(&r);
    }
    for (int i = 0; !status && i < 2; i++) {
        if (!r.sides[i].wanted)
            continue;
        r.sides[i].plans = mem_zeroed((size_t)w->threads, sizeof *r.sides[i].plans);
        status = r.sides[i].plans ? make_graph(&r, i) : fail_memory("calibration");
    }
    const parallel_job job = {.user = &r, .item = run_chunk};
    if (!status)
        status = parallel_run(&job, w->all_chunks, w->threads);
    for (size_t v = 0; !status && last && v < w->graph->value_count; v++)
        w->uses[v] -= r.own_uses[v];
    run_free(&r);
    return status;
}
