/* Normalisation for inference: batch norm by oneDNN, in any layout; the others by rows of a
 * row-major tensor. */
#include <math.h>
#include <string.h>

#include "engine/ops/batch_norm.h"
#include "engine/ops/compute.h"
#include "engine/ops/wide.h"
#include "graph/infer.h"

/* ---------------------------------------------------------------- batch norm */

static pal_status forward_batch(plan *plan, const graph_node *node)
{
    buffer *x, *y, *roles[ONEDNN_ROLE_COUNT] = {0};
    if (plan_get_options(plan)->training || plan_has_gradients(plan))
        return batch_norm_training(plan, node);
    pal_status status = plan_buffer(plan, node->inputs[0], &x);
    onednn_primitive *primitive = NULL;
    for (int plain = 0; !status && !primitive && plain < 2; plain++) {
        if (plain)
            status = plan_buffer_in(plan, node->inputs[0], NULL, &x);
        onednn_tensor tensor = {.rank = x->rank, .form = ONEDNN_LAYOUT, .layout = x->layout};
        memcpy(tensor.shape, x->shape, x->rank * sizeof *x->shape);
        if (!x->layout && x->rank > 2) {
            tensor.rank = 3;
            for (size_t i = 3; i < x->rank; i++)
                tensor.shape[2] *= x->shape[i];
        }
        if (!status && x->elements &&
            onednn_batch_norm_new(&tensor, node->attributes.norm.epsilon, &primitive) && plain)
            return PAL_ERROR_UNSUPPORTED;
    }
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], x->layout, &y);
    if (status || x->elements == 0) {
        onednn_primitive_free(primitive);
        return status;
    }
    roles[ONEDNN_SRC] = x;
    roles[ONEDNN_DST] = y;
    status = plan_buffer_in(plan, node->inputs[1], NULL, &roles[ONEDNN_SCALE]);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[2], NULL, &roles[ONEDNN_SHIFT]);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[3], NULL, &roles[ONEDNN_MEAN]);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[4], NULL, &roles[ONEDNN_VARIANCE]);
    if (status) {
        onednn_primitive_free(primitive);
        return status;
    }
    status = onednn_add_step(plan, node, "batch norm", primitive, roles, NULL);
    return status ? status : post_steps(plan, node, node->posts, node->post_count, y);
}

/* ---------------------------------------------------------------- sums of a row */

enum { LANES = 16 };

/* In lanes, so that compilers may use vectors although the order of additions matters. */
#define SUM_OF_ROW(name, expression)                                                               \
    static inline __attribute__((always_inline)) float name(int64_t n, const float *x, float mean) \
    {                                                                                              \
        float lanes[LANES] = {0}, sum = 0;                                                         \
        int64_t i = 0;                                                                             \
        (void)mean;                                                                                \
        for (; i + LANES <= n; i += LANES)                                                         \
            for (int l = 0; l < LANES; l++) {                                                      \
                const float v = x[i + l];                                                          \
                lanes[l] += (expression);                                                          \
            }                                                                                      \
        for (; i < n; i++) {                                                                       \
            const float v = x[i];                                                                  \
            sum += (expression);                                                                   \
        }                                                                                          \
        for (int l = 0; l < LANES; l++)                                                            \
            sum += lanes[l];                                                                       \
        return sum;                                                                                \
    }
SUM_OF_ROW(sum_of, v)
SUM_OF_ROW(squares_of, (v - mean) * (v - mean))
SUM_OF_ROW(absolutes_of, v < 0 ? -v : v)

typedef enum row_norm { ROW_LAYER, ROW_RMS, ROW_L1, ROW_L2 } row_norm;

/* What to subtract from a row's elements and what to multiply them with then. */
typedef struct row_factors {
    float mean, factor;
} row_factors;

/* 1 / max(norm, epsilon), and of a row of zeros 0: it stays as it is. */
static inline float inverse_norm(float norm, float epsilon)
{
    norm = norm < epsilon ? epsilon : norm;
    return norm == 0 ? 0 : 1 / norm;
}

WIDE static row_factors factors_of(row_norm kind, int64_t n, const float *x, float epsilon)
{
    row_factors f = {0, 0};
    const float count = n ? (float)n : 1;
    switch (kind) {
    case ROW_LAYER:
        f.mean = sum_of(n, x, 0) / count;
        f.factor = 1 / sqrtf(squares_of(n, x, f.mean) / count + epsilon);
        break;
    case ROW_RMS: f.factor = 1 / sqrtf(squares_of(n, x, 0) / count + epsilon); break;
    case ROW_L1: f.factor = inverse_norm(absolutes_of(n, x, 0), epsilon); break;
    case ROW_L2: f.factor = inverse_norm(sqrtf(squares_of(n, x, 0)), epsilon); break;
    }
    return f;
}

/* y = (x - mean) factor scale + shift, where scale and shift differ from element to element. */
WIDE static void apply_row(int64_t n, const float *x, float *y, row_factors f, const float *scale,
                           const float *shift)
{
    if (!scale && !shift) {
        INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = (x[i] - f.mean) * f.factor;
    } else if (!shift) {
        INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = (x[i] - f.mean) * f.factor * scale[i];
    } else if (!scale) {
        INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = (x[i] - f.mean) * f.factor + shift[i];
    } else {
        INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] =
            (x[i] - f.mean) * f.factor * scale[i] + shift[i];
    }
}

/* The same where they are one number each. */
WIDE static void apply_channel(int64_t n, const float *x, float *y, row_factors f, float scale,
                               float shift)
{
    const float factor = f.factor * scale;
    INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = (x[i] - f.mean) * factor + shift;
}

/* ---------------------------------------------------------------- instance and group norm */

typedef struct group_state {
    int64_t rows, groups, channels, spatial; /* channels of a group */
    float epsilon;
} group_state;

static const float *data_of(const buffer *buffer)
{
    return buffer ? buffer->data : NULL;
}

static pal_status run_groups(const step *step)
{
    const group_state *s = step->state;
    const float *x = step->reads[0]->data;
    const float *scale = data_of(step->reads[1]), *shift = data_of(step->reads[2]);
    float *y = step->writes[0]->data;
    const int64_t count = s->channels * s->spatial;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->rows; row++) {
        const float *from = x + row * count;
        const row_factors f = factors_of(ROW_LAYER, count, from, s->epsilon);
        for (int64_t c = 0; c < s->channels; c++) {
            const int64_t channel = row % s->groups * s->channels + c;
            apply_channel(s->spatial, from + c * s->spatial, y + row * count + c * s->spatial, f,
                          scale ? scale[channel] : 1, shift ? shift[channel] : 0);
        }
    }
    return PAL_OK;
}

static pal_status plan_groups(plan *plan, const graph_node *node, int64_t groups)
{
    const graph_value *x = plan_input(plan, node, 0);
    group_state *s = plan_alloc(plan, sizeof *s);
    if (!s)
        return PAL_ERROR_MEMORY;
    if (groups < 1)
        return fail(PAL_ERROR_FORMAT, "%lld groups", (long long)groups);
    *s = (group_state){.rows = x->shape[0] * groups,
                       .groups = groups,
                       .channels = x->shape[1] / groups,
                       .spatial = 1,
                       .epsilon = node->attributes.norm.epsilon};
    for (size_t i = 2; i < x->rank; i++)
        s->spatial *= x->shape[i];
    return plan_simple(plan, node, "group norm", run_groups, s, NULL);
}

static pal_status forward_instance(plan *plan, const graph_node *node)
{
    return plan_groups(plan, node, plan_input(plan, node, 0)->shape[1]);
}

static pal_status forward_group(plan *plan, const graph_node *node)
{
    return plan_groups(plan, node, node->attributes.norm.groups);
}

/* ---------------------------------------------------------------- norms over axes */

/* A row: the elements that are normalised together. Rows lie together where the axes are the last;
 * else offsets say where each row and each of its elements is. */
typedef struct axes_state {
    row_norm kind;
    float epsilon;
    bool together;
    int64_t rows, count;
    int64_t *row_offset, *element_offset;             /* in x; NULL if together */
    int64_t *parameter_row[2], *parameter_element[2]; /* in scale and shift; NULL: as x's */
    float *gathered;                                  /* a row; NULL if together */
} axes_state;

/* One row that is gathered from its places. */
static void scattered_row(const axes_state *s, int64_t row, const float *x, float *y,
                          const float *const parameters[2], float *gathered, row_factors *f)
{
    const int64_t start = s->row_offset[row];
    for (int64_t i = 0; i < s->count; i++)
        gathered[i] = x[start + s->element_offset[i]];
    *f = factors_of(s->kind, s->count, gathered, s->epsilon);
    for (int64_t i = 0; i < s->count; i++) {
        float v = (gathered[i] - f->mean) * f->factor;
        if (parameters[0])
            v *= parameters[0][s->parameter_row[0][row] + s->parameter_element[0][i]];
        if (parameters[1])
            v += parameters[1][s->parameter_row[1][row] + s->parameter_element[1][i]];
        y[start + s->element_offset[i]] = v;
    }
}

static pal_status run_rows(const step *step)
{
    const axes_state *s = step->state;
    const float *x = step->reads[0]->data;
    const float *const parameters[2] = {data_of(step->reads[1]), data_of(step->reads[2])};
    float *y = step->writes[0]->data;
    float *means = step->writes[1] ? step->writes[1]->data : NULL;
    float *factors = step->writes[2] ? step->writes[2]->data : NULL;
    /* Scattered rows share the room for one: they are rare enough to go without threads. */
#pragma omp parallel for schedule(static) if (s->together)
    for (int64_t row = 0; row < s->rows; row++) {
        row_factors f;
        if (s->together) {
            const float *from = x + row * s->count;
            f = factors_of(s->kind, s->count, from, s->epsilon);
            apply_row(s->count, from, y + row * s->count, f, parameters[0], parameters[1]);
        } else {
            scattered_row(s, row, x, y, parameters, s->gathered, &f);
        }
        if (means)
            means[row] = f.mean;
        if (factors)
            factors[row] = f.factor;
    }
    return PAL_OK;
}

/* For each position of the chosen axes, in row-major order, where it is by these strides. */
static int64_t *list_offsets(plan *plan, const graph_value *x, const bool *chosen, bool which,
                             const int64_t *strides, int64_t count)
{
    int64_t *list = plan_alloc(plan, (size_t)count * sizeof *list);
    for (int64_t i = 0; list && i < count; i++) {
        int64_t rest = i;
        for (size_t d = x->rank; d-- > 0;) {
            if (chosen[d] != which)
                continue;
            list[i] += rest % x->shape[d] * strides[d];
            rest /= x->shape[d];
        }
    }
    return list;
}

static void strides_of(const graph_value *value, size_t rank, int64_t *strides)
{
    int64_t stride = 1;
    for (size_t i = rank; i-- > 0;) {
        const int64_t extent = i + value->rank < rank ? 1 : value->shape[i + value->rank - rank];
        strides[i] = extent == 1 ? 0 : stride;
        stride *= extent;
    }
}

static pal_status find_offsets(plan *plan, const graph_node *node, const graph_value *x,
                               const bool *axes, axes_state *s)
{
    int64_t strides[PAL_MAX_RANK];
    strides_of(x, x->rank, strides);
    s->row_offset = list_offsets(plan, x, axes, false, strides, s->rows);
    s->element_offset = list_offsets(plan, x, axes, true, strides, s->count);
    s->gathered = plan_alloc(plan, (size_t)s->count * sizeof *s->gathered);
    if (!s->row_offset || !s->element_offset || !s->gathered)
        return PAL_ERROR_MEMORY;
    for (size_t i = 0; i < 2; i++) {
        const graph_value *parameter = plan_input(plan, node, 1 + i);
        if (!parameter)
            continue;
        strides_of(parameter, x->rank, strides);
        s->parameter_row[i] = list_offsets(plan, x, axes, false, strides, s->rows);
        s->parameter_element[i] = list_offsets(plan, x, axes, true, strides, s->count);
        if (!s->parameter_row[i] || !s->parameter_element[i])
            return PAL_ERROR_MEMORY;
    }
    return PAL_OK;
}

/* Whether scale and shift are one row for all rows. */
static bool parameters_fit(const plan *plan, const graph_node *node, const graph_value *x,
                           size_t first, int64_t count)
{
    for (size_t i = 1; i < 3; i++) {
        const graph_value *p = plan_input(plan, node, i);
        if (!p)
            continue;
        if (graph_elements(p) != (uint64_t)count || p->rank + first < x->rank)
            return false;
        for (size_t d = first; d < x->rank; d++)
            if (p->shape[d + p->rank - x->rank] != x->shape[d])
                return false;
    }
    return true;
}

static pal_status plan_rows(plan *plan, const graph_node *node, row_norm kind)
{
    const graph_value *x = plan_input(plan, node, 0);
    bool axes[PAL_MAX_RANK];
    axes_state *s = plan_alloc(plan, sizeof *s);
    if (!s)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_norm_axes(node, x->rank, axes);
    if (status)
        return status;
    *s =
        (axes_state){.kind = kind, .epsilon = node->attributes.norm.epsilon, .rows = 1, .count = 1};
    size_t first = x->rank;
    s->together = true;
    for (size_t d = x->rank; d-- > 0;) {
        if (axes[d]) {
            s->together = s->together && d + 1 == first;
            first = d;
        }
        *(axes[d] ? &s->count : &s->rows) *= x->shape[d];
    }
    s->together = s->together && parameters_fit(plan, node, x, first, s->count);
    if (!s->together && graph_elements(x))
        status = find_offsets(plan, node, x, axes, s);
    return status ? status : plan_simple(plan, node, "row norm", run_rows, s, NULL);
}

static pal_status forward_layer(plan *plan, const graph_node *node)
{
    return plan_rows(plan, node, ROW_LAYER);
}

static pal_status forward_rms(plan *plan, const graph_node *node)
{
    return plan_rows(plan, node, ROW_RMS);
}

static pal_status forward_lp(plan *plan, const graph_node *node)
{
    return plan_rows(plan, node, node->attributes.norm.p == 1 ? ROW_L1 : ROW_L2);
}

/* ---------------------------------------------------------------- local response */

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

static pal_status forward_lrn(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    lrn_state *s = plan_alloc(plan, sizeof *s);
    if (!s)
        return PAL_ERROR_MEMORY;
    *s = (lrn_state){.batch = x->shape[0],
                     .channels = x->shape[1],
                     .spatial = 1,
                     .size = node->attributes.lrn.size,
                     .alpha = node->attributes.lrn.alpha,
                     .beta = node->attributes.lrn.beta,
                     .bias = node->attributes.lrn.bias};
    for (size_t i = 2; i < x->rank; i++)
        s->spatial *= x->shape[i];
    return plan_simple(plan, node, "local response norm", run_lrn, s, NULL);
}

const op_kernel kernel_batch_norm = {forward_batch, batch_norm_back};
const op_kernel kernel_instance_norm = {.forward = forward_instance};
const op_kernel kernel_group_norm = {.forward = forward_group};
const op_kernel kernel_layer_norm = {.forward = forward_layer};
const op_kernel kernel_rms_norm = {.forward = forward_rms};
const op_kernel kernel_lp_norm = {.forward = forward_lp};
const op_kernel kernel_lrn = {.forward = forward_lrn};
