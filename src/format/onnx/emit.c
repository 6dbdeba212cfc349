/* Edits the messages of a model into what is to be saved.
 *
 * Palettes become operators at the front of their graph. The packed indices take the place of the
 * weight among the graph's initializers, so that decompressing puts the weight back where it was;
 * the other constants come after all initializers. Constants that several palettes need, such as
 * shapes and the tables that unpack bytes, are written once for each graph. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/onnx/onnx.h"

enum { BUCKETS = 1024 };

/* A growing list of pointers in the arena. */
typedef struct list {
    void **items;
    size_t count, capacity;
} list;

/* A value that is there already. */
typedef struct known_value {
    const step *step;
    const char *inputs[3]; /* of an operator: their names, NULL behind the last */
    const char *name;
    struct known_value *next;
} known_value;

typedef struct emitter {
    onnx *state;
    mem_arena *arena;
    size_t prefix; /* of helper names: "pal." or "pal1." and so on */
    size_t names;  /* made so far */
    bool failed;   /* out of memory */
    /* Of the graph at hand: */
    list nodes, tensors;
    Onnx__Tensor **at; /* what takes the place of each initializer */
    known_value *known[BUCKETS];
} emitter;

static void push(emitter *e, list *list, void *item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        void **items = arena_alloc(e->arena, capacity * sizeof *items);
        if (!items) {
            e->failed = true;
            return;
        }
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    e->failed = e->failed || !item;
    list->items[list->count++] = item;
}

static ProtobufCBinaryData text_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

/* ---------------------------------------------------------------- names */

/* Notes the number in a name that looks like one of ours; of `count` such names the least number
 * that none has is at most `count`. */
static void note_number(bool *used, size_t count, ProtobufCBinaryData name)
{
    const size_t length = match_prefix(name);
    size_t number = 0;
    for (size_t i = 3; i + 1 < length && number <= count; i++)
        number = 10 * number + (size_t)(name.data[i] - '0');
    if (length && number <= count)
        used[number] = true;
}

/* Notes all names that stay, those that are used but never defined included; or, with `used` NULL,
 * counts names. */
static size_t note_names(const pal_model *model, bool *used, size_t most)
{
    const onnx *state = model->state;
    size_t count = model->weight_count;
    for (size_t i = 0; used && i < model->weight_count; i++)
        note_number(used, most, state->places[i].name);
    for (size_t g = 0; g < state->graph_count; g++) {
        const onnx_graph *graph = &state->graphs[g];
        const Onnx__Graph *message = graph->message;
        count += message->n_input + message->n_output + message->n_initializer;
        for (size_t i = 0; used && i < message->n_input; i++)
            note_number(used, most, message->input[i]->name);
        for (size_t i = 0; used && i < message->n_output; i++)
            note_number(used, most, message->output[i]->name);
        for (size_t i = 0; used && i < message->n_initializer; i++)
            if (!graph->tensor_dropped[i])
                note_number(used, most, message->initializer[i]->name);
        for (size_t i = 0; i < message->n_node; i++) {
            const Onnx__Node *node = message->node[i];
            const bool stays = used && !graph->node_dropped[i];
            count += node->n_input + node->n_output;
            for (size_t j = 0; stays && j < node->n_input; j++)
                note_number(used, most, node->input[j]);
            for (size_t j = 0; stays && j < node->n_output; j++)
                note_number(used, most, node->output[j]);
        }
    }
    return count;
}

/* The least number whose names the model does not have. */
static bool choose_prefix(emitter *e, const pal_model *model)
{
    const size_t count = note_names(model, NULL, 0);
    bool *used = arena_zeroed(e->arena, count + 1);
    if (!used)
        return false;
    note_names(model, used, count);
    while (used[e->prefix])
        e->prefix++;
    return true;
}

/* Short, for a weight takes about ten names. */
static const char *helper_name(emitter *e)
{
    char *name = e->prefix ? arena_printf(e->arena, "pal%zu.%zu", e->prefix, e->names++)
                           : arena_printf(e->arena, "pal.%zu", e->names++);
    e->failed = e->failed || !name;
    return name ? name : "";
}

/* ---------------------------------------------------------------- values */

static uint32_t hash_more(uint32_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619u; /* FNV-1a */
    return hash;
}

static uint32_t hash_step(const step *s, const char *const *inputs)
{
    const tensor *c = &s->constant;
    uint32_t hash = hash_more(2166136261u, c->shape, sizeof c->shape);
    for (size_t i = 0; i < s->input_count; i++)
        hash = hash_more(hash, inputs[i], strlen(inputs[i]));
    if (s->operator)
        return hash;
    return s->shared ? hash_more(hash, c->data, c->bytes)
                     : hash_more(hash, &c->data, sizeof c->data);
}

static bool same_constant(const step *a, const step *b)
{
    const tensor *x = &a->constant, *y = &b->constant;
    return a->shared == b->shared && x->dtype == y->dtype && x->rank == y->rank &&
           memcmp(x->shape, y->shape, sizeof x->shape) == 0 && x->bytes == y->bytes &&
           (x->data == y->data || (a->shared && memcmp(x->data, y->data, x->bytes) == 0));
}

/* Whether the operators do the same with the same values. */
static bool same_operator(const known_value *k, const step *s, const char *const *inputs)
{
    const step *other = k->step;
    if (strcmp(other->operator, s->operator) != 0 || other->input_count != s->input_count ||
        other->integer_count != s->integer_count ||
        memcmp(other->integers, s->integers, s->integer_count * sizeof *s->integers) != 0)
        return false;
    for (size_t i = 0; i < s->input_count; i++)
        if (strcmp(k->inputs[i], inputs[i]) != 0)
            return false;
    return true;
}

/* The name of the value if it is there, else NULL. Operators are shared if so marked, constants
 * also if they are the same data. */
static const char *find_known(const emitter *e, const step *s, const char *const *inputs)
{
    const bool is_operator = s->operator!= NULL;
    if (is_operator && !s->shared)
        return NULL;
    for (const known_value *k = e->known[hash_step(s, inputs) % BUCKETS]; k; k = k->next) {
        if (is_operator != (k->step->operator!= NULL))
            continue;
        if (is_operator ? same_operator(k, s, inputs) : same_constant(k->step, s))
            return k->name;
    }
    return NULL;
}

static void remember(emitter *e, const step *s, const char *const *inputs, const char *name)
{
    known_value *k = arena_alloc(e->arena, sizeof *k);
    step *copy = arena_alloc(e->arena, sizeof *copy);
    if (!k || !copy) {
        e->failed = true;
        return;
    }
    uint32_t bucket = hash_step(s, inputs) % BUCKETS;
    *copy = *s;
    *k = (known_value){.step = copy, .name = name, .next = e->known[bucket]};
    for (size_t i = 0; i < s->input_count; i++)
        k->inputs[i] = inputs[i];
    e->known[bucket] = k;
}

/* ---------------------------------------------------------------- messages */

static Onnx__Attribute *make_attribute(emitter *e, const char *name, int32_t type)
{
    Onnx__Attribute *attribute = protobuf_new(e->arena, &onnx__attribute__descriptor);
    if (!attribute) {
        e->failed = true;
        return NULL;
    }
    attribute->has_name = attribute->has_type = true;
    attribute->name = text_of(name);
    attribute->type = type;
    return attribute;
}

static void emit_node(emitter *e, const char *operator, const ProtobufCBinaryData * inputs,
                      size_t input_count, ProtobufCBinaryData output, Onnx__Attribute *attribute)
{
    Onnx__Node *node = protobuf_new(e->arena, &onnx__node__descriptor);
    ProtobufCBinaryData *names = arena_alloc(e->arena, (input_count + 1) * sizeof *names);
    Onnx__Attribute **attributes = arena_alloc(e->arena, sizeof *attributes);
    push(e, &e->nodes, node);
    if (!node || !names || !attributes) {
        e->failed = true;
        return;
    }
    names[0] = output;
    for (size_t i = 0; i < input_count; i++)
        names[i + 1] = inputs[i];
    attributes[0] = attribute;
    node->n_output = 1;
    node->output = names;
    node->n_input = input_count;
    node->input = names + 1;
    node->has_op_type = true;
    node->op_type = text_of(operator);
    node->n_attribute = attribute != NULL;
    node->attribute = attributes;
}

/* A constant of the graph, in the place of initializer `slot` if that is free. */
static void emit_tensor(emitter *e, Onnx__Tensor *tensor, size_t slot)
{
    if (!tensor) {
        e->failed = true;
    } else if (e->state->root->ir_version < FIRST_CONSTANT_IR) {
        Onnx__Attribute *value = make_attribute(e, "value", ATTRIBUTE_TENSOR);
        if (value)
            value->t = tensor;
        emit_node(e, "Constant", NULL, 0, tensor->name, value);
    } else if (slot != NONE && !e->at[slot]) {
        e->at[slot] = tensor;
    } else {
        push(e, &e->tensors, tensor);
    }
}

/* A tensor that stands for the one that the file has: what we know nothing of stays with it. */
static Onnx__Tensor *make_successor(emitter *e, const tensor *content, const char *name,
                                    const Onnx__Tensor *old)
{
    Onnx__Tensor *tensor = tensor_make(e->arena, content, name);
    if (tensor) {
        tensor->base.n_unknown_fields = old->base.n_unknown_fields;
        tensor->base.unknown_fields = old->base.unknown_fields;
    }
    return tensor;
}

static const char *emit_constant(emitter *e, const step *s, const weight_place *place,
                                 bool is_indices)
{
    const char *name = find_known(e, s, NULL);
    if (name)
        return name;
    name = helper_name(e);
    if (is_indices)
        emit_tensor(e, make_successor(e, &s->constant, name, place->tensor), place->initializer);
    else
        emit_tensor(e, tensor_make(e->arena, &s->constant, name), NONE);
    remember(e, s, NULL, name);
    return name;
}

static Onnx__Attribute *emit_attribute(emitter *e, const step *s)
{
    if (!s->attribute)
        return NULL;
    Onnx__Attribute *attribute =
        make_attribute(e, s->attribute, s->is_list ? ATTRIBUTE_INTS : ATTRIBUTE_INT);
    int64_t *integers = arena_alloc(e->arena, s->integer_count * sizeof *integers);
    if (!attribute || !integers) {
        e->failed = true;
        return NULL;
    }
    memcpy(integers, s->integers, s->integer_count * sizeof *integers);
    attribute->has_i = !s->is_list;
    attribute->i = s->is_list ? 0 : integers[0];
    attribute->n_ints = s->is_list ? s->integer_count : 0;
    attribute->ints = integers;
    return attribute;
}

static pal_status emit_palette(emitter *e, const weight_place *place)
{
    recipe r;
    const char *names[MAX_STEPS];
    pal_status status = recipe_make(place->palette, e->arena, &r);
    if (status)
        return status;
    for (size_t i = 0; i < r.count; i++) {
        const step *s = &r.steps[i];
        if (!s->operator) {
            names[i] = emit_constant(e, s, place, i == r.indices);
            continue;
        }
        ProtobufCBinaryData texts[3];
        const char *inputs[3];
        for (size_t j = 0; j < s->input_count; j++) {
            inputs[j] = names[s->inputs[j]];
            texts[j] = text_of(inputs[j]);
        }
        if ((names[i] = find_known(e, s, inputs)))
            continue;
        names[i] = i + 1 < r.count ? helper_name(e) : "";
        emit_node(e, s->operator, texts, s->input_count,
                  i + 1 < r.count ? text_of(names[i]) : place->name, emit_attribute(e, s));
        if (s->shared)
            remember(e, s, inputs, names[i]);
    }
    return PAL_OK;
}

static void emit_dense(emitter *e, const model_weight *weight, const weight_place *place)
{
    tensor t = {.dtype = weight->info.dtype, .rank = weight->info.rank, .data = weight->dense};
    t.elements = weight->info.elements;
    t.bytes = weight->info.bytes;
    memcpy(t.shape, weight->info.shape, sizeof t.shape);
    Onnx__Tensor *tensor = make_successor(e, &t, "", place->tensor);
    if (tensor)
        tensor->name = place->name;
    emit_tensor(e, tensor, place->initializer);
}

/* ---------------------------------------------------------------- graphs */

/* Weights of one graph, linked. */
typedef struct member {
    size_t weight;
    struct member *next;
} member;

static pal_status emit_graph(emitter *e, pal_model *model, size_t g, const member *members)
{
    const onnx *state = e->state;
    const onnx_graph *graph = &state->graphs[g];
    Onnx__Graph *message = graph->message;
    list inputs = {0}, tensors = {0};
    bool *node_gone = arena_zeroed(e->arena, message->n_node + 1);
    bool *tensor_gone = arena_zeroed(e->arena, message->n_initializer + 1);
    bool *input_gone = arena_zeroed(e->arena, message->n_input + 1);
    e->at = arena_zeroed(e->arena, (message->n_initializer + 1) * sizeof *e->at);
    e->nodes = e->tensors = (list){0};
    memset(e->known, 0, sizeof e->known);
    if (!node_gone || !tensor_gone || !input_gone || !e->at)
        return fail_memory("writing a model");
    memcpy(node_gone, graph->node_dropped, message->n_node);
    memcpy(tensor_gone, graph->tensor_dropped, message->n_initializer);
    for (; members; members = members->next) {
        const weight_place *place = &state->places[members->weight];
        if (!place->palette && !place->changed)
            continue;
        if (place->node != NONE)
            node_gone[place->node] = true;
        else if (place->initializer != NONE && !place->in_recipe)
            tensor_gone[place->initializer] = true;
        if (place->input != NONE)
            input_gone[place->input] = true;
        pal_status status = PAL_OK;
        if (place->palette)
            status = emit_palette(e, place);
        else
            emit_dense(e, &model->weights[members->weight], place);
        if (status)
            return fail_context(status, "%s: %s", state->path,
                                model->weights[members->weight].info.name);
    }
    for (size_t i = 0; i < message->n_initializer; i++) {
        if (e->at[i])
            push(e, &tensors, e->at[i]);
        if (!tensor_gone[i])
            push(e, &tensors, message->initializer[i]);
    }
    for (size_t i = 0; i < e->tensors.count; i++)
        push(e, &tensors, e->tensors.items[i]);
    for (size_t i = 0; i < message->n_node; i++)
        if (!node_gone[i])
            push(e, &e->nodes, message->node[i]);
    for (size_t i = 0; i < message->n_input; i++)
        if (!input_gone[i])
            push(e, &inputs, message->input[i]);
    if (e->failed)
        return fail_memory("writing a model");
    message->n_node = e->nodes.count;
    message->node = (Onnx__Node **)e->nodes.items;
    message->n_initializer = tensors.count;
    message->initializer = (Onnx__Tensor **)tensors.items;
    message->n_input = inputs.count;
    message->input = (Onnx__ValueInfo **)inputs.items;
    return PAL_OK;
}

pal_status onnx_emit(pal_model *model, emission *emission)
{
    onnx *state = model->state;
    *emission = (struct emission){0};
    arena_init(&emission->arena, SIZE_MAX);
    emitter *e = arena_zeroed(&emission->arena, sizeof *e);
    member **members = arena_zeroed(&emission->arena, state->graph_count * sizeof *members);
    emission->graphs = mem_zeroed(state->graph_count, sizeof *emission->graphs);
    if (!e || !members || !emission->graphs)
        return fail_memory("writing a model");
    e->state = state;
    e->arena = &emission->arena;
    for (size_t i = model->weight_count; i-- > 0;) {
        member *added = arena_alloc(&emission->arena, sizeof *added);
        if (!added)
            return fail_memory("writing a model");
        *added = (member){i, members[state->places[i].graph]};
        members[state->places[i].graph] = added;
    }
    if (!choose_prefix(e, model))
        return fail_memory("writing a model");
    pal_status status = PAL_OK;
    for (size_t g = 0; !status && g < state->graph_count; g++) {
        Onnx__Graph *message = state->graphs[g].message;
        emission->graphs[emission->graph_count++] = (kept_graph){message, *message};
        status = emit_graph(e, model, g, members[g]);
    }
    return status;
}

void onnx_restore(emission *emission)
{
    for (size_t i = emission->graph_count; i-- > 0;)
        *emission->graphs[i].message = emission->graphs[i].lists;
    for (size_t i = emission->tensor_count; i-- > 0;)
        *emission->tensors[i].message = emission->tensors[i].content;
    free(emission->graphs);
    free(emission->tensors);
    free(emission->pieces);
    free(emission->piece_of);
    arena_free(&emission->arena);
    *emission = (struct emission){0};
}
