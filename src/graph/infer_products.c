/* Products of matrices, Einstein sums, attention, recurrent layers. */
#include <ctype.h>
#include <string.h>

#include "graph/inference.h"

/* ---------------------------------------------------------------- products of matrices */

/* NumPy's rules: a vector on the left is a row, on the right a column, and that dimension goes. */
pal_status infer_matmul(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    graph_value a = *inputs[0], b = *inputs[1];
    const bool row = a.rank == 1, column = b.rank == 1;
    int64_t shape[PAL_MAX_RANK + 2];
    size_t rank = 0;
    if (!a.rank || !b.rank)
        return infer_fail(node, "a product with a single number");
    if (a.rank + row > PAL_MAX_RANK || b.rank + column > PAL_MAX_RANK)
        return infer_fail(node, "too many dimensions");
    if (row) {
        a.shape[1] = a.shape[0];
        a.shape[0] = 1;
        a.rank = 2;
    } else if (node->attributes.matmul.transpose_a) {
        const int64_t last = a.shape[a.rank - 1];
        a.shape[a.rank - 1] = a.shape[a.rank - 2];
        a.shape[a.rank - 2] = last;
    }
    if (column) {
        b.shape[1] = 1;
        b.rank = 2;
    } else if (node->attributes.matmul.transpose_b) {
        const int64_t last = b.shape[b.rank - 1];
        b.shape[b.rank - 1] = b.shape[b.rank - 2];
        b.shape[b.rank - 2] = last;
    }
    if (a.shape[a.rank - 1] != b.shape[b.rank - 2])
        return infer_fail(node, "a matrix of %lld columns times one of %lld rows",
                          (long long)a.shape[a.rank - 1], (long long)b.shape[b.rank - 2]);
    if (!infer_broadcast(a.rank - 2, a.shape, b.rank - 2, b.shape, &rank, shape))
        return infer_fail(node, "the batches of its matrices do not broadcast");
    if (!row)
        shape[rank++] = a.shape[a.rank - 2];
    if (!column)
        shape[rank++] = b.shape[b.rank - 1];
    if (node->input_count > 2 && inputs[2] && !infer_fits(inputs[2], rank, shape))
        return infer_fail(node, "its bias does not broadcast to the product");
    return infer_set(node, &outputs[0], rank, shape);
}

/* ---------------------------------------------------------------- Einstein sums */

enum { LETTERS = 52, NO_LABEL = 255 };

static int letter_index(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -1;
}

typedef struct einsum_reader {
    const graph_node *node;
    einsum_geometry *out;
    uint8_t label_of[LETTERS];
    unsigned uses[LETTERS]; /* in operands */
    uint8_t dots;           /* the label of the ellipsis's first dimension */
    size_t dots_rank;       /* the most that an ellipsis stands for */
} einsum_reader;

/* The letters of a term, and where its ellipsis is: NO_LABEL. */
static pal_status read_term(const einsum_reader *in, const char **at, const char *end,
                            uint8_t *letters, size_t *count, bool *dotted)
{
    *count = 0;
    *dotted = false;
    for (; *at < end && **at != ','; (*at)++) {
        if (isspace((unsigned char)**at))
            continue;
        const int letter = letter_index(**at);
        if (*count == PAL_MAX_RANK)
            return infer_fail(in->node, "its equation has a term of too many dimensions");
        if (letter >= 0) {
            letters[(*count)++] = (uint8_t)letter;
        } else if (!*dotted && end - *at >= 3 && memcmp(*at, "...", 3) == 0) {
            letters[(*count)++] = NO_LABEL;
            *dotted = true;
            *at += 2;
        } else {
            return infer_fail(in->node, "its equation is not understood at '%.8s'", *at);
        }
    }
    return PAL_OK;
}

static pal_status meet_extent(const einsum_reader *in, uint8_t label, int64_t extent)
{
    int64_t *known = &in->out->extent[label];
    if (*known == extent || extent == 1)
        return PAL_OK;
    if (*known != 1)
        return infer_fail(in->node,
                          "a label of its equation is %lld in one operand and %lld in "
                          "another",
                          (long long)*known, (long long)extent);
    *known = extent;
    return PAL_OK;
}

static pal_status read_operand(einsum_reader *in, const char **at, const char *end,
                               const graph_value *operand, uint8_t *labels)
{
    uint8_t letters[PAL_MAX_RANK];
    size_t count, rank = 0;
    bool dotted;
    pal_status status = read_term(in, at, end, letters, &count, &dotted);
    if (status)
        return status;
    if (dotted ? operand->rank < count - 1 : operand->rank != count)
        return infer_fail(in->node, "its equation has %zu labels for an operand of %zu dimensions",
                          count - dotted, operand->rank);
    const size_t filled = dotted ? operand->rank - (count - 1) : 0;
    if (filled > in->dots_rank)
        return infer_fail(in->node, "its ellipses do not agree");
    for (size_t i = 0; !status && i < count; i++) {
        if (letters[i] == NO_LABEL) {
            for (size_t d = 0; !status && d < filled; d++, rank++) {
                labels[rank] = (uint8_t)(in->dots + in->dots_rank - filled + d);
                status = meet_extent(in, labels[rank], operand->shape[rank]);
            }
            continue;
        }
        if (in->label_of[letters[i]] == NO_LABEL) {
            in->out->extent[in->out->label_count] = 1;
            in->label_of[letters[i]] = (uint8_t)in->out->label_count++;
        }
        in->uses[letters[i]]++;
        labels[rank] = in->label_of[letters[i]];
        status = meet_extent(in, labels[rank], operand->shape[rank]);
        rank++;
    }
    return status;
}

/* How many dimensions the longest ellipsis stands for. */
static pal_status measure_dots(einsum_reader *in, const char *equation, const char *end,
                               const graph_value *const *inputs)
{
    const char *at = equation;
    for (size_t i = 0; i < in->node->input_count; i++) {
        uint8_t letters[PAL_MAX_RANK];
        size_t count;
        bool dotted;
        pal_status status = read_term(in, &at, end, letters, &count, &dotted);
        if (status)
            return status;
        if (dotted && inputs[i]->rank >= count - 1 && inputs[i]->rank - (count - 1) > in->dots_rank)
            in->dots_rank = inputs[i]->rank - (count - 1);
        at += at < end;
    }
    in->dots = 0;
    in->out->label_count = in->dots_rank;
    for (size_t d = 0; d < in->dots_rank; d++)
        in->out->extent[d] = 1;
    return PAL_OK;
}

static pal_status add_output_label(const einsum_reader *in, uint8_t label)
{
    einsum_geometry *out = in->out;
    if (out->output_rank == PAL_MAX_RANK || memchr(out->output, label, out->output_rank))
        return infer_fail(in->node, "its equation names a label twice, or too many, in its result");
    out->output[out->output_rank++] = label;
    return PAL_OK;
}

static pal_status read_output(const einsum_reader *in, const char *arrow, const char *end)
{
    uint8_t letters[PAL_MAX_RANK];
    size_t count;
    bool dotted;
    pal_status status = PAL_OK;
    if (!arrow) { /* the ellipsis, then labels that occur once, in the order of the alphabet */
        for (size_t d = 0; !status && d < in->dots_rank; d++)
            status = add_output_label(in, (uint8_t)(in->dots + d));
        for (int upper = 1; upper >= 0; upper--) /* capitals come before small letters */
            for (int i = 0; !status && i < 26; i++)
                if (in->uses[26 * upper + i] == 1)
                    status = add_output_label(in, in->label_of[26 * upper + i]);
        return status;
    }
    const char *at = arrow + 2;
    status = read_term(in, &at, end, letters, &count, &dotted);
    for (size_t i = 0; !status && i < count; i++) {
        if (letters[i] == NO_LABEL)
            for (size_t d = 0; !status && d < in->dots_rank; d++)
                status = add_output_label(in, (uint8_t)(in->dots + d));
        else if (in->label_of[letters[i]] == NO_LABEL)
            status = infer_fail(in->node, "its equation's result has a label that no operand has");
        else
            status = add_output_label(in, in->label_of[letters[i]]);
    }
    if (!status && at < end)
        status = infer_fail(in->node, "its equation has several results");
    return status;
}

pal_status resolve_einsum(const graph_node *node, const graph_value *const *inputs,
                          einsum_geometry *out)
{
    const char *equation = node->attributes.einsum.equation;
    einsum_reader in = {.node = node, .out = out};
    memset(out, 0, sizeof *out);
    memset(in.label_of, NO_LABEL, sizeof in.label_of);
    if (node->input_count > EINSUM_MAX_OPERANDS)
        return infer_fail(node, "%zu operands", node->input_count);
    const char *arrow = strstr(equation, "->");
    const char *end = arrow ? arrow : equation + strlen(equation), *at = equation;
    pal_status status = measure_dots(&in, equation, end, inputs);
    for (size_t i = 0; !status && i < node->input_count; i++) {
        if (i && (at == end || *at++ != ','))
            return infer_fail(node, "its equation has fewer terms than there are operands");
        status = read_operand(&in, &at, end, inputs[i], out->operands[i]);
    }
    if (!status && at < end)
        status = infer_fail(node, "its equation has more terms than there are operands");
    return status ? status : read_output(&in, arrow, equation + strlen(equation));
}

pal_status infer_einsum(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    einsum_geometry geometry;
    int64_t shape[PAL_MAX_RANK];
    pal_status status = resolve_einsum(node, inputs, &geometry);
    if (status)
        return status;
    for (size_t d = 0; d < geometry.output_rank; d++)
        shape[d] = geometry.extent[geometry.output[d]];
    return infer_set(node, &outputs[0], geometry.output_rank, shape);
}

/* ---------------------------------------------------------------- attention */

pal_status infer_attention(const graph_node *node, const graph_value *const *inputs,
                           graph_value *outputs)
{
    const graph_value *q = inputs[0], *k = inputs[1], *v = inputs[2];
    int64_t shape[PAL_MAX_RANK];
    size_t rank;
    if (q->rank < 2 || k->rank < 2 || v->rank < 2)
        return infer_fail(node, "queries, keys and values are matrices");
    const int64_t length = q->shape[q->rank - 2], source = k->shape[k->rank - 2];
    if (q->shape[q->rank - 1] != k->shape[k->rank - 1] || v->shape[v->rank - 2] != source)
        return infer_fail(node, "queries, keys and values do not fit each other");
    if (!infer_broadcast(q->rank - 2, q->shape, k->rank - 2, k->shape, &rank, shape) ||
        !infer_broadcast(rank, shape, v->rank - 2, v->shape, &rank, shape) ||
        rank + 2 > PAL_MAX_RANK)
        return infer_fail(node, "batches of queries, keys and values do not broadcast");
    shape[rank] = length;
    shape[rank + 1] = source;
    if (node->input_count > 3 && inputs[3] &&
        (inputs[3]->type == GRAPH_INT || !infer_fits(inputs[3], rank + 2, shape)))
        return infer_fail(node, "its mask does not broadcast to the scores");
    shape[rank + 1] = v->shape[v->rank - 1];
    return infer_set(node, &outputs[0], rank + 2, shape);
}

/* ---------------------------------------------------------------- recurrent layers */

pal_status infer_recurrent(const graph_node *node, const graph_value *const *inputs,
                           graph_value *outputs)
{
    const graph_value *x = inputs[0], *w = inputs[1];
    const int64_t gates = node->op == OP_LSTM ? 4 : node->op == OP_GRU ? 3 : 1;
    const int64_t directions = node->attributes.recurrent.direction == DIRECTION_BOTH ? 2 : 1;
    const bool first = node->attributes.recurrent.batch_first;
    if (x->rank != 3 || w->rank != 3 || w->shape[1] % gates)
        return infer_fail(node,
                          "its input and weights have three dimensions, the weights %lld "
                          "gates",
                          (long long)gates);
    const int64_t time = x->shape[first ? 1 : 0], batch = x->shape[first ? 0 : 1];
    const int64_t hidden = w->shape[1] / gates;
    const int64_t weights[3] = {directions, gates * hidden, x->shape[2]};
    const int64_t recurrent[3] = {directions, gates * hidden, hidden};
    const int64_t bias[2] = {directions, 2 * gates * hidden};
    const int64_t state[3] = {first ? batch : directions, first ? directions : batch, hidden};
    const int64_t peepholes[2] = {directions, 3 * hidden};
    const graph_value *given[8] = {0};
    for (size_t i = 0; i < node->input_count && i < 8; i++)
        given[i] = inputs[i];
    if (node->attributes.recurrent.hidden_size && node->attributes.recurrent.hidden_size != hidden)
        return infer_fail(node, "its hidden size is not that of its weights");
    pal_status status = infer_expect(node, "weight of inputs", w, 3, weights);
    if (!status)
        status = infer_expect(node, "weight of states", given[2], 3, recurrent);
    if (!status)
        status = infer_expect(node, "bias", given[3], 2, bias);
    if (!status)
        status = infer_expect_vector(node, "list of lengths", given[4], batch);
    if (!status)
        status = infer_expect(node, "initial state", given[5], 3, state);
    if (!status)
        status = infer_expect(node, "initial cell", given[6], 3, state);
    if (!status)
        status = infer_expect(node, "peephole weight", given[7], 2, peepholes);
    const int64_t y[4] = {first ? batch : time, first ? time : directions,
                          first ? directions : batch, hidden};
    if (!status)
        status = infer_set(node, &outputs[0], 4, y);
    for (size_t i = 1; !status && i < node->output_count; i++)
        status = infer_set(node, &outputs[i], 3, state);
    return status;
}
