/* Depth to space and back: blocks of size x size pixels become channels. Both are transpositions of
 * the tensor seen with six axes. */
#include "engine/ops/back.h"
#include "engine/ops/ops.h"

typedef struct blocks {
    walk walk;
    size_t element;
} blocks;

static pal_status run(const step *step)
{
    const blocks *it = step->state;
    if (step->writes[0]->elements)
        walk_copy(&it->walk, it->element, step->reads[0]->data, step->writes[0]->data);
    return PAL_OK;
}

static pal_status run_back(const step *step)
{
    const blocks *it = step->state;
    if (step->writes[0]->elements)
        walk_put(&it->walk, it->element, step->reads[0]->data, step->writes[0]->data);
    return PAL_OK;
}

/* The source seen as `shape`; `perm` brings it into the order of the result. */
static pal_status move(plan *plan, const graph_node *node, bool back, const int64_t *shape,
                       const size_t *perm)
{
    int64_t own[6], extents[6], strides[6];
    blocks *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    row_major_strides(6, shape, own);
    for (size_t d = 0; d < 6; d++) {
        extents[d] = shape[perm[d]];
        strides[d] = own[perm[d]];
    }
    it->walk = walk_new(6, extents, strides, 0);
    it->element = graph_type_size(plan_input(plan, node, 0)->type);
    return back ? back_source(plan, node, "blocks' source", run_back, it, NULL, 0)
                : plan_simple(plan, node, "blocks", run, it, NULL);
}

static pal_status depth_to_space(plan *plan, const graph_node *node, bool back)
{
    const int64_t *x = plan_input(plan, node, 0)->shape, size = node->attributes.blocks.size;
    const int64_t channels = x[1] / (size * size);
    static const size_t depth[6] = {0, 3, 4, 1, 5, 2}, column_row[6] = {0, 1, 4, 2, 5, 3};
    if (node->attributes.blocks.column_row_depth) {
        const int64_t shape[6] = {x[0], channels, size, size, x[2], x[3]};
        return move(plan, node, back, shape, column_row);
    }
    const int64_t shape[6] = {x[0], size, size, channels, x[2], x[3]};
    return move(plan, node, back, shape, depth);
}

static pal_status forward_depth(plan *plan, const graph_node *node)
{
    return depth_to_space(plan, node, false);
}

static pal_status backward_depth(plan *plan, const graph_node *node)
{
    return depth_to_space(plan, node, true);
}

const op_kernel kernel_depth_to_space = {forward_depth, backward_depth};

static pal_status space_to_depth(plan *plan, const graph_node *node, bool back)
{
    const int64_t *x = plan_input(plan, node, 0)->shape, size = node->attributes.blocks.size;
    const int64_t shape[6] = {x[0], x[1], x[2] / size, size, x[3] / size, size};
    static const size_t depth[6] = {0, 3, 5, 1, 2, 4}, column_row[6] = {0, 1, 3, 5, 2, 4};
    return move(plan, node, back, shape,
                node->attributes.blocks.column_row_depth ? column_row : depth);
}

static pal_status forward_space(plan *plan, const graph_node *node)
{
    return space_to_depth(plan, node, false);
}

static pal_status backward_space(plan *plan, const graph_node *node)
{
    return space_to_depth(plan, node, true);
}

const op_kernel kernel_space_to_depth = {forward_space, backward_space};
