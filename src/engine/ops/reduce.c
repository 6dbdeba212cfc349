/* Reductions over any set of axes, and the place of the largest or smallest along one.
 *
 * The axes are brought into one of two forms. Where the reduced axes are innermost, each result is
 * the reduction of a contiguous row. Otherwise the innermost kept axis is contiguous: rows are
 * combined element by element, which vectorises as well. Sums of floats are taken in blocks, so
 * that their error grows with the logarithm of the length and not with the length. */
#include <math.h>
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"
#include "engine/ops/walk.h"
#include "graph/infer.h"

#define PARALLEL_ELEMENTS 32768

typedef struct reduction {
    reduce_kind kind;
    walk outer;    /* kept axes: where each result's elements begin; its last axis may be a row */
    walk inner;    /* reduced axes, from there */
    bool by_rows;  /* the last kept axis is contiguous in the source */
    int64_t count; /* elements for each result */
} reduction;

/* ---------------------------------------------------------------- floats */

static float finish(reduce_kind kind, double sum, int64_t count)
{
    switch (kind) {
    case REDUCE_MEAN: return (float)(sum / (double)count);
    case REDUCE_L2: return (float)sqrt(sum);
    case REDUCE_LOG_SUM: return (float)log(sum);
    default: return (float)sum;
    }
}

static int64_t offset_of(const walk *walk, int64_t i)
{
    int64_t offset = walk->start;
    for (size_t d = walk->rank; d-- > 0;) {
        offset += i % walk->extent[d] * walk->stride[d];
        i /= walk->extent[d];
    }
    return offset;
}

static float term(reduce_kind kind, float x)
{
    return kind == REDUCE_L1                                ? fabsf(x)
           : kind == REDUCE_L2 || kind == REDUCE_SUM_SQUARE ? x * x
                                                            : x;
}

/* A contiguous run: eight sums side by side, over at most 1,024 elements before they are added up
 * in double. */
static double sum_run(reduce_kind kind, const float *x, int64_t count)
{
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += 1024) {
        const int64_t n = count - begin < 1024 ? count - begin : 1024;
        float lanes[8] = {0};
        int64_t i = 0;
        for (; i + 8 <= n; i += 8)
            for (int l = 0; l < 8; l++)
                lanes[l] += term(kind, x[begin + i + l]);
        for (; i < n; i++)
            lanes[0] += term(kind, x[begin + i]);
        total += ((double)lanes[0] + lanes[1] + lanes[2] + lanes[3]) +
                 ((double)lanes[4] + lanes[5] + lanes[6] + lanes[7]);
    }
    return total;
}

/* fmaxf() would lose a NaN. */
static float larger(float a, float b)
{
    return a > b || a != a ? a : b;
}

static float smaller(float a, float b)
{
    return a < b || a != a ? a : b;
}

static float reduce_floats(const reduction *it, const float *x)
{
    const walk *inner = &it->inner;
    const int64_t length = inner->extent[inner->rank - 1], stride = inner->stride[inner->rank - 1];
    const int64_t rows = length ? it->count / length : 0;
    double total = it->kind == REDUCE_PRODUCT ? 1 : 0;
    float extreme = it->kind == REDUCE_MIN ? INFINITY : -INFINITY;
    walk above = *inner; /* its rows */
    above.rank--;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + offset_of(&above, r);
        switch (it->kind) {
        case REDUCE_MAX:
        case REDUCE_LOG_SUM_EXP:
            for (int64_t i = 0; i < length; i++)
                extreme = larger(extreme, row[i * stride]);
            break;
        case REDUCE_MIN:
            for (int64_t i = 0; i < length; i++)
                extreme = smaller(extreme, row[i * stride]);
            break;
        case REDUCE_PRODUCT:
            for (int64_t i = 0; i < length; i++)
                total *= row[i * stride];
            break;
        default:
            if (stride == 1)
                total += sum_run(it->kind, row, length);
            else
                for (int64_t i = 0; i < length; i++)
                    total += term(it->kind, row[i * stride]);
        }
    }
    if (it->kind == REDUCE_MAX || it->kind == REDUCE_MIN)
        return extreme;
    if (it->kind != REDUCE_LOG_SUM_EXP)
        return finish(it->kind, total, it->count);
    if (isinf(extreme))
        return extreme;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + offset_of(&above, r);
        for (int64_t i = 0; i < length; i++)
            total += exp((double)row[i * stride] - extreme);
    }
    return (float)(extreme + log(total));
}

/* Sums and means where the kept axis is contiguous: rows added to rows, in double. */
static void reduce_rows(const reduction *it, const float *x, float *y, int64_t width)
{
    enum { STRIP = 256 };
    double sums[STRIP];
    for (int64_t begin = 0; begin < width; begin += STRIP) {
        const int64_t n = width - begin < STRIP ? width - begin : STRIP;
        for (int64_t i = 0; i < n; i++)
            sums[i] = 0;
        for (int64_t r = 0; r < it->count; r++) {
            const float *row = x + offset_of(&it->inner, r) + begin;
            for (int64_t i = 0; i < n; i++)
                sums[i] += term(it->kind, row[i]);
        }
        for (int64_t i = 0; i < n; i++)
            y[begin + i] = finish(it->kind, sums[i], it->count);
    }
}

static bool is_sum(reduce_kind kind)
{
    return kind == REDUCE_SUM || kind == REDUCE_MEAN || kind == REDUCE_L1 || kind == REDUCE_L2 ||
           kind == REDUCE_SUM_SQUARE || kind == REDUCE_LOG_SUM;
}

/* ---------------------------------------------------------------- integers and booleans */

static int64_t reduce_ints(const reduction *it, const buffer *x, int64_t start)
{
    const bool booleans = x->type == GRAPH_BOOL;
    uint64_t total = it->kind == REDUCE_PRODUCT ? 1 : 0;
    int64_t extreme = it->kind == REDUCE_MIN ? INT64_MAX : INT64_MIN;
    double sum = 0;
    if (booleans)
        extreme = it->kind == REDUCE_MIN;
    for (int64_t i = 0; i < it->count; i++) {
        const int64_t at = start + offset_of(&it->inner, i);
        const int64_t v =
            booleans ? ((const uint8_t *)x->data)[at] : ((const int64_t *)x->data)[at];
        extreme = it->kind == REDUCE_MIN ? (v < extreme ? v : extreme) : v > extreme ? v : extreme;
        sum += it->kind == REDUCE_L2            ? (double)v * (double)v
               : it->kind == REDUCE_LOG_SUM_EXP ? exp((double)v)
                                                : (double)v;
        if (it->kind == REDUCE_PRODUCT)
            total *= (uint64_t)v;
        else if (it->kind == REDUCE_SUM_SQUARE)
            total += (uint64_t)v * (uint64_t)v;
        else if (it->kind == REDUCE_L1)
            total += v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
        else
            total += (uint64_t)v;
    }
    switch (it->kind) {
    case REDUCE_MAX:
    case REDUCE_MIN: return extreme;
    case REDUCE_MEAN: /* towards zero */ return it->count ? (int64_t)total / it->count : 0;
    case REDUCE_L2: return (int64_t)sqrt(sum);
    case REDUCE_LOG_SUM:
    case REDUCE_LOG_SUM_EXP: return (int64_t)log(sum);
    default: return (int64_t)total;
    }
}

/* ---------------------------------------------------------------- the step */

static pal_status run(const step *step)
{
    const reduction *it = step->state;
    const buffer *x = step->reads[0], *y = step->writes[0];
    const int64_t results = (int64_t)y->elements;
    const bool wide = results * it->count > PARALLEL_ELEMENTS;
    (void)wide; /* without OpenMP */
    if (x->type != GRAPH_FLOAT) {
#pragma omp parallel for schedule(static) if (wide)
        for (int64_t i = 0; i < results; i++) {
            const int64_t value = reduce_ints(it, x, offset_of(&it->outer, i));
            if (x->type == GRAPH_BOOL)
                ((uint8_t *)y->data)[i] = value != 0;
            else
                ((int64_t *)y->data)[i] = value;
        }
        return PAL_OK;
    }
    const float *from = x->data;
    float *to = y->data;
    if (it->by_rows) {
        const int64_t width = it->outer.extent[it->outer.rank - 1];
        const int64_t rows = width ? results / width : 0;
        /* Strips of rows, so that one wide row is shared by threads too. */
        const int64_t strips = (width + 255) / 256;
#pragma omp parallel for schedule(static) if (wide)
        for (int64_t job = 0; job < rows * strips; job++) {
            const int64_t r = job / strips, begin = job % strips * 256;
            const int64_t n = width - begin < 256 ? width - begin : 256;
            reduce_rows(it, from + offset_of(&it->outer, r * width) + begin, to + r * width + begin,
                        n);
        }
        return PAL_OK;
    }
#pragma omp parallel for schedule(static) if (wide)
    for (int64_t i = 0; i < results; i++)
        to[i] = reduce_floats(it, from + offset_of(&it->outer, i));
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    const graph_value *axes = plan_input(plan, node, 1);
    bool flags[PAL_MAX_RANK] = {0}, any = false;
    int64_t own[PAL_MAX_RANK], extents[2][PAL_MAX_RANK], strides[2][PAL_MAX_RANK];
    size_t ranks[2] = {0, 0};
    reduction *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axes(node, axes, x->rank, flags);
    if (status)
        return status;
    for (size_t d = 0; d < x->rank; d++)
        any = any || flags[d];
    const bool none = !any && node->attributes.reduce.empty_is_none;
    row_major_strides(x->rank, x->shape, own);
    for (size_t d = 0; d < x->rank; d++) {
        const int which = (flags[d] || !any) && !none; /* 1: reduced */
        extents[which][ranks[which]] = x->shape[d];
        strides[which][ranks[which]++] = own[d];
    }
    it->kind = node->attributes.reduce.kind;
    it->outer = walk_new(ranks[0], extents[0], strides[0], 0);
    it->inner = walk_new(ranks[1], extents[1], strides[1], 0);
    it->count = 1;
    for (size_t d = 0; d < ranks[1]; d++)
        it->count *= extents[1][d];
    it->by_rows = is_sum(it->kind) && ranks[0] && it->outer.stride[it->outer.rank - 1] == 1 &&
                  it->outer.extent[it->outer.rank - 1] > 4;
    buffer *from, *to;
    status = plan_buffer_in(plan, node->inputs[0], NULL, &from);
    if (!status)
        status = plan_new_buffer(plan, node->outputs[0], NULL, &to);
    if (status)
        return status;
    step *step = plan_add_step(plan, node, "reduce", run, it, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->reads[0] = from;
    step->writes[0] = to;
    return PAL_OK;
}

/* ---------------------------------------------------------------- the way back */

/* dx = dy times the derivative of the reduction, which may need x and y, and of some what the
 * elements behind a result have in common: how many are its extreme, which share its gradient, or
 * are zero, and the product of the others. */
typedef struct reduction_back {
    reduce_kind kind;
    size_t rank;
    int64_t extent[PAL_MAX_RANK], stride[PAL_MAX_RANK]; /* of x; through y */
    int64_t results;
    float count;
} reduction_back;

typedef struct in_common {
    float *count, *product; /* by result; NULL where the kind asks for neither */
} in_common;

static bool has_in_common(reduce_kind kind)
{
    return kind == REDUCE_MAX || kind == REDUCE_MIN || kind == REDUCE_PRODUCT;
}

/* By a factor: the product of the others. */
static float slope_of_product(float x, float zeros, float product)
{
    if (zeros == 0)
        return product / x;
    return x == 0 && zeros == 1 ? product : 0;
}

static float slope_of(const reduction_back *it, const in_common *common, int64_t at, float x,
                      float y)
{
    switch (it->kind) {
    case REDUCE_MEAN: return 1 / it->count;
    case REDUCE_MAX:
    case REDUCE_MIN: return x == y ? 1 / common->count[at] : 0;
    case REDUCE_PRODUCT: return slope_of_product(x, common->count[at], common->product[at]);
    case REDUCE_L1: return (float)((x > 0) - (x < 0));
    case REDUCE_L2: return y == 0 ? 0 : x / y;
    case REDUCE_SUM_SQUARE: return 2 * x;
    case REDUCE_LOG_SUM: return expf(-y);
    case REDUCE_LOG_SUM_EXP: return expf(x - y);
    default: return 1;
    }
}

/* Where the result of a row's elements begins. */
static int64_t result_of_row(const reduction_back *it, int64_t row)
{
    int64_t at = 0;
    for (size_t d = it->rank - 1; d-- > 0;) {
        at += row % it->extent[d] * it->stride[d];
        row /= it->extent[d];
    }
    return at;
}

static void find_in_common(const reduction_back *it, int64_t rows, const float *x, const float *y,
                           const in_common *to)
{
    const int64_t length = it->extent[it->rank - 1], stride = it->stride[it->rank - 1];
    for (int64_t i = 0; i < it->results; i++) {
        to->count[i] = 0;
        to->product[i] = 1;
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = result_of_row(it, r);
        for (int64_t i = 0; i < length; i++, x++) {
            const int64_t of = at + i * stride;
            to->count[of] += it->kind == REDUCE_PRODUCT ? *x == 0 : *x == y[of];
            to->product[of] *= it->kind == REDUCE_PRODUCT && *x != 0 ? *x : 1;
        }
    }
}

static pal_status run_back(const step *step)
{
    const reduction_back *it = step->state;
    const float *dy = step->reads[0]->data, *x = step->reads[1]->data, *y = step->reads[2]->data;
    float *dx = step->writes[0]->data;
    const int64_t length = it->extent[it->rank - 1], stride = it->stride[it->rank - 1];
    in_common common = {0};
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < it->rank; d++)
        rows *= it->extent[d];
    if (step->scratch) {
        common.count = step->scratch->data;
        common.product = common.count + it->results;
        find_in_common(it, rows, x, y, &common);
    }
#pragma omp parallel for schedule(static) if (rows * length > PARALLEL_ELEMENTS)
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = result_of_row(it, r);
        for (int64_t i = 0; i < length; i++) {
            const int64_t from = at + i * stride;
            dx[r * length + i] = dy[from] * slope_of(it, &common, from, x[r * length + i], y[from]);
        }
    }
    return PAL_OK;
}

static pal_status backward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0), *y = plan_output(plan, node, 0);
    bool flags[PAL_MAX_RANK], any = false;
    int64_t stride = 1;
    buffer *reads[3], *share, *scratch = NULL;
    reduction_back *it = plan_alloc(plan, sizeof *it);
    pal_status status =
        it ? resolve_axes(node, plan_input(plan, node, 1), x->rank, flags) : PAL_ERROR_MEMORY;
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &reads[0]);
    if (!status)
        status = plan_buffer_in(plan, node->inputs[0], NULL, &reads[1]);
    if (!status)
        status = plan_buffer_in(plan, node->outputs[0], NULL, &reads[2]);
    if (status)
        return status;
    for (size_t d = 0; d < x->rank; d++)
        any = any || flags[d];
    *it = (reduction_back){
        .kind = node->attributes.reduce.kind,
        .rank = x->rank ? x->rank : 1,
        .extent = {1},
        .results = (int64_t)graph_elements(y),
        .count = graph_elements(y) ? (float)(graph_elements(x) / graph_elements(y)) : 1};
    for (size_t d = x->rank; d-- > 0;) {
        const bool reduced = any ? flags[d] : !node->attributes.reduce.empty_is_none;
        it->extent[d] = x->shape[d];
        it->stride[d] = reduced ? 0 : stride;
        stride *= reduced ? 1 : x->shape[d];
    }
    if (has_in_common(it->kind))
        status = plan_new_temporary(plan, GRAPH_FLOAT, 1, &(int64_t){2 * it->results}, NULL, 0,
                                    &scratch);
    if (!status)
        status = back_step(plan, node, "gradient of a reduction", run_back, it, NULL, x, reads, 3,
                           &share);
    if (status)
        return status;
    plan_last_step(plan)->scratch = scratch;
    return plan_add_gradient(plan, node->inputs[0], share);
}

const op_kernel kernel_reduce = {forward, backward};

/* ---------------------------------------------------------------- the place of the extreme */

typedef struct argmax {
    int64_t outer, extent, inner;
    bool minimum, last;
} argmax;

#define FIND(type)                                                                                 \
    {                                                                                              \
        const type *x = (const type *)step->reads[0]->data + o * it->extent * it->inner + i;       \
        for (int64_t e = 1; e < it->extent; e++) {                                                 \
            const type value = x[e * it->inner], kept = x[best * it->inner];                       \
            const bool better = it->minimum ? value < kept : value > kept;                         \
            if (better || (it->last && value == kept))                                             \
                best = e;                                                                          \
        }                                                                                          \
        break;                                                                                     \
    }

static pal_status run_argmax(const step *step)
{
    const argmax *it = step->state;
    int64_t *to = step->writes[0]->data;
    for (int64_t o = 0; o < it->outer; o++)
        for (int64_t i = 0; i < it->inner; i++) {
            int64_t best = 0;
            switch (step->reads[0]->type) {
            case GRAPH_FLOAT: FIND(float)
            case GRAPH_INT: FIND(int64_t)
            case GRAPH_BOOL: FIND(uint8_t)
            }
            to[o * it->inner + i] = best;
        }
    return PAL_OK;
}

static pal_status argmax_forward(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    size_t axis;
    argmax *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    pal_status status = resolve_axis(node, node->attributes.argmax.axis, x->rank, &axis);
    if (status)
        return status;
    *it = (argmax){1, x->shape[axis], 1, node->attributes.argmax.minimum,
                   node->attributes.argmax.last};
    for (size_t d = 0; d < x->rank; d++) {
        if (d < axis)
            it->outer *= x->shape[d];
        else if (d > axis)
            it->inner *= x->shape[d];
    }
    return plan_simple(plan, node, "argmax", run_argmax, it, NULL);
}

const op_kernel kernel_argmax = {argmax_forward, NULL};
