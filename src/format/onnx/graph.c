/* Finds the weights of a model: constants of floating type, stored as initializers, in Constant
 * nodes, or as the operators that a palette became; and the operators that use them.
 *
 * Weights are listed in the order in which operators use them, which neither compressing nor
 * decompressing changes. Functions of the model are left alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/onnx/onnx.h"

enum { MAX_GRAPH_DEPTH = 64 };

typedef struct walk {
    pal_model *model;
    onnx *state;
    scope scope;
    size_t weight_capacity;
} walk;

/* ---------------------------------------------------------------- definitions */

/* Within a graph a name stands for one value; it may hide one of a graph around it. */
static pal_status define(walk *w, const definition *d)
{
    const definition *other = d->name.len ? scope_find(&w->scope, d->name) : NULL;
    if (other && other->graph == d->graph)
        return fail(PAL_ERROR_FORMAT, "%s: two values of the name %.*s", w->state->path,
                    (int)(d->name.len < 200 ? d->name.len : 200), (const char *)d->name.data);
    return scope_push(&w->scope, d) ? PAL_OK : fail_memory("reading a model");
}

static pal_status define_all(walk *w, size_t g)
{
    const Onnx__Graph *graph = w->state->graphs[g].message;
    const definition blank = {
        .graph = g,
        .input = NONE,
        .initializer = NONE,
        .node = NONE,
        .weight = NONE,
    };
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < graph->n_input; i++) {
        definition d = blank;
        d.name = graph->input[i]->name;
        d.input = i;
        status = define(w, &d);
    }
    for (size_t i = 0; !status && i < graph->n_initializer; i++) {
        definition d = blank, *input = scope_find(&w->scope, graph->initializer[i]->name);
        d.name = graph->initializer[i]->name;
        d.initializer = i;
        if (d.name.len && input && input->graph == g && input->input != NONE &&
            input->initializer == NONE)
            input->initializer = i;
        else
            status = define(w, &d);
    }
    for (size_t i = 0; !status && i < graph->n_node; i++) {
        for (size_t j = 0; !status && j < graph->node[i]->n_output; j++) {
            definition d = blank;
            d.name = graph->node[i]->output[j];
            d.node = i;
            if (d.name.len)
                status = define(w, &d);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- palettes */

typedef void (*name_visit)(walk *w, ProtobufCBinaryData name);

static void visit_names(walk *w, const Onnx__Graph *graph, name_visit visit, int depth);

/* Names that a node uses, those in its graphs included. */
static void visit_node_names(walk *w, const Onnx__Node *node, name_visit visit, int depth)
{
    for (size_t i = 0; i < node->n_input; i++)
        visit(w, node->input[i]);
    for (size_t i = 0; i < node->n_attribute; i++) {
        const Onnx__Attribute *attribute = node->attribute[i];
        if (attribute->g)
            visit_names(w, attribute->g, visit, depth + 1);
        for (size_t j = 0; j < attribute->n_graphs; j++)
            visit_names(w, attribute->graphs[j], visit, depth + 1);
    }
}

static void visit_names(walk *w, const Onnx__Graph *graph, name_visit visit, int depth)
{
    for (size_t i = 0; depth <= MAX_GRAPH_DEPTH && i < graph->n_node; i++)
        visit_node_names(w, graph->node[i], visit, depth);
    for (size_t i = 0; i < graph->n_output; i++)
        visit(w, graph->output[i]->name);
}

static void want(walk *w, ProtobufCBinaryData name)
{
    definition *d = name.len ? scope_find(&w->scope, name) : NULL;
    if (d)
        d->wanted = true;
}

/* Recognises palettes, and drops the operators and constants that only they use. A palette ends
 * with the last of its operators, so the graph is read backwards. */
static pal_status find_palettes(walk *w, size_t g)
{
    onnx *state = w->state;
    const Onnx__Graph *graph = state->graphs[g].message;
    bool *const node_dropped = state->graphs[g].node_dropped;
    bool *const tensor_dropped = state->graphs[g].tensor_dropped;
    for (size_t i = graph->n_node; i-- > 0;) {
        palette *found = NULL;
        size_t initializer;
        Onnx__Tensor *indices;
        pal_status status = PAL_OK;
        if (!node_dropped[i])
            status = match_palette(state, &w->scope, g, i, &found, &initializer, &indices);
        if (status)
            return status;
        if (!found)
            continue;
        definition *d = scope_find(&w->scope, graph->node[i]->output[0]);
        if (!d || !holdings_reserve(&state->held, 1)) {
            palette_free(found);
            return fail_memory("reading a palette");
        }
        holdings_keep_palette(&state->held, found);
        d->palette = found;
        d->initializer = initializer;
        d->indices = indices;
    }
    for (size_t i = 0; i < graph->n_node; i++)
        if (!node_dropped[i])
            visit_node_names(w, graph->node[i], want, 0);
    for (size_t i = 0; i < graph->n_output; i++)
        want(w, graph->output[i]->name);
    for (size_t i = graph->n_node; i-- > 0;) {
        const Onnx__Node *node = graph->node[i];
        const definition *d = node_dropped[i] ? scope_find(&w->scope, node->output[0]) : NULL;
        if (d && d->wanted && !d->palette) {
            node_dropped[i] = false;
            visit_node_names(w, node, want, 0);
        }
    }
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const definition *d = scope_find(&w->scope, graph->initializer[i]->name);
        if (tensor_dropped[i] && d && d->wanted)
            tensor_dropped[i] = false;
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- weights */

/* The tensor of a constant, or NULL. */
static Onnx__Tensor *constant_of(const walk *w, const definition *d)
{
    const onnx_graph *graph = &w->state->graphs[d->graph];
    if (d->palette)
        return d->indices;
    if (d->initializer != NONE)
        return graph->tensor_dropped[d->initializer] ? NULL
                                                     : graph->message->initializer[d->initializer];
    return d->node != NONE && !graph->node_dropped[d->node]
               ? node_constant(graph->message->node[d->node])
               : NULL;
}

static pal_status describe_dense(walk *w, const tensor *t, model_weight *weight,
                                 weight_place *place)
{
    weight->info.storage = PAL_STORAGE_DENSE;
    weight->info.nbits = pal_dtype_bits(t->dtype);
    weight->info.bytes = t->bytes;
    if (!t->data) {
        weight->locked = "its values are stored in a form that this version does not read";
        return PAL_OK;
    }
    place->source = t->data;
    weight->dense = tensor_align(w->state, t);
    return weight->dense ? PAL_OK : fail_memory("reading a model");
}

static void describe_palette(const palette *p, pal_weight *info)
{
    info->storage = PAL_STORAGE_PALETTIZED;
    info->nbits = p->nbits;
    info->num_luts = palette_num_luts(p);
    info->bytes = palette_bytes(p);
}

static const char *why_locked(const walk *w, const definition *d, pal_dtype dtype)
{
    const onnx *state = w->state;
    if (state->root->n_training_info)
        return "the model carries training information";
    if (d->input != NONE && state->root->ir_version >= FIRST_CONSTANT_IR)
        return "it is also a graph input, which a caller may override";
    if (dtype == PAL_BFLOAT16 && state->opset < FIRST_BFLOAT16_OPSET)
        return "bfloat16 needs opset 13";
    return NULL;
}

/* The weight that a definition is, or NONE; lists it if it is new. */
static pal_status list_weight(walk *w, size_t definition_index, size_t *listed)
{
    const definition *d = &w->scope.definitions[definition_index];
    onnx *state = w->state;
    tensor t = {0};
    bool known = true;
    *listed = d->weight;
    Onnx__Tensor *message = *listed == NONE ? constant_of(w, d) : NULL;
    if (!message)
        return PAL_OK;
    pal_status status = PAL_OK;
    if (d->palette) {
        t.dtype = d->palette->dtype;
        t.rank = d->palette->rank;
        t.elements = 1;
        memcpy(t.shape, d->palette->shape, sizeof t.shape);
        for (size_t i = 0; i < t.rank; i++)
            t.elements *= t.shape[i];
    } else {
        status = tensor_type_read(state, message, &t, &known);
        if (!status && known && dtype_is_float(t.dtype) && t.rank > 0)
            status = tensor_read(state, message, &t);
    }
    if (status || !known || !dtype_is_float(t.dtype) || t.rank == 0)
        return status;
    const size_t i = w->model->weight_count;
    char *name = arena_copy(&state->edits, d->name.data, d->name.len);
    if (!name ||
        !mem_grow((void **)&w->model->weights, &w->weight_capacity, i + 1,
                  sizeof *w->model->weights) ||
        !mem_grow((void **)&state->places, &state->place_capacity, i + 1, sizeof *state->places))
        return fail_memory("reading a model");
    state->places[i] = (weight_place){
        .graph = d->graph,
        .name = d->name,
        .initializer = d->initializer,
        .input = d->input,
        .node = d->palette ? NONE : d->node,
        .in_recipe = d->palette != NULL,
        .tensor = message,
        .palette = d->palette,
    };
    model_weight *weight = &w->model->weights[i];
    *weight = (model_weight){.same_as = i};
    weight->info = (pal_weight){
        .name = name,
        .function = state->graphs[d->graph].function,
        .op = "",
        .dtype = t.dtype,
        .rank = t.rank,
        .elements = t.elements,
    };
    memcpy(weight->info.shape, t.shape, sizeof t.shape);
    weight->locked = why_locked(w, d, t.dtype);
    if (d->palette)
        describe_palette(d->palette, &weight->info);
    else
        status = describe_dense(w, &t, weight, &state->places[i]);
    w->model->weight_count++;
    w->scope.definitions[definition_index].weight = *listed = i;
    return status;
}

/* ---------------------------------------------------------------- uses */

static bool is_set(const Onnx__Node *node, const char *name)
{
    const Onnx__Attribute *attribute = node_attribute(node, name);
    return attribute && attribute->i != 0;
}

/* The output-channel axis of a weight of this rank as the operator's input of that number. */
static int channel_axis(const Onnx__Node *node, size_t input, size_t rank)
{
    if (node_is(node, "ConvTranspose"))
        return input == 1 && rank > 1 ? 1 : 0;
    if (node_is(node, "Gemm") && rank == 2)
        return input == 1 ? !is_set(node, "transB") : input == 0 ? is_set(node, "transA") : 0;
    if (node_is(node, "MatMul") && rank > 1)
        return (int)(input == 1 ? rank - 1 : rank - 2);
    if ((node_is(node, "LSTM") || node_is(node, "GRU") || node_is(node, "RNN")) && rank == 3)
        return input == 1 || input == 2 ? 1 : 0;
    return 0;
}

/* The groups of a convolution; 1 for other operators. */
static uint64_t op_groups(const Onnx__Node *node)
{
    const Onnx__Attribute *group = node_is(node, "Conv") || node_is(node, "ConvTranspose")
                                       ? node_attribute(node, "group")
                                       : NULL;
    return group && group->i > 0 ? (uint64_t)group->i : 1;
}

static pal_status use_weight(walk *w, size_t weight, const Onnx__Node *node, size_t input)
{
    pal_weight *info = &w->model->weights[weight].info;
    const int axis = channel_axis(node, input, info->rank);
    const uint64_t groups = op_groups(node);
    return weight_used(&w->model->weights[weight], &w->state->edits,
                       (text_span){node->op_type.data, node->op_type.len},
                       (text_span){node->name.data, node->name.len}, axis, groups);
}

static pal_status use_inputs(walk *w, const Onnx__Node *node)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < node->n_input; i++) {
        const definition *d = node->input[i].len ? scope_find(&w->scope, node->input[i]) : NULL;
        size_t weight = NONE;
        if (d)
            status = list_weight(w, (size_t)(d - w->scope.definitions), &weight);
        if (!status && weight != NONE)
            status = use_weight(w, weight, node, i);
    }
    return status;
}

/* ---------------------------------------------------------------- the walk */

static pal_status walk_graph(walk *w, Onnx__Graph *graph, const char *function, int depth);

/* The graphs in a node are named after it, by its number among the nodes that hold graphs: saving
 * changes how many others there are. */
static pal_status walk_bodies(walk *w, size_t g, size_t n, size_t *number, int depth)
{
    const Onnx__Node *node = w->state->graphs[g].message->node[n];
    const char *outer = w->state->graphs[g].function;
    pal_status status = PAL_OK;
    bool any = false;
    for (size_t i = 0; !status && i < node->n_attribute; i++) {
        const Onnx__Attribute *attribute = node->attribute[i];
        for (size_t j = 0; !status && j < attribute->n_graphs + (attribute->g != NULL); j++) {
            const char *function =
                arena_printf(&w->state->edits, "%s/%zu/%.*s", outer, *number,
                             (int)(attribute->name.len < 64 ? attribute->name.len : 64),
                             attribute->name.data ? (const char *)attribute->name.data : "");
            status =
                function
                    ? walk_graph(w, j < attribute->n_graphs ? attribute->graphs[j] : attribute->g,
                                 function, depth + 1)
                    : fail_memory("reading a model");
            any = true;
        }
    }
    *number += any;
    return status;
}

/* Weights that are outputs or that nothing uses. */
static pal_status list_others(walk *w, size_t g, size_t mark)
{
    const Onnx__Graph *graph = w->state->graphs[g].message;
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < graph->n_output; i++) {
        const definition *d = scope_find(&w->scope, graph->output[i]->name);
        size_t weight = NONE;
        if (d)
            status = list_weight(w, (size_t)(d - w->scope.definitions), &weight);
        if (!status && weight != NONE)
            w->model->weights[weight].locked = "it is an output of its graph";
    }
    for (size_t i = mark; !status && i < w->scope.count; i++) {
        size_t weight = w->scope.definitions[i].weight;
        if (weight == NONE)
            status = list_weight(w, i, &weight);
        if (!status && weight != NONE && w->model->weights[weight].info.consumers == 0 &&
            !w->model->weights[weight].locked)
            w->model->weights[weight].locked = "no operator uses it";
    }
    return status;
}

static pal_status walk_graph(walk *w, Onnx__Graph *graph, const char *function, int depth)
{
    onnx *state = w->state;
    const size_t g = state->graph_count, mark = w->scope.count;
    size_t holders = 0;
    if (depth > MAX_GRAPH_DEPTH)
        return fail(PAL_ERROR_FORMAT, "%s: graphs nested too deeply", state->path);
    onnx_graph added = {
        .message = graph,
        .function = function,
        .node_dropped = arena_zeroed(&state->edits, graph->n_node + 1),
        .tensor_dropped = arena_zeroed(&state->edits, graph->n_initializer + 1),
    };
    if (!added.node_dropped || !added.tensor_dropped ||
        !mem_grow((void **)&state->graphs, &state->graph_capacity, g + 1, sizeof *state->graphs))
        return fail_memory("reading a model");
    state->graphs[g] = added;
    state->graph_count++;
    pal_status status = define_all(w, g);
    if (!status)
        status = find_palettes(w, g);
    for (size_t i = 0; !status && i < graph->n_node; i++) {
        if (added.node_dropped[i])
            continue;
        status = use_inputs(w, graph->node[i]);
        if (!status)
            status = walk_bodies(w, g, i, &holders, depth);
    }
    if (!status)
        status = list_others(w, g, mark);
    scope_pop(&w->scope, mark);
    return status;
}

/* ---------------------------------------------------------------- shared values */

/* Tensors that refer to the same external data share their values. */
static const void *source_of(const pal_model *model, size_t weight)
{
    return ((const onnx *)model->state)->places[weight].source;
}

pal_status onnx_find_weights(pal_model *model)
{
    walk *w = mem_zeroed(1, sizeof *w);
    if (!w)
        return fail_memory("reading a model");
    w->model = model;
    w->state = model->state;
    scope_init(&w->scope);
    pal_status status = walk_graph(w, w->state->root->graph, "main", 0);
    if (!status)
        status = weights_find_shared(model, source_of);
    scope_free(&w->scope);
    free(w);
    return status;
}
