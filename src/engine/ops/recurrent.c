/* LSTM, GRU and the plain recurrent layer, as ONNX defines them.
 *
 * The inputs' part of all gates is one matrix product for the whole sequence; each time step then
 * adds the state's part and applies the functions. Sequences shorter than the longest stop where
 * they end: their outputs are zero from there on, and their last state is kept. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/ops.h"
#include "engine/ops/recurrent.h"

/* What one direction computes with. */
typedef struct direction {
    const recurrence *it;
    size_t number;
    const float *w, *r;                      /* [gates hidden, input], [gates hidden, hidden] */
    const float *bias_w, *bias_r, *peephole; /* or NULL */
    const int64_t *lengths;                  /* or NULL */
    float *x;                                /* [time, batch, gates hidden]: the inputs' part */
    float *h, *c;                            /* [batch, hidden]: the state */
    float *part;                             /* [batch, gates hidden]: the state's part */
    float *gated;                            /* [batch, hidden]: GRU's reset state */
} direction;

float recurrent_function(unary_kind kind, float alpha, float beta, float x)
{
    switch (kind) {
    case UNARY_RELU: return x > 0 ? x : 0;
    case UNARY_TANH: return tanhf(x);
    case UNARY_LINEAR: return alpha * x + beta;
    case UNARY_LEAKY_RELU: return x < 0 ? alpha * x : x;
    case UNARY_THRESHOLDED_RELU: return x > alpha ? x : 0;
    case UNARY_SCALED_TANH: return alpha * tanhf(beta * x);
    case UNARY_HARD_SIGMOID: return fminf(fmaxf(alpha * x + beta, 0), 1);
    case UNARY_ELU: return x < 0 ? alpha * expm1f(x) : x;
    case UNARY_SOFTSIGN: return x / (1 + fabsf(x));
    case UNARY_SOFTPLUS: return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
    default: return 1 / (1 + expf(-x));
    }
}

static bool can_activate(unary_kind kind)
{
    switch (kind) {
    case UNARY_SIGMOID:
    case UNARY_RELU:
    case UNARY_TANH:
    case UNARY_LINEAR:
    case UNARY_LEAKY_RELU:
    case UNARY_THRESHOLDED_RELU:
    case UNARY_SCALED_TANH:
    case UNARY_HARD_SIGMOID:
    case UNARY_ELU:
    case UNARY_SOFTSIGN:
    case UNARY_SOFTPLUS: return true;
    default: return false;
    }
}

/* The which-th function (f, g, h) of the direction, on a value that is clipped before. */
static float apply(const direction *on, size_t which, float x)
{
    const op_attributes *a = &on->it->attributes;
    const float clip = a->recurrent.clip;
    const size_t at = on->number * 3 + which;
    if (clip > 0)
        x = x < -clip ? -clip : x > clip ? clip : x;
    return recurrent_function(a->recurrent.activations[at], a->recurrent.alphas[at],
                              a->recurrent.betas[at], x);
}

/* ---------------------------------------------------------------- one time step of one sample */

static void lstm_cell(const direction *on, const float *x, const float *part, float *h, float *c)
{
    const int64_t n = on->it->hidden;
    const float *p = on->peephole;
    for (int64_t j = 0; j < n; j++) {
        const float before = c[j];
        float i = x[j] + part[j], o = x[n + j] + part[n + j], f = x[2 * n + j] + part[2 * n + j];
        const float g = x[3 * n + j] + part[3 * n + j];
        if (p) {
            i += p[j] * before;
            f += p[2 * n + j] * before;
        }
        i = apply(on, 0, i);
        f = on->it->attributes.recurrent.input_forget ? 1 - i : apply(on, 0, f);
        c[j] = f * before + i * apply(on, 1, g);
        if (p)
            o += p[n + j] * c[j];
        const float out = apply(on, 0, o);
        const size_t at = on->number * 3 + 2; /* h() sees the cell unclipped */
        const op_attributes *a = &on->it->attributes;
        h[j] = out * recurrent_function(a->recurrent.activations[at], a->recurrent.alphas[at],
                                        a->recurrent.betas[at], c[j]);
    }
}

static void gru_gates(const direction *on, float *x, const float *part, const float *h,
                      float *gated)
{
    const int64_t n = on->it->hidden;
    for (int64_t j = 0; j < n; j++) {
        x[j] = apply(on, 0, x[j] + part[j]);
        x[n + j] = apply(on, 0, x[n + j] + part[n + j]);
        gated[j] = x[n + j] * h[j];
    }
}

static void gru_cell(const direction *on, const float *x, const float *part, float *h)
{
    const int64_t n = on->it->hidden;
    for (int64_t j = 0; j < n; j++) {
        const float state = on->it->attributes.recurrent.linear_before_reset
                                ? x[n + j] * part[2 * n + j]
                                : part[2 * n + j];
        const float fresh = apply(on, 1, x[2 * n + j] + state);
        h[j] = (1 - x[j]) * fresh + x[j] * h[j];
    }
}

static void rnn_cell(const direction *on, const float *x, const float *part, float *h)
{
    for (int64_t j = 0; j < on->it->hidden; j++)
        h[j] = apply(on, 0, x[j] + part[j]);
}

/* ---------------------------------------------------------------- one time step of all samples */

static void add_bias(float *to, const float *bias, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[r * columns + c] += bias[c];
}

/* part = h R' + the state's biases, for all gates, or for the first or the last of them. */
static pal_status state_part(const direction *on, const float *h, int64_t first, int64_t count)
{
    const recurrence *it = on->it;
    const int64_t width = it->gates * it->hidden, n = count * it->hidden;
    pal_status status = onednn_gemm(false, true, it->batch, n, it->hidden, 1, h, it->hidden,
                                    on->r + first * it->hidden * it->hidden, it->hidden, 0,
                                    on->part + first * it->hidden, width);
    for (int64_t b = 0; !status && on->bias_r && b < it->batch; b++)
        for (int64_t j = 0; j < n; j++)
            on->part[b * width + first * it->hidden + j] += on->bias_r[first * it->hidden + j];
    return status;
}

static bool goes_on(const direction *on, int64_t b, int64_t t)
{
    return !on->lengths || t < on->lengths[b];
}

static pal_status time_step(const direction *on, int64_t t)
{
    const recurrence *it = on->it;
    const int64_t n = it->hidden, width = it->gates * n;
    float *x = on->x + t * it->batch * width;
    const bool reset_first = it->cell == CELL_GRU && !it->attributes.recurrent.linear_before_reset;
    pal_status status = state_part(on, on->h, 0, reset_first ? 2 : it->gates);
    if (status)
        return status;
    if (it->cell == CELL_GRU)
        for (int64_t b = 0; b < it->batch; b++)
            gru_gates(on, x + b * width, on->part + b * width, on->h + b * n, on->gated + b * n);
    if (reset_first)
        status = state_part(on, on->gated, 2, 1);
    for (int64_t b = 0; !status && b < it->batch; b++) {
        if (!goes_on(on, b, t))
            continue;
        const float *mine = x + b * width, *part = on->part + b * width;
        if (it->cell == CELL_LSTM)
            lstm_cell(on, mine, part, on->h + b * n, on->c + b * n);
        else if (it->cell == CELL_GRU)
            gru_cell(on, mine, part, on->h + b * n);
        else
            rnn_cell(on, mine, part, on->h + b * n);
    }
    return status;
}

/* ---------------------------------------------------------------- a direction */

/* Where y keeps a sample's state of a time step. */
int64_t recurrent_output_place(const recurrence *it, size_t direction, int64_t t, int64_t b)
{
    return (it->attributes.recurrent.batch_first
                ? (b * it->time + t) * it->directions + (int64_t)direction
                : (t * it->directions + (int64_t)direction) * it->batch + b) *
           it->hidden;
}

int64_t recurrent_state_place(const recurrence *it, size_t direction, int64_t b)
{
    return (it->attributes.recurrent.batch_first ? b * it->directions + (int64_t)direction
                                                 : (int64_t)direction * it->batch + b) *
           it->hidden;
}

static void copy_state(const recurrence *it, size_t direction, float *state, void *outside,
                       bool outwards)
{
    for (int64_t b = 0; b < it->batch; b++) {
        float *other = (float *)outside + recurrent_state_place(it, direction, b);
        memcpy(outwards ? other : state + b * it->hidden, outwards ? state + b * it->hidden : other,
               (size_t)it->hidden * sizeof *state);
    }
}

static pal_status run_direction(const step *step, const direction *on, bool reverse)
{
    const recurrence *it = on->it;
    const int64_t n = it->hidden;
    float *y = step->writes[0] ? step->writes[0]->data : NULL;
    pal_status status = PAL_OK;
    for (int64_t i = 0; !status && i < it->time; i++) {
        const int64_t t = reverse ? it->time - 1 - i : i;
        status = time_step(on, t);
        for (int64_t b = 0; y && b < it->batch; b++) {
            float *to = y + recurrent_output_place(it, on->number, t, b);
            if (goes_on(on, b, t))
                memcpy(to, on->h + b * n, (size_t)n * sizeof *to);
            else
                memset(to, 0, (size_t)n * sizeof *to);
        }
    }
    if (!status && step->writes[1])
        copy_state(it, on->number, on->h, step->writes[1]->data, true);
    if (!status && step->writes[2])
        copy_state(it, on->number, on->c, step->writes[2]->data, true);
    return status;
}

/* The inputs in the order [time, batch, input]. */
static const float *in_time_order(const recurrence *it, const buffer *x, float *room)
{
    if (!it->attributes.recurrent.batch_first)
        return x->data;
    const int64_t shape[3] = {it->time, it->batch, it->input};
    const int64_t strides[3] = {it->input, it->time * it->input, 1};
    walk walk = walk_new(3, shape, strides, 0);
    walk_copy(&walk, sizeof(float), x->data, room);
    return room;
}

static pal_status check_lengths(const recurrence *it, const buffer *lengths)
{
    for (int64_t b = 0; lengths && b < it->batch; b++) {
        const int64_t length = ((const int64_t *)lengths->data)[b];
        if (length < 0 || length > it->time)
            return fail(PAL_ERROR_VALUE, "length %lld of a sequence of at most %lld",
                        (long long)length, (long long)it->time);
    }
    return PAL_OK;
}

static pal_status run(const step *step)
{
    const recurrence *it = step->state;
    const buffer *const *reads = (const buffer *const *)step->reads;
    const int64_t width = it->gates * it->hidden, states = it->batch * it->hidden;
    const int64_t steps = it->time * it->batch;
    pal_status status = check_lengths(it, reads[4]);
    if (status)
        return status;
    float *memory = step->scratch->data;
    float *ordered = memory + steps * width + 3 * states + it->batch * width;
    const float *x = in_time_order(it, reads[0], ordered);
    for (int64_t d = 0; !status && d < it->directions; d++) {
        const float *bias = reads[3] ? (const float *)reads[3]->data + 2 * d * width : NULL;
        const buffer *p = it->cell == CELL_LSTM ? reads[7] : NULL;
        direction on = {
            .it = it,
            .number = (size_t)d,
            .w = (const float *)reads[1]->data + d * width * it->input,
            .r = (const float *)reads[2]->data + d * width * it->hidden,
            .bias_w = bias,
            .bias_r = bias ? bias + width : NULL,
            .peephole = p ? (const float *)p->data + 3 * d * it->hidden : NULL,
            .lengths = reads[4] ? reads[4]->data : NULL,
            .x = memory,
            .h = memory + steps * width,
        };
        on.c = on.h + states;
        on.gated = on.c + states;
        on.part = on.gated + states;
        if (steps)
            status = onednn_gemm(false, true, steps, width, it->input, 1, x, it->input, on.w,
                                 it->input, 0, on.x, width);
        if (on.bias_w)
            add_bias(on.x, on.bias_w, steps, width);
        memset(on.h, 0, (size_t)(2 * states) * sizeof *on.h);
        if (reads[5])
            copy_state(it, on.number, on.h, reads[5]->data, false);
        if (reads[6] && it->cell == CELL_LSTM)
            copy_state(it, on.number, on.c, reads[6]->data, false);
        const bool reverse = it->attributes.recurrent.direction == DIRECTION_REVERSE || d == 1;
        if (!status)
            status = run_direction(step, &on, reverse);
    }
    return status;
}

pal_status recurrence_new(plan *plan, const graph_node *node, recurrence **out)
{
    const graph_value *x = plan_input(plan, node, 0), *w = plan_input(plan, node, 1);
    const bool batch_first = node->attributes.recurrent.batch_first;
    const cell cell = node->op == OP_LSTM ? CELL_LSTM : node->op == OP_GRU ? CELL_GRU : CELL_RNN;
    const int64_t gates = cell == CELL_LSTM ? 4 : cell == CELL_GRU ? 3 : 1;
    recurrence *it = *out = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    *it = (recurrence){.cell = cell,
                       .attributes = node->attributes,
                       .time = x->shape[batch_first ? 1 : 0],
                       .batch = x->shape[batch_first ? 0 : 1],
                       .input = x->shape[2],
                       .hidden = w->shape[1] / gates,
                       .gates = gates,
                       .directions = w->shape[0]};
    for (int64_t i = 0; i < 3 * it->directions; i++)
        if (!can_activate(node->attributes.recurrent.activations[i]))
            return fail(PAL_ERROR_UNSUPPORTED, "its activation function");
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    recurrence *it;
    buffer *scratch;
    pal_status status = recurrence_new(plan, node, &it);
    if (status)
        return status;
    const int64_t width = it->gates * it->hidden, steps = it->time * it->batch;
    const int64_t room = steps * width + 3 * it->batch * it->hidden + it->batch * width +
                         (it->attributes.recurrent.batch_first ? steps * it->input : 0);
    status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    if (!status)
        status = plan_simple(plan, node, "recurrent", run, it, NULL);
    if (status)
        return status;
    plan_last_step(plan)->scratch = scratch;
    plan_last_step(plan)->costly = true;
    return PAL_OK;
}

const op_kernel kernel_lstm = {forward, recurrent_back};
const op_kernel kernel_gru = {forward, recurrent_back};
const op_kernel kernel_rnn = {forward, recurrent_back};
