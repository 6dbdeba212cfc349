/* Einstein sums. Operands are taken in from the left, two at a time: each pair is brought into the
 * form [batch, M, K] and [batch, K, N] by transpositions, labels that only one of the two has and
 * nobody later needs are summed before, and the products are matrix products. */
#include <stdlib.h>
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "graph/infer.h"

/* A tensor whose axes have labels; each label at most once. */
typedef struct labelled {
    size_t rank;
    uint8_t label[PAL_MAX_RANK];
    int64_t shape[PAL_MAX_RANK];
    float *data; /* malloc()ed */
} labelled;

typedef struct einsum {
    einsum_geometry geometry;
    size_t operands;
    size_t ranks[EINSUM_MAX_OPERANDS];
    int64_t shapes[EINSUM_MAX_OPERANDS][PAL_MAX_RANK];
} einsum;

static bool has(const uint8_t *labels, size_t count, uint8_t label)
{
    return memchr(labels, label, count) != NULL;
}

/* Whether the output or an operand from `next` on has the label. */
static bool needed_later(const einsum *it, uint8_t label, size_t next, size_t output_rank)
{
    if (has(it->geometry.output, output_rank, label))
        return true;
    for (size_t o = next; o < it->operands; o++)
        if (has(it->geometry.operands[o], it->ranks[o], label))
            return true;
    return false;
}

/* Whether what lies between two operands can be held: a sum of small operands may keep more labels
 * than a tensor has dimensions, or have more elements than there are addresses. */
static pal_status check_between(const einsum *it)
{
    const einsum_geometry *geometry = &it->geometry;
    for (size_t o = 1; o < it->operands; o++) {
        uint64_t bytes = sizeof(float);
        size_t rank = 0;
        for (uint8_t label = 0; label < geometry->label_count; label++) {
            bool known = false;
            for (size_t i = 0; i <= o; i++)
                known = known || has(geometry->operands[i], it->ranks[i], label);
            if (!known || !needed_later(it, label, o + 1, geometry->output_rank))
                continue;
            rank++;
            if (!mem_multiply(bytes, (uint64_t)geometry->extent[label], &bytes) ||
                bytes > INT64_MAX)
                return fail(PAL_ERROR_UNSUPPORTED, "what lies between two operands is too large");
        }
        if (rank > PAL_MAX_RANK)
            return fail(PAL_ERROR_UNSUPPORTED, "what lies between two operands has %zu dimensions",
                        rank);
    }
    return PAL_OK;
}

/* A tensor with these labels in this order out of `data`, of which axis d has label `from[d]` and
 * some stride: labels that the result lacks are summed. */
static pal_status arrange(size_t rank, const uint8_t *from, const int64_t *shape,
                          const int64_t *strides, const float *data, labelled *out)
{
    /* A label's stride is the sum of those of its axes: a diagonal walks along all of them. */
    int64_t kept[PAL_MAX_RANK], extents[PAL_MAX_RANK], own[PAL_MAX_RANK], elements = 1, sums = 1;
    size_t summed = 0;
    for (size_t d = 0; d < out->rank; d++) {
        kept[d] = 0;
        for (size_t a = 0; a < rank; a++)
            if (from[a] == out->label[d] && shape[a] != 1)
                kept[d] += strides[a];
        elements *= out->shape[d];
    }
    for (size_t a = 0; a < rank; a++) {
        if (has(out->label, out->rank, from[a]) || has(from, a, from[a]))
            continue;
        own[summed] = 0;
        extents[summed] = 1;
        for (size_t b = a; b < rank; b++)
            if (from[b] == from[a]) {
                own[summed] += shape[b] != 1 ? strides[b] : 0;
                extents[summed] = shape[b] > extents[summed] ? shape[b] : extents[summed];
            }
        sums *= extents[summed++];
    }
    out->data = mem_array((size_t)elements, sizeof *out->data);
    if (!out->data)
        return fail_memory("an einsum");
    walk walk = walk_new(out->rank, out->shape, kept, 0);
    if (elements)
        walk_copy(&walk, sizeof(float), data, out->data);
    /* walk_copy took the first term of each sum. */
    float *term = sums > 1 ? mem_array((size_t)elements, sizeof *term) : NULL;
    if (sums > 1 && !term)
        return fail_memory("an einsum");
    for (int64_t s = 1; s < sums; s++) {
        int64_t rest = s, start = 0;
        for (size_t a = summed; a-- > 0;) {
            start += rest % extents[a] * own[a];
            rest /= extents[a];
        }
        walk.start = start;
        walk_copy(&walk, sizeof(float), data, term);
        for (int64_t i = 0; i < elements; i++)
            out->data[i] += term[i];
    }
    if (!sums)
        memset(out->data, 0, (size_t)elements * sizeof *out->data);
    free(term);
    return PAL_OK;
}

static void add_label(labelled *to, uint8_t label, int64_t extent)
{
    to->label[to->rank] = label;
    to->shape[to->rank++] = extent;
}

static int64_t extent_of(const labelled *in, uint8_t label)
{
    for (size_t d = 0; d < in->rank; d++)
        if (in->label[d] == label)
            return in->shape[d];
    return 1;
}

static int64_t product_of(const labelled *it, size_t begin, size_t end)
{
    int64_t product = 1;
    for (size_t d = begin; d < end; d++)
        product *= it->shape[d];
    return product;
}

/* a, b -> c. What is summed here: labels of both that nothing later needs. */
static pal_status contract(const einsum *it, const labelled *a, const labelled *b, size_t next,
                           labelled *c)
{
    const size_t output_rank = it->geometry.output_rank;
    labelled left = {0}, right = {0};
    size_t batch, own_left, own_right;
    *c = (labelled){0};
    /* Batch labels: both have them at full extent, and they are kept. */
    for (size_t d = 0; d < a->rank; d++)
        if (extent_of(b, a->label[d]) == a->shape[d] && has(b->label, b->rank, a->label[d]) &&
            needed_later(it, a->label[d], next, output_rank)) {
            add_label(&left, a->label[d], a->shape[d]);
            add_label(&right, a->label[d], a->shape[d]);
            add_label(c, a->label[d], a->shape[d]);
        }
    batch = left.rank;
    /* One's own: kept labels of one side, also those that the other has with an extent of 1. */
    for (size_t d = 0; d < a->rank; d++)
        if (needed_later(it, a->label[d], next, output_rank) &&
            !has(left.label, left.rank, a->label[d]) &&
            (!has(b->label, b->rank, a->label[d]) || a->shape[d] != 1)) {
            add_label(&left, a->label[d], a->shape[d]);
            add_label(c, a->label[d], a->shape[d]);
        }
    own_left = left.rank;
    for (size_t d = 0; d < b->rank; d++)
        if (needed_later(it, b->label[d], next, output_rank) &&
            !has(c->label, c->rank, b->label[d])) {
            add_label(&right, b->label[d], b->shape[d]);
            add_label(c, b->label[d], b->shape[d]);
        }
    own_right = right.rank;
    /* Summed over: whatever both have besides at full extent. */
    for (size_t d = 0; d < a->rank; d++)
        if (!needed_later(it, a->label[d], next, output_rank) &&
            has(b->label, b->rank, a->label[d]) && extent_of(b, a->label[d]) == a->shape[d]) {
            add_label(&left, a->label[d], a->shape[d]);
            add_label(&right, a->label[d], a->shape[d]);
        }
    int64_t strides[PAL_MAX_RANK];
    row_major_strides(a->rank, a->shape, strides);
    pal_status status = arrange(a->rank, a->label, a->shape, strides, a->data, &left);
    row_major_strides(b->rank, b->shape, strides);
    if (!status)
        status = arrange(b->rank, b->label, b->shape, strides, b->data, &right);
    const int64_t batches = product_of(&left, 0, batch), m = product_of(&left, batch, own_left);
    const int64_t n = product_of(&right, batch, own_right);
    const int64_t k = product_of(&left, own_left, left.rank);
    if (!status) {
        c->data = mem_zeroed((size_t)(batches * m * n), sizeof *c->data);
        status = c->data ? PAL_OK : fail_memory("an einsum");
    }
    for (int64_t i = 0; !status && i < batches && m && n && k; i++)
        status = onednn_gemm(false, true, m, n, k, 1, left.data + i * m * k, k,
                             right.data + i * n * k, k, 0, c->data + i * m * n, n);
    free(left.data);
    free(right.data);
    return status;
}

static pal_status evaluate(const einsum *it, const float *const *data, float *to)
{
    const einsum_geometry *geometry = &it->geometry;
    labelled result = {0};
    pal_status status = PAL_OK;
    for (size_t o = 0; !status && o < it->operands; o++) {
        const uint8_t *labels = geometry->operands[o];
        int64_t strides[PAL_MAX_RANK];
        labelled taken = {0};
        row_major_strides(it->ranks[o], it->shapes[o], strides);
        /* Each label once, without those that nobody else needs. */
        for (size_t d = 0; d < it->ranks[o]; d++)
            if (!has(taken.label, taken.rank, labels[d]) &&
                (needed_later(it, labels[d], o + 1, geometry->output_rank) ||
                 has(result.label, result.rank, labels[d]))) {
                int64_t extent = 1;
                for (size_t e = d; e < it->ranks[o]; e++)
                    if (labels[e] == labels[d] && it->shapes[o][e] > extent)
                        extent = it->shapes[o][e];
                add_label(&taken, labels[d], it->shapes[o][d] == 0 ? 0 : extent);
            }
        status = arrange(it->ranks[o], labels, it->shapes[o], strides, data[o], &taken);
        if (!status && o == 0) {
            result = taken;
            continue;
        }
        labelled both = {0};
        if (!status)
            status = contract(it, &result, &taken, o + 1, &both);
        free(taken.data);
        free(result.data);
        result = both;
    }
    if (!status) {
        labelled last = {.rank = geometry->output_rank};
        int64_t strides[PAL_MAX_RANK];
        memcpy(last.label, geometry->output, sizeof last.label);
        for (size_t d = 0; d < last.rank; d++)
            last.shape[d] = geometry->extent[geometry->output[d]];
        row_major_strides(result.rank, result.shape, strides);
        status = arrange(result.rank, result.label, result.shape, strides, result.data, &last);
        const size_t elements = (size_t)product_of(&last, 0, last.rank);
        if (!status && elements)
            memcpy(to, last.data, elements * sizeof *to);
        free(last.data);
    }
    free(result.data);
    return status;
}

static pal_status run(const step *step)
{
    const einsum *it = step->state;
    const float *data[EINSUM_MAX_OPERANDS];
    for (size_t o = 0; o < it->operands; o++)
        data[o] = (o < STEP_MAX_BUFFERS ? step->reads[o] : step->more[o - STEP_MAX_BUFFERS])->data;
    return evaluate(it, data, step->writes[0]->data);
}

static pal_status describe(plan *plan, const graph_node *node, einsum **out)
{
    const graph_value *inputs[EINSUM_MAX_OPERANDS];
    einsum *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    if (node->input_count > EINSUM_MAX_OPERANDS)
        return fail(PAL_ERROR_UNSUPPORTED, "%zu operands", node->input_count);
    it->operands = node->input_count;
    for (size_t i = 0; i < it->operands; i++) {
        inputs[i] = plan_input(plan, node, i);
        it->ranks[i] = inputs[i]->rank;
        memcpy(it->shapes[i], inputs[i]->shape, sizeof it->shapes[i]);
    }
    pal_status status = resolve_einsum(node, inputs, &it->geometry);
    return status ? status : check_between(it);
}

static pal_status forward(plan *plan, const graph_node *node)
{
    einsum *it;
    pal_status status = describe(plan, node, &it);
    if (!status)
        status = plan_simple(plan, node, "einsum", run, it, NULL);
    if (!status)
        plan_last_step(plan)->costly = true;
    return status;
}

/* ---------------------------------------------------------------- the way back */

/* The gradient of one operand is the sum of the result's gradient with the other operands, over all
 * labels but the operand's own. A label that only the operand has was summed: each of its elements
 * has the same gradient. Of a diagonal, what lies beside it has none. */
typedef struct einsum_back {
    einsum sum;            /* its first operand is the result's gradient */
    walk spread, place;    /* from the sum to the labels' extents, from there to the operand */
    size_t sums, elements; /* elements of the sum, and of the labels' extents */
} einsum_back;

static pal_status run_back(const step *step)
{
    const einsum_back *it = step->state;
    const float *data[EINSUM_MAX_OPERANDS];
    float *sums = mem_array(it->sums, sizeof *sums);
    float *spread = mem_array(it->elements, sizeof *spread);
    pal_status status = sums && spread ? PAL_OK : fail_memory("an einsum");
    for (size_t o = 0; o < it->sum.operands; o++)
        data[o] = step->reads[o]->data;
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    if (!status)
        status = evaluate(&it->sum, data, sums);
    if (!status && it->elements && it->sums) {
        walk_copy(&it->spread, sizeof *sums, sums, spread);
        walk_put(&it->place, sizeof *sums, spread, step->writes[0]->data);
    }
    free(sums);
    free(spread);
    return status;
}

static void add_operand(einsum *to, const uint8_t *labels, size_t rank, const int64_t *shape)
{
    const size_t o = to->operands++;
    to->ranks[o] = rank;
    memcpy(to->geometry.operands[o], labels, rank * sizeof *labels);
    memcpy(to->shapes[o], shape, rank * sizeof *shape);
}

/* Whether an operand of the sum has the label in its full extent. */
static bool found_in(const einsum *sum, uint8_t label)
{
    for (size_t o = 0; o < sum->operands; o++)
        for (size_t d = 0; d < sum->ranks[o]; d++)
            if (sum->geometry.operands[o][d] == label &&
                sum->shapes[o][d] == sum->geometry.extent[label])
                return true;
    return false;
}

/* The operand's labels: those of extent 1 were broadcast, and are summed. */
static void describe_places(einsum_back *to, const einsum *it, size_t operand)
{
    const size_t rank = it->ranks[operand];
    const uint8_t *labels = it->geometry.operands[operand];
    const int64_t *shape = it->shapes[operand];
    int64_t own[PAL_MAX_RANK], extents[PAL_MAX_RANK], places[PAL_MAX_RANK];
    int64_t strides[PAL_MAX_RANK], stride = 1;
    size_t count = 0;
    uint8_t kept[PAL_MAX_RANK];
    row_major_strides(rank, shape, own);
    to->elements = to->sums = 1;
    for (size_t d = 0; d < rank; d++) {
        if (shape[d] == 1)
            continue;
        size_t known = 0;
        while (known < count && kept[known] != labels[d])
            known++;
        if (known == count) {
            kept[count] = labels[d];
            extents[count] = shape[d];
            places[count++] = 0;
            to->elements *= (size_t)shape[d];
        }
        places[known] += own[d];
    }
    for (size_t i = 0; i < count; i++)
        if (found_in(&to->sum, kept[i]))
            to->sum.geometry.output[to->sum.geometry.output_rank++] = kept[i];
    for (size_t i = to->sum.geometry.output_rank, last = count; i-- > 0;) {
        while (kept[--last] != to->sum.geometry.output[i])
            strides[last] = 0;
        strides[last] = stride;
        stride *= extents[last];
        if (!i)
            while (last-- > 0)
                strides[last] = 0;
    }
    if (!to->sum.geometry.output_rank)
        memset(strides, 0, sizeof strides);
    to->sums = (size_t)stride;
    to->spread = walk_new(count, extents, strides, 0);
    to->place = walk_new(count, extents, places, 0);
}

static pal_status back_to(plan *plan, const graph_node *node, const einsum *it, size_t operand)
{
    const graph_value *y = plan_output(plan, node, 0), *x = plan_input(plan, node, operand);
    buffer *reads[STEP_MAX_BUFFERS], *share;
    size_t count = 0;
    einsum_back *back = plan_alloc(plan, sizeof *back);
    if (!back)
        return PAL_ERROR_MEMORY;
    if (it->operands > STEP_MAX_BUFFERS)
        return fail(PAL_ERROR_UNSUPPORTED, "the gradient of %zu operands", it->operands);
    back->sum.geometry = it->geometry;
    back->sum.geometry.output_rank = 0;
    add_operand(&back->sum, it->geometry.output, it->geometry.output_rank, y->shape);
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[count++]);
    for (size_t o = 0; !status && o < it->operands; o++) {
        if (o == operand)
            continue;
        add_operand(&back->sum, it->geometry.operands[o], it->ranks[o], it->shapes[o]);
        status = plan_buffer_in(plan, node->inputs[o], NULL, &reads[count++]);
    }
    if (status)
        return status;
    describe_places(back, it, operand);
    status = check_between(&back->sum);
    if (status)
        return status;
    status =
        back_step(plan, node, "einsum's operand", run_back, back, NULL, x, reads, count, &share);
    return status ? status : plan_add_gradient(plan, node->inputs[operand], share);
}

static pal_status backward(plan *plan, const graph_node *node)
{
    einsum *it;
    pal_status status = describe(plan, node, &it);
    for (size_t o = 0; !status && o < it->operands; o++)
        if (plan_wants_gradient(plan, node->inputs[o]))
            status = back_to(plan, node, it, o);
    return status;
}

const op_kernel kernel_einsum = {forward, backward};
