/* Normalisation for inference: batch norm by oneDNN, in any layout; the others by rows of a
 * row-major tensor. */
#include <math.h>
#include <string.h>

#include "engine/ops/back.h"
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

static pal_status describe_groups(plan *plan, const graph_node *node, int64_t groups,
                                  group_state **out)
{
    const graph_value *x = plan_input(plan, node, 0);
    group_state *s = *out = plan_alloc(plan, sizeof *s);
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
    return PAL_OK;
}

static pal_status plan_groups(plan *plan, const graph_node *node, int64_t groups)
{
    group_state *s;
    pal_status status = describe_groups(plan, node, groups, &s);
    return status ? status : plan_simple(plan, node, "group norm", run_groups, s, NULL);
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

static pal_status describe_rows(plan *plan, const graph_node *node, row_norm kind, axes_state **out)
{
    const graph_value *x = plan_input(plan, node, 0);
    bool axes[PAL_MAX_RANK];
    axes_state *s = *out = plan_alloc(plan, sizeof *s);
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
    return status;
}

static pal_status plan_rows(plan *plan, const graph_node *node, row_norm kind)
{
    axes_state *s;
    pal_status status = describe_rows(plan, node, kind, &s);
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

/* ---------------------------------------------------------------- the way back */

/* Of a row with the elements x, y = xhat scale + shift, xhat = (x - mean) factor, and g = dy scale:
 *
 *   dx = factor (g - a - xhat b), where for a layer norm a = mean g and b = mean g xhat, for the
 *   RMS a = 0, for the L2 norm b = sum g xhat, and for the L1 norm, with b = sum g xhat, the sign
 *   of x stands in the place of the last xhat
 *
 * unless the norm was so small that it was replaced: then dx = factor g. The gradient of scale is
 * made of dy xhat. */
typedef struct row_back {
    row_norm kind;
    row_factors f;
    float a, b;
} row_back;

/* Sums of g and g xhat over n elements; scale is one number if `scales` is NULL. */
WIDE static void back_row_sums(int64_t n, const float *x, const float *dy, const float *scales,
                               float scale, row_factors f, double sums[2])
{
    float g_lanes[LANES] = {0}, x_lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float g = dy[i + l] * (scales ? scales[i + l] : scale);
            g_lanes[l] += g;
            x_lanes[l] += g * ((x[i + l] - f.mean) * f.factor);
        }
    for (; i < n; i++) {
        const float g = dy[i] * (scales ? scales[i] : scale);
        sums[0] += (double)g;
        sums[1] += (double)(g * ((x[i] - f.mean) * f.factor));
    }
    for (int l = 0; l < LANES; l++) {
        sums[0] += (double)g_lanes[l];
        sums[1] += (double)x_lanes[l];
    }
}

static row_back row_back_of(row_norm kind, row_factors f, float epsilon, int64_t n,
                            const double sums[2])
{
    row_back r = {kind, f, 0, 0};
    if (kind == ROW_LAYER)
        r.a = (float)(sums[0] / (double)n);
    if (kind == ROW_LAYER || kind == ROW_RMS)
        r.b = (float)(sums[1] / (double)n);
    else if (f.factor * epsilon < 1)
        r.b = (float)sums[1];
    return r;
}

/* dx and dy xhat; either may be NULL. */
WIDE static void back_row(int64_t n, const float *x, const float *dy, const float *scales,
                          float scale, row_back r, float *dx, float *products)
{
    for (int64_t i = 0; i < n; i++) {
        const float xhat = (x[i] - r.f.mean) * r.f.factor;
        const float g = dy[i] * (scales ? scales[i] : scale);
        const float along = r.kind == ROW_L1 ? (float)((x[i] > 0) - (x[i] < 0)) : xhat;
        if (dx)
            dx[i] = r.f.factor * (g - r.a - along * r.b);
        if (products)
            products[i] = dy[i] * xhat;
    }
}

enum { BACK_G, BACK_X, BACK_SCALE }; /* reads */

static float *rest_of(const buffer *buffer, int64_t at)
{
    return buffer ? (float *)buffer->data + at : NULL;
}

static pal_status run_groups_back(const step *step)
{
    const group_state *s = step->state;
    const float *scale = data_of(step->reads[BACK_SCALE]);
    const int64_t count = s->channels * s->spatial;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->rows; row++) {
        const float *x = rest_of(step->reads[BACK_X], row * count);
        const float *dy = rest_of(step->reads[BACK_G], row * count);
        const row_factors f = factors_of(ROW_LAYER, count, x, s->epsilon);
        const int64_t first = row % s->groups * s->channels;
        double sums[2] = {0, 0};
        for (int64_t c = 0; c < s->channels; c++)
            back_row_sums(s->spatial, x + c * s->spatial, dy + c * s->spatial, NULL,
                          scale ? scale[first + c] : 1, f, sums);
        const row_back r = row_back_of(ROW_LAYER, f, s->epsilon, count, sums);
        for (int64_t c = 0; c < s->channels; c++)
            back_row(s->spatial, x + c * s->spatial, dy + c * s->spatial, NULL,
                     scale ? scale[first + c] : 1, r,
                     rest_of(step->writes[0], row * count + c * s->spatial),
                     rest_of(step->writes[1], row * count + c * s->spatial));
    }
    return PAL_OK;
}

/* Rows that lie together, with one row of scales. */
static pal_status run_rows_back(const step *step)
{
    const axes_state *s = step->state;
    const float *scale = data_of(step->reads[BACK_SCALE]);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->rows; row++) {
        const float *x = rest_of(step->reads[BACK_X], row * s->count);
        const float *dy = rest_of(step->reads[BACK_G], row * s->count);
        const row_factors f = factors_of(s->kind, s->count, x, s->epsilon);
        double sums[2] = {0, 0};
        back_row_sums(s->count, x, dy, scale, 1, f, sums);
        back_row(s->count, x, dy, scale, 1, row_back_of(s->kind, f, s->epsilon, s->count, sums),
                 rest_of(step->writes[0], row * s->count),
                 rest_of(step->writes[1], row * s->count));
    }
    return PAL_OK;
}

/* Rows that are gathered, each with scales of its own: into the room for five. */
static pal_status run_scattered_back(const step *step)
{
    const axes_state *s = step->state;
    const float *all_x = step->reads[BACK_X]->data, *all_dy = step->reads[BACK_G]->data;
    const float *scale = data_of(step->reads[BACK_SCALE]);
    const int64_t n = s->count;
    float *x = step->scratch->data, *dy = x + n, *scales = dy + n, *dx = scales + n;
    float *products = dx + n;
    for (int64_t row = 0; row < s->rows; row++) {
        const int64_t start = s->row_offset[row];
        for (int64_t i = 0; i < n; i++) {
            x[i] = all_x[start + s->element_offset[i]];
            dy[i] = all_dy[start + s->element_offset[i]];
            scales[i] = scale ? scale[s->parameter_row[0][row] + s->parameter_element[0][i]] : 1;
        }
        const row_factors f = factors_of(s->kind, n, x, s->epsilon);
        double sums[2] = {0, 0};
        back_row_sums(n, x, dy, scales, 1, f, sums);
        back_row(n, x, dy, scales, 1, row_back_of(s->kind, f, s->epsilon, n, sums), dx, products);
        for (int64_t i = 0; i < n; i++) {
            if (step->writes[0])
                ((float *)step->writes[0]->data)[start + s->element_offset[i]] = dx[i];
            if (step->writes[1])
                ((float *)step->writes[1]->data)[start + s->element_offset[i]] = products[i];
        }
    }
    return PAL_OK;
}

/* The step for x and for the products that are summed to the scale's gradient; shift's is the sum
 * of dy. Scale and shift broadcast with `behind` dimensions after theirs. */
static pal_status plan_norm_back(plan *plan, const graph_node *node, void *state,
                                 pal_status (*run)(const step *), size_t behind, int64_t room)
{
    const graph_value *x = plan_input(plan, node, 0);
    const size_t scale = node->input_count > 1 ? node->inputs[1] : GRAPH_NONE;
    const size_t shift = node->input_count > 2 ? node->inputs[2] : GRAPH_NONE;
    buffer *reads[3] = {NULL}, *writes[2] = {NULL}, *scratch = NULL;
    for (size_t i = 1; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE && plan_reaches(plan, node->outputs[i]))
            return fail(PAL_ERROR_UNSUPPORTED, "its statistics have no gradient");
    pal_status status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[BACK_G]);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &reads[BACK_X]);
    if (!status && scale != GRAPH_NONE)
        status = plan_buffer_in(plan, scale, NULL, &reads[BACK_SCALE]);
    for (size_t i = 0; !status && i < 2; i++)
        if (plan_wants_gradient(plan, i ? scale : node->inputs[0]))
            status = plan_new_temporary(plan, GRAPH_FLOAT, x->rank, x->shape, NULL, 0, &writes[i]);
    if (!status && room)
        status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &room, NULL, 0, &scratch);
    if (!status && (writes[0] || writes[1]) && graph_elements(x)) {
        step *step = plan_add_step(plan, node, "norm's gradients", run, state, NULL);
        if (!step)
            return PAL_ERROR_MEMORY;
        memcpy(step->reads, reads, sizeof reads);
        memcpy(step->writes, writes, sizeof writes);
        step->scratch = scratch;
    }
    if (!status && writes[0])
        status = plan_add_gradient(plan, node->inputs[0], writes[0]);
    if (!status && writes[1])
        status = back_reduced(plan, node, scale, behind, writes[1]);
    if (!status && plan_wants_gradient(plan, shift))
        status = back_reduced(plan, node, shift, behind, reads[BACK_G]);
    return status;
}

static pal_status back_groups(plan *plan, const graph_node *node, int64_t groups)
{
    group_state *s;
    pal_status status = describe_groups(plan, node, groups, &s);
    return status ? status
                  : plan_norm_back(plan, node, s, run_groups_back,
                                   plan_input(plan, node, 0)->rank - 2, 0);
}

static pal_status backward_instance(plan *plan, const graph_node *node)
{
    return back_groups(plan, node, plan_input(plan, node, 0)->shape[1]);
}

static pal_status backward_group(plan *plan, const graph_node *node)
{
    return back_groups(plan, node, node->attributes.norm.groups);
}

static pal_status back_rows(plan *plan, const graph_node *node, row_norm kind)
{
    axes_state *s;
    pal_status status = describe_rows(plan, node, kind, &s);
    if (status)
        return status;
    return plan_norm_back(plan, node, s, s->together ? run_rows_back : run_scattered_back, 0,
                          s->together ? 0 : 5 * s->count);
}

static pal_status backward_layer(plan *plan, const graph_node *node)
{
    return back_rows(plan, node, ROW_LAYER);
}

static pal_status backward_rms(plan *plan, const graph_node *node)
{
    return back_rows(plan, node, ROW_RMS);
}

static pal_status backward_lp(plan *plan, const graph_node *node)
{
    return back_rows(plan, node, node->attributes.norm.p == 1 ? ROW_L1 : ROW_L2);
}

const op_kernel kernel_batch_norm = {forward_batch, batch_norm_back};
const op_kernel kernel_instance_norm = {forward_instance, backward_instance};
const op_kernel kernel_group_norm = {forward_group, backward_group};
const op_kernel kernel_layer_norm = {forward_layer, backward_layer};
const op_kernel kernel_rms_norm = {forward_rms, backward_rms};
const op_kernel kernel_lp_norm = {forward_lp, backward_lp};
