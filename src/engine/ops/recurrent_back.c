/* The way back of recurrent layers, through time.
 *
 * The layer is run again, and what each time step computed is kept: the gates before their
 * functions, the states before it. Then, from the last time step to the first, the gradient of the
 * state gives those of the gates, of which there are two: by the inputs' part (dz) and by the
 * state's part (ds), which differ only where a GRU resets the state after its product. The
 * gradients of the weights are products of these with inputs and states, for all time steps at
 * once, and for each sample on its own if that is asked for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/onednn.h"
#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "engine/ops/recurrent.h"
#include "engine/ops/slopes.h"

enum { READ_X, READ_W, READ_R, READ_B, READ_LENGTHS, READ_H, READ_C, READ_P }; /* more: gradients */
enum { MORE_Y, MORE_LAST_H, MORE_LAST_C };
enum { WRITE_TRACE, WRITE_X, WRITE_B, WRITE_H, WRITE_C, WRITE_P };

/* What the steps for the weights read: of each direction dz, ds, the state before each time step,
 * and what the last gate's product took (a GRU's reset state); then the inputs in order. */
typedef struct trace {
    float *dz, *ds, *before, *reset;
} trace;

static int64_t trace_floats(const recurrence *it)
{
    const int64_t steps = it->time * it->batch;
    return it->directions * steps * (2 * it->gates + 2) * it->hidden + steps * it->input;
}

static trace trace_of(const recurrence *it, const buffer *buffer, int64_t direction)
{
    const int64_t steps = it->time * it->batch, width = it->gates * it->hidden;
    float *from = (float *)buffer->data + direction * steps * (2 * width + 2 * it->hidden);
    return (trace){from, from + steps * width, from + 2 * steps * width,
                   from + 2 * steps * width + steps * it->hidden};
}

static float *ordered_inputs(const recurrence *it, const buffer *buffer)
{
    return (float *)buffer->data + trace_floats(it) - it->time * it->batch * it->input;
}

/* One direction of a run. */
typedef struct course {
    const recurrence *it;
    size_t number;
    bool reverse, reset_first;            /* a GRU that resets the state before its product */
    const float *w, *r, *bias, *peephole; /* bias: of the inputs' part, then of the state's */
    const int64_t *lengths;
    trace trace;
    float *z;    /* [time, batch, gates hidden]: gates before their functions */
    float *cell; /* [time + 1, batch, hidden], LSTM: before each time step, in order of running */
    float *part; /* GRU: [time, batch, hidden], the state's part of the last gate */
    float *h, *dh, *dc, *room; /* [batch, hidden]; room: [batch, gates hidden] */
    float *dbias, *dpeephole;  /* or NULL */
} course;

static float function_of(const course *c, size_t which, float x)
{
    const op_attributes *a = &c->it->attributes;
    const size_t at = c->number * 3 + which;
    const float clip = which < 2 || c->it->cell != CELL_LSTM ? a->recurrent.clip : 0;
    if (clip > 0)
        x = x < -clip ? -clip : x > clip ? clip : x;
    return recurrent_function(a->recurrent.activations[at], a->recurrent.alphas[at],
                              a->recurrent.betas[at], x);
}

static float slope_of(const course *c, size_t which, float x)
{
    const op_attributes *a = &c->it->attributes;
    const size_t at = c->number * 3 + which;
    const float clip = which < 2 || c->it->cell != CELL_LSTM ? a->recurrent.clip : 0;
    if (clip > 0 && (x < -clip || x > clip))
        return 0;
    return unary_slope(a->recurrent.activations[at], a->recurrent.alphas[at],
                       a->recurrent.betas[at], x);
}

static bool goes_on(const course *c, int64_t b, int64_t t)
{
    return !c->lengths || t < c->lengths[b];
}

/* ---------------------------------------------------------------- forward once more */

/* to [batch, count hidden] (rows as wide as all gates) += from R' + bias, of some gates. */
static pal_status add_state_part(const course *c, const float *from, int64_t first, int64_t count,
                                 float *to)
{
    const recurrence *it = c->it;
    const int64_t n = it->hidden, width = it->gates * n;
    pal_status status = onednn_gemm(false, true, it->batch, count * n, n, 1, from, n,
                                    c->r + first * n * n, n, 1, to + first * n, width);
    for (int64_t b = 0; c->bias && b < it->batch; b++)
        for (int64_t j = first * n; j < (first + count) * n; j++)
            to[b * width + j] += c->bias[width + j];
    return status;
}

static void run_lstm(const course *c, float *z, const float *before, float *after, float *h)
{
    const int64_t n = c->it->hidden;
    const float *p = c->peephole;
    for (int64_t j = 0; j < n; j++) {
        if (p) {
            z[j] += p[j] * before[j];
            z[2 * n + j] += p[2 * n + j] * before[j];
        }
        const float i = function_of(c, 0, z[j]);
        const float f =
            c->it->attributes.recurrent.input_forget ? 1 - i : function_of(c, 0, z[2 * n + j]);
        after[j] = f * before[j] + i * function_of(c, 1, z[3 * n + j]);
        if (p)
            z[n + j] += p[n + j] * after[j];
        h[j] = function_of(c, 0, z[n + j]) * function_of(c, 2, after[j]);
    }
}

/* The gates z of a time step hold the inputs' part, and now the state's is added. */
static pal_status run_gates(const course *c, int64_t t)
{
    const recurrence *it = c->it;
    const int64_t n = it->hidden, width = it->gates * n, rows = it->batch;
    float *z = c->z + t * rows * width;
    if (it->cell != CELL_GRU)
        return add_state_part(c, c->h, 0, it->gates, z);
    pal_status status = add_state_part(c, c->h, 0, 2, z);
    float *reset = c->trace.reset + t * rows * n;
    for (int64_t b = 0; b < rows; b++)
        for (int64_t j = 0; j < n; j++)
            reset[b * n + j] =
                c->h[b * n + j] * (c->reset_first ? function_of(c, 0, z[b * width + n + j]) : 1);
    memset(c->room, 0, (size_t)(rows * width) * sizeof *c->room);
    if (!status)
        status = add_state_part(c, reset, 2, 1, c->room);
    for (int64_t b = 0; b < rows; b++)
        for (int64_t j = 0; j < n; j++) {
            const float part = c->room[b * width + 2 * n + j];
            c->part[(t * rows + b) * n + j] = part;
            z[b * width + 2 * n + j] +=
                c->reset_first ? part : part * function_of(c, 0, z[b * width + n + j]);
        }
    return status;
}

static pal_status run_again(const course *c)
{
    const recurrence *it = c->it;
    const int64_t n = it->hidden, width = it->gates * n, states = it->batch * n;
    pal_status status = PAL_OK;
    for (int64_t i = 0; !status && i < it->time; i++) {
        const int64_t t = c->reverse ? it->time - 1 - i : i;
        float *before = c->cell + i * states, *after = before + states;
        memcpy(c->trace.before + t * states, c->h, (size_t)states * sizeof *c->h);
        if (it->cell == CELL_LSTM) /* for samples that have ended */
            memcpy(after, before, (size_t)states * sizeof *after);
        status = run_gates(c, t);
        for (int64_t b = 0; !status && b < it->batch; b++) {
            float *z = c->z + (t * it->batch + b) * width, *h = c->h + b * n;
            if (!goes_on(c, b, t))
                continue;
            if (it->cell == CELL_LSTM)
                run_lstm(c, z, before + b * n, after + b * n, h);
            else if (it->cell == CELL_RNN)
                for (int64_t j = 0; j < n; j++)
                    h[j] = function_of(c, 0, z[j]);
            else
                for (int64_t j = 0; j < n; j++) {
                    const float update = function_of(c, 0, z[j]);
                    h[j] = (1 - update) * function_of(c, 1, z[2 * n + j]) + update * h[j];
                }
        }
    }
    return status;
}

/* ---------------------------------------------------------------- backward */

/* dh and dc, of the states after the time step, become what of those before does not go through
 * the products. */
static void back_lstm(const course *c, const float *z, const float *before, const float *after,
                      float *dz, float *dh, float *dc)
{
    const int64_t n = c->it->hidden;
    const float *p = c->peephole;
    const bool coupled = c->it->attributes.recurrent.input_forget;
    for (int64_t j = 0; j < n; j++) {
        const float i = function_of(c, 0, z[j]), g = function_of(c, 1, z[3 * n + j]);
        const float f = coupled ? 1 - i : function_of(c, 0, z[2 * n + j]);
        const float dzo = dh[j] * function_of(c, 2, after[j]) * slope_of(c, 0, z[n + j]);
        const float d = dc[j] + dh[j] * function_of(c, 0, z[n + j]) * slope_of(c, 2, after[j]) +
                        (p ? dzo * p[n + j] : 0);
        const float dzi = d * (coupled ? g - before[j] : g) * slope_of(c, 0, z[j]);
        const float dzf = coupled ? 0 : d * before[j] * slope_of(c, 0, z[2 * n + j]);
        dz[j] = dzi;
        dz[n + j] = dzo;
        dz[2 * n + j] = dzf;
        dz[3 * n + j] = d * i * slope_of(c, 1, z[3 * n + j]);
        dc[j] = d * f + (p ? dzi * p[j] + dzf * p[2 * n + j] : 0);
        dh[j] = 0;
        if (c->dpeephole) {
            c->dpeephole[j] += dzi * before[j];
            c->dpeephole[n + j] += dzo * after[j];
            c->dpeephole[2 * n + j] += dzf * before[j];
        }
    }
}

/* Of a GRU that resets first, dz of the reset gate is left to what follows the product. */
static void back_gru(const course *c, const float *z, const float *before, const float *part,
                     float *dz, float *ds, float *dh)
{
    const int64_t n = c->it->hidden;
    for (int64_t j = 0; j < n; j++) {
        const float update = function_of(c, 0, z[j]), fresh = function_of(c, 1, z[2 * n + j]);
        const float dzh = dh[j] * (1 - update) * slope_of(c, 1, z[2 * n + j]);
        ds[j] = dz[j] = dh[j] * (before[j] - fresh) * slope_of(c, 0, z[j]);
        dz[2 * n + j] = ds[2 * n + j] = dzh;
        dh[j] *= update;
        if (c->reset_first)
            continue;
        ds[n + j] = dz[n + j] = dzh * part[j] * slope_of(c, 0, z[n + j]);
        ds[2 * n + j] = dzh * function_of(c, 0, z[n + j]);
    }
}

static pal_status back_products(const course *c, int64_t t, float *dz, float *ds)
{
    const recurrence *it = c->it;
    const int64_t n = it->hidden, width = it->gates * n, rows = it->batch;
    if (c->reset_first) { /* d (reset h) = ds R of the last gate */
        const float *before = c->trace.before + t * rows * n, *z = c->z + t * rows * width;
        pal_status status = onednn_gemm(false, false, rows, n, n, 1, ds + 2 * n, width,
                                        c->r + 2 * n * n, n, 0, c->room, n);
        if (status)
            return status;
        for (int64_t b = 0; b < rows; b++)
            for (int64_t j = 0; j < n && goes_on(c, b, t); j++) {
                const float x = z[b * width + n + j], d = c->room[b * n + j];
                dz[b * width + n + j] = ds[b * width + n + j] =
                    d * before[b * n + j] * slope_of(c, 0, x);
                c->dh[b * n + j] += d * function_of(c, 0, x);
            }
    }
    return onednn_gemm(false, false, rows, n, c->reset_first ? 2 * n : width, 1, ds, width, c->r, n,
                       1, c->dh, n);
}

static pal_status run_back_in_time(const course *c, const float *dy)
{
    const recurrence *it = c->it;
    const int64_t n = it->hidden, width = it->gates * n, states = it->batch * n;
    pal_status status = PAL_OK;
    for (int64_t i = it->time; !status && i-- > 0;) {
        const int64_t t = c->reverse ? it->time - 1 - i : i;
        float *dz = c->trace.dz + t * it->batch * width, *ds = c->trace.ds + t * it->batch * width;
        memset(dz, 0, (size_t)(it->batch * width) * sizeof *dz);
        memset(ds, 0, (size_t)(it->batch * width) * sizeof *ds);
        for (int64_t b = 0; b < it->batch; b++) {
            const float *z = c->z + (t * it->batch + b) * width;
            float *own = dz + b * width, *state = ds + b * width, *dh = c->dh + b * n;
            if (!goes_on(c, b, t))
                continue;
            for (int64_t j = 0; dy && j < n; j++)
                dh[j] += dy[recurrent_output_place(it, c->number, t, b) + j];
            if (it->cell == CELL_LSTM)
                back_lstm(c, z, c->cell + i * states + b * n, c->cell + (i + 1) * states + b * n,
                          own, dh, c->dc + b * n);
            else if (it->cell == CELL_GRU)
                back_gru(c, z, c->trace.before + t * states + b * n, c->part + t * states + b * n,
                         own, state, dh);
            else
                for (int64_t j = 0; j < n; j++) {
                    own[j] = dh[j] * slope_of(c, 0, z[j]);
                    dh[j] = 0;
                }
            if (it->cell != CELL_GRU)
                memcpy(state, own, (size_t)width * sizeof *own);
        }
        status = back_products(c, t, dz, ds);
    }
    return status;
}

/* ---------------------------------------------------------------- the step */

static float *part_of(const buffer *buffer, int64_t at)
{
    return buffer ? (float *)buffer->data + at : NULL;
}

static void move_state(const course *c, float *state, const buffer *outside, bool outwards)
{
    const size_t bytes = (size_t)c->it->hidden * sizeof *state;
    for (int64_t b = 0; outside && b < c->it->batch; b++) {
        float *own = state + b * c->it->hidden;
        float *other = part_of(outside, recurrent_state_place(c->it, c->number, b));
        memcpy(outwards ? other : own, outwards ? own : other, bytes);
    }
}

static int64_t scratch_floats(const recurrence *it)
{
    const int64_t steps = it->time * it->batch, width = it->gates * it->hidden;
    return steps * (width + 2 * it->hidden) + it->batch * (4 * it->hidden + width) +
           steps * it->input;
}

static course course_of(const recurrence *it, const step *step, int64_t d)
{
    const int64_t n = it->hidden, width = it->gates * n, states = it->batch * n;
    const buffer *lengths = step->reads[READ_LENGTHS];
    course c = {.it = it,
                .number = (size_t)d,
                .reverse = it->attributes.recurrent.direction == DIRECTION_REVERSE || d == 1,
                .reset_first =
                    it->cell == CELL_GRU && !it->attributes.recurrent.linear_before_reset,
                .w = part_of(step->reads[READ_W], d * width * it->input),
                .r = part_of(step->reads[READ_R], d * width * n),
                .bias = part_of(step->reads[READ_B], 2 * d * width),
                .peephole = part_of(step->reads[READ_P], 3 * d * n),
                .lengths = lengths ? lengths->data : NULL,
                .trace = trace_of(it, step->writes[WRITE_TRACE], d),
                .z = step->scratch->data,
                .dbias = part_of(step->writes[WRITE_B], 2 * d * width),
                .dpeephole = part_of(step->writes[WRITE_P], 3 * d * n)};
    c.cell = c.z + it->time * it->batch * width;
    c.part = c.cell; /* one or the other */
    c.h = c.cell + (it->time + 1) * states;
    c.dh = c.h + states;
    c.dc = c.dh + states;
    c.room = c.dc + states;
    return c;
}

static void sum_biases(const course *c)
{
    const int64_t width = c->it->gates * c->it->hidden;
    for (int64_t row = 0; c->dbias && row < c->it->time * c->it->batch; row++)
        for (int64_t j = 0; j < width; j++) {
            c->dbias[j] += c->trace.dz[row * width + j];
            c->dbias[width + j] += c->trace.ds[row * width + j];
        }
}

static pal_status run_course(const course *c, const step *step, const float *x, float *dx)
{
    const recurrence *it = c->it;
    const int64_t width = it->gates * it->hidden, steps = it->time * it->batch;
    const int64_t states = it->batch * it->hidden;
    memset(c->h, 0, (size_t)(3 * states) * sizeof *c->h);
    memset(c->cell, 0, (size_t)states * sizeof *c->cell);
    move_state(c, c->h, step->reads[READ_H], false);
    if (it->cell == CELL_LSTM)
        move_state(c, c->cell, step->reads[READ_C], false);
    pal_status status = onednn_gemm(false, true, steps, width, it->input, 1, x, it->input, c->w,
                                    it->input, 0, c->z, width);
    for (int64_t row = 0; c->bias && row < steps; row++)
        for (int64_t j = 0; j < width; j++)
            c->z[row * width + j] += c->bias[j];
    if (!status)
        status = run_again(c);
    move_state(c, c->dh, step->more[MORE_LAST_H], false);
    move_state(c, c->dc, step->more[MORE_LAST_C], false);
    if (!status)
        status = run_back_in_time(c, part_of(step->more[MORE_Y], 0));
    if (!status && dx)
        status = onednn_gemm(false, false, steps, it->input, width, 1, c->trace.dz, width, c->w,
                             it->input, 1, dx, it->input);
    sum_biases(c);
    move_state(c, c->dh, step->writes[WRITE_H], true);
    move_state(c, c->dc, step->writes[WRITE_C], true);
    return status;
}

static pal_status run(const step *step)
{
    const recurrence *it = step->state;
    const int64_t steps = it->time * it->batch, shape[3] = {it->time, it->batch, it->input};
    const int64_t strides[3] = {it->input, it->time * it->input, 1};
    const bool turned = it->attributes.recurrent.batch_first;
    const walk order = walk_new(3, shape, strides, 0);
    float *x = ordered_inputs(it, step->writes[WRITE_TRACE]);
    float *dx = step->writes[WRITE_X] ? step->writes[WRITE_X]->data : NULL;
    float *ordered = (float *)step->scratch->data + scratch_floats(it) - steps * it->input;
    pal_status status = PAL_OK;
    for (size_t i = WRITE_X; i <= WRITE_P; i++)
        if (step->writes[i])
            memset(step->writes[i]->data, 0, step->writes[i]->bytes);
    if (turned)
        walk_copy(&order, sizeof *x, step->reads[READ_X]->data, x);
    else
        memcpy(x, step->reads[READ_X]->data, (size_t)(steps * it->input) * sizeof *x);
    memset(ordered, 0, (size_t)(steps * it->input) * sizeof *ordered);
    for (int64_t d = 0; !status && d < it->directions; d++) {
        const course c = course_of(it, step, d);
        status = run_course(&c, step, x, !dx ? NULL : turned ? ordered : dx);
    }
    if (!status && dx && turned)
        walk_put(&order, sizeof *dx, ordered, dx);
    return status;
}

/* ---------------------------------------------------------------- weights */

/* to = a' b over the rows of one sample, or of all: rows of a are `width` apart, of b `columns`. */
static pal_status product_of(const recurrence *it, size_t sample, const float *a, int64_t first,
                             int64_t count, const float *b, int64_t columns, float *to)
{
    const int64_t width = it->gates * it->hidden, n = it->hidden;
    const bool all = sample == PLAN_ALL;
    const int64_t rows = all ? it->time * it->batch : it->time, apart = all ? 1 : it->batch;
    const int64_t start = all ? 0 : (int64_t)sample;
    return onednn_gemm(true, false, count * n, columns, rows, 1, a + start * width + first * n,
                       width * apart, b + start * columns, columns * apart, 0,
                       to + first * n * columns, columns);
}

static pal_status run_input_weights(const step *step, size_t sample)
{
    const recurrence *it = step->state;
    const int64_t size = it->gates * it->hidden * it->input;
    pal_status status = PAL_OK;
    for (int64_t d = 0; !status && d < it->directions; d++)
        status = product_of(it, sample, trace_of(it, step->reads[0], d).dz, 0, it->gates,
                            ordered_inputs(it, step->reads[0]), it->input,
                            part_of(step->writes[0], d * size));
    return status;
}

static pal_status run_state_weights(const step *step, size_t sample)
{
    const recurrence *it = step->state;
    const int64_t size = it->gates * it->hidden * it->hidden;
    const int64_t plain = it->cell == CELL_GRU ? 2 : it->gates;
    pal_status status = PAL_OK;
    for (int64_t d = 0; !status && d < it->directions; d++) {
        const trace from = trace_of(it, step->reads[0], d);
        float *to = part_of(step->writes[0], d * size);
        status = product_of(it, sample, from.ds, 0, plain, from.before, it->hidden, to);
        if (!status && plain < it->gates)
            status = product_of(it, sample, from.ds, plain, 1, from.reset, it->hidden, to);
    }
    return status;
}

static pal_status back_to_weights(plan *plan, const graph_node *node, recurrence *it, bool state,
                                  buffer *trace)
{
    const size_t value = node->inputs[state ? 2 : 1];
    const size_t batch_axis = node->attributes.recurrent.batch_first ? 0 : 1;
    if (!plan_wants_gradient(plan, value))
        return PAL_OK;
    const bool apart = plan_samples_along(plan, node->inputs[0], batch_axis) &&
                       plan_get_options(plan)->samples == (size_t)it->batch;
    return plan_add_weight_pass(
        plan, node, value,
        &(weight_share){.what = "recurrent weights",
                        .pass = state ? run_state_weights : run_input_weights,
                        .apart = apart,
                        .state = it,
                        .reads = {trace}});
}

/* ---------------------------------------------------------------- planning */

/* The inputs that the step gives gradients of, by what it writes. */
static size_t written_input(size_t write)
{
    static const size_t inputs[] = {[WRITE_X] = READ_X,
                                    [WRITE_B] = READ_B,
                                    [WRITE_H] = READ_H,
                                    [WRITE_C] = READ_C,
                                    [WRITE_P] = READ_P};
    return inputs[write];
}

static bool has_input(const graph_node *node, size_t i)
{
    return i < node->input_count && node->inputs[i] != GRAPH_NONE;
}

static pal_status add_step(plan *plan, const graph_node *node, recurrence *it, buffer **trace)
{
    buffer *reads[STEP_MAX_BUFFERS] = {NULL}, *writes[STEP_MAX_BUFFERS] = {NULL}, *scratch;
    buffer **more = plan_alloc(plan, 3 * sizeof *more);
    const int64_t floats = trace_floats(it), room = scratch_floats(it) + it->batch * it->hidden;
    pal_status status = more ? PAL_OK : PAL_ERROR_MEMORY;
    for (size_t i = 0; !status && i < STEP_MAX_BUFFERS; i++)
        if (has_input(node, i))
            status = plan_buffer_in(plan, node->inputs[i], NULL, &reads[i]);
    for (size_t i = 0; !status && i < node->output_count && i < 3; i++)
        if (node->outputs[i] != GRAPH_NONE)
            status = plan_gradient_in(plan, node->outputs[i], NULL, &more[i]);
    for (size_t i = WRITE_X; !status && i <= WRITE_P; i++) {
        const size_t input = written_input(i);
        if (!has_input(node, input) || !plan_wants_gradient(plan, node->inputs[input]))
            continue;
        const graph_value *value = plan_input(plan, node, input);
        status =
            plan_new_temporary(plan, GRAPH_FLOAT, value->rank, value->shape, NULL, 0, &writes[i]);
    }
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &floats, NULL, 0, &writes[WRITE_TRACE]);
    if (!status)
        status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "recurrent gradients", run, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    memcpy(step->reads, reads, sizeof reads);
    memcpy(step->writes, writes, sizeof writes);
    step->more = more;
    step->more_count = 3;
    step->scratch = scratch;
    *trace = writes[WRITE_TRACE];
    for (size_t i = WRITE_X; !status && i <= WRITE_P; i++)
        if (writes[i])
            status = plan_add_gradient(plan, node->inputs[written_input(i)], writes[i]);
    return status;
}

pal_status recurrent_back(plan *plan, const graph_node *node)
{
    recurrence *it;
    buffer *trace;
    pal_status status = recurrence_new(plan, node, &it);
    if (!status)
        status = add_step(plan, node, it, &trace);
    for (int state = 0; !status && state < 2; state++)
        status = back_to_weights(plan, node, it, state, trace);
    return status;
}
