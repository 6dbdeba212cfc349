/* Local response normalisation: by the squares of neighbouring channels. */
#include <math.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/compute.h"
#include "engine/ops/wide.h"

typedef struct lrn_state {
    int64_t batch, channels, spatial, size;
    float alpha, beta, bias;
} lrn_state;

WIDE static void add_squares(int64_t n, const float *x, float *sum)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i] * x[i];
}

/* y = x / (bias + alpha/size sum)^beta, where y holds the sum before. */
WIDE static void divide_by_power(int64_t n, const float *x, float *y, const lrn_state *s)
{
    const float factor = s->alpha / (float)s->size;
    if (s->beta == 0.75f) {
        for (int64_t i = 0; i < n; i++) {
            const float root = sqrtf(s->bias + factor * y[i]);
            y[i] = x[i] / (root * sqrtf(root));
        }
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] / powf(s->bias + factor * y[i], s->beta);
    }
}

static pal_status run_lrn(const step *step)
{
    const lrn_state *s = step->state;
    const float *x = step->reads[0]->data;
    float *y = step->writes[0]->data;
    const int64_t before = (s->size - 1) / 2, after = s->size - 1 - before;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->batch * s->channels; row++) {
        const int64_t c = row % s->channels, image = row - c;
        const int64_t from = c > before ? c - before : 0;
        const int64_t to = c + after < s->channels ? c + after : s->channels - 1;
        float *sum = y + row * s->spatial;
        memset(sum, 0, (size_t)s->spatial * sizeof *sum);
        for (int64_t k = from; k <= to; k++)
            add_squares(s->spatial, x + (image + k) * s->spatial, sum);
        divide_by_power(s->spatial, x + row * s->spatial, sum, s);
    }
    return PAL_OK;
}

/* With d = bias + alpha/size sum: dx = dy d^-beta - 2 alpha beta / size x sum dy y / d, where the
 * sum is over the channels whose window holds this one. */
static pal_status run_back(const step *step)
{
    const lrn_state *s = step->state;
    const float *dy = step->reads[0]->data, *x = step->reads[1]->data;
    float *dx = step->writes[0]->data, *ratio = step->scratch->data;
    const int64_t before = (s->size - 1) / 2, after = s->size - 1 - before, n = s->spatial;
    const float factor = s->alpha / (float)s->size;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->batch * s->channels; row++) {
        const int64_t c = row % s->channels, image = row - c;
        const int64_t from = c > before ? c - before : 0;
        const int64_t to = c + after < s->channels ? c + after : s->channels - 1;
        float *own = dx + row * n;
        memset(own, 0, (size_t)n * sizeof *own);
        for (int64_t k = from; k <= to; k++)
            add_squares(n, x + (image + k) * n, own);
        for (int64_t i = 0; i < n; i++) {
            const float d = s->bias + factor * own[i], power = powf(d, -s->beta);
            own[i] = dy[row * n + i] * power;
            ratio[row * n + i] = own[i] * x[row * n + i] / d;
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->batch * s->channels; row++) {
        const int64_t c = row % s->channels, image = row - c;
        const int64_t from = c > after ? c - after : 0;
        const int64_t to = c + before < s->channels ? c + before : s->channels - 1;
        for (int64_t k = from; k <= to; k++)
            for (int64_t i = 0; i < n; i++)
                dx[row * n + i] -=
                    2 * factor * s->beta * x[row * n + i] * ratio[(image + k) * n + i];
    }
    return PAL_OK;
}

static lrn_state *state_of(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    lrn_state *s = plan_alloc(plan, sizeof *s);
    if (!s)
        return NULL;
    *s = (lrn_state){.batch = x->shape[0],
                     .channels = x->shape[1],
                     .spatial = 1,
                     .size = node->attributes.lrn.size,
                     .alpha = node->attributes.lrn.alpha,
                     .beta = node->attributes.lrn.beta,
                     .bias = node->attributes.lrn.bias};
    for (size_t i = 2; i < x->rank; i++)
        s->spatial *= x->shape[i];
    return s;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    lrn_state *s = state_of(plan, node);
    return s ? plan_simple(plan, node, "local response norm", run_lrn, s, NULL) : PAL_ERROR_MEMORY;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    lrn_state *s = state_of(plan, node);
    if (!s)
        return PAL_ERROR_MEMORY;
    pal_status status =
        back_source(plan, node, "local response norm's source", run_back, s, &node->inputs[0], 1);
    return status ? status
                  : plan_new_temporary(plan, GRAPH_FLOAT, x->rank, x->shape, NULL, 0,
                                       &plan_last_step(plan)->scratch);
}

const op_kernel kernel_lrn = {forward, backward};
