/* Scaled dot-product attention: softmax(q k^T scale + mask) v.
 *
 * Rows of q are taken in blocks, so that of the L x S scores only a block's are in memory. A block
 * is one task of one thread: two products, and a softmax between them whose division is left to
 * the result, which is smaller. */
#include <math.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num()  0
#define omp_get_max_threads() 1
#endif

#include "engine/ops/compute.h"
#include "engine/ops/wide.h"
#include "graph/infer.h"

enum { BLOCK = 64 }; /* rows of q at once */

typedef struct attention {
    int64_t batches, rows, keys, width, values; /* L, S, E, V */
    int64_t q_row, k_row, v_row, y_row;         /* from one row to the next, in elements */
    int64_t *q_batch, *k_batch, *v_batch, *y_batch, *mask_batch;
    int64_t mask_row, mask_column; /* 0 where the mask is broadcast */
    float scale;
    bool causal, mask_is_bool;
    int threads;
} attention;

/* e^x for x <= 0 and not NaN, to about 1e-7 relative; below -87 a tiny number. */
static inline __attribute__((always_inline)) float exponential(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    union {
        float f;
        uint32_t i;
    } shifted, power;
    x = x < -87 ? -87 : x;
    shifted.f = x * 1.44269504f + magic;
    const float n = shifted.f - magic;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    power.i = (shifted.i + 127u) << 23; /* the low bits of what was rounded are n's */
    return p * power.f;
}

enum { LANES = 16 };

WIDE static float largest_of(const float *row, int64_t n)
{
    float lanes[LANES], largest = -INFINITY;
    int64_t i = 0;
    for (int l = 0; l < LANES; l++)
        lanes[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] = row[i + l] > lanes[l] ? row[i + l] : lanes[l];
    for (; i < n; i++)
        largest = row[i] > largest ? row[i] : largest;
    for (int l = 0; l < LANES; l++)
        largest = lanes[l] > largest ? lanes[l] : largest;
    return largest;
}

static inline __attribute__((always_inline)) float weight_of(float score, float largest)
{
    const float e = exponential(score - largest);
    return score == -INFINITY ? 0 : e;
}

/* Replaces scores by e^(score - largest), of which the largest is finite; returns their sum. */
WIDE static float exponentials(float *row, int64_t n, float largest)
{
    float lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float e = weight_of(row[i + l], largest);
            row[i + l] = e;
            lanes[l] += e;
        }
    for (; i < n; i++) {
        row[i] = weight_of(row[i], largest);
        sum += row[i];
    }
    for (int l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

WIDE static void scale_row(float *row, int64_t n, float factor)
{
    for (int64_t i = 0; i < n; i++)
        row[i] *= factor;
}

static void mask_scores(const attention *a, const void *mask, int64_t batch, int64_t row,
                        float *scores)
{
    const int64_t start = a->mask_batch[batch] + row * a->mask_row;
    if (mask && a->mask_is_bool) {
        const unsigned char *m = (const unsigned char *)mask + start;
        for (int64_t i = 0; i < a->keys; i++)
            scores[i] = m[i * a->mask_column] ? scores[i] : -INFINITY;
    } else if (mask) {
        const float *m = (const float *)mask + start;
        for (int64_t i = 0; i < a->keys; i++)
            scores[i] += m[i * a->mask_column];
    }
    if (a->causal)
        for (int64_t i = row + 1; i < a->keys; i++)
            scores[i] = -INFINITY;
}

/* One row of scores becomes weights that lack their division; returns what to multiply with. */
static float soften(float *scores, int64_t n)
{
    const float largest = largest_of(scores, n);
    if (largest == -INFINITY) {
        /* Nothing takes part. */
        memset(scores, 0, (size_t)n * sizeof *scores);
        return 0;
    }
    const float sum = exponentials(scores, n, largest);
    return 1 / sum;
}

static pal_status run_block(const attention *a, const step *step, int64_t batch, int64_t first,
                            float *scores)
{
    const float *q = (const float *)step->reads[0]->data + a->q_batch[batch] + first * a->q_row;
    const float *k = (const float *)step->reads[1]->data + a->k_batch[batch];
    const float *v = (const float *)step->reads[2]->data + a->v_batch[batch];
    const void *mask = step->reads[3] ? step->reads[3]->data : NULL;
    float *y = (float *)step->writes[0]->data + a->y_batch[batch] + first * a->y_row;
    float factors[BLOCK];
    const int64_t rows = first + BLOCK < a->rows ? BLOCK : a->rows - first;
    pal_status status = onednn_gemm(false, true, rows, a->keys, a->width, a->scale, q, a->q_row, k,
                                    a->k_row, 0, scores, a->keys);
    for (int64_t r = 0; r < rows; r++) {
        mask_scores(a, mask, batch, first + r, scores + r * a->keys);
        factors[r] = soften(scores + r * a->keys, a->keys);
    }
    if (!status)
        status = onednn_gemm(false, false, rows, a->values, a->keys, 1, scores, a->keys, v,
                             a->v_row, 0, y, a->y_row);
    for (int64_t r = 0; r < rows; r++)
        scale_row(y + r * a->y_row, a->values, factors[r]);
    return status;
}

static pal_status run(const step *step)
{
    const attention *a = step->state;
    const int64_t blocks = (a->rows + BLOCK - 1) / BLOCK;
    float *scores = step->scratch->data;
    pal_status failed = PAL_OK;
#pragma omp parallel for schedule(static) num_threads(a->threads)
    for (int64_t i = 0; i < a->batches * blocks; i++) {
        pal_status status = run_block(a, step, i / blocks, i % blocks * BLOCK,
                                      scores + (int64_t)omp_get_thread_num() * BLOCK * a->keys);
        if (status) {
#pragma omp atomic write
            failed = status;
        }
    }
    /* Messages are each thread's own. */
    return failed ? fail(failed, "attention's products failed") : PAL_OK;
}

/* For each batch of the result's leading dimensions, where an operand's batch begins. */
static int64_t *batch_offsets(plan *plan, const graph_value *value, const int64_t *batch,
                              size_t batches, const int64_t *strides, int64_t count)
{
    int64_t *list = plan_alloc(plan, (size_t)count * sizeof *list);
    for (int64_t i = 0; list && value && i < count; i++) {
        int64_t rest = i;
        for (size_t d = batches; d-- > 0;) {
            list[i] += rest % batch[d] * strides[d];
            rest /= batch[d];
        }
    }
    return list;
}

/* Strides of an operand along the result's leading dimensions, its rows and its columns. `order`
 * lists the operand's dimensions as [leading..., rows, columns]. */
static void operand_strides(const graph_value *value, size_t rank, bool heads_inside,
                            int64_t *strides)
{
    int64_t stride = 1;
    memset(strides, 0, rank * sizeof *strides);
    for (size_t i = 0; i < value->rank; i++) {
        const size_t from = value->rank - 1 - i; /* dimension of the value */
        size_t to = rank - 1 - i;                /* its place among [leading..., rows, columns] */
        if (heads_inside && rank >= 3)
            to = i == 1 ? rank - 3 : i == 2 ? rank - 2 : to;
        strides[to] = value->shape[from] == 1 ? 0 : stride;
        stride *= value->shape[from];
    }
}

static pal_status describe(plan *plan, const graph_node *node, attention **out)
{
    const graph_value *q = plan_input(plan, node, 0), *k = plan_input(plan, node, 1);
    const graph_value *v = plan_input(plan, node, 2), *mask = plan_input(plan, node, 3);
    const graph_value *y = plan_output(plan, node, 0);
    const bool inside = node->attributes.attention.heads_inside;
    const size_t rank = y->rank;
    attention *a = *out = plan_alloc(plan, sizeof *a);
    if (!a)
        return PAL_ERROR_MEMORY;
    if (rank < 2 || q->rank != rank || k->rank < 2 || v->rank < 2 || (inside && rank != 4))
        return fail(PAL_ERROR_UNSUPPORTED, "attention on %zu dimensions", q->rank);
    int64_t batch[PAL_MAX_RANK], strides[5][PAL_MAX_RANK] = {{0}};
    const graph_value *const values[5] = {q, k, v, y, mask};
    int64_t **const offsets[5] = {&a->q_batch, &a->k_batch, &a->v_batch, &a->y_batch,
                                  &a->mask_batch};
    memcpy(batch, y->shape, rank * sizeof *batch);
    if (inside)
        batch[1] = y->shape[2];
    a->batches = 1;
    for (size_t i = 0; i + 2 < rank; i++)
        a->batches *= batch[i];
    for (size_t i = 0; i < 5; i++) {
        if (values[i])
            operand_strides(values[i], rank, inside && i < 4, strides[i]);
        *offsets[i] = batch_offsets(plan, values[i], batch, rank - 2, strides[i], a->batches);
        if (!*offsets[i])
            return PAL_ERROR_MEMORY;
    }
    a->rows = q->shape[inside ? 1 : rank - 2];
    a->width = q->shape[rank - 1];
    a->keys = k->shape[inside ? 1 : k->rank - 2];
    a->values = v->shape[v->rank - 1];
    /* A stride of 0 here only says that there is a single row. */
    a->q_row = strides[0][rank - 2] ? strides[0][rank - 2] : a->width;
    a->k_row = strides[1][rank - 2] ? strides[1][rank - 2] : a->width;
    a->v_row = strides[2][rank - 2] ? strides[2][rank - 2] : a->values;
    a->y_row = strides[3][rank - 2] ? strides[3][rank - 2] : a->values;
    a->mask_row = strides[4][rank - 2];
    a->mask_column = strides[4][rank - 1];
    a->mask_is_bool = mask && mask->type == GRAPH_BOOL;
    a->causal = node->attributes.attention.causal;
    a->scale = node->attributes.attention.scale != 0 ? node->attributes.attention.scale
                                                     : 1 / sqrtf((float)a->width);
    a->threads = omp_get_max_threads();
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    attention *a;
    pal_status status = describe(plan, node, &a);
    if (status)
        return status;
    buffer *scratch;
    const int64_t room = (int64_t)a->threads * BLOCK * (a->keys ? a->keys : 1);
    status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    step step = {.what = "attention"}, *added;
    for (size_t i = 0; !status && i < 4; i++)
        if (plan_input(plan, node, i))
            status = plan_buffer_in(plan, node->inputs[i], NULL, &step.reads[i]);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], NULL, &step.writes[0]);
    if (status || graph_elements(plan_output(plan, node, 0)) == 0)
        return status;
    added = plan_add_step(plan, node, "attention", run, a, NULL);
    if (!added)
        return PAL_ERROR_MEMORY;
    memcpy(added->reads, step.reads, sizeof step.reads);
    added->writes[0] = step.writes[0];
    added->scratch = scratch;
    added->costly = true;
    return PAL_OK;
}

/* ---------------------------------------------------------------- the way back */

enum { BACK_Q, BACK_K, BACK_V, BACK_MASK, BACK_G }; /* reads; writes are those of the first four */

/* With P the softened scores of a block and S the scores before:
 *
 *   dv += P' dy,  dP = dy v',  dS = P (dP - sum P dP),  dq = scale dS k,  dk += scale dS' q
 *
 * `scores` has room for P and for dP. */
static pal_status back_block(const attention *a, const step *step, int64_t batch, int64_t first,
                             float *scores)
{
    float *gradients[4];
    const float *operands[5];
    int64_t *const offsets[5] = {a->q_batch, a->k_batch, a->v_batch, a->mask_batch, a->y_batch};
    const int64_t skipped[5] = {first * a->q_row, 0, 0, 0, first * a->y_row};
    for (size_t i = 0; i < 5; i++) {
        const bool floats = step->reads[i] && (i != BACK_MASK || !a->mask_is_bool);
        const int64_t at = offsets[i][batch] + skipped[i];
        operands[i] = floats ? (const float *)step->reads[i]->data + at : NULL;
        if (i < 4)
            gradients[i] = step->writes[i] ? (float *)step->writes[i]->data + at : NULL;
    }
    const void *mask = step->reads[BACK_MASK] ? step->reads[BACK_MASK]->data : NULL;
    const int64_t rows = first + BLOCK < a->rows ? BLOCK : a->rows - first, keys = a->keys;
    float *slopes = scores + BLOCK * keys;
    pal_status status = onednn_gemm(false, true, rows, keys, a->width, a->scale, operands[BACK_Q],
                                    a->q_row, operands[BACK_K], a->k_row, 0, scores, keys);
    for (int64_t r = 0; r < rows; r++) {
        mask_scores(a, mask, batch, first + r, scores + r * keys);
        scale_row(scores + r * keys, keys, soften(scores + r * keys, keys));
    }
    if (!status && gradients[BACK_V])
        status = onednn_gemm(true, false, keys, a->values, rows, 1, scores, keys, operands[BACK_G],
                             a->y_row, 1, gradients[BACK_V], a->v_row);
    if (!status)
        status = onednn_gemm(false, true, rows, keys, a->values, 1, operands[BACK_G], a->y_row,
                             operands[BACK_V], a->v_row, 0, slopes, keys);
    for (int64_t r = 0; r < rows; r++) {
        const float *p = scores + r * keys;
        float *d = slopes + r * keys, *to = gradients[BACK_MASK];
        double sum = 0;
        for (int64_t i = 0; i < keys; i++)
            sum += (double)p[i] * d[i];
        for (int64_t i = 0; i < keys; i++)
            d[i] = p[i] * (d[i] - (float)sum);
        for (int64_t i = 0; to && i < keys; i++)
            to[(first + r) * a->mask_row + i * a->mask_column] += d[i];
    }
    if (!status && gradients[BACK_Q])
        status = onednn_gemm(false, false, rows, a->width, keys, a->scale, slopes, keys,
                             operands[BACK_K], a->k_row, 1, gradients[BACK_Q], a->q_row);
    if (!status && gradients[BACK_K])
        status = onednn_gemm(true, false, keys, a->width, rows, a->scale, slopes, keys,
                             operands[BACK_Q], a->q_row, 1, gradients[BACK_K], a->k_row);
    return status;
}

/* Batches one after the other, because they may share keys and masks; products use all threads. */
static pal_status run_back(const step *step)
{
    const attention *a = step->state;
    pal_status status = PAL_OK;
    for (size_t i = 0; i < 4; i++)
        if (step->writes[i])
            memset(step->writes[i]->data, 0, step->writes[i]->bytes);
    for (int64_t batch = 0; batch < a->batches; batch++)
        for (int64_t first = 0; !status && first < a->rows; first += BLOCK)
            status = back_block(a, step, batch, first, step->scratch->data);
    return status;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    attention *a;
    buffer *reads[5] = {NULL}, *writes[4] = {NULL}, *scratch;
    pal_status status = describe(plan, node, &a);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[BACK_G]);
    for (size_t i = 0; !status && i < 4; i++) {
        const graph_value *value = plan_input(plan, node, i);
        if (value)
            status = plan_buffer_in(plan, node->inputs[i], NULL, &reads[i]);
        if (!status && value && plan_wants_gradient(plan, node->inputs[i]))
            status = plan_new_temporary(plan, GRAPH_FLOAT, value->rank, value->shape, NULL, 0,
                                        &writes[i]);
    }
    if (status)
        return status;
    const int64_t room = (int64_t)2 * BLOCK * (a->keys ? a->keys : 1);
    status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    step *step =
        status ? NULL : plan_add_step(plan, node, "attention's sources", run_back, a, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    memcpy(step->reads, reads, sizeof reads);
    memcpy(step->writes, writes, sizeof writes);
    step->scratch = scratch;
    for (size_t i = 0; !status && i < 4; i++)
        if (writes[i])
            status = plan_add_gradient(plan, node->inputs[i], writes[i]);
    return status;
}

const op_kernel kernel_attention = {forward, backward};
