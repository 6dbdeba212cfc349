/* Concatenation and splitting along an axis.
 *
 * Seen from the axis, a tensor is `outer` rows of axis extent times `inner` elements; parts lie
 * side by side in each row. The same holds in oneDNN's channel-blocked layouts for the channel
 * axis, when every part's channels fill whole blocks: then blocked tensors are joined as they are.
 */
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

#define PARALLEL_BYTES ((size_t)1 << 16)

typedef struct joining {
    size_t outer;
    size_t row; /* bytes of a row of the whole */
    size_t parts;
    size_t *widths; /* bytes of a row of each part */
    size_t skipped; /* bytes of a row before the first part */
    bool split;
} joining;

static const buffer *part(const step *step, const joining *it, size_t i)
{
    if (it->split)
        return step->writes[i];
    return i < STEP_MAX_BUFFERS ? step->reads[i] : step->more[i - STEP_MAX_BUFFERS];
}

static pal_status run(const step *step)
{
    const joining *it = step->state;
    unsigned char *whole = it->split ? step->reads[0]->data : step->writes[0]->data;
    const size_t outer = it->outer;
#pragma omp parallel for schedule(static) if (outer > 1 && outer * it->row > PARALLEL_BYTES)
    for (size_t r = 0; r < outer; r++) {
        unsigned char *at = whole + r * it->row + it->skipped;
        for (size_t i = 0; i < it->parts; i++) {
            const buffer *piece = part(step, it, i);
            const size_t width = it->widths[i];
            if (piece && width) {
                unsigned char *data = (unsigned char *)piece->data + r * width;
                memcpy(it->split ? data : at, it->split ? at : data, width);
            }
            at += width;
        }
    }
    return PAL_OK;
}

static joining *joining_new(plan *plan, size_t parts, bool split)
{
    joining *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return NULL;
    it->widths = plan_alloc(plan, parts * sizeof *it->widths);
    it->parts = parts;
    it->outer = 1;
    it->split = split;
    return it->widths ? it : NULL;
}

/* Rows of a row-major tensor, as seen from an axis. */
static void rows_of(joining *it, const graph_value *whole, size_t axis, size_t *inner)
{
    *inner = graph_type_size(whole->type);
    for (size_t d = 0; d < whole->rank; d++) {
        if (d < axis)
            it->outer *= (size_t)whole->shape[d];
        else if (d > axis)
            *inner *= (size_t)whole->shape[d];
    }
    it->row = *inner * (size_t)whole->shape[axis];
}

/* ---------------------------------------------------------------- concat */

/* A layout that suits all inputs and the result, if they share a blocked one along the axis. */
static pal_status common_layout(plan *plan, const graph_node *node, size_t axis, joining *it,
                                layout **out)
{
    const graph_value *y = plan_output(plan, node, 0);
    layout_physical first = {0}, whole;
    *out = NULL;
    if (y->type != GRAPH_FLOAT || axis != 1)
        return PAL_OK;
    const layout *like = NULL;
    for (size_t i = 0; i < node->input_count; i++) {
        buffer *x;
        layout_physical physical;
        pal_status status = plan_buffer(plan, node->inputs[i], &x);
        if (status)
            return status;
        if (!x->layout || !layout_describe(x->layout, x->rank, x->shape, &physical))
            return PAL_OK;
        uint64_t elements = 1;
        for (size_t d = 0; d < physical.rank; d++)
            elements *= (uint64_t)physical.extent[d];
        if (elements != x->elements) /* padded: its end lies within a block */
            return PAL_OK;
        if (i == 0) {
            first = physical;
            like = x->layout;
        } else if (physical.rank != first.rank ||
                   memcmp(physical.of, first.of, first.rank * sizeof *first.of) != 0 ||
                   physical.extent[first.rank - 1] != first.extent[first.rank - 1]) {
            return PAL_OK;
        }
    }
    pal_status status = layout_like(like, y->rank, y->shape, out);
    if (status || !*out)
        return status;
    uint64_t elements = 1;
    bool fits = layout_describe(*out, y->rank, y->shape, &whole) && whole.rank == first.rank &&
                memcmp(whole.of, first.of, first.rank * sizeof *first.of) == 0;
    for (size_t d = 0; fits && d < whole.rank; d++)
        elements *= (uint64_t)whole.extent[d];
    size_t outermost = 0; /* the first physical axis that stems from the joined one */
    while (fits && outermost < whole.rank && whole.of[outermost] != axis)
        outermost++;
    if (!fits || elements != graph_elements(y) || outermost == whole.rank) {
        layout_free(*out);
        *out = NULL;
        return PAL_OK;
    }
    for (size_t d = 0; d < outermost; d++)
        it->outer *= (size_t)whole.extent[d];
    it->row = (size_t)elements / it->outer * sizeof(float);
    return PAL_OK;
}

/* A joining that owns the layout of its result. */
typedef struct blocked {
    joining joining; /* first: the step's state is read as a joining */
    layout *layout;
} blocked;

static void free_blocked(void *state)
{
    layout_free(((blocked *)state)->layout);
}

static pal_status concat(plan *plan, const graph_node *node)
{
    const graph_value *y = plan_output(plan, node, 0);
    size_t axis, inner;
    pal_status status = resolve_axis(node, node->attributes.concat.axis, y->rank, &axis);
    if (status)
        return status;
    joining *it = joining_new(plan, node->input_count, false);
    blocked *state = plan_alloc(plan, sizeof *state);
    if (!it || !state)
        return PAL_ERROR_MEMORY;
    status = common_layout(plan, node, axis, it, &state->layout);
    if (status)
        return status;
    if (!state->layout) {
        rows_of(it, y, axis, &inner);
        for (size_t i = 0; i < node->input_count; i++)
            it->widths[i] = inner * (size_t)plan_input(plan, node, i)->shape[axis];
        state->joining = *it;
        return plan_simple(plan, node, "concat", run, state, free_blocked);
    }
    for (size_t i = 0; i < node->input_count; i++)
        it->widths[i] =
            (size_t)graph_elements(plan_input(plan, node, i)) / it->outer * sizeof(float);
    state->joining = *it;
    buffer *result, **reads = plan_alloc(plan, node->input_count * sizeof *reads);
    status =
        reads ? plan_new_buffer(plan, node->outputs[0], state->layout, &result) : PAL_ERROR_MEMORY;
    for (size_t i = 0; !status && i < node->input_count; i++)
        status = plan_buffer(plan, node->inputs[i], &reads[i]);
    if (status) {
        free_blocked(state);
        return status;
    }
    step *step = plan_add_step(plan, node, "concat", run, state, free_blocked);
    if (!step)
        return PAL_ERROR_MEMORY;
    for (size_t i = 0; i < node->input_count && i < STEP_MAX_BUFFERS; i++)
        step->reads[i] = reads[i];
    if (node->input_count > STEP_MAX_BUFFERS) {
        step->more = reads + STEP_MAX_BUFFERS;
        step->more_count = node->input_count - STEP_MAX_BUFFERS;
    }
    step->writes[0] = result;
    return PAL_OK;
}

/* The parts of the gradient. */
static pal_status concat_back(plan *plan, const graph_node *node)
{
    const graph_value *y = plan_output(plan, node, 0);
    size_t axis, inner;
    buffer *gradient;
    pal_status status = resolve_axis(node, node->attributes.concat.axis, y->rank, &axis);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    size_t before = 0;
    for (size_t i = 0; !status && i < node->input_count; i++) {
        const graph_value *x = plan_input(plan, node, i);
        joining *it = joining_new(plan, 1, true);
        buffer *share;
        if (!it)
            return PAL_ERROR_MEMORY;
        rows_of(it, y, axis, &inner);
        it->widths[0] = inner * (size_t)x->shape[axis];
        it->skipped = before;
        before += it->widths[0];
        if (!plan_wants_gradient(plan, node->inputs[i]))
            continue;
        status = back_step(plan, node, "split", run, it, NULL, x, &gradient, 1, &share);
        if (!status)
            status = plan_add_gradient(plan, node->inputs[i], share);
    }
    return status;
}

const op_kernel kernel_concat = {concat, concat_back};

/* ---------------------------------------------------------------- split */

/* A split in pieces of at most as many outputs as a step has. */
static pal_status split(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    size_t axis, inner;
    buffer *from;
    int64_t *sizes = plan_alloc(plan, node->output_count * sizeof *sizes);
    const graph_value *inputs[2] = {x, plan_input(plan, node, 1)};
    if (!sizes)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.split.axis, x->rank, &axis);
    if (!status)
        status = resolve_split(node, inputs, sizes);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
    for (size_t first = 0; !status && first < node->output_count; first += STEP_MAX_BUFFERS) {
        joining *it = joining_new(plan, node->output_count, true);
        buffer *writes[STEP_MAX_BUFFERS] = {0};
        if (!it)
            return PAL_ERROR_MEMORY;
        rows_of(it, x, axis, &inner);
        for (size_t i = 0; i < node->output_count; i++)
            it->widths[i] = inner * (size_t)sizes[i];
        /* What lies before the pieces of this step is skipped as one piece that nobody takes. */
        size_t before = 0, count = 0;
        for (size_t i = 0; i < first; i++)
            before += it->widths[i];
        for (size_t i = first; !status && i < node->output_count && count < STEP_MAX_BUFFERS; i++)
            if (node->outputs[i] != GRAPH_NONE)
                status = plan_new_buffer(plan, node->outputs[i], NULL, &writes[count++]);
            else
                count++;
        if (status)
            return status;
        it->parts = count;
        it->widths += first;
        it->skipped = before;
        step *step = plan_add_step(plan, node, "split", run, it, NULL);
        if (!step)
            return PAL_ERROR_MEMORY;
        step->reads[0] = from;
        memcpy(step->writes, writes, sizeof writes);
    }
    return status;
}

/* The gradients of the parts side by side; of parts without any, zeros. */
static pal_status run_split_back(const step *step)
{
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    return run(step);
}

static pal_status split_back(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *inputs[2] = {x, plan_input(plan, node, 1)};
    size_t axis, inner;
    int64_t *sizes = plan_alloc(plan, node->output_count * sizeof *sizes);
    buffer *share, **reads = plan_alloc(plan, (node->output_count + 1) * sizeof *reads);
    joining *it = joining_new(plan, node->output_count, false);
    if (!sizes || !reads || !it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.split.axis, x->rank, &axis);
    if (!status)
        status = resolve_split(node, inputs, sizes);
    if (status)
        return status;
    rows_of(it, x, axis, &inner);
    for (size_t i = 0; !status && i < node->output_count; i++) {
        it->widths[i] = inner * (size_t)sizes[i];
        if (node->outputs[i] != GRAPH_NONE)
            status = plan_gradient_in(plan, node->outputs[i], NULL, &reads[i]);
    }
    const size_t direct =
        node->output_count < STEP_MAX_BUFFERS ? node->output_count : STEP_MAX_BUFFERS;
    if (!status)
        status =
            back_step(plan, node, "concat", run_split_back, it, NULL, x, reads, direct, &share);
    if (status)
        return status;
    plan_last_step(plan)->more = reads + direct;
    plan_last_step(plan)->more_count = node->output_count - direct;
    return plan_add_gradient(plan, node->inputs[0], share);
}

const op_kernel kernel_split = {split, split_back};
