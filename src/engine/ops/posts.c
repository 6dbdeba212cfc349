#include <string.h>

#include "engine/ops/compute.h"
#include "graph/infer.h"

/* The shape of a value with ones before it, up to the rank of the result. False if the primitive
 * sees the result in another shape than the graph and the value cannot follow. */
static bool operand_shape(const plan *plan, const graph_node *node, const posted *posted,
                          size_t value, int64_t *shape)
{
    const graph_value *v = &plan_graph(plan)->values[value];
    const graph_value *result = plan_output(plan, node, 0);
    const bool same_shape =
        result->rank == posted->rank &&
        memcmp(result->shape, posted->shape, posted->rank * sizeof *posted->shape) == 0;
    if (graph_elements(v) == graph_elements(result)) {
        memcpy(shape, posted->shape, posted->rank * sizeof *shape);
        return true;
    }
    /* Only what broadcasts along the last dimension means the same in any shape. */
    if (!same_shape && (v->rank == 0 || graph_elements(v) != (uint64_t)v->shape[v->rank - 1]))
        return false;
    const size_t taken = same_shape ? v->rank : 1;
    if (taken > posted->rank)
        return false;
    for (size_t i = 0; i < posted->rank; i++)
        shape[i] = 1;
    for (size_t i = 0; i < taken; i++)
        shape[posted->rank - 1 - i] = v->shape[v->rank - 1 - i];
    return true;
}

/* The node's post-operations as oneDNN's; `values` receives what those that add have as operands.
 * False if they are more than it can express. */
static bool describe_posts(const plan *plan, const graph_node *node, const posted *posted,
                           onednn_posts *out, size_t *summed, size_t values[ONEDNN_MAX_POSTS])
{
    size_t operands = 0;
    *summed = GRAPH_NONE;
    out->count = 0;
    for (size_t i = 0; i < posted->post_count; i++) {
        const graph_post *post = &posted->posts[i];
        onednn_post *to = &out->list[out->count++];
        *to = (onednn_post){
            .kind = ONEDNN_UNARY, .unary = post->unary, .alpha = post->alpha, .beta = post->beta};
        if (post->kind == POST_UNARY) {
            if (!onednn_has_unary(post->unary, post->alpha, post->beta))
                return false;
            continue;
        }
        if (!operand_shape(plan, node, posted, post->value, to->shape))
            return false;
        const bool whole = graph_elements(&plan_graph(plan)->values[post->value]) ==
                           graph_elements(plan_output(plan, node, 0));
        if (whole && *summed == GRAPH_NONE) {
            to->kind = ONEDNN_SUM;
            *summed = post->value;
        } else {
            to->kind = ONEDNN_ADD;
            values[operands++] = post->value;
        }
    }
    return true;
}

/* A value of the graph in the primitive's layout of the result, which may be of another rank. */
static pal_status summed_buffer(plan *plan, size_t value, const onednn_primitive *primitive,
                                buffer **out)
{
    return plan_buffer_in(plan, value, onednn_layout(primitive, ONEDNN_DST), out);
}

static pal_status add_primitive(plan *plan, const graph_node *node, const posted *posted,
                                onednn_primitive *primitive, size_t summed, const size_t *values,
                                buffer **result)
{
    buffer *roles[ONEDNN_ROLE_COUNT] = {0};
    pal_status status = posted->operands(plan, node, posted->description, primitive, roles);
    for (size_t i = 0; !status && i < ONEDNN_MAX_POSTS; i++)
        if (onednn_bytes(primitive, (onednn_role)(ONEDNN_OPERAND + i)))
            status = plan_buffer_in(plan, values[i], NULL, &roles[ONEDNN_OPERAND + i]);
    if (!status && summed != GRAPH_NONE)
        status = summed_buffer(plan, summed, primitive, &roles[ONEDNN_BEFORE]);
    if (!status)
        status =
            plan_new_buffer(plan, node->outputs[0], onednn_layout(primitive, ONEDNN_DST), result);
    if (status) {
        onednn_primitive_free(primitive);
        return status;
    }
    roles[ONEDNN_DST] = *result;
    step *step;
    status = onednn_add_step(plan, node, posted->what, primitive, roles, &step);
    if (!status)
        step->costly = true;
    return status;
}

/* Better no post-operations than an implementation that is slow for their sake. *taken: the
 * primitive has them. */
static pal_status choose(const posted *posted, const onednn_posts *posts, bool *taken,
                         onednn_primitive **out)
{
    onednn_primitive *with = NULL, *without = NULL;
    if (*taken && posted->make(posted->description, posts, &with))
        *taken = false;
    if (*taken && (!posted->post_count || !onednn_is_reference(with))) {
        *out = with;
        return PAL_OK;
    }
    pal_status status = posted->make(posted->description, NULL, &without);
    if (with && (status || onednn_is_reference(without))) {
        onednn_primitive_free(without);
        *out = with;
        return PAL_OK;
    }
    onednn_primitive_free(with);
    *taken = false;
    *out = without;
    return status;
}

pal_status posted_primitive(plan *plan, const graph_node *node, const posted *posted)
{
    onednn_posts posts;
    size_t summed, values[ONEDNN_MAX_POSTS];
    onednn_primitive *primitive;
    buffer *result;
    bool taken = describe_posts(plan, node, posted, &posts, &summed, values);
    pal_status status = choose(posted, &posts, &taken, &primitive);
    if (status)
        return status;
    status =
        add_primitive(plan, node, posted, primitive, taken ? summed : GRAPH_NONE, values, &result);
    if (!status && !taken)
        status = post_steps(plan, node, posted->posts, posted->post_count, result);
    return status;
}

pal_status post_steps(plan *plan, const graph_node *node, const graph_post *posts, size_t count,
                      buffer *y)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < count; i++)
        status = posts[i].kind == POST_UNARY
                     ? unary_step(plan, node, posts[i].unary, posts[i].alpha, posts[i].beta, y, y)
                     : add_step(plan, node, posts[i].value, y);
    return status;
}
