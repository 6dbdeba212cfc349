#include <string.h>

#include "engine/fuse/fusing.h"
#include "graph/infer.h"

graph_node *maker_of(const fusing *f, size_t value, graph_op op)
{
    if (value >= f->value_count || f->producer[value] == GRAPH_NONE)
        return NULL;
    graph_node *node = &f->graph->main.nodes[f->producer[value]];
    return node->op == op && node->output_count && node->outputs[0] == value &&
                   uses_watch(f, f->producer[value])
               ? node
               : NULL;
}

graph_node *only_maker_of(const fusing *f, size_t value, graph_op op)
{
    graph_node *node = maker_of(f, value, op);
    return node && f->uses[value] == 1 ? node : NULL;
}

graph_node *unary_maker(const fusing *f, size_t value, unary_kind kind)
{
    graph_node *node = only_maker_of(f, value, OP_UNARY);
    return node && node->attributes.unary.kind == kind && !node->post_count ? node : NULL;
}

graph_node *binary_maker(const fusing *f, size_t value, binary_kind kind)
{
    graph_node *node = only_maker_of(f, value, OP_BINARY);
    return node && node->attributes.binary.kind == kind && !node->post_count ? node : NULL;
}

bool same_shape(const fusing *f, size_t a, size_t b)
{
    const graph_value *x = value_at(f, a), *y = value_at(f, b);
    return x->rank == y->rank && memcmp(x->shape, y->shape, x->rank * sizeof *x->shape) == 0;
}

static const float *floats_of(const fusing *f, size_t value)
{
    const graph_value *v = value == GRAPH_NONE ? NULL : value_at(f, value);
    return v && v->constant && v->type == GRAPH_FLOAT ? v->constant->data : NULL;
}

bool scalar_constant(const fusing *f, size_t value, size_t rank, float *number)
{
    const float *data = floats_of(f, value);
    if (!data || value_at(f, value)->rank > rank || graph_elements(value_at(f, value)) != 1)
        return false;
    *number = data[0];
    return true;
}

const float *axis_constant(const fusing *f, size_t value, size_t rank, size_t axis, int64_t extent,
                           int64_t *count)
{
    const float *data = floats_of(f, value);
    if (!data)
        return NULL;
    const graph_value *v = value_at(f, value);
    if (v->rank > rank)
        return NULL;
    *count = (int64_t)graph_elements(v);
    if (*count == 1)
        return data;
    const size_t at = axis + v->rank - rank; /* of the axis in v; wraps if v lacks it */
    return axis + v->rank >= rank && *count == extent && v->shape[at] == extent ? data : NULL;
}

size_t other_input(const graph_node *node, size_t value)
{
    return node->inputs[0] == value ? node->inputs[1] : node->inputs[0];
}

float *new_constant(fusing *f, size_t rank, const int64_t *shape, size_t *value)
{
    graph_tensor *tensor = graph_add_tensor(f->graph, GRAPH_FLOAT, rank, shape);
    *value = graph_add_constant(f->graph, "", tensor);
    if (*value == GRAPH_NONE) {
        f->failed = PAL_ERROR_MEMORY;
        return NULL;
    }
    return tensor->owned;
}

bool set_inputs(fusing *f, graph_node *node, size_t count, const size_t *inputs)
{
    size_t *list = arena_alloc(&f->graph->arena, (count ? count : 1) * sizeof *list);
    if (!list) {
        f->failed = fail_memory("fusing operators");
        return false;
    }
    memcpy(list, inputs, count * sizeof *list);
    node->inputs = list;
    node->input_count = count;
    return true;
}

void move_node(graph_node *earlier, graph_node *later)
{
    const size_t result = later->outputs[0];
    *later = *earlier;
    later->outputs[0] = result;
    later->output_count = 1;
    *earlier = (graph_node){.op = OP_IDENTITY, .name = later->name, .type = later->type};
}
