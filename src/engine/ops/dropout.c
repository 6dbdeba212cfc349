/* Dropout: the identity while nothing is trained. In training, which elements are dropped is drawn
 * anew for each run, and drawn again on the way back, so that no mask has to be kept. */
#include <string.h>

#include "base/draw.h"
#include "engine/ops/back.h"
#include "engine/ops/compute.h"

typedef struct dropout {
    const plan *plan;
    const graph_node *node;
    float factor;       /* of those that stay */
    uint32_t threshold; /* numbers below it are dropped */
} dropout;

static pal_status run_ones(const step *step)
{
    memset(step->writes[0]->data, 1, step->writes[0]->bytes);
    return PAL_OK;
}

/* Each drawn number serves two elements. */
static inline bool stays(const dropout *it, uint64_t key, int64_t i)
{
    return (uint32_t)(draw(key, (uint64_t)i / 2) >> (i & 1 ? 32 : 0)) >= it->threshold;
}

static pal_status run_drop(const step *step)
{
    const dropout *it = step->state;
    const uint64_t key = plan_draw_key(it->plan, it->node);
    const float *x = step->reads[0]->data;
    float *y = step->writes[0]->data;
    unsigned char *mask = step->writes[1] ? step->writes[1]->data : NULL;
    const int64_t count = (int64_t)step->writes[0]->elements;
#pragma omp parallel for schedule(static) if (count > 16384)
    for (int64_t i = 0; i < count; i++) {
        const bool stay = stays(it, key, i);
        y[i] = stay ? x[i] * it->factor : 0;
        if (mask)
            mask[i] = stay;
    }
    return PAL_OK;
}

static bool drops(const plan *plan, const graph_node *node)
{
    return plan_get_options(plan)->training && node->attributes.dropout.ratio != 0;
}

static pal_status describe(plan *plan, const graph_node *node, dropout **out)
{
    const float ratio = node->attributes.dropout.ratio;
    dropout *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    if (!(ratio > 0 && ratio < 1))
        return fail(PAL_ERROR_UNSUPPORTED, "a ratio of dropped elements of %g", (double)ratio);
    *it = (dropout){plan, node, 1 / (1 - ratio), (uint32_t)((double)ratio * 4294967296.0)};
    return PAL_OK;
}

static pal_status forward_training(plan *plan, const graph_node *node)
{
    dropout *it;
    pal_status status = describe(plan, node, &it);
    if (!status)
        status = plan_simple(plan, node, "dropout", run_drop, it, NULL);
    if (!status)
        plan_last_step(plan)->in_place = true;
    return status;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    buffer *x, *mask;
    if (drops(plan, node))
        return forward_training(plan, node);
    pal_status status = plan_buffer_in(plan, node->inputs[0], NULL, &x);
    if (!status)
        status = plan_new_view(plan, node->outputs[0], x);
    if (status || !plan_output(plan, node, 1))
        return status;
    status = plan_new_buffer(plan, node->outputs[1], NULL, &mask);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "mask", run_ones, NULL, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->writes[0] = mask;
    return PAL_OK;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    buffer *gradient, *share;
    dropout *it;
    if (!drops(plan, node)) {
        pal_status status = plan_gradient(plan, node->outputs[0], &gradient);
        return status ? status : plan_add_gradient(plan, node->inputs[0], gradient);
    }
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    if (!status)
        status = describe(plan, node, &it);
    if (!status)
        status = back_step(plan, node, "dropout's source", run_drop, it, NULL,
                           plan_input(plan, node, 0), &gradient, 1, &share);
    if (status)
        return status;
    plan_last_step(plan)->in_place = true;
    return plan_add_gradient(plan, node->inputs[0], share);
}

const op_kernel kernel_dropout = {forward, backward};
