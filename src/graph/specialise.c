#include "graph/specialise.h"

#include <stdlib.h>
#include <string.h>

#include "base/scratch.h"
#include "graph/infer.h"
#include "graph/rebatch.h"

/* Larger results are computed when the graph runs, if at all. */
#define FOLD_LIMIT ((uint64_t)1 << 28)
#define MAX_DEPTH  32

/* What a value may have for each element of the model's inputs and weights, and beyond that. Logits
 * over a vocabulary, scores of attention and enlarged images stay far below; a file of a few bytes
 * that asks for terabytes does not. */
#define GROWTH_LIMIT ((uint64_t)1 << 12)
#define FREE_LIMIT   ((uint64_t)1 << 24)

typedef struct maker {
    const graph *source;
    graph *out;
    const specialise_options *options;
    size_t *map;       /* source value -> value of out; GRAPH_NONE: not computed yet */
    bool *from_weight; /* by value of out: a weight, or computed from one */
    size_t flag_capacity;
    const rebatch *rebatch; /* NULL: shapes in the file are taken as they are */
    uint64_t given;         /* elements of inputs and weights */
    uint64_t folded;        /* elements of what was folded so far */
} maker;

static bool is_float(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 || dtype == PAL_FLOAT32 || dtype == PAL_BFLOAT16 ||
           dtype == PAL_FLOAT64;
}

/* Whether a node hands its first input on unchanged, in the types that values are computed in. */
static bool is_identity(const maker *make, const graph_node *node, const graph_value *x)
{
    switch (node->op) {
    case OP_IDENTITY: return true;
    case OP_DROPOUT: return !make->options->keep_dropout;
    case OP_CAST:
        return (x->type == GRAPH_FLOAT && is_float(node->attributes.cast.to)) ||
               (x->type == GRAPH_INT && node->attributes.cast.to == PAL_INT64);
    default: return false;
    }
}

static pal_status set_flag(maker *make, size_t value, bool flag)
{
    const size_t known = make->flag_capacity;
    if (!mem_grow((void **)&make->from_weight, &make->flag_capacity, value + 1,
                  sizeof *make->from_weight))
        return fail_memory("a graph's values");
    /* Values that others have added to the graph are no weights. */
    memset(make->from_weight + known, 0, (make->flag_capacity - known) * sizeof *make->from_weight);
    make->from_weight[value] = flag;
    return PAL_OK;
}

/* The value of `out` that stands for a source value; constants are brought over when first used. */
static pal_status mapped(maker *make, const graph_node *node, size_t value, size_t *out)
{
    if (make->map[value] == GRAPH_NONE) {
        const graph_value *from = &make->source->values[value];
        if (!from->constant)
            return graph_node_failed(
                node, fail(PAL_ERROR_FORMAT, "nothing gives its input '%s'", from->name));
        const size_t added = graph_add_constant(make->out, from->name, from->constant);
        if (added == GRAPH_NONE)
            return PAL_ERROR_MEMORY;
        make->out->values[added].weight = from->weight;
        pal_status status = set_flag(make, added, from->weight != GRAPH_NONE);
        if (status)
            return status;
        make->map[value] = added;
    }
    *out = make->map[value];
    return PAL_OK;
}

/* The shape of a value as a vector of integers, from `start` to `end` as OP_SHAPE counts. */
static pal_status fold_shape(maker *make, const graph_node *node, const graph_value *x,
                             const graph_value *result, size_t *out)
{
    graph_tensor *tensor = graph_add_tensor(make->out, GRAPH_INT, result->rank, result->shape);
    if (!tensor)
        return PAL_ERROR_MEMORY;
    int64_t *to = tensor->owned;
    if (node->op == OP_SIZE) {
        *to = (int64_t)graph_elements(x);
    } else {
        const int64_t rank = (int64_t)x->rank;
        int64_t start = node->attributes.shape.start;
        start = start < 0 ? start + rank : start;
        start = start < 0 ? 0 : start;
        for (uint64_t i = 0; i < tensor->elements; i++)
            to[i] = x->shape[(uint64_t)start + i];
    }
    *out = graph_add_constant(make->out, "", tensor);
    return *out == GRAPH_NONE ? PAL_ERROR_MEMORY : set_flag(make, *out, false);
}

/* The most elements that a value may have. */
static uint64_t size_limit(const maker *make)
{
    uint64_t grown;
    return mem_multiply(make->given, GROWTH_LIMIT, &grown) && grown < UINT64_MAX - FREE_LIMIT
               ? grown + FREE_LIMIT
               : UINT64_MAX;
}

static pal_status check_sizes(const maker *make, const graph_node *node, const graph_value *outputs)
{
    for (size_t i = 0; i < node->output_count; i++) {
        if (node->outputs[i] == GRAPH_NONE || graph_elements(&outputs[i]) <= size_limit(make))
            continue;
        return graph_node_failed(
            node,
            fail(PAL_ERROR_FORMAT,
                 "its result would have %llu elements, of a model whose inputs and weights "
                 "have %llu",
                 (unsigned long long)graph_elements(&outputs[i]), (unsigned long long)make->given));
    }
    return PAL_OK;
}

static bool worth_folding(maker *make, const graph_node *node, const graph_value *outputs)
{
    uint64_t elements = 0;
    for (size_t i = 0; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE)
            elements += graph_elements(&outputs[i]);
    if (elements > FOLD_LIMIT || make->folded + elements > size_limit(make))
        return false;
    make->folded += elements;
    return true;
}

static pal_status fold(maker *make, const graph_node *node, const graph_value *const *inputs,
                       const graph_value *outputs, bool weight)
{
    graph_tensor *results[GRAPH_MAX_OUTPUTS] = {0};
    for (size_t i = 0; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE &&
            !(results[i] =
                  graph_add_tensor(make->out, outputs[i].type, outputs[i].rank, outputs[i].shape)))
            return PAL_ERROR_MEMORY;
    pal_status status = make->options->evaluate(make->options->user, node, inputs, results);
    for (size_t i = 0; !status && i < node->output_count; i++)
        if (results[i]) {
            const char *name = make->source->values[node->outputs[i]].name;
            const size_t added = graph_add_constant(make->out, name, results[i]);
            status = added == GRAPH_NONE ? PAL_ERROR_MEMORY : set_flag(make, added, weight);
            make->map[node->outputs[i]] = added;
        }
    return status;
}

static pal_status copy_node(maker *make, const graph_node *node, const size_t *inputs,
                            const graph_value *outputs, bool weight)
{
    graph *out = make->out;
    graph_node *copy = graph_add_node(out, &out->main, node->op, node->name, node->type,
                                      node->input_count, node->output_count);
    if (!copy)
        return PAL_ERROR_MEMORY;
    copy->attributes = node->attributes;
    memcpy(copy->inputs, inputs, node->input_count * sizeof *inputs);
    for (size_t i = 0; i < node->output_count; i++) {
        if (node->outputs[i] == GRAPH_NONE)
            continue;
        const size_t added =
            graph_add_value(out, make->source->values[node->outputs[i]].name, outputs[i].type);
        if (added == GRAPH_NONE || set_flag(make, added, weight))
            return PAL_ERROR_MEMORY;
        out->values[added].rank = outputs[i].rank;
        memcpy(out->values[added].shape, outputs[i].shape, sizeof outputs[i].shape);
        copy->outputs[i] = added;
        make->map[node->outputs[i]] = added;
    }
    return PAL_OK;
}

static pal_status walk(maker *make, const graph_branch *branch, int depth);

static pal_status take_branch(maker *make, const graph_node *node, const graph_value *condition,
                              int depth)
{
    if (!condition || !condition->constant || condition->constant->elements != 1 ||
        condition->type != GRAPH_BOOL)
        return graph_node_failed(
            node, fail(PAL_ERROR_UNSUPPORTED, "its condition depends on the model's input"));
    const bool truth = *(const uint8_t *)condition->constant->data;
    const graph_branch *branch = &node->branches[truth ? 0 : 1];
    pal_status status = walk(make, branch, depth + 1);
    for (size_t i = 0; !status && i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE)
            status = mapped(make, node, branch->outputs[i], &make->map[node->outputs[i]]);
    return status;
}

static pal_status visit(maker *make, const graph_node *node, int depth)
{
    if (node->output_count > GRAPH_MAX_OUTPUTS)
        return graph_node_failed(
            node, fail(PAL_ERROR_UNSUPPORTED, "it has %zu outputs", node->output_count));
    size_t *inputs = mem_array(node->input_count, sizeof *inputs);
    const graph_value **values = mem_zeroed(node->input_count, sizeof *values);
    graph_value outputs[GRAPH_MAX_OUTPUTS] = {0};
    pal_status status = inputs && values ? PAL_OK : fail_memory("a graph's nodes");
    bool constant = true, weight = false;

    for (size_t i = 0; !status && i < node->input_count; i++) {
        inputs[i] = GRAPH_NONE;
        if (node->inputs[i] != GRAPH_NONE)
            status = mapped(make, node, node->inputs[i], &inputs[i]);
    }
    if (!status && make->rebatch)
        status = rebatch_node(make->rebatch, make->out, node, inputs);
    for (size_t i = 0; !status && i < node->input_count; i++) {
        if (inputs[i] == GRAPH_NONE)
            continue;
        /* Rebatching may have added values: nothing is known of them but that they are no weight.
         */
        while (!status && make->flag_capacity <= inputs[i])
            status = set_flag(make, inputs[i], false);
        values[i] = &make->out->values[inputs[i]];
        constant = constant && values[i]->constant;
        weight = weight || make->from_weight[inputs[i]];
    }
    if (status)
        goto done;

    if (node->op == OP_IF) {
        status = take_branch(make, node, node->input_count ? values[0] : NULL, depth);
        goto done;
    }
    if (node->input_count && values[0] && is_identity(make, node, values[0]) &&
        !(node->output_count > 1 && node->outputs[1] != GRAPH_NONE)) {
        make->map[node->outputs[0]] = inputs[0];
        goto done;
    }
    status = graph_infer(node, values, outputs);
    if (!status)
        status = check_sizes(make, node, outputs);
    if (status)
        goto done;
    if ((node->op == OP_SHAPE || node->op == OP_SIZE) && values[0])
        status = fold_shape(make, node, values[0], &outputs[0], &make->map[node->outputs[0]]);
    else if (constant && !(weight && make->options->keep_weights) && node->op != OP_DROPOUT &&
             worth_folding(make, node, outputs))
        status = fold(make, node, values, outputs, weight);
    else
        status = copy_node(make, node, inputs, outputs, weight);
done:
    free(inputs);
    free(values);
    return status;
}

static pal_status walk(maker *make, const graph_branch *branch, int depth)
{
    if (depth > MAX_DEPTH)
        return fail(PAL_ERROR_UNSUPPORTED, "conditions nested deeper than %d", MAX_DEPTH);
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < branch->node_count; i++)
        status = visit(make, &branch->nodes[i], depth);
    return status;
}

/* ---------------------------------------------------------------- what no output needs */

static void mark(bool *needed, const size_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (values[i] != GRAPH_NONE)
            needed[values[i]] = true;
}

pal_status graph_drop_dead(graph *graph)
{
    bool *needed = mem_zeroed(graph->value_count, sizeof *needed);
    if (!needed)
        return fail_memory("a graph's values");
    graph_branch *main = &graph->main;
    mark(needed, main->outputs, graph->output_count);
    size_t kept = main->node_count;
    for (size_t i = main->node_count; i-- > 0;) {
        graph_node *node = &main->nodes[i];
        bool live = false;
        for (size_t o = 0; o < node->output_count; o++)
            live = live || (node->outputs[o] != GRAPH_NONE && needed[node->outputs[o]]);
        if (!live)
            continue;
        mark(needed, node->inputs, node->input_count);
        for (size_t p = 0; p < node->post_count; p++)
            if (node->posts[p].kind == POST_ADD)
                mark(needed, &node->posts[p].value, 1);
        main->nodes[--kept] = *node;
    }
    if (main->node_count > kept)
        memmove(main->nodes, main->nodes + kept, (main->node_count - kept) * sizeof *main->nodes);
    main->node_count -= kept;

    /* Folding leaves intermediate results behind: their memory goes now. */
    for (size_t t = 0; t < graph->tensor_count; t++) {
        graph_tensor *tensor = graph->tensors[t];
        bool used = false;
        for (size_t v = 0; !used && tensor->owned && v < graph->value_count; v++)
            used = needed[v] && graph->values[v].constant == tensor;
        if (tensor->owned && !used) {
            scratch_free(tensor->owned);
            tensor->owned = NULL;
            tensor->data = NULL;
        }
    }
    for (size_t v = 0; v < graph->value_count; v++)
        if (graph->values[v].constant && !graph->values[v].constant->data)
            graph->values[v].constant = NULL;
    free(needed);
    return PAL_OK;
}

/* ---------------------------------------------------------------- inputs and outputs */

static pal_status add_inputs(maker *make, const int64_t (*shapes)[PAL_MAX_RANK])
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < make->source->input_count; i++) {
        const graph_input *input = &make->source->inputs[i];
        const graph_value *from = &make->source->values[input->value];
        size_t added;
        status = graph_add_input(make->out, from->name, input->dtype, from->type, input->rank,
                                 shapes[i], &added);
        if (status)
            break;
        graph_value *value = &make->out->values[added];
        value->rank = input->rank;
        memcpy(value->shape, shapes[i], input->rank * sizeof *shapes[i]);
        make->map[input->value] = added;
        make->given += graph_elements(value);
        status = set_flag(make, added, false);
    }
    for (size_t i = 0; i < make->source->value_count; i++)
        if (make->source->values[i].constant)
            make->given += make->source->values[i].constant->elements;
    return status;
}

static pal_status give_outputs(maker *make)
{
    const graph *source = make->source;
    size_t *outputs = arena_alloc(&make->out->arena, (source->output_count + 1) * sizeof *outputs);
    if (!outputs)
        return fail_memory("a graph's outputs");
    for (size_t i = 0; i < source->output_count; i++) {
        const size_t value = source->main.outputs[i];
        const graph_value *from = &source->values[value];
        if (make->map[value] == GRAPH_NONE && !from->constant)
            return fail(PAL_ERROR_FORMAT, "nothing gives the model's output '%s'", from->name);
        const graph_node nobody = {.name = from->name, .type = "output"};
        pal_status status = mapped(make, &nobody, value, &outputs[i]);
        if (status)
            return status;
    }
    make->out->main.outputs = outputs;
    make->out->output_count = source->output_count;
    return PAL_OK;
}

/* One pass over the source with these input shapes. `map` has room for all its values. */
static pal_status make_static(const graph *source, const specialise_options *options,
                              const int64_t (*shapes)[PAL_MAX_RANK], const rebatch *rebatch,
                              size_t *map, graph **out)
{
    maker make = {.source = source, .options = options, .map = map, .rebatch = rebatch};
    for (size_t i = 0; i < source->value_count; i++)
        map[i] = GRAPH_NONE;
    pal_status status = graph_new(&make.out);
    if (!status)
        status = add_inputs(&make, shapes);
    if (!status)
        status = walk(&make, &source->main, 0);
    if (!status)
        status = give_outputs(&make);
    free(make.from_weight);
    if (status) {
        graph_free(make.out);
        return status;
    }
    *out = make.out;
    return PAL_OK;
}

pal_status graph_specialise(const graph *source, const specialise_options *options, graph **out,
                            bool *rebatched)
{
    int64_t factor;
    pal_status status = rebatch_factor(source, options->shapes, &factor);
    if (status)
        return status;
    graph *result = NULL, *base = NULL;
    size_t *map = mem_array(source->value_count, sizeof *map);
    size_t *base_map = mem_array(source->value_count, sizeof *base_map);
    int64_t(*shapes)[PAL_MAX_RANK] = mem_zeroed(source->input_count, sizeof *shapes);
    int64_t *within = mem_zeroed(source->value_count, sizeof *within);
    if (!map || !base_map || !shapes || !within)
        status = fail_memory("a graph's values");
    if (!status && factor > 1) {
        for (size_t i = 0; i < source->input_count; i++)
            memcpy(shapes[i], source->inputs[i].shape, sizeof shapes[i]);
        status = make_static(source, options, (const int64_t(*)[PAL_MAX_RANK])shapes, NULL,
                             base_map, &base);
        const rebatch enlarge = {source, base, base_map, factor, within};
        if (!status)
            status = make_static(source, options, options->shapes, &enlarge, map, &result);
        if (!status)
            status = rebatch_check(&enlarge, result);
    } else if (!status) {
        status = make_static(source, options, options->shapes, NULL, map, &result);
    }
    if (!status)
        status = graph_drop_dead(result);
    graph_free(base);
    free(within);
    free(shapes);
    free(base_map);
    free(map);
    if (status) {
        graph_free(result);
        return status;
    }
    *out = result;
    if (rebatched)
        *rebatched = factor > 1;
    return PAL_OK;
}
