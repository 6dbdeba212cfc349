/* Products of matrices, with leading dimensions that broadcast. */
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/compute.h"
#include "engine/ops/slopes.h"
#include "graph/infer.h"

/* An operand as [batch..., rows, columns] with strides that undo its transposition. */
typedef struct operand {
    size_t batches;
    int64_t batch[PAL_MAX_RANK];
    int64_t rows, columns, row_stride, column_stride;
} operand;

static operand operand_of(const graph_value *value, bool transposed, bool left)
{
    operand o = {0};
    if (value->rank == 1) {
        const int64_t n = value->shape[0];
        return left ? (operand){.rows = 1, .columns = n, .row_stride = n, .column_stride = 1}
                    : (operand){.rows = n, .columns = 1, .row_stride = 1, .column_stride = 1};
    }
    o.batches = value->rank - 2;
    memcpy(o.batch, value->shape, o.batches * sizeof *o.batch);
    const int64_t r = value->shape[value->rank - 2], c = value->shape[value->rank - 1];
    if (transposed) {
        o.rows = c, o.columns = r;
        o.row_stride = 1, o.column_stride = c;
    } else {
        o.rows = r, o.columns = c;
        o.row_stride = c, o.column_stride = 1;
    }
    return o;
}

static int64_t batch_count(const operand *o)
{
    int64_t count = 1;
    for (size_t i = 0; i < o->batches; i++)
        count *= o->batch[i];
    return count;
}

/* Leading dimensions of both, of the same number (ones are put before the fewer), where neighbours
 * that both have in full, or that one of them broadcasts in full, become one. */
static size_t merge_batches(operand *a, operand *b)
{
    const size_t n = a->batches > b->batches ? a->batches : b->batches;
    int64_t x[PAL_MAX_RANK], y[PAL_MAX_RANK];
    size_t count = 0;
    int before = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t p = i + a->batches < n ? 1 : a->batch[i + a->batches - n];
        const int64_t q = i + b->batches < n ? 1 : b->batch[i + b->batches - n];
        if (p == 1 && q == 1)
            continue;
        const int kind = p == q ? 1 : p == 1 ? 2 : 3;
        if (kind == before) {
            x[count - 1] *= p;
            y[count - 1] *= q;
        } else {
            x[count] = p;
            y[count++] = q;
        }
        before = kind;
    }
    memcpy(a->batch, x, count * sizeof *x);
    memcpy(b->batch, y, count * sizeof *y);
    a->batches = b->batches = count;
    return count;
}

static onednn_tensor tensor_of(const operand *o)
{
    onednn_tensor tensor = {.rank = o->batches + 2, .form = ONEDNN_STRIDED};
    const bool vector = o->rows == 1 || o->columns == 1; /* the same either way round */
    int64_t stride = o->rows * o->columns;
    memcpy(tensor.shape, o->batch, o->batches * sizeof *o->batch);
    for (size_t i = o->batches; i-- > 0;) {
        tensor.strides[i] = stride;
        stride *= o->batch[i];
    }
    tensor.shape[o->batches] = o->rows;
    tensor.shape[o->batches + 1] = o->columns;
    tensor.strides[o->batches] = vector ? o->columns : o->row_stride;
    tensor.strides[o->batches + 1] = vector ? 1 : o->column_stride;
    return tensor;
}

typedef struct product {
    onednn_tensor a, b, bias, c;
    layout *stored_b; /* how b lies in the graph's tensor; NULL: row-major */
    layout *windows;  /* the same of b as windows of one pixel, [N,K,1,1] */
    bool has_bias;
    bool packed; /* b never changes, and a is row-major: oneDNN may have a form of b's own */
} product;

static pal_status make(const void *description, const onednn_posts *posts, onednn_primitive **out)
{
    const product *p = description;
    onednn_primitive *packed;
    pal_status status =
        onednn_matmul_new(&p->a, &p->b, p->has_bias ? &p->bias : NULL, &p->c, posts, out);
    if (status || !p->packed || strncmp(onednn_implementation(*out), "gemm", 4) != 0)
        return status;
    /* oneDNN's general product would pack b at each run. */
    if (!onednn_product_new(p->c.shape[0], p->b.shape[0], p->c.shape[1], p->has_bias, posts,
                            &packed)) {
        onednn_primitive_free(*out);
        *out = packed;
    }
    return PAL_OK;
}

static pal_status give(plan *plan, const graph_node *node, const void *description,
                       const onednn_primitive *primitive, buffer *roles[ONEDNN_ROLE_COUNT])
{
    const product *p = description;
    pal_status status = plan_buffer_in(plan, node->inputs[0], NULL, &roles[ONEDNN_SRC]);
    if (!status && p->b.form == ONEDNN_ANY)
        status = plan_buffer_as(plan, node->inputs[1],
                                onednn_is_product(primitive) ? p->windows : p->stored_b,
                                onednn_layout(primitive, ONEDNN_WEIGHTS), &roles[ONEDNN_WEIGHTS]);
    else if (!status)
        status = plan_buffer_in(plan, node->inputs[1], NULL, &roles[ONEDNN_WEIGHTS]);
    if (!status && p->has_bias)
        status = plan_buffer_in(plan, node->inputs[2], NULL, &roles[ONEDNN_BIAS]);
    return status;
}

/* Whether a bias differs along the result's columns only. */
static bool bias_of_columns(const graph_value *bias, int64_t columns)
{
    return bias->rank > 0 && bias->shape[bias->rank - 1] == columns &&
           graph_elements(bias) == (uint64_t)columns;
}

/* A product of nothing, or of matrices without columns and rows between them. */
static pal_status run_zero(const step *step)
{
    memset(step->writes[0]->data, 0, step->writes[0]->bytes);
    return PAL_OK;
}

static pal_status plan_empty(plan *plan, const graph_node *node, const graph_value *bias)
{
    buffer *y;
    pal_status status = plan_new_buffer(plan, node->outputs[0], NULL, &y);
    if (status || y->elements == 0)
        return status;
    step *step = plan_add_step(plan, node, "zero", run_zero, NULL, NULL);
    if (!step)
        return PAL_ERROR_MEMORY;
    step->writes[0] = y;
    if (bias)
        status = add_step(plan, node, node->inputs[2], y);
    return status ? status : post_steps(plan, node, node->posts, node->post_count, y);
}

/* alpha, and a bias that oneDNN's own does not express, become post-operations before the others.
 * Returns how many there are. */
static size_t all_posts(const graph_node *node, bool scaled, bool biased,
                        graph_post posts[ONEDNN_MAX_POSTS])
{
    size_t count = 0;
    if (scaled)
        posts[count++] = (graph_post){
            .kind = POST_UNARY, .unary = UNARY_LINEAR, .alpha = node->attributes.matmul.alpha};
    if (biased)
        posts[count++] = (graph_post){.kind = POST_ADD, .value = node->inputs[2]};
    memcpy(posts + count, node->posts, node->post_count * sizeof *posts);
    return count + node->post_count;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    const graph_value *av = plan_input(plan, node, 0), *bv = plan_input(plan, node, 1);
    const graph_value *bias = plan_input(plan, node, 2), *y = plan_output(plan, node, 0);
    const float alpha = node->attributes.matmul.alpha;
    operand a = operand_of(av, node->attributes.matmul.transpose_a, true);
    operand b = operand_of(bv, node->attributes.matmul.transpose_b, false);
    if (graph_elements(y) == 0 || a.columns == 0)
        return plan_empty(plan, node, bias);
    /* Rows of all of a's matrices are one matrix's if they meet the same b. */
    if (batch_count(&b) == 1 && (a.row_stride == a.columns || batch_count(&a) == 1)) {
        a.rows *= batch_count(&a);
        a.batches = b.batches = 0;
    }
    const size_t batches = merge_batches(&a, &b);
    product p = {.a = tensor_of(&a), .b = tensor_of(&b)};
    p.c = (onednn_tensor){.rank = batches + 2, .form = ONEDNN_PLAIN};
    for (size_t i = 0; i < batches; i++)
        p.c.shape[i] = a.batch[i] > b.batch[i] ? a.batch[i] : b.batch[i];
    p.c.shape[batches] = a.rows;
    p.c.shape[batches + 1] = b.columns;
    const bool scaled = alpha != 1;
    p.has_bias = bias && !scaled && bias_of_columns(bias, b.columns);
    if (p.has_bias) {
        p.bias = (onednn_tensor){.rank = batches + 2, .form = ONEDNN_PLAIN};
        for (size_t i = 0; i <= batches; i++)
            p.bias.shape[i] = 1;
        p.bias.shape[batches + 1] = b.columns;
    }
    pal_status status = layout_new_tensor(&p.b, &p.stored_b);
    if (bv->constant && batches == 0) {
        const onednn_tensor windows = {.rank = 4,
                                       .shape = {b.columns, b.rows, 1, 1},
                                       .form = ONEDNN_STRIDED,
                                       .strides = {b.column_stride, b.row_stride, 1, 1}};
        p.b.form = ONEDNN_ANY;
        p.packed = !plan_has_gradients(plan) && (a.column_stride == 1 || a.rows == 1);
        if (!status)
            status = layout_new_tensor(&windows, &p.windows);
    }
    graph_post posts[ONEDNN_MAX_POSTS];
    const size_t post_count = all_posts(node, scaled, bias && !p.has_bias, posts);
    if (!status)
        status = posted_primitive(plan, node,
                                  &(posted){.what = "matmul",
                                            .rank = p.c.rank,
                                            .shape = p.c.shape,
                                            .posts = posts,
                                            .post_count = post_count,
                                            .description = &p,
                                            .make = make,
                                            .operands = give});
    layout_free(p.stored_b);
    layout_free(p.windows);
    return status;
}

/* ---------------------------------------------------------------- the way back */

/* One of the gradients, as products of matrices: left times right, into the result. */
typedef struct factor {
    bool from_gradient; /* dY, otherwise the other operand */
    bool transposed;
    int64_t width; /* of its rows in memory */
} factor;

typedef struct product_back {
    factor left, right;
    int64_t rows, columns, depth, result_width;
    float alpha;
    size_t batches;
    int64_t extent[PAL_MAX_RANK];
    int64_t gradient_step[PAL_MAX_RANK], other_step[PAL_MAX_RANK], result_step[PAL_MAX_RANK];
    /* By sample: matrices of fewer rows, one after another or row by row in turn. */
    int64_t sample_depth, row_step;        /* a sample's rows, and from one to the next */
    int64_t gradient_sample, other_sample; /* from a sample to the next */
} product_back;

static pal_status multiply(const product_back *it, const float *gradient, const float *other,
                           float *to, int64_t depth, int64_t row_step, float beta)
{
    const float *left = it->left.from_gradient ? gradient : other;
    const float *right = it->right.from_gradient ? gradient : other;
    return onednn_gemm(it->left.transposed, it->right.transposed, it->rows, it->columns, depth,
                       it->alpha, left, it->left.width * row_step, right,
                       it->right.width * row_step, beta, to, it->result_width);
}

static pal_status run_all(const step *step)
{
    const product_back *it = step->state;
    const float *gradient = step->reads[0]->data, *other = step->reads[1]->data;
    float *to = step->writes[0]->data;
    int64_t count = 1;
    memset(to, 0, step->writes[0]->bytes);
    for (size_t d = 0; d < it->batches; d++)
        count *= it->extent[d];
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i, a = 0, b = 0, c = 0;
        for (size_t d = it->batches; d-- > 0;) {
            const int64_t at = rest % it->extent[d];
            rest /= it->extent[d];
            a += at * it->gradient_step[d];
            b += at * it->other_step[d];
            c += at * it->result_step[d];
        }
        pal_status status = multiply(it, gradient + a, other + b, to + c, it->depth, 1, 1);
        if (status)
            return status;
    }
    return PAL_OK;
}

static pal_status run_pass(const step *step, size_t sample)
{
    const product_back *it = step->state;
    const int64_t s = (int64_t)sample;
    if (sample == PLAN_ALL)
        return run_all(step);
    return multiply(it, (const float *)step->reads[0]->data + s * it->gradient_sample,
                    (const float *)step->reads[1]->data + s * it->other_sample,
                    step->writes[0]->data, it->sample_depth, it->row_step, 0);
}

/* Steps through the leading dimensions of dY, of the other operand and of the result. */
static void set_batches(product_back *it, const operand *result, const operand *other,
                        int64_t gradient_matrix)
{
    const size_t n = result->batches > other->batches ? result->batches : other->batches;
    int64_t gradient_step = gradient_matrix, steps[2];
    steps[0] = result->rows * result->columns;
    steps[1] = other->rows * other->columns;
    it->batches = n;
    for (size_t i = 0; i < n; i++) {
        const size_t d = n - 1 - i;
        const int64_t own = i < result->batches ? result->batch[result->batches - 1 - i] : 1;
        const int64_t its = i < other->batches ? other->batch[other->batches - 1 - i] : 1;
        it->extent[d] = own > its ? own : its;
        it->gradient_step[d] = gradient_step;
        gradient_step *= it->extent[d];
        it->result_step[d] = own == 1 ? 0 : steps[0];
        it->other_step[d] = its == 1 ? 0 : steps[1];
        steps[0] *= own;
        steps[1] *= its;
    }
}

/* dA = dY B' where the operand is the left one, dB = A' dY where it is the right one; transposed as
 * a whole where the operand is stored so. */
static product_back product_for(const graph_node *node, const operand *a, const operand *b,
                                bool left)
{
    const bool ta =
        node->attributes.matmul.transpose_a && a->row_stride == 1 && a->rows > 1 && a->columns > 1;
    const bool tb =
        node->attributes.matmul.transpose_b && b->row_stride == 1 && b->rows > 1 && b->columns > 1;
    const int64_t m = a->rows, k = a->columns, n = b->columns;
    const bool stored = left ? ta : tb;
    const factor dy = {true, left == stored, n};
    const factor b_factor = {false, left && (stored ? tb : !tb), tb ? k : n};
    const factor a_factor = {false, stored ? ta : !ta, ta ? m : k};
    product_back it = {.alpha = node->attributes.matmul.alpha};
    if (left) { /* stored: [k,m] = B dY' */
        it.left = stored ? b_factor : dy;
        it.right = stored ? dy : b_factor;
        it.left.transposed = stored ? tb : false;
        it.right.transposed = stored ? true : !tb;
        it.rows = stored ? k : m;
        it.columns = stored ? m : k;
        it.depth = n;
    } else { /* stored: [n,k] = dY' A */
        it.left = stored ? dy : a_factor;
        it.right = stored ? a_factor : dy;
        it.left.transposed = stored ? true : !ta;
        it.right.transposed = stored ? ta : false;
        it.rows = stored ? n : k;
        it.columns = stored ? k : n;
        it.depth = m;
    }
    it.result_width = it.columns;
    return it;
}

/* Which of the left operand's rows are a sample's, where its batch is the first axis, or the last
 * before the columns (time first). Distances are in rows. */
static bool find_samples(const plan *plan, size_t value, int64_t rows, int64_t samples,
                         product_back *it)
{
    const graph_value *v = &plan_graph(plan)->values[value];
    const bool first = plan_samples_along(plan, value, 0);
    if (rows % samples || (!first && (v->rank < 3 || v->shape[v->rank - 2] != samples ||
                                      !plan_samples_along(plan, value, v->rank - 2))))
        return false;
    it->sample_depth = rows / samples;
    it->row_step = first ? 1 : samples;
    it->gradient_sample = it->other_sample = first ? it->sample_depth : 1;
    return true;
}

static pal_status back_to(plan *plan, const graph_node *node, bool left, buffer *gradient)
{
    const size_t value = node->inputs[left ? 0 : 1], other = node->inputs[left ? 1 : 0];
    operand a = operand_of(plan_input(plan, node, 0), node->attributes.matmul.transpose_a, true);
    operand b = operand_of(plan_input(plan, node, 1), node->attributes.matmul.transpose_b, false);
    const size_t samples = plan_get_options(plan)->samples;
    product_back *it = plan_alloc(plan, sizeof *it);
    buffer *reads[2] = {gradient};
    pal_status status = it ? plan_buffer_in(plan, other, NULL, &reads[1]) : PAL_ERROR_MEMORY;
    if (status)
        return status;
    /* All rows of the left operand meet the same right one: one product. */
    if (batch_count(&b) == 1 && a.batches && (a.row_stride == a.columns || batch_count(&a) == 1)) {
        a.rows *= batch_count(&a);
        a.batches = b.batches = 0;
    }
    *it = product_for(node, &a, &b, left);
    set_batches(it, left ? &a : &b, left ? &b : &a, a.rows * b.columns);
    const bool apart = samples && !left && !it->batches && a.row_stride == a.columns &&
                       find_samples(plan, other, a.rows, (int64_t)samples, it);
    it->gradient_sample *= b.columns;
    it->other_sample *= a.columns;
    return plan_add_weight_pass(
        plan, node, value,
        &(weight_share){.what = left ? "matmul's left operand" : "matmul's right operand",
                        .pass = run_pass,
                        .apart = apart,
                        .state = it,
                        .reads = {reads[0], reads[1]}});
}

static pal_status backward(plan *plan, const graph_node *node)
{
    buffer *gradient;
    pal_status status = back_posts(plan, node);
    if (!status)
        status = plan_gradient_in(plan, node->outputs[0], NULL, &gradient);
    for (int left = 1; !status && left >= 0; left--)
        if (plan_wants_gradient(plan, node->inputs[left ? 0 : 1]))
            status = back_to(plan, node, left, gradient);
    if (!status && node->input_count > 2 && plan_wants_gradient(plan, node->inputs[2]))
        status = back_reduced(plan, node, node->inputs[2], 0, gradient);
    return status;
}

const op_kernel kernel_matmul = {forward, backward};
